//! The building blocks of the mailbox. `tests/loom` compiles it with models of these instead, and tries every order of
//! events.

pub(super) use crossbeam::queue::ArrayQueue;
pub(super) use crossbeam::utils::CachePadded;
pub(super) use std::sync::atomic::{fence, AtomicBool, Ordering};
