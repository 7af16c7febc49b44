//! Engines: where history is kept when the hub's memory is not enough.
//!
//! An engine is a log, totally ordered. What it holds are entries (`entry`). `file` keeps it on disk, for one hub.

pub(crate) mod entry;
pub(crate) mod file;

pub use file::{show_log, Sync};
