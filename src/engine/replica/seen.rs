//! The entries that a hub has read: their names by number, and the last counter of each hub.

use super::super::contract::EntryId;
use std::collections::{HashMap, VecDeque};

/// The number of entries that are remembered. If a log loses more entries than that, all history is announced as a gap.
const REMEMBERED: usize = if cfg!(test) { 40 } else { 1 << 16 };
/// The number of hubs of which the counter is remembered.
const HUBS: usize = 1 << 16;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Act,
    /// Nobody misses it.
    Other,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The names of the latest entries, and what each is.
    entries: VecDeque<(EntryId, Kind)>,
    last: u64,
    counters: HashMap<u64, u64>,
}

impl Seen {
    /// Nothing is read yet, and the log begins after this number.
    pub(super) fn after(number: u64) -> Self {
        Seen { last: number, ..Seen::default() }
    }

    /// The last number that was read.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The first number that has a remembered entry.
    pub(super) fn first(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }

    /// The name of the entry with a number.
    pub(super) fn entry(&self, number: u64) -> Option<EntryId> {
        let place = number.checked_sub(self.first())?;
        self.entries.get(place as usize).map(|(id, _)| *id)
    }

    /// True if there may be an entry of a kind after a number, other than those that are `known`.
    pub(super) fn has_after(&self, number: u64, kind: Kind, known: impl Fn(EntryId) -> bool) -> bool {
        let skipped = (number + 1).saturating_sub(self.first()) as usize;
        let forgotten = number + 1 < self.first() && self.last > number;
        forgotten || self.entries.iter().skip(skipped).any(|(id, is)| *is == kind && !known(*id))
    }

    /// Notes the next entry. False if the log has had it before.
    pub(super) fn note(&mut self, id: EntryId, kind: Kind) -> bool {
        self.last += 1;
        self.entries.push_back((id, kind));
        if self.entries.len() > REMEMBERED {
            self.entries.pop_front();
        }
        // A log recognises an entry that is appended again. This check is for a log that forgets counters too soon.
        if self.counters.len() >= HUBS && !self.counters.contains_key(&id.hub) {
            self.counters.clear();
        }
        let counter = self.counters.entry(id.hub).or_insert(0);
        let is_new = id.counter > *counter;
        *counter = id.counter.max(*counter);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_entries_are_remembered_and_an_entry_that_comes_again_is_recognised() {
        let id = |counter| EntryId { hub: 1, counter, attempt: 0 };
        let mut seen = Seen::after(10);
        assert_eq!((seen.first(), seen.last(), seen.entry(10), seen.entry(11)), (11, 10, None, None));
        assert!(seen.note(id(1), Kind::Message) && seen.note(id(2), Kind::Act) && !seen.note(id(1), Kind::Other));
        assert!(seen.note(EntryId { hub: 2, ..id(1) }, Kind::Other), "of another hub");
        assert_eq!((seen.first(), seen.last(), seen.entry(12)), (11, 14, Some(id(2))));
        let has_message = |seen: &Seen, after| seen.has_after(after, Kind::Message, |_| false);
        let has_act = |after| seen.has_after(after, Kind::Act, |_| false);
        assert!(has_act(11) && !has_act(12));
        assert!(
            has_message(&seen, 10) && !has_message(&seen, 11) && !seen.has_after(10, Kind::Message, |id| id.hub == 1)
        );
        (3..100).for_each(|counter| assert!(seen.note(id(counter), Kind::Other)));
        assert_eq!(seen.last() - seen.first() + 1, REMEMBERED as u64);
        assert!(has_message(&seen, 11) && !has_message(&seen, seen.first() - 1), "what is forgotten may be a message");
        assert_eq!((seen.entry(seen.last()), seen.entry(seen.first() - 1)), (Some(id(99)), None));
    }
}
