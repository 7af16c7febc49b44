//! TLS as a kind of sink. The handshake is done by another thread; the established connection comes as a command.

use crate::context::client::Client;
use crate::context::Context;
use crate::http::refusal::Refusal;
use crate::limits::{AddressKey, Peer};
use crate::metrics::{Reason, TlsPlace};
use crate::shard::connection::conn::Flags;
use crate::shard::connection::sink::{Gone, Read, Sink, Unfinished};
use crate::shard::turn::command::ShardHandle;
use crate::shard::Shard;
use crate::sys::encryption::Version;
use crate::sys::epoll::Watch;
use crate::tls::kernel::{InKernel, Link};
use crate::tls::outcome;
use crate::tls::session::Session;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) link: Link,
    /// The client, or a proxy with requests that name the client.
    pub(crate) peer: Peer,
    /// A PROXY header has named the peer.
    pub(crate) is_named: bool,
    /// The address for which it counts already (`max_per_address`).
    pub(crate) counted: Option<AddressKey>,
    /// The limit that was reached when it came.
    pub(crate) surplus: Option<Reason>,
}

impl Secured {
    /// What is kept of its records.
    pub(in crate::shard) fn bytes(&self) -> usize {
        self.link.bytes()
    }

    /// Takes back its counts: it is not served.
    pub(crate) fn take_back(&self, context: &Context) {
        if let Some(address) = &self.counted {
            context.limits.addresses.leave(address);
        }
        context.limits.connections.leave();
    }
}

/// A session as a sink. The bytes that it holds count among those of the outboxes.
#[derive(Debug)]
struct Secure {
    session: Box<Session>,
    counted: usize,
    handle: Arc<ShardHandle>,
}

/// A session as the sink of a connection.
pub(in crate::shard) fn sink(session: Box<Session>, handle: &Arc<ShardHandle>) -> Box<dyn Sink> {
    let mut sink = Secure { session, counted: 0, handle: handle.clone() };
    sink.count(sink.session.held());
    Box::new(sink)
}

impl Secure {
    /// Does something with the session, and counts what it holds then.
    fn with<T>(&mut self, f: impl FnOnce(&mut Session) -> T) -> T {
        let result = f(&mut self.session);
        self.count(self.session.held());
        result
    }

    fn count(&mut self, held: usize) {
        let gauge = &self.handle.metrics.outbox_bytes;
        match held.checked_sub(self.counted) {
            Some(0) => {}
            Some(more) => gauge.add(more as u64),
            None => gauge.sub((self.counted - held) as u64),
        }
        self.counted = held;
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.count(0);
    }
}

impl Sink for Secure {
    fn write(&mut self, slices: &[IoSlice<'_>], scratch: &mut Vec<u8>) -> Result<usize, Gone> {
        self.with(|session| session.write(slices, scratch)).map_err(gone)
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<bool, Gone> {
        self.with(Session::send_held).map_err(gone)
    }

    fn held(&self) -> usize {
        self.session.held()
    }

    fn kept(&self) -> Unfinished {
        Unfinished { bytes: self.session.kept(), since: self.session.since() }
    }

    fn give_time(&mut self, now_ms: u64) {
        self.session.give_time(now_ms);
    }

    fn read(&mut self, into: &mut [u8], scratch: &mut Vec<u8>) -> Result<Read, Gone> {
        self.with(|session| session.read(into, scratch)).map(came).map_err(gone)
    }

    fn end_writing(&mut self, scratch: &mut Vec<u8>) {
        self.with(|session| session.end_writing(scratch));
    }

    fn end(&mut self, scratch: &mut Vec<u8>) {
        self.with(|session| session.end(scratch));
    }

    fn failure(&self) -> Option<String> {
        self.session.failure().map(ToString::to_string)
    }

    fn socket(&self) -> Option<&OwnedFd> {
        Some(self.session.socket())
    }
}

/// A connection in the kernel as a sink. What the kernel holds of it does not count, as with a plain socket.
impl Sink for InKernel {
    fn write(&mut self, slices: &[IoSlice<'_>], _: &mut Vec<u8>) -> Result<usize, Gone> {
        InKernel::write(self, slices).map_err(gone)
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<bool, Gone> {
        InKernel::flush(self).map_err(gone)
    }

    fn held(&self) -> usize {
        InKernel::held(self)
    }

    fn kept(&self) -> Unfinished {
        Unfinished { bytes: InKernel::kept(self), since: None }
    }

    fn read(&mut self, into: &mut [u8], _: &mut Vec<u8>) -> Result<Read, Gone> {
        InKernel::read(self, into).map(came).map_err(gone)
    }

    fn end_writing(&mut self, _: &mut Vec<u8>) {
        InKernel::end_writing(self);
    }

    fn end(&mut self, _: &mut Vec<u8>) {
        InKernel::end(self);
    }

    fn is_worn(&self) -> bool {
        InKernel::is_worn(self)
    }

    fn failure(&self) -> Option<String> {
        InKernel::failure(self).map(ToString::to_string)
    }

    fn socket(&self) -> Option<&OwnedFd> {
        Some(InKernel::socket(self))
    }
}

fn came(read: outcome::Read) -> Read {
    match read {
        outcome::Read::Bytes(len) => Read::Bytes(len),
        outcome::Read::Part(len) => Read::Part(len),
        outcome::Read::Nothing => Read::Nothing,
        outcome::Read::End => Read::End,
        outcome::Read::NewKeys => Read::NewKeys,
    }
}

fn gone(outcome::Gone: outcome::Gone) -> Gone {
    Gone
}

impl Shard {
    /// Takes a connection whose handshake is done. It is counted already.
    pub(in crate::shard) fn secured(&mut self, secured: Secured) {
        self.handle.metrics.accepted.add(1);
        // It may hold the rest of a record while no outbox waits, so it is told of room from the start.
        let token = match self.place(secured.link.socket(), Watch::EdgeBoth) {
            Ok(token) => token,
            Err(refusal) => return self.leave_out_secured(secured, &refusal),
        };
        let Secured { link, peer, is_named, counted, surplus } = secured;
        let index = token.index;
        let conn = &mut self.conns[index as usize];
        conn.flags.insert(Flags::WRITES_WATCHED);
        conn.surplus = surplus;
        let sink = match link {
            Link::Library(session) => sink(session, &self.handle),
            Link::Kernel(connection) => Box::new(connection),
        };
        self.side.sinks.insert(index, sink);
        self.schedule(index, self.config().head_timeout_ms);
        self.note_checked_peer(index, peer, counted);
        if is_named {
            self.note_source(index, Some(peer));
        }
        if self.find(token).is_some() {
            // Content may have come together with the end of the handshake. Nothing would tell of it.
            self.readable(index, false);
        }
        if self.draining() && self.find(token).is_some() {
            self.send_away(index);
        }
    }

    /// A connection of the host's gets the sink for the kernel, which encrypts and decrypts it already.
    pub(in crate::shard) fn enter_encrypted(&mut self, index: u32, fd: OwnedFd, version: Version) {
        self.context.metrics.tls_places.add(TlsPlace::HandedOver);
        self.conns[index as usize].flags.insert(Flags::WRITES_WATCHED);
        self.side.sinks.insert(index, Box::new(InKernel::new(fd, version, Vec::new())));
    }

    fn leave_out_secured(&mut self, mut secured: Secured, refusal: &Refusal) {
        let text = format_args!("refused with {} {}: {}", refusal.status, refusal.code, refusal.message);
        self.note_refusal(Client::at(secured.peer), refusal.reason(), text);
        secured.link.end(&mut Vec::new());
        secured.take_back(&self.context);
    }
}
