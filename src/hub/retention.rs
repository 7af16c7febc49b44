//! How long history is kept: by count, age and bytes of a channel, and by bytes of the whole hub.
//!
//! Within one rule all messages live equally long, so the order in which they came is the order in which they expire:
//! one queue a rule tells what to drop next, for age as for the hub's bytes. An entry whose message was already
//! trimmed by its channel's count is stale, is skipped, and is cleared away before stale ones are most of the queue:
//! piece by piece, so that no publish has to look at all of it.

use super::name::ChannelPattern;
use std::collections::VecDeque;

/// How long it is since a time. What was kept before this machine started is from before the clock's zero, which goes
/// round: a time before it is a very large one. And what came just now may be a moment ahead.
pub(super) fn age(since: u64, now: u64) -> u64 {
    (now.wrapping_sub(since) as i64).max(0) as u64
}

/// Entries in a piece of a queue. Few for tests, so that the hub's model comes to several pieces.
const PIECE: usize = if cfg!(any(test, fuzzing)) { 4 } else { 512 };
/// So many stale entries are no reason to look for them.
const FEW_STALE: usize = if cfg!(any(test, fuzzing)) { 8 } else { 1024 };

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
    /// Entries in pieces that were full once, and are not empty; then the newest.
    pieces: VecDeque<VecDeque<Entry>>,
    newest: VecDeque<Entry>,
    /// How many have become stale; up to which of these all are cleared away; and how many had when the first piece was
    /// looked at last.
    stale: usize,
    cleared: usize,
    began: usize,
    /// The piece to look at next.
    next: usize,
}

/// All rules; the last one is for every channel that no pattern fits.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    /// The closest pattern comes first.
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
        let mut entries: Vec<Entry> =
            old.0.into_iter().flat_map(|rule| rule.pieces.into_iter().flatten().chain(rule.newest)).collect();
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
        let oldest = self.0.iter_mut().filter_map(|rule| Some((rule.oldest()?.seq, rule))).min_by_key(|(seq, _)| *seq);
        oldest.and_then(|(_, rule)| rule.pop())
    }

    /// Gives back the room of entries that went.
    pub(super) fn give_back_room(&mut self) {
        for rule in &mut self.0 {
            if rule.pieces.capacity() > 64 && rule.pieces.len() * 8 < rule.pieces.capacity() {
                rule.pieces.shrink_to(rule.pieces.len() * 2);
            }
        }
    }

    /// How many entries there are, stale ones among them.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.0.iter().map(Rule::len).sum()
    }

    /// An entry that has outlived its rule's age.
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

    /// Notes that a message was trimmed by its channel; true when it is time to [`sweep`](Self::sweep).
    pub(super) fn note_stale(&mut self) -> bool {
        self.stale += 1;
        let stale = self.stale - self.cleared;
        stale > FEW_STALE && stale * 2 > self.pieces.len() * PIECE + self.newest.len()
    }

    /// Clears away entries of one piece whose message is gone, as `kept` tells. Once it has come to the end, all are
    /// gone but those that became stale meanwhile.
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
        // Two that fit into one become one, or what is left of many would take the room of all.
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
        let entry = |seq| Entry { seq, since: seq, channel: 0 };
        (0..20_000).for_each(|seq| rule.push(entry(seq)));
        // All but each hundredth.
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
        // Of two neighbours one is more than half full.
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
        (0..5000).for_each(|seq| rule.push(Entry { seq, since: seq, channel: 0 }));
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
