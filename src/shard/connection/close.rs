//! How connections end. The client gets last words, as its transport has them, and the log gets a line. Every
//! subscription ends in [`Shard::end_subscription`], and every connection in [`Shard::drop_conn`]. These two take back
//! all counts, so no other function has to remember what was counted.

use crate::context::client::Client;
use crate::events::{Event, EventKind};
use crate::framing::close::Close;
use crate::framing::poll::Note;
use crate::framing::Transport;
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::http::{request, unserved};
use crate::limits::{AddressKey, Limits};
use crate::log::Level;
use crate::metrics::Closed;
use crate::metrics::Reason;
use crate::shard::connection::conn::{Conn, Flags, Phase, Received};
use crate::shard::{Shard, Token};
use bytes::Bytes;
use std::fmt;
use std::os::fd::OwnedFd;

impl Shard {
    /// Closes a connection as its transport does, behind its outbox. The peer has `close_timeout` to take all of it.
    pub(in crate::shard) fn close(&mut self, index: u32, close: Close) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.code = close.code;
        match conn.phase {
            Phase::Closing => {}
            // An answer is still on its way.
            Phase::Head if conn.outbox.is_some() => self.last_bytes(index, Bytes::new()),
            // A request that is under way is answered. If it were dropped, its client would not know why, nor when to
            // come back.
            Phase::Head if conn.received.unread.is_some() => self.refuse_half_read(index, &unserved(&close)),
            Phase::Head => self.drop_conn(index),
            Phase::Asked => {
                self.forget_request(index);
                self.refuse_asked(index, &unserved(&close));
            }
            // The answer has not begun, so an HTTP status can tell why. After an empty answer the client would only
            // poll again.
            Phase::Open(Transport::Poll) if close.says_not_allowed() => {
                let cors = conn.beside.take().unwrap_or_default().cors;
                self.refuse(index, &unserved(&close), &cors, false);
            }
            Phase::Open(Transport::Poll) => {
                conn.flags.remove(Flags::KEEP_ALIVE);
                self.answer_empty(index, close.retry_ms.map_or(Note::None, Note::Retry));
            }
            Phase::Open(transport) => {
                let goodbye = conn.format.goodbye(&close, conn.is(Flags::CHUNKS));
                self.log_close(index, transport, &close);
                self.last_bytes(index, goodbye.into());
            }
        }
    }

    /// Closes a connection that is too slow. Its outbox is dropped, since the client gets the messages by its position.
    pub(in crate::shard) fn close_slow(&mut self, index: u32, close: Close) {
        if self.conns.get(index as usize).is_some_and(|conn| conn.phase == Phase::Closing) {
            // Its last words wait behind what was begun.
            return;
        }
        self.note_slow(index);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let wire = conn.wire(&self.encoder);
        if let Some(outbox) = &mut conn.outbox {
            outbox.keep_begun(&wire);
        }
        self.close(index, close);
    }

    /// Refuses a connection without reading its request, since there are too many. `head` has the bytes that were read.
    pub(in crate::shard) fn turn_away(&self, fd: &OwnedFd, head: &[u8], refusal: &Refusal, client: Client<'_>) {
        self.note_answered(client, refusal);
        unserved::refuse(fd, head, &self.config, refusal);
    }

    /// Refuses a connection that is counted but gets no place in the slab. `head` is the part of its request that the
    /// host has read.
    pub(in crate::shard) fn leave_out(&self, fd: &OwnedFd, head: &[u8], refusal: &Refusal, grant: Option<&Grant>) {
        self.turn_away(fd, head, refusal, Client::of(fd).granted(grant));
        self.context.limits.connections.leave();
    }

    /// Refuses a request of which only a part has come.
    pub(in crate::shard) fn refuse_half_read(&mut self, index: u32, refusal: &Refusal) {
        let unread = self.conns[index as usize].received.unread.take().unwrap_or_default();
        let (sse, cors) = request::read_partly(&unread, &self.config);
        self.refuse(index, refusal, &cors, sse);
    }

    /// Counts and logs a refusal that is told with an HTTP error.
    fn note_answered(&self, client: Client<'_>, refusal: &Refusal) {
        self.handle.metrics.refused.add(1);
        let text = format_args!("refused with {} {}: {}", refusal.status, refusal.code, refusal.message);
        self.note_refusal(client, refusal.reason(), text);
    }

    /// Counts and logs a refusal.
    pub(in crate::shard) fn note_refusal(&self, client: Client<'_>, reason: Reason, text: fmt::Arguments<'_>) {
        self.handle.metrics.refusal(reason);
        client.log(&self.context.log, Level::Info, reason.word(), text);
    }

    /// Refuses a request; the connection ends with the answer.
    pub(in crate::shard) fn refuse(&mut self, index: u32, refusal: &Refusal, cors: &str, sse: bool) {
        self.note_answered(self.client(index), refusal);
        let answer = if sse && refusal.may_pass() {
            refusal.sse_response(cors, self.advised_delay())
        } else {
            refusal.response(cors)
        };
        self.last_bytes(index, answer.into());
    }

    /// Writes the last bytes of a connection, then ends our side of it and waits for the peer's: a connection closed
    /// with bytes unread is reset, and the peer might lose what we said.
    pub(in crate::shard) fn last_bytes(&mut self, index: u32, bytes: Bytes) {
        self.end_subscription(index);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.phase = Phase::Closing;
        // Nothing is read any more, and the client may take its time.
        conn.received = Received::default();
        if let Some(outbox) = &mut conn.outbox {
            // Nothing may follow the last bytes.
            outbox.catch_up = None;
        }
        self.recount(index);
        self.schedule(index, self.config().close_timeout_ms);
        if !bytes.is_empty() {
            self.transmit_bytes(index, bytes);
        }
        if self.conns.get(index as usize).is_some_and(|conn| conn.outbox.is_none()) {
            self.end_writing(index);
        }
    }

    /// Ends our side of a connection, behind all that was written.
    pub(in crate::shard) fn end_writing(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        self.side.sinks.end_writing(index, conn.socket.as_ref());
        if conn.socket.is_none() {
            // Its sink keeps nothing any more of what has come.
            self.recount(index);
        }
    }

    /// Logs why a connection is closed. An end that the host wanted is logged at the level `debug`.
    pub(in crate::shard) fn log_close(&self, index: u32, transport: Transport, close: &Close) {
        let reason = if close.reason.is_empty() { "no reason was given" } else { &close.reason };
        let text = format_args!("{} ended with {}: {reason}", transport.with_article(), close.code);
        self.log_about(index, Some(transport), close.level(), Closed::label(close.code), text);
    }

    /// The event queue has room again.
    pub(in crate::shard) fn resume_paused(&mut self) {
        for token in std::mem::take(&mut self.reading.paused) {
            if let Some(index) = self.find(token) {
                self.conns[index as usize].flags.remove(Flags::PAUSED);
                self.give_time(index);
                self.readable(index, true);
            }
        }
    }

    /// Remembers a connection that is not read from because the event queue is full.
    pub(in crate::shard) fn pause(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if !conn.is(Flags::PAUSED) {
            conn.flags.insert(Flags::PAUSED);
            self.reading.paused.push(Token { index, generation: conn.generation });
        }
    }
}

impl Shard {
    /// Ends a connection at once, without last words. The host gets its event.
    pub(in crate::shard) fn drop_conn(&mut self, index: u32) {
        if !self.conns.contains(index as usize) {
            return;
        }
        self.end_subscription(index);
        self.forget_request(index);
        self.remove(index);
    }

    /// Ends a connection's subscription, if it has one. No more messages are delivered to it, and the host is told.
    pub(in crate::shard) fn end_subscription(&mut self, index: u32) {
        self.tell_all_unsubscribed(index);
        self.end_presence(index);
        self.forget_calls(index);
        self.leave_checks(index);
        self.leave_channels(index);
        self.side.client_ids.forget(index);
        let Some(conn) = self.conns.get(index as usize) else { return };
        let Phase::Open(transport) = conn.phase else { return };
        // Polls come and go with every message.
        if transport != Transport::Poll {
            self.handle.metrics.closed.add(conn.code);
            // A function that sets another code has also logged the reason.
            if conn.code == Close::ABNORMAL.code {
                self.log_close(index, transport, &Close::ABNORMAL);
            }
        }
        let conn = &mut self.conns[index as usize];
        self.side.limits.counted(&self.context.limits).take_back_subscription(index, conn);
        self.handle.metrics.gauge(transport).sub(1);
        conn.phase = Phase::Closing;
        if conn.unmark(Flags::ANNOUNCED) {
            let code = conn.code;
            self.tell(Event { code, ..self.event(index, EventKind::Close) });
        }
    }

    /// Takes a connection out of the slab. A panic may have left it in any state.
    pub(in crate::shard) fn remove(&mut self, index: u32) {
        self.end_presence(index);
        let Some(mut conn) = self.conns.try_remove(index as usize) else { return };
        let mut counted = self.side.limits.counted(&self.context.limits);
        counted.take_back_address(index);
        counted.take_back_subscription(index, &mut conn);
        if let Phase::Open(transport) = conn.phase {
            self.handle.metrics.gauge(transport).sub(1);
        }
        self.uncount(index);
        self.side.end(index, conn.socket.as_ref());
    }

    /// A connection is no longer in the slab.
    fn uncount(&mut self, index: u32) {
        self.recount(index);
        self.handle.live.leave(index);
        self.handle.metrics.connections.sub(1);
        self.context.limits.connections.leave();
    }

    /// Takes a connection off its channels, so that nothing more is delivered to it.
    fn leave_channels(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.flags.remove(Flags::LIVE);
        self.subscriptions.channels.leave_all(&mut self.conns, index);
    }
}

/// The counts of connections and subscriptions for the limits of addresses and users. A connection's part in them is
/// taken back only once.
pub(in crate::shard) struct Counted<'s> {
    /// The address that each connection counts for, by slot.
    pub(in crate::shard) addresses: &'s mut [Option<AddressKey>],
    pub(in crate::shard) limits: &'s Limits,
}

impl Counted<'_> {
    /// Takes back the counts of [`Shard::count_subscription`].
    fn take_back_subscription(&mut self, index: u32, conn: &mut Conn) {
        uncount_user(conn, self.limits);
        if conn.is(Flags::PROXIED) {
            self.take_back_address(index);
        }
    }

    /// Does so early for a poll that is about to be answered. Its client may come back as soon as it has the answer, on
    /// another connection, which must not find the limit reached.
    pub(in crate::shard) fn take_back_poll(&mut self, index: u32, conn: &mut Conn) {
        if conn.transport() == Some(Transport::Poll) {
            self.take_back_subscription(index, conn);
        }
    }

    /// Takes back a connection's count for its address, if there is one.
    fn take_back_address(&mut self, index: u32) {
        if let Some(address) = self.addresses.get_mut(index as usize).and_then(Option::take) {
            self.limits.addresses.leave(&address);
        }
    }
}

/// Takes back a connection's count for its user, if there is one.
pub(in crate::shard) fn uncount_user(conn: &mut Conn, limits: &Limits) {
    if conn.unmark(Flags::USER_COUNTED) {
        if let Some(user) = conn.grant.as_ref().and_then(|grant| grant.user()) {
            limits.users.leave(user);
        }
    }
}

/// The end of a connection, as the answer to a request that is not served for it. Only a client that may not come back
/// gets a final answer.
fn unserved(close: &Close) -> Refusal {
    if close.retry_ms.is_some() {
        return Refusal::draining();
    }
    if !close.says_not_allowed() {
        let reason = if close.reason.is_empty() { "the connection was closed".into() } else { close.reason.clone() };
        return Refusal::unavailable("ended", reason);
    }
    let reason = if close.reason.is_empty() { Close::NOT_ALLOWED.reason } else { close.reason.clone() };
    Refusal::forbidden("ended", reason)
}
