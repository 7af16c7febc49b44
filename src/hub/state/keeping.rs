//! What is kept of channels, for how long, and how it goes.

use super::State;
use crate::hub::history::History;
use crate::hub::message::Message;
use crate::hub::retention::Entry;
use crate::hub::slow::SlowPolicies;
use crate::hub::{ChannelId, Settings};
use std::sync::Arc;

/// How often to look whether room can be given back.
const ROOM_MS: u64 = 1000;
/// How many messages, and how many keys, go for their age at once. Few for the hub's model.
const AT_ONCE: usize = if cfg!(any(test, fuzzing)) { 3 } else { 256 };

impl State {
    /// Keeps more or less from now on.
    pub(in crate::hub) fn reconfigure(&mut self, settings: &Settings<'_>, now: u64) {
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
        while self.expire(now) {}
    }

    /// Drops some of what has outlived its age; true: there is more.
    pub(in crate::hub) fn expire(&mut self, now: u64) -> bool {
        let more_keys = self.keys.expire(now, AT_ONCE);
        for _ in 0..AT_ONCE {
            let Some(entry) = self.rules.pop_expired(now) else { return more_keys };
            self.drop_entry(entry);
        }
        true
    }

    /// Has a look now and then whether there is more room than it takes.
    pub(in crate::hub) fn look_at_room(&mut self, now: u64) {
        if now >= self.room_looked_at + ROOM_MS {
            self.room_looked_at = now;
            self.give_back_room();
        }
    }

    /// A burst of channels or messages must not keep its room for ever. Not at each drop: it may have to look at all
    /// there is.
    fn give_back_room(&mut self) {
        if self.channels.capacity() > 1024 && self.channels.len() * 8 < self.channels.capacity() {
            self.channels.shrink_to_fit();
        }
        self.rules.give_back_room();
    }

    /// Forgets a channel's history. False: there is no such channel.
    pub(in crate::hub) fn clear(&mut self, channel: &str) -> bool {
        let Some(id) = self.lookup(channel, self.hash(channel)) else { return false };
        // What the rule remembers of them is stale now; else a host that clears again and again would pile it up.
        while self.trim(id) {
            self.note_stale(id);
        }
        self.drop_if_idle(id);
        true
    }

    #[cfg(test)]
    pub(in crate::hub) fn remembered(&self) -> usize {
        self.rules.remembered()
    }

    /// Appends to a channel's history and trims to its bounds and the hub's.
    pub(super) fn keep(&mut self, id: ChannelId, message: Arc<Message>, now: u64) {
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
}
