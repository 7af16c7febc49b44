//! How long history is kept: by count, age and bytes of a channel, and by bytes of the whole hub.
//!
//! Within one rule all messages live equally long, so the order in which they came is the order in which they expire:
//! one queue a rule tells what to drop next, for age as for the hub's bytes. An entry whose message was already
//! trimmed by its channel's count is stale, is skipped, and is cleared away before stale ones are most of the queue.

use super::name::ChannelPattern;
use std::collections::VecDeque;

/// Bounds of a channel's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Messages; 0 keeps none.
    pub count: usize,
    /// Milliseconds.
    pub age_ms: u64,
    /// Bytes, with about what a message takes beside its payload.
    pub bytes: usize,
}

impl Retention {
    /// Whether anything is kept at all.
    pub(super) fn keeps(&self) -> bool {
        self.count > 0 && self.bytes > 0
    }
}

/// A kept message, as its rule remembers it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) since: u64,
    pub(super) channel: u32,
}

/// One rule with the messages kept under it, oldest first.
#[derive(Debug)]
pub(super) struct Rule {
    pattern: Option<ChannelPattern>,
    pub(super) bounds: Retention,
    entries: VecDeque<Entry>,
    stale: usize,
}

/// All rules; the last one is for every channel that no pattern fits.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    /// The closest pattern comes first.
    pub(super) fn new(patterns: &[(ChannelPattern, Retention)], general: Retention) -> Self {
        let mut patterns = patterns.to_vec();
        patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.weight()));
        let rule = |pattern, bounds| Rule { pattern, bounds, entries: VecDeque::new(), stale: 0 };
        let mut rules: Vec<_> = patterns.into_iter().map(|(pattern, bounds)| rule(Some(pattern), bounds)).collect();
        rules.push(rule(None, general));
        Rules(rules)
    }

    /// New bounds. Where the patterns are others, too, what was kept by the old ones is handed back, oldest first: it
    /// is to be given to the new ones.
    pub(super) fn replace(
        &mut self,
        patterns: &[(ChannelPattern, Retention)],
        general: Retention,
    ) -> Option<Vec<Entry>> {
        let new = Rules::new(patterns, general);
        let same =
            self.0.len() == new.0.len() && self.0.iter().zip(&new.0).all(|(old, new)| old.pattern == new.pattern);
        if same {
            self.0.iter_mut().zip(new.0).for_each(|(old, new)| old.bounds = new.bounds);
            return None;
        }
        let old = std::mem::replace(self, new);
        let mut entries: Vec<Entry> = old.0.into_iter().flat_map(|rule| rule.entries).collect();
        // Each rule's are in order, which this sort makes use of.
        entries.sort_by_key(|entry| entry.seq);
        Some(entries)
    }

    /// The number of the rule for a channel.
    pub(super) fn number_for(&self, channel: &str) -> u8 {
        let fits = |rule: &Rule| rule.pattern.as_ref().is_none_or(|pattern| pattern.matches(channel));
        self.0.iter().position(fits).unwrap_or(self.0.len() - 1) as u8
    }

    pub(super) fn get(&mut self, number: u8) -> &mut Rule {
        &mut self.0[usize::from(number)]
    }

    /// The oldest entry of all rules, for the bound of the whole hub.
    pub(super) fn pop_oldest(&mut self) -> Option<Entry> {
        let oldest = self.0.iter_mut().filter(|rule| !rule.entries.is_empty()).min_by_key(|rule| rule.entries[0].seq);
        oldest.and_then(|rule| rule.entries.pop_front())
    }

    /// Gives back the room of entries that went.
    pub(super) fn give_back_room(&mut self) {
        for rule in &mut self.0 {
            if rule.entries.capacity() > 1024 && rule.entries.len() * 8 < rule.entries.capacity() {
                rule.entries.shrink_to(rule.entries.len() * 2);
            }
        }
    }

    /// How many entries there are, stale ones among them.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.0.iter().map(|rule| rule.entries.len()).sum()
    }

    /// An entry that has outlived its rule's age.
    pub(super) fn pop_expired(&mut self, now: u64) -> Option<Entry> {
        self.0.iter_mut().find_map(|rule| {
            let oldest = rule.entries.front()?;
            let expired = now.saturating_sub(oldest.since) >= rule.bounds.age_ms;
            expired.then(|| rule.entries.pop_front()).flatten()
        })
    }
}

impl Rule {
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// Notes that a message was trimmed by its channel; true when it is time to [`sweep`](Self::sweep).
    pub(super) fn note_stale(&mut self) -> bool {
        self.stale += 1;
        self.stale > 1024 && self.stale * 2 > self.entries.len()
    }

    /// Clears away entries whose message is gone, as `kept` tells.
    pub(super) fn sweep(&mut self, kept: impl Fn(&Entry) -> bool) {
        self.entries.retain(kept);
        self.stale = 0;
    }
}
