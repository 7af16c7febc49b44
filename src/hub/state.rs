//! What the hub's lock protects: channels, sequence, history, who is subscribed.

use super::forgotten::Forgotten;
use super::history::History;
use super::keys::Keys;
use super::mailbox::{Delivery, Mailbox};
use super::message::{Message, Place};
use super::replay::{Cut, Item, Replay, Request, Start};
use super::retention::{Entry, Rules};
use super::slow::{SlowPolicies, SlowPolicy};
use super::{ChannelId, ChannelInfo, Leave, Outgoing, Published, Refused, Settings, BROADCAST};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use std::hash::BuildHasher;
use std::sync::Arc;

/// How often to look whether room can be given back.
const ROOM_MS: u64 = 1000;

pub(super) struct State {
    /// The newest message's number: one count for all channels, so one number is a position in all of them.
    pub(super) seq: u64,
    pub(super) channels: Slab<Channel>,
    /// Names to numbers. The names themselves stand in the channels, once. Clients choose names: the hash is seeded.
    names: HashTable<u32>,
    hasher: RandomState,
    rules: Rules,
    slow: SlowPolicies,
    keys: Keys,
    forgotten: Forgotten,
    sampler: Sampler,
    total_limit: usize,
    room_looked_at: u64,
    pub(super) total_bytes: usize,
    pub(super) total_messages: usize,
    pub(super) subscriptions: u64,
    /// Publications whose key was there already.
    pub(super) duplicates: u64,
    /// The message that was trimmed last, so that it can be dropped without the lock.
    pub(super) evicted: Option<Arc<Message>>,
}

pub(super) struct Channel {
    pub(super) name: Arc<str>,
    history: History,
    /// One bit for each shard that has subscribers.
    shards: u64,
    subscribers: u32,
    rule: u8,
    slow: SlowPolicy,
}

impl State {
    pub(super) fn new(settings: &Settings<'_>, hasher: RandomState) -> Self {
        let mut state = State {
            seq: 0,
            channels: Slab::new(),
            names: HashTable::new(),
            hasher,
            rules: Rules::new(settings.patterns, settings.retention),
            slow: SlowPolicies::new(settings.slow_patterns, settings.slow_policy),
            keys: Keys::new(settings.key_window_ms),
            forgotten: Forgotten::default(),
            sampler: Sampler { clock_us: settings.clock_us, next: 0 },
            total_limit: settings.total_bytes,
            room_looked_at: 0,
            total_bytes: 0,
            total_messages: 0,
            subscriptions: 0,
            duplicates: 0,
            evicted: None,
        };
        // Every connection is subscribed to the broadcasts, on every shard, always. The empty name is nobody else's.
        let broadcast = state.create("");
        debug_assert_eq!(broadcast, BROADCAST);
        state.channels[broadcast as usize].shards = u64::MAX;
        state
    }

    /// The first publication of this key, if it was published before; then this one is counted as its duplicate.
    pub(super) fn find_key(&mut self, channel: &str, key: Option<&str>, now: u64) -> Option<u64> {
        let seq = self.keys.find(channel, key?, now)?;
        self.duplicates += 1;
        Some(seq)
    }

    /// Publishes one message, unless a mailbox has no room for it.
    pub(super) fn publish_alone(
        &mut self,
        outgoing: Outgoing<'_>,
        hash: u64,
        now: u64,
        mailboxes: &[Arc<Mailbox>],
    ) -> Result<Published, Refused> {
        let known = self.lookup(outgoing.channel, hash);
        let shards = known.map_or(0, |id| self.channels[id as usize].shards);
        if shards_in(shards, mailboxes).any(|(_, mailbox)| mailbox.room() == 0) {
            return Err(Refused::Busy);
        }
        Ok(self.place(outgoing, known, hash, now, mailboxes))
    }

    /// Publishes a message of a batch. The mailboxes have room: see [`Self::check_room`].
    pub(super) fn publish(
        &mut self,
        outgoing: Outgoing<'_>,
        hash: u64,
        now: u64,
        mailboxes: &[Arc<Mailbox>],
    ) -> Published {
        let known = self.lookup(outgoing.channel, hash);
        self.place(outgoing, known, hash, now, mailboxes)
    }

    /// Gives a message its place, keeps it, and leaves it to the shards.
    fn place(
        &mut self,
        Outgoing { channel, key, mut message }: Outgoing<'_>,
        known: Option<ChannelId>,
        hash: u64,
        now: u64,
        mailboxes: &[Arc<Mailbox>],
    ) -> Published {
        self.seq += 1;
        let seq = self.seq;
        if let Some(key) = key {
            self.keys.remember(channel, key, seq, now);
        }
        let id = match known {
            Some(id) => id,
            None => {
                let rule = self.rules.number_for(channel);
                if !self.rules.get(rule).bounds.keeps() {
                    // Nobody listens and nothing is kept: the end is all that is left of it.
                    self.forgotten.remember(hash, seq);
                    return Published { seq, shards: 0, subscribers: 0 };
                }
                self.create(channel)
            }
        };
        let entry = &self.channels[id as usize];
        let (shards, subscribers) = (entry.shards, entry.subscribers);
        let stamp = if subscribers > 0 || id == BROADCAST { self.sampler.stamp(seq, now) } else { 0 };
        let place = Place { seq, channel: (id != BROADCAST).then_some(&entry.name), slow: entry.slow, stamp };
        Message::place(&mut message, &place);
        for (_, mailbox) in shards_in(shards, mailboxes) {
            let left = mailbox.push(Delivery { channel: id, message: message.clone() });
            debug_assert!(left, "check_room came first");
        }
        self.keep(id, message, now);
        Published { seq, shards, subscribers }
    }

    /// Whether the mailboxes of all shards that a batch reaches have room for it. The channels come with their names' hashes.
    pub(super) fn check_room<'a>(
        &self,
        channels: impl Iterator<Item = (&'a str, u64)>,
        mailboxes: &[Arc<Mailbox>],
    ) -> Result<(), Refused> {
        let mut needed = [0usize; 64];
        let mut busy = false;
        for (channel, hash) in channels {
            if let Some(id) = self.lookup(channel, hash) {
                for (shard, mailbox) in shards_in(self.channels[id as usize].shards, mailboxes) {
                    needed[shard] += 1;
                    if needed[shard] > mailbox.capacity() {
                        return Err(Refused::TooMany);
                    }
                    busy |= needed[shard] > mailbox.room();
                }
            }
        }
        if busy {
            return Err(Refused::Busy);
        }
        Ok(())
    }

    /// Reads what a subscriber missed and, where that was not cut, subscribes its shard. See [`super::Hub::subscribe`].
    pub(super) fn subscribe<S: AsRef<str>>(
        &mut self,
        request: &Request<'_, S>,
        epoch: &str,
        replay: &mut Replay,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) {
        replay.clear();
        // Also where nothing is subscribed: an earlier client's numbers must not be taken for this one's.
        ids.clear();
        replay.position = self.seq;
        if request.start != Start::New {
            self.replay(request, epoch, replay);
        }
        if replay.complete && (replay.items.is_empty() || !request.only_if_empty) {
            ids.extend(request.names.iter().map(|name| self.join(name.as_ref(), request.shard)));
        }
    }

    fn replay<S: AsRef<str>>(&self, request: &Request<'_, S>, epoch: &str, replay: &mut Replay) {
        // A number that this life never gave is from another one too.
        let (after, foreign) = match request.start {
            Start::After(seq) => (seq, false),
            Start::Since(position) if position.epoch == epoch && position.seq <= self.seq => (position.seq, false),
            Start::Since(_) => (0, true),
            Start::Last(_) | Start::New => (self.seq, false),
        };
        let bounds = (request.cut, request.limit);
        for name in request.names {
            self.read(name.as_ref(), (after, foreign), request.start, bounds, replay);
        }
        if request.broadcasts && !matches!(request.start, Start::Last(_)) {
            // After another life the channels' gaps say enough: who never broadcasts need not hear of it.
            self.read("", (if foreign { self.seq } else { after }, false), request.start, bounds, replay);
        }
        replay.sort();
        match (request.start, request.cut) {
            (Start::Last(_), _) | (_, Cut::Head) => replay.cut_head(request.limit),
            _ => replay.cut_tail(request.limit),
        }
    }

    /// Takes back subscriptions. A channel with neither subscribers nor history disappears.
    pub(super) fn leave(&mut self, shard: usize, leaves: &[Leave]) {
        for leave in leaves {
            let Some(channel) = self.channels.get_mut(leave.channel as usize) else { continue };
            channel.subscribers -= leave.count;
            self.subscriptions -= u64::from(leave.count);
            if leave.last && leave.channel != BROADCAST {
                channel.shards &= !(1 << shard);
            }
            self.drop_if_idle(leave.channel);
        }
    }

    /// Keeps more or less from now on.
    pub(super) fn reconfigure(&mut self, settings: &Settings<'_>, now: u64) {
        self.keys.set_window(settings.key_window_ms);
        self.total_limit = settings.total_bytes;
        self.slow = SlowPolicies::new(settings.slow_patterns, settings.slow_policy);
        for (_, channel) in &mut self.channels {
            channel.slow = self.slow.of(&channel.name);
        }
        if let Some(entries) = self.rules.replace(settings.patterns, settings.retention) {
            for (_, channel) in &mut self.channels {
                channel.rule = self.rules.number_for(&channel.name);
            }
            for entry in entries {
                let channel = self.channels.get(entry.channel as usize);
                // As in a sweep: what is older than the oldest is gone.
                let kept = channel.filter(|channel| channel.history.oldest().is_some_and(|oldest| oldest <= entry.seq));
                if let Some(rule) = kept.map(|channel| channel.rule) {
                    self.rules.get(rule).push(entry);
                }
            }
        }
        let ids: Vec<ChannelId> = self.channels.iter().map(|(id, _)| id as ChannelId).collect();
        for id in ids {
            let bounds = self.rules.get(self.channels[id as usize].rule).bounds;
            while self.exceeds(id, bounds.count, bounds.bytes) {
                self.trim(id);
                self.note_stale(id);
            }
            self.drop_if_idle(id);
        }
        self.trim_to_total();
        self.expire(now);
    }

    /// Drops what has outlived its age.
    pub(super) fn expire(&mut self, now: u64) {
        self.keys.expire(now);
        while let Some(entry) = self.rules.pop_expired(now) {
            self.drop_entry(entry);
        }
        if now >= self.room_looked_at + ROOM_MS {
            self.room_looked_at = now;
            self.give_back_room();
        }
    }

    /// A burst of channels or messages must not keep its room for ever. Not at each drop: it may have to look at all there is.
    fn give_back_room(&mut self) {
        if self.channels.capacity() > 1024 && self.channels.len() * 8 < self.channels.capacity() {
            self.channels.shrink_to_fit();
        }
        self.rules.give_back_room();
    }

    /// Forgets a channel's history. False: there is no such channel.
    pub(super) fn clear(&mut self, channel: &str) -> bool {
        let Some(id) = self.lookup(channel, self.hash(channel)) else { return false };
        // What the rule remembers of them is stale now; else a host that clears again and again would pile it up.
        while self.trim(id) {
            self.note_stale(id);
        }
        self.drop_if_idle(id);
        true
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.rules.remembered()
    }

    pub(super) fn info(&self, channel: &str) -> Option<ChannelInfo> {
        let id = self.lookup(channel, self.hash(channel))?;
        Some(self.channels[id as usize].info())
    }

    /// Channels whose name begins with `prefix`, at most `limit`, in no order.
    pub(super) fn list(&self, prefix: &str, limit: usize) -> Vec<ChannelInfo> {
        let named =
            self.channels.iter().filter(|(id, channel)| *id != BROADCAST as usize && channel.name.starts_with(prefix));
        named.take(limit).map(|(_, channel)| channel.info()).collect()
    }

    /// Adds what a channel has after a place to a replay, with a gap where something is missing.
    fn read(
        &self,
        name: &str,
        (after, foreign): (u64, bool),
        start: Start<'_>,
        (cut, limit): (Cut, usize),
        replay: &mut Replay,
    ) {
        let hash = self.hash(name);
        let Some(id) = self.lookup(name, hash) else {
            let end = self.forgotten.end(hash);
            if !matches!(start, Start::Last(_)) && (foreign || after < end) {
                replay.items.push(Item::Gap((!name.is_empty()).then(|| name.into()), end));
            }
            return;
        };
        let channel = &self.channels[id as usize];
        if let Start::Last(count) = start {
            replay.items.extend(channel.history.last(count).cloned().map(Item::Message));
            return;
        }
        let trimmed = channel.history.trimmed();
        if foreign || after < trimmed {
            replay.items.push(Item::Gap((!name.is_empty()).then(|| channel.name.clone()), trimmed));
        }
        // Not all of a long history where its tail will be cut: as much as can be given at once, and one message more, by
        // which the cut sees that there is more.
        let bound = if cut == Cut::Tail { limit } else { usize::MAX };
        let (mut weight, mut over) = (0usize, false);
        let fitting = channel.history.after(after).take_while(|message| {
            let within = !over;
            over = weight > bound;
            weight += message.weight();
            within
        });
        replay.items.extend(fitting.cloned().map(Item::Message));
    }

    fn join(&mut self, name: &str, shard: usize) -> (ChannelId, Arc<str>) {
        let id = self.lookup(name, self.hash(name)).unwrap_or_else(|| self.create(name));
        let channel = &mut self.channels[id as usize];
        channel.shards |= 1 << shard;
        channel.subscribers += 1;
        self.subscriptions += 1;
        (id, channel.name.clone())
    }

    /// Appends to a channel's history and trims to its bounds and the hub's.
    fn keep(&mut self, id: ChannelId, message: Arc<Message>, now: u64) {
        let channel = &mut self.channels[id as usize];
        let rule = self.rules.get(channel.rule);
        let bounds = rule.bounds;
        if !bounds.keeps() {
            channel.history.skip(message.seq());
            return;
        }
        rule.push(Entry { seq: message.seq(), since: now, channel: id });
        self.total_bytes += message.weight();
        self.total_messages += 1;
        channel.history.push(message);
        while self.exceeds(id, bounds.count, bounds.bytes) {
            self.trim(id);
            self.note_stale(id);
        }
        self.trim_to_total();
        // It may itself have been more than the bounds allow.
        if self.channels.get(id as usize).is_some_and(|channel| channel.history.len() == 0) {
            self.drop_if_idle(id);
        }
    }

    fn exceeds(&self, id: ChannelId, count: usize, bytes: usize) -> bool {
        let history = &self.channels[id as usize].history;
        history.len() > count || history.bytes() > bytes
    }

    /// Drops the oldest messages of all while there are more than the hub may keep.
    fn trim_to_total(&mut self) {
        while self.total_bytes > self.total_limit {
            let Some(entry) = self.rules.pop_oldest() else { break };
            self.drop_entry(entry);
        }
    }

    /// Drops a channel's oldest message; false when it has none.
    fn trim(&mut self, id: ChannelId) -> bool {
        let Some(message) = self.channels[id as usize].history.trim_oldest() else { return false };
        self.total_bytes -= message.weight();
        self.total_messages -= 1;
        self.evicted = Some(message);
        true
    }

    /// Drops the message of an entry taken from a rule's queue, unless it went before.
    fn drop_entry(&mut self, entry: Entry) {
        let oldest = self.channels.get(entry.channel as usize).and_then(|channel| channel.history.oldest());
        if oldest == Some(entry.seq) {
            self.trim(entry.channel);
            self.drop_if_idle(entry.channel);
        }
    }

    fn note_stale(&mut self, id: ChannelId) {
        let rule = self.rules.get(self.channels[id as usize].rule);
        if rule.note_stale() {
            let channels = &self.channels;
            rule.sweep(|entry| {
                let history = channels.get(entry.channel as usize).map(|channel| &channel.history);
                // The number of a dropped channel may be another's by now; its messages are all younger.
                history.and_then(History::oldest).is_some_and(|oldest| oldest <= entry.seq)
            });
        }
    }

    fn drop_if_idle(&mut self, id: ChannelId) {
        let channel = &self.channels[id as usize];
        if id == BROADCAST || channel.subscribers > 0 || channel.shards != 0 || channel.history.len() > 0 {
            return;
        }
        let channel = self.channels.remove(id as usize);
        let hash = self.hash(&channel.name);
        self.forgotten.remember(hash, channel.history.trimmed());
        if let Ok(entry) = self.names.find_entry(hash, |known| *known == id) {
            entry.remove();
        }
        // A burst of channels must not keep its room for ever.
        if self.names.capacity() > 1024 && self.names.len() * 8 < self.names.capacity() {
            let (channels, hasher) = (&self.channels, &self.hasher);
            self.names.shrink_to(self.names.len() * 2, |id| hasher.hash_one(&*channels[*id as usize].name));
        }
    }

    fn create(&mut self, name: &str) -> ChannelId {
        let hash = self.hash(name);
        let id = self.channels.insert(Channel {
            name: name.into(),
            history: History::trimmed_at(self.forgotten.end(hash)),
            shards: 0,
            subscribers: 0,
            rule: self.rules.number_for(name),
            slow: self.slow.of(name),
        }) as ChannelId;
        let (channels, hasher) = (&self.channels, &self.hasher);
        self.names.insert_unique(hash, id, |id| hasher.hash_one(&*channels[*id as usize].name));
        id
    }

    fn lookup(&self, name: &str, hash: u64) -> Option<ChannelId> {
        self.names.find(hash, |id| &*self.channels[*id as usize].name == name).copied()
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }
}

/// Which messages are stamped with their time: each 64th, and one in each ten milliseconds, so that a quiet server has its
/// measurements, too, and a busy one does not pay for them.
struct Sampler {
    clock_us: fn() -> u64,
    /// From when on, in the milliseconds that publishing is told, the next one is stamped in any case.
    next: u64,
}

impl Sampler {
    /// The stamp of a message; 0: none.
    fn stamp(&mut self, seq: u64, now: u64) -> u32 {
        if !seq.is_multiple_of(64) && now < self.next {
            return 0;
        }
        self.next = now + 10;
        // It goes round in 71 minutes; no message is on its way for so long.
        (self.clock_us)() as u32 | 1
    }
}

impl Channel {
    fn info(&self) -> ChannelInfo {
        ChannelInfo {
            name: self.name.clone(),
            subscribers: self.subscribers,
            messages: self.history.len(),
            bytes: self.history.bytes(),
            newest: self.history.newest(),
        }
    }
}

/// The mailboxes of the shards that a mask names.
fn shards_in(mask: u64, mailboxes: &[Arc<Mailbox>]) -> impl Iterator<Item = (usize, &Arc<Mailbox>)> {
    mailboxes.iter().enumerate().filter(move |(shard, _)| mask >> shard & 1 == 1)
}
