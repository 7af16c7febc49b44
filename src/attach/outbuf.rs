//! Bytes that the attach socket has not taken yet.

use crate::sys::socket;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbuf {
    bytes: Vec<u8>,
    /// Sent up to here.
    start: usize,
    /// All bytes that were ever sent.
    sent: u64,
}

impl Outbuf {
    /// The buffer to which frames are appended.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// All bytes that were ever sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends what fits. True if everything is sent.
    pub(super) fn flush(&mut self, socket: &OwnedFd) -> io::Result<bool> {
        while self.start < self.bytes.len() {
            match socket::send(socket, &self.bytes[self.start..]) {
                Ok(len) => {
                    self.start += len;
                    self.sent += len as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Without this, sent bytes would pile up in front of the unsent ones.
                    if self.start > self.bytes.len() / 2 {
                        self.bytes.drain(..self.start);
                        self.start = 0;
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.start = 0;
        if self.bytes.capacity() > 1 << 20 {
            self.bytes = Vec::new();
        }
        Ok(true)
    }
}
