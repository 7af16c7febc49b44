//! Delivery: from the mailbox to the sinks. One message is encoded once and written to each subscriber, now or later.

pub(super) mod backpressure;
#[cfg(any(test, fuzzing))]
pub(crate) mod backpressure_model;
pub(super) mod breaks;
mod by_pattern;
pub(super) mod channels;
pub(super) mod delivering;
pub(super) mod encoded;
pub(super) mod ended_streams;
pub(super) mod excepting;
pub(super) mod fan_out;
#[cfg(test)]
mod fan_out_tests;
pub(super) mod merging;
pub(super) mod outbox;
pub(super) mod spans;
pub(super) mod subscriptions;
pub(super) mod write;
