//! The ends of connections.

use crate::context::client::Client;
use crate::events::{Event, EventKind};
use crate::http::refusal::Refusal;
use crate::http::{request, unserved};
use crate::hub::Form;
use crate::log::Level;
use crate::metrics::Closed;
use crate::metrics::Reason;
use crate::shard::connection::conn::{Conn, Flags, Phase};
use crate::shard::{Shard, Token};
use crate::sys::socket;
use crate::transport::close::Close;
use crate::transport::poll::Note;
use crate::transport::Transport;
use crate::transport::{chunk, sse, stream, ws_frames};
use bytes::Bytes;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

impl Shard {
    /// Ends a connection in its transport's way, after what waits for it; the peer has `close_timeout` to take it.
    pub(in crate::shard) fn close(&mut self, index: u32, close: Close) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.code = close.code;
        match conn.phase {
            Phase::Closing => {}
            // An answer is still on its way.
            Phase::Head if conn.outbox.is_some() => self.last_bytes(index, Bytes::new()),
            // A request that is under way is answered: dropped, its client would not know why, nor when to come back.
            Phase::Head if conn.unread.is_some() => self.refuse_half_read(index, &unserved(&close)),
            Phase::Head => self.drop_conn(index),
            Phase::Asked => {
                self.forget_request(index);
                self.refuse_asked(index, &unserved(&close));
            }
            // The answer has not begun: an HTTP status can say it, and a client that just polls again would not know.
            Phase::Open(Transport::Poll) if close.says_not_allowed() => {
                let cors = conn.cors.take().unwrap_or_default();
                self.leave_channels(index);
                self.refuse(index, &unserved(&close), &cors, false);
            }
            Phase::Open(Transport::Poll) => {
                conn.flags.remove(Flags::KEEP_ALIVE);
                self.answer_empty(index, close.retry_ms.map_or(Note::None, Note::Retry));
            }
            Phase::Open(transport) => {
                let goodbye = goodbye(transport, &close, conn.is(Flags::CHUNKS));
                self.log_close(index, transport, &close);
                self.leave_channels(index);
                self.last_bytes(index, goodbye.into());
            }
        }
    }

    /// Ends a connection that is too slow: what waits is dropped, since the client gets it by its position.
    pub(in crate::shard) fn close_slow(&mut self, index: u32, close: Close) {
        self.note_slow(index);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let wire = conn.wire(&self.context.encoder);
        if let Some(outbox) = &mut conn.outbox {
            outbox.keep_begun(&wire);
        }
        self.close(index, close);
    }

    /// Refuses a connection without hearing it out, since there are too many. `head` is what was read of it.
    pub(in crate::shard) fn turn_away(&self, fd: &OwnedFd, head: &[u8], refusal: &Refusal, client: Client<'_>) {
        self.note_answered(client, refusal);
        unserved::refuse(fd, head, &self.config, refusal);
    }

    /// Refuses a request that is not all there.
    pub(in crate::shard) fn refuse_half_read(&mut self, index: u32, refusal: &Refusal) {
        let unread = self.conns[index as usize].unread.take().unwrap_or_default();
        let (sse, cors) = request::read_partly(&unread, &self.config);
        self.refuse(index, refusal, &cors, sse);
    }

    /// Counts and logs a refusal that is told with an HTTP error.
    fn note_answered(&self, client: Client<'_>, refusal: &Refusal) {
        self.handle.metrics.refused.add(1);
        let text = format_args!("refused with {} {}: {}", refusal.status, refusal.code, refusal.message);
        self.note_refusal(client, refusal.reason(), text);
    }

    /// Counts and logs what is not done for a client.
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
        self.leave_open(index);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.phase = Phase::Closing;
        if let Some(outbox) = &mut conn.outbox {
            // Nothing may follow the last bytes.
            outbox.catch_up = None;
        }
        self.schedule(index, self.config().close_timeout_ms);
        if !bytes.is_empty() {
            self.transmit_bytes(index, bytes);
        }
        if let Some(conn) = self.conns.get(index as usize) {
            if conn.outbox.is_none() {
                socket::shutdown_write(&conn.fd);
            }
        }
    }

    /// The end: nothing of the connection is left but its event.
    pub(in crate::shard) fn drop_conn(&mut self, index: u32) {
        if !self.conns.contains(index as usize) {
            return;
        }
        self.leave_channels(index);
        self.leave_open(index);
        self.forget_request(index);
        self.uncount_address(index);
        let conn = self.conns.remove(index as usize);
        self.uncount(index);
        // A forked child may hold the descriptor too; closing ours alone would not end the connection.
        socket::shutdown_both(&conn.fd);
    }

    /// A connection is no longer in the slab.
    pub(in crate::shard) fn uncount(&mut self, index: u32) {
        self.whose.forget(index);
        self.handle.roster.leave(index);
        self.handle.metrics.connections.sub(1);
        self.context.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nothing is delivered to it any more.
    pub(in crate::shard) fn leave_channels(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.flags.remove(Flags::LIVE);
        self.channels.leave_all(&mut self.conns, index);
    }

    /// It is no subscriber any more: the gauge and the host are told.
    fn leave_open(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if let Phase::Open(transport) = conn.phase {
            // Polls come and go with every message.
            if transport != Transport::Poll {
                self.handle.metrics.closed.add(conn.code);
                // Who sets another code knows more than the code, and has said it.
                if conn.code == Close::ABNORMAL.code {
                    self.log_close(index, transport, &Close::ABNORMAL);
                }
            }
            self.uncount_subscription(index);
            self.handle.metrics.gauge(transport).sub(1);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.is(Flags::ANNOUNCED) {
            conn.flags.remove(Flags::ANNOUNCED);
            let (user, code, host) = (user(conn), conn.code, host(conn));
            self.tell(Event {
                kind: EventKind::Close,
                connection: self.number_of(index),
                request: 0,
                user,
                channel: None,
                data: Bytes::new(),
                binary: false,
                code,
                host,
            });
        }
    }

    /// Says why a connection is ended: what the host wanted is worth a line only to who looks closely.
    pub(in crate::shard) fn log_close(&self, index: u32, transport: Transport, close: &Close) {
        let level = match close.code {
            1002 | 1007 | 1009 | 1011 | 4403 | 4408 | 4429 => Level::Info,
            _ => Level::Debug,
        };
        let reason = if close.reason.is_empty() { "no reason was given" } else { &close.reason };
        let text = format_args!("{} ended with {}: {reason}", transport.with_article(), close.code);
        self.log_about(index, Some(transport), level, Closed::label(close.code), text);
    }

    /// Tells the host, if it listens: at the next [`Self::announce_events`].
    pub(in crate::shard) fn tell(&mut self, event: Event) {
        if self.context.events.wants(event.kind) {
            self.told = self.told.and(self.context.events.add(event));
        } else if event.kind == EventKind::Message && !self.context.events.wanted() {
            self.handle.metrics.events_dropped.add(1);
        }
    }

    /// Wakes the host for what it was told.
    pub(in crate::shard) fn announce_events(&mut self) {
        self.context.events.announce(std::mem::take(&mut self.told));
    }

    /// The event queue has room again.
    pub(in crate::shard) fn resume_paused(&mut self) {
        for token in std::mem::take(&mut self.reading.paused) {
            if let Some(index) = self.find(token) {
                self.conns[index as usize].flags.remove(Flags::PAUSED);
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

/// The user of a connection.
pub(in crate::shard) fn user(conn: &Conn) -> Option<std::sync::Arc<str>> {
    conn.grant.as_ref().and_then(|grant| grant.user().cloned())
}

/// The attached host that answers for a connection.
pub(in crate::shard) fn host(conn: &Conn) -> u64 {
    conn.grant.as_ref().map_or(0, |grant| grant.host())
}

/// The end of a connection, as the answer to a request that is not served for it.
fn unserved(close: &Close) -> Refusal {
    if close.retry_ms.is_some() {
        return Refusal::draining();
    }
    let reason = if close.reason.is_empty() { Close::NOT_ALLOWED.reason } else { close.reason.clone() };
    Refusal::forbidden("ended", reason)
}

/// What a transport ends with.
fn goodbye(transport: Transport, close: &Close, chunks: bool) -> Vec<u8> {
    let ended = |form: Form| {
        if chunks {
            [form.framed_bytes(), chunk::END].concat()
        } else {
            form.inner_bytes().to_vec()
        }
    };
    match transport {
        Transport::WebSocket => ws_frames::close(close),
        Transport::Sse => ended(sse::close(close.code, &close.reason, close.retry_ms)),
        Transport::Stream => ended(stream::close(close.code, &close.reason, close.retry_ms)),
        Transport::Poll => Vec::new(),
    }
}
