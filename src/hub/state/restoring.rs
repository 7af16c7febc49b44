//! Restores history from a log, from before this hub.

use super::State;
use crate::hub::forgotten::Place as Remembered;
use crate::hub::lineage::Lineage;
use crate::hub::message::{Message, Place};
use crate::hub::{ChannelId, Ends, Outgoing, BROADCAST};
use std::collections::HashMap;

/// Where the listing of the ends goes on.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub) enum Listing {
    /// With the channels that exist, from this number of a channel on.
    Channels(usize),
    /// With the channels that are gone, after this one.
    Forgotten(Option<Remembered>),
}

impl State {
    /// Keeps the names of channels that are gone. Call this on an empty hub.
    pub(in crate::hub) fn keep_names(&mut self) {
        self.forgotten.keep_names();
    }

    /// Messages before a number are not in the log. Call this on an empty hub.
    pub(in crate::hub) fn begin_before(&mut self, first: u64) {
        let gone = first.saturating_sub(1);
        (self.seq, self.began_at) = (gone, gone);
        self.forgotten.raise_floor(gone);
        self.channels[BROADCAST as usize].history.skip(gone);
    }

    /// The last numbers of channels before the log begins. No other channel had a message after `floor` there.
    pub(in crate::hub) fn restore_ends<'c>(&mut self, floor: u64, ends: impl Iterator<Item = (u64, &'c str)>) {
        self.forgotten.lower_floor(floor);
        for (seq, channel) in ends {
            if channel.is_empty() {
                self.channels[BROADCAST as usize].history.skip(seq);
            } else {
                self.forgotten.restore(self.names.hash(channel), seq, channel);
            }
        }
    }

    /// Takes over what another hub knew when it had applied the entry `until`. What this hub has read itself stays.
    pub(in crate::hub) fn learn_ends(&mut self, until: u64, floor: u64, ends: &[(u64, &str)]) {
        // Later entries that this hub has not read may be missing there.
        let Some(before) = self.forgotten.unknown().filter(|before| *before <= until) else { return };
        // Of a channel with a message that this hub has read, the last one before is not told.
        let told = |seq: u64| if seq > before { before } else { seq };
        let mut listed: HashMap<&str, u64> = HashMap::with_capacity(ends.len());
        for (seq, channel) in ends {
            let end = listed.entry(channel).or_insert(0);
            *end = told(*seq).max(*end);
        }
        for (id, channel) in self.channels.iter_mut() {
            if channel.history.trimmed() == before {
                let other = if id as ChannelId == BROADCAST { before } else { told(floor) };
                channel.history.skip(listed.get(&*channel.name).copied().unwrap_or(other));
            }
        }
        self.forgotten.learn(told(floor));
        for (channel, seq) in listed {
            let hash = self.hash(channel);
            if !channel.is_empty() && self.lookup(channel, hash).is_none() {
                self.forgotten.restore(hash, seq, channel);
            }
        }
    }

    /// Restores a message with its number and its time.
    pub(in crate::hub) fn restore(&mut self, seq: u64, outgoing: Outgoing<'_>, since: u64) {
        let Outgoing { channel, key, mut message, .. } = outgoing;
        let hash = self.hash(channel);
        self.seq = seq;
        if let Some(key) = key {
            self.keys.remember(channel, key, seq, since);
        }
        let id = match self.lookup(channel, hash) {
            Some(id) => id,
            None if self.keeps(channel) => self.create(channel),
            None => {
                self.forgotten.remember(hash, seq, channel);
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

    /// Lists the last numbers of channels before `first`, for some hundred channels. Returns where to go on.
    ///
    /// A channel may go, or come back, between two of these steps. The channels that are gone come last, and one that
    /// comes back stays among them. So each channel that had a message before `first` is listed at least once, unless
    /// the floor covers it. The floor is read in the last step.
    pub(in crate::hub) fn list_ends(&self, first: u64, from: Listing, found: &mut Ends) -> Option<Listing> {
        const AT_ONCE: usize = 512;
        // Of a channel with later messages only, the last one before may not be known any more. Clients that have not
        // seen the later ones are told of a gap in any case. Clients that have are not asked about.
        let before = |seq: u64| seq.min(first.saturating_sub(1));
        match from {
            Listing::Channels(from) => {
                let end = self.channels.capacity().min(from + AT_ONCE);
                let channels = (from..end).filter_map(|id| self.channels.get(id));
                found.channels.extend(channels.map(|channel| {
                    let history = &channel.history;
                    (history.newest_before(first).unwrap_or(before(history.trimmed())), channel.name.clone())
                }));
                let more = end < self.channels.capacity();
                Some(if more { Listing::Channels(end) } else { Listing::Forgotten(None) })
            }
            Listing::Forgotten(after) => {
                let mut last = None;
                for (place, name) in self.forgotten.list(after).take(AT_ONCE) {
                    last = Some(place);
                    found.channels.extend(name.map(|name| (before(place.0), name.clone())));
                }
                found.floor = before(self.forgotten.floor());
                last.map(|last| Listing::Forgotten(Some(last)))
            }
        }
    }
}
