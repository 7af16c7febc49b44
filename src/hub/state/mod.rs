//! The state that the hub's lock protects: channels, sequence, history, subscriptions.

#[cfg_attr(not(test), allow(dead_code))]
mod applying;
mod fitting;
mod keeping;
mod lasting;
mod names;
mod patterns;
mod reading;
mod restoring;
mod steps;
pub(in crate::hub) mod streams;
mod tapping;

pub(super) use applying::Following;
pub(super) use fitting::parted;
use keeping::Kept;
use names::Names;
use patterns::{Beyond, Reach};
pub(super) use restoring::Listing;
pub(super) use steps::AT_ONCE;

use super::forgotten::Forgotten;
use super::history::History;
use super::keys::{Key, Keys};
use super::lineage::Lineage;
use super::mailbox::{Delivery, Mailbox};
use super::message::{Message, Place};
use super::patterns::{is_id_of_pattern, UNNAMED};
use super::retention::Rules;
use super::slow::{SlowPolicies, SlowPolicy};
use super::{ChannelId, ChannelInfo, Leave, Outgoing, Published, Refused, Settings, BROADCAST};
use crate::trace::{Span, Ticket};
use foldhash::fast::RandomState;
use slab::Slab;
use std::sync::Arc;

pub(super) struct State {
    /// The newest message's number. It counts for all channels, so one number is a position in all of them.
    pub(super) seq: u64,
    /// The number after which this hub began.
    pub(super) began_at: u64,
    /// The last number that was given to a message that waits for a sync. Less than `seq` if none waits.
    ahead: u64,
    pub(super) channels: Slab<Channel>,
    names: Names,
    rules: Rules,
    slow: SlowPolicies,
    pub(super) keys: Keys,
    forgotten: Forgotten,
    /// The epochs before this one.
    lineage: Lineage,
    /// Of a replica of a log.
    pub(super) following: Option<Following>,
    sampler: Sampler,
    /// The history of all channels together.
    pub(super) kept: Kept,
    /// To channels and patterns.
    pub(super) subscriptions: u64,
    pub(super) beyond: Beyond,
}

pub(super) struct Channel {
    pub(super) name: Arc<str>,
    history: History,
    /// One bit for each shard that has subscribers.
    shards: u64,
    subscribers: u32,
    rule: u8,
    slow: SlowPolicy,
    /// True if the newest message in the history is the end of a stream.
    is_ended: bool,
    /// True if the history has everything since the stream began, as a mark has said.
    is_whole: bool,
    /// The subscribers of the patterns that fit it.
    reach: Reach,
}

impl State {
    pub(super) fn new(settings: &Settings<'_>, hasher: RandomState) -> Self {
        let mut state = State {
            seq: 0,
            began_at: 0,
            ahead: 0,
            channels: Slab::new(),
            names: Names::new(hasher, settings.client_patterns > 0),
            rules: Rules::new(settings.patterns, settings.retention),
            slow: SlowPolicies::new(settings.slow_patterns, settings.slow_policy),
            keys: Keys::new(settings.key_window_ms),
            forgotten: Forgotten::default(),
            lineage: Lineage::default(),
            following: None,
            sampler: Sampler { clock_us: settings.clock_us, next: 0 },
            kept: Kept::new(settings.total_bytes),
            subscriptions: 0,
            beyond: Beyond::new(settings.client_patterns),
        };
        state.forgotten.name_for_patterns(settings.client_patterns > 0);
        // Every connection on every shard is subscribed to the broadcasts. No other channel has the empty name.
        let broadcast = state.create("");
        debug_assert_eq!(broadcast, BROADCAST);
        state.channels[broadcast as usize].shards = u64::MAX;
        state
    }

    /// The first message that was published with this key. This publication is then counted as its duplicate.
    pub(super) fn find_key(&mut self, channel: &str, key: Option<Key<'_>>, now: u64) -> Option<u64> {
        self.keys.find_duplicate(channel, key?, now)
    }

    /// Publishes one message, unless a mailbox has no room for it.
    pub(super) fn publish_alone(
        &mut self,
        outgoing: Outgoing<'_>,
        hash: u64,
        now: u64,
        mailboxes: &[Arc<Mailbox>],
    ) -> Result<Published, Refused> {
        let known = self.find_room(outgoing.channel, hash, mailboxes)?;
        Ok(self.place(outgoing, known, hash, now, mailboxes))
    }

    /// Publishes a message for which the mailboxes have room: see [`Self::check_room`].
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

    /// Takes the next number for a message, and applies it. The mailboxes have room: see [`Self::find_room`].
    pub(super) fn place(
        &mut self,
        outgoing: Outgoing<'_>,
        known: Option<ChannelId>,
        hash: u64,
        now: u64,
        mailboxes: &[Arc<Mailbox>],
    ) -> Published {
        self.apply(self.seq + 1, outgoing, (known, hash), (now, now), mailboxes)
    }

    /// Applies a message: gives it its number, which is greater than all before, adds it to the history, and puts it
    /// into the mailboxes of the shards, which have room. `known`: its channel, if that exists; `hash`: of the
    /// channel's name; `since`: when it was published. Inlined: most hubs take the number and apply it in one go.
    #[inline(always)]
    pub(super) fn apply(
        &mut self,
        seq: u64,
        Outgoing { channel, key, mut message, span }: Outgoing<'_>,
        (known, hash): (Option<ChannelId>, u64),
        (since, now): (u64, u64),
        mailboxes: &[Arc<Mailbox>],
    ) -> Published {
        debug_assert!(seq > self.seq, "messages are applied in the order of their numbers");
        self.seq = seq;
        if let Some(key) = key {
            self.keys.remember(channel, key, seq, since);
        }
        let id = match known {
            Some(id) => id,
            None => {
                let rule = self.rules.number_for(channel);
                if !self.rules.get(rule).bounds.keeps() {
                    // Without subscribers and history, only the end of the channel is remembered.
                    self.forgotten.remember(hash, seq, channel);
                    if !self.beyond.is_empty() {
                        return self.pass_on((channel, seq), (message, span), (since, now), mailboxes);
                    }
                    if let Some(span) = span {
                        self.place_span(span, seq, 0, 0);
                    }
                    return Published { seq, shards: 0, subscribers: 0 };
                }
                self.create(channel)
            }
        };
        let reach = self.reach(channel, Some(id));
        let entry = &self.channels[id as usize];
        let (named, shards) = (entry.shards, entry.shards | reach.shards);
        let subscribers = entry.subscribers + reach.subscribers;
        let stamp = if subscribers > 0 || id == BROADCAST { self.sampler.stamp(seq, now) } else { 0 };
        let place = Place { seq, channel: (id != BROADCAST).then_some(&entry.name), slow: entry.slow, stamp };
        Message::place(&mut message, &place);
        // Before any shard has the message, or one that is quick would not find the span.
        let ticket = match span {
            None => Ticket::default(),
            Some(span) => self.place_span(span, seq, subscribers, shards_in(shards, mailboxes).count()),
        };
        for (shard, mailbox) in shards_in(shards, mailboxes) {
            let channel = if named >> shard & 1 == 1 { id } else { UNNAMED };
            let left = mailbox.push(Delivery { channel, ticket, message: message.clone() });
            debug_assert!(left, "`find_room` or `check_room` came first");
        }
        // Without mailboxes it is read again, and was shown before.
        if !self.beyond.taps.is_empty() && !mailboxes.is_empty() {
            self.show(&message, since);
        }
        self.keep(id, message, since);
        Published { seq, shards, subscribers }
    }

    /// The message of a span has its number, and goes to that many shards.
    #[cold]
    #[inline(never)]
    fn place_span(&mut self, span: Span, seq: u64, subscribers: u32, shards: usize) -> Ticket {
        let ticket = span.place(seq, self.position_of_replica(seq), subscribers, shards);
        self.kept.spans.push(span);
        ticket
    }

    /// A message's channel, if it exists. An error: the mailbox of a shard that the message reaches has no room.
    pub(super) fn find_room(
        &mut self,
        channel: &str,
        hash: u64,
        mailboxes: &[Arc<Mailbox>],
    ) -> Result<Option<ChannelId>, Refused> {
        let known = self.lookup(channel, hash);
        let shards = self.shards_of(channel, known);
        match shards_in(shards, mailboxes).any(|(_, mailbox)| mailbox.room() == 0) {
            true => Err(Refused::Busy),
            false => Ok(known),
        }
    }

    /// The shards that a message of a channel goes to.
    fn shards_of(&mut self, channel: &str, known: Option<ChannelId>) -> u64 {
        self.reach(channel, known).shards | known.map_or(0, |id| self.channels[id as usize].shards)
    }

    /// Whether the mailboxes of all shards that a batch reaches have room for it. The channels come with their names'
    /// hashes.
    pub(super) fn check_room<'a>(
        &mut self,
        channels: impl Iterator<Item = (&'a str, u64)>,
        mailboxes: &[Arc<Mailbox>],
    ) -> Result<(), Refused> {
        let mut needed = [0usize; 64];
        let mut busy = false;
        for (channel, hash) in channels {
            let known = self.lookup(channel, hash);
            for (shard, mailbox) in shards_in(self.shards_of(channel, known), mailboxes) {
                needed[shard] += 1;
                if needed[shard] > mailbox.capacity() {
                    return Err(Refused::TooMany);
                }
                busy |= needed[shard] > mailbox.room();
            }
        }
        if busy {
            return Err(Refused::Busy);
        }
        Ok(())
    }

    /// Ends subscriptions. A channel with neither subscribers nor history is dropped.
    pub(super) fn leave(&mut self, shard: usize, leaves: &[Leave]) {
        for leave in leaves {
            if is_id_of_pattern(leave.channel) {
                self.leave_pattern(shard, leave);
                continue;
            }
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

    /// Looks through some hundred channels from `from` on, for names that begin with `prefix`, until `limit` are found.
    /// Returns where to go on, if there are more.
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
        self.names.remove(hash, id, &channel.name, &self.channels);
        self.forgotten.remember(hash, channel.history.trimmed(), &channel.name);
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
            is_ended: false,
            is_whole: false,
            reach: Reach::default(),
        }) as ChannelId;
        self.names.insert(hash, id, &self.channels);
        id
    }

    fn lookup(&self, name: &str, hash: u64) -> Option<ChannelId> {
        self.names.find(name, hash, &self.channels)
    }

    fn hash(&self, name: &str) -> u64 {
        self.names.hash(name)
    }
}

/// Chooses the messages that get a time stamp: each 64th, and one in each ten milliseconds. So a quiet server has
/// measurements, too, and a busy one does not pay for them.
struct Sampler {
    clock_us: fn() -> u64,
    /// The time from which the next message is stamped in any case, in milliseconds of the clock that publishers pass.
    next: u64,
}

impl Sampler {
    /// The stamp of a message. 0 means none.
    fn stamp(&mut self, seq: u64, now: u64) -> u32 {
        if !seq.is_multiple_of(64) && now < self.next {
            return 0;
        }
        self.next = now + 10;
        // It wraps around after 71 minutes. No message is on its way for that long.
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

/// The mailboxes of the shards in a mask.
fn shards_in(mask: u64, mailboxes: &[Arc<Mailbox>]) -> impl Iterator<Item = (usize, &Arc<Mailbox>)> {
    mailboxes.iter().enumerate().filter(move |(shard, _)| mask >> shard & 1 == 1)
}
