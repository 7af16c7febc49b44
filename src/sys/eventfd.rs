//! eventfd(2): a counter that wakes who watches it.

use super::{check, check_len};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A wake-up. Signalling never blocks and may be done by any thread.
#[derive(Debug)]
pub(crate) struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?) };
        Ok(EventFd { fd })
    }

    /// Makes it readable. Watched edge-triggered, each call is one wake-up; it need never be cleared then, since
    /// the counter has room for 2^64 - 2 calls.
    pub(crate) fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes, as eventfd(2) asks.
        let write = || check_len(unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), 8) });
        // The only other error is a full counter, which is readable anyhow.
        while write().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
    }

    /// Makes it unreadable, for those who watch it level-triggered.
    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: room for eight bytes, as eventfd(2) asks. EAGAIN says that it was clear.
        let _ = check_len(unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), 8) });
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
