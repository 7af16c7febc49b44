//! From the mailbox to the sockets: fan-out, encoded forms, the outbox, and what gives way when a client is slow.

pub(super) mod backpressure;
#[cfg(any(test, fuzzing))]
pub(crate) mod backpressure_model;
pub(super) mod channels;
pub(super) mod encoded;
pub(super) mod fan_out;
pub(super) mod outbox;
pub(super) mod staging;
pub(super) mod write;
