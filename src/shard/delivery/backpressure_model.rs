//! An outbox in which messages give way, beside what was put into it: for the fuzzers and the tests.
//!
//! Whatever is written in whatever parts between: each line comes whole, all in order. What may not give way comes. Of
//! a channel that drops, gaps have told of all that is missing before anything with a greater number comes, so that a
//! client may be cut off anywhere; of one that keeps the latest, the newest comes. What is counted is what is missing.
//! Positions of messages that leave the client out come, or something that leads further, and do not pile up.

use crate::dialect::{Encoder, Format};
use crate::fuzzing::Source;
use crate::hub::{
    ChannelPattern, ClientId, Cut, Epoch, Hub, Join, Mailbox, Message, Outgoing, Publication, Replay, Request,
    Retention, Settings, SlowPolicy, Start,
};
use crate::shard::delivery::backpressure::Lost;
use crate::shard::delivery::excepting::add_for;
use crate::shard::delivery::outbox::{Block, Outbox, Piece, Wire, PIECE_WEIGHT};
use crate::shard::turn::command::ShardHandle;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The last is that of the broadcasts; it and the one before follow the general policy.
const CHANNELS: [&str; 6] = ["d1", "d2", "l1", "l2", "x", ""];

/// Fills an outbox, makes room in it and writes from it, as the bytes say. Then it writes the rest, and checks all
/// bytes that came.
pub(crate) fn run(data: &[u8]) {
    let mut source = Source(data);
    // The last byte chooses the policy, since the steps read from the front.
    let policies = [SlowPolicy::Disconnect, SlowPolicy::DropOldest, SlowPolicy::Latest];
    let mut world = World::new(policies[usize::from(data.last().copied().unwrap_or(0)) % 3]);
    let mut steps = 0;
    while !source.is_empty() && steps < 300 {
        world.step(&mut source);
        steps += 1;
    }
    world.write(usize::MAX);
    assert!(world.outbox.is_empty());
    world.check();
}

struct World {
    /// The policy of what has none of its own.
    general: SlowPolicy,
    hub: Hub,
    mailbox: Arc<Mailbox>,
    encoder: Encoder,
    handle: Arc<ShardHandle>,
    outbox: Box<Outbox>,
    /// Each message put in, by its number: its channel and its line.
    put: BTreeMap<u64, (&'static str, Vec<u8>)>,
    /// The positions put in, and their channels.
    told: BTreeMap<u64, &'static str>,
    /// How many lines were put in that are no messages.
    plain: usize,
    written: Vec<u8>,
    /// How many messages of each channel are said to have given way.
    lost: BTreeMap<String, u64>,
}

/// A hub with a subscriber of some channels: of those that begin with `d` the oldest may be dropped, with `l` old ones
/// be replaced; others follow the general policy.
pub(in crate::shard) fn subscribed(names: &[&str], general: SlowPolicy) -> (Hub, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::new(4096, Box::new(|| {})));
    let patterns = [("d*", SlowPolicy::DropOldest), ("l*", SlowPolicy::Latest)]
        .map(|(text, policy)| (ChannelPattern::parse(text).expect("a pattern"), policy));
    let settings = Settings {
        slow_policy: general,
        slow_patterns: &patterns,
        ..Settings::keeping(Retention { count: 10, age_ms: 1000, bytes: 1 << 20 })
    };
    let hub = Hub::new(Epoch::from_random(1), &settings, vec![mailbox.clone()]);
    let request =
        Request { shard: 0, names, start: Start::New, limit: 0, broadcasts: true, cut: Cut::Tail, join: Join::Always };
    hub.subscribe(&request, &mut Replay::default(), &mut Vec::new());
    (hub, mailbox)
}

impl World {
    fn new(general: SlowPolicy) -> Self {
        let (hub, mailbox) = subscribed(&CHANNELS[..CHANNELS.len() - 1], general);
        let handle = Arc::new(ShardHandle::new(0, 16).expect("an event descriptor"));
        World {
            general,
            hub,
            mailbox,
            encoder: Encoder::new(Epoch::from_random(1)),
            outbox: Outbox::new(&handle),
            handle,
            put: BTreeMap::new(),
            told: BTreeMap::new(),
            plain: 0,
            written: Vec::new(),
            lost: BTreeMap::new(),
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let wire = Wire { format: Format::STREAM, chunks: false, encoder: &self.encoder };
        match source.below(9) {
            8 => self.put_position(source.below(CHANNELS.len())),
            0..=2 => {
                let message = self.message(source.below(CHANNELS.len()), source.below(200));
                let wire = Wire { format: Format::STREAM, chunks: false, encoder: &self.encoder };
                self.outbox.push(Piece::Message(message), &wire);
            }
            3 => {
                let channel = source.below(CHANNELS.len());
                let count = 2 + source.below(5);
                let messages: Vec<_> = (0..count).map(|_| self.message(channel, source.below(50))).collect();
                let wire = Wire { format: Format::STREAM, chunks: false, encoder: &self.encoder };
                let lines = messages.iter().map(|message| wire.format.encode(message, wire.encoder, wire.chunks));
                let bytes = Bytes::from(lines.collect::<Vec<_>>().concat());
                // As a fan-out makes them: taken apart only where the policy may want to.
                let apart = messages[0].slow() != SlowPolicy::Disconnect;
                let messages = if apart { messages.into() } else { Box::default() };
                self.outbox.push(Piece::Block(Arc::new(Block { bytes, messages })), &wire);
            }
            4 => {
                self.outbox.push(Piece::Bytes(format!("plain {}\n", self.plain).into()), &wire);
                self.plain += 1;
            }
            5 => {
                let count = source.below(256) * (1 + source.below(4));
                self.write(count);
            }
            6 => {
                let lost = self.outbox.replace_old(&wire);
                self.note(&lost, SlowPolicy::Latest);
            }
            _ => {
                let target = source.below(256) * 16;
                let lost = self.outbox.drop_oldest(target, &wire);
                self.note(&lost, SlowPolicy::DropOldest);
            }
        }
        let held = self.waiting().len() + self.outbox.offset + self.outbox.len() * PIECE_WEIGHT;
        assert_eq!(self.handle.metrics.outbox_bytes.get() as usize, held, "the gauge");
        let begun = usize::from(self.outbox.offset > 0);
        let unbegun: Vec<&Piece> = self.outbox.pieces.iter().skip(begun).collect();
        assert!(
            unbegun.windows(2).all(|two| !two[0].is_outrun_by(two[1])),
            "a position that says nothing: {unbegun:?}"
        );
    }

    /// A message that leaves the client out.
    fn put_position(&mut self, channel: usize) {
        let id = Some(ClientId::from_bytes([1; 16]));
        let message = self.message_except(channel, 10, id);
        self.put.remove(&message.seq());
        self.told.insert(message.seq(), CHANNELS[channel]);
        let wire = Wire { format: Format::STREAM, chunks: false, encoder: &self.encoder };
        let mut pieces = Vec::new();
        add_for(&mut pieces, message, id, &wire);
        pieces.into_iter().for_each(|piece| self.outbox.push(piece, &wire));
    }

    /// A message that the hub has numbered.
    fn message(&mut self, channel: usize, size: usize) -> Arc<Message> {
        self.message_except(channel, size, None)
    }

    fn message_except(&mut self, channel: usize, size: usize, except: Option<ClientId>) -> Arc<Message> {
        let channel = CHANNELS[channel];
        let data = "x".repeat(size);
        let message = Message::new(&Publication { except, ..Publication::new("", data.as_bytes()) }, false, b"");
        self.hub.publish(Outgoing::new(channel, None, message), 0).expect("there is room");
        let message = self.mailbox.pop().expect("it is subscribed").message;
        let line = Format::STREAM.encode(&message, &self.encoder, false).to_vec();
        self.put.insert(message.seq(), (channel, line));
        message
    }

    fn note(&mut self, lost: &[Lost], policy: SlowPolicy) {
        for lost in lost {
            assert_eq!(lost.last.slow(), policy, "another policy's");
            let channel = lost.last.channel().unwrap_or("");
            *self.lost.entry(channel.to_owned()).or_default() += lost.count;
        }
    }

    /// All that would be written if it were now.
    fn waiting(&self) -> Vec<u8> {
        let wire = Wire { format: Format::STREAM, chunks: false, encoder: &self.encoder };
        let all: Vec<&[u8]> = self.outbox.pieces.iter().map(|piece| piece.bytes(&wire)).collect();
        all.concat().split_off(self.outbox.offset)
    }

    /// Writes as much as a socket might take.
    fn write(&mut self, count: usize) {
        let mut bytes = self.waiting();
        bytes.truncate(count);
        let wire = Wire { format: Format::STREAM, chunks: false, encoder: &self.encoder };
        self.outbox.advance(bytes.len(), &wire);
        self.written.extend_from_slice(&bytes);
    }

    /// Looks at everything that was written.
    fn check(&self) {
        let numbers: BTreeMap<&[u8], u64> = self.put.iter().map(|(seq, (_, line))| (&line[..], *seq)).collect();
        let mut came: BTreeSet<u64> = BTreeSet::new();
        let mut gaps: BTreeMap<u64, &str> = BTreeMap::new();
        // Each numbered line, and the channel of which it says that something is gone.
        let mut lines: Vec<(u64, Option<&str>)> = Vec::new();
        let (mut plain, mut last) = (0, 0);
        for line in self.written.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b"plain ") {
                assert_eq!(line, format!("plain {plain}\n").as_bytes());
                plain += 1;
                continue;
            }
            let (seq, gone) = match numbers.get(line) {
                Some(seq) => {
                    came.insert(*seq);
                    (*seq, None)
                }
                None => {
                    let (seq, channel, is_gap) = self.gap(line);
                    if is_gap {
                        gaps.insert(seq, channel);
                    }
                    (seq, Some(channel).filter(|_| is_gap))
                }
            };
            lines.push((seq, gone));
            assert!(seq > last, "{seq} after {last}");
            last = seq;
        }
        assert_eq!(plain, self.plain, "what is no message never gives way");
        assert!(self.told.keys().all(|seq| *seq <= last), "a position is lost: {:?}, {last}", self.told);
        for name in CHANNELS {
            let all = || self.put.iter().filter(|(_, (channel, _))| *channel == name).map(|(seq, _)| *seq);
            let missing: Vec<u64> = all().filter(|seq| !came.contains(seq)).collect();
            assert_eq!(
                missing.len() as u64,
                self.lost.get(name).copied().unwrap_or(0),
                "{name}: as many as are counted"
            );
            let next = |seq: u64| all().find(|other| *other > seq && came.contains(other));
            match self.policy(name) {
                SlowPolicy::DropOldest => missing.iter().for_each(|seq| {
                    let after = lines.get(lines.partition_point(|(line, _)| line < seq));
                    let told = after.is_some_and(|(_, gone)| *gone == Some(name));
                    assert!(told, "{name}: {seq} is missing, and what comes after that does not say so: {after:?}");
                }),
                SlowPolicy::Latest => {
                    missing.iter().for_each(|seq| assert!(next(*seq).is_some(), "{name}: {seq} was the newest"))
                }
                SlowPolicy::Disconnect => assert!(missing.is_empty(), "{name} does not give way: {missing:?}"),
            }
        }
        for (seq, name) in &gaps {
            assert!(
                self.policy(name) == SlowPolicy::DropOldest && !came.contains(seq),
                "{name}: a gap at {seq} that tells nothing"
            );
        }
    }

    fn policy(&self, name: &str) -> SlowPolicy {
        match name.as_bytes().first() {
            Some(b'd') => SlowPolicy::DropOldest,
            Some(b'l') => SlowPolicy::Latest,
            _ => self.general,
        }
    }

    /// The place and the channel of a gap, or of a position.
    fn gap(&self, line: &[u8]) -> (u64, &'static str, bool) {
        let text = String::from_utf8_lossy(line);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let is_gap = value["type"] == "gap";
        assert!(is_gap || value["type"] == "position", "a line that nobody put in: {text}");
        let seq = value["id"].as_str().and_then(|id| id.rsplit('-').next()?.parse().ok()).expect("a position");
        let channel = match is_gap {
            true => self.put.get(&seq).expect("a gap stands for a message").0,
            false => self.told.get(&seq).copied().expect("a position that was put in"),
        };
        assert_eq!(value["channel"].as_str().unwrap_or(""), channel);
        (seq, channel, is_gap)
    }
}
