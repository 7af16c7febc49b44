//! A connection from its beginning to its end: accepted, asked for its request, opened, read, timed, closed, drained.

pub(super) mod accept;
pub(super) mod arrivals;
pub(super) mod authorize;
pub(super) mod client_address;
pub(super) mod client_ids;
pub(super) mod close;
pub(crate) mod conn;
pub(crate) mod drain;
pub(super) mod events;
pub(super) mod inbox;
pub(super) mod open;
pub(super) mod patience;
pub(super) mod peers;
pub(super) mod poll;
pub(super) mod read;
pub(super) mod replay;
pub(super) mod rights;
pub(super) mod sink;
pub(super) mod timers;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(super) mod user_channel;
