//! Messages for connections with several channels, or with patterns. They are merged over a batch: each connection is
//! written to once, and gets its messages in the order of the batch.

use crate::dialect::Format;
use crate::framing::poll::Note;
#[cfg(test)]
use crate::hub::planted;
use crate::hub::{ChannelId, Delivery, Message};
use crate::shard::connection::conn::{Conn, Subs};
use crate::shard::delivery::channels::Local;
use crate::shard::delivery::encoded;
use crate::shard::delivery::fan_out::FanOut;
use crate::shard::delivery::outbox::Piece;
use bytes::Bytes;
use slab::Slab;
use std::sync::Arc;

/// The number of merged messages after which they are written before more are merged. It bounds the memory.
const MAX_MERGED: usize = 1 << 18;

/// No entry of a [`Merge`].
const NONE: u32 = u32::MAX;

/// The messages of a batch for connections with several channels: one linked list for each connection.
#[derive(Debug, Default)]
pub(in crate::shard) struct Merge {
    entries: Vec<Entry>,
    /// Connections that have a list.
    conns: Vec<u32>,
    /// The channels of a batch; only its room is kept.
    pub(in crate::shard) touched: Vec<ChannelId>,
}

/// A message's place in the batch, and the next entry of the same connection.
#[derive(Debug, Clone, Copy)]
struct Entry {
    message: u32,
    next: u32,
}

/// A connection's list in a [`Merge`].
#[derive(Debug, Clone, Copy)]
pub(in crate::shard) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(in crate::shard) const EMPTY: List = List { first: NONE, last: NONE };
}

impl FanOut<'_> {
    /// Merges messages for connections with several channels, in the order of the batch and from a place in it on.
    /// Returns the place to go on from. That is the batch's end, unless there is no room for more.
    pub(in crate::shard) fn merge(&mut self, batch: &[Delivery], from: usize) -> usize {
        for (place, delivery) in batch.iter().enumerate().skip(from) {
            if self.state.merge.entries.len() > MAX_MERGED {
                return place;
            }
            let message = (place as u32, delivery.message.seq());
            let named = self.channels.get(delivery.channel);
            for local in named.into_iter().chain(self.channels.fitting(delivery)) {
                self.state.merge.add_all(self.conns, local, message);
            }
        }
        batch.len()
    }

    /// Writes the merged messages, with one call for each connection.
    pub(in crate::shard) fn write_merged(&mut self, batch: &[Delivery]) {
        let conns = std::mem::take(&mut self.state.merge.conns);
        let mut pieces = Vec::new();
        for &index in &conns {
            let Some(conn) = self.conns.get_mut(index as usize) else { continue };
            let list = std::mem::replace(&mut conn.merged, List::EMPTY);
            if self.state.excepting {
                let places = self.state.merge.places(list);
                let messages: Vec<&Arc<Message>> = places.map(|place| &batch[place as usize].message).collect();
                if let Some(id) = self.left_out(index, messages.iter().copied()) {
                    let note = self.note_of(index, messages.last().map_or(0, |message| message.seq()));
                    self.write_all_but(index, messages.into_iter(), id, note);
                    continue;
                }
            }
            let places = self.state.merge.places(list);
            pieces.clear();
            pieces.extend(places.map(|place| Piece::Message(batch[place as usize].message.clone())));
            let count = pieces.len();
            let Some(conn) = self.conns.get(index as usize) else { continue };
            if conn.format == Format::POLL {
                let messages = pieces.iter().filter_map(|piece| match piece {
                    Piece::Message(message) => Some(message),
                    _ => None,
                });
                let last = messages.clone().last().map_or(0, |message| message.seq());
                let note = self.note_of(index, last);
                let answer = encoded::answer(conn, messages, None, (0, note), self.bounds.outbox, self.encoder);
                pieces = vec![Piece::Bytes(Bytes::from(answer))];
            }
            self.write_pieces(index, &pieces, count);
            self.give_up_copy(index);
        }
        let merge = &mut self.state.merge;
        merge.entries.clear();
        merge.entries.shrink_to(4096);
        merge.conns = conns;
        merge.conns.clear();
    }

    /// The note for a poll, whose last message has this number.
    fn note_of(&self, index: u32, last: u64) -> Note {
        let has_ended = self.conns.get(index as usize).is_some_and(|conn| self.channels.all_ended(conn, last));
        if has_ended {
            Note::Ended
        } else {
            Note::None
        }
    }
}

impl Merge {
    /// Adds a message, by its place and its number, for the subscribers of a channel or pattern that do not have it.
    fn add_all(&mut self, conns: &mut Slab<Conn>, local: &Local, (place, seq): (u32, u64)) {
        let all_new = seq > local.settled;
        for &(index, sub) in &local.multi {
            let Some(conn) = conns.get_mut(index as usize) else { continue };
            let knows = || match &conn.subs {
                Subs::Many(subs) => subs.get(sub as usize).is_none_or(|sub| sub.joined >= seq),
                Subs::None | Subs::One { .. } => true,
            };
            if all_new || !knows() {
                self.add(index, conn, place);
            }
        }
    }

    /// Adds a message for a connection, once.
    fn add(&mut self, index: u32, conn: &mut Conn, message: u32) {
        let is_there = self.entries.get(conn.merged.last as usize).is_some_and(|last| last.message == message);
        #[cfg(test)]
        let is_there = is_there && !planted::is(planted::Mistake::OnceForEach);
        if is_there {
            return;
        }
        let entry = self.entries.len() as u32;
        self.entries.push(Entry { message, next: NONE });
        if conn.merged.first == NONE {
            conn.merged.first = entry;
            self.conns.push(index);
        } else {
            self.entries[conn.merged.last as usize].next = entry;
        }
        conn.merged.last = entry;
    }

    /// The places in the batch of a connection's messages.
    fn places(&self, list: List) -> impl Iterator<Item = u32> + '_ {
        let mut at = list.first;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            Some(entry.message)
        })
    }
}
