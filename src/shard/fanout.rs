//! From the mailbox to the sockets.
//!
//! A whole batch is taken from the mailbox, then each connection that gets something is written to once. Subscribers of
//! one channel only, which most are, all get the same bytes: they are put together once for each wire format (a
//! [`Run`]), and each costs one system call and no bookkeeping. Others collect theirs on a stage first.

use super::conn::{Conn, Subs};
use super::outbox::{Block, Gone, Piece};
use super::write::outbox_limit;
use super::{Fate, Shard};
use crate::http::request::Transport;
use crate::hub::{ChannelId, Delivery, Message, SlowPolicy, BROADCAST};
use crate::sys::clock;
use crate::transport::{poll, Encoder, Format};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// How many messages one batch takes.
const BATCH: usize = 1024;
/// How many batches one turn takes, before clients are read again.
const BATCHES: usize = 8;
/// Messages up to this size are copied together; larger ones are cheaper as pieces of their own.
const SMALL: usize = 4096;
/// About how large messages copied together may become. A client too slow for it holds a reference to all of it.
const BLOCK: usize = 128 * 1024;
/// How many staged messages are written before more are staged: it bounds the stage's memory.
const MAX_STAGED: usize = 1 << 18;

/// Messages for connections with several channels, collected over a batch.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// Lists of places in the batch, one list a connection, linked through this.
    entries: Vec<Staged>,
    /// Connections that have a list.
    conns: Vec<u32>,
    touched: Vec<ChannelId>,
}

#[derive(Debug, Clone, Copy)]
struct Staged {
    message: u32,
    next: u32,
}

/// The end of a list.
const END: u32 = u32::MAX;

/// Several messages as one subscriber gets them: encoded once, for all that share the wire format.
struct Run {
    format: Format,
    chunks: bool,
    keep_alive: bool,
    pieces: Vec<Piece>,
}

impl Run {
    fn new<'m>(
        conn: &Conn,
        messages: impl Iterator<Item = &'m Arc<Message>> + Clone,
        limit: usize,
        encoder: &Encoder,
    ) -> Self {
        let mut run = Run {
            format: conn.format,
            chunks: conn.flags.chunks,
            keep_alive: conn.flags.keep_alive,
            pieces: Vec::new(),
        };
        if run.format == Format::Poll {
            run.pieces.push(Piece::Bytes(answer(conn, messages, 0, limit, encoder).into()));
            return run;
        }
        let wire = conn.wire(encoder);
        let mut block = Growing::default();
        for message in messages {
            let bytes = wire.format.encode(message, encoder, wire.chunks);
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

    fn fits(&self, conn: &Conn) -> bool {
        self.format == conn.format
            && self.chunks == conn.flags.chunks
            && (self.format != Format::Poll || (self.keep_alive == conn.flags.keep_alive && conn.cors.is_none()))
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

    /// What has come together; the next is added to nothing.
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

/// The answer to a poll, at least up to `position`. What is beyond `limit` bytes the client gets by its next request.
pub(super) fn answer<'m>(
    conn: &Conn,
    messages: impl Iterator<Item = &'m Arc<Message>> + Clone,
    position: u64,
    limit: usize,
    encoder: &Encoder,
) -> Vec<u8> {
    let mut weight = 0;
    let messages = messages.take_while(move |message| {
        let first = weight == 0;
        weight += message.weight();
        first || weight <= limit
    });
    let position = messages.clone().last().map_or(position, |message| message.seq().max(position));
    let objects = messages.map(|message| Format::Poll.encode(message, encoder, false));
    let cors = conn.cors.as_deref().map_or("", String::as_str);
    poll::answer(&encoder.epoch().position(position), objects, cors, conn.flags.keep_alive, None)
}

impl Shard {
    /// Delivers what is in the mailbox; true when there may be more.
    pub(super) fn deliver(&mut self) -> bool {
        for _ in 0..BATCHES {
            if !self.deliver_batch(u64::MAX) {
                return false;
            }
        }
        true
    }

    /// Delivers what is in the mailbox up to a message, and not beyond.
    pub(super) fn deliver_until(&mut self, position: u64) {
        while self.deliver_batch(position) {}
    }

    /// Delivers one batch; true when there may be more.
    fn deliver_batch(&mut self, position: u64) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        while batch.len() < BATCH {
            let Some(delivery) = self.held.take().or_else(|| self.handle.mailbox.pop()) else { break };
            if delivery.message.seq() > position {
                self.held = Some(delivery);
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
            self.delivered = last.message.seq();
        }
        batch.clear();
        self.batch = batch;
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
        let mut touched = std::mem::take(&mut self.stage.touched);
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
        self.stage.touched = touched;
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
        super::panic_tests::maybe_panic(batch[first as usize].message.data());
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
            let encoder = &self.shared.encoder;
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
    fn write_pieces(&mut self, index: u32, pieces: &[Piece], messages: usize) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.flags.user_counted || conn.flags.proxied {
            self.uncount_poll(index);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let metrics = &self.handle.metrics;
        metrics.deliveries.add(messages as u64);
        let fate = match conn.transmit(pieces, &self.shared.encoder, &self.handle) {
            Err(Gone) => Some(Fate::Gone),
            Ok(written) => {
                metrics.bytes_sent.add(written as u64);
                if conn.transport() == Some(Transport::Poll) {
                    Some(Fate::Answered)
                } else {
                    let slow = conn.outbox.is_some()
                        && conn.too_slow(pieces.len(), outbox_limit(&self.shared, &self.config, &self.handle));
                    slow.then_some(Fate::Slow)
                }
            }
        };
        if let Some(fate) = fate {
            Self::doom(&mut self.doomed, index, conn, fate);
        }
        self.await_room(index);
    }

    /// Ends a poll whose answer is a copy that there is no room for; others are not affected.
    fn doom_copy(&mut self, index: u32) {
        if self.give_up_copy(index) {
            let conn = &self.conns[index as usize];
            // Settled before its being answered: the last is the first.
            Self::doom(&mut self.doomed, index, conn, Fate::Gone);
        }
    }

    /// Broadcasts to everybody, as if all had one more channel.
    fn fan_out_broadcasts(&mut self, batch: &[Delivery]) {
        let places: Vec<u32> = (0..batch.len() as u32).collect();
        let live = self.conns.iter().filter(|(_, conn)| conn.flags.live);
        let everybody: Vec<u32> = live.map(|(index, _)| index as u32).collect();
        self.write_all(batch, &places, &everybody, self.settled);
        self.settle_fates();
    }

    /// Collects messages for connections with several channels, in the order of the batch.
    fn stage_multi(&mut self, batch: &[Delivery]) {
        for (place, delivery) in batch.iter().enumerate() {
            if self.stage.entries.len() > MAX_STAGED {
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
                    self.stage.add(index, conn, place as u32);
                }
            }
        }
    }

    /// Writes what is staged, one call a connection.
    fn write_staged(&mut self, batch: &[Delivery]) {
        let conns = std::mem::take(&mut self.stage.conns);
        let mut pieces = Vec::new();
        for &index in &conns {
            let Some(conn) = self.conns.get_mut(index as usize) else { continue };
            conn.flags.staged = false;
            pieces.clear();
            pieces.extend(
                self.stage.list(conn.stage.0).map(|place| Piece::Message(batch[place as usize].message.clone())),
            );
            let count = pieces.len();
            if conn.format == Format::Poll {
                let messages = pieces.iter().filter_map(|piece| match piece {
                    Piece::Message(message) => Some(message),
                    _ => None,
                });
                let answer = answer(conn, messages, 0, self.config.outbox, &self.shared.encoder);
                pieces = vec![Piece::Bytes(Bytes::from(answer))];
            }
            self.write_pieces(index, &pieces, count);
            self.doom_copy(index);
        }
        self.stage.entries.clear();
        self.stage.entries.shrink_to(4096);
        self.stage.conns = conns;
        self.stage.conns.clear();
        // An answered poll may not be staged again.
        self.settle_fates();
    }
}

impl Stage {
    fn add(&mut self, index: u32, conn: &mut Conn, message: u32) {
        let entry = self.entries.len() as u32;
        self.entries.push(Staged { message, next: END });
        if conn.flags.staged {
            self.entries[conn.stage.1 as usize].next = entry;
        } else {
            conn.flags.staged = true;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Cut, Epoch, Hub, Mailbox, Outgoing, Publication, Request, Retention, Settings, Start, Wake};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    fn settings(slow_policy: SlowPolicy) -> Settings<'static> {
        Settings {
            retention: Retention { count: 0, age_ms: 1000, bytes: 0 },
            patterns: &[],
            slow_policy,
            slow_patterns: &[],
            total_bytes: 0,
            key_window_ms: 0,
            clock_us: || 0,
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_block_is_of_one_policy_though_a_reload_changes_it() {
        use SlowPolicy::{Disconnect, DropOldest, Latest};
        let mailbox = Arc::new(Mailbox::new(64, Box::new(NoWake)));
        let hub = Hub::new(Epoch::from_random(1), &settings(Disconnect), vec![mailbox.clone()]);
        let request = Request {
            shard: 0,
            names: &["c"],
            start: Start::New,
            limit: 0,
            broadcasts: true,
            cut: Cut::Tail,
            only_if_empty: false,
        };
        hub.subscribe(&request, &mut Default::default(), &mut Vec::new());
        for policy in [Disconnect, Latest, Disconnect, DropOldest, Disconnect] {
            hub.reconfigure(&settings(policy), 0);
            for data in ["one", "two"] {
                let message = Message::new(&Publication::new("", data.as_bytes()), false, b"");
                hub.publish(Outgoing { channel: "c", key: None, message }, 0).unwrap();
            }
        }
        let messages: Vec<Arc<Message>> = std::iter::from_fn(|| mailbox.pop()).map(|left| left.message).collect();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut conn = Conn::new(socket.into(), 1);
        conn.format = Format::Stream;
        let run = Run::new(&conn, messages.iter(), 1 << 20, &Encoder::new(hub.epoch().clone()));
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
