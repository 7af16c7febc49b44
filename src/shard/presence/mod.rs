//! Presence on a shard: which channels its connections have entered, and who is told of it.
//!
//! Connections enter and leave wherever a subscription by name begins or ends. Who follows a channel is written to in
//! one place of a turn ([`crate::shard::Shard::go_on_with_presence`]), at a pace of the channel.

pub(super) mod follows;
mod news;
mod polls;
mod switching;
mod telling;
#[cfg(test)]
mod telling_tests;
mod visiting;
pub(super) mod visits;
