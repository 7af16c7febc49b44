//! A turn of a shard: its thread, its commands, its timers.

pub(crate) mod command;
pub(crate) mod driver;
pub(super) mod live_set;
pub(super) mod run;
pub(super) mod wheel;
