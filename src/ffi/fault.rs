//! The errors of the C calls.

use super::types::*;
use crate::error::{Error, Kind};

/// A status, and the sentence that explains it.
pub(super) struct Fault {
    pub(super) status: push_status,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn new(status: push_status, text: impl Into<String>) -> Self {
        Fault { status, text: text.into() }
    }

    /// The error of one message of a batch.
    pub(super) fn of_message(self, index: usize) -> Self {
        Fault { text: crate::error::of_message(index, &self.text), ..self }
    }

    /// The kind of error behind a status.  The statuses of this boundary, for forks and panics, have
    /// none.
    pub(super) fn kind(status: push_status) -> Option<Kind> {
        Some(match status {
            PUSH_ERR_INVALID => Kind::Invalid,
            PUSH_ERR_CONFIG => Kind::Config,
            PUSH_ERR_TOO_LARGE => Kind::TooLarge,
            PUSH_ERR_BUSY => Kind::Busy,
            PUSH_ERR_NOT_FOUND => Kind::NotFound,
            PUSH_ERR_CLOSED => Kind::Closed,
            PUSH_ERR_TIMEOUT => Kind::Timeout,
            PUSH_ERR_DESCRIPTOR => Kind::Descriptor,
            PUSH_ERR_SYSTEM => Kind::System,
            PUSH_ERR_UNSUPPORTED => Kind::Unsupported,
            PUSH_ERR_LIMIT => Kind::Limit,
            _ => return None,
        })
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
