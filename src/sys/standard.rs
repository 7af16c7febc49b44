//! The numbers of standard input, output and error.
//!
//! Where a host has closed them, the next descriptor that anybody opens gets one of these numbers. A client's socket
//! with the number 1 would be sent what the host prints; an epoll with it would be lost when the host opens its
//! standard output again.

use super::eventfd::EventFd;
use std::os::fd::{AsRawFd, OwnedFd};

/// The last of them.
const LAST: i32 = libc::STDERR_FILENO;

/// The same open file with a number that is none of theirs. Where there is no room for another, it stays what it is:
/// better than a client turned away.
pub(crate) fn above(fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() > LAST {
        return fd;
    }
    // std duplicates to 3 and above, closed on exec.
    fd.try_clone().unwrap_or(fd)
}

/// Takes those of the numbers that are free, until it is dropped: what is opened meanwhile, also by others, gets none
/// of them.
pub(crate) fn hold() -> Vec<EventFd> {
    let mut held = Vec::new();
    // Without descriptors there is nothing that could get one of these numbers either.
    while let Ok(fd) = EventFd::new() {
        if fd.as_raw_fd() > LAST {
            break;
        }
        held.push(fd);
    }
    held
}
