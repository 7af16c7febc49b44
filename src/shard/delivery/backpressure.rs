//! What gives way when a client's outbox is full: the policies of the channels whose messages wait.
//!
//! None of this is looked at before a socket was full. A message that was begun is always written to its end.

use crate::hub::{Message, SlowPolicy};
use crate::metrics::losses::Loss;
use crate::shard::delivery::outbox::{Gap, Outbox, Piece, Wire, PIECE_WEIGHT};
use crate::shard::delivery::write::outbox_limit;
use crate::shard::Shard;
use crate::transport::close::Close;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;

/// Up to how many pieces may be looked through for each message that comes.
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
        let mut newest = FxHashSet::default();
        let mut lost = Lots::default();
        let mut kept = VecDeque::new();
        for (place, piece) in std::mem::take(&mut self.pieces).into_iter().enumerate().rev() {
            match &piece {
                Piece::Message(message) if place >= begun && message.slow() == SlowPolicy::Latest => {
                    if newest.insert(message.channel_name().cloned()) {
                        kept.push_front(piece);
                    } else {
                        lost.add(message);
                    }
                }
                _ => kept.push_front(piece),
            }
        }
        self.pieces = kept;
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
            hole = Some(next);
        }
        kept.extend(hole.map(Piece::Gap));
        for piece in kept.iter_mut() {
            if let Piece::Gap(gap) = piece {
                if gap.bytes.is_empty() {
                    gap.bytes =
                        wire.format.gap(gap.channel.as_deref(), gap.seq, wire.encoder.epoch(), wire.chunks).into();
                }
            }
        }
        self.pieces = kept;
        self.recount(wire);
        lost.into_list()
    }

    /// Gaps that wait.
    fn gaps(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Gap(_))).count()
    }

    /// Pieces that wait, but for gaps.
    fn waiting(&self) -> usize {
        self.pieces.len() - self.gaps()
    }

    /// Whether what waits is within the bound, or one message that is larger than it.
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
    pub(in crate::shard) fn relieve(&mut self, index: u32) {
        let limit = outbox_limit(&self.context, &self.config, &self.handle);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let wire = conn.wire(&self.context.encoder);
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
                self.context.losses.add(channel, loss);
            }
        }
    }

    /// Counts a connection that ends because it reads too slowly, in all and for each of its channels.
    pub(in crate::shard) fn note_slow(&self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        self.handle.metrics.slow_closed.add(1);
        // While it catches up its channels are only named.
        let awaited = conn.outbox.as_ref().and_then(|outbox| outbox.catch_up.as_ref()).map_or(&[][..], |to| &to.names);
        let awaited = awaited.iter().map(|name| Arc::from(&**name));
        for name in self.channels.names(conn).into_iter().chain(awaited) {
            self.context.losses.add(&name, Loss { slow_closed: 1, ..Loss::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Epoch, Outgoing, Publication};
    use crate::shard::delivery::backpressure_model::subscribed;
    use crate::shard::delivery::outbox::Block;
    use crate::shard::turn::command::ShardHandle;
    use crate::transport::{Encoder, Format};
    use bytes::Bytes;

    /// Messages as a hub makes them of `channel data` lines: those of channel `d` may be dropped, of `l` replaced.
    fn messages(lines: &[&str]) -> Vec<Arc<Message>> {
        let names: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
        let (hub, mailbox) = subscribed(&names, SlowPolicy::Disconnect);
        for line in lines {
            let message = Message::new(&Publication::new("", line.as_bytes()), false, b"");
            hub.publish(Outgoing { channel: line.split(' ').next().unwrap(), key: None, message }, 0).unwrap();
        }
        std::iter::from_fn(|| mailbox.pop()).map(|delivery| delivery.message).collect()
    }

    struct Bench {
        encoder: Encoder,
        handle: Arc<ShardHandle>,
    }

    impl Bench {
        fn new() -> Self {
            Bench { encoder: Encoder::new(Epoch::from_random(1)), handle: Arc::new(ShardHandle::new(16).unwrap()) }
        }

        fn wire(&self) -> Wire<'_> {
            Wire { format: Format::Stream, chunks: false, encoder: &self.encoder }
        }

        fn outbox(&self, pieces: impl IntoIterator<Item = Piece>, written: usize) -> Box<Outbox> {
            let mut outbox = Outbox::new(&self.handle);
            let pieces: Vec<_> = pieces.into_iter().collect();
            outbox.push_rest(&pieces, written, &self.wire());
            outbox
        }

        /// What an outbox holds, by the payloads and the gaps; a piece that was begun in brackets.
        fn shown(&self, outbox: &Outbox) -> Vec<String> {
            let text = |piece: &Piece| {
                let bytes = std::str::from_utf8(piece.bytes(&self.wire())).unwrap();
                let value: serde_json::Value = serde_json::from_str(bytes).unwrap();
                match value["data"].as_str() {
                    Some(data) => data.to_owned(),
                    None => format!("!{}", value["id"].as_str().unwrap().rsplit('-').next().unwrap()),
                }
            };
            let begun = |place| place == 0 && outbox.offset > 0;
            let show = |(place, piece)| if begun(place) { format!("[{}]", text(piece)) } else { text(piece) };
            let shown = outbox.pieces.iter().enumerate().map(show).collect();
            let bytes: usize = outbox.pieces.iter().map(|piece| piece.bytes(&self.wire()).len()).sum();
            let held = bytes + outbox.len() * PIECE_WEIGHT;
            assert_eq!(self.handle.metrics.outbox_bytes.get() as usize, held, "the gauge");
            shown
        }
    }

    fn pieces(lines: &[&str]) -> Vec<Piece> {
        messages(lines).into_iter().map(Piece::Message).collect()
    }

    fn block(bench: &Bench, lines: &[&str]) -> Piece {
        let messages = messages(lines);
        let encoded = |message| Piece::Message(Arc::clone(message)).bytes(&bench.wire()).to_vec();
        let bytes: Vec<u8> = messages.iter().flat_map(encoded).collect();
        Piece::Block(Arc::new(Block { bytes: Bytes::from(bytes), messages: messages.into() }))
    }

    #[test]
    fn of_each_channel_the_newest_is_left_where_it_was() {
        let bench = Bench::new();
        let mut outbox = bench.outbox(pieces(&["l 1", "x 2", "l2 3", "l 4", "d 5", "l 6", "l2 7"]), 0);
        let lost = outbox.replace_old(&bench.wire());
        assert_eq!(bench.shown(&outbox), ["x 2", "d 5", "l 6", "l2 7"]);
        assert_eq!(lost.iter().map(|lost| lost.count).sum::<u64>(), 3);
        assert!(outbox.replace_old(&bench.wire()).is_empty());
        drop(outbox);
        assert_eq!((bench.handle.metrics.outboxes.get(), bench.handle.metrics.outbox_bytes.get()), (0, 0));
    }

    #[test]
    fn the_oldest_go_and_gaps_tell_of_them_where_they_were() {
        let bench = Bench::new();
        let mut outbox = bench.outbox(pieces(&["d 1", "x 2", "d2 3", "d 4", "l 5", "d 6", "d 7"]), 0);
        let one = outbox.pieces[0].bytes(&bench.wire()).len() + PIECE_WEIGHT;
        let three_less = outbox.weight() - 2 * one - one / 2;
        let lost = outbox.drop_oldest(three_less, &bench.wire());
        assert_eq!(bench.shown(&outbox), ["!1", "x 2", "!3", "!4", "l 5", "d 6", "d 7"]);
        assert_eq!(lost.len(), 2);
        let less = outbox.weight() - one / 2;
        outbox.drop_oldest(less, &bench.wire());
        assert_eq!(bench.shown(&outbox), ["!1", "x 2", "!3", "!4", "l 5", "!6", "d 7"]);
        // All of it: what may not be dropped stays. A hole next to one of the same channel is one with it.
        outbox.drop_oldest(0, &bench.wire());
        assert_eq!(bench.shown(&outbox), ["!1", "x 2", "!3", "!4", "l 5", "!7"]);
        let mut outbox = bench.outbox(pieces(&["d 1", "d 2"]), 0);
        outbox.drop_oldest(0, &bench.wire());
        assert_eq!(outbox.pieces.len(), 2, "a gap, and the one that waits alone");
    }

    #[test]
    fn what_was_begun_is_never_cut() {
        let bench = Bench::new();
        for (first, second) in [("d 1", "d 2"), ("l 1", "l 2")] {
            let mut outbox = bench.outbox(pieces(&[first, second, "x 3"]), 1);
            outbox.replace_old(&bench.wire());
            outbox.drop_oldest(0, &bench.wire());
            assert_eq!(bench.shown(&outbox)[0], format!("[{first}]"));
        }
    }

    #[test]
    fn what_is_held_counts_until_it_is_let_go() {
        let bench = Bench::new();
        let held = || bench.handle.metrics.outbox_bytes.get() as usize;
        let large = || Piece::Bytes(Bytes::from(vec![b'x'; 10_000]));
        let mut outbox = bench.outbox([large(), large()], 9_999);
        assert_eq!((outbox.weight(), held()), (10_001 + 2 * PIECE_WEIGHT, 20_000 + 2 * PIECE_WEIGHT));
        outbox.advance(1, &bench.wire());
        assert_eq!(held(), 10_000 + PIECE_WEIGHT);
        outbox.advance(9_999, &bench.wire());
        assert_eq!(held(), 10_000 + PIECE_WEIGHT, "its last byte is not written");
        outbox.keep_begun(&bench.wire());
        assert_eq!(held(), 10_000 + PIECE_WEIGHT);
        (0..1000).for_each(|_| outbox.push(Piece::Bytes(Bytes::from_static(b"x")), &bench.wire()));
        assert_eq!(held(), 11_000 + 1001 * PIECE_WEIGHT, "small pieces cost more than their bytes");
        drop(outbox);
        assert_eq!(held(), 0);
    }

    #[test]
    fn a_response_that_ends_at_once_has_its_head() {
        let bench = Bench::new();
        let head = Piece::Bytes(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n"));
        for written in [0, 1] {
            let mut outbox = bench.outbox([head.clone()].into_iter().chain(pieces(&["x 1"])), written);
            outbox.keep_begun(&bench.wire());
            assert_eq!((outbox.len(), outbox.offset), (1, written));
        }
        let mut outbox = bench.outbox(pieces(&["x 1", "x 2"]), 0);
        outbox.keep_begun(&bench.wire());
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_block_is_taken_apart_where_it_was_written_to() {
        let bench = Bench::new();
        let lines = ["d 1", "d 2", "d 3", "d 4"];
        let one = pieces(&lines)[0].bytes(&bench.wire()).len();
        for (written, left) in [
            (0, vec!["!3", "d 4"]),
            (one, vec!["!3", "d 4"]),
            (one + 1, vec!["[d 2]", "!4"]),
            (3 * one + 1, vec!["[d 4]"]),
        ] {
            let mut outbox = bench.outbox([block(&bench, &lines)], written);
            outbox.drop_oldest(0, &bench.wire());
            assert_eq!(bench.shown(&outbox), left, "{written}");
        }
        let mut outbox = bench.outbox([block(&bench, &["l 1", "l 2", "l 3"])], one + 1);
        outbox.replace_old(&bench.wire());
        assert_eq!(bench.shown(&outbox), ["[l 2]", "l 3"]);
    }
}
