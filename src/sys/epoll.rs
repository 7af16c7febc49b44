//! An epoll instance of a shard (epoll(7)).

use super::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An event of epoll. Its token may be stale: the caller checks that.
pub(crate) use libc::epoll_event as Event;

/// How a descriptor is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Watch {
    /// For reads and writes, edge-triggered: a subscriber's socket that has been full at least once.
    EdgeBoth,
    /// For reads, edge-triggered: a subscriber's socket, or the wake-up. Writes are left out because every new socket
    /// has room, and each would cause an event that nobody needs.
    EdgeRead,
    /// For reads, level-triggered, and not reported to all of several epolls (EPOLLEXCLUSIVE): a listener.
    SharedRead,
}

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers. The result is a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Epoll { fd })
    }

    /// Watches `fd` until it is closed.
    pub(crate) fn add(&self, fd: RawFd, token: u64, watch: Watch) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, watch)
    }

    /// Changes how `fd` is watched. Whatever it is ready for at that moment is reported, even if it was reported
    /// before.
    pub(crate) fn change(&self, fd: RawFd, token: u64, watch: Watch) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, watch)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u64, watch: Watch) -> io::Result<()> {
        let flags = match watch {
            Watch::EdgeBoth => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
            Watch::EdgeRead => libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET,
            Watch::SharedRead => libc::EPOLLIN | libc::EPOLLEXCLUSIVE,
        };
        let mut event = Event { events: flags as u32, u64: token };
        // SAFETY: `event` lives through the call, which copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }

    /// Stops watching a descriptor that stays open.
    pub(crate) fn remove(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: the event pointer is not used for a removal (since Linux 2.6.9).
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) })?;
        Ok(())
    }

    /// Waits for events for at most `timeout_ms` (`None`: for ever), and takes at most `events.len()` of them.
    pub(crate) fn wait(&self, events: &mut [Event], timeout_ms: Option<u64>) -> io::Result<usize> {
        let room = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
        let timeout = timeout_ms.map_or(-1, |ms| libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX));
        // SAFETY: `events` has room for `room` events.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), room, timeout) };
        match check(count) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// The meaning of an event.
pub(crate) trait Readiness {
    /// Bytes, an end of stream, or an error wait to be read.
    fn readable(&self) -> bool;
    /// The peer has ended its side, or the connection is broken. This is reported once, so the reader must go on to the
    /// end of the stream.
    fn ended(&self) -> bool;
    /// There is room to write again.
    fn writable(&self) -> bool;
}

impl Readiness for Event {
    fn readable(&self) -> bool {
        let any = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
        self.events & any as u32 != 0
    }

    fn ended(&self) -> bool {
        self.events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }

    fn writable(&self) -> bool {
        self.events & libc::EPOLLOUT as u32 != 0
    }
}
