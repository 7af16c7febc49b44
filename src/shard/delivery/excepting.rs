//! Messages that leave a client out. The client gets the position in place of such a message, so that it comes back
//! behind it. Everybody else gets the message as any other: encoded once, and shared.
//!
//! The ids of connections are looked at only for a batch with a message that leaves out a client of this shard, and then
//! those of the subscribers that such a message is for.

use crate::dialect::Format;
use crate::framing::poll::Note;
#[cfg(test)]
use crate::hub::planted;
use crate::hub::{ClientId, Delivery, Message};
use crate::shard::delivery::encoded;
use crate::shard::delivery::fan_out::FanOut;
use crate::shard::delivery::outbox::{Piece, Position, Wire};
use std::sync::Arc;

/// Adds a message for a client with this id: the message, or its position if it leaves the client out.
pub(in crate::shard) fn add_for(pieces: &mut Vec<Piece>, message: Arc<Message>, id: Option<ClientId>, wire: &Wire<'_>) {
    if !message.excepts(id) {
        return pieces.push(Piece::Message(message));
    }
    #[cfg(test)]
    if planted::is(planted::Mistake::KeepsPositions) {
        return;
    }
    if !wire.format.tells_positions() {
        return;
    }
    let channel = message.channel_name().cloned();
    let position = wire.encoder.epoch().position(message.seq());
    let bytes = wire.format.position(channel.as_deref(), &position, wire.chunks).into();
    let position = Box::new(Position { channel, seq: message.seq(), bytes });
    match pieces.last_mut() {
        // The newer one says as much.
        Some(Piece::Position(before)) if before.channel == position.channel => *before = position,
        _ => pieces.push(Piece::Position(position)),
    }
}

impl FanOut<'_> {
    /// Notes whether a message of the batch leaves out a client that is here.
    pub(in crate::shard) fn look_for_excepted(&mut self, batch: &[Delivery]) {
        let mut ids = batch.iter().filter_map(|delivery| delivery.message.except());
        self.state.excepting = ids.any(|id| self.ids.has(id));
        #[cfg(test)]
        if planted::is(planted::Mistake::ExceptsInReplaysOnly) {
            self.state.excepting = false;
        }
    }

    /// The id of a subscriber that some of these messages leave out.
    pub(in crate::shard) fn left_out<'m>(
        &self,
        index: u32,
        mut messages: impl Iterator<Item = &'m Arc<Message>>,
    ) -> Option<ClientId> {
        self.ids.of(index).filter(|id| messages.any(|message| message.excepts(Some(*id))))
    }

    /// Writes messages to a subscriber with this id. `note` is for polls.
    pub(in crate::shard) fn write_all_but<'m>(
        &mut self,
        index: u32,
        messages: impl Iterator<Item = &'m Arc<Message>> + Clone,
        id: ClientId,
        note: Note,
    ) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let id = Some(id);
        let count = messages.clone().filter(|message| !message.excepts(id)).count();
        let mut pieces = Vec::new();
        if conn.format == Format::POLL {
            // The position is in its head. It is answered also if it gets no message: waiting on, it would come back
            // from behind if its connection broke.
            let answer = encoded::answer(conn, messages, id, (0, note), self.bounds.outbox, self.encoder);
            pieces.push(Piece::Bytes(answer.into()));
        } else {
            let wire = conn.wire(self.encoder);
            messages.for_each(|message| add_for(&mut pieces, message.clone(), id, &wire));
        }
        if !pieces.is_empty() {
            self.write_pieces(index, &pieces, count);
            self.give_up_copy(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Compression, Dialect, Encoder};
    use crate::framing::Transport;
    use crate::hub::{
        Cut, Epoch, Hub, Join, Mailbox, Outgoing, Publication, Replay, Request, Retention, Settings, SlowPolicy, Start,
    };
    use crate::shard::delivery::outbox::{Outbox, Wire};
    use crate::shard::turn::command::ShardHandle;

    const RAW: Format = Format::new(Transport::WebSocket, Dialect::Raw, Compression::None);

    fn id(n: u8) -> Option<ClientId> {
        Some(ClientId::from_bytes([n; 16]))
    }

    /// Messages of these channels that leave a client out, as a shard gets them.
    fn published(channels: &[&str]) -> (Hub, Vec<Arc<Message>>) {
        let mailbox = Arc::new(Mailbox::new(64, Box::new(|| {})));
        let slow_policy = SlowPolicy::Disconnect;
        let settings = Settings { slow_policy, ..Settings::keeping(Retention { count: 0, age_ms: 1000, bytes: 0 }) };
        let hub = Hub::new(Epoch::from_random(1), &settings, vec![mailbox.clone()]);
        let (start, cut, join) = (Start::New, Cut::Tail, Join::Always);
        let request = Request { shard: 0, names: &["a", "b"], start, limit: 0, broadcasts: true, cut, join };
        hub.subscribe(&request, &mut Replay::default(), &mut Vec::new());
        for channel in channels {
            let publication = Publication { except: id(1), ..Publication::new("", b"payload") };
            hub.publish(Outgoing::new(channel, None, Message::new(&publication, false, b"")), 0).unwrap();
        }
        let messages = std::iter::from_fn(|| mailbox.pop()).map(|delivery| delivery.message).collect();
        (hub, messages)
    }

    fn shown(pieces: &[Piece]) -> Vec<String> {
        let shown = |piece: &Piece| match piece {
            Piece::Message(message) => format!("message {}", message.seq()),
            Piece::Position(position) => format!("position {}", position.seq),
            other => panic!("{other:?}"),
        };
        pieces.iter().map(shown).collect()
    }

    #[test]
    fn a_message_has_the_id_behind_its_payload_and_nobody_is_shown_it() {
        let (_, messages) = published(&["a"]);
        assert_eq!((messages[0].data(), messages[0].prefixed()), (&b"payload"[..], &b"payload"[..]));
        assert_eq!(messages[0].except(), id(1));
        assert!(messages[0].excepts(id(1)) && !messages[0].excepts(id(2)) && !messages[0].excepts(None));
        let plain = Message::new(&Publication::new("", b"payload"), false, b"");
        assert_eq!((plain.except(), plain.weight() + 16), (None, messages[0].weight()));
        assert!(!plain.excepts(None) && !plain.excepts(id(1)));
    }

    #[test]
    fn a_client_that_is_left_out_gets_positions_and_of_neighbours_the_last() {
        let (hub, messages) = published(&["a", "a", "b", "", "", "a"]);
        let encoder = Encoder::new(hub.epoch().clone());
        let told = |id, format| {
            let wire = Wire { format, chunks: false, encoder: &encoder };
            let mut pieces = Vec::new();
            messages.iter().for_each(|message| add_for(&mut pieces, message.clone(), id, &wire));
            shown(&pieces)
        };
        assert_eq!(told(id(1), Format::STREAM), ["position 2", "position 3", "position 5", "position 6"]);
        assert_eq!(told(id(1), RAW), [""; 0]);
        for other in [id(2), None] {
            let all: Vec<String> = (1..=6).map(|seq| format!("message {seq}")).collect();
            assert_eq!(told(other, Format::STREAM), all);
        }
    }

    #[test]
    fn each_format_tells_a_position_where_it_has_a_place_for_it() {
        for (channel, object) in [
            (Some("a"), &br#"{"type":"position","channel":"a","id":"e-7"}"#[..]),
            (None, br#"{"type":"position","id":"e-7"}"#),
        ] {
            let event = [b"id: e-7\nevent: push-position\ndata: ", object, b"\n\n"].concat();
            for format in Format::all() {
                let told = format.position(channel, "e-7", false);
                match format.transport() {
                    Transport::WebSocket if format.dialect() == Dialect::Raw => assert!(told.is_empty()),
                    Transport::WebSocket => assert_eq!((told[0], &told[2..]), (0x81, object)),
                    Transport::Sse => assert_eq!(told, event),
                    Transport::Stream => assert_eq!(told, [object, b"\n"].concat()),
                    Transport::Poll => assert!(told.is_empty()),
                }
                assert_eq!(format.tells_positions(), !told.is_empty());
            }
        }
    }

    /// An outbox, and pieces for a client that messages of these channels leave out.
    fn outbox_of(channels: &[&str]) -> (Encoder, Arc<ShardHandle>, Vec<Arc<Message>>) {
        let (hub, messages) = published(channels);
        (Encoder::new(hub.epoch().clone()), Arc::new(ShardHandle::new(0, 64).unwrap()), messages)
    }

    fn position(message: &Arc<Message>, wire: &Wire<'_>) -> Piece {
        let mut pieces = Vec::new();
        add_for(&mut pieces, message.clone(), id(1), wire);
        pieces.remove(0)
    }

    #[test]
    fn positions_do_not_pile_up_for_a_client_that_does_not_read() {
        let (encoder, handle, messages) = outbox_of(&["a", "a", "b", "b", "a"]);
        let wire = Wire { format: Format::STREAM, chunks: false, encoder: &encoder };
        let mut outbox = Outbox::new(&handle);
        outbox.push(position(&messages[0], &wire), &wire);
        // A part of it is written, so it stays.
        outbox.advance(1, &wire);
        messages[1..4].iter().for_each(|message| outbox.push(position(message, &wire), &wire));
        let pieces = |outbox: &Outbox| shown(&outbox.pieces.iter().cloned().collect::<Vec<_>>());
        assert_eq!(pieces(&outbox), ["position 1", "position 4"]);
        // What follows leads further. A position of before does not: it is of a channel that comes later.
        outbox.push(Piece::Message(messages[4].clone()), &wire);
        outbox.push(position(&messages[1], &wire), &wire);
        assert_eq!(pieces(&outbox), ["position 1", "message 5", "position 2"]);
        let left: usize = outbox.pieces.iter().map(|piece| piece.bytes(&wire).len()).sum();
        assert_eq!(outbox.bytes(), left - 1);
        drop(outbox);
        assert_eq!(handle.metrics.outbox_bytes.get(), 0);
    }

    #[test]
    fn a_position_that_waits_does_not_keep_its_message() {
        let (encoder, handle, messages) = outbox_of(&["a", "b"]);
        let wire = Wire { format: Format::STREAM, chunks: false, encoder: &encoder };
        let mut outbox = Outbox::new(&handle);
        messages.iter().for_each(|message| outbox.push(position(message, &wire), &wire));
        assert!(messages.iter().all(|message| Arc::strong_count(message) == 1));
    }
}
