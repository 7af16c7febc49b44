//! Bytes that came over the attach socket and are not processed yet, and the descriptors that came with them.

use super::wire::{self, Malformed};
use crate::sys::passing;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

/// The size of one read, unless a larger frame is incomplete.
const READ: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// Processed up to here.
    start: usize,
    /// Read up to here.
    end: usize,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Reads once. Returns 0 at the end of the stream.
    pub(super) fn read(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            // The memory that a large frame took is given back.
            if self.bytes.len() > 16 * READ {
                self.bytes = Vec::new();
            }
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // The buffer grows with the bytes that have come, not with the length that a frame claims. The system gives new
        // pages zeroed, and only when they are written to. So a peer that connects and is silent costs no memory.
        if self.bytes.len() - self.end < READ {
            let mut larger = vec![0; (self.end * 2).max(self.end + READ)];
            larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
            self.bytes = larger;
        }
        let len = passing::recv_with(socket, &mut self.bytes[self.end..], &mut self.fds)?;
        self.end += len;
        Ok(len)
    }

    /// The first frame, if it is complete.
    pub(super) fn frame(&self, max: usize) -> Result<Option<&[u8]>, Malformed> {
        wire::first_frame(&self.bytes[self.start..self.end], max)
    }

    /// Removes the first frame, which is processed.
    pub(super) fn drop_frame(&mut self, len: usize) {
        self.start += len;
    }

    /// The next descriptor.
    pub(super) fn next_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// True if descriptors have come. A host uses this, since a hub passes none.
    pub(super) fn has_fds(&self) -> bool {
        !self.fds.is_empty()
    }

    /// True if more descriptors wait for their frames than one call can pass. No more than those may be ahead of their
    /// frames.
    pub(super) fn too_many_fds(&self) -> bool {
        self.fds.len() > passing::MAX_PASSED
    }
}
