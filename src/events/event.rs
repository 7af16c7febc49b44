//! What an event is.

use bytes::Bytes;
use std::sync::Arc;

/// What kind of event. The numbers are the C API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A subscription connection began.
    Open = 1,
    /// A client sent a message.
    Message = 2,
    /// A subscription connection ended.
    Close = 3,
    /// The host is asked whether a client may subscribe.
    Request = 4,
    /// The server sends its clients away.
    Drain = 5,
    /// They have gone.
    Drained = 6,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// To which connection.
    pub connection: u64,
    /// The question, for a request; else 0.
    pub request: u64,
    /// Of which user, if the connection has one.
    pub user: Option<Arc<str>>,
    /// For an opening, the first channel asked for.
    pub channel: Option<Arc<str>>,
    /// The client's message.
    pub data: Bytes,
    /// Whether that came as binary.
    pub binary: bool,
    /// The close code.
    pub code: u16,
    /// Which attached host it is for, where the hub is a process of its own; 0: nobody in particular.
    pub host: u64,
}

impl Event {
    /// One that is about no connection.
    pub(crate) fn of_server(kind: EventKind) -> Self {
        Event {
            kind,
            connection: 0,
            request: 0,
            user: None,
            channel: None,
            data: Bytes::new(),
            binary: false,
            code: 0,
            host: EVERY_HOST,
        }
    }
}

/// An event's host, where it is for all that are attached.
pub(crate) const EVERY_HOST: u64 = u64::MAX;

/// The kinds of events that a host wants to be told of: those about connections can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKinds(u8);

impl EventKinds {
    /// Those that can be left out, by their names in the option `events`.
    const NAMED: [(&'static str, EventKind); 3] =
        [("open", EventKind::Open), ("message", EventKind::Message), ("close", EventKind::Close)];

    /// Reads a list of names with commas between, or `none`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut kinds = EventKinds::none();
        if text == "none" {
            return Some(kinds);
        }
        for name in text.split(',').map(str::trim) {
            let (_, kind) = Self::NAMED.iter().find(|(known, _)| *known == name)?;
            kinds.0 |= bit(*kind);
        }
        Some(kinds)
    }

    /// None of those that can be left out.
    pub(crate) const fn none() -> Self {
        EventKinds(0)
    }

    /// Whether events of a kind are wanted. Questions are, since a client waits for the answer; and what is about the
    /// whole server.
    pub(crate) fn has(self, kind: EventKind) -> bool {
        let can_be_left_out = Self::NAMED.iter().any(|(_, named)| *named == kind);
        !can_be_left_out || self.0 & bit(kind) != 0
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        EventKinds(bits)
    }
}

const fn bit(kind: EventKind) -> u8 {
    1 << kind as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_by_name_and_some_always_come() {
        let kinds = EventKinds::read("message, close").unwrap();
        assert!(!kinds.has(EventKind::Open) && kinds.has(EventKind::Message) && kinds.has(EventKind::Close));
        let none = EventKinds::read("none").unwrap();
        assert!(!none.has(EventKind::Open) && !none.has(EventKind::Message) && !none.has(EventKind::Close));
        for always in [EventKind::Request, EventKind::Drain, EventKind::Drained] {
            assert!(none.has(always), "{always:?}");
        }
        for wrong in ["", "open,", "opened", "request", "none,open"] {
            assert_eq!(EventKinds::read(wrong), None, "{wrong:?}");
        }
    }
}
