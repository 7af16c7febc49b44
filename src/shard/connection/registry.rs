//! The sockets that are registered with a shard's epoll: its listeners and its connections.

use crate::shard::connection::conn::Token;
use crate::shard::turn::run;
use crate::sys::epoll::{Epoll, Watch};
use crate::sys::listener::{Listener, Round};
use crate::sys::socket::{self, Probes};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// See the module.
pub(in crate::shard) struct Registry {
    /// The shard's thread sleeps on it.
    pub(in crate::shard) epoll: Arc<Epoll>,
    entrances: Vec<Entrance>,
    /// The last generation given to a connection.
    pub(in crate::shard) generation: u32,
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
        Ok(Registry { epoll, entrances, generation })
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

    /// Watches the socket of a connection that gets this slot. Returns its token, which no other connection has.
    pub(in crate::shard) fn add(&mut self, index: u32, fd: &OwnedFd, watch: Watch) -> io::Result<Token> {
        // A generation is never 0.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let token = Token { index, generation: self.generation };
        self.epoll.add(fd.as_raw_fd(), token.to_bits(), watch)?;
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
