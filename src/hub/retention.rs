//! How long messages are kept: limits on the count, age and bytes of a channel, and on the bytes of the whole hub.
//!
//! Under one rule all messages have the same lifetime, so they expire in the order in which they came. One queue for
//! each rule says which message to drop next, for its age and for the hub's bytes. If a channel's count has already
//! trimmed a message, its entry in the queue is stale and is skipped. Stale entries are removed before they are most of
//! the queue. That happens piece by piece, so that no publish has to look at the whole queue.

use super::name::ChannelPattern;
use std::collections::VecDeque;

/// The time that has passed since `since`. A message that is older than the machine's start has a time before the
/// clock's zero, which wraps around to a very large number. A message that came just now may be a moment ahead of
/// `now`.
pub(super) fn age(since: u64, now: u64) -> u64 {
    (now.wrapping_sub(since) as i64).max(0) as u64
}

/// The number of entries in a piece of a queue. It is small in tests, so that the hub's model has several pieces.
const PIECE: usize = if cfg!(any(test, fuzzing)) { 4 } else { 512 };
/// Up to this number of stale entries, none are removed.
const FEW_STALE: usize = if cfg!(any(test, fuzzing)) { 8 } else { 1024 };

/// Bounds of a channel's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// The number of messages. 0 keeps none.
    pub count: usize,
    /// The age in milliseconds.
    pub age_ms: u64,
    /// The bytes, including about what a message takes beside its payload.
    pub bytes: usize,
}

impl Retention {
    /// True if any message is kept.
    pub(super) fn keeps(&self) -> bool {
        self.count > 0 && self.bytes > 0
    }
}

/// An entry for a kept message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) since: u64,
    pub(super) channel: u32,
    /// True for a mark. It may be taken out of a history before older messages are.
    pub(super) is_mark: bool,
}

/// A rule, and the messages that are kept under it, oldest first.
#[derive(Debug)]
pub(super) struct Rule {
    pattern: Option<ChannelPattern>,
    pub(super) bounds: Retention,
    /// The entries, in pieces. All pieces but `newest` were full once, and are not empty.
    pieces: VecDeque<VecDeque<Entry>>,
    newest: VecDeque<Entry>,
    /// The number of entries that have become stale since the beginning.
    stale: usize,
    /// The number of these that are removed for certain.
    cleared: usize,
    /// The value of `stale` when the present sweep began.
    began: usize,
    /// The next piece of the sweep.
    next: usize,
}

/// All rules. The last one is for the channels that match no pattern.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    /// Makes the rules. The closest pattern comes first.
    pub(super) fn new(patterns: &[(ChannelPattern, Retention)], general: Retention) -> Self {
        let mut patterns = patterns.to_vec();
        patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.weight()));
        let rule = |pattern, bounds| {
            let (pieces, newest) = Default::default();
            Rule { pattern, bounds, pieces, newest, stale: 0, cleared: 0, began: 0, next: 0 }
        };
        let mut rules: Vec<_> = patterns.into_iter().map(|(pattern, bounds)| rule(Some(pattern), bounds)).collect();
        rules.push(rule(None, general));
        Rules(rules)
    }

    /// Replaces the bounds. If the patterns have changed as well, this returns the entries of the old rules, oldest
    /// first. The caller adds them to the new rules.
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
        let mut entries: Vec<Entry> =
            old.0.into_iter().flat_map(|rule| rule.pieces.into_iter().flatten().chain(rule.newest)).collect();
        // The entries of each rule are in order already, which makes this sort fast.
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

    /// Removes the oldest entry of all rules, for the limit of the whole hub.
    pub(super) fn pop_oldest(&mut self) -> Option<Entry> {
        let oldest = self.0.iter_mut().filter_map(|rule| Some((rule.oldest()?.seq, rule))).min_by_key(|(seq, _)| *seq);
        oldest.and_then(|(_, rule)| rule.pop())
    }

    /// Forgets all entries.
    pub(super) fn forget(&mut self) {
        for rule in &mut self.0 {
            (rule.pieces, rule.newest) = Default::default();
            (rule.stale, rule.cleared, rule.began, rule.next) = (0, 0, 0, 0);
        }
    }

    /// Frees the memory of removed entries.
    pub(super) fn give_back_room(&mut self) {
        for rule in &mut self.0 {
            if rule.pieces.capacity() > 64 && rule.pieces.len() * 8 < rule.pieces.capacity() {
                rule.pieces.shrink_to(rule.pieces.len() * 2);
            }
        }
    }

    /// The number of entries, including stale ones.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.0.iter().map(Rule::len).sum()
    }

    /// Removes an entry that is older than its rule allows.
    pub(super) fn pop_expired(&mut self, now: u64) -> Option<Entry> {
        self.0.iter_mut().find_map(|rule| {
            let oldest = rule.oldest()?;
            let expired = age(oldest.since, now) >= rule.bounds.age_ms;
            expired.then(|| rule.pop()).flatten()
        })
    }
}

impl Rule {
    pub(super) fn push(&mut self, entry: Entry) {
        self.newest.push_back(entry);
        if self.newest.len() >= PIECE {
            self.pieces.push_back(std::mem::replace(&mut self.newest, VecDeque::with_capacity(PIECE)));
        }
    }

    fn oldest(&self) -> Option<&Entry> {
        self.pieces.front().unwrap_or(&self.newest).front()
    }

    fn pop(&mut self) -> Option<Entry> {
        let Some(piece) = self.pieces.front_mut() else { return self.newest.pop_front() };
        let entry = piece.pop_front();
        if piece.is_empty() {
            self.pieces.pop_front();
            self.next = self.next.saturating_sub(1);
        }
        entry
    }

    /// Notes that a channel has trimmed a message. Returns true when it is time to [`sweep`](Self::sweep).
    pub(super) fn note_stale(&mut self) -> bool {
        self.stale += 1;
        let stale = self.stale - self.cleared;
        stale > FEW_STALE && stale * 2 > self.pieces.len() * PIECE + self.newest.len()
    }

    /// Removes the stale entries of one piece. `kept` is true for an entry whose message is still there. After the last
    /// piece, only entries that became stale during the sweep are left.
    pub(super) fn sweep(&mut self, kept: impl Fn(&Entry) -> bool) {
        if self.next == 0 {
            self.began = self.stale;
        }
        let Some(piece) = self.pieces.get_mut(self.next) else {
            self.newest.retain(kept);
            self.next = 0;
            self.cleared = self.began;
            return;
        };
        piece.retain(kept);
        let left = piece.len();
        // Two pieces that fit into one are merged. Otherwise nearly empty pieces would keep the memory of full ones.
        let into = self.next.checked_sub(1).filter(|before| self.pieces[*before].len() + left <= PIECE);
        if left == 0 || into.is_some() {
            let rest = self.pieces.remove(self.next).unwrap_or_default();
            into.into_iter().for_each(|into| self.pieces[into].extend(&rest));
        } else {
            self.next += 1;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.pieces.iter().map(VecDeque::len).sum::<usize>() + self.newest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_entries_are_cleared_away_piece_by_piece_and_the_others_stay_in_order() {
        let mut rules = Rules::new(&[], Retention { count: 1, age_ms: 10, bytes: 1 });
        let rule = rules.get(0);
        let entry = |seq| Entry { seq, since: seq, channel: 0, is_mark: false };
        (0..20_000).for_each(|seq| rule.push(entry(seq)));
        // All entries become stale except each hundredth.
        let kept = |entry: &Entry| entry.seq.is_multiple_of(100);
        let mut sweeps = 0;
        for _ in 0..19_800 {
            let before = rule.len();
            if rule.note_stale() {
                rule.sweep(kept);
                sweeps += 1;
            }
            assert!(before - rule.len() <= PIECE, "{before} to {} at once", rule.len());
        }
        assert!(sweeps >= 20_000 / PIECE, "{sweeps}");
        // Of two neighbouring pieces, one is more than half full.
        assert!(rule.pieces.len() <= 2 * 200 / PIECE + 2, "{} pieces", rule.pieces.len());
        assert!(rule.stale - rule.cleared < 1000, "{}", rule.stale - rule.cleared);
        (20_000..20_100).for_each(|seq| rule.push(entry(seq)));
        let left: Vec<u64> = std::iter::from_fn(|| rules.pop_oldest()).map(|entry| entry.seq).collect();
        assert_eq!(left, (0..20_000).step_by(100).chain(20_000..20_100).collect::<Vec<_>>());
        let rule = rules.get(0);
        assert_eq!((rule.len(), rule.pieces.len()), (0, 0));
        rule.sweep(kept);
    }

    #[test]
    fn what_is_popped_while_it_is_looked_through_is_skipped() {
        let mut rules = Rules::new(&[], Retention { count: 1, age_ms: 10, bytes: 1 });
        let rule = rules.get(0);
        (0..5000).for_each(|seq| rule.push(Entry { seq, since: seq, channel: 0, is_mark: false }));
        let kept = |entry: &Entry| entry.seq.is_multiple_of(3);
        for _ in 0..1000 / PIECE {
            rule.sweep(kept);
        }
        let popped: Vec<u64> = (0..1000).filter_map(|_| rule.pop()).map(|entry| entry.seq).collect();
        assert!(popped.is_sorted() && popped[0] == 0);
        for _ in 0..2 * 5000 / PIECE {
            rule.sweep(kept);
        }
        let last = *popped.last().unwrap();
        let left: Vec<u64> = std::iter::from_fn(|| rule.pop()).map(|entry| entry.seq).collect();
        assert_eq!(left, (last + 1..5000).filter(|seq| seq.is_multiple_of(3)).collect::<Vec<_>>());
        assert_eq!(rule.len(), 0);
    }
}
