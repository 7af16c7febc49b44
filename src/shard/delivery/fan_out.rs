//! From the mailbox to the sinks.
//!
//! A whole batch is taken from the mailbox, then each connection that gets something is written to once. Subscribers of
//! one channel only, which most are, all get the same bytes: they are put together once for each wire format (a
//! [`Run`]), and each costs one system call and no bookkeeping. Messages for the others are merged first
//! ([`crate::shard::delivery::merging`]).
//!
//! A [`FanOut`] writes, and notes what that did to a connection as a [`Fate`]. It knows no epoll, timers or events, so
//! tests drive it without a shard and without sockets.

use crate::dialect::{Encoder, Format};
use crate::framing::poll::Note;
use crate::framing::Transport;
use crate::hub::{ChannelId, Delivery, BROADCAST};
use crate::shard::connection::client_ids::ClientIds;
use crate::shard::connection::close::Counted;
use crate::shard::connection::conn::{Conn, Flags, Token};
use crate::shard::connection::sink::{Gone, Sinks};
use crate::shard::delivery::breaks::Markers;
use crate::shard::delivery::channels::Channels;
use crate::shard::delivery::delivering::Delivering;
use crate::shard::delivery::encoded::Run;
use crate::shard::delivery::ended_streams;
use crate::shard::delivery::outbox::Piece;
use crate::shard::delivery::write::Bounds;
use crate::shard::turn::command::ShardHandle;
use crate::shard::Shard;
use crate::sys::clock;
use crate::trace::Tracer;
use slab::Slab;
use std::sync::Arc;

/// How many messages one batch takes.
pub(in crate::shard) const BATCH: usize = 1024;
/// How many batches one turn takes, before clients are read again.
pub(in crate::shard) const BATCHES: usize = 8;

/// The effect of a fan-out on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shard) enum Fate {
    /// The peer is gone.
    Gone,
    /// Its outbox is full.
    Slow,
    /// Bytes wait in its outbox, and epoll does not watch for room yet.
    Blocked,
    /// Its poll is answered.
    Answered,
    /// Its poll's answer was given up, since there is no room for it.
    GivenUp,
}

/// The parts of a shard that a fan-out works with.
pub(in crate::shard) struct FanOut<'s> {
    pub(in crate::shard) conns: &'s mut Slab<Conn>,
    pub(in crate::shard) channels: &'s mut Channels,
    pub(in crate::shard) sinks: &'s mut Sinks,
    pub(in crate::shard) ids: &'s ClientIds,
    pub(in crate::shard) state: &'s mut Delivering,
    pub(in crate::shard) counted: Counted<'s>,
    pub(in crate::shard) encoder: &'s Encoder,
    pub(in crate::shard) handle: &'s Arc<ShardHandle>,
    pub(in crate::shard) bounds: Bounds,
    /// Has the spans of messages, if any are traced.
    pub(in crate::shard) tracer: Option<&'s Tracer>,
}

/// The owner of the parts of a fan-out: a shard, or a test.
pub(in crate::shard) trait Subscribers {
    fn fan_out(&mut self) -> FanOut<'_>;
    /// Settles the fates that a fan-out noted, the last first.
    fn settle_fates(&mut self);
    /// A batch was delivered in which these channels have ended.
    fn have_ended(&mut self, channels: &[ChannelId]);
}

impl Shard {
    /// Delivers the mailbox. Returns true if there may be more.
    pub(in crate::shard) fn deliver(&mut self) -> bool {
        if self.context.engine.is_shared() {
            return self.deliver_with_breaks();
        }
        // Since this turn took its commands, the host may have given another one, and published after it. A command that
        // came before one of the messages that wait now is here by now, and is done first.
        let due = self.delivery.taken + self.handle.mailbox.waiting() as u64;
        let comes_first = self.handle.has_commands();
        let more = comes_first && self.take_commands();
        // With the end of the server, all that is left goes out.
        self.delivery.due = (!self.shutdown.ends).then_some(due);
        let full = (0..BATCHES).all(|_| deliver_batch(self, u64::MAX));
        self.delivery.due = None;
        // A drain waits for what came before it.
        more || full || comes_first && self.handle.mailbox.waiting() > 0
    }

    /// Delivers the mailbox up to a message, and not beyond.
    pub(in crate::shard) fn deliver_until(&mut self, position: u64) {
        if self.context.engine.is_shared() {
            // Acts before a break that was met a moment ago stand before these messages.
            self.do_put_off();
            while self.deliver_some(position, Markers::Acts) {}
            return;
        }
        while deliver_batch(self, position) {}
    }
}

impl Subscribers for Shard {
    fn fan_out(&mut self) -> FanOut<'_> {
        FanOut {
            bounds: Bounds::new(&self.config, self.context.shards),
            tracer: self.context.hub.tracer().map(|tracer| &**tracer),
            conns: &mut self.conns,
            channels: &mut self.subscriptions.channels,
            sinks: &mut self.side.sinks,
            ids: &self.side.client_ids,
            state: &mut self.delivery,
            counted: self.side.limits.counted(&self.context.limits),
            encoder: &self.encoder,
            handle: &self.handle,
        }
    }

    fn settle_fates(&mut self) {
        while let Some((token, fate)) = self.delivery.fates.pop() {
            let Some(index) = self.find(token) else { continue };
            match fate {
                Fate::Gone => self.lost(index),
                Fate::Slow => self.apply_slow_policies(index),
                Fate::Blocked => self.await_room(index),
                Fate::Answered => {
                    self.poll_answered(index);
                    self.read_early_later(index);
                }
                Fate::GivenUp => self.drop_given_up(index),
            }
        }
    }

    fn have_ended(&mut self, channels: &[ChannelId]) {
        self.close_subscribers_of_ended(channels);
    }
}

/// Delivers one batch of the mailbox, up to a message and not beyond; true when there may be more.
pub(in crate::shard) fn deliver_batch(to: &mut impl Subscribers, position: u64) -> bool {
    let FanOut { state, handle, .. } = to.fan_out();
    let batch = state.take(&handle.mailbox, position);
    deliver_taken(to, batch)
}

/// Delivers a batch that was taken from the mailbox; true when there may be more.
pub(in crate::shard) fn deliver_taken(to: &mut impl Subscribers, batch: Vec<Delivery>) -> bool {
    let sampled = batch.iter().any(|delivery| delivery.message.stamp() != 0);
    // Most batches have none, and then no parts are put together to ask for them.
    let traced = match batch.iter().any(|delivery| delivery.ticket.is_one()) {
        true => to.fan_out().traced(&batch),
        false => Vec::new(),
    };
    // Most batches have no message that leaves somebody out. Then nobody is looked for.
    if batch.iter().any(|delivery| delivery.message.except().is_some()) {
        to.fan_out().look_for_excepted(&batch);
    }
    let ended = ended_streams::ended_in(&batch);
    to.fan_out().channels.note_batch(&batch, !ended.is_empty());
    for part in batch.chunk_by(|a, b| (a.channel == BROADCAST) == (b.channel == BROADCAST)) {
        deliver_part(to, part);
    }
    if !traced.is_empty() {
        to.fan_out().note_handed(&traced);
    }
    let FanOut { state, handle, .. } = to.fan_out();
    if sampled {
        note_latency(handle, &batch);
    }
    state.excepting = false;
    let more = state.recycle(batch);
    if !ended.is_empty() {
        to.have_ended(&ended);
    }
    more
}

/// Delivers broadcasts, or messages of channels.
fn deliver_part(to: &mut impl Subscribers, part: &[Delivery]) {
    if part[0].channel == BROADCAST {
        to.fan_out().write_everybody(part);
        return to.settle_fates();
    }
    to.fan_out().write_solo(part);
    let mut merged = 0;
    while merged < part.len() {
        merged = to.fan_out().merge(part, merged);
        to.fan_out().write_merged(part);
        // An answered poll may not be staged again.
        to.settle_fates();
    }
}

/// Records how long stamped messages took to here. Their subscribers have them now, or have them waiting.
fn note_latency(handle: &ShardHandle, batch: &[Delivery]) {
    let now = clock::monotonic_us() as u32;
    for stamp in batch.iter().map(|delivery| delivery.message.stamp()).filter(|stamp| *stamp != 0) {
        // The stamp's last bit says that it is one.
        handle.metrics.latency.record(u64::from((now | 1).wrapping_sub(stamp)));
    }
}

impl FanOut<'_> {
    /// Messages of channels, in order, to the subscribers that have no other channel.
    pub(in crate::shard) fn write_solo(&mut self, batch: &[Delivery]) {
        let mut touched = std::mem::take(&mut self.state.merge.touched);
        for (place, delivery) in batch.iter().enumerate() {
            let Some(local) = self.channels.get_mut(delivery.channel) else { continue };
            if local.run.is_empty() {
                touched.push(delivery.channel);
            }
            local.run.push(place as u32);
        }
        for channel in touched.drain(..) {
            self.write_channel(batch, channel);
        }
        self.state.merge.touched = touched;
    }

    fn write_channel(&mut self, batch: &[Delivery], channel: ChannelId) {
        let Some(local) = self.channels.get_mut(channel) else { return };
        let mut places = std::mem::take(&mut local.run);
        let subscribers = std::mem::take(&mut local.solo);
        let settled = local.settled;
        let last = places.last().map_or(0, |place| batch[*place as usize].message.seq());
        let note = if local.ended == Some(last) { Note::Ended } else { Note::None };
        self.write_all(batch, &places, &subscribers, (settled, note));
        // Nobody joins or leaves in between: ends are only noted, and settled after the batch.
        if let Some(local) = self.channels.get_mut(channel) {
            places.clear();
            places.shrink_to(64);
            local.run = places;
            local.solo = subscribers;
        }
    }

    /// Broadcasts to everybody, as if all had one more channel.
    pub(in crate::shard) fn write_everybody(&mut self, batch: &[Delivery]) {
        let places: Vec<u32> = (0..batch.len() as u32).collect();
        let live = self.conns.iter().filter(|(_, conn)| conn.is(Flags::LIVE));
        let everybody: Vec<u32> = live.map(|(index, _)| index as u32).collect();
        self.write_all(batch, &places, &everybody, (self.state.settled, Note::None));
    }

    /// `note` is for polls.
    fn write_all(&mut self, batch: &[Delivery], places: &[u32], subscribers: &[u32], (settled, note): (u64, Note)) {
        let Some(&first) = places.first() else { return };
        #[cfg(test)]
        crate::shard::panic_tests::maybe_panic(batch[first as usize].message.data());
        let message = |place: &u32| &batch[*place as usize].message;
        let excepting = self.state.excepting && places.iter().any(|place| message(place).except().is_some());
        let all_new = batch[first as usize].message.seq() > settled;
        let mut runs: Vec<Run> = Vec::new();
        for &index in subscribers {
            let Some(conn) = self.conns.get(index as usize) else { continue };
            let known = if all_new { 0 } else { places.partition_point(|place| message(place).seq() <= conn.joined) };
            let places = &places[known..];
            if places.is_empty() {
                continue;
            }
            let messages = places.iter().map(message);
            let id = if excepting { self.left_out(index, messages.clone()) } else { None };
            if let Some(id) = id {
                self.write_all_but(index, messages, id, note);
                continue;
            }
            let encoder = self.encoder;
            let mut own = None;
            let run = match runs.iter().find(|run| known == 0 && run.fits(conn)) {
                Some(run) => run,
                None => {
                    let run = Run::new(conn, messages, self.bounds.outbox, encoder, note);
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
                self.give_up_copy(index);
            }
        }
    }

    /// Writes pieces to a subscriber, and notes its fate.
    pub(in crate::shard) fn write_pieces(&mut self, index: u32, pieces: &[Piece], messages: usize) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.is(Flags::USER_COUNTED) || conn.is(Flags::PROXIED) {
            self.counted.take_back_poll(index, conn);
        }
        let metrics = &self.handle.metrics;
        metrics.deliveries.add(messages as u64);
        let fate = match conn.transmit(pieces, index, self.sinks, self.encoder, self.handle) {
            Err(Gone) => Some(Fate::Gone),
            Ok(written) => {
                metrics.bytes_sent.add(written as u64);
                if conn.transport() == Some(Transport::Poll) {
                    Some(Fate::Answered)
                } else {
                    let slow = conn.outbox.is_some() && conn.too_slow(pieces.len(), self.bounds.of_one(self.handle));
                    slow.then_some(Fate::Slow)
                }
            }
        };
        let token = Token { index, generation: conn.generation };
        if let Some(fate) = fate {
            self.state.fates.push((token, fate));
        }
        if conn.outbox.is_some() && !conn.is(Flags::WRITES_WATCHED) {
            self.state.fates.push((token, Fate::Blocked));
        }
    }

    /// Gives up a poll's answer that waits and is a copy for this client alone, where more waits in all than may; says
    /// whether it did. One that nothing else waits beside stays, or its client could never get it.
    pub(in crate::shard) fn gives_up_copy(&mut self, index: u32) -> bool {
        let poll = |conn: &&mut Conn| conn.format == Format::POLL;
        let Some(conn) = self.conns.get_mut(index as usize).filter(poll) else { return false };
        let Some(own) = conn.outbox.as_ref().map(|outbox| outbox.held()) else { return false };
        let all = self.handle.metrics.outbox_bytes.get() as usize;
        let gives_up = all != own && all > self.bounds.all;
        if gives_up {
            conn.outbox = None;
        }
        gives_up
    }

    /// Does so in a fan-out.
    pub(in crate::shard) fn give_up_copy(&mut self, index: u32) {
        if self.gives_up_copy(index) {
            // It is settled before the fate that the poll is answered, since the last is settled first.
            let token = Token { index, generation: self.conns[index as usize].generation };
            self.state.fates.push((token, Fate::GivenUp));
        }
    }
}
