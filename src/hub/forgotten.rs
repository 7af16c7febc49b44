//! Remembers where the histories of dropped channels ended.
//!
//! A channel without subscribers and history is dropped. A subscriber that comes back to it with an older position must
//! be told of the gap, and one that missed nothing must not be. So the end of each dropped history is kept, in 32
//! bytes, for a bounded number of channels. When an entry is pushed out, its end raises a common floor for all other
//! channels.

use std::collections::{HashMap, VecDeque};

/// The number of channels that are remembered one by one.
const CAPACITY: usize = 65_536;

/// The ends of dropped histories, by the hash of the channel's name. Two names with the same hash share the later end.
/// So a gap may be announced too often, but never too rarely.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    ends: HashMap<u64, u64, rustc_hash::FxBuildHasher>,
    order: VecDeque<(u64, u64)>,
    floor: u64,
}

impl Forgotten {
    /// Remembers that a channel's messages up to `seq` are gone.
    pub(super) fn remember(&mut self, hash: u64, seq: u64) {
        if seq <= self.floor {
            return;
        }
        let end = self.ends.entry(hash).or_insert(0);
        // A channel that came back and went without new messages is in the order already. A second entry would push
        // others out.
        if seq <= *end {
            return;
        }
        *end = seq;
        self.order.push_back((hash, seq));
        while self.order.len() > CAPACITY {
            if let Some((hash, seq)) = self.order.pop_front() {
                // An entry that was renewed has another place further back.
                if self.ends.get(&hash) == Some(&seq) {
                    self.ends.remove(&hash);
                    self.floor = self.floor.max(seq);
                }
            }
        }
    }

    /// The end of a channel that does not exist.
    pub(super) fn end(&self, hash: u64) -> u64 {
        // The end of a remembered channel is exact, even if it is below the floor.
        self.ends.get(&hash).copied().unwrap_or(self.floor)
    }

    /// Raises the floor: all messages up to `seq` are gone, in every channel that is not remembered.
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
