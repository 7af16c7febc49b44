//! New connections: from the library's own listeners, and from the host. From here on they are the same.

use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::log::Level;
use crate::metrics::Reason;
use crate::shard::connection::arrivals::Arrivals;
use crate::shard::connection::conn::{Conn, Flags, Token};
use crate::shard::turn::command::Adopted;
use crate::shard::turn::live_set::LiveSet;
use crate::shard::turn::run;
use crate::shard::Shard;
use crate::sys::encryption::Version;
use crate::sys::epoll::{Epoll, Watch};
use crate::sys::listener::{Listener, Round, REST_MS};
use crate::sys::socket::{self, Probes};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// How many connections one turn takes from a listener, before others get theirs.
const ACCEPTS: usize = 256;
/// How many connections beyond `max_connections` are heard, to be refused in their own way.
const SURPLUS: usize = 64;

/// The sockets that are registered with a shard's epoll: its listeners and its connections.
pub(in crate::shard) struct Registry {
    /// The shard's thread sleeps on it.
    pub(in crate::shard) epoll: Arc<Epoll>,
    entrances: Vec<Entrance>,
    /// The last generation given to a connection.
    pub(in crate::shard) generation: u32,
    /// When they came.
    pub(in crate::shard) arrivals: Arrivals,
}

/// A listener of this shard.
struct Entrance {
    listener: Listener,
    /// Its address, if that is one of the loopback.
    loopback: Option<SocketAddr>,
}

impl Registry {
    /// Watches the descriptor that wakes the shard, and the listeners. `generation`: connections get those after it.
    pub(in crate::shard) fn new(
        wake: &impl AsRawFd,
        listeners: Vec<Arc<OwnedFd>>,
        generation: u32,
    ) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        epoll.add(wake.as_raw_fd(), run::WAKE, Watch::EdgeRead)?;
        let entrance = |(number, fd): (usize, Arc<OwnedFd>)| {
            let loopback = socket::loopback_address(&fd);
            Ok(Entrance { listener: Listener::watch(fd, run::LISTENER + number as u64, &epoll)?, loopback })
        };
        let entrances = listeners.into_iter().enumerate().map(entrance).collect::<io::Result<_>>()?;
        Ok(Registry { epoll, entrances, generation, arrivals: Arrivals::default() })
    }

    /// The next connection of a listener. `None`: the round is over.
    pub(in crate::shard) fn accept(
        &mut self,
        number: usize,
        round: &mut Round,
        now: u64,
    ) -> Option<io::Result<OwnedFd>> {
        self.entrances.get_mut(number)?.listener.next(round, &self.epoll, now)
    }

    /// Watches the socket of a connection that gets this slot now. Returns its token, which no other connection has.
    pub(in crate::shard) fn add(&mut self, index: u32, fd: &OwnedFd, watch: Watch, now: u64) -> io::Result<Token> {
        // A generation is never 0.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let token = Token { index, generation: self.generation };
        self.epoll.add(fd.as_raw_fd(), token.to_bits(), watch)?;
        self.arrivals.note(token.generation, now);
        Ok(token)
    }

    /// Has the epoll tell of room in a connection's socket, even if there is room already.
    pub(in crate::shard) fn ask_for_room(&self, token: Token, fd: &OwnedFd) -> io::Result<()> {
        self.epoll.change(fd.as_raw_fd(), token.to_bits(), Watch::EdgeBoth)
    }

    /// Has the kernel probe the connections that are accepted from now on.
    pub(in crate::shard) fn probe(&self, probes: Probes) {
        self.entrances.iter().for_each(|entrance| socket::set_probes(entrance.listener.fd(), probes));
    }

    /// The addresses of the listeners on the loopback.
    pub(in crate::shard) fn on_loopback(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.entrances.iter().filter_map(|entrance| entrance.loopback)
    }

    /// Wakes listeners that have rested. Returns the errors of those that go on resting.
    pub(in crate::shard) fn resume(&mut self, now: u64) -> impl Iterator<Item = io::Error> + '_ {
        let Registry { epoll, entrances, .. } = self;
        entrances.iter_mut().filter_map(move |entrance| entrance.listener.resume(epoll, now).err())
    }

    /// When the first listener that rests is woken.
    pub(in crate::shard) fn rests_until(&self) -> Option<u64> {
        self.entrances.iter().filter_map(|entrance| entrance.listener.rests_until()).min()
    }

    /// Accepts nothing any more.
    pub(in crate::shard) fn close_listeners(&mut self) {
        self.entrances.drain(..).for_each(|entrance| entrance.listener.leave(&self.epoll));
    }
}

impl Shard {
    /// Accepts connections from a listener. It is watched by level, so the rest is told again.
    pub(in crate::shard) fn accept_from(&mut self, number: usize) {
        let mut round = Round::new(ACCEPTS);
        loop {
            match self.registry.accept(number, &mut round, self.turn.now) {
                Some(Ok(fd)) => self.accepted(fd),
                Some(Err(error)) => {
                    let text = format_args!("accept: {error}; trying again in {REST_MS} ms");
                    return self.context.note_refusal(Level::Warn, Reason::Resources, text);
                }
                None => return,
            }
        }
    }

    pub(in crate::shard) fn accepted(&mut self, fd: OwnedFd) {
        self.handle.metrics.accepted.add(1);
        let max = self.config().max_connections;
        let open = self.context.limits.connections.enter();
        if max > 0 && open >= max + SURPLUS {
            return self.leave_out(&fd, &[], &Refusal::full(), None);
        }
        if let Some(index) = self.enter(fd, &[], None, None) {
            self.conns[index as usize].surplus = (max > 0 && open >= max).then_some(Reason::MaxConnections);
            self.schedule(index, self.config().head_timeout_ms);
            self.check_peer(index, true);
        }
    }

    /// Takes over a connection that the host accepted, with the bytes that the host has read of the request.
    pub(in crate::shard) fn adopt(&mut self, Adopted { fd, head, grant, checked }: Adopted<'_>) {
        self.handle.metrics.adopted.add(1);
        self.do_acts_first();
        if checked.delays {
            socket::set_nodelay(&fd);
        }
        // The host may have set it, on the connection or on its listener. It would hold up all clients of this shard.
        socket::end_in_background(&fd);
        let Some(index) = self.enter(fd, &head, grant.as_deref(), checked.tls) else { return };
        let token = self.token(index);
        let conn = &mut self.conns[index as usize];
        conn.flags.insert(Flags::ADOPTED);
        conn.grant = grant;
        self.schedule(index, self.config().head_timeout_ms);
        // The host has read a PROXY header if there was one.
        self.check_peer(index, false);
        // As if it had just been read.
        let mut scratch = std::mem::take(&mut self.reading.scratch);
        match scratch.get_mut(..head.len()) {
            Some([]) => {}
            Some(bytes) => {
                bytes.copy_from_slice(&head);
                self.received(index, bytes);
            }
            None => self.received(index, &mut head.into_owned()),
        }
        self.recount(index);
        self.reading.scratch = scratch;
        // The host may have read a part of a record. The kernel keeps the rest, and epoll may not tell of it.
        if checked.tls.is_some() && self.find(token).is_some() {
            self.readable(index, false);
        }
    }

    /// Gives a connection, which is counted already, its place and watches it. `head`: the bytes that the host has
    /// read. `tls`: the version, if the kernel encrypts and decrypts for it.
    fn enter(&mut self, fd: OwnedFd, head: &[u8], grant: Option<&Grant>, tls: Option<Version>) -> Option<u32> {
        // A sink that may hold bytes is told of room from the start.
        match self.place(&fd, if tls.is_some() { Watch::EdgeBoth } else { Watch::EdgeRead }) {
            Ok(Token { index, .. }) => {
                #[cfg(feature = "tls")]
                if let Some(version) = tls {
                    self.enter_encrypted(index, fd, version);
                    return Some(index);
                }
                self.conns[index as usize].socket = Some(fd);
                Some(index)
            }
            Err(refusal) => {
                self.leave_out(&fd, head, &refusal, grant);
                None
            }
        }
    }

    /// A place for a connection, and its socket in the epoll. The caller puts the socket or the sink there.
    pub(in crate::shard) fn place(&mut self, fd: &OwnedFd, watch: Watch) -> Result<Token, Refusal> {
        if self.conns.len() >= LiveSet::CAPACITY {
            return Err(Refusal::unavailable("full", "a thread has as many connections as it can have"));
        }
        let entry = self.conns.vacant_entry();
        let token = self.registry.add(entry.key() as u32, fd, watch, self.turn.now).map_err(|error| {
            // fs.epoll.max_user_watches is reached, or memory is out.
            Refusal::unavailable("resources", format!("a connection can't be watched: {error}"))
        })?;
        entry.insert(Conn::new(None, token.generation));
        self.handle.live.enter(token);
        self.handle.metrics.connections.add(1);
        Ok(token)
    }

    /// Has the kernel probe the connections that are accepted from now on.
    pub(in crate::shard) fn probe_listeners(&self) {
        self.registry.probe(self.config().probes());
    }

    /// Wakes listeners that have rested.
    pub(in crate::shard) fn resume_listeners(&mut self) {
        for error in self.registry.resume(self.turn.now) {
            let text = format_args!("a listener can't be watched: {error}; trying again in {REST_MS} ms");
            self.context.note_refusal(Level::Warn, Reason::Resources, text);
        }
    }

    pub(in crate::shard) fn listener_resumes_in(&self) -> Option<u64> {
        Some(self.registry.rests_until()?.saturating_sub(self.turn.now).max(1))
    }
}
