//! Writing to one connection: now, if nothing waits before it; else through its outbox.

use crate::config::Config;
use crate::dialect::Encoder;
use crate::shard::connection::conn::{Conn, Flags, Phase, Token};
use crate::shard::connection::sink::{Gone, Sinks};
use crate::shard::delivery::fan_out::Fate;
use crate::shard::delivery::outbox::{Outbox, Piece, Wire, MAX_PIECES};
use crate::shard::turn::command::ShardHandle;
use crate::shard::Shard;
use bytes::Bytes;
use std::io::IoSlice;
use std::sync::Arc;

/// How many parts of a replay one connection gets in a turn.
const PARTS: usize = 2;

/// The rest after a connection's outbox was written.
enum Left {
    /// Nothing.
    Nothing,
    /// Pieces that the socket did not take.
    Pieces,
    /// No pieces, but history that the connection has still to catch up with.
    History,
    /// It has no outbox, or has itself ended.
    NoOutbox,
    /// The peer is gone.
    NoPeer,
}

impl Conn {
    pub(in crate::shard) fn wire<'e>(&self, encoder: &'e Encoder) -> Wire<'e> {
        Wire { format: self.format, chunks: self.is(Flags::CHUNKS), encoder }
    }

    /// Writes pieces, and queues the rest that does not fit. Returns the number of bytes written.
    pub(in crate::shard) fn transmit(
        &mut self,
        pieces: &[Piece],
        index: u32,
        sinks: &mut Sinks,
        encoder: &Encoder,
        handle: &Arc<ShardHandle>,
    ) -> Result<usize, Gone> {
        let wire = self.wire(encoder);
        if let Some(outbox) = &mut self.outbox {
            pieces.iter().for_each(|piece| outbox.push(piece.clone(), &wire));
            return Ok(0);
        }
        let written = match pieces {
            // Mostly it is one that fits: no list is made of it.
            [piece] => {
                let bytes = piece.bytes(&wire);
                let written = sinks.write(index, self.socket.as_ref(), bytes)?;
                if written == bytes.len() {
                    return Ok(written);
                }
                written
            }
            several => self.write_several(several, index, sinks, &wire)?,
        };
        self.queue_rest(pieces, written, &wire, handle);
        Ok(written)
    }

    /// Writes pieces while all of them fit; says how many bytes fitted.
    fn write_several(&self, pieces: &[Piece], index: u32, sinks: &mut Sinks, wire: &Wire<'_>) -> Result<usize, Gone> {
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        let mut total = 0;
        for group in pieces.chunks(MAX_PIECES) {
            let mut asked = 0;
            for (slice, piece) in slices.iter_mut().zip(group) {
                let bytes = piece.bytes(wire);
                asked += bytes.len();
                *slice = IoSlice::new(bytes);
            }
            let written = sinks.write_several(index, self.socket.as_ref(), &slices[..group.len()])?;
            total += written;
            if written < asked {
                break;
            }
        }
        Ok(total)
    }

    /// The same for bytes, which become a piece only where they have to wait.
    fn transmit_bytes(
        &mut self,
        bytes: impl AsRef<[u8]> + Into<Bytes>,
        index: u32,
        sinks: &mut Sinks,
        encoder: &Encoder,
        handle: &Arc<ShardHandle>,
    ) -> Result<usize, Gone> {
        let written = match self.outbox {
            Some(_) => 0,
            None => sinks.write(index, self.socket.as_ref(), bytes.as_ref())?,
        };
        if written < bytes.as_ref().len() {
            self.queue_rest(&[Piece::Bytes(bytes.into())], written, &self.wire(encoder), handle);
        }
        Ok(written)
    }

    /// Puts the unwritten rest of pieces into the outbox, if there is any.
    fn queue_rest(&mut self, pieces: &[Piece], written: usize, wire: &Wire<'_>, handle: &Arc<ShardHandle>) {
        let all: usize = pieces.iter().map(|piece| piece.bytes(wire).len()).sum();
        if written < all {
            self.outbox.get_or_insert_with(|| Outbox::new(handle)).push_rest(pieces, written, wire);
        }
    }

    /// Whether more waits than may. A single message is never too much, or its client could never get it.
    pub(in crate::shard) fn too_slow(&self, pieces: usize, limit: usize) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.weight() > limit && (pieces > 1 || outbox.len() > 1))
    }
}

/// The bounds of outboxes.
#[derive(Debug, Clone, Copy)]
pub(in crate::shard) struct Bounds {
    /// For one client: the option `outbox`.
    pub(in crate::shard) outbox: usize,
    /// For all clients of a shard: its part of the option `outbox_total`.
    pub(in crate::shard) all: usize,
}

impl Bounds {
    pub(in crate::shard) fn new(config: &Config, shards: usize) -> Self {
        Bounds { outbox: config.outbox, all: config.outbox_total / shards }
    }

    /// The bound of one client now: its own, or the rest of the common one if that is less.
    /// So the client with the most waiting gives way first, and the others still have room (Choudhury and Hahne,
    /// "Dynamic Queue Length Thresholds for Context-Memory Packet Switches", 1998).
    pub(in crate::shard) fn of_one(self, handle: &ShardHandle) -> usize {
        self.outbox.min(self.all.saturating_sub(handle.metrics.outbox_bytes.get() as usize))
    }
}

impl Shard {
    /// The number of bytes of missed messages that are read for a client at once.
    pub(in crate::shard) fn replay_limit(&self) -> usize {
        // With less the client would hardly get ahead. More is read only for a client that reads.
        const LEAST: usize = 16 * 1024;
        let least = LEAST.min(self.config().outbox);
        self.outbox_limit().max(least)
    }

    /// The bound of one client's outbox now.
    pub(in crate::shard) fn outbox_limit(&self) -> usize {
        Bounds::new(&self.config, self.context.shards).of_one(&self.handle)
    }

    /// Writes bytes to a connection, behind its outbox.
    pub(in crate::shard) fn transmit_bytes(&mut self, index: u32, bytes: impl AsRef<[u8]> + Into<Bytes>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let outcome = conn.transmit_bytes(bytes, index, &mut self.side.sinks, &self.encoder, &self.handle);
        self.transmitted(index, outcome);
    }

    /// Writes pieces to a connection, behind its outbox.
    pub(in crate::shard) fn transmit(&mut self, index: u32, pieces: &[Piece]) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let outcome = conn.transmit(pieces, index, &mut self.side.sinks, &self.encoder, &self.handle);
        self.transmitted(index, outcome);
    }

    fn transmitted(&mut self, index: u32, outcome: Result<usize, Gone>) {
        match outcome {
            Ok(written) => self.handle.metrics.bytes_sent.add(written as u64),
            Err(Gone) => return self.lost(index),
        }
        self.await_room(index);
    }

    /// Has the epoll tell when there is room, if something waits in the outbox.
    pub(in crate::shard) fn await_room(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.outbox.is_some() && !conn.is(Flags::WRITES_WATCHED) {
            self.ask_for_room(index);
        }
    }

    /// Has the epoll tell of room, even if there is room already.
    fn ask_for_room(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.flags.insert(Flags::WRITES_WATCHED);
        let token = Token { index, generation: conn.generation };
        // A sink without a descriptor has other means to tell.
        let Some(fd) = self.side.sinks.socket(index, conn.socket.as_ref()) else { return };
        if self.registry.ask_for_room(token, fd).is_err() {
            // Memory is out. The outbox would wait for ever.
            self.delivery.fates.push((token, Fate::Gone));
        }
    }

    /// Whether bytes for a client wait for room, in its outbox or in its sink.
    pub(in crate::shard) fn waits_for_room(&self, index: u32) -> bool {
        let conn = &self.conns[index as usize];
        conn.outbox.is_some() || self.side.sinks.held(index, conn.socket.as_ref()) > 0
    }

    /// The socket has room again.
    pub(in crate::shard) fn writable(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        let held = self.side.sinks.held(index, conn.socket.as_ref());
        let flushed = self.side.sinks.flush(index, conn.socket.as_ref());
        if self.side.sinks.held(index, conn.socket.as_ref()) < held {
            conn.flags.remove(Flags::STUCK);
        }
        match flushed {
            Ok(true) => {}
            Ok(false) => return,
            Err(Gone) => return self.lost(index),
        }
        let wire = conn.wire(&self.encoder);
        let Some(outbox) = &mut conn.outbox else { return };
        if outbox.replaceable {
            // The socket was full and the client fell behind. Of channels with `latest` only the newest message is
            // written.
            let losses = outbox.replace_old(&wire);
            self.note_losses(&losses);
        }
        self.write_waiting(index);
    }

    /// Writes a connection's outbox, then the history that it has still to catch up with, then starts the work that
    /// waited for that. This loop makes all decisions between these steps.
    ///
    /// A client that reads as fast as this writes gets a long history in parts, between which others have their turn:
    /// the thread may even be a host's, that hands the connection over.
    pub(in crate::shard) fn write_waiting(&mut self, index: u32) {
        for part in 0..=PARTS {
            match self.write_outbox(index) {
                Left::Nothing => return self.all_written(index),
                Left::Pieces => return self.await_room(index),
                Left::History if part == PARTS => return self.ask_for_room(index),
                Left::History => self.put_next_part(index),
                Left::NoOutbox => return,
                Left::NoPeer => return self.lost(index),
            }
        }
    }

    /// Writes from a connection's outbox as much as its sink takes, and returns what is left. An empty outbox is freed.
    fn write_outbox(&mut self, index: u32) -> Left {
        let Some(conn) = self.conns.get_mut(index as usize) else { return Left::NoOutbox };
        let wire = conn.wire(&self.encoder);
        let Some(outbox) = &mut conn.outbox else { return Left::NoOutbox };
        let (sinks, socket) = (&mut self.side.sinks, conn.socket.as_ref());
        let flushed = outbox.flush(&wire, |slices| sinks.write_several(index, socket, slices));
        let Ok(written) = flushed else { return Left::NoPeer };
        self.handle.metrics.bytes_sent.add(written as u64);
        if written > 0 {
            conn.flags.remove(Flags::STUCK);
        }
        if !outbox.is_empty() {
            return Left::Pieces;
        }
        if outbox.catch_up.is_some() {
            return Left::History;
        }
        conn.outbox = None;
        Left::Nothing
    }

    /// Starts the work that waited for an empty outbox.
    fn all_written(&mut self, index: u32) {
        let conn = &self.conns[index as usize];
        match conn.phase {
            // That was the last; now the peer's end is awaited, so that it reads all before the connection goes.
            Phase::Closing => self.end_writing(index),
            // A request that came before the answer was through; or the next one has its time from now on.
            Phase::Head => {
                if self.conns[index as usize].is(Flags::KEEP_ALIVE) {
                    self.schedule(index, self.config().keep_alive_ms);
                }
                self.read_early(index);
            }
            Phase::Open(_) if conn.is(Flags::HELD) => {
                self.conns[index as usize].flags.remove(Flags::HELD);
                self.give_time(index);
                self.read_again(index);
            }
            Phase::Asked | Phase::Open(_) => {}
        }
    }
}
