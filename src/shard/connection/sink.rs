//! Where a connection's bytes go and come from.
//!
//! Mostly that is the connection's own socket, which stands in its entry of the slab and needs nothing else. A
//! connection of another kind (TLS in user space, a stream of an HTTP/2 link) has a [`Sink`] in a table beside the
//! slab, by its slot. "Full" and "gone" mean the same for all kinds, so the rest of the shard does not know which kind
//! it is.

use crate::shard::Shard;
use crate::sys::socket;
use rustc_hash::FxHashMap;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::OwnedFd;

/// The peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shard) struct Gone;

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shard) enum Read {
    /// So many bytes came, at least one.
    Bytes(usize),
    /// So many bytes came, perhaps none, and there may be more, though there was room. Only TLS has it.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    Part(usize),
    /// Nothing is there now.
    Nothing,
    /// The call was interrupted. There may be bytes.
    Interrupted,
    /// The peer has ended its side.
    End,
    /// The peer has new keys, and nothing can be read any more. Only TLS in the kernel has it.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    NewKeys,
}

/// What a sink keeps of bytes that have come and can't be read yet, such as a part of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::shard) struct Unfinished {
    pub(in crate::shard) bytes: usize,
    /// When the first of them came (monotonic milliseconds).
    pub(in crate::shard) since: Option<u64>,
}

/// A kind of connection that is not the plain socket. It has no task and no timer of its own: the shard calls it when
/// its descriptor is ready or when there is something to write.
///
/// `scratch` is lent for the length of a call and shared by all sinks of the shard. A sink encrypts into it, for
/// example, and so needs no buffer while it is idle.
pub(in crate::shard) trait Sink: fmt::Debug + Send {
    /// Takes bytes for the peer; says how many. Fewer than there are: it is full, and its readiness tells when it has
    /// room again.
    fn write(&mut self, slices: &[IoSlice<'_>], scratch: &mut Vec<u8>) -> Result<usize, Gone>;
    /// Passes on bytes that it has taken and still holds. Returns whether it holds none now. A sink that may hold bytes
    /// is watched for room from its start, since no outbox waits for them.
    fn flush(&mut self, scratch: &mut Vec<u8>) -> Result<bool, Gone>;
    /// How many bytes it holds of those that it has taken.
    fn held(&self) -> usize {
        0
    }
    /// What it keeps of bytes that have come.
    fn kept(&self) -> Unfinished {
        Unfinished::default()
    }
    /// Gives what it keeps its time anew, since the client was not read from.
    fn give_time(&mut self, _now_ms: u64) {}
    /// Reads bytes of the peer's.
    fn read(&mut self, into: &mut [u8], scratch: &mut Vec<u8>) -> Result<Read, Gone>;
    /// Tells the peer that no more bytes come after those that were taken.
    fn end_writing(&mut self, scratch: &mut Vec<u8>);
    /// Ends both directions.
    fn end(&mut self, scratch: &mut Vec<u8>);
    /// Whether its keys have been used so often that the connection should end.
    fn is_worn(&self) -> bool {
        false
    }
    /// Why the peer must go, if it has not kept to the rules.
    fn failure(&self) -> Option<String> {
        None
    }
    /// The descriptor that the shard's epoll watches. A sink without one calls for the shard's attention by other
    /// means.
    fn socket(&self) -> Option<&OwnedFd>;
}

/// The sinks of a shard that are not plain sockets.
#[derive(Debug, Default)]
pub(in crate::shard) struct Sinks {
    others: FxHashMap<u32, Box<dyn Sink>>,
    scratch: Vec<u8>,
}

impl Sinks {
    /// Gives a connection without a socket in its entry its sink.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(in crate::shard) fn insert(&mut self, index: u32, sink: Box<dyn Sink>) {
        self.others.insert(index, sink);
    }

    /// Writes as much as fits. `own` is the socket in the connection's entry. Returns the number of bytes.
    #[inline]
    pub(in crate::shard) fn write(&mut self, index: u32, own: Option<&OwnedFd>, bytes: &[u8]) -> Result<usize, Gone> {
        match own {
            Some(fd) => sent(socket::send(fd, bytes)),
            None => self.write_other(index, &[IoSlice::new(bytes)]),
        }
    }

    /// The same for bytes in several places, in one call.
    #[inline]
    pub(in crate::shard) fn write_several(
        &mut self,
        index: u32,
        own: Option<&OwnedFd>,
        slices: &[IoSlice<'_>],
    ) -> Result<usize, Gone> {
        match own {
            Some(fd) => sent(socket::send_vectored(fd, slices)),
            None => self.write_other(index, slices),
        }
    }

    #[cold]
    fn write_other(&mut self, index: u32, slices: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let Self { others, scratch } = self;
        others.get_mut(&index).ok_or(Gone)?.write(slices, scratch)
    }

    /// A connection has room. Returns whether its sink holds no bytes now.
    pub(in crate::shard) fn flush(&mut self, index: u32, own: Option<&OwnedFd>) -> Result<bool, Gone> {
        match own {
            // The kernel passes on the bytes that a socket has taken.
            Some(_) => Ok(true),
            None => {
                let Self { others, scratch } = self;
                others.get_mut(&index).ok_or(Gone)?.flush(scratch)
            }
        }
    }

    /// How many bytes the sink of a connection holds of those that it has taken.
    pub(in crate::shard) fn held(&self, index: u32, own: Option<&OwnedFd>) -> usize {
        match own {
            Some(_) => 0,
            None => self.others.get(&index).map_or(0, |sink| sink.held()),
        }
    }

    /// What the sink of a connection keeps of bytes that have come.
    #[inline]
    pub(in crate::shard) fn kept(&self, index: u32, own: Option<&OwnedFd>) -> Unfinished {
        match own {
            Some(_) => Unfinished::default(),
            None => self.others.get(&index).map_or_else(Unfinished::default, |sink| sink.kept()),
        }
    }

    /// Gives what the sink of a connection keeps its time anew.
    pub(in crate::shard) fn give_time(&mut self, index: u32, now_ms: u64) {
        self.others.get_mut(&index).into_iter().for_each(|sink| sink.give_time(now_ms));
    }

    #[inline]
    pub(in crate::shard) fn read(&mut self, index: u32, own: Option<&OwnedFd>, into: &mut [u8]) -> Result<Read, Gone> {
        match own {
            Some(fd) => came(socket::recv(fd, into)),
            None => {
                let Self { others, scratch } = self;
                others.get_mut(&index).ok_or(Gone)?.read(into, scratch)
            }
        }
    }

    /// Tells the peer that no more bytes come.
    pub(in crate::shard) fn end_writing(&mut self, index: u32, own: Option<&OwnedFd>) {
        match own {
            Some(fd) => socket::shutdown_write(fd),
            None => {
                let Self { others, scratch } = self;
                others.get_mut(&index).into_iter().for_each(|sink| sink.end_writing(scratch));
            }
        }
    }

    /// Ends a connection in both directions, and forgets its sink.
    pub(in crate::shard) fn end(&mut self, index: u32, own: Option<&OwnedFd>) {
        match own {
            // A forked child may hold the descriptor too; closing ours alone would not end the connection.
            Some(fd) => socket::shutdown_both(fd),
            None => {
                let Self { others, scratch } = self;
                others.remove(&index).into_iter().for_each(|mut sink| sink.end(scratch));
                // A crowd that was here must not keep its room for ever.
                if others.capacity() > 1024 && others.len() * 8 < others.capacity() {
                    others.shrink_to(others.len() * 2);
                }
            }
        }
    }

    /// Why a connection must end: its peer broke the rules of its protocol, for example of TLS. `None` if it did not.
    pub(in crate::shard) fn failure(&self, index: u32) -> Option<String> {
        self.others.get(&index)?.failure()
    }

    /// Whether a connection should end because its keys have been used too often.
    pub(in crate::shard) fn is_worn(&self, index: u32, own: Option<&OwnedFd>) -> bool {
        own.is_none() && self.others.get(&index).is_some_and(|sink| sink.is_worn())
    }

    /// The descriptor that is watched for a connection.
    pub(in crate::shard) fn socket<'s>(&'s self, index: u32, own: Option<&'s OwnedFd>) -> Option<&'s OwnedFd> {
        own.or_else(|| self.others.get(&index)?.socket())
    }
}

impl Shard {
    /// The socket below a connection, if there is one.
    pub(in crate::shard) fn socket_of(&self, index: u32) -> Option<&OwnedFd> {
        self.side.sinks.socket(index, self.conns.get(index as usize)?.socket.as_ref())
    }
}

fn sent(result: io::Result<usize>) -> Result<usize, Gone> {
    match result {
        Ok(written) => Ok(written),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        // ENOBUFS and ENOMEM pass; but edge-triggered readiness would never tell when.
        Err(_) => Err(Gone),
    }
}

fn came(result: io::Result<usize>) -> Result<Read, Gone> {
    match result {
        Ok(0) => Ok(Read::End),
        Ok(len) => Ok(Read::Bytes(len)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Read::Nothing),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Read::Interrupted),
        Err(_) => Err(Gone),
    }
}
