//! eventfd(2): a counter that wakes the thread that watches it.

use super::{check, check_len};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A wake-up. Any thread may signal it, and signalling never blocks.
#[derive(Debug)]
pub(crate) struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers. The result is a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?) };
        Ok(EventFd { fd })
    }

    /// Makes the descriptor readable. If it is watched edge-triggered, each call is one wake-up, and nobody needs to
    /// clear it: the counter has room for 2^64 - 2 calls.
    pub(crate) fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the call reads eight bytes, as eventfd(2) asks, and `one` has them.
        let write = || check_len(unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), 8) });
        // The only other error is a full counter, and then the descriptor is readable anyhow.
        while write().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
    }

    /// Makes the descriptor unreadable. Level-triggered watchers need this.
    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: `count` has room for eight bytes, as eventfd(2) asks. EAGAIN says that the counter was 0 already.
        let _ = check_len(unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), 8) });
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
