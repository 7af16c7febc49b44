//! Engines keep history when the hub's memory is not enough.
//!
//! An engine is a totally ordered log of entries (`entry`). The engine `file` keeps the log on disk, for one hub. Other
//! engines keep a log that many hubs share. Such a log keeps the `contract`, stores each entry in an `envelope`, and
//! each hub is a `replica` of the log.

#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod contract;
pub(crate) mod entry;
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod envelope;
pub(crate) mod file;
pub(crate) mod hub_name;
#[cfg(test)]
pub(crate) mod log_model;
// The hub's side comes next.
#[allow(dead_code)]
#[cfg(feature = "redis")]
pub(crate) mod redis;
// Nothing runs a hub over it yet.
#[cfg(feature = "nats")]
#[cfg_attr(not(test), allow(dead_code, unused_imports))]
pub(crate) mod nats;
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod replica;
// A build without engines uses only parts of it.
#[allow(dead_code)]
pub(crate) mod shared;
#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod words_model;

pub use file::{show_log, Sync};
pub use shared::{Hubs, Url};
