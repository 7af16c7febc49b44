//! Reading: from the sink through the scratch buffer to the parser that the connection's phase asks for.

use crate::config::Auth;
use crate::framing::close::Close;
use crate::framing::Transport;
use crate::grant::Grant;
use crate::http::origin;
use crate::http::refusal::Refusal;
use crate::http::request::{self, Known, NamedBy, Wish};
use crate::limits::Peer;
use crate::metrics::Reason;
use crate::shard::connection::authorize::Admission;
use crate::shard::connection::conn::{Conn, Flags, Phase, Token};
use crate::shard::connection::sink::{Gone, Read};
use crate::shard::Shard;
use crate::sys::socket;

/// How many scratch buffers full one connection may have in a row, before others get their turn.
const READS: usize = 4;
/// How many requests in a row one connection has answered in a turn. One that does not wait takes no room in the outbox,
/// so a fast client could send them without end.
const HEADS: usize = 16;
/// The first byte of a TLS client (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

impl Shard {
    /// Reads all bytes that are there. Readiness is told once, so this goes on until the socket is empty; `to_the_end`:
    /// until it says so itself, because an end that is there already is not told again.
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
            match self.side.sinks.read(index, self.conns[index as usize].socket.as_ref(), &mut scratch) {
                Ok(Read::End) if self.goes_with_its_relay(index) => break,
                // A client that ends its side is as good as gone: nobody keeps half a connection.
                Ok(Read::End) => self.drop_conn(index),
                Err(Gone) => self.lost(index),
                Ok(Read::Bytes(len)) => {
                    self.received(index, &mut scratch[..len]);
                    self.recount(index);
                    // Less than asked for means that there was no more (epoll(7)); what comes is told again.
                    if len < scratch.len() && !to_the_end {
                        break;
                    }
                }
                Ok(Read::NewKeys) => self.needs_new_keys(index, "the client has changed its keys"),
                Ok(Read::Part(len)) => {
                    self.received(index, &mut scratch[..len]);
                    self.recount(index);
                }
                Ok(Read::Nothing) => {
                    // Its sink may keep a part of a record.
                    if self.conns[index as usize].socket.is_none() {
                        self.recount(index);
                    }
                    break;
                }
                Ok(Read::Interrupted) => {}
            }
        }
        self.reading.scratch = scratch;
    }

    /// A host that relays a client has the other end of a Unix socket. If it ends only its sending side, it is about to
    /// go, and its client is told to come back. A client that has gone takes the whole socket with it.
    fn goes_with_its_relay(&mut self, index: u32) -> bool {
        let conn = &self.conns[index as usize];
        let relay = conn.socket.as_ref().filter(|_| conn.is(Flags::ADOPTED));
        if !relay.is_some_and(|fd| Peer::of(fd) == Some(Peer::Unix) && !socket::has_hung_up(fd)) {
            return false;
        }
        // What it was told last may still be on its way.
        if conn.phase != Phase::Closing {
            let close = Close::going_away(self.advised_delay());
            self.close(index, close);
        }
        true
    }

    /// A connection's sink can't be read or written any more.
    pub(in crate::shard) fn lost(&mut self, index: u32) {
        if let Some(text) = self.side.sinks.failure(index) {
            self.note_refusal(self.client(index), Reason::Tls, format_args!("TLS: {text}"));
        }
        self.drop_conn(index);
    }

    /// Whether more requests may come over a connection whose client has asked for that. If its keys have been used too
    /// often, it ends with this answer: the client comes back with others.
    pub(in crate::shard) fn goes_on(&self, index: u32, is_asked: bool) -> bool {
        let conn = &self.conns[index as usize];
        let may = is_asked && conn.may_go_on();
        let is_worn = may && self.side.sinks.is_worn(index, conn.socket.as_ref());
        if is_worn {
            let text = format_args!(
                "its connection ends with this answer: it is time for new keys, and the kernel can't (option tls_kernel)"
            );
            self.note_refusal(self.client(index), Reason::TlsKeys, text);
        }
        may && !is_worn
    }

    /// Sends a client away whose connection would need new keys in the kernel. It comes back with some.
    pub(in crate::shard) fn needs_new_keys(&mut self, index: u32, why: &str) {
        let is_of_host = self.conns[index as usize].is(Flags::ADOPTED);
        let option = if is_of_host { "the host's TLS" } else { "option tls_kernel" };
        let text = format_args!("sent away: {why}, and the kernel can't ({option})");
        self.note_refusal(self.client(index), Reason::TlsKeys, text);
        let close = Close::going_away(self.advised_delay());
        self.close(index, close);
    }

    /// Reads from a connection in the next turn.
    pub(in crate::shard) fn read_again(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.mark(Flags::UNFINISHED) {
            self.reading.unfinished.push(Token { index, generation: conn.generation });
        }
    }

    /// Whether the next turn has to go on reading, or has acts on users to do.
    pub(in crate::shard) fn has_unfinished(&self) -> bool {
        !self.reading.unfinished.is_empty() || !self.delivery.put_off.is_empty()
    }

    /// Goes on with connections that had more than their share in the last turn, or that have sent a request early.
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
        // Its requests have their turn next, before more of them are read.
        if conn.phase == Phase::Head && conn.is(Flags::UNFINISHED) && conn.received.unread.is_some() {
            return true;
        }
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
        if self.host_is_behind(&self.conns[index as usize]) {
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
            // The client has nothing to say here.
            Phase::Open(Transport::Sse | Transport::Stream) | Phase::Closing => {}
        }
    }

    /// Bytes of a request head, after those that came before.
    fn received_head(&mut self, index: u32, bytes: &mut [u8]) {
        match self.conns[index as usize].received.unread.take() {
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
        let (mut rest, mut heads) = (bytes, 0);
        while let Some(size) = self.take_head(index, rest) {
            rest = &mut rest[size..];
            heads += 1;
            let Some(conn) = self.find(token).map(|index| &self.conns[index as usize]) else { return };
            if rest.is_empty() {
                return;
            }
            if conn.phase != Phase::Head || conn.outbox.is_some() {
                return self.received(index, rest);
            }
            if heads == HEADS {
                self.conns[index as usize].received.unread = Some(Box::new(rest.to_vec()));
                return self.read_again(index);
            }
        }
    }

    /// The facts about the next request of a connection that are known before it is read. `grant` names its channels.
    pub(in crate::shard) fn known<'g>(&self, conn: &Conn, grant: Option<&'g Grant>) -> Known<'g> {
        let channels = match grant {
            Some(grant) => NamedBy::Grant(grant),
            None if self.config.auth == Auth::Host && !conn.is_granted() => NamedBy::RequestOrGrant,
            None => NamedBy::Request,
        };
        // The host routed its first request here by its own rules. It has not seen later ones on the same connection.
        Known { any_path: conn.is(Flags::ADOPTED) && !conn.is(Flags::KEEP_ALIVE), channels }
    }

    /// Reads one head, does what it asks for, and returns its length. `None`: it is not complete, or it was the last.
    fn take_head(&mut self, index: u32, bytes: &[u8]) -> Option<usize> {
        let conn = &self.conns[index as usize];
        if conn.is(Flags::PROXY_HEADER) {
            return self.take_proxy_header(index, bytes);
        }
        let grant = conn.grant_that_subscribes();
        let head = match request::read(bytes, &self.config, &self.known(conn, grant.as_deref())) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.conns[index as usize].received.unread = Some(Box::new(bytes.to_vec()));
                return None;
            }
            // No method begins with this byte, and no client of TLS could read the answer.
            Err(_) if bytes[0] == TLS_HANDSHAKE => {
                let place = match self.conns[index as usize].is(Flags::ADOPTED) {
                    true => "a connection that is handed over must not be encrypted, except by the kernel",
                    false => "this address of listen is not one for TLS",
                };
                self.note_refusal(
                    self.client(index),
                    Reason::NotPlain,
                    format_args!("the client speaks TLS, and {place}"),
                );
                self.drop_conn(index);
                return None;
            }
            Err(refusal) => {
                self.refuse(index, &refusal, "", false);
                return None;
            }
        };
        self.note_request(index, &head);
        let allowed = self.conns[index as usize].is(Flags::ALLOWED);
        let wish = head.wish.and_then(|wish| self.check_host(index, head.host).map(|()| wish));
        match wish {
            Ok(Wish::Subscribe(subscribe)) => match self.authorize(index, &subscribe) {
                Ok(Admission::Admitted) if self.is_too_early(&subscribe) => {
                    // A token's grant stays, too. Read again from the token, it would have what is revoked meanwhile.
                    let conn = &self.conns[index as usize];
                    let decided = allowed || (!conn.is(Flags::ADOPTED) && conn.grant.is_some());
                    self.wait_for_hub(index, &subscribe, bytes, decided);
                    self.forget_wish();
                    return None;
                }
                Ok(Admission::Admitted) => self.open(index, subscribe, head.cors, &head.forwarded),
                Ok(Admission::Asked) => {
                    self.ask_host(index, subscribe.channels.first().map(|name| &**name), bytes, head.size - head.body);
                    self.forget_wish();
                    return None;
                }
                Err(refusal) => self.refuse(index, &refusal, &head.cors, head.sse),
            },
            Ok(Wish::Preflight { asked }) => {
                // It carries no credentials: it must not open the connection for a request that the host never saw.
                let keep_alive = self.goes_on(index, head.keep_alive);
                let answer = origin::preflight(&head.cors, &asked, keep_alive);
                if keep_alive {
                    self.conns[index as usize].flags.insert(Flags::KEEP_ALIVE);
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
        let unread = conn.received.unread.get_or_insert_default();
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

    /// Reads a request that came early, if the answer before it is written. Otherwise the request stays, and this
    /// function is called again when that answer is written.
    pub(in crate::shard) fn read_early(&mut self, index: u32) {
        let next = |conn: &&mut Conn| conn.phase == Phase::Head && conn.outbox.is_none();
        let Some(conn) = self.conns.get_mut(index as usize).filter(next) else { return };
        if let Some(mut unread) = conn.received.unread.take() {
            self.read_head(index, &mut unread);
            self.recount(index);
        }
    }

    /// Does the same in the next turn, since a fan-out is under way. The request may need the delivery of all messages
    /// up to its own place, and that would overtake messages that the fan-out has still to write to others.
    pub(in crate::shard) fn read_early_later(&mut self, index: u32) {
        let early = |conn: &&Conn| conn.phase == Phase::Head && conn.received.unread.is_some();
        if self.conns.get(index as usize).filter(early).is_some() {
            self.read_again(index);
        }
    }
}
