//! How much history is kept, for how long, and how it is dropped.

use super::State;
use crate::hub::history::History;
use crate::hub::mark::Mark;
use crate::hub::message::Message;
use crate::hub::retention::Entry;
use crate::hub::slow::SlowPolicies;
use crate::hub::{ChannelId, Settings};
use crate::trace::Span;
use std::sync::Arc;

/// How often to check whether memory can be freed.
const ROOM_MS: u64 = 1000;
/// How many old messages, and how many keys, are dropped at once. It is small for the hub's model.
const AT_ONCE: usize = if cfg!(any(test, fuzzing)) { 3 } else { 256 };

/// What a history has dropped.
#[expect(dead_code, reason = "it is only freed")]
pub(in crate::hub) enum Evicted {
    One(Arc<Message>),
    All(History),
}

/// The history of all channels together.
pub(in crate::hub) struct Kept {
    pub(super) limit: usize,
    pub(in crate::hub) bytes: usize,
    pub(in crate::hub) messages: usize,
    /// The channels whose stream has ended.
    pub(in crate::hub) ended: usize,
    /// What was dropped last. It is freed after the lock is released.
    pub(in crate::hub) evicted: Option<Evicted>,
    /// The spans of messages that have their numbers. Those without subscribers end after the lock is released, since
    /// that takes time and further locks.
    pub(in crate::hub) spans: Vec<Span>,
    /// When it was last checked whether memory can be freed.
    room_looked_at: u64,
}

impl Kept {
    pub(super) fn new(limit: usize) -> Self {
        Kept { limit, bytes: 0, messages: 0, ended: 0, evicted: None, spans: Vec::new(), room_looked_at: 0 }
    }

    pub(super) fn add(&mut self, message: &Message) {
        self.bytes += message.weight();
        self.messages += 1;
    }

    pub(super) fn remove(&mut self, message: Arc<Message>) {
        self.bytes -= message.weight();
        self.messages -= 1;
        self.evicted = Some(Evicted::One(message));
    }

    /// Takes the spans, to end them without the lock. Mostly there are none, and one look says so: an empty list would
    /// have to be dropped by each publish.
    #[inline(always)]
    pub(in crate::hub) fn take_spans(&mut self) -> Option<Vec<Span>> {
        match self.spans.is_empty() {
            true => None,
            false => Some(std::mem::take(&mut self.spans)),
        }
    }

    fn is_too_much(&self) -> bool {
        self.bytes > self.limit
    }

    /// Forgets everything that is kept. The bounds stay.
    pub(super) fn forget(&mut self) {
        (self.bytes, self.messages, self.ended) = (0, 0, 0);
    }
}

impl State {
    /// Applies new bounds.
    pub(in crate::hub) fn reconfigure(&mut self, settings: &Settings<'_>, now: u64) {
        self.keys.set_window(settings.key_window_ms);
        self.kept.limit = settings.total_bytes;
        let has_patterns = settings.client_patterns > 0;
        self.names.keep_in_order(has_patterns, &self.channels);
        self.forgotten.name_for_patterns(has_patterns);
        self.beyond.patterns.set_limit(settings.client_patterns);
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
                let kept = channel.filter(|channel| has(&channel.history, &entry));
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
        while self.expire(now) {}
    }

    /// Drops some messages and keys that are too old. True if there are more.
    pub(in crate::hub) fn expire(&mut self, now: u64) -> bool {
        let more_keys = self.keys.expire(now, AT_ONCE);
        for _ in 0..AT_ONCE {
            let Some(entry) = self.rules.pop_expired(now) else { return more_keys };
            self.drop_entry(entry);
        }
        true
    }

    /// Checks now and then whether memory can be freed.
    pub(in crate::hub) fn look_at_room(&mut self, now: u64) {
        if now >= self.kept.room_looked_at + ROOM_MS {
            self.kept.room_looked_at = now;
            self.give_back_room();
        }
    }

    /// A burst of channels or messages must not keep its memory for ever. This is not done at each drop, since it may
    /// have to look at everything.
    fn give_back_room(&mut self) {
        if self.channels.capacity() > 1024 && self.channels.len() * 8 < self.channels.capacity() {
            self.channels.shrink_to_fit();
        }
        self.rules.give_back_room();
        self.beyond.patterns.give_back_room();
    }

    /// Clears a channel's history. Returns false if the channel does not exist.
    pub(in crate::hub) fn clear(&mut self, channel: &str) -> bool {
        let Some(id) = self.lookup(channel, self.hash(channel)) else { return false };
        self.empty(id);
        self.drop_if_idle(id);
        true
    }

    /// Drops a channel's history. It is freed after the lock is released: it may be long.
    pub(super) fn empty(&mut self, id: ChannelId) {
        let channel = &mut self.channels[id as usize];
        let trimmed = channel.history.newest().unwrap_or(channel.history.trimmed());
        let history = std::mem::replace(&mut channel.history, History::trimmed_at(trimmed));
        if history.len() == 0 {
            return;
        }
        channel.is_whole = false;
        self.kept.ended -= usize::from(std::mem::take(&mut channel.is_ended));
        self.kept.bytes -= history.bytes();
        self.kept.messages -= history.len();
        // Their entries in the rule are stale now. If they were not counted, a host that clears again and again would
        // pile them up.
        (0..history.len()).for_each(|_| self.note_stale(id));
        self.kept.evicted = Some(Evicted::All(history));
    }

    #[cfg(test)]
    pub(in crate::hub) fn remembered(&self) -> usize {
        self.rules.remembered()
    }

    /// Appends to a channel's history, and trims it to the bounds of the channel and the hub.
    pub(super) fn keep(&mut self, id: ChannelId, message: Arc<Message>, now: u64) {
        let channel = &mut self.channels[id as usize];
        let rule = self.rules.get(channel.rule);
        let bounds = rule.bounds;
        if !bounds.keeps() {
            channel.history.skip(message.seq());
            channel.is_whole = false;
            return;
        }
        if channel.is_ended || message.mark().is_some() {
            self.turn(id, message, now);
        } else {
            rule.push(Entry { seq: message.seq(), since: now, channel: id, is_mark: false });
            self.kept.add(&message);
            channel.history.push(message);
        }
        while self.exceeds(id, bounds.count, bounds.bytes) {
            self.trim(id);
            self.note_stale(id);
        }
        self.trim_to_total();
        // The new message alone may exceed the bounds.
        if self.channels.get(id as usize).is_some_and(|channel| channel.history.len() == 0) {
            self.drop_if_idle(id);
        }
    }

    fn exceeds(&self, id: ChannelId, count: usize, bytes: usize) -> bool {
        let history = &self.channels[id as usize].history;
        history.len() > count || history.bytes() > bytes
    }

    /// Drops the oldest messages of all channels while the hub has more than it may keep.
    fn trim_to_total(&mut self) {
        while self.kept.is_too_much() {
            let Some(entry) = self.rules.pop_oldest() else { break };
            self.drop_entry(entry);
        }
    }

    /// Drops a channel's oldest message. False if the channel has none.
    pub(super) fn trim(&mut self, id: ChannelId) -> bool {
        let channel = &mut self.channels[id as usize];
        let Some(message) = channel.history.trim_oldest() else { return false };
        if channel.is_whole || channel.is_ended {
            // A channel of which nothing is kept may be dropped, and then nobody knows how its stream began.
            channel.is_whole &= message.mark().is_some() && channel.history.len() > 0;
            if message.mark() == Some(Mark::End) {
                channel.is_ended = false;
                self.kept.ended -= 1;
            }
        }
        self.kept.remove(message);
        true
    }

    /// Drops the message of an entry from a rule's queue, unless it is gone already.
    fn drop_entry(&mut self, entry: Entry) {
        let oldest = self.channels.get(entry.channel as usize).and_then(|channel| channel.history.oldest());
        if oldest == Some(entry.seq) {
            self.trim(entry.channel);
            self.drop_if_idle(entry.channel);
        }
    }

    pub(super) fn note_stale(&mut self, id: ChannelId) {
        let rule = self.rules.get(self.channels[id as usize].rule);
        if rule.note_stale() {
            let channels = &self.channels;
            rule.sweep(|entry| {
                channels.get(entry.channel as usize).is_some_and(|channel| has(&channel.history, entry))
            });
        }
    }
}

/// True if the message of an entry is still there. An entry older than its channel's oldest message is stale. The
/// number of a dropped channel may belong to another channel by now: all messages of that one are newer.
fn has(history: &History, entry: &Entry) -> bool {
    history.oldest().is_some_and(|oldest| oldest <= entry.seq) && (!entry.is_mark || history.has(entry.seq))
}
