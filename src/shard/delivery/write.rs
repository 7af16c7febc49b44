//! Writing to one connection: now, if nothing waits before it; else through its outbox.

use crate::config::Config;
use crate::context::Context;
use crate::shard::connection::conn::{Conn, Flags, Phase, Token};
use crate::shard::delivery::outbox::{self, Gone, Outbox, Piece, Wire, MAX_PIECES};
use crate::shard::turn::command::ShardHandle;
use crate::shard::{Fate, Shard};
use crate::sys::epoll::Watch;
use crate::sys::socket;
use crate::transport::close::Close;
use crate::transport::Transport;
use crate::transport::{Encoder, Format};
use bytes::Bytes;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// How many parts of a replay one connection gets in a turn.
const PARTS: usize = 2;

impl Conn {
    pub(in crate::shard) fn wire<'e>(&self, encoder: &'e Encoder) -> Wire<'e> {
        Wire { format: self.format, chunks: self.is(Flags::CHUNKS), encoder }
    }

    /// Writes pieces or queues what does not fit; says how many bytes were written.
    pub(in crate::shard) fn transmit(
        &mut self,
        pieces: &[Piece],
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
                let written = outbox::write(&self.fd, bytes)?;
                if written == bytes.len() {
                    return Ok(written);
                }
                written
            }
            several => self.write_several(several, &wire)?,
        };
        self.queue_rest(pieces, written, &wire, handle);
        Ok(written)
    }

    /// Writes pieces while all of them fit; says how many bytes fitted.
    fn write_several(&self, pieces: &[Piece], wire: &Wire<'_>) -> Result<usize, Gone> {
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        let mut total = 0;
        for group in pieces.chunks(MAX_PIECES) {
            let mut asked = 0;
            for (slice, piece) in slices.iter_mut().zip(group) {
                let bytes = piece.bytes(wire);
                asked += bytes.len();
                *slice = IoSlice::new(bytes);
            }
            let written = outbox::write_several(&self.fd, &slices[..group.len()])?;
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
        encoder: &Encoder,
        handle: &Arc<ShardHandle>,
    ) -> Result<usize, Gone> {
        let written = match self.outbox {
            Some(_) => 0,
            None => outbox::write(&self.fd, bytes.as_ref())?,
        };
        if written < bytes.as_ref().len() {
            self.queue_rest(&[Piece::Bytes(bytes.into())], written, &self.wire(encoder), handle);
        }
        Ok(written)
    }

    /// Puts what was not written of pieces into the outbox, if anything.
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

/// What may wait for one slow client now: the option `outbox`, or as much as is left of this shard's part of
/// `outbox_total`, if that is less. So who has the most waiting gives way first, and the rest still have room
/// (Choudhury and Hahne, "Dynamic Queue Length Thresholds for Context-Memory Packet Switches", 1998).
pub(in crate::shard) fn outbox_limit(shared: &Context, config: &Config, handle: &ShardHandle) -> usize {
    let left = (config.outbox_total / shared.shards).saturating_sub(handle.metrics.outbox_bytes.get() as usize);
    config.outbox.min(left)
}

impl Shard {
    /// How much of what a client missed is read for it at once.
    pub(in crate::shard) fn replay_limit(&self) -> usize {
        // With less it would hardly get ahead, and there is more only for who reads it.
        const LEAST: usize = 16 * 1024;
        let least = LEAST.min(self.config().outbox);
        outbox_limit(&self.context, &self.config, &self.handle).max(least)
    }

    /// Gives up a poll's answer that waits and is a copy for this client alone, where more waits in all than may; then
    /// says so, and the connection is to be dropped. One that nothing else waits beside stays, or its client could
    /// never get it.
    pub(in crate::shard) fn give_up_copy(&mut self, index: u32) -> bool {
        let Some(conn) = self.conns.get_mut(index as usize).filter(|conn| conn.format == Format::Poll) else {
            return false;
        };
        let Some(own) = conn.outbox.as_ref().map(|outbox| outbox.held()) else { return false };
        let all = self.handle.metrics.outbox_bytes.get() as usize;
        if all == own || all <= self.config.outbox_total / self.context.shards {
            return false;
        }
        conn.outbox = None;
        conn.code = Close::TOO_SLOW.code;
        self.log_close(index, Transport::Poll, &Close::TOO_SLOW);
        self.note_slow(index);
        true
    }

    /// Writes bytes to a connection, after what waits already.
    pub(in crate::shard) fn transmit_bytes(&mut self, index: u32, bytes: impl AsRef<[u8]> + Into<Bytes>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let outcome = conn.transmit_bytes(bytes, &self.context.encoder, &self.handle);
        self.transmitted(index, outcome);
    }

    /// Writes pieces to a connection, after what waits already.
    pub(in crate::shard) fn transmit(&mut self, index: u32, pieces: &[Piece]) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let outcome = conn.transmit(pieces, &self.context.encoder, &self.handle);
        self.transmitted(index, outcome);
    }

    fn transmitted(&mut self, index: u32, outcome: Result<usize, Gone>) {
        match outcome {
            Ok(written) => self.handle.metrics.bytes_sent.add(written as u64),
            Err(Gone) => return self.drop_conn(index),
        }
        self.await_room(index);
    }

    /// Where something waits to be written, has the epoll tell when there is room.
    pub(in crate::shard) fn await_room(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.outbox.is_some() && !conn.is(Flags::WRITES_WATCHED) {
            self.ask_for_room(index);
        }
    }

    /// Has the epoll tell of room, also of room that there is already.
    fn ask_for_room(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.flags.insert(Flags::WRITES_WATCHED);
        let token = Token { index, generation: conn.generation };
        if self.epoll.change(conn.fd.as_raw_fd(), token.to_bits(), Watch::EdgeBoth).is_err() {
            // Memory is out: what waits would wait for ever.
            Self::doom(&mut self.delivery.fates, index, conn, Fate::Gone);
        }
    }

    /// The socket has room again.
    pub(in crate::shard) fn writable(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        let wire = conn.wire(&self.context.encoder);
        let Some(outbox) = &mut conn.outbox else { return };
        if outbox.replaceable {
            // It was full and fell behind: of what only the newest counts, only that is written now.
            let losses = outbox.replace_old(&wire);
            self.note_losses(&losses);
        }
        self.flush(index);
    }

    /// Writes what waits, and what the connection still has to catch up with; then does what waited for that.
    ///
    /// A client that reads as fast as this writes gets a long history in parts, between which others have their turn:
    /// the thread may even be a host's, that hands the connection over.
    pub(in crate::shard) fn flush(&mut self, index: u32) {
        let mut parts = 0;
        loop {
            let Some(conn) = self.conns.get_mut(index as usize) else { return };
            let wire = conn.wire(&self.context.encoder);
            let Some(outbox) = &mut conn.outbox else { return };
            match outbox.flush(&conn.fd, &wire) {
                Ok(written) => {
                    self.handle.metrics.bytes_sent.add(written as u64);
                    if written > 0 {
                        conn.flags.remove(Flags::STUCK);
                    }
                }
                Err(Gone) => return self.drop_conn(index),
            }
            if !outbox.is_empty() {
                return self.await_room(index);
            }
            if outbox.catch_up.is_some() && parts == PARTS {
                return self.ask_for_room(index);
            }
            parts += 1;
            let Some(mut outbox) = conn.outbox.take() else { return };
            match outbox.catch_up.take() {
                Some(catch_up) => self.catch_up(index, catch_up),
                None => return self.flushed(index),
            }
        }
    }

    /// All is written.
    fn flushed(&mut self, index: u32) {
        let conn = &self.conns[index as usize];
        match conn.phase {
            // That was the last; now the peer's end is awaited, so that it reads all before the connection goes.
            Phase::Closing => socket::shutdown_write(&conn.fd),
            // A request that came before the answer was through; or the next one has its time from now on.
            Phase::Head => {
                if self.conns[index as usize].is(Flags::KEEP_ALIVE) {
                    self.schedule(index, self.config().keep_alive_ms);
                }
                self.read_early(index);
            }
            Phase::Open(_) if conn.is(Flags::HELD) => {
                self.conns[index as usize].flags.remove(Flags::HELD);
                self.read_again(index);
            }
            Phase::Asked | Phase::Open(_) => {}
        }
    }

    /// Carries out what a fan-out found.
    pub(in crate::shard) fn settle_fates(&mut self) {
        while let Some((token, fate)) = self.delivery.fates.pop() {
            let Some(index) = self.find(token) else { continue };
            match fate {
                Fate::Gone => self.drop_conn(index),
                Fate::Slow => self.relieve(index),
                Fate::Answered => {
                    self.poll_answered(index);
                    self.read_early_later(index);
                }
            }
        }
    }

    pub(in crate::shard) fn doom(doomed: &mut Vec<(Token, Fate)>, index: u32, conn: &Conn, fate: Fate) {
        doomed.push((Token { index, generation: conn.generation }, fate));
    }
}
