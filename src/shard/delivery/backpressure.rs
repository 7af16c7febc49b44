//! The slow policies. When a client's outbox is full, its channels' policies decide which messages give way.
//!
//! None of this is looked at before a socket was full. A message that was begun is always written to its end.

use crate::framing::close::Close;
use crate::hub::{is_pattern, Message, SlowPolicy};
use crate::metrics::losses::Loss;
use crate::shard::connection::conn::Phase;
use crate::shard::delivery::outbox::{Gap, Outbox, Piece, Wire, PIECE_WEIGHT};
use crate::shard::Shard;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most pieces that may be looked through for each message that comes.
const FEW: usize = 512;

/// Messages of one channel that gave way: the last of them, and how many.
#[derive(Debug)]
pub(in crate::shard) struct Lost {
    pub(in crate::shard) last: Arc<Message>,
    pub(in crate::shard) count: u64,
}

impl Outbox {
    /// Drops all messages that a newer one of their channel replaces (`latest`).
    pub(in crate::shard) fn replace_old(&mut self, wire: &Wire<'_>) -> Vec<Lost> {
        self.take_apart(SlowPolicy::Latest, wire);
        let begun = usize::from(self.offset > 0);
        let mut newest: FxHashMap<Option<Arc<str>>, u64> = FxHashMap::default();
        for message in self.pieces.iter().skip(begun).filter_map(replaceable) {
            let seq = newest.entry(message.channel_name().cloned()).or_default();
            *seq = message.seq().max(*seq);
        }
        let mut lost = Lots::default();
        let mut kept = VecDeque::new();
        // The newest is mostly the last. But what a client asks for of a channel that it has by a pattern is older than
        // what waits.
        for (place, piece) in std::mem::take(&mut self.pieces).into_iter().enumerate() {
            match replaceable(&piece).filter(|_| place >= begun) {
                Some(message) if newest.get(&message.channel_name().cloned()) != Some(&message.seq()) => {
                    lost.add(message)
                }
                _ => kept.push_back(piece),
            }
        }
        self.pieces = without_outrun(kept, begun);
        self.recount(wire);
        self.replaceable = false;
        lost.into_list()
    }

    /// Drops messages that may be dropped, the oldest first, until no more than `target` waits, and puts gaps in their
    /// places (`drop-oldest`). A message that waits alone stays: else its client could never get it.
    ///
    /// A client may end after whatever it has read, and comes back with the greatest number in that. All that was lost
    /// up to there must have been told by then. So a gap stands for neighbours of one channel only, and nothing with a
    /// number stands between them.
    pub(in crate::shard) fn drop_oldest(&mut self, target: usize, wire: &Wire<'_>) -> Vec<Lost> {
        self.take_apart(SlowPolicy::DropOldest, wire);
        let begun = usize::from(self.offset > 0);
        let mut weight = self.weight();
        let mut left = self.waiting();
        let mut lost = Lots::default();
        let mut dropped = 0;
        for (place, piece) in self.pieces.iter().enumerate().skip(begun) {
            if weight <= target || left <= 1 {
                break;
            }
            if let (Piece::Message(message), SlowPolicy::DropOldest) = (piece, piece.slow()) {
                weight -= piece.bytes(wire).len() + PIECE_WEIGHT;
                left -= 1;
                lost.add(message);
                dropped = place + 1;
            }
        }
        // All that may be dropped and stands before that place goes: so neighbours are one hole.
        let mut kept = VecDeque::with_capacity(self.pieces.len());
        let mut hole: Option<Box<Gap>> = None;
        for (place, piece) in std::mem::take(&mut self.pieces).into_iter().enumerate() {
            let next = match piece {
                Piece::Message(message)
                    if (begun..dropped).contains(&place) && message.slow() == SlowPolicy::DropOldest =>
                {
                    let channel = message.channel_name().cloned();
                    Box::new(Gap { channel, seq: message.seq(), bytes: Box::default() })
                }
                // A hole of before, which may have grown.
                Piece::Gap(gap) if place >= begun => gap,
                kept_piece => {
                    kept.extend(hole.take().map(Piece::Gap));
                    kept.push_back(kept_piece);
                    continue;
                }
            };
            kept.extend(hole.take_if(|hole| hole.channel != next.channel).map(Piece::Gap));
            // What a client asks for may be older than what waits: see `replace_old`.
            hole = hole.filter(|hole| hole.seq > next.seq).or(Some(next));
        }
        kept.extend(hole.map(Piece::Gap));
        for piece in kept.iter_mut() {
            if let Piece::Gap(gap) = piece {
                if gap.bytes.is_empty() {
                    gap.bytes = {
                        let position = wire.encoder.epoch().position(gap.seq);
                        wire.format.gap(gap.channel.as_deref(), &position, wire.chunks).into()
                    };
                }
            }
        }
        self.pieces = without_outrun(kept, begun);
        self.recount(wire);
        lost.into_list()
    }

    /// Gaps that wait.
    fn gaps(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Gap(_))).count()
    }

    /// Pieces that wait, but for gaps, positions and news of presence.
    fn waiting(&self) -> usize {
        let told = |piece: &&Piece| matches!(piece, Piece::Gap(_) | Piece::Position(_) | Piece::News(_));
        self.pieces.len() - self.pieces.iter().filter(told).count()
    }

    /// Whether the outbox is within the bound, or holds a single message that is larger than the bound.
    fn fits(&self, limit: usize) -> bool {
        self.weight() <= limit || self.waiting() <= 1
    }

    /// Replaces blocks of messages under this policy by their messages.
    fn take_apart(&mut self, policy: SlowPolicy, wire: &Wire<'_>) {
        let apart = |piece: &Piece| matches!(piece, Piece::Block(_)) && piece.slow() == policy;
        if !self.pieces.iter().any(apart) {
            return;
        }
        let mut skip = self.offset;
        let mut pieces = VecDeque::with_capacity(2 * self.pieces.len());
        for piece in std::mem::take(&mut self.pieces) {
            match &piece {
                Piece::Block(block) if apart(&piece) => {
                    for message in &block.messages {
                        let piece = Piece::Message(message.clone());
                        let len = piece.bytes(wire).len();
                        if pieces.is_empty() && skip >= len {
                            // Written already.
                            skip -= len;
                        } else {
                            pieces.push_back(piece);
                        }
                    }
                }
                _ => pieces.push_back(piece),
            }
        }
        self.offset = skip;
        self.pieces = pieces;
    }

    fn recount(&mut self, wire: &Wire<'_>) {
        let all: usize = self.pieces.iter().map(|piece| piece.bytes(wire).len()).sum();
        self.set_bytes(all - self.offset);
    }
}

/// The message of a piece, if a newer one may take its place.
fn replaceable(piece: &Piece) -> Option<&Arc<Message>> {
    match piece {
        Piece::Message(message) if message.slow() == SlowPolicy::Latest => Some(message),
        _ => None,
    }
}

/// Drops positions that are followed by something that leads further, now that messages between them have given way.
fn without_outrun(pieces: VecDeque<Piece>, begun: usize) -> VecDeque<Piece> {
    let mut kept: VecDeque<Piece> = VecDeque::with_capacity(pieces.len());
    for piece in pieces {
        while kept.len() > begun && kept.back().is_some_and(|last| last.is_outrun_by(&piece)) {
            kept.pop_back();
        }
        kept.push_back(piece);
    }
    kept
}

/// Messages lost, by channel.
#[derive(Default)]
struct Lots(FxHashMap<Option<Arc<str>>, Lost>);

impl Lots {
    /// Adds one; the last is the one with the greatest number, in whatever order they come.
    fn add(&mut self, message: &Arc<Message>) {
        let lost =
            self.0.entry(message.channel_name().cloned()).or_insert_with(|| Lost { last: message.clone(), count: 0 });
        lost.count += 1;
        if message.seq() > lost.last.seq() {
            lost.last = message.clone();
        }
    }

    fn into_list(self) -> Vec<Lost> {
        self.0.into_values().collect()
    }
}

impl Shard {
    /// Makes room in an outbox that is full, as its channels' policies allow, or ends the connection.
    pub(in crate::shard) fn apply_slow_policies(&mut self, index: u32) {
        let limit = self.outbox_limit();
        let Some(conn) = self.conns.get_mut(index as usize).filter(|conn| conn.phase != Phase::Closing) else { return };
        let wire = conn.wire(&self.encoder);
        let Some(outbox) = conn.outbox.as_mut().filter(|outbox| outbox.weight() > limit) else { return };
        let before = outbox.weight();
        if outbox.pieces.iter().all(|piece| piece.slow() == SlowPolicy::Disconnect) {
            return self.close_slow(index, Close::TOO_SLOW);
        }
        let mut lost = outbox.replace_old(&wire);
        // Raw frames have no place for a gap, and nothing is skipped without one: there the connection gives way.
        let mut gaps = 0;
        if outbox.weight() > limit && wire.format.tells_gaps() {
            // Somewhat more than must be, so that not each message that follows has to make its own room.
            let told = outbox.gaps();
            lost.extend(outbox.drop_oldest(limit / 4 * 3, &wire));
            gaps = outbox.gaps().saturating_sub(told);
        }
        // Where hardly anything may give way, the same would come of the next message, and each costs a look at all
        // that waits.
        let gone: u64 = lost.iter().map(|lost| lost.count).sum();
        let few = outbox.len() <= FEW || gone as usize >= outbox.len() / 8;
        let fits = outbox.fits(limit) && (few || before.saturating_sub(outbox.weight()) >= limit / 8);
        if !fits {
            // Nothing of it is lost: the client gets all by its position.
            return self.close_slow(index, Close::TOO_SLOW);
        }
        self.handle.metrics.gaps.add(gaps as u64);
        self.note_losses(&lost);
    }

    /// Counts messages that gave way, in all and by channel.
    pub(in crate::shard) fn note_losses(&self, lost: &[Lost]) {
        for Lost { last, count } in lost {
            let (total, loss) = match last.slow() {
                SlowPolicy::Latest => (&self.handle.metrics.replaced, Loss { replaced: *count, ..Loss::default() }),
                _ => (&self.handle.metrics.dropped, Loss { dropped: *count, ..Loss::default() }),
            };
            total.add(*count);
            if let Some(channel) = last.channel_name() {
                self.context.metrics.losses.add(channel, loss);
            }
        }
    }

    /// Counts a connection that ends because it reads too slowly, in all and for each of its channels.
    pub(in crate::shard) fn note_slow(&self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        self.handle.metrics.slow_closed.add(1);
        // While it catches up its channels are only named.
        let awaited = conn.awaited().iter().map(|name| Arc::from(&**name));
        let names = self.subscriptions.channels.names(conn).into_iter().chain(awaited);
        for name in names.filter(|name| !is_pattern(name)) {
            self.context.metrics.losses.add(&name, Loss { slow_closed: 1, ..Loss::default() });
        }
    }
}

#[cfg(test)]
#[path = "backpressure_tests.rs"]
mod tests;
