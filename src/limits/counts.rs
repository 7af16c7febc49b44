//! Counts by key.

use foldhash::quality::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of parts. Each has a lock of its own, so that shards seldom wait for each other.
const PARTS: usize = 16;

/// Counts by key, for all threads. A key whose count is 0 takes no memory.
#[derive(Debug)]
pub(crate) struct Counts<K> {
    parts: [Mutex<HashMap<K, u32, RandomState>>; PARTS],
    /// Seeded at random: keys come from strangers, and they must not be able to choose keys that collide.
    hasher: RandomState,
}

impl<K: Hash + Eq> Default for Counts<K> {
    fn default() -> Self {
        Counts { parts: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::default() }
    }
}

impl<K: Hash + Eq + Clone> Counts<K> {
    /// Adds one to a key's count, and returns the new count. `None`: the count is `max` already, and stays.
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

    /// Takes one from a key's count.
    pub(crate) fn leave(&self, key: &K) {
        let mut part = self.part(key);
        let Some(count) = part.get_mut(key) else { return };
        *count -= 1;
        if *count == 0 {
            part.remove(key);
            // The memory of many keys is freed when most of them have gone.
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
    fn a_key_is_kept_only_while_its_count_is_positive() {
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
    fn the_memory_of_many_keys_is_freed_when_they_have_gone() {
        let counts = Counts::<u32>::default();
        assert!((0..100_000).all(|n| counts.enter(&n, 1) == Some(1)));
        (0..100_000).for_each(|n| counts.leave(&n));
        assert!(counts.parts.iter().all(|part| part.lock().unwrap().capacity() <= 1024));
    }
}
