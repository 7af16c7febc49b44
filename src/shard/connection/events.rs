//! The host is told of its clients: that they come and go, which channels they get and lose, and what they send.

use crate::events::{Event, EventKind};
use crate::shard::connection::conn::{Conn, Flags};
use crate::shard::Shard;
use std::borrow::Cow;
use std::sync::Arc;

impl Shard {
    /// An event about a connection, for the host that answers for it.
    pub(in crate::shard) fn event(&self, index: u32, kind: EventKind) -> Event {
        let conn = &self.conns[index as usize];
        let user = conn.grant.as_ref().and_then(|grant| grant.user().cloned());
        Event { connection: self.number_of(index), user, host: host(conn), ..Event::new(kind) }
    }

    /// Queues an event for the host, if the host wants such events. [`Self::announce_events`] wakes the host.
    pub(in crate::shard) fn tell(&mut self, event: Event) {
        if self.context.events.wants(event.kind) {
            self.turn.tell(&self.context.events, event);
        } else if event.kind == EventKind::Message && !self.context.events.wanted() {
            self.handle.metrics.events_dropped.add(1);
        }
    }

    /// Wakes the host for new events.
    pub(in crate::shard) fn announce_events(&mut self) {
        self.turn.announce(&self.context.events);
    }

    /// Tells the host of a connection that has subscribed, and of its channels. Polls are not told: they come and go
    /// with every message.
    pub(in crate::shard) fn announce(&mut self, index: u32, channels: &[Cow<'_, str>]) {
        if !self.context.events.wanted() {
            return;
        }
        self.conns[index as usize].flags.insert(Flags::ANNOUNCED);
        if self.context.events.wants(EventKind::Open) {
            let channel = channels.first().map(|name| Arc::from(&**name));
            self.tell(Event { channel, ..self.event(index, EventKind::Open) });
        }
        for channel in channels {
            self.tell_of_channel(index, EventKind::Subscribe, || Arc::from(&**channel));
        }
    }

    /// Tells the host that a connection got or lost a channel. A host that was not told of the connection is not told
    /// of its channels either.
    pub(in crate::shard) fn tell_of_channel(&mut self, index: u32, kind: EventKind, name: impl FnOnce() -> Arc<str>) {
        let is_announced = self.conns.get(index as usize).is_some_and(|conn| conn.is(Flags::ANNOUNCED));
        if is_announced && self.context.events.wants(kind) {
            self.tell(Event { channel: Some(name()), ..self.event(index, kind) });
        }
    }

    /// Tells the host that a connection loses all its channels, those included that it has not caught up with.
    pub(in crate::shard) fn tell_all_unsubscribed(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if !conn.is(Flags::ANNOUNCED) || !self.context.events.wants(EventKind::Unsubscribe) {
            return;
        }
        let mut names = self.subscriptions.channels.names(conn);
        names.extend(conn.awaited().iter().map(|name| Arc::from(&**name)));
        for name in names {
            self.tell_of_channel(index, EventKind::Unsubscribe, || name);
        }
    }

    /// Whether the client's next request must wait, since the host would be told of it and does not keep up.
    pub(in crate::shard) fn host_is_behind(&self, conn: &Conn) -> bool {
        let events = &self.context.events;
        let wants = |kind: &EventKind| events.wants(*kind);
        let of_requests = [EventKind::Subscribe, EventKind::Unsubscribe, EventKind::Call, EventKind::Publish];
        let is_told = wants(&EventKind::Message) || (conn.format.takes_requests() && of_requests.iter().any(wants));
        is_told && events.full_for(host(conn))
    }
}

/// The attached host that answers for a connection.
pub(in crate::shard) fn host(conn: &Conn) -> u64 {
    conn.grant.as_ref().map_or(0, |grant| grant.host())
}
