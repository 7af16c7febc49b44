//! The connection to the hub, as the queue sees it.

use super::entry::Entry;
use crate::attach::outbuf::Outbuf;
use crate::attach::wire::VERSION;
use crate::sys::socket;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    /// The socket to the hub, while attached.
    socket: Option<Arc<OwnedFd>>,
    /// The version of the protocol that the hub speaks.
    pub(super) version: u16,
    away_since: Instant,
    /// Frames that are on their way into the socket.
    pub(super) out: Outbuf,
    /// Frames without an answer that are in `out`, each with its end among all bytes that were ever sent. If the hub
    /// goes before the socket has taken one, the frame goes to the next attachment.
    leaving: VecDeque<(u64, Entry)>,
    /// The socket is full: the thread waits for room.
    pub(super) blocked: bool,
    /// The socket takes nothing any more. What can still be read from it is read.
    broken: bool,
}

impl Connection {
    /// No connection yet.
    pub(super) fn new() -> Self {
        Connection {
            socket: None,
            version: VERSION,
            away_since: Instant::now(),
            out: Outbuf::default(),
            leaving: VecDeque::new(),
            blocked: false,
            broken: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// True if the hub has not been reachable for so long.
    pub(super) fn is_away(&self, time: Duration) -> bool {
        self.socket.is_none() && self.away_since.elapsed() >= time
    }

    /// The socket, unless it is full or takes nothing any more.
    pub(super) fn ready(&self) -> Option<&Arc<OwnedFd>> {
        self.socket.as_ref().filter(|_| !self.blocked && !self.broken)
    }

    pub(super) fn wants_room(&self) -> bool {
        self.blocked && !self.broken
    }

    /// The hub is gone.
    pub(super) fn close(&mut self) {
        *self = Connection { version: self.version, ..Connection::new() };
    }

    /// Keeps a frame, the last one in `out`, until the socket has taken it.
    pub(super) fn keep(&mut self, entry: Entry) {
        self.leaving.push_back((self.out.sent() + self.out.len() as u64, entry));
    }

    /// Forgets the frames that the socket has taken. Returns the room that they had in the queue.
    pub(super) fn let_go(&mut self) -> usize {
        let sent = self.out.sent();
        let gone = self.leaving.partition_point(|(end, _)| *end <= sent);
        self.leaving.drain(..gone).map(|(_, entry)| entry.weight()).sum()
    }

    /// Takes out the frames that the socket has not taken.
    pub(super) fn take_unsent(&mut self) -> impl Iterator<Item = Entry> {
        std::mem::take(&mut self.leaving).into_iter().map(|(_, entry)| entry)
    }

    /// Goes on with a hub.
    pub(super) fn open(&mut self, socket: Arc<OwnedFd>, version: u16) {
        (self.socket, self.version) = (Some(socket), version);
    }

    /// Gives this attachment up. The hub may still be there, for example if only memory was short. It must see the end,
    /// too. Then we read what it has answered, see the end, and attach again.
    pub(super) fn break_off(&mut self, socket: &OwnedFd) {
        self.broken = true;
        socket::shutdown_write(socket);
    }
}
