//! The bytes that all subscribers of a wire format share. They are encoded and put together once.

use crate::dialect::{Encoder, Format};
use crate::framing::poll::{self, Note};
#[cfg(test)]
use crate::hub::planted;
use crate::hub::{ClientId, Message, SlowPolicy};
use crate::shard::connection::conn::{Beside, Conn, Flags};
use crate::shard::delivery::outbox::{Block, Piece};
use bytes::BytesMut;
use std::sync::Arc;

/// Messages up to this size are copied together; larger ones are cheaper as pieces of their own.
const SMALL: usize = 4096;
/// About how large messages copied together may become. A client too slow for it holds a reference to all of it.
const BLOCK: usize = 128 * 1024;

/// Several messages as one subscriber gets them: encoded once, for all that share the wire format.
pub(in crate::shard) struct Run {
    format: Format,
    chunks: bool,
    keep_alive: bool,
    pub(in crate::shard) pieces: Vec<Piece>,
}

impl Run {
    pub(in crate::shard) fn new<'m>(
        conn: &Conn,
        messages: impl Iterator<Item = &'m Arc<Message>> + Clone,
        limit: usize,
        encoder: &Encoder,
        note: Note,
    ) -> Self {
        let mut run = Run {
            format: conn.format,
            chunks: conn.is(Flags::CHUNKS),
            keep_alive: conn.is(Flags::KEEP_ALIVE),
            pieces: Vec::new(),
        };
        if run.format == Format::POLL {
            run.pieces.push(Piece::Bytes(answer(conn, messages, None, (0, note), limit, encoder).into()));
            return run;
        }
        let wire = conn.wire(encoder);
        let mut block = Growing::default();
        for message in messages {
            let bytes = wire.format.encode(message, encoder, wire.chunks);
            if bytes.is_empty() {
                // The beginning or the end of a stream, in a format that has no place for it.
                continue;
            }
            let full = block.bytes.len() + bytes.len() > BLOCK;
            // A block gives way as a whole or message by message: a reload may change the policy within a batch.
            let other_policy = block.first.is_some_and(|first| first.slow() != message.slow());
            if bytes.len() > SMALL || full || other_policy {
                run.pieces.extend(block.end());
            }
            if bytes.len() > SMALL {
                run.pieces.push(Piece::Message(message.clone()));
                continue;
            }
            block.add(message, bytes);
        }
        run.pieces.extend(block.end());
        run
    }

    pub(in crate::shard) fn fits(&self, conn: &Conn) -> bool {
        self.format == conn.format
            && self.chunks == conn.is(Flags::CHUNKS)
            && (self.format != Format::POLL || (self.keep_alive == conn.is(Flags::KEEP_ALIVE) && conn.beside.is_none()))
    }
}

/// Messages of a run being copied together.
#[derive(Default)]
struct Growing<'m> {
    bytes: BytesMut,
    count: usize,
    first: Option<&'m Arc<Message>>,
    /// Those that may give way one by one to a slow client; of other channels the bytes are all that is needed.
    messages: Vec<Arc<Message>>,
}

impl<'m> Growing<'m> {
    fn add(&mut self, message: &'m Arc<Message>, bytes: &[u8]) {
        self.first.get_or_insert(message);
        self.count += 1;
        self.bytes.extend_from_slice(bytes);
        if message.slow() != SlowPolicy::Disconnect {
            self.messages.push(message.clone());
        }
    }

    /// The messages that were put together, as a piece. Nothing is left here.
    fn end(&mut self) -> Option<Piece> {
        let messages = std::mem::take(&mut self.messages).into();
        let piece = match (self.first.take()?, std::mem::take(&mut self.count)) {
            (message, 1) => Piece::Message(message.clone()),
            _ => Piece::Block(Arc::new(Block { bytes: self.bytes.split().freeze(), messages })),
        };
        self.bytes.clear();
        Some(piece)
    }
}

/// The answer to a poll, at least up to `position`. The client gets messages beyond `limit` bytes by its next request, and
/// the end of its streams is noted only with all of them. Messages that leave out the client with this id are not in it,
/// but its position is behind them.
pub(in crate::shard) fn answer<'m>(
    conn: &Conn,
    messages: impl Iterator<Item = &'m Arc<Message>> + Clone,
    id: Option<ClientId>,
    (position, note): (u64, Note),
    limit: usize,
    encoder: &Encoder,
) -> Vec<u8> {
    let mut weight = 0;
    #[cfg(test)]
    let position = match messages.clone().last() {
        Some(last) if planted::is(planted::Mistake::AnswerIsAhead) => last.seq(),
        _ => position,
    };
    // Only then it matters whether the answer has the newest.
    let newest = (note == Note::Ended).then(|| messages.clone().last().map(|message| message.seq()));
    let messages = messages.take_while(move |message| {
        let first = weight == 0;
        weight += message.weight();
        first || weight <= limit
    });
    let last = messages.clone().last().map(|message| message.seq());
    let note = if newest.is_some_and(|newest| newest != last) { Note::None } else { note };
    let position = last.map_or(position, |last| last.max(position));
    let theirs = messages.filter(|message| !message.excepts(id));
    let objects = theirs.map(|message| Format::POLL.encode(message, encoder, false));
    let (cors, presence) = conn.beside.as_deref().map_or(("", None), Beside::parts);
    let position = encoder.epoch().position(position);
    poll::answer(&position, objects, cors, conn.is(Flags::KEEP_ALIVE), note, presence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Cut, Epoch, Hub, Join, Mailbox, Outgoing, Publication, Request, Retention, Settings, Start};

    fn settings(slow_policy: SlowPolicy) -> Settings<'static> {
        Settings { slow_policy, ..Settings::keeping(Retention { count: 0, age_ms: 1000, bytes: 0 }) }
    }

    #[test]
    fn a_block_is_of_one_policy_though_a_reload_changes_it() {
        use SlowPolicy::{Disconnect, DropOldest, Latest};
        let mailbox = Arc::new(Mailbox::new(64, Box::new(|| {})));
        let hub = Hub::new(Epoch::from_random(1), &settings(Disconnect), vec![mailbox.clone()]);
        let request = Request {
            shard: 0,
            names: &["c"],
            start: Start::New,
            limit: 0,
            broadcasts: true,
            cut: Cut::Tail,
            join: Join::Always,
        };
        hub.subscribe(&request, &mut Default::default(), &mut Vec::new());
        for policy in [Disconnect, Latest, Disconnect, DropOldest, Disconnect] {
            hub.reconfigure(&settings(policy), 0);
            for data in ["one", "two"] {
                let message = Message::new(&Publication::new("", data.as_bytes()), false, b"");
                hub.publish(Outgoing::new("c", None, message), 0).unwrap();
            }
        }
        let messages: Vec<Arc<Message>> = std::iter::from_fn(|| mailbox.pop()).map(|left| left.message).collect();
        let mut conn = Conn::new(None, 1);
        conn.format = Format::STREAM;
        let run = Run::new(&conn, messages.iter(), 1 << 20, &Encoder::new(hub.epoch().clone()), Note::None);
        let kept: Vec<Option<usize>> = run
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Block(block) => Some(block.messages.len()),
                _ => None,
            })
            .collect();
        // Of those that may be taken apart all messages are there, of the others none is needed.
        assert_eq!(kept, [Some(0), Some(2), Some(0), Some(2), Some(0)]);
    }
}
