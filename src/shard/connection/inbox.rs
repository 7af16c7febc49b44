//! Unfinished messages, requests and TLS records, requests that came before their turn, and requests about which the
//! host is asked.
//! All of them together have a bound (option `inbox_total`), and each message has a time (option `message_timeout`).
//! Without these bounds a client that answers pings could have the server keep its bytes for ever.
//!
//! The entries stand beside the slab, by slot. A connection of which nothing is kept has no entry. [`Shard::recount`]
//! is the only place that counts. It compares what a connection keeps with what was noted of it, so no other code has
//! to subtract anything when a connection ends.

use crate::framing::close::Close;
use crate::framing::Transport;
use crate::http::refusal::Refusal;
use crate::metrics::Reason;
use crate::shard::connection::conn::{Conn, Flags, Phase, Received};
use crate::shard::connection::sink::Unfinished;
use crate::shard::Shard;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// The approximate memory of an entry, with the allocator's own. It counts, since there may be many small entries.
const ENTRY: usize = 128;

/// The unfinished messages and requests of a shard's clients.
#[derive(Debug, Default)]
pub(in crate::shard) struct Inbox {
    /// By slot.
    kept: FxHashMap<u32, Kept>,
    by_size: BTreeSet<(usize, u32)>,
    /// WebSocket messages and TLS records, by the time when they began.
    by_age: BTreeSet<(u64, u32)>,
    bytes: usize,
}

/// The entry of one client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::shard) struct Kept {
    bytes: usize,
    /// When its WebSocket message or TLS record began (monotonic milliseconds). `None`: it is neither.
    since: Option<u64>,
}

/// How an entry has changed.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Same,
    Less,
    More,
}

impl Received {
    /// The size and the age of it, with the bytes that the connection's sink keeps.
    fn kept(&self, of_sink: Unfinished) -> Kept {
        let unread = self.unread.as_ref().map_or(0, |unread| size_of::<Vec<u8>>() + unread.capacity());
        let partial = self.partial.as_ref().map_or(0, |partial| partial.bytes());
        let since = self.partial.as_ref().and_then(|partial| partial.since);
        let bytes = unread + partial + of_sink.bytes;
        let entry = if bytes > 0 { ENTRY } else { 0 };
        Kept { bytes: bytes + entry, since: since.into_iter().chain(of_sink.since).min() }
    }
}

impl Inbox {
    fn note(&mut self, index: u32, now: Kept) -> Change {
        let before = self.kept.get(&index).copied().unwrap_or_default();
        if before == now {
            return Change::Same;
        }
        if before.bytes > 0 {
            self.by_size.remove(&(before.bytes, index));
        }
        if let Some(since) = before.since {
            self.by_age.remove(&(since, index));
        }
        if let Some(since) = now.since {
            self.by_age.insert((since, index));
        }
        if now.bytes > 0 {
            self.by_size.insert((now.bytes, index));
            self.kept.insert(index, now);
        } else {
            self.kept.remove(&index);
            // After a crowd the table gives its room back.
            if self.kept.capacity() > 1024 && self.kept.len() * 8 < self.kept.capacity() {
                self.kept.shrink_to(self.kept.len() * 2);
            }
        }
        self.bytes = self.bytes - before.bytes + now.bytes;
        if now.bytes > before.bytes {
            Change::More
        } else {
            Change::Less
        }
    }

    /// The client with the most bytes.
    fn largest(&self) -> Option<(usize, u32)> {
        self.by_size.last().copied()
    }

    /// Milliseconds until a message has had its time.
    pub(in crate::shard) fn next_in(&self, now: u64, timeout_ms: u64) -> Option<u64> {
        self.by_age.first().map(|(since, _)| since.saturating_add(timeout_ms).saturating_sub(now).max(1))
    }
}

impl Shard {
    /// Counts the bytes that are kept of a client, which may have changed. Closes the largest client if all bytes
    /// together are too many.
    pub(in crate::shard) fn recount(&mut self, index: u32) {
        let kept = |conn: &Conn| conn.received.kept(self.side.sinks.kept(index, conn.socket.as_ref()));
        let kept = self.conns.get(index as usize).map_or_else(Kept::default, kept);
        let change = self.side.limits.inbox.note(index, kept);
        if change == Change::Same {
            return;
        }
        let largest = self.side.limits.inbox.largest().map_or(0, |(bytes, _)| bytes);
        self.context.inboxes.set(self.handle.number, self.side.limits.inbox.bytes, largest);
        if change == Change::More {
            self.hold_to_total(true);
        }
    }

    /// Holds all shards together to the bound. The largest client of all goes first. `grows`: this shard keeps more
    /// than before, so it does not only ask another one.
    fn hold_to_total(&mut self, grows: bool) {
        let max = self.config.inbox_total;
        while let Some(shard) = self.context.inboxes.gives_way(max) {
            if shard != self.handle.number {
                self.context.inboxes.ask(shard);
                // The other shard may be busy for a moment. Meanwhile there may be a little more.
                if !grows || self.context.inboxes.bytes() <= max + max / 8 {
                    return;
                }
            }
            let Some((_, index)) = self.side.limits.inbox.largest() else { return };
            self.give_way(index);
            self.let_go(index);
        }
    }

    /// Another shard has found that there is too much, and that the largest client is here; or there is a new bound.
    pub(in crate::shard) fn make_room(&mut self) {
        self.context.inboxes.looks(self.handle.number);
        self.hold_to_total(false);
    }

    /// Closes a client because too much is kept of all together. It may come back.
    fn give_way(&mut self, index: u32) {
        const TOO_MUCH: &str =
            "all clients together have sent too many bytes of unfinished messages and requests (option inbox_total)";
        let conn = &self.conns[index as usize];
        let refusal = Refusal::unavailable("inbox_total", TOO_MUCH);
        match conn.phase {
            Phase::Head if conn.outbox.is_none() => self.refuse_half_read(index, &refusal),
            Phase::Asked => {
                self.forget_request(index);
                self.refuse_asked(index, &refusal);
            }
            Phase::Open(Transport::WebSocket) => {
                self.handle.metrics.refusal(Reason::InboxTotal);
                self.close(index, Close { reason: TOO_MUCH.into(), ..Close::TOO_SLOW });
            }
            // The client gets the answer to the previous request, and the connection ends. Then the client has to send
            // its early requests again (RFC 9112, section 9.3.2).
            _ => {
                self.note_refusal(self.client(index), Reason::InboxTotal, format_args!("{TOO_MUCH}"));
                self.close(index, Close::TOO_SLOW);
            }
        }
    }

    /// Drops a client that was closed and of which something is still kept.
    fn let_go(&mut self, index: u32) {
        if self.side.limits.inbox.kept.contains_key(&index) {
            self.drop_conn(index);
        }
    }

    /// Closes clients with a message or a record that did not come in time.
    pub(in crate::shard) fn end_late_messages(&mut self) {
        while let Some((since, index)) = self.side.limits.inbox.by_age.first().copied() {
            if since.saturating_add(self.config.message_timeout_ms) > self.turn.now {
                return;
            }
            if self.conns[index as usize].flags.intersects(Flags::PAUSED | Flags::HELD | Flags::THROTTLED) {
                // The rest may have come, but this client is not read from.
                self.give_time(index);
                continue;
            }
            if self.conns[index as usize].phase == Phase::Head {
                self.head_timeout(index);
            } else {
                self.handle.metrics.refusal(Reason::MessageTimeout);
                let reason = "a message did not come in time (option message_timeout)".into();
                self.close(index, Close { reason, ..Close::NO_PONG });
            }
            self.let_go(index);
        }
    }

    /// Restarts the time of a client's unfinished message, because the client was not read from.
    pub(in crate::shard) fn give_time(&mut self, index: u32) {
        let now = self.turn.now;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        match &mut conn.received.partial {
            Some(partial) => partial.since = Some(now),
            None if conn.socket.is_some() => return,
            None => {}
        }
        self.side.sinks.give_time(index, now);
        self.recount(index);
    }

    /// Checks that the notes agree with the bytes that are kept.
    #[cfg(test)]
    pub(in crate::shard) fn check_inbox(&self) {
        let kept = self.conns.iter().map(|(index, conn)| {
            let index = index as u32;
            (index, conn.received.kept(self.side.sinks.kept(index, conn.socket.as_ref())))
        });
        let kept: FxHashMap<u32, Kept> = kept.filter(|(_, kept)| kept.bytes > 0).collect();
        assert_eq!(self.side.limits.inbox.kept, kept);
        assert_eq!(self.side.limits.inbox.bytes, kept.values().map(|kept| kept.bytes).sum::<usize>());
        assert_eq!(self.side.limits.inbox.by_size, kept.iter().map(|(index, kept)| (kept.bytes, *index)).collect());
        let ages = kept.iter().filter_map(|(index, kept)| Some((kept.since?, *index)));
        assert_eq!(self.side.limits.inbox.by_age, ages.collect());
        assert_eq!(self.context.inboxes.bytes(), self.side.limits.inbox.bytes, "there is one shard in such a test");
    }
}
