//! Events, and the kinds that a host wants.

use bytes::Bytes;
use std::sync::Arc;

/// The kind of an event. The numbers are those of the C API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A subscription connection began.
    Open = 1,
    /// A client sent a message.
    Message = 2,
    /// A subscription connection ended.
    Close = 3,
    /// A client wants to subscribe, and the host is to answer whether it may.
    Request = 4,
    /// The server begins to send its clients away.
    Drain = 5,
    /// The server has sent all its clients away.
    Drained = 6,
    /// A connection was subscribed to a channel: with its request, or later.
    Subscribe = 7,
    /// A connection's subscription to a channel ended. All that are left end before [`EventKind::Close`].
    Unsubscribe = 8,
    /// A client calls, and waits for the host's answer.
    Call = 9,
    /// A client publishes, and the host says whether it may.
    Publish = 10,
}

/// What the client of [`EventKind::Publish`] gives beside its channel and its payload. Both are checked as those of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publishing {
    /// The event type.
    pub event: Option<Box<str>>,
    /// The idempotency key.
    pub key: Option<Box<str>>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// The kind of the event.
    pub kind: EventKind,
    /// The connection that the event is about, or 0.
    pub connection: u64,
    /// The number of the request, for [`EventKind::Request`], [`EventKind::Call`] and [`EventKind::Publish`]; else 0.
    pub request: u64,
    /// The user of the connection, if it has one.
    pub user: Option<Arc<str>>,
    /// The channel of [`EventKind::Subscribe`], [`EventKind::Unsubscribe`] and [`EventKind::Publish`]. For
    /// [`EventKind::Open`], the first channel that the client asked for.
    pub channel: Option<Arc<str>>,
    /// The client's message or call, or the payload that it publishes.
    pub data: Bytes,
    /// Whether the message came as binary.
    pub binary: bool,
    /// The close code.
    pub code: u16,
    /// The rest of what is published, for [`EventKind::Publish`].
    pub publishing: Option<Box<Publishing>>,
    /// The attached host that the event is for, if the hub is a process of its own. 0: any host.
    pub host: u64,
}

impl Event {
    /// An event with all other fields empty.
    pub(crate) fn new(kind: EventKind) -> Self {
        Event {
            kind,
            connection: 0,
            request: 0,
            user: None,
            channel: None,
            data: Bytes::new(),
            binary: false,
            code: 0,
            publishing: None,
            host: 0,
        }
    }

    /// An event about the whole server, for every attached host.
    pub(crate) fn of_server(kind: EventKind) -> Self {
        Event { host: EVERY_HOST, ..Event::new(kind) }
    }
}

/// The number in [`Event::host`] that stands for all attached hosts.
pub(crate) const EVERY_HOST: u64 = u64::MAX;

/// The kinds of events that a host wants. A host can leave out some kinds of events about connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventKinds(u16);

impl EventKinds {
    /// The kinds that can be left out, by their names in the option `events`.
    const NAMED: [(&'static str, EventKind); 7] = [
        ("open", EventKind::Open),
        ("message", EventKind::Message),
        ("close", EventKind::Close),
        ("subscribe", EventKind::Subscribe),
        ("unsubscribe", EventKind::Unsubscribe),
        ("call", EventKind::Call),
        ("publish", EventKind::Publish),
    ];

    /// Reads a list of names separated by commas, or `none`.
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

    /// None of the kinds that can be left out.
    pub(crate) const fn none() -> Self {
        EventKinds(0)
    }

    /// Whether events of a kind are wanted. Requests always are, since a client waits for the answer. So are events
    /// about the whole server.
    pub(crate) fn has(self, kind: EventKind) -> bool {
        let can_be_left_out = Self::NAMED.iter().any(|(_, named)| *named == kind);
        !can_be_left_out || self.0 & bit(kind) != 0
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    pub(super) fn from_bits(bits: u16) -> Self {
        EventKinds(bits)
    }
}

impl std::fmt::Display for EventKinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = EventKinds::NAMED.iter().filter(|(_, kind)| self.has(*kind)).map(|(name, _)| *name);
        let names = names.collect::<Vec<_>>().join(",");
        f.write_str(if names.is_empty() { "none" } else { &names })
    }
}

const fn bit(kind: EventKind) -> u16 {
    1 << kind as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_by_name_and_some_are_always_wanted() {
        let kinds = EventKinds::read("message, close").unwrap();
        assert!(!kinds.has(EventKind::Open) && kinds.has(EventKind::Message) && kinds.has(EventKind::Close));
        let none = EventKinds::read("none").unwrap();
        assert!(!none.has(EventKind::Open) && !none.has(EventKind::Message) && !none.has(EventKind::Close));
        for always in [EventKind::Request, EventKind::Drain, EventKind::Drained] {
            assert!(none.has(always), "{always:?}");
        }
        let subscriptions = EventKinds::read("subscribe,unsubscribe").unwrap();
        let has = |kind| subscriptions.has(kind);
        assert!(has(EventKind::Subscribe) && has(EventKind::Unsubscribe) && !has(EventKind::Close));
        assert_eq!(subscriptions.to_string(), "subscribe,unsubscribe");
        for wrong in ["", "open,", "opened", "request", "none,open"] {
            assert_eq!(EventKinds::read(wrong), None, "{wrong:?}");
        }
    }
}
