//! The clients whose handshakes are under way: read, bounded, and handed over.

use super::crowd::Crowd;
use crate::context::client::Client;
use crate::context::Context;
use crate::http::refusal::Refusal;
use crate::http::{proxy_header, unserved};
use crate::limits::{AddressKey, Peer};
use crate::log::Level;
use crate::metrics::{Reason, TlsPlace};
use crate::panics;
use crate::shard::connection::tls::Secured;
use crate::shard::turn::command::{Command, ShardHandle};
use crate::sys::clock;
use crate::sys::epoll::{Epoll, Event, Readiness, Watch};
use crate::sys::eventfd::EventFd;
use crate::sys::listener::Listener;
use crate::sys::socket;
use crate::tls::kernel::Link;
use crate::tls::outcome::Handshake;
use crate::tls::session::{Session, Stays};
use crate::tls::Tls;
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

const EVENTS: usize = 256;
/// The most bytes of a PROXY header.
const PROXY_HEADER: usize = 8 * 1024;
/// The first byte of a TLS client (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Tokens of the epoll that are no connections.
const WAKE: u64 = u64::MAX;
pub(super) const LISTENERS: u64 = 1 << 63;

pub(super) struct Thread {
    pub(super) context: Arc<Context>,
    tls: Arc<Tls>,
    shards: Vec<Arc<ShardHandle>>,
    pub(super) listeners: Vec<Listener>,
    pub(super) epoll: Epoll,
    pub(super) clients: Slab<Connecting>,
    pub(super) crowd: Crowd,
    /// The clients in the order in which they came, with the time. Some have gone since.
    pub(super) order: VecDeque<(u64, u64)>,
    /// Lent to all sessions.
    pub(super) scratch: Vec<u8>,
    next_shard: usize,
    pub(super) generation: u32,
}

/// A client that connects.
pub(super) struct Connecting {
    pub(super) token: u64,
    pub(super) stage: Stage,
    /// The bytes that came before the first one of TLS.
    came: Vec<u8>,
    /// It was accepted as one that begins with a PROXY header, whatever a reload says since.
    header: Header,
    /// The client, or a proxy with requests that name the client.
    pub(super) peer: Peer,
    /// The address under which its handshake counts.
    pub(super) address: Option<AddressKey>,
    /// The address for which it counts under `max_per_address`.
    pub(super) counted: Option<AddressKey>,
    /// The limit that was reached when it came.
    pub(super) surplus: Option<Reason>,
}

/// The PROXY header of a client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    None,
    Awaited,
    Read,
}

impl Connecting {
    pub(super) fn new(token: u64, fd: OwnedFd, peer: Peer, reads_header: bool) -> Self {
        Connecting {
            token,
            stage: Stage::Begins(fd),
            came: Vec::new(),
            header: if reads_header { Header::Awaited } else { Header::None },
            peer,
            address: None,
            counted: None,
            surplus: None,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        match &self.stage {
            Stage::Begins(fd) => fd,
            Stage::ShakesHands(session) => session.socket(),
        }
    }
}

pub(super) enum Stage {
    /// Nothing has come of TLS yet.
    Begins(OwnedFd),
    ShakesHands(Box<Session>),
}

/// The next step with a client.
enum Next {
    Wait,
    HandOver,
    End,
}

impl Thread {
    pub(super) fn new(
        context: Arc<Context>,
        tls: Arc<Tls>,
        shards: Vec<Arc<ShardHandle>>,
        listeners: Vec<Arc<OwnedFd>>,
        wake: &EventFd,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(wake.as_raw_fd(), WAKE, Watch::EdgeRead)?;
        let watched = |(number, listener)| Listener::watch(listener, LISTENERS + number as u64, &epoll);
        let listeners = listeners.into_iter().enumerate().map(watched).collect::<io::Result<_>>()?;
        Ok(Thread {
            context,
            tls,
            shards,
            listeners,
            epoll,
            clients: Slab::new(),
            crowd: Crowd::default(),
            order: VecDeque::new(),
            scratch: Vec::new(),
            next_shard: 0,
            generation: 0,
        })
    }

    /// Serves clients until the end.
    pub(super) fn run(&mut self, ends: &AtomicBool) {
        let mut events = [Event { events: 0, u64: 0 }; EVENTS];
        while !ends.load(Ordering::SeqCst) {
            let count = self.epoll.wait(&mut events, self.timeout()).unwrap_or(0);
            self.catching(|thread| thread.turn(&events[..count]));
        }
        self.forget_all();
    }

    /// A panic ends the handshakes that are under way, and nothing else.
    pub(super) fn catching(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.context.metrics.panics.fetch_add(1, Ordering::Relaxed);
            let text = format_args!(
                "TLS: a bug in the library was caught: {}; the handshakes under way are ended",
                panics::said()
            );
            self.context.log.line(Level::Error, text);
            self.forget_all();
        }
    }

    pub(super) fn timeout(&self) -> Option<u64> {
        let now = clock::monotonic_ms();
        let limit = self.context.config.get().head_timeout_ms;
        let oldest = self.order.front().map(|(came, _)| came + limit);
        let rests = self.listeners.iter().filter_map(Listener::rests_until);
        oldest.into_iter().chain(rests).min().map(|at| at.saturating_sub(now) + 1)
    }

    pub(super) fn turn(&mut self, events: &[Event]) {
        for event in events {
            let token = event.u64;
            match token {
                WAKE => {}
                _ if token >= LISTENERS => self.accept_from((token - LISTENERS) as usize),
                _ if event.readable() || event.writable() => self.go_on(token),
                _ => {}
            }
        }
        self.end_late();
        self.resume_listeners();
    }

    /// Something came of a client, or it has room.
    fn go_on(&mut self, token: u64) {
        let index = token as u32 as usize;
        let Some(client) = self.clients.get_mut(index).filter(|client| client.token == token) else { return };
        let mut next = Next::Wait;
        if let Stage::Begins(_) = client.stage {
            next = self.begin(index);
        }
        if let (Next::Wait, Some(Connecting { stage: Stage::ShakesHands(session), .. })) =
            (&next, self.clients.get_mut(index))
        {
            next = match session.shake_hands(&mut self.scratch) {
                Ok(Handshake::Waits) => Next::Wait,
                Ok(Handshake::Done) => Next::HandOver,
                Err(_) => {
                    self.note_failure(index);
                    Next::End
                }
            };
        }
        match next {
            Next::Wait => {}
            Next::HandOver => self.hand_over(index),
            Next::End => self.end(index),
        }
    }

    /// Reads the bytes before TLS, and checks that TLS follows.
    fn begin(&mut self, index: usize) -> Next {
        let client = &mut self.clients[index];
        let Stage::Begins(fd) = &client.stage else { return Next::Wait };
        self.scratch.resize(self.scratch.len().max(PROXY_HEADER), 0);
        let came = match socket::recv(fd, &mut self.scratch[..PROXY_HEADER - client.came.len()]) {
            Ok(0) => return Next::End,
            Ok(len) => &self.scratch[..len],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Next::Wait;
            }
            Err(_) => return Next::End,
        };
        client.came.extend_from_slice(came);
        if client.header == Header::Awaited {
            match proxy_header::read(&client.came) {
                Ok(Some(header)) => {
                    client.header = Header::Read;
                    client.came.drain(..header.size);
                    // Without a source the proxy speaks for itself, as with its health checks.
                    client.peer = header.source.unwrap_or(client.peer);
                }
                Ok(None) if client.came.len() < PROXY_HEADER => return Next::Wait,
                Ok(None) => return Next::End,
                Err(text) => {
                    self.note(index, Reason::ProxyHeader, format_args!("{text}"));
                    return Next::End;
                }
            }
            if let Err(denied) = self.admit(index) {
                self.deny(index, denied);
                return Next::Wait;
            }
        }
        let client = &mut self.clients[index];
        let first = std::mem::take(&mut client.came);
        match first.first() {
            Some(&TLS_HANDSHAKE) => {}
            // A proxy may send its header alone.
            None => return Next::Wait,
            Some(byte) => {
                let is_http = byte.is_ascii_alphabetic();
                let what = if is_http { "plain HTTP" } else { "something else" };
                self.note(index, Reason::NotTls, format_args!("the client speaks {what} at an address for TLS"));
                if is_http {
                    let text = "this port speaks HTTPS: the address begins with https:// or wss://";
                    let refusal = Refusal::malformed("not_tls", text);
                    unserved::refuse(self.clients[index].socket(), &first, &self.context.config.get(), &refusal);
                    self.context.metrics.refused.fetch_add(1, Ordering::Relaxed);
                }
                return Next::End;
            }
        }
        let client = self.clients.remove(index);
        let Stage::Begins(fd) = client.stage else { return Next::End };
        let stage = match Session::new(fd, self.tls.current().subscribers.clone(), first) {
            Ok(session) => Stage::ShakesHands(Box::new(session)),
            Err((fd, error)) => {
                self.note_at(&fd, Reason::Tls, format_args!("{error}"));
                Stage::Begins(fd)
            }
        };
        let failed = matches!(stage, Stage::Begins(_));
        // The slot that was freed last is the next one.
        let again = self.clients.insert(Connecting { stage, ..client });
        debug_assert_eq!(again, index);
        if failed {
            Next::End
        } else {
            Next::Wait
        }
    }

    fn hand_over(&mut self, index: usize) {
        let Connecting { token, stage, header, peer, address, counted, surplus, .. } = self.clients.remove(index);
        self.crowd_leaves(address, token);
        let Stage::ShakesHands(session) = stage else { return self.uncount() };
        let _ = self.epoll.remove(session.socket().as_raw_fd());
        let Some(link) = self.settle(session, peer) else {
            counted.iter().for_each(|address| self.context.limits.addresses.leave(address));
            return self.uncount();
        };
        let shard = &self.shards[self.next_shard % self.shards.len()];
        self.next_shard = self.next_shard.wrapping_add(1);
        let is_named = header == Header::Read;
        let secured = Secured { link, peer, is_named, counted, surplus };
        if let Err(Command::Secured(mut secured)) = shard.ask(Command::Secured(secured)) {
            let text = format_args!("the queue of the thread that would serve it is full");
            self.context.note_refusal_of(Client::at(peer), Level::Info, Reason::Busy, text);
            secured.link.end(&mut self.scratch);
            secured.take_back(&self.context);
        }
    }

    /// Moves a connection into the kernel, if that is wanted and possible. `None`: it was lost on the way.
    fn settle(&mut self, session: Box<Session>, peer: Peer) -> Option<Link> {
        let (link, place) = if self.context.config.get().tls_kernel {
            let kernel = self.tls.kernel(|kernel| {
                self.context.log.line(Level::Info, format_args!("option tls_kernel: {kernel}"));
            });
            match session.into_kernel(&kernel, &mut self.scratch) {
                Ok(connection) => (Link::Kernel(connection), TlsPlace::Kernel),
                Err(Stays::Here(session, place)) => (Link::Library(session), place),
                Err(Stays::Lost(fd, text)) => {
                    self.context.note_refusal_of(
                        Client::at(peer),
                        Level::Warn,
                        Reason::TlsKeys,
                        format_args!("{text}"),
                    );
                    socket::shutdown_both(&fd);
                    return None;
                }
            }
        } else {
            (Link::Library(session), TlsPlace::Off)
        };
        self.context.metrics.tls_places.add(place);
        Some(link)
    }
}
