//! What the hub's lock protects: channels, sequence, history, who is subscribed.

mod keeping;
mod reading;
mod restoring;
mod steps;

pub(super) use steps::AT_ONCE;

use super::forgotten::Forgotten;
use super::history::History;
use super::keys::{Key, Keys};
use super::lineage::Lineage;
use super::mailbox::{Delivery, Mailbox};
use super::message::{Message, Place};
use super::retention::Rules;
use super::slow::{SlowPolicies, SlowPolicy};
use super::{ChannelId, ChannelInfo, Leave, Outgoing, Published, Refused, Settings, BROADCAST};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use std::hash::BuildHasher;
use std::sync::Arc;

pub(super) struct State {
    /// The newest message's number: one count for all channels, so one number is a position in all of them.
    pub(super) seq: u64,
    /// The number that this hub began after.
    pub(super) began_at: u64,
    pub(super) channels: Slab<Channel>,
    /// Names to numbers. The names themselves stand in the channels, once. Clients choose names: the hash is seeded.
    names: HashTable<u32>,
    hasher: RandomState,
    rules: Rules,
    slow: SlowPolicies,
    keys: Keys,
    forgotten: Forgotten,
    /// The lives of the history before this one.
    lineage: Lineage,
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
            began_at: 0,
            channels: Slab::new(),
            names: HashTable::new(),
            hasher,
            rules: Rules::new(settings.patterns, settings.retention),
            slow: SlowPolicies::new(settings.slow_patterns, settings.slow_policy),
            keys: Keys::new(settings.key_window_ms),
            forgotten: Forgotten::default(),
            lineage: Lineage::default(),
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
    pub(super) fn find_key(&mut self, channel: &str, key: Option<Key<'_>>, now: u64) -> Option<u64> {
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

    /// Publishes a message for which the mailboxes have room: see [`Self::check_room`] and [`Self::check_one`].
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

    /// Whether the mailboxes of all shards that a message reaches have room for it.
    pub(super) fn check_one(&self, channel: &str, hash: u64, mailboxes: &[Arc<Mailbox>]) -> Result<(), Refused> {
        let shards = self.lookup(channel, hash).map_or(0, |id| self.channels[id as usize].shards);
        match shards_in(shards, mailboxes).any(|(_, mailbox)| mailbox.room() == 0) {
            true => Err(Refused::Busy),
            false => Ok(()),
        }
    }

    /// Whether the mailboxes of all shards that a batch reaches have room for it. The channels come with their names'
    /// hashes.
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

    pub(super) fn id(&self, channel: &str) -> Option<ChannelId> {
        self.lookup(channel, self.hash(channel))
    }

    pub(super) fn info(&self, channel: &str) -> Option<ChannelInfo> {
        let id = self.id(channel)?;
        Some(self.channels[id as usize].info())
    }

    /// Looks through some hundred places from `from` on for channels whose name begins with `prefix`, until `limit` are
    /// found. Says where to go on, if there.
    pub(super) fn list(&self, prefix: &str, limit: usize, from: usize, found: &mut Vec<ChannelInfo>) -> Option<usize> {
        const AT_ONCE: usize = 512;
        let end = self.channels.capacity().min(from + AT_ONCE);
        let ids = (from..end).filter(|id| *id != BROADCAST as usize);
        let named = ids.filter_map(|id| self.channels.get(id)).filter(|channel| channel.name.starts_with(prefix));
        found.extend(named.take(limit - found.len()).map(Channel::info));
        (end < self.channels.capacity() && found.len() < limit).then_some(end)
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

/// Which messages are stamped with their time: each 64th, and one in each ten milliseconds, so that a quiet server has
/// its measurements, too, and a busy one does not pay for them.
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
