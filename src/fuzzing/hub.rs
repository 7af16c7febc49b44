//! The hub as a state machine, beside a model that is simple enough to be believed: every message ever published, which of them
//! are kept, and what each client has seen. Subscribers come, go, come back, catch up in parts, and read late; messages
//! are trimmed by count, bytes, age and the bound of all; mailboxes are full.
//!
//! Held against each other: each answer of the hub, each mailbox, each replay. Held for each client: nothing is lost without a
//! gap, nothing comes twice, order is kept, and a gap is announced only where something is gone.

use super::Source;
use crate::error::Kind;
use crate::hub::{
    ChannelId, ChannelPattern, Cut, Delivery, Epoch, Hub, Item, Leave, Mailbox, Message, Outgoing, Position,
    Publication, Replay, Request, Retention, Settings, SlowPolicy, Start, Wake, BROADCAST,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const CHANNELS: [&str; 4] = ["a", "b", "b.x", "c"];
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

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// What is known of one channel: all that was published in it, and the part that is kept.
#[derive(Default)]
struct Known {
    all: Vec<u64>,
    /// Number, weight, since when.
    kept: VecDeque<(u64, usize, u64)>,
    /// The newest message that is gone.
    trimmed: u64,
}

impl Known {
    fn bytes(&self) -> usize {
        self.kept.iter().map(|(_, weight, _)| weight).sum()
    }

    fn drop_oldest(&mut self) {
        if let Some((seq, ..)) = self.kept.pop_front() {
            self.trimmed = seq;
        }
    }

    /// Whether anything was published after `from` and before `to`.
    fn any_between(&self, from: u64, to: u64) -> bool {
        self.all.iter().any(|seq| *seq > from && *seq < to)
    }
}

/// A shard: its mailbox as it must be, and how many subscriptions it has of what.
#[derive(Default)]
struct Shard {
    mail: VecDeque<(u64, &'static str)>,
    subscriptions: BTreeMap<ChannelId, (&'static str, u32)>,
    /// Ended, and not told to the hub yet.
    left: BTreeMap<ChannelId, u32>,
    /// Where the hub delivers to, with what the shard has told it so far.
    told: BTreeMap<&'static str, bool>,
}

#[derive(Default)]
struct Client {
    shard: usize,
    channels: Vec<Subscription>,
    phase: Phase,
    /// Everything up to here has been seen or announced as gone.
    position: u64,
    /// The same for broadcasts.
    joined: u64,
}

struct Subscription {
    name: &'static str,
    id: Option<ChannelId>,
    /// What the hub's replay reached: the mailbox repeats nothing up to here.
    joined: u64,
    /// Everything of the channel up to here has been seen, or announced as gone; `None` before it is known where it begins.
    covered: Option<u64>,
}

#[derive(Default, PartialEq)]
enum Phase {
    #[default]
    Away,
    CatchingUp,
    Live,
}

struct World {
    hub: Hub,
    epoch: Epoch,
    mailboxes: Vec<Arc<Mailbox>>,
    room: usize,
    general: Retention,
    special: Retention,
    total_limit: usize,
    key_window: u64,
    known: BTreeMap<&'static str, Known>,
    keys: Vec<(&'static str, &'static str, u64, u64)>,
    shards: Vec<Shard>,
    clients: Vec<Client>,
    seq: u64,
    now: u64,
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let weight = message(0).weight();
        let mut retention = || Retention {
            count: source.below(6),
            age_ms: 1 + source.below(40) as u64,
            bytes: weight * source.below(8) + source.below(9),
        };
        let (general, special) = (retention(), retention());
        let total_limit = weight * (1 + source.below(12));
        let room = 2 + source.below(14);
        let key_window = source.below(30) as u64;
        let mailboxes: Vec<_> = (0..SHARDS).map(|_| Arc::new(Mailbox::new(room, Box::new(NoWake)))).collect();
        let epoch = Epoch::from_random(7);
        let patterns = [(ChannelPattern::parse("b*").expect("a pattern"), special)];
        let settings = Settings {
            retention: general,
            patterns: &patterns,
            slow_policy: SlowPolicy::Disconnect,
            slow_patterns: &[],
            total_bytes: total_limit,
            key_window_ms: key_window,
            clock_us: || 0,
        };
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
            12 => self.clear(CHANNELS[source.below(CHANNELS.len())]),
            13 => self.subscribe_live(source),
            14 => self.unsubscribe_live(source),
            _ => self.tell_leaves(source.below(SHARDS)),
        }
        self.compare();
    }

    /// Everybody reads everything, and whoever is away comes back: then all is accounted for.
    fn settle(&mut self) {
        for client in 0..CLIENTS {
            for shard in 0..SHARDS {
                self.deliver(shard, usize::MAX);
            }
            if self.clients[client].phase == Phase::Away && !self.clients[client].channels.is_empty() {
                self.clients[client].phase = Phase::CatchingUp;
            }
            while self.clients[client].phase == Phase::CatchingUp {
                self.catch_up(client, usize::MAX, false);
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
        assert_eq!((stats.subscriptions, stats.channels, stats.history_bytes), (0, 0, 0), "something stays behind");
    }

    fn retention(&self, channel: &str) -> Retention {
        if channel.starts_with('b') {
            self.special
        } else {
            self.general
        }
    }

    // Publishing.

    fn publish(&mut self, source: &mut Source<'_>, count: usize) {
        let mut wanted = Vec::new();
        for _ in 0..count {
            let channel = source.below(CHANNELS.len() + 1);
            let channel = CHANNELS.get(channel).copied().unwrap_or(EVERYBODY);
            let key = KEYS.get(source.below(8)).copied();
            wanted.push((channel, key, message(source.below(200))));
        }
        let outgoing = |(channel, key, message): &(&'static str, Option<&'static str>, Arc<Message>)| Outgoing {
            channel,
            key: *key,
            // A copy: the hub places a message that nobody shares.
            message: copy(message),
        };
        let before = self.hub.stats();
        let result = match &wanted[..] {
            [one] => self.hub.publish(outgoing(one), self.now).map(|published| vec![published]),
            all => self.hub.publish_batch(all.iter().map(outgoing).collect(), self.now),
        };
        let refused = self.refusal(&wanted);
        match (result, refused) {
            (Ok(published), None) => {
                for ((channel, key, message), published) in wanted.iter().zip(published) {
                    assert_eq!(published.seq, self.note(channel, *key, message));
                }
            }
            (Err(error), Some(kind)) => {
                assert_eq!(error.kind(), kind);
                let after = self.hub.stats();
                assert_eq!((after.seq, after.history_bytes), (before.seq, before.history_bytes), "half done");
            }
            (result, refused) => panic!("{result:?}, but expected was {refused:?}"),
        }
    }

    /// With what a publish must be refused.
    fn refusal(&mut self, wanted: &[(&'static str, Option<&'static str>, Arc<Message>)]) -> Option<Kind> {
        let single_known = wanted.len() == 1 && self.known_key(wanted[0].0, wanted[0].1).is_some();
        if single_known {
            return None;
        }
        let mut needed = [0; SHARDS];
        for (channel, ..) in wanted {
            for (shard, needed) in needed.iter_mut().enumerate() {
                *needed += usize::from(self.delivers_to(shard, channel));
            }
        }
        if needed.iter().any(|needed| *needed > self.room) {
            return Some(Kind::TooLarge);
        }
        let full =
            (0..SHARDS).any(|shard| needed[shard] + self.shards[shard].mail.len() > self.room && needed[shard] > 0);
        full.then_some(Kind::Busy)
    }

    fn delivers_to(&self, shard: usize, channel: &str) -> bool {
        channel == EVERYBODY || self.shards[shard].told.get(channel).copied().unwrap_or(false)
    }

    fn known_key(&self, channel: &str, key: Option<&str>) -> Option<u64> {
        let key = key?;
        let alive = |since: u64| self.now - since < self.key_window;
        let found = self.keys.iter().rev().find(|(c, k, since, _)| *c == channel && *k == key && alive(*since));
        found.map(|(.., seq)| *seq)
    }

    /// What a publish that succeeds does; the number it must have.
    fn note(&mut self, channel: &'static str, key: Option<&'static str>, message: &Message) -> u64 {
        if let Some(seq) = self.known_key(channel, key) {
            return seq;
        }
        self.seq += 1;
        let seq = self.seq;
        if let Some(key) = key {
            self.keys.push((channel, key, self.now, seq));
        }
        for shard in 0..SHARDS {
            if self.delivers_to(shard, channel) {
                self.shards[shard].mail.push_back((seq, channel));
            }
        }
        let retention = self.retention(channel);
        let known = self.known.get_mut(channel).expect("a channel");
        known.all.push(seq);
        if retention.count == 0 || retention.bytes == 0 {
            known.trimmed = seq;
            return seq;
        }
        known.kept.push_back((seq, message.weight(), self.now));
        while known.kept.len() > retention.count || known.bytes() > retention.bytes {
            known.drop_oldest();
        }
        while self.known.values().map(Known::bytes).sum::<usize>() > self.total_limit {
            let kept = self.known.values_mut().filter(|known| !known.kept.is_empty());
            kept.min_by_key(|known| known.kept[0].0).expect("something is kept").drop_oldest();
        }
        seq
    }

    fn expire(&mut self) {
        self.hub.expire(self.now);
        let now = self.now;
        let (general, special) = (self.general, self.special);
        for (name, known) in &mut self.known {
            let age = if name.starts_with('b') { special } else { general }.age_ms;
            while known.kept.front().is_some_and(|(.., since)| now - since >= age) {
                known.drop_oldest();
            }
        }
    }

    fn clear(&mut self, channel: &'static str) {
        self.hub.clear(channel);
        let known = self.known.get_mut(channel).expect("a channel");
        while !known.kept.is_empty() {
            known.drop_oldest();
        }
    }

    /// The hub has what the model has.
    fn compare(&self) {
        let stats = self.hub.stats();
        let kept: usize = self.known.values().map(|known| known.kept.len()).sum();
        let bytes: usize = self.known.values().map(Known::bytes).sum();
        assert_eq!(
            (stats.seq, stats.history_messages, stats.history_bytes),
            (self.seq, kept as u64, bytes as u64),
            "sequence, messages kept, bytes kept"
        );
    }

    // Subscribing.

    fn come(&mut self, source: &mut Source<'_>) {
        let client = source.below(CLIENTS);
        let (shard, mask, how, limit) = (source.below(SHARDS), source.byte(), source.below(6), self.limit(source));
        let poll = source.below(4) == 0;
        match self.clients[client].phase {
            Phase::CatchingUp => return self.catch_up(client, limit, false),
            Phase::Live => self.go(client),
            Phase::Away => {}
        }
        let returns = !self.clients[client].channels.is_empty() && how >= 2;
        if returns {
            // It comes back by its position, perhaps to another shard.
            self.clients[client].shard = shard;
            self.clients[client].phase = Phase::CatchingUp;
            return self.catch_up(client, limit, poll);
        }
        let names: Vec<_> = (0..CHANNELS.len()).filter(|bit| mask >> bit & 1 == 1).map(|bit| CHANNELS[bit]).collect();
        let start = match how {
            0 => Start::New,
            1 => Start::Last(1 + usize::from(mask >> 5)),
            // Another life, or a number of this one that never was.
            2 => Start::Since(Position { epoch: "other", seq: 3 }),
            _ => Start::Since(Position { epoch: "0000000000000", seq: self.seq + 1 }),
        };
        let channels = names.iter().map(|name| Subscription { name, id: None, joined: 0, covered: None });
        self.clients[client] =
            Client { shard, channels: channels.collect(), phase: Phase::CatchingUp, position: 0, joined: self.seq };
        self.ask(client, start, limit, false);
    }

    fn limit(&self, source: &mut Source<'_>) -> usize {
        match source.below(4) {
            0 => usize::MAX,
            n => n * message(100).weight(),
        }
    }

    fn catch_up(&mut self, client: usize, limit: usize, poll: bool) {
        let seq = self.clients[client].position;
        let epoch = self.epoch.clone();
        let start = Start::Since(Position { epoch: epoch.as_str(), seq });
        if self.clients[client].channels.iter().any(|channel| channel.covered.is_none()) {
            // It never got so far as to have a position.
            self.clients[client] = Client::default();
            return;
        }
        self.ask(client, start, limit, poll);
    }

    fn ask(&mut self, client: usize, start: Start<'_>, limit: usize, poll: bool) {
        let names: Vec<_> = self.clients[client].channels.iter().map(|channel| channel.name).collect();
        let request = Request {
            shard: self.clients[client].shard,
            names: &names,
            start,
            limit,
            broadcasts: true,
            cut: Cut::Tail,
            only_if_empty: poll,
        };
        let (mut replay, mut ids) = (Replay::default(), anothers_channels());
        self.hub.subscribe(&request, &mut replay, &mut ids);
        let expected = self.expected(&names, start);
        let shown: Vec<_> = replay.items.iter().map(shown).collect();
        match start {
            Start::Last(_) => assert!(shown.iter().filter(|item| !item.2).all(|item| expected.contains(item))),
            _ if replay.complete => assert_eq!(shown, expected),
            _ => assert_eq!(shown, expected[..shown.len()], "a part is the beginning of the whole"),
        }
        assert!(replay.complete || !shown.is_empty(), "a part that gets nowhere");
        let of_this_life = |position: Position<'_>| position.epoch == self.epoch.as_str() && position.seq <= self.seq;
        let foreign = matches!(start, Start::Since(position) if !of_this_life(position));
        for item in &replay.items {
            self.account(client, item, foreign || matches!(start, Start::Last(_)));
        }
        self.reached(client, replay.position, replay.complete);
        if foreign && !replay.complete {
            // Broadcasts were left out with the other life; from here on they count.
            self.clients[client].joined = replay.position;
        }
        let subscribed = replay.complete && (replay.items.is_empty() || !poll);
        if !subscribed {
            assert!(ids.is_empty(), "nothing was subscribed");
            self.clients[client].phase = if replay.complete { Phase::Away } else { Phase::CatchingUp };
            return;
        }
        self.clients[client].phase = Phase::Live;
        self.clients[client].joined = replay.position;
        for (place, (id, name)) in ids.iter().enumerate() {
            assert_eq!(**name, *names[place]);
            self.join(client, place, *id, replay.position);
        }
    }

    fn join(&mut self, client: usize, place: usize, id: ChannelId, joined: u64) {
        let client = &mut self.clients[client];
        let channel = &mut client.channels[place];
        channel.id = Some(id);
        channel.joined = joined;
        let shard = &mut self.shards[client.shard];
        shard.subscriptions.entry(id).or_insert((channel.name, 0)).1 += 1;
        shard.told.insert(channel.name, true);
    }

    /// What a replay must be that is not cut: number, channel, whether it is a gap.
    fn expected(&self, names: &[&'static str], start: Start<'_>) -> Vec<(u64, String, bool)> {
        let (after, foreign) = match start {
            Start::Since(position) if position.epoch == self.epoch.as_str() && position.seq <= self.seq => {
                (position.seq, false)
            }
            Start::Since(_) => (0, true),
            _ => (self.seq, false),
        };
        let mut items = Vec::new();
        for name in names.iter().chain(&[EVERYBODY]) {
            let known = &self.known[name];
            if let Start::Last(count) = start {
                let kept = known.kept.iter().skip(known.kept.len().saturating_sub(count));
                items.extend(kept.filter(|_| *name != EVERYBODY).map(|(seq, ..)| (*seq, (*name).to_owned(), false)));
                continue;
            }
            let (after, foreign) = match (*name, start) {
                (_, Start::New) => continue,
                (EVERYBODY, _) if foreign => (self.seq, false),
                _ => (after, foreign),
            };
            if foreign || after < known.trimmed {
                items.push((known.trimmed, (*name).to_owned(), true));
            }
            let kept = known.kept.iter().filter(|(seq, ..)| *seq > after);
            items.extend(kept.map(|(seq, ..)| (*seq, (*name).to_owned(), false)));
        }
        items.sort_by_key(|(seq, _, gap)| (*seq, !gap));
        items
    }

    /// One step of what a client is told.
    fn account(&mut self, client: usize, item: &Item, begins: bool) {
        let (seq, name, gap) = shown(item);
        let known = &self.known[name.as_str()];
        let client = &mut self.clients[client];
        if name == EVERYBODY {
            assert!(gap || seq > client.joined, "a broadcast twice");
            if !gap {
                assert!(!known.any_between(client.joined, seq), "a broadcast is lost before {seq}");
            }
            client.joined = client.joined.max(seq);
            return;
        }
        let channel = client.channels.iter_mut().find(|channel| channel.name == name).expect("a channel it asked for");
        let Some(covered) = channel.covered else {
            assert!(begins, "a beginning that nobody asked for");
            channel.covered = Some(seq);
            return;
        };
        if gap {
            assert!(begins || known.any_between(covered, seq + 1), "a gap where nothing is gone: {covered} to {seq}");
        } else {
            assert!(seq > covered, "{name} {seq} came twice, or late: {covered} was reached");
            assert!(known.all.contains(&seq), "{name} {seq} was never published");
            assert!(!known.any_between(covered, seq), "{name}: lost without a gap between {covered} and {seq}");
        }
        channel.covered = Some(covered.max(seq));
    }

    /// A client is told that this is how far it is: nothing of its channels up to there may be missing. Where a replay was cut
    /// before the place of a gap, the gap comes with the next part; who asks for that from here must get it.
    fn reached(&mut self, client: usize, position: u64, whole: bool) {
        let client = &mut self.clients[client];
        let announced_later = |known: &Known| !whole && known.trimmed > position;
        for channel in &mut client.channels {
            let covered = channel.covered.unwrap_or(position);
            let known = &self.known[channel.name];
            let lost = known.any_between(covered, position + 1);
            assert!(!lost || announced_later(known), "{}: lost up to {position}", channel.name);
            channel.covered = Some(if lost { covered } else { covered.max(position) });
        }
        let known = &self.known[EVERYBODY];
        let lost = known.any_between(client.joined, position + 1);
        assert!(!lost || announced_later(known), "a broadcast is lost up to {position}");
        client.joined = if lost { client.joined } else { client.joined.max(position) };
        client.position = client.position.max(position);
    }

    // What a shard does.

    fn deliver(&mut self, shard: usize, count: usize) {
        for _ in 0..count.min(self.shards[shard].mail.len() + 1) {
            let delivery = self.mailboxes[shard].pop();
            let expected = self.shards[shard].mail.pop_front();
            let (Some(Delivery { channel, message }), Some((seq, name))) = (&delivery, expected) else {
                assert!(delivery.is_none() && expected.is_none(), "{delivery:?} for {expected:?}");
                return;
            };
            assert_eq!((message.seq(), message.channel().unwrap_or(EVERYBODY)), (seq, name), "the mailbox");
            for client in 0..CLIENTS {
                let Client { shard: home, phase, channels, joined, .. } = &self.clients[client];
                let on = |subscription: &Subscription| subscription.id == Some(*channel) && seq > subscription.joined;
                let hears = if *channel == BROADCAST { seq > *joined } else { channels.iter().any(on) };
                if *home == shard && *phase == Phase::Live && hears {
                    self.account(client, &Item::Message(message.clone()), false);
                    self.clients[client].position = self.clients[client].position.max(seq);
                }
            }
        }
    }

    fn go(&mut self, client: usize) {
        if self.clients[client].phase != Phase::Live {
            return;
        }
        let position = self.clients[client].position;
        self.reached(client, position, true);
        self.clients[client].phase = Phase::Away;
        for place in 0..self.clients[client].channels.len() {
            self.leave(client, place);
        }
    }

    fn leave(&mut self, client: usize, place: usize) {
        let shard = &mut self.shards[self.clients[client].shard];
        let id = self.clients[client].channels[place].id.take().expect("a live subscription");
        let count = &mut shard.subscriptions.get_mut(&id).expect("a subscription").1;
        *count -= 1;
        *shard.left.entry(id).or_default() += 1;
    }

    /// As at the end of a shard's turn: who left is told, all at once.
    fn tell_leaves(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        let mut leaves = Vec::new();
        for (channel, count) in std::mem::take(&mut shard.left) {
            let (name, left) = shard.subscriptions[&channel];
            if left == 0 {
                shard.subscriptions.remove(&channel);
                shard.told.insert(name, false);
            }
            leaves.push(Leave { channel, count, last: left == 0 });
        }
        self.hub.leave(number, &leaves);
    }

    /// A client that is live asks for one more channel: the oldest of a long replay go, with a gap.
    fn subscribe_live(&mut self, source: &mut Source<'_>) {
        let (client, name, how) = (source.below(CLIENTS), CHANNELS[source.below(CHANNELS.len())], source.below(4));
        let (limit, seen) = (self.limit(source), source.byte());
        let shard = self.clients[client].shard;
        let has = self.clients[client].channels.iter().any(|channel| channel.name == name);
        if self.clients[client].phase != Phase::Live || has {
            return;
        }
        // First what the mailbox holds of the other channels up to there.
        self.deliver(shard, usize::MAX);
        self.reached(client, self.seq, true);
        let since = u64::from(seen) % (self.seq + 1);
        let epoch = self.epoch.clone();
        let (start, covered) = match how {
            0 => (Start::New, Some(self.seq)),
            1 => (Start::Last(1 + usize::from(seen) % 8), None),
            2 => (Start::Since(Position { epoch: "other", seq: 1 }), None),
            _ => (Start::Since(Position { epoch: epoch.as_str(), seq: since }), Some(since)),
        };
        let request =
            Request { shard, names: &[name], start, limit, broadcasts: false, cut: Cut::Head, only_if_empty: false };
        let (mut replay, mut ids) = (Replay::default(), anothers_channels());
        self.hub.subscribe(&request, &mut replay, &mut ids);
        assert!(replay.complete && ids.len() == 1);
        self.clients[client].channels.push(Subscription { name, id: None, joined: 0, covered });
        for item in &replay.items {
            self.account(client, item, covered.is_none());
        }
        let expected = self.expected(&[name], start).into_iter().rfind(|(_, channel, gap)| channel == name && !gap);
        let newest = replay.items.iter().map(shown).rfind(|(.., gap)| !gap);
        assert_eq!(newest, expected, "the newest is always there");
        self.reached(client, self.seq, true);
        let place = self.clients[client].channels.len() - 1;
        self.join(client, place, ids[0].0, replay.position);
    }

    fn unsubscribe_live(&mut self, source: &mut Source<'_>) {
        let (client, place) = (source.below(CLIENTS), source.below(CHANNELS.len()));
        if self.clients[client].phase != Phase::Live || place >= self.clients[client].channels.len() {
            return;
        }
        self.leave(client, place);
        self.clients[client].channels.remove(place);
    }
}

/// What a shard's list may still hold from a client before.
fn anothers_channels() -> Vec<(ChannelId, Arc<str>)> {
    vec![(ChannelId::MAX, "another's".into())]
}

fn shown(item: &Item) -> (u64, String, bool) {
    match item {
        Item::Gap(channel, seq) => (*seq, channel.as_deref().unwrap_or(EVERYBODY).to_owned(), true),
        Item::Message(message) => (message.seq(), message.channel().unwrap_or(EVERYBODY).to_owned(), false),
    }
}

fn message(size: usize) -> Arc<Message> {
    Message::new(&Publication::new("", &vec![b'x'; size]), false, b"")
}

fn copy(message: &Message) -> Arc<Message> {
    Message::new(&Publication::new("", message.data()), false, b"")
}
