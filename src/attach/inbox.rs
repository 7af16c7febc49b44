//! What has come over the attach socket and is not worked off: bytes, and the descriptors that came with them.

use super::wire::{self, Malformed};
use crate::sys::passing;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

/// One read takes at most this much, unless a larger frame is under way.
const READ: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// Worked off up to here.
    start: usize,
    /// Read up to here.
    end: usize,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Reads what is there, once; 0 is the end of the stream.
    pub(super) fn read(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            // A large frame's room is given back.
            if self.bytes.len() > 16 * READ {
                self.bytes = Vec::new();
            }
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // Room grows with what has really come, not with what a length promises. New pages come zeroed from the system,
        // and only when they are written to: who connects and is silent costs none.
        if self.bytes.len() - self.end < READ {
            let mut larger = vec![0; (self.end * 2).max(self.end + READ)];
            larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
            self.bytes = larger;
        }
        let len = passing::recv_with(socket, &mut self.bytes[self.end..], &mut self.fds)?;
        self.end += len;
        Ok(len)
    }

    /// The first frame, if it is whole.
    pub(super) fn frame(&self, max: usize) -> Result<Option<&[u8]>, Malformed> {
        wire::first_frame(&self.bytes[self.start..self.end], max)
    }

    /// The first frame is done with.
    pub(super) fn drop_frame(&mut self, len: usize) {
        self.start += len;
    }

    /// The next descriptor.
    pub(super) fn next_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Whether descriptors have come, to whom nobody passes any.
    pub(super) fn has_fds(&self) -> bool {
        !self.fds.is_empty()
    }

    /// Descriptors that no frame has spoken of yet. Only those of one call may be ahead of their frames.
    pub(super) fn too_many_fds(&self) -> bool {
        self.fds.len() > passing::MAX_PASSED
    }
}
