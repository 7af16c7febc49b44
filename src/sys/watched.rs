//! Descriptors that tokio watches.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// A descriptor that stays open as long as this does.
#[derive(Debug)]
pub(crate) struct Open(Arc<OwnedFd>);

impl AsRawFd for Open {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Open {
    /// The descriptor.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

/// Makes the current runtime watch a descriptor.
pub(crate) fn watch(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Open>> {
    // SAFETY: `Open` owns a share of the descriptor and always returns the same one. The AsyncFd holds the `Open`. So
    // the descriptor stays open and the same until the AsyncFd has removed it from the runtime's epoll.
    unsafe { AsyncFd::register_with_interest(Open(fd), interest) }.map_err(io::Error::from)
}
