//! What a call that fails answers with.

use super::types::*;
use crate::error::{Error, Kind};

/// A status with the sentence that goes with it.
pub(super) struct Fault {
    pub(super) status: push_status,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn new(status: push_status, text: impl Into<String>) -> Self {
        Fault { status, text: text.into() }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Invalid => PUSH_ERR_INVALID,
            Kind::Config => PUSH_ERR_CONFIG,
            Kind::TooLarge => PUSH_ERR_TOO_LARGE,
            Kind::Busy => PUSH_ERR_BUSY,
            Kind::NotFound => PUSH_ERR_NOT_FOUND,
            Kind::Closed => PUSH_ERR_CLOSED,
            Kind::Timeout => PUSH_ERR_TIMEOUT,
            Kind::Descriptor => PUSH_ERR_DESCRIPTOR,
            Kind::System => PUSH_ERR_SYSTEM,
            Kind::Unsupported => PUSH_ERR_UNSUPPORTED,
            Kind::Limit => PUSH_ERR_LIMIT,
        };
        Fault::new(status, error.to_string())
    }
}
