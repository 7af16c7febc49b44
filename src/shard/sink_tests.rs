//! Kinds of sinks for tests: one that only records, and one that stands between the shard and a socket as TLS would.

use super::Shard;
use crate::shard::connection::conn::{Flags, Token};
use crate::shard::connection::sink::{Gone, Read, Sink};
use crate::sys::epoll::Watch;
use crate::sys::socket;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// Takes as much as there is room for, and keeps it. Clones are the same sink.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) bytes: Vec<u8>,
    pub(super) room: usize,
    pub(super) gone: bool,
}

impl Recorder {
    /// Does something with what was recorded.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Recorded) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }
}

impl Sink for Recorder {
    fn write(&mut self, slices: &[IoSlice<'_>], _: &mut Vec<u8>) -> Result<usize, Gone> {
        self.with(|recorded| {
            if recorded.gone {
                return Err(Gone);
            }
            let mut written = 0;
            for slice in slices {
                let take = slice.len().min(recorded.room);
                recorded.bytes.extend_from_slice(&slice[..take]);
                recorded.room -= take;
                written += take;
            }
            Ok(written)
        })
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<bool, Gone> {
        Ok(true)
    }

    fn read(&mut self, _: &mut [u8], _: &mut Vec<u8>) -> Result<Read, Gone> {
        Ok(Read::Nothing)
    }

    fn end_writing(&mut self, _: &mut Vec<u8>) {}

    fn end(&mut self, _: &mut Vec<u8>) {}

    fn socket(&self) -> Option<&OwnedFd> {
        None
    }
}

/// Makes records of at most this many bytes.
const RECORD: usize = 1000;
const MASK: u8 = 0x5a;

/// Masks the bytes in both directions, in records: one that was begun must be sent to its end before the next begins.
#[derive(Debug)]
pub(super) struct Masked {
    fd: OwnedFd,
    /// The rest of a record that the socket did not take.
    held: Vec<u8>,
    ends: bool,
}

impl Masked {
    fn send(&mut self) -> Result<(), Gone> {
        while !self.held.is_empty() {
            match socket::send(&self.fd, &self.held) {
                Ok(sent) => drop(self.held.drain(..sent)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Gone),
            }
        }
        if self.ends {
            socket::shutdown_write(&self.fd);
        }
        Ok(())
    }
}

impl Sink for Masked {
    fn write(&mut self, slices: &[IoSlice<'_>], scratch: &mut Vec<u8>) -> Result<usize, Gone> {
        scratch.clear();
        scratch.extend(slices.iter().flat_map(|slice| slice.iter().map(|byte| byte ^ MASK)));
        let mut taken = 0;
        for record in scratch.chunks(RECORD) {
            self.send()?;
            if !self.held.is_empty() {
                break;
            }
            self.held.extend_from_slice(record);
            taken += record.len();
        }
        self.send()?;
        Ok(taken)
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<bool, Gone> {
        self.send()?;
        Ok(self.held.is_empty())
    }

    fn held(&self) -> usize {
        self.held.len()
    }

    fn read(&mut self, into: &mut [u8], _: &mut Vec<u8>) -> Result<Read, Gone> {
        match socket::recv(&self.fd, into) {
            Ok(0) => Ok(Read::End),
            Ok(len) => {
                mask(&mut into[..len], true);
                Ok(Read::Bytes(len))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(Read::Nothing),
            Err(_) => Err(Gone),
        }
    }

    fn end_writing(&mut self, _: &mut Vec<u8>) {
        self.ends = true;
        if self.held.is_empty() {
            socket::shutdown_write(&self.fd);
        }
    }

    fn end(&mut self, _: &mut Vec<u8>) {
        socket::shutdown_both(&self.fd);
    }

    fn socket(&self) -> Option<&OwnedFd> {
        Some(&self.fd)
    }
}

/// Masks the bytes of a client with such a sink, or takes the mask off again.
pub(super) fn mask(bytes: &mut [u8], masked: bool) {
    bytes.iter_mut().filter(|_| masked).for_each(|byte| *byte ^= MASK);
}

/// Takes the newest connection's socket out of its entry, for a sink of another kind.
pub(super) fn take_socket(shard: &mut Shard) -> (Token, OwnedFd) {
    let newest = shard.conns.iter_mut().find(|(_, conn)| conn.generation == shard.registry.generation);
    let (index, conn) = newest.unwrap();
    let fd = conn.socket.take().unwrap();
    // It may hold something while no outbox waits, so it is told of room from the start.
    conn.flags.insert(Flags::WRITES_WATCHED);
    let token = Token { index: index as u32, generation: conn.generation };
    shard.registry.epoll.change(fd.as_raw_fd(), token.to_bits(), Watch::EdgeBoth).unwrap();
    (token, fd)
}

/// Puts a [`Masked`] sink in the place of the newest connection's socket.
pub(super) fn put_masked(shard: &mut Shard) {
    let (token, fd) = take_socket(shard);
    shard.side.sinks.insert(token.index, Box::new(Masked { fd, held: Vec::new(), ends: false }));
}
