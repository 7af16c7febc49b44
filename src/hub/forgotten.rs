//! What is left of channels that disappeared: how far their history went.
//!
//! A channel without subscribers and history is dropped. A subscriber that comes back to it with an older position must
//! still be told of the gap, and one that missed nothing must not be. So the end of each dropped history is kept, in
//! 32 bytes, for a bounded number of channels; what falls out of that raises a floor for all.

use std::collections::{HashMap, VecDeque};

/// How many channels are remembered one by one.
const CAPACITY: usize = 65_536;

/// The ends of dropped histories, by the hash of the channel's name. Two names with one hash share the later end:
/// a gap announced too often, never too rarely.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    ends: HashMap<u64, u64, rustc_hash::FxBuildHasher>,
    order: VecDeque<(u64, u64)>,
    floor: u64,
}

impl Forgotten {
    /// Remembers that all of a channel up to `seq` is gone.
    pub(super) fn remember(&mut self, hash: u64, seq: u64) {
        if seq <= self.floor {
            return;
        }
        let end = self.ends.entry(hash).or_insert(0);
        // One that comes and goes without anything new stands in the order already: again, it would push others out.
        if seq <= *end {
            return;
        }
        *end = seq;
        self.order.push_back((hash, seq));
        while self.order.len() > CAPACITY {
            if let Some((hash, seq)) = self.order.pop_front() {
                // An entry that was renewed since stands again further back.
                if self.ends.get(&hash) == Some(&seq) {
                    self.ends.remove(&hash);
                    self.floor = self.floor.max(seq);
                }
            }
        }
    }

    /// Up to where a channel that does not exist is gone.
    pub(super) fn end(&self, hash: u64) -> u64 {
        // One that stands here is known exactly, also where it is below the floor.
        self.ends.get(&hash).copied().unwrap_or(self.floor)
    }

    /// Of a channel of which nothing is said otherwise, all up to there is gone.
    pub(super) fn raise_floor(&mut self, seq: u64) {
        self.floor = self.floor.max(seq);
    }

    /// Remembers the end of a channel that may be below the floor.
    pub(super) fn restore(&mut self, hash: u64, seq: u64) {
        if self.ends.len() < CAPACITY {
            self.ends.insert(hash, seq);
            self.order.push_back((hash, seq));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_fall_to_the_floor_when_there_are_too_many() {
        let mut forgotten = Forgotten::default();
        assert_eq!(forgotten.end(1), 0);
        forgotten.remember(1, 10);
        assert_eq!((forgotten.end(1), forgotten.end(2)), (10, 0));
        forgotten.remember(1, 5);
        assert_eq!(forgotten.end(1), 10);
        for hash in 0..CAPACITY as u64 {
            forgotten.remember(hash + 100, hash + 11);
        }
        assert!(forgotten.end(2) >= 10, "what was dropped raises the floor for all");
        assert!(forgotten.ends.len() <= CAPACITY);
    }

    #[test]
    fn a_channel_that_comes_and_goes_pushes_nobody_out() {
        let mut forgotten = Forgotten::default();
        forgotten.remember(1, 10);
        for _ in 0..2 * CAPACITY {
            forgotten.remember(2, 20);
        }
        assert_eq!((forgotten.end(1), forgotten.end(2), forgotten.end(3)), (10, 20, 0));
    }
}
