//! Rate limits, by the generic cell rate algorithm (ITU-T I.371, annex A). This is a token bucket with a single time as
//! its state: the time at which the bucket would be full again.

use foldhash::quality::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const SECOND_US: u64 = 1_000_000;
const PARTS: usize = 16;
/// A part with at least this many keys is searched for keys that can be forgotten.
const SWEEP: usize = 1024;
/// The most keys that a part remembers; all parts take some two megabytes. Further keys are not limited one by one:
/// only the limit for all of them together applies.
const MAX_KEYS: usize = 4096;
/// The milliseconds between two such searches of a part that stays full.
const REST_MS: u64 = 100;

/// The time at which a bucket is full again, in microseconds. 0: it is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket(u64);

impl Bucket {
    /// Counts one event at a rate per second, even if it exceeds the rate. Returns how far ahead of the rate the events
    /// are, in milliseconds. The events of a full second may come at once; that is not ahead.
    pub(crate) fn count(&mut self, rate: u64, now_ms: u64) -> u64 {
        self.spend(SECOND_US / rate.max(1), now_ms)
    }

    /// The same for an event that uses up a part of each second, in microseconds.
    pub(crate) fn spend(&mut self, us: u64, now_ms: u64) -> u64 {
        self.0 = self.0.max(now_ms * 1000) + us;
        self.ahead_ms(now_ms)
    }

    /// How far ahead of the rate the events are, in milliseconds.
    pub(crate) fn ahead_ms(self, now_ms: u64) -> u64 {
        self.0.saturating_sub(now_ms * 1000 + SECOND_US).div_ceil(1000)
    }

    /// Counts one event at a rate per second, unless it would exceed the rate. Returns whether it was counted.
    fn take(&mut self, rate: u64, now_ms: u64) -> bool {
        let mut next = *self;
        let cost = SECOND_US / rate.max(1);
        next.0 = next.0.max(now_ms * 1000) + cost;
        let fits = next.0 <= now_ms * 1000 + SECOND_US.max(cost);
        if fits {
            *self = next;
        }
        fits
    }

    /// Whether the bucket is full again, so that it can be forgotten.
    pub(crate) fn is_over(self, now_ms: u64) -> bool {
        self.0 <= now_ms * 1000
    }
}

/// One bucket that all threads share.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    /// Counts one event at a rate per second, unless it would exceed the rate. Returns whether it was counted.
    pub(crate) fn take(&self, rate: u64, now_ms: u64) -> bool {
        let next = |full_at| {
            let mut bucket = Bucket(full_at);
            bucket.take(rate, now_ms).then_some(bucket.0)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// A bucket for each key. All threads share them.
#[derive(Debug)]
pub(crate) struct Rates<K> {
    parts: [Mutex<Part<K>>; PARTS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Part<K> {
    buckets: HashMap<K, Bucket, RandomState>,
    sweep_at: usize,
    rests_until: u64,
}

impl<K: Hash + Eq> Default for Rates<K> {
    fn default() -> Self {
        let part = || Mutex::new(Part { buckets: HashMap::default(), sweep_at: SWEEP, rests_until: 0 });
        Rates { parts: std::array::from_fn(|_| part()), hasher: RandomState::default() }
    }
}

impl<K: Hash + Eq> Rates<K> {
    /// Counts one event of a key at a rate per second, unless it would exceed the rate. Returns whether it is allowed.
    pub(crate) fn take(&self, key: K, rate: u64, now_ms: u64) -> bool {
        let part = self.hasher.hash_one(&key) as usize % PARTS;
        let mut part = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        if part.buckets.len() >= part.sweep_at && now_ms >= part.rests_until {
            part.buckets.retain(|_, bucket| !bucket.is_over(now_ms));
            part.sweep_at = (2 * part.buckets.len()).clamp(SWEEP, MAX_KEYS);
            // A part that stays full is not searched again for each new key.
            part.rests_until = now_ms + if part.buckets.len() > MAX_KEYS / 2 { REST_MS } else { 0 };
        }
        if part.buckets.len() >= MAX_KEYS && !part.buckets.contains_key(&key) {
            return true;
        }
        part.buckets.entry(key).or_default().take(rate, now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_second_may_come_at_once_and_later_ones_at_the_rate() {
        let meter = Meter::default();
        assert!((0..10).all(|_| meter.take(10, 5000)) && !meter.take(10, 5000));
        assert!(!meter.take(10, 5099) && meter.take(10, 5100) && !meter.take(10, 5100));
        assert!((0..10).all(|_| meter.take(10, 9000)) && !meter.take(10, 9000), "a pause does not raise the burst");
        let mut bucket = Bucket::default();
        let ahead: Vec<u64> = (0..4).map(|_| bucket.count(2, 5000)).collect();
        assert_eq!(ahead, [0, 0, 500, 1000]);
        assert_eq!(bucket.spend(100_000, 5000), 1100);
        assert!(!bucket.is_over(7099) && bucket.is_over(7100));
    }

    #[test]
    fn each_key_has_its_own_rate_and_memory_is_bounded() {
        let rates = Rates::<u64>::default();
        assert!(rates.take(1, 1, 1000) && !rates.take(1, 1, 1000) && rates.take(2, 1, 1000) && rates.take(1, 1, 2000));
        for key in 0..1_000_000 {
            rates.take(key, 1, 3000);
        }
        let held =
            |rates: &Rates<u64>| rates.parts.iter().map(|part| part.lock().unwrap().buckets.len()).sum::<usize>();
        assert!(held(&rates) <= PARTS * MAX_KEYS);
        for key in 0..100_000 {
            rates.take(key, 1, 10_000 + key * 100);
        }
        assert!(held(&rates) <= PARTS * SWEEP, "keys that make no difference are forgotten");
    }
}
