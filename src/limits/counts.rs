//! How many there are of each key.

use foldhash::quality::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts with a lock of their own, so that shards seldom meet at one.
const PARTS: usize = 16;

/// Counts by key, for all threads. A key is there as long as it counts something.
#[derive(Debug)]
pub(crate) struct Counts<K> {
    parts: [Mutex<HashMap<K, u32, RandomState>>; PARTS],
    /// Seeded by chance: keys come from strangers, who should not choose which of them collide.
    hasher: RandomState,
}

impl<K: Hash + Eq> Default for Counts<K> {
    fn default() -> Self {
        Counts { parts: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::default() }
    }
}

impl<K: Hash + Eq + Clone> Counts<K> {
    /// Counts one more, unless there are `max` already; says how many there are then.
    pub(crate) fn enter(&self, key: &K, max: usize) -> Option<usize> {
        let mut part = self.part(key);
        if let Some(count) = part.get_mut(key) {
            if *count as usize >= max {
                return None;
            }
            *count += 1;
            return Some(*count as usize);
        }
        if max == 0 {
            return None;
        }
        part.insert(key.clone(), 1);
        Some(1)
    }

    /// Counts one less.
    pub(crate) fn leave(&self, key: &K) {
        let mut part = self.part(key);
        let Some(count) = part.get_mut(key) else { return };
        *count -= 1;
        if *count == 0 {
            part.remove(key);
            // A crowd that left must not keep its room for ever.
            if part.capacity() > 1024 && part.len() * 8 < part.capacity() {
                let room = part.len() * 2;
                part.shrink_to(room);
            }
        }
    }

    fn part(&self, key: &K) -> MutexGuard<'_, HashMap<K, u32, RandomState>> {
        let part = self.hasher.hash_one(key) as usize % PARTS;
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_while_it_counts() {
        let counts = Counts::<&str>::default();
        assert_eq!(
            (counts.enter(&"ann", 2), counts.enter(&"ann", 2), counts.enter(&"ann", 2)),
            (Some(1), Some(2), None)
        );
        assert_eq!((counts.enter(&"bob", 2), counts.enter(&"eve", 0)), (Some(1), None));
        counts.leave(&"ann");
        assert_eq!(counts.enter(&"ann", 2), Some(2));
        for name in ["ann", "ann", "bob", "nobody"] {
            counts.leave(&name);
        }
        assert!(counts.parts.iter().all(|part| part.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_crowd_that_left_leaves_its_room() {
        let counts = Counts::<u32>::default();
        assert!((0..100_000).all(|n| counts.enter(&n, 1) == Some(1)));
        (0..100_000).for_each(|n| counts.leave(&n));
        assert!(counts.parts.iter().all(|part| part.lock().unwrap().capacity() <= 1024));
    }
}
