//! Messages for connections with several channels, which are collected over a batch: each is written to once, and gets
//! what it gets in the order of the batch.

use crate::hub::{ChannelId, Delivery};
use crate::shard::connection::conn::{Conn, Subs, NOT_STAGED};
use crate::shard::delivery::encoded;
use crate::shard::delivery::outbox::Piece;
use crate::shard::Shard;
use crate::transport::Format;
use bytes::Bytes;

/// How many staged messages are written before more are staged: it bounds the stage's memory.
const MAX_STAGED: usize = 1 << 18;

/// Messages for connections with several channels, collected over a batch.
#[derive(Debug, Default)]
pub(in crate::shard) struct Stage {
    /// Lists of places in the batch, one list a connection, linked through this.
    entries: Vec<Staged>,
    /// Connections that have a list.
    conns: Vec<u32>,
    /// The channels of a batch; only its room is kept.
    pub(in crate::shard) touched: Vec<ChannelId>,
}

#[derive(Debug, Clone, Copy)]
struct Staged {
    message: u32,
    next: u32,
}

impl Shard {
    /// Collects messages for connections with several channels, in the order of the batch.
    pub(in crate::shard) fn stage_multi(&mut self, batch: &[Delivery]) {
        for (place, delivery) in batch.iter().enumerate() {
            if self.delivery.staging.entries.len() > MAX_STAGED {
                self.write_staged(batch);
            }
            let Some(local) = self.channels.get(delivery.channel) else { continue };
            let seq = delivery.message.seq();
            let all_new = seq > local.settled;
            for &(index, sub) in &local.multi {
                let Some(conn) = self.conns.get_mut(index as usize) else { continue };
                let knows = || match &conn.subs {
                    Subs::Many(subs) => subs.get(sub as usize).is_none_or(|sub| sub.joined >= seq),
                    Subs::None | Subs::One { .. } => true,
                };
                if all_new || !knows() {
                    self.delivery.staging.add(index, conn, place as u32);
                }
            }
        }
    }

    /// Writes what is staged, one call a connection.
    pub(in crate::shard) fn write_staged(&mut self, batch: &[Delivery]) {
        let conns = std::mem::take(&mut self.delivery.staging.conns);
        let mut pieces = Vec::new();
        for &index in &conns {
            let Some(conn) = self.conns.get_mut(index as usize) else { continue };
            let first = std::mem::replace(&mut conn.stage.0, NOT_STAGED);
            pieces.clear();
            pieces.extend(
                self.delivery.staging.list(first).map(|place| Piece::Message(batch[place as usize].message.clone())),
            );
            let count = pieces.len();
            if conn.format == Format::Poll {
                let messages = pieces.iter().filter_map(|piece| match piece {
                    Piece::Message(message) => Some(message),
                    _ => None,
                });
                let answer = encoded::answer(conn, messages, 0, self.config.outbox, &self.context.encoder);
                pieces = vec![Piece::Bytes(Bytes::from(answer))];
            }
            self.write_pieces(index, &pieces, count);
            self.doom_copy(index);
        }
        self.delivery.staging.entries.clear();
        self.delivery.staging.entries.shrink_to(4096);
        self.delivery.staging.conns = conns;
        self.delivery.staging.conns.clear();
        // An answered poll may not be staged again.
        self.settle_fates();
    }
}

impl Stage {
    fn add(&mut self, index: u32, conn: &mut Conn, message: u32) {
        let entry = self.entries.len() as u32;
        self.entries.push(Staged { message, next: NOT_STAGED });
        if conn.stage.0 != NOT_STAGED {
            self.entries[conn.stage.1 as usize].next = entry;
        } else {
            conn.stage.0 = entry;
            self.conns.push(index);
        }
        conn.stage.1 = entry;
    }

    fn list(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = first;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            Some(entry.message)
        })
    }
}
