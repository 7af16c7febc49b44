//! A connection's life: accepted, asked for its request, opened, read, timed, closed, drained.

pub(super) mod accept;
pub(super) mod authorize;
pub(super) mod close;
pub(crate) mod conn;
pub(super) mod doorway;
pub(crate) mod drain;
pub(super) mod open;
pub(super) mod peers;
pub(super) mod read;
pub(super) mod rights;
pub(super) mod timers;
pub(super) mod whose;
