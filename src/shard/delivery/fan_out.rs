//! From the mailbox to the sockets.
//!
//! A whole batch is taken from the mailbox, then each connection that gets something is written to once. Subscribers of
//! one channel only, which most are, all get the same bytes: they are put together once for each wire format (a
//! [`Run`]), and each costs one system call and no bookkeeping. Others collect theirs first ([`crate::shard::delivery::staging`]).

use crate::hub::{ChannelId, Delivery, BROADCAST};
use crate::shard::connection::conn::Flags;
use crate::shard::delivery::encoded::Run;
use crate::shard::delivery::outbox::{Gone, Piece};
use crate::shard::delivery::write::outbox_limit;
use crate::shard::{Fate, Shard};
use crate::sys::clock;
use crate::transport::Transport;

/// How many messages one batch takes.
const BATCH: usize = 1024;
/// How many batches one turn takes, before clients are read again.
const BATCHES: usize = 8;
impl Shard {
    /// Delivers what is in the mailbox; true when there may be more.
    pub(in crate::shard) fn deliver(&mut self) -> bool {
        for _ in 0..BATCHES {
            if !self.deliver_batch(u64::MAX) {
                return false;
            }
        }
        true
    }

    /// Delivers what is in the mailbox up to a message, and not beyond.
    pub(in crate::shard) fn deliver_until(&mut self, position: u64) {
        while self.deliver_batch(position) {}
    }

    /// Delivers one batch; true when there may be more.
    fn deliver_batch(&mut self, position: u64) -> bool {
        let mut batch = std::mem::take(&mut self.delivery.batch);
        while batch.len() < BATCH {
            let Some(delivery) = self.delivery.held.take().or_else(|| self.handle.mailbox.pop()) else { break };
            if delivery.message.seq() > position {
                self.delivery.held = Some(delivery);
                break;
            }
            batch.push(delivery);
        }
        let full = batch.len() == BATCH;
        let sampled = batch.iter().any(|delivery| delivery.message.stamp() != 0);
        for part in batch.chunk_by(|a, b| (a.channel == BROADCAST) == (b.channel == BROADCAST)) {
            if part[0].channel == BROADCAST {
                self.fan_out_broadcasts(part);
            } else {
                self.fan_out(part);
            }
        }
        if sampled {
            self.note_latency(&batch);
        }
        if let Some(last) = batch.last() {
            self.delivery.delivered = last.message.seq();
        }
        batch.clear();
        self.delivery.batch = batch;
        full
    }

    /// How long messages that were stamped took to here: their subscribers have them, or have them waiting.
    fn note_latency(&self, batch: &[Delivery]) {
        let now = clock::monotonic_us() as u32;
        for stamp in batch.iter().map(|delivery| delivery.message.stamp()).filter(|stamp| *stamp != 0) {
            // The stamp's last bit says that it is one.
            self.handle.metrics.latency.record(u64::from((now | 1).wrapping_sub(stamp)));
        }
    }

    /// Messages of channels, in order, to their subscribers.
    fn fan_out(&mut self, batch: &[Delivery]) {
        let mut touched = std::mem::take(&mut self.delivery.staging.touched);
        for (place, delivery) in batch.iter().enumerate() {
            let Some(local) = self.channels.get_mut(delivery.channel) else { continue };
            if local.run.is_empty() {
                touched.push(delivery.channel);
            }
            local.run.push(place as u32);
        }
        for channel in touched.drain(..) {
            self.fan_out_solo(batch, channel);
        }
        self.delivery.staging.touched = touched;
        self.stage_multi(batch);
        self.write_staged(batch);
        self.settle_fates();
    }

    /// The turn's messages of one channel to those who have no other.
    fn fan_out_solo(&mut self, batch: &[Delivery], channel: ChannelId) {
        let Some(local) = self.channels.get_mut(channel) else { return };
        let mut places = std::mem::take(&mut local.run);
        let subscribers = std::mem::take(&mut local.solo);
        let settled = local.settled;
        self.write_all(batch, &places, &subscribers, settled);
        // Nobody joins or leaves in between: who ended is only marked, and settled after the batch.
        if let Some(local) = self.channels.get_mut(channel) {
            places.clear();
            places.shrink_to(64);
            local.run = places;
            local.solo = subscribers;
        }
    }

    fn write_all(&mut self, batch: &[Delivery], places: &[u32], subscribers: &[u32], settled: u64) {
        let Some(&first) = places.first() else { return };
        #[cfg(test)]
        crate::shard::panic_tests::maybe_panic(batch[first as usize].message.data());
        let all_new = batch[first as usize].message.seq() > settled;
        let mut runs: Vec<Run> = Vec::new();
        let message = |place: &u32| &batch[*place as usize].message;
        for &index in subscribers {
            let Some(conn) = self.conns.get_mut(index as usize) else { continue };
            let known = if all_new { 0 } else { places.partition_point(|place| message(place).seq() <= conn.joined) };
            let places = &places[known..];
            if places.is_empty() {
                continue;
            }
            let messages = places.iter().map(message);
            let encoder = &self.context.encoder;
            let mut own = None;
            let run = match runs.iter().find(|run| known == 0 && run.fits(conn)) {
                Some(run) => run,
                None => {
                    let run = Run::new(conn, messages, self.config.outbox, encoder);
                    if known == 0 && run.fits(conn) {
                        runs.push(run);
                        &runs[runs.len() - 1]
                    } else {
                        &*own.insert(run)
                    }
                }
            };
            self.write_pieces(index, &run.pieces, places.len());
            if own.is_some() {
                self.doom_copy(index);
            }
        }
    }

    /// Pieces to a subscriber; what goes wrong is settled later.
    pub(in crate::shard) fn write_pieces(&mut self, index: u32, pieces: &[Piece], messages: usize) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.is(Flags::USER_COUNTED) || conn.is(Flags::PROXIED) {
            self.uncount_poll(index);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let metrics = &self.handle.metrics;
        metrics.deliveries.add(messages as u64);
        let fate = match conn.transmit(pieces, &self.context.encoder, &self.handle) {
            Err(Gone) => Some(Fate::Gone),
            Ok(written) => {
                metrics.bytes_sent.add(written as u64);
                if conn.transport() == Some(Transport::Poll) {
                    Some(Fate::Answered)
                } else {
                    let slow = conn.outbox.is_some()
                        && conn.too_slow(pieces.len(), outbox_limit(&self.context, &self.config, &self.handle));
                    slow.then_some(Fate::Slow)
                }
            }
        };
        if let Some(fate) = fate {
            Self::doom(&mut self.delivery.fates, index, conn, fate);
        }
        self.await_room(index);
    }

    /// Ends a poll whose answer is a copy that there is no room for; others are not affected.
    pub(in crate::shard) fn doom_copy(&mut self, index: u32) {
        if self.give_up_copy(index) {
            let conn = &self.conns[index as usize];
            // Settled before its being answered: the last is the first.
            Self::doom(&mut self.delivery.fates, index, conn, Fate::Gone);
        }
    }

    /// Broadcasts to everybody, as if all had one more channel.
    fn fan_out_broadcasts(&mut self, batch: &[Delivery]) {
        let places: Vec<u32> = (0..batch.len() as u32).collect();
        let live = self.conns.iter().filter(|(_, conn)| conn.is(Flags::LIVE));
        let everybody: Vec<u32> = live.map(|(index, _)| index as u32).collect();
        self.write_all(batch, &places, &everybody, self.delivery.settled);
        self.settle_fates();
    }
}
