//! A listening socket in an epoll: accepting from it, and leaving it alone for a moment when that fails.

use super::epoll::{Epoll, Watch};
use super::socket;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// How long a listener rests when the process is out of descriptors, or may not accept.
pub(crate) const REST_MS: u64 = 200;

/// A listening socket. A Unix socket's is shared by all threads that accept from it.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: Arc<OwnedFd>,
    /// Its token in the epoll.
    token: u64,
    /// Set while it rests: until when.
    rests_until: Option<u64>,
}

/// One turn's connections of a listener. It is watched by level, so what is left is reported again.
#[derive(Debug)]
pub(crate) struct Round {
    left: usize,
    /// Each call has failed so far.
    only_failures: bool,
}

impl Round {
    /// Takes at most `most` connections, before others have their turn.
    pub(crate) fn new(most: usize) -> Self {
        Round { left: most, only_failures: true }
    }
}

impl Listener {
    /// Watches a listening socket.
    pub(crate) fn watch(fd: Arc<OwnedFd>, token: u64, epoll: &Epoll) -> io::Result<Self> {
        epoll.add(fd.as_raw_fd(), token, Watch::SharedRead)?;
        Ok(Listener { fd, token, rests_until: None })
    }

    /// The next connection of a round. `None`: the round is over. An error: nothing can be accepted at the moment, and
    /// the listener rests. Otherwise its readiness would make the thread spin.
    pub(crate) fn next(&mut self, round: &mut Round, epoll: &Epoll, now: u64) -> Option<io::Result<OwnedFd>> {
        while round.left > 0 {
            round.left -= 1;
            let error = match socket::accept(&self.fd) {
                Ok(fd) => {
                    round.only_failures = false;
                    return Some(Ok(fd));
                }
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => return None,
                // It was shut down: the server is about to stop.
                io::ErrorKind::InvalidInput => {
                    self.leave(epoll);
                    return None;
                }
                _ if socket::out_of_resources(&error) || round.left == 0 && round.only_failures => {
                    self.rest(epoll, now);
                    return Some(Err(error));
                }
                // The client was gone before we came, or the network reported an error (accept(2)). If all calls of a
                // round fail, the system does not let us accept (seccomp).
                _ => {}
            }
        }
        None
    }

    /// Leaves it alone for a moment.
    pub(crate) fn rest(&mut self, epoll: &Epoll, now: u64) {
        self.leave(epoll);
        self.rests_until = Some(now + REST_MS);
    }

    /// Watches it again if it has rested. If that fails, it goes on resting.
    pub(crate) fn resume(&mut self, epoll: &Epoll, now: u64) -> io::Result<()> {
        if self.rests_until.is_some_and(|until| now >= until) {
            let added = epoll.add(self.fd.as_raw_fd(), self.token, Watch::SharedRead);
            self.rests_until = added.is_err().then_some(now + REST_MS);
            added?;
        }
        Ok(())
    }

    /// Accepts nothing any more.
    pub(crate) fn leave(&self, epoll: &Epoll) {
        let _ = epoll.remove(self.fd.as_raw_fd());
    }

    /// The time at which it is watched again. `None` if it does not rest.
    pub(crate) fn rests_until(&self) -> Option<u64> {
        self.rests_until
    }

    /// The socket.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::panic_tests::common::until;
    use crate::sys::epoll::Event;
    use std::net::{TcpListener, TcpStream};

    /// The number of clients that a listener may accept.
    fn waiting(listener: &OwnedFd) -> u32 {
        let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: all-zero is a valid tcp_info; the kernel fills in what it has, at most `len` bytes.
        let info = unsafe {
            let mut info: libc::tcp_info = std::mem::zeroed();
            let fd = listener.as_raw_fd();
            let got = libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len);
            assert_eq!(got, 0);
            info
        };
        // A listener has the number here, since it sends nothing itself.
        info.tcpi_unacked
    }

    struct World {
        epoll: Epoll,
        listener: Listener,
        clients: Vec<TcpStream>,
    }

    impl World {
        fn new(clients: usize) -> Self {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let address = socket.local_addr().unwrap();
            let epoll = Epoll::new().unwrap();
            let listener = Listener::watch(Arc::new(socket.into()), 7, &epoll).unwrap();
            let clients: Vec<_> = (0..clients).map(|_| TcpStream::connect(address).unwrap()).collect();
            // A client may be connected before the listener has heard of it.
            until("they do not come", || waiting(listener.fd()) as usize == clients.len());
            World { epoll, listener, clients }
        }

        fn is_ready(&self) -> bool {
            let mut events = [Event { events: 0, u64: 0 }; 2];
            self.epoll.wait(&mut events, Some(0)).unwrap() > 0
        }

        fn accepted(&mut self, most: usize) -> usize {
            let mut round = Round::new(most);
            std::iter::from_fn(|| self.listener.next(&mut round, &self.epoll, 0)).map(Result::unwrap).count()
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_round_takes_at_most_its_number_and_the_rest_is_reported_again() {
        let mut world = World::new(3);
        assert_eq!(world.accepted(2), 2);
        assert!(world.is_ready());
        assert_eq!(world.accepted(2), 1);
        assert!(!world.is_ready());
        assert_eq!(world.clients.len(), 3);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_listener_that_rests_is_quiet_until_its_time_is_over() {
        let mut world = World::new(1);
        world.listener.rest(&world.epoll, 1000);
        assert_eq!(world.listener.rests_until(), Some(1000 + REST_MS));
        world.listener.resume(&world.epoll, 1000 + REST_MS - 1).unwrap();
        assert!(!world.is_ready());
        world.listener.resume(&world.epoll, 1000 + REST_MS).unwrap();
        assert!(world.is_ready());
        assert_eq!(world.listener.rests_until(), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_listener_that_was_shut_down_is_left() {
        let mut world = World::new(1);
        socket::shutdown_both(world.listener.fd());
        assert!(world.is_ready(), "epoll says so");
        assert_eq!(world.accepted(9), 0);
        assert!(!world.is_ready(), "the thread would spin");
    }
}
