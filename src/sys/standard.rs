//! The numbers of standard input, output and error.
//!
//! If a host has closed them, the next descriptor that anybody opens gets one of these numbers. A client whose socket
//! has the number 1 would receive the host's output. An epoll with the number 1 would be lost when the host opens its
//! standard output again.

use super::eventfd::EventFd;
use std::os::fd::{AsRawFd, OwnedFd};

/// The highest of these numbers.
const LAST: i32 = libc::STDERR_FILENO;

/// The same open file under a number above these. If no other descriptor can be had, it keeps its number: that is
/// better than refusing a client.
pub(crate) fn above(fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() > LAST {
        return fd;
    }
    // std duplicates to 3 and above, and sets close-on-exec.
    fd.try_clone().unwrap_or(fd)
}

/// Occupies those of these numbers that are free, until the result is dropped. Nothing that is opened meanwhile, by us
/// or by others, gets one of them.
pub(crate) fn hold() -> Vec<EventFd> {
    let mut held = Vec::new();
    // If there are no descriptors left, nothing else can get one of these numbers either.
    while let Ok(fd) = EventFd::new() {
        if fd.as_raw_fd() > LAST {
            break;
        }
        held.push(fd);
    }
    held
}
