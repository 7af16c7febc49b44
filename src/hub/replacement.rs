//! What a host publishes in place of a client's message.

use super::Publication;
use crate::error::Error;

/// A payload that replaces the client's, borrowed. The channel and the key stay the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement<'a> {
    /// The payload.
    pub data: &'a [u8],
    /// The event type. `None`: the client's stays.
    pub event: Option<&'a str>,
    /// True if the payload must be sent as binary although it may be UTF-8.
    pub binary: bool,
}

impl Replacement<'_> {
    /// Checks it as a message of the host.
    pub(crate) fn check(&self, max_message: usize) -> Result<(), Error> {
        let publication = Publication { event: self.event, binary: self.binary, ..Publication::new("", self.data) };
        publication.check(max_message, true)
    }
}
