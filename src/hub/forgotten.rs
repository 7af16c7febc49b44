//! Remembers where the histories of dropped channels ended.
//!
//! A channel without subscribers and history is dropped. A subscriber that comes back to it with an older position must
//! be told of the gap, and one that missed nothing must not be. So the end of each dropped history is kept, in some 60
//! bytes, for a bounded number of channels. Beyond that the lowest end is pushed out. It raises a common floor for all
//! other channels. A hub with a log also keeps the channels' names, since the log needs them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// The number of channels that are remembered one by one.
const CAPACITY: usize = 65_536;

/// The ends of dropped histories, by the hash of the channel's name. Two names with the same hash share the later end.
/// So a gap may be announced too often, but never too rarely.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    ends: HashMap<u64, End, rustc_hash::FxBuildHasher>,
    order: BTreeSet<Place>,
    floor: u64,
    /// True if a log needs the channels' names.
    with_names: bool,
    /// True if clients may subscribe to patterns, which need them as well.
    for_patterns: bool,
    /// Nothing is known of the messages up to this number, in no channel.
    unknown: Option<u64>,
}

#[derive(Debug)]
struct End {
    seq: u64,
    /// The channel's name, if names are kept.
    name: Option<Arc<str>>,
    /// True if another name has the same hash. The end may be that channel's.
    is_shared: bool,
}

/// An end, and the hash of its channel's name.
pub(super) type Place = (u64, u64);

impl Forgotten {
    /// Keeps the names of channels from now on.
    pub(super) fn keep_names(&mut self) {
        self.with_names = true;
    }

    pub(super) fn keeps_names(&self) -> bool {
        self.with_names
    }

    /// Keeps the names of channels from now on, or no longer, as far as no log needs them.
    pub(super) fn name_for_patterns(&mut self, for_patterns: bool) {
        self.for_patterns = for_patterns;
    }

    /// Forgets everything. The messages up to `seq` are gone, and nobody has told of them.
    pub(super) fn know_nothing_before(&mut self, seq: u64) {
        let (with_names, for_patterns) = (self.with_names, self.for_patterns);
        let unknown = Some(seq).filter(|seq| *seq > 0);
        *self = Forgotten { floor: seq, with_names, for_patterns, unknown, ..Forgotten::default() };
    }

    /// The number up to which nothing is known.
    pub(super) fn unknown(&self) -> Option<u64> {
        self.unknown
    }

    /// It is known that no channel that does not exist, and is not restored after this, had a message between `floor` and
    /// the number up to which nothing was known.
    pub(super) fn learn(&mut self, floor: u64) {
        // If it was raised since, ends were pushed out that are higher.
        if self.unknown.take() == Some(self.floor) {
            self.floor = self.floor.min(floor);
        }
    }

    /// Remembers that a channel's messages up to `seq` are gone.
    pub(super) fn remember(&mut self, hash: u64, seq: u64, name: &str) {
        // A channel that is not remembered has the floor as its end, which is not lower.
        if self.ends.contains_key(&hash) || seq > self.floor {
            self.restore(hash, seq, name);
        }
    }

    /// Remembers the end of a channel that may be below the floor.
    pub(super) fn restore(&mut self, hash: u64, seq: u64, name: &str) {
        let keeps_names = self.with_names || self.for_patterns;
        if let Some(end) = self.ends.get_mut(&hash) {
            match &end.name {
                Some(known) => end.is_shared |= **known != *name,
                None if keeps_names => end.name = Some(name.into()),
                None => {}
            }
            if seq <= end.seq {
                return;
            }
            self.order.remove(&(end.seq, hash));
            end.seq = seq;
        } else {
            let name = keeps_names.then(|| name.into());
            self.ends.insert(hash, End { seq, name, is_shared: false });
        }
        self.order.insert((seq, hash));
        while self.order.len() > CAPACITY {
            let Some((seq, hash)) = self.order.pop_first() else { break };
            self.ends.remove(&hash);
            self.floor = self.floor.max(seq);
        }
    }

    /// The end of a channel that does not exist.
    pub(super) fn end(&self, hash: u64) -> u64 {
        // The end of a remembered channel is exact, even if it is below the floor.
        self.ends.get(&hash).map_or(self.floor, |end| end.seq)
    }

    /// Raises the floor: all messages up to `seq` are gone, in every channel that is not remembered.
    pub(super) fn raise_floor(&mut self, seq: u64) {
        self.floor = self.floor.max(seq);
    }

    /// Lowers the floor: it is known that no other channel had a message after `seq`.
    pub(super) fn lower_floor(&mut self, seq: u64) {
        self.floor = self.floor.min(seq);
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Lists the next ends after one that was listed, lowest first. An end is `None` if its channel's name is not kept.
    pub(super) fn list(&self, after: Option<Place>) -> impl Iterator<Item = (Place, Option<&Arc<str>>)> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).map(|place| {
            let end = self.ends.get(&place.1);
            (*place, end.and_then(|end| end.name.as_ref()))
        })
    }

    /// Lists the next ends after one that was listed, lowest first. A name is `None` if it may be any channel's end.
    pub(super) fn list_lost(&self, after: Place) -> impl Iterator<Item = (Place, Option<&Arc<str>>)> + '_ {
        let is_known = |hash: &u64| self.ends.get(hash).is_some_and(|end| !end.is_shared);
        self.list(Some(after)).map(move |(place, name)| (place, name.filter(|_| is_known(&place.1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remember(forgotten: &mut Forgotten, hash: u64, seq: u64) {
        forgotten.remember(hash, seq, "a");
    }

    #[test]
    fn ends_fall_to_the_floor_when_there_are_too_many() {
        let mut forgotten = Forgotten::default();
        assert_eq!(forgotten.end(1), 0);
        remember(&mut forgotten, 1, 10);
        assert_eq!((forgotten.end(1), forgotten.end(2)), (10, 0));
        remember(&mut forgotten, 1, 5);
        assert_eq!(forgotten.end(1), 10);
        for hash in 0..CAPACITY as u64 {
            remember(&mut forgotten, hash + 100, hash + 11);
        }
        assert_eq!(forgotten.end(2), 10, "what was dropped raises the floor for all");
        assert_eq!((forgotten.ends.len(), forgotten.order.len()), (CAPACITY, CAPACITY));
    }

    #[test]
    fn a_channel_that_comes_and_goes_pushes_nobody_out() {
        let mut forgotten = Forgotten::default();
        remember(&mut forgotten, 1, 10);
        for _ in 0..2 * CAPACITY {
            remember(&mut forgotten, 2, 20);
        }
        assert_eq!((forgotten.end(1), forgotten.end(2), forgotten.end(3)), (10, 20, 0));
        // It has a new message each time.
        for seq in 0..2 * CAPACITY as u64 {
            remember(&mut forgotten, 2, 21 + seq);
        }
        assert_eq!((forgotten.end(1), forgotten.end(3)), (10, 0));
    }

    #[test]
    fn the_lowest_ends_are_pushed_out_first_whenever_they_came() {
        let mut forgotten = Forgotten::default();
        for hash in 0..CAPACITY as u64 {
            remember(&mut forgotten, hash, 1000 + hash);
        }
        remember(&mut forgotten, u64::MAX, 7);
        assert_eq!((forgotten.end(u64::MAX), forgotten.end(0), forgotten.floor()), (7, 1000, 7));
    }

    #[test]
    fn a_restored_end_below_the_floor_is_exact_until_the_channel_has_more() {
        let mut forgotten = Forgotten::default();
        forgotten.keep_names();
        forgotten.raise_floor(100);
        forgotten.restore(1, 5, "a");
        remember(&mut forgotten, 1, 3);
        assert_eq!((forgotten.end(1), forgotten.end(2)), (5, 100));
        remember(&mut forgotten, 1, 50);
        assert_eq!(forgotten.end(1), 50);
        let listed: Vec<_> =
            forgotten.list(None).map(|(place, name)| (place, name.map(|name| name.to_string()))).collect();
        assert_eq!(listed, [((50, 1), Some("a".to_string()))]);
        assert_eq!(forgotten.list(Some((50, 1))).count(), 0);
    }
}
