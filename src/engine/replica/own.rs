//! A hub's own entries: until they have come back through the log, and for a while after that.
//!
//! The log may lose an entry that has come back. As long as the hub keeps the entry, it appends it again.

use super::super::contract::{Appending, EntryId, Placed};
use super::super::envelope;
use crate::trace::Span;
use std::collections::{HashSet, VecDeque};

/// The number of entries in one append.
const BATCH: usize = if cfg!(test) { 4 } else { 512 };
/// The bytes of one append. A larger entry goes alone.
const BATCH_BYTES: usize = if cfg!(test) { 4096 } else { 4 << 20 };
/// The number of appends that may wait for their answers.
const BATCHES: usize = if cfg!(test) { 2 } else { 4 };

/// The final result of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has this number, and the hub has applied it.
    Published(u64),
    /// It was not appended: the entry with this number has its key.
    Known(u64),
    /// It is not known whether it was appended. It had a key, and the log no longer remembers that key.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Own {
    hub: u64,
    /// The counter of the last entry.
    counter: u64,
    /// The entries that have not come back yet, in their order.
    pending: VecDeque<Entry>,
    /// The entries that have come back, in their order, with their numbers.
    kept: VecDeque<(u64, Entry)>,
    /// The hub has asked to append all entries up to this counter, over this connection.
    asked: u64,
    /// Appends that have no answer yet: the counter of the entry before each, and the counters of its entries.
    unanswered: VecDeque<(u64, Vec<u64>)>,
    /// The number of pending entries that are [`Place::Known`].
    known_keys: usize,
    pending_bytes: usize,
    kept_bytes: usize,
    /// The bound of the pending bytes, and of the kept bytes.
    bound: usize,
    outcomes: VecDeque<(u64, Outcome)>,
    /// An entry has had a span. Where nothing is traced, nobody looks for one.
    traced: bool,
    /// The counters of clears that have met their channel, until their outcomes are taken.
    cleared: HashSet<u64>,
}

#[derive(Debug)]
struct Entry {
    counter: u64,
    key: Box<str>,
    bytes: Vec<u8>,
    place: Place,
    /// True if its outcome was reported.
    reported: bool,
    /// The span of its message, until that comes back for the first time.
    span: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The log has not answered yet.
    Unplaced,
    /// The log says that it has the entry.
    Appended,
    /// The entry with this number has its key.
    Known(u64),
}

impl Own {
    pub(super) fn new(hub: u64, bound: usize) -> Self {
        Own {
            hub,
            counter: 0,
            pending: VecDeque::new(),
            kept: VecDeque::new(),
            asked: 0,
            unanswered: VecDeque::new(),
            known_keys: 0,
            pending_bytes: 0,
            kept_bytes: 0,
            bound,
            outcomes: VecDeque::new(),
            traced: false,
            cleared: HashSet::new(),
        }
    }

    /// Takes an entry to append, and returns its counter. `None` if too many bytes wait.
    pub(super) fn offer(&mut self, key: &str, body: &envelope::Body<'_>) -> Option<u64> {
        let id = EntryId { hub: self.hub, counter: 0, attempt: 0 };
        let bytes = envelope::write(id, body);
        self.has_room(bytes.len()).then(|| self.take(key.into(), bytes, None))
    }

    /// True if there is room for an entry. One that is larger than the bound is accepted if no other entry waits.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.pending_bytes == 0 || self.pending_bytes + bytes <= self.bound
    }

    /// Takes an encoded entry to append, and gives it its counter.
    pub(super) fn take(&mut self, key: Box<str>, mut bytes: Vec<u8>, span: Option<Span>) -> u64 {
        self.counter += 1;
        self.traced |= span.is_some();
        envelope::set_counter(&mut bytes, self.counter);
        self.pending_bytes += bytes.len();
        let (counter, place) = (self.counter, Place::Unplaced);
        self.pending.push_back(Entry { counter, key, bytes, place, reported: false, span });
        self.counter
    }

    /// True if the hub still has an entry, and so can append it again.
    pub(super) fn holds(&self, counter: u64) -> bool {
        self.kept.binary_search_by_key(&counter, |(_, entry)| entry.counter).is_ok()
            || self.pending.binary_search_by_key(&counter, |entry| entry.counter).is_ok()
    }

    /// The span of an entry's message, if it has one and comes back for the first time.
    pub(super) fn span_of(&self, counter: u64) -> Option<Span> {
        let pending = Some(&self.pending).filter(|_| self.traced)?;
        let at = pending.binary_search_by_key(&counter, |entry| entry.counter).ok()?;
        pending[at].span.clone()
    }

    /// True if outcomes are not told yet.
    pub(super) fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// True if the log has said of every entry that it has it, or knew its key.
    pub(super) fn all_placed(&self) -> bool {
        self.pending.iter().all(|entry| entry.place != Place::Unplaced)
    }

    /// Changes the bound. What waits already stays.
    pub(super) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// The bytes of the entries that have not come back.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// The next entries to append, and the counter of the entry before them.
    pub(super) fn batch(&mut self, attempt: u32) -> Option<(u64, Vec<Appending>)> {
        if self.unanswered.len() >= BATCHES {
            return None;
        }
        let from = self.pending.partition_point(|entry| entry.counter <= self.asked);
        let nowhere = self.pending.range(from..).filter(|entry| entry.place == Place::Unplaced);
        let append = |entry: &Entry| {
            let mut bytes = entry.bytes.clone();
            envelope::set_attempt(&mut bytes, attempt);
            Appending { id: EntryId { hub: self.hub, counter: entry.counter, attempt }, key: entry.key.clone(), bytes }
        };
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.bytes.len();
            bytes <= BATCH_BYTES || bytes == entry.bytes.len()
        };
        let batch: Vec<Appending> = nowhere.take(BATCH).take_while(fits).map(append).collect();
        let after = std::mem::replace(&mut self.asked, batch.last()?.id.counter);
        self.unanswered.push_back((after, batch.iter().map(|entry| entry.id.counter).collect()));
        Some((after, batch))
    }

    /// Takes the answer to the oldest append.
    pub(super) fn placed(&mut self, places: &[Placed]) {
        let (_, counters) = self.unanswered.pop_front().unwrap_or_default();
        for (counter, placed) in counters.into_iter().zip(places) {
            let Ok(at) = self.pending.binary_search_by_key(&counter, |entry| entry.counter) else { continue };
            match placed {
                Placed::Known(number) => self.set(at, Place::Known(*number)),
                // A later entry has come back, so this one will not: the log knew its key at that time.
                Placed::Repeated if self.kept.back().is_some_and(|(_, last)| last.counter > counter) => {
                    self.end(at, Outcome::Unknown);
                }
                Placed::At(_) | Placed::Repeated => self.set(at, Place::Appended),
            }
        }
    }

    /// The log refused the oldest append. It will refuse the appends after that one, too.
    pub(super) fn refused(&mut self) {
        let after = self.unanswered.pop_front().map_or(0, |(after, _)| after);
        self.asked = self.asked.min(after);
    }

    /// The connection is lost. The entries that have not come back are appended again over the next one.
    pub(super) fn restart(&mut self) {
        self.asked = 0;
        self.unanswered.clear();
        let appended = self.pending.iter_mut().filter(|entry| entry.place == Place::Appended);
        appended.for_each(|entry| entry.place = Place::Unplaced);
    }

    /// The log has lost all entries after a number.
    pub(super) fn lost_after(&mut self, number: u64) {
        self.doubt_after(number);
        for (known, entry) in std::mem::take(&mut self.kept) {
            if known > number {
                self.kept_bytes -= entry.bytes.len();
                self.pending_bytes += entry.bytes.len();
                self.pending.push_back(Entry { place: Place::Unplaced, ..entry });
            } else {
                self.kept.push_back((known, entry));
            }
        }
        self.pending.make_contiguous().sort_by_key(|entry| entry.counter);
    }

    /// The log may have lost entries after a number. What it has said of keys there is asked again.
    pub(super) fn doubt_after(&mut self, number: u64) {
        for at in 0..self.pending.len() {
            if matches!(self.pending[at].place, Place::Known(known) if known > number) {
                self.set(at, Place::Unplaced);
            }
        }
    }

    /// The log forgets the entries before a number, as they are too old.
    pub(super) fn forget_before(&mut self, number: u64) {
        let bytes = &mut self.kept_bytes;
        self.kept.retain(|(known, entry)| {
            *bytes -= if *known < number { entry.bytes.len() } else { 0 };
            *known >= number
        });
    }

    /// An entry has come back, and is applied.
    pub(super) fn returned(&mut self, counter: u64, number: u64) {
        if let Ok(at) = self.kept.binary_search_by_key(&counter, |(_, entry)| entry.counter) {
            // The hub is reading the log again.
            self.kept[at].0 = number;
            return;
        }
        // Earlier entries that have not come back never will: the log knew their keys.
        while let Some(entry) = self.pending.front().filter(|entry| entry.counter < counter) {
            match entry.place {
                Place::Known(known) => self.end(0, Outcome::Known(known)),
                Place::Appended => self.end(0, Outcome::Unknown),
                // Its answer is on the way.
                Place::Unplaced => break,
            }
        }
        let Ok(at) = self.pending.binary_search_by_key(&counter, |entry| entry.counter) else { return };
        self.report(at, Outcome::Published(number));
        self.keep(at, number);
    }

    /// All entries up to a number are applied.
    pub(super) fn reached(&mut self, number: u64) {
        let mut at = 0;
        while self.known_keys > 0 && at < self.pending.len() {
            match self.pending[at].place {
                Place::Known(known) if known <= number => self.end(at, Outcome::Known(known)),
                _ => at += 1,
            }
        }
    }

    /// The next outcome: the entry's counter, and its result.
    pub(super) fn outcome(&mut self) -> Option<(u64, Outcome)> {
        let outcome = self.outcomes.pop_front();
        if outcome.is_none() {
            // Clears that come again have their outcomes already.
            self.cleared.clear();
        }
        outcome
    }

    /// A clear has met its channel. Its outcome comes next.
    pub(super) fn note_cleared(&mut self, counter: u64) {
        self.cleared.insert(counter);
    }

    /// True if a clear whose outcome was just taken has met its channel.
    pub(super) fn has_cleared(&self, counter: u64) -> bool {
        self.cleared.contains(&counter)
    }

    fn set(&mut self, at: usize, place: Place) {
        let is_known = |place: Place| usize::from(matches!(place, Place::Known(_)));
        let before = std::mem::replace(&mut self.pending[at].place, place);
        self.known_keys = self.known_keys + is_known(place) - is_known(before);
    }

    fn report(&mut self, at: usize, outcome: Outcome) {
        let entry = &mut self.pending[at];
        entry.span = None;
        if !std::mem::replace(&mut entry.reported, true) {
            self.outcomes.push_back((entry.counter, outcome));
        }
    }

    fn end(&mut self, at: usize, outcome: Outcome) {
        match outcome {
            // The entry was published before, and appended again. So mostly the key is its own.
            Outcome::Known(number) if self.pending[at].reported => self.keep(at, number),
            _ => {
                self.report(at, outcome);
                self.remove(at);
            }
        }
    }

    fn keep(&mut self, at: usize, number: u64) {
        let Some(entry) = self.remove(at) else { return };
        self.kept_bytes += entry.bytes.len();
        let place = self.kept.partition_point(|(_, kept)| kept.counter < entry.counter);
        self.kept.insert(place, (number, entry));
        while self.kept_bytes > self.bound {
            let Some((_, entry)) = self.kept.pop_front() else { break };
            self.kept_bytes -= entry.bytes.len();
        }
    }

    fn remove(&mut self, at: usize) -> Option<Entry> {
        self.set(at, Place::Unplaced);
        let entry = self.pending.remove(at)?;
        self.pending_bytes -= entry.bytes.len();
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
