//! Restores history from a log, from before this hub.

use super::State;
use crate::hub::lineage::Lineage;
use crate::hub::message::{Message, Place};
use crate::hub::{Outgoing, BROADCAST};
use std::sync::Arc;

impl State {
    /// Messages before a number are not in the log. Call this on an empty hub.
    pub(in crate::hub) fn begin_before(&mut self, first: u64) {
        let gone = first.saturating_sub(1);
        (self.seq, self.began_at) = (gone, gone);
        self.forgotten.raise_floor(gone);
        self.channels[BROADCAST as usize].history.skip(gone);
    }

    /// The last number of a channel before the log begins.
    pub(in crate::hub) fn restore_end(&mut self, channel: &str, seq: u64) {
        let hash = self.hash(channel);
        if channel.is_empty() {
            self.channels[BROADCAST as usize].history.skip(seq);
        } else if self.lookup(channel, hash).is_none() {
            self.forgotten.restore(hash, seq);
        }
    }

    /// Restores a message with its number and its time.
    pub(in crate::hub) fn restore(&mut self, seq: u64, outgoing: Outgoing<'_>, since: u64) {
        let Outgoing { channel, key, mut message } = outgoing;
        let hash = self.hash(channel);
        self.seq = seq;
        if let Some(key) = key {
            self.keys.remember(channel, key, seq, since);
        }
        let id = match self.lookup(channel, hash) {
            Some(id) => id,
            None if self.keeps(channel) => self.create(channel),
            None => {
                self.forgotten.remember(hash, seq);
                return;
            }
        };
        let entry = &self.channels[id as usize];
        let channel = (id != BROADCAST).then_some(&entry.name);
        Message::place(&mut message, &Place { seq, channel, slow: entry.slow, stamp: 0 });
        self.keep(id, message, since);
        // No other thread waits for the lock yet, so a trimmed message is freed at once.
        self.kept.evicted = None;
    }

    fn keeps(&mut self, channel: &str) -> bool {
        let rule = self.rules.number_for(channel);
        self.rules.get(rule).bounds.keeps()
    }

    /// Everything is restored. `last` is the last number.
    pub(in crate::hub) fn go_on_after(&mut self, last: u64, lineage: Lineage, now: u64) {
        self.lineage = lineage;
        (self.seq, self.began_at) = (last, last);
        while self.expire(now) {}
    }

    /// The last number of each channel, for some hundred channels from `from` on. Returns where to go on.
    pub(in crate::hub) fn ends(&self, from: usize, found: &mut Vec<(u64, Arc<str>)>) -> Option<usize> {
        const AT_ONCE: usize = 512;
        let end = self.channels.capacity().min(from + AT_ONCE);
        let channels = (from..end).filter_map(|id| self.channels.get(id));
        found.extend(channels.map(|channel| {
            let history = &channel.history;
            (history.newest().unwrap_or(history.trimmed()), channel.name.clone())
        }));
        (end < self.channels.capacity()).then_some(end)
    }
}
