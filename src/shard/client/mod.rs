//! What clients say over their WebSockets, how fast they may, and who is on a channel.

pub(super) mod frames;
pub(crate) mod presence;
pub(crate) mod push_v1;
pub(super) mod rate_limit;
