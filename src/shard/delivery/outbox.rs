//! The outbox: pieces that wait to be written to one client, as references.

use crate::dialect::{Encoder, Format};
use crate::hub::{Message, SlowPolicy};
use crate::shard::connection::sink::Gone;
use crate::shard::turn::command::ShardHandle;
use crate::sys::clock;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// Bytes to write. All clients that get them share them.
#[derive(Debug, Clone)]
pub(in crate::shard) enum Piece {
    /// A message, in the connection's format.
    Message(Arc<Message>),
    /// Several messages of one channel.
    Block(Arc<Block>),
    /// Told in place of a message that leaves the client out. It does not keep the message.
    Position(Box<Position>),
    /// Told in place of messages of its channel that gave way.
    Gap(Box<Gap>),
    /// Bytes as they are: an answer, a heartbeat, a replay's gap.
    Bytes(Bytes),
    /// News of presence. It counts in no bound that closes a client.
    News(Bytes),
}

/// Messages of one channel, encoded one behind the other.
#[derive(Debug)]
pub(in crate::shard) struct Block {
    pub(in crate::shard) bytes: Bytes,
    /// Its messages, if the channel's policy may take the block apart. Otherwise the list is empty.
    pub(in crate::shard) messages: Box<[Arc<Message>]>,
}

/// See [`Piece::Gap`].
#[derive(Debug, Clone)]
pub(in crate::shard) struct Gap {
    pub(in crate::shard) channel: Option<Arc<str>>,
    /// Of the last of them.
    pub(in crate::shard) seq: u64,
    pub(in crate::shard) bytes: Box<[u8]>,
}

/// See [`Piece::Position`].
#[derive(Debug, Clone)]
pub(in crate::shard) struct Position {
    pub(in crate::shard) channel: Option<Arc<str>>,
    pub(in crate::shard) seq: u64,
    pub(in crate::shard) bytes: Box<[u8]>,
}

impl Piece {
    pub(in crate::shard) fn bytes<'p>(&'p self, wire: &Wire<'_>) -> &'p [u8] {
        match self {
            Piece::Message(message) => wire.format.encode(message, wire.encoder, wire.chunks),
            Piece::Block(block) => &block.bytes,
            Piece::Position(position) => &position.bytes,
            Piece::Gap(gap) => &gap.bytes,
            Piece::Bytes(bytes) | Piece::News(bytes) => bytes,
        }
    }

    /// The number behind which a client comes back that has read it, if it has one.
    fn number(&self) -> Option<u64> {
        match self {
            Piece::Message(message) => Some(message.seq()),
            Piece::Position(position) => Some(position.seq),
            Piece::Gap(gap) => Some(gap.seq),
            Piece::Block(_) | Piece::Bytes(_) | Piece::News(_) => None,
        }
    }

    /// True if it is a position, and what follows it leads further. Then nobody needs it.
    pub(in crate::shard) fn is_outrun_by(&self, next: &Piece) -> bool {
        matches!(self, Piece::Position(position) if next.number().is_some_and(|number| number > position.seq))
    }

    /// Its slow policy. A piece that is no message never gives way.
    pub(in crate::shard) fn slow(&self) -> SlowPolicy {
        let message = match self {
            Piece::Message(message) => Some(message),
            Piece::Block(block) => block.messages.first(),
            Piece::Position(_) | Piece::Gap(_) | Piece::Bytes(_) | Piece::News(_) => None,
        };
        message.map_or(SlowPolicy::Disconnect, |message| message.slow())
    }
}

/// How a connection's pieces look on the wire.
#[derive(Debug, Clone, Copy)]
pub(in crate::shard) struct Wire<'e> {
    pub(in crate::shard) format: Format,
    pub(in crate::shard) chunks: bool,
    pub(in crate::shard) encoder: &'e Encoder,
}

/// How many pieces go into one call. The kernel's limit is 1024; beyond this the call's own cost is nothing any more.
pub(in crate::shard) const MAX_PIECES: usize = 64;

/// About how much memory a piece takes beside its bytes.
pub(in crate::shard) const PIECE_WEIGHT: usize = 64;

/// Pieces in order, the first one perhaps partly written.
#[derive(Debug)]
pub(in crate::shard) struct Outbox {
    pub(in crate::shard) pieces: VecDeque<Piece>,
    /// Written of the first piece.
    pub(in crate::shard) offset: usize,
    /// Still to write.
    bytes: usize,
    /// The bytes of it that the shard's gauge counts.
    counted: usize,
    /// The news of presence among the pieces.
    news: News,
    /// True if messages with `slow_policy=latest` may wait here.
    pub(in crate::shard) replaceable: bool,
    /// Since when something has waited without a break, in monotonic milliseconds.
    pub(in crate::shard) since: u64,
    /// Has the gauge of all outboxes of the shard.
    handle: Arc<ShardHandle>,
    /// The history to read when all is written, while the connection is catching up.
    pub(in crate::shard) catch_up: Option<CatchUp>,
}

/// News of presence that wait: their pieces, and these pieces' bytes.
#[derive(Debug, Clone, Copy, Default)]
struct News {
    pieces: usize,
    bytes: usize,
    /// The bytes that the shard counts.
    counted: usize,
}

/// A subscription that is not live yet: its client missed more than an outbox holds.
#[derive(Debug)]
pub(in crate::shard) struct CatchUp {
    pub(in crate::shard) names: Vec<Box<str>>,
    /// Where it goes on.
    pub(in crate::shard) after: u64,
    /// True if it began with the first message of each channel's stream.
    pub(in crate::shard) from_beginning: bool,
    /// Channels (`None`: the broadcasts) with a gap that is still to come, and that the handshake has announced. A gap
    /// that grows meanwhile is the same gap.
    pub(in crate::shard) announced: Vec<Option<Arc<str>>>,
}

impl Outbox {
    pub(in crate::shard) fn new(handle: &Arc<ShardHandle>) -> Box<Self> {
        handle.metrics.outboxes.add(1);
        Box::new(Outbox {
            pieces: VecDeque::new(),
            offset: 0,
            bytes: 0,
            counted: 0,
            news: News::default(),
            replaceable: false,
            since: clock::monotonic_ms(),
            handle: handle.clone(),
            catch_up: None,
        })
    }

    pub(in crate::shard) fn push(&mut self, piece: Piece, wire: &Wire<'_>) {
        self.drop_outrun(&piece);
        let len = piece.bytes(wire).len();
        if len > 0 {
            self.replaceable |= piece.slow() == SlowPolicy::Latest;
            self.note_news(&piece);
            self.pieces.push_back(piece);
            self.set_bytes(self.bytes + len);
        }
    }

    /// Drops the position that waits last, if the next piece leads further. So they do not pile up for a client that
    /// publishes and does not read.
    fn drop_outrun(&mut self, next: &Piece) {
        let is_begun = self.pieces.len() == 1 && self.offset > 0;
        if is_begun || !self.pieces.back().is_some_and(|last| last.is_outrun_by(next)) {
            return;
        }
        if let Some(Piece::Position(last)) = self.pieces.pop_back() {
            self.set_bytes(self.bytes - last.bytes.len());
        }
    }

    /// Notes how much there is still to write, now that pieces have come or gone.
    pub(in crate::shard) fn set_bytes(&mut self, bytes: usize) {
        self.bytes = bytes;
        let held = self.held();
        let all = &self.handle.metrics.outbox_bytes;
        all.sub(self.counted as u64);
        all.add(held as u64);
        self.counted = held;
        let waiting = self.news.bytes;
        self.handle.note_news(self.news.counted, waiting);
        self.news.counted = waiting;
    }

    /// Notes that a piece joins the others.
    fn note_news(&mut self, piece: &Piece) {
        if let Piece::News(bytes) = piece {
            self.news.pieces += 1;
            self.news.bytes += bytes.len();
        }
    }

    /// Whether news of presence wait.
    pub(in crate::shard) fn has_news(&self) -> bool {
        self.news.pieces > 0
    }

    /// Written of the first piece, if that is news.
    fn begun_news(&self) -> usize {
        if matches!(self.pieces.front(), Some(Piece::News(_))) {
            self.offset
        } else {
            0
        }
    }

    /// Takes the rest of pieces of which so many bytes were written.
    pub(in crate::shard) fn push_rest(&mut self, pieces: &[Piece], written: usize, wire: &Wire<'_>) {
        let mut skip = written;
        for piece in pieces {
            let len = piece.bytes(wire).len();
            if skip >= len {
                skip -= len;
                continue;
            }
            if self.pieces.is_empty() {
                self.offset = skip;
            }
            self.replaceable |= piece.slow() == SlowPolicy::Latest;
            self.note_news(piece);
            self.pieces.push_back(piece.clone());
            self.set_bytes(self.bytes + len - skip);
            skip = 0;
        }
    }

    /// The bytes that are still to write.
    pub(in crate::shard) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its weight for the bounds of one client. A small piece costs more than its bytes. News of presence do not count.
    pub(in crate::shard) fn weight(&self) -> usize {
        (self.bytes + self.begun_news()).saturating_sub(self.news.bytes) + self.len() * PIECE_WEIGHT
    }

    /// About how much memory it holds, beside news of presence. A piece counts whole until all of it is written.
    pub(in crate::shard) fn held(&self) -> usize {
        self.weight() + self.offset - self.begun_news()
    }

    /// Pieces that wait, but for news of presence.
    pub(in crate::shard) fn len(&self) -> usize {
        self.pieces.len() - self.news.pieces
    }

    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Drops everything but a piece that was begun, and a response's head: what follows begins where the client expects
    /// a beginning.
    pub(in crate::shard) fn keep_begun(&mut self, wire: &Wire<'_>) {
        // Nothing else has this form. Where the head waits it waits at the front.
        let is_head = matches!(self.pieces.front(), Some(Piece::Bytes(bytes)) if bytes.starts_with(b"HTTP/1."));
        self.pieces.truncate(usize::from(self.offset > 0 || is_head));
        self.recount_news();
        self.set_bytes(self.pieces.front().map_or(0, |piece| piece.bytes(wire).len() - self.offset));
    }

    /// Counts the news anew, now that pieces have gone.
    fn recount_news(&mut self) {
        let news = self.pieces.iter().filter_map(|piece| match piece {
            Piece::News(bytes) => Some(bytes.len()),
            _ => None,
        });
        (self.news.pieces, self.news.bytes) = news.fold((0, 0), |(pieces, bytes), len| (pieces + 1, bytes + len));
    }

    /// Writes as much as the connection's sink takes. Returns the number of bytes.
    pub(in crate::shard) fn flush(
        &mut self,
        wire: &Wire<'_>,
        mut write: impl FnMut(&[IoSlice<'_>]) -> Result<usize, Gone>,
    ) -> Result<usize, Gone> {
        let mut total = 0;
        while !self.pieces.is_empty() {
            let count = self.pieces.len().min(MAX_PIECES);
            let mut slices = [IoSlice::new(&[]); MAX_PIECES];
            let mut asked = 0;
            for (index, piece) in self.pieces.iter().take(count).enumerate() {
                let bytes = piece.bytes(wire);
                let bytes = if index == 0 { &bytes[self.offset..] } else { bytes };
                asked += bytes.len();
                slices[index] = IoSlice::new(bytes);
            }
            let written = write(&slices[..count])?;
            total += written;
            self.advance(written, wire);
            if written < asked {
                break;
            }
        }
        Ok(total)
    }

    /// So many bytes were written.
    pub(in crate::shard) fn advance(&mut self, mut written: usize, wire: &Wire<'_>) {
        let bytes = self.bytes - written;
        while let Some(piece) = self.pieces.front() {
            let left = piece.bytes(wire).len() - self.offset;
            if written < left {
                self.offset += written;
                break;
            }
            written -= left;
            self.offset = 0;
            if let Some(Piece::News(news)) = self.pieces.pop_front() {
                self.news.pieces -= 1;
                self.news.bytes -= news.len();
            }
        }
        self.set_bytes(bytes);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.handle.metrics.outbox_bytes.sub(self.counted as u64);
        self.handle.note_news(self.news.counted, 0);
        self.handle.metrics.outboxes.sub(1);
    }
}
