use super::*;
use crate::dialect::{Encoder, Format};
use crate::hub::{Epoch, Outgoing, Publication};
use crate::shard::delivery::backpressure_model::subscribed;
use crate::shard::delivery::outbox::Block;
use crate::shard::turn::command::ShardHandle;
use bytes::Bytes;

/// Messages as a hub makes them of `channel data` lines: those of channel `d` may be dropped, of `l` replaced.
fn messages(lines: &[&str]) -> Vec<Arc<Message>> {
    let names: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let (hub, mailbox) = subscribed(&names, SlowPolicy::Disconnect);
    for line in lines {
        let message = Message::new(&Publication::new("", line.as_bytes()), false, b"");
        hub.publish(Outgoing::new(line.split(' ').next().unwrap(), None, message), 0).unwrap();
    }
    std::iter::from_fn(|| mailbox.pop()).map(|delivery| delivery.message).collect()
}

struct Bench {
    encoder: Encoder,
    handle: Arc<ShardHandle>,
}

impl Bench {
    fn new() -> Self {
        Bench { encoder: Encoder::new(Epoch::from_random(1)), handle: Arc::new(ShardHandle::new(0, 16).unwrap()) }
    }

    fn wire(&self) -> Wire<'_> {
        Wire { format: Format::STREAM, chunks: false, encoder: &self.encoder }
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

/// A client may ask for older messages of a channel that it has by a pattern: they stand behind newer ones.
#[test]
fn the_newest_is_left_and_the_last_is_told_whatever_stands_behind() {
    let bench = Bench::new();
    let in_order = |lines: &[&str], order: &[usize]| -> Vec<Piece> {
        let pieces = pieces(lines);
        order.iter().map(|place| pieces[*place].clone()).collect()
    };
    let mut outbox = bench.outbox(in_order(&["l 1", "l 2", "x 3", "l 4"], &[3, 0, 2, 1]), 0);
    outbox.replace_old(&bench.wire());
    assert_eq!(bench.shown(&outbox), ["l 4", "x 3"]);
    drop(outbox);
    let mut outbox = bench.outbox(in_order(&["d 1", "d 2", "d 3", "d 4"], &[2, 0, 1, 3]), 0);
    let one = outbox.pieces[0].bytes(&bench.wire()).len() + PIECE_WEIGHT;
    let two_less = outbox.weight() - one - one / 2;
    outbox.drop_oldest(two_less, &bench.wire());
    assert_eq!(bench.shown(&outbox), ["!3", "d 2", "d 4"]);
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
    for (written, left) in
        [(0, vec!["!3", "d 4"]), (one, vec!["!3", "d 4"]), (one + 1, vec!["[d 2]", "!4"]), (3 * one + 1, vec!["[d 4]"])]
    {
        let mut outbox = bench.outbox([block(&bench, &lines)], written);
        outbox.drop_oldest(0, &bench.wire());
        assert_eq!(bench.shown(&outbox), left, "{written}");
    }
    let mut outbox = bench.outbox([block(&bench, &["l 1", "l 2", "l 3"])], one + 1);
    outbox.replace_old(&bench.wire());
    assert_eq!(bench.shown(&outbox), ["[l 2]", "l 3"]);
}
