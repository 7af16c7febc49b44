//! Slows down clients that try keys. A right key is never held up, except by [`Guesses::refuses`] at the console's login.
//! That counts the wrong keys at the login only. Otherwise a publisher with an old key would lock the operators out.

use crate::limits::{AddressKey, Bucket};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many wrong keys of an address are answered in a second. The answers to further ones wait.
const RATE: u64 = 2;
/// The longest wait for an answer.
const LONGEST_MS: u64 = 5_000;
/// No address gets further ahead of the rate than this, so that it is free again soon after the last wrong key.
const FURTHEST_MS: u64 = 15_000;
/// The most addresses that are remembered. All further ones share one bucket.
const MAX_ADDRESSES: usize = 1024;

/// Where a key was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Tried {
    Api,
    /// The console's login.
    Login,
}

/// The wrong keys of each address. `None` in place of an address: the processes of this machine.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    of: HashMap<(Option<AddressKey>, Tried), Bucket>,
    others: Bucket,
}

impl Guesses {
    /// Counts a wrong key. Returns how long its answer has to wait.
    pub(super) fn wrong(&self, address: Option<AddressKey>, tried: Tried, now_ms: u64) -> Duration {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.bucket((address, tried), now_ms);
        let ahead = match bucket.ahead_ms(now_ms) {
            far if far >= FURTHEST_MS => far,
            _ => bucket.count(RATE, now_ms),
        };
        Duration::from_millis(ahead.min(LONGEST_MS))
    }

    /// Whether an address has tried so many wrong keys at the login that its next one is not even looked at. One that
    /// is not remembered is not refused: it may be another's fault.
    #[cfg(feature = "console")]
    pub(super) fn refuses(&self, address: Option<AddressKey>, now_ms: u64) -> bool {
        let buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.of.get(&(address, Tried::Login)).is_some_and(|bucket| bucket.ahead_ms(now_ms) > LONGEST_MS)
    }
}

impl Buckets {
    fn bucket(&mut self, key: (Option<AddressKey>, Tried), now_ms: u64) -> &mut Bucket {
        if !self.of.contains_key(&key) && self.of.len() >= MAX_ADDRESSES {
            self.of.retain(|_, bucket| !bucket.is_over(now_ms));
            if self.of.len() >= MAX_ADDRESSES {
                return &mut self.others;
            }
        }
        self.of.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Option<AddressKey> {
        Some(AddressKey::of(std::net::Ipv4Addr::from(number).into()))
    }

    #[test]
    fn wrong_keys_wait_longer_and_longer_and_other_addresses_do_not() {
        let guesses = Guesses::default();
        let wait = |number, now_ms| guesses.wrong(address(number), Tried::Api, now_ms).as_millis();
        assert_eq!((0..4).map(|_| wait(1, 1000)).collect::<Vec<_>>(), [0, 0, 500, 1000]);
        assert_eq!((wait(2, 1000), wait(1, 3000)), (0, 0), "others are not held up, and a pause ends it");
        assert!((0..1000).all(|_| wait(1, 3000) <= 5000));
        assert_eq!(wait(1, 3000), 5000);
        assert_eq!((wait(1, 40_000), guesses.0.lock().unwrap().of.len()), (0, 2), "it is free again soon");
    }

    #[cfg(feature = "console")]
    #[test]
    fn a_login_is_refused_only_after_many_wrong_keys() {
        let guesses = Guesses::default();
        assert!(!guesses.refuses(None, 1000));
        for _ in 0..40 {
            guesses.wrong(None, Tried::Api, 1000);
        }
        for _ in 0..12 {
            guesses.wrong(None, Tried::Login, 1000);
        }
        assert!(!guesses.refuses(None, 1000), "wrong keys at the API are counted apart");
        guesses.wrong(None, Tried::Login, 1000);
        assert!(guesses.refuses(None, 1000) && !guesses.refuses(address(1), 1000) && !guesses.refuses(None, 2000));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let guesses = Guesses::default();
        for number in 0..5000 {
            guesses.wrong(address(number), Tried::Login, 1000);
        }
        assert_eq!(guesses.0.lock().unwrap().of.len(), MAX_ADDRESSES);
        assert!(
            guesses.wrong(address(9999), Tried::Login, 1000) > Duration::from_secs(1),
            "those beyond it share one rate"
        );
        #[cfg(feature = "console")]
        assert!(!guesses.refuses(address(9999), 1000) && !guesses.refuses(None, 1000), "nor are they refused for it");
        guesses.wrong(address(9999), Tried::Login, 60_000);
        assert_eq!(guesses.0.lock().unwrap().of.len(), 1);
    }
}
