//! Drives the hub with a sequence of events, beside a simple model of it. The model has every message ever published,
//! which of them are kept, and what each client has seen. Subscribers come, go, come back, catch up in parts, and read
//! late. Messages are trimmed by count, bytes, age and the common bound, and a reload changes these bounds. Mailboxes
//! become full.
//!
//! Each answer of the hub, each mailbox and each replay is compared with the model. For each client it is checked that
//! no message is lost without a gap, that none comes twice, that the order is kept, and that a gap is announced only if
//! a message is lost.

mod by_pattern;
mod publishing;
mod subscribing;

use super::Source;
use crate::error::Kind;
use crate::hub::{
    ChannelId, ChannelPattern, ClientId, Cut, Delivery, Epoch, Hub, Item, Join, Leave, Mailbox, Mark, Message,
    Outgoing, Position, Publication, Replay, Request, Retention, Settings, Start, BROADCAST,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use subscribing::shown;

const CHANNELS: [&str; 4] = ["a", "b", "b.x", "c"];
const PATTERNS: [&str; 3] = ["*", "b*", "b.*"];
/// How many different ones there may be.
const MAX_PATTERNS: usize = 2;
const EVERYBODY: &str = "";
const SHARDS: usize = 2;
const CLIENTS: usize = 4;
const KEYS: [&str; 2] = ["k", "l"];

/// Runs a sequence of events.
pub(super) fn run(data: &[u8]) {
    let mut source = Source(data);
    let mut world = World::new(&mut source);
    let mut steps = 0;
    while !source.is_empty() && steps < 400 {
        world.step(&mut source);
        steps += 1;
    }
    world.settle();
}

/// The model of one channel: the messages that were published in it, and those that are kept.
#[derive(Default)]
struct Known {
    all: Vec<u64>,
    /// The ends that were taken back: something came after them. Only clients that were there then may have seen them.
    taken_back: Vec<u64>,
    /// Whether nothing was dropped since the channel's stream began.
    is_whole: bool,
    kept: VecDeque<Kept>,
    /// The number of the newest message that was dropped.
    trimmed: u64,
}

/// A message in a channel's history.
struct Kept {
    seq: u64,
    weight: usize,
    published_at: u64,
    mark: Option<Mark>,
}

impl Known {
    fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.weight).sum()
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.trimmed = oldest.seq;
            self.is_whole &= oldest.mark.is_some() && !self.kept.is_empty();
        }
    }

    /// The number of the end, if its stream has ended.
    fn end(&self) -> Option<u64> {
        self.kept.back().filter(|newest| newest.mark == Some(Mark::End)).map(|end| end.seq)
    }

    /// The number after which a client begins that wants the stream from its beginning.
    fn beginning(&self) -> u64 {
        let begin = self.kept.front().filter(|oldest| oldest.mark == Some(Mark::Begin));
        match self.is_whole {
            false => 0,
            true => begin.map_or(self.trimmed, |begin| begin.seq - 1),
        }
    }

    /// Whether anything was published after `from` and before `to`.
    fn any_between(&self, from: u64, to: u64) -> bool {
        self.all.iter().any(|seq| *seq > from && *seq < to)
    }
}

/// The model of a shard: the expected content of its mailbox, and the number of its subscriptions by channel.
#[derive(Default)]
struct Shard {
    mail: VecDeque<(u64, &'static str)>,
    subscriptions: BTreeMap<ChannelId, (&'static str, u32)>,
    /// Subscriptions that have ended and that the hub was not told of yet.
    left: BTreeMap<ChannelId, u32>,
    /// Whether the hub delivers messages of a channel to the shard, by what the shard has told it so far.
    told: BTreeMap<&'static str, bool>,
}

#[derive(Default)]
struct Client {
    shard: usize,
    channels: Vec<Subscription>,
    /// Its patterns, with their numbers while it is live.
    patterns: Vec<(&'static str, Option<ChannelId>)>,
    phase: Phase,
    /// All messages up to here have been seen or announced as a gap.
    position: u64,
    /// The same for broadcasts.
    joined: u64,
}

struct Subscription {
    name: &'static str,
    id: Option<ChannelId>,
    /// The position that the hub's replay reached. Deliveries up to here are skipped.
    joined: u64,
    /// All messages of the channel up to here have been seen or announced as a gap. `None`: the beginning is not known
    /// yet.
    covered: Option<u64>,
    /// It has the channel by a pattern alone, and so has no number for it.
    by_pattern: bool,
    /// A gap of its pattern has told of what is missing up to here.
    excused: u64,
}

impl Subscription {
    fn new(name: &'static str, by_pattern: bool) -> Self {
        Subscription { name, id: None, joined: 0, covered: None, by_pattern, excused: 0 }
    }
}

#[derive(Default, PartialEq)]
enum Phase {
    #[default]
    Away,
    CatchingUp,
    Live,
}

/// An idempotency key that was published with.
struct UsedKey {
    channel: &'static str,
    key: &'static str,
    used_at: u64,
    seq: u64,
}

struct World {
    hub: Hub,
    epoch: Epoch,
    mailboxes: Vec<Arc<Mailbox>>,
    room: usize,
    general: Retention,
    /// The retention of the channels with this prefix.
    special: (&'static str, Retention),
    total_limit: usize,
    key_window: u64,
    known: BTreeMap<&'static str, Known>,
    keys: Vec<UsedKey>,
    shards: Vec<Shard>,
    clients: Vec<Client>,
    seq: u64,
    now: u64,
    /// The clients that messages leave out, by the messages' numbers.
    excepted: BTreeMap<u64, ClientId>,
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let (general, special) = (retention(source), ("b", retention(source)));
        let total_limit = total_limit(source);
        let room = 2 + source.below(14);
        let key_window = source.below(30) as u64;
        let mailboxes: Vec<_> = (0..SHARDS).map(|_| Arc::new(Mailbox::new(room, Box::new(|| {})))).collect();
        let epoch = Epoch::from_random(7);
        let patterns = patterns(special);
        let settings = settings(general, &patterns, total_limit, key_window);
        let names = CHANNELS.iter().chain(&[EVERYBODY]);
        World {
            hub: Hub::new(epoch.clone(), &settings, mailboxes.clone()),
            epoch,
            mailboxes,
            room,
            general,
            special,
            total_limit,
            key_window,
            known: names.map(|name| (*name, Known::default())).collect(),
            keys: Vec::new(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            seq: 0,
            now: 0,
            excepted: BTreeMap::new(),
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.below(16) {
            0..=3 => self.publish(source, 1),
            4 => {
                let count = 2 + source.below(4);
                self.publish(source, count);
            }
            5..=7 => self.come(source),
            8 => self.go(source.below(CLIENTS)),
            9 | 10 => {
                let (shard, count) = (source.below(SHARDS), 1 + source.below(6));
                self.deliver(shard, count);
            }
            11 => {
                self.now += source.below(32) as u64;
                self.expire();
            }
            12 => match CHANNELS.get(source.below(CHANNELS.len() + 2)) {
                Some(channel) => self.clear(channel),
                None => self.reload(source),
            },
            13 if source.below(3) == 0 => self.subscribe_pattern_live(source),
            13 => self.subscribe_live(source),
            14 => self.unsubscribe_live(source),
            _ => self.tell_leaves(source.below(SHARDS)),
        }
        self.compare();
    }

    /// Lets all clients read everything, and those that are away come back. Then nothing may be missing.
    fn settle(&mut self) {
        for client in 0..CLIENTS {
            for shard in 0..SHARDS {
                self.deliver(shard, usize::MAX);
            }
            if self.clients[client].phase == Phase::Away && !self.clients[client].channels.is_empty() {
                self.clients[client].phase = Phase::CatchingUp;
            }
            while self.clients[client].phase == Phase::CatchingUp {
                self.catch_up(client, usize::MAX, Join::Always);
            }
        }
        for client in 0..CLIENTS {
            if self.clients[client].phase == Phase::Live {
                self.reached(client, self.seq, true);
            }
            self.go(client);
        }
        (0..SHARDS).for_each(|shard| self.tell_leaves(shard));
        self.now += 1_000_000;
        self.expire();
        self.compare();
        let stats = self.hub.stats();
        let left = (stats.subscriptions, stats.patterns, stats.channels, stats.history_bytes);
        assert_eq!(left, (0, 0, 0, 0), "the hub is not empty");
    }
}

fn retention(source: &mut Source<'_>) -> Retention {
    let weight = message(0).weight();
    Retention {
        count: source.below(6),
        age_ms: 1 + source.below(40) as u64,
        bytes: weight * source.below(8) + source.below(9),
    }
}

fn total_limit(source: &mut Source<'_>) -> usize {
    message(0).weight() * (1 + source.below(12))
}

fn patterns((prefix, special): (&str, Retention)) -> [(ChannelPattern, Retention); 1] {
    [(ChannelPattern::parse(&format!("{prefix}*")).expect("a pattern"), special)]
}

fn settings(
    general: Retention,
    patterns: &[(ChannelPattern, Retention)],
    total_bytes: usize,
    key_window_ms: u64,
) -> Settings<'_> {
    let client_patterns = MAX_PATTERNS;
    Settings { patterns, total_bytes, key_window_ms, client_patterns, ..Settings::keeping(general) }
}

/// A message of this size. Some leave a client out.
fn message(size: usize) -> Arc<Message> {
    let except = (size % 5 == 4).then(|| ClientId::from_bytes([size as u8; 16]));
    Message::new(&Publication { except, ..Publication::new("", &vec![b'x'; size]) }, false, b"")
}
