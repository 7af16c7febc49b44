//! Reading: from the socket through the scratch buffer to whoever understands it.

use crate::events::EventKind;
use crate::http::origin;
use crate::http::refusal::Refusal;
use crate::http::request::{self, Wish};
use crate::metrics::Reason;
use crate::shard::connection::authorize::Admission;
use crate::shard::connection::close::host;
use crate::shard::connection::conn::{Conn, Flags, Phase, Token};
use crate::shard::Shard;
use crate::sys::socket;
use crate::transport::Transport;
use std::io::ErrorKind;

/// How many scratch buffers full one connection may have in a row, before others get their turn.
const READS: usize = 4;

impl Shard {
    /// Reads what is there. Readiness is told once, so this goes on until the socket is empty; `to_the_end`: until it
    /// says so itself, because an end that is there already is not told again.
    pub(in crate::shard) fn readable(&mut self, index: u32, to_the_end: bool) {
        let token = self.token(index);
        let mut scratch = std::mem::take(&mut self.reading.scratch);
        let mut reads = 0;
        while let Some(index) = self.find(token) {
            if self.must_wait(index) {
                break;
            }
            if reads == READS {
                self.read_again(index);
                break;
            }
            reads += 1;
            match socket::recv(&self.conns[index as usize].fd, &mut scratch) {
                // A client that ends its side is as good as gone: nobody keeps half a connection.
                Ok(0) => self.drop_conn(index),
                Ok(len) => {
                    self.received(index, &mut scratch[..len]);
                    // Less than asked for means that there was no more (epoll(7)); what comes is told again.
                    if len < scratch.len() && !to_the_end {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.drop_conn(index),
            }
        }
        self.reading.scratch = scratch;
    }

    /// Reads from a connection in the next turn.
    pub(in crate::shard) fn read_again(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.mark(Flags::UNFINISHED) {
            self.reading.unfinished.push(Token { index, generation: conn.generation });
        }
    }

    /// Whether the next turn has to go on reading.
    pub(in crate::shard) fn has_unfinished(&self) -> bool {
        !self.reading.unfinished.is_empty()
    }

    /// Goes on with connections that had more than their share in the last turn, or whose next request came early.
    pub(in crate::shard) fn read_unfinished(&mut self) -> bool {
        for token in std::mem::take(&mut self.reading.unfinished) {
            if let Some(index) = self.find(token) {
                self.conns[index as usize].flags.remove(Flags::UNFINISHED);
                self.read_early(index);
            }
            if let Some(index) = self.find(token) {
                self.readable(index, true);
            }
        }
        !self.reading.unfinished.is_empty()
    }

    /// Whether a client is left waiting, so that it does not fill our memory: its messages have nowhere to go, or it
    /// does not take the answers to what it asked.
    fn must_wait(&mut self, index: u32) -> bool {
        let conn = &self.conns[index as usize];
        if conn.phase != Phase::Open(Transport::WebSocket) {
            return false;
        }
        if conn.is(Flags::PAUSED) || conn.is(Flags::THROTTLED) {
            return true;
        }
        if conn.outbox.as_ref().is_some_and(|outbox| outbox.weight() > self.config().outbox / 2) {
            self.conns[index as usize].flags.insert(Flags::HELD);
            return true;
        }
        let host = host(&self.conns[index as usize]);
        if self.context.events.wants(EventKind::Message) && self.context.events.full_for(host) {
            self.pause(index);
            return true;
        }
        false
    }

    /// Bytes came.
    pub(in crate::shard) fn received(&mut self, index: u32, bytes: &mut [u8]) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        match conn.phase {
            Phase::Head if conn.outbox.is_some() => self.keep_early(index, bytes),
            Phase::Head => self.received_head(index, bytes),
            Phase::Open(Transport::WebSocket) => self.received_frames(index, bytes),
            Phase::Asked | Phase::Open(Transport::Poll) => self.keep_early(index, bytes),
            // Nobody has anything to say there.
            Phase::Open(Transport::Sse | Transport::Stream) | Phase::Closing => {}
        }
    }

    /// Bytes of a request head, after those that came before.
    fn received_head(&mut self, index: u32, bytes: &mut [u8]) {
        match self.conns[index as usize].unread.take() {
            None => self.read_head(index, bytes),
            Some(mut unread) => {
                unread.extend_from_slice(bytes);
                self.read_head(index, &mut unread);
            }
        }
    }

    /// Reads heads, one after the other: a client may send many polls at once, and they must not cost stack.
    fn read_head(&mut self, index: u32, bytes: &mut [u8]) {
        let token = self.token(index);
        let mut rest = bytes;
        while let Some(size) = self.take_head(index, rest) {
            rest = &mut rest[size..];
            let Some(conn) = self.find(token).map(|index| &self.conns[index as usize]) else { return };
            if rest.is_empty() {
                return;
            }
            if conn.phase != Phase::Head || conn.outbox.is_some() {
                return self.received(index, rest);
            }
        }
    }

    /// Reads one head and does what it asks for; says how long it was. `None`: it is not whole, or was the last.
    fn take_head(&mut self, index: u32, bytes: &[u8]) -> Option<usize> {
        let conn = &self.conns[index as usize];
        if conn.is(Flags::PROXY_HEADER) {
            return self.take_proxy_header(index, bytes);
        }
        // The host routed its first request here by its own rules. Later ones on the same connection it has not seen.
        let any_path = conn.is(Flags::ADOPTED) && !conn.is(Flags::KEEP_ALIVE);
        let head = match request::read(bytes, &self.config, any_path) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.conns[index as usize].unread = Some(Box::new(bytes.to_vec()));
                return None;
            }
            Err(refusal) => {
                self.refuse(index, &refusal, "", false);
                return None;
            }
        };
        self.note_request(index, &head);
        let wish = head.wish.and_then(|wish| self.check_host(index, head.host).map(|()| wish));
        match wish {
            Ok(Wish::Subscribe(subscribe)) => match self.authorize(index, &subscribe) {
                Ok(Admission::Admitted) => self.open(index, &subscribe, head.cors, &head.forwarded),
                Ok(Admission::Asked) => {
                    self.ask_host(index, subscribe.channels.first().map(|name| &**name), bytes, head.size - head.body);
                    self.forget_wish();
                    return None;
                }
                Err(refusal) => self.refuse(index, &refusal, &head.cors, head.sse),
            },
            Ok(Wish::Preflight { asked }) => {
                // It carries no credentials: it must not open the connection for a request that the host never saw.
                let conn = &mut self.conns[index as usize];
                let keep_alive = head.keep_alive && conn.may_go_on();
                let answer = origin::preflight(&head.cors, &asked, keep_alive);
                if keep_alive {
                    conn.flags.insert(Flags::KEEP_ALIVE);
                    self.schedule(index, self.config().keep_alive_ms);
                    self.transmit_bytes(index, answer);
                } else {
                    self.last_bytes(index, answer.into());
                }
            }
            Ok(Wish::Elsewhere { .. } | Wish::Health { .. }) if self.conns[index as usize].is(Flags::ADOPTED) => {
                // A request for the host, on a connection that is ours now. Ended without an answer, a client sends it
                // again on a new connection, and that goes to the host (RFC 9112, section 9.3.1).
                self.drop_conn(index);
            }
            Ok(Wish::Health { head }) => self.answer_health(index, head),
            Ok(Wish::Elsewhere { head: without_body }) => {
                let refusal = Refusal::not_found(format!("nothing here but {}", self.config().path));
                let refusal = if without_body { refusal.without_body() } else { refusal };
                self.refuse(index, &refusal, &head.cors, false);
            }
            Err(refusal) => self.refuse(index, &refusal, &head.cors, head.sse),
        }
        self.forget_wish();
        Some(head.size)
    }

    /// Keeps a request that came before the answer to the one before it (pipelining), within the bound of a head.
    fn keep_early(&mut self, index: u32, bytes: &[u8]) {
        // Beside the early one, the request that the host is asked about.
        let max = 2 * self.config().max_head;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let unread = conn.unread.get_or_insert_default();
        unread.extend_from_slice(bytes);
        if unread.len() > max {
            // There is no answer to it before the one that is owed.
            self.note_refusal(
                self.client(index),
                Reason::TooLarge,
                format_args!("more than {max} bytes came before the answer (option max_head)"),
            );
            self.drop_conn(index);
        }
    }

    /// Reads a request that came early, if the answer before it is written. Where it is not, or another one is owed, the
    /// request stays where it is: this is tried again when that is done.
    pub(in crate::shard) fn read_early(&mut self, index: u32) {
        let next = |conn: &&mut Conn| conn.phase == Phase::Head && conn.outbox.is_none();
        let Some(conn) = self.conns.get_mut(index as usize).filter(next) else { return };
        if let Some(mut unread) = conn.unread.take() {
            self.read_head(index, &mut unread);
        }
    }

    /// The same in the next turn, out of a fan-out: the request may be one that has to have all delivered up to its own
    /// place, and that would overtake what the fan-out has still to write to others.
    pub(in crate::shard) fn read_early_later(&mut self, index: u32) {
        let early = |conn: &&Conn| conn.phase == Phase::Head && conn.unread.is_some();
        if self.conns.get(index as usize).filter(early).is_some() {
            self.read_again(index);
        }
    }
}
