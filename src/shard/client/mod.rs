//! Clients: their messages over WebSockets, the rate limit for these, and questions about them.

pub(super) mod calls;
pub(super) mod checking;
pub(crate) mod checks;
#[cfg(test)]
mod checks_tests;
pub(super) mod frames;
pub(crate) mod listing;
mod live;
pub(crate) mod presence;
mod publishing;
pub(crate) mod push_v1;
pub(crate) mod query;
pub(super) mod rate_limit;
pub(super) mod scans;
pub(crate) mod sweep;
