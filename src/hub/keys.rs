//! Idempotency keys. If a publish is sent again within a window, its answer is the position of the first one.

use super::retention::age;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How many keys of hosts, and how many of clients, are remembered. Beyond it, the oldest are dropped early.
const CAPACITY: usize = 100_000;
/// How many of the oldest keys each lookup may drop. It is more than one key, so that old keys never pile up, and few.
const FEW: usize = 4;

/// An idempotency key, and its owner. Each owner has its own keys. So a client that knows or guesses another's key
/// can't make that one's message count as a duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// A key of a host or of the control API.
    Host(&'a str),
    /// A key of a client: its user (or an empty text), and the key.
    Client(&'a str, &'a str),
}

/// The remembered keys. Clients may send as many keys as they like, so theirs are separate and can't push out the
/// hosts'.
#[derive(Debug)]
pub(super) struct Keys {
    hosts: Seen,
    clients: Seen,
    window_ms: u64,
    /// The number of publications with a key that was published before.
    duplicates: u64,
}

/// Keys with the message that each stands for.
#[derive(Debug, Default)]
struct Seen {
    /// Each key has its message's number and the time.
    seqs: HashMap<Arc<str>, (u64, u64)>,
    order: VecDeque<(u64, Arc<str>)>,
}

impl Keys {
    pub(super) fn new(window_ms: u64) -> Self {
        Keys { hosts: Seen::default(), clients: Seen::default(), window_ms, duplicates: 0 }
    }

    /// Changes how long keys are remembered.
    pub(super) fn set_window(&mut self, window_ms: u64) {
        self.window_ms = window_ms;
    }

    /// The number of the message that was published with this key in this channel.
    pub(super) fn find(&mut self, channel: &str, key: Key<'_>, now: u64) -> Option<u64> {
        let window_ms = self.window_ms;
        let seen = self.of(key);
        seen.expire(window_ms, now, FEW);
        let (seq, since) = *seen.seqs.get(joined(channel, key).as_str())?;
        counts(since, window_ms, now).then_some(seq)
    }

    /// The same. This publication is then counted as a duplicate.
    pub(super) fn find_duplicate(&mut self, channel: &str, key: Key<'_>, now: u64) -> Option<u64> {
        let seq = self.find(channel, key, now)?;
        self.duplicates += 1;
        Some(seq)
    }

    /// How many duplicates were counted.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    pub(super) fn remember(&mut self, channel: &str, key: Key<'_>, seq: u64, now: u64) {
        if self.window_ms == 0 {
            return;
        }
        let joined: Arc<str> = joined(channel, key).into();
        let seen = self.of(key);
        seen.order.push_back((now, joined.clone()));
        seen.seqs.insert(joined, (seq, now));
    }

    /// Drops keys that are too old or too many, at most `most` of each kind. True if there may be more.
    pub(super) fn expire(&mut self, now: u64, most: usize) -> bool {
        let hosts = self.hosts.expire(self.window_ms, now, most);
        self.clients.expire(self.window_ms, now, most) || hosts
    }

    /// Forgets all keys. The count of duplicates stays.
    pub(super) fn forget(&mut self) {
        (self.hosts, self.clients) = Default::default();
    }

    fn of(&mut self, key: Key<'_>) -> &mut Seen {
        match key {
            Key::Host(_) => &mut self.hosts,
            Key::Client(..) => &mut self.clients,
        }
    }
}

impl Seen {
    fn expire(&mut self, window_ms: u64, now: u64, most: usize) -> bool {
        for _ in 0..most {
            let Some((since, key)) = self.order.front() else { return false };
            if counts(*since, window_ms, now) && self.order.len() <= CAPACITY {
                return false;
            }
            // A key that expired and was used again has another entry further back.
            if self.seqs.get(key).is_some_and(|(_, latest)| latest == since) {
                self.seqs.remove(key);
            }
            self.order.pop_front();
        }
        true
    }
}

fn counts(since: u64, window_ms: u64, now: u64) -> bool {
    age(since, now) < window_ms
}

/// None of the parts may contain a NUL, so different parts never give the same text.
fn joined(channel: &str, key: Key<'_>) -> String {
    match key {
        Key::Host(key) => format!("{channel}\0{key}"),
        Key::Client(user, key) => format!("{channel}\0{user}\0{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_remembered_as_the_documents_say() {
        let mut keys = Keys::new(1000);
        for n in 0..=100_000 {
            keys.remember("a", Key::Host(&n.to_string()), n, 0);
        }
        let mut find = |key, now| keys.find("a", Key::Host(key), now);
        assert_eq!((find("0", 999), find("1", 999)), (None, Some(1)));
        assert_eq!((find("100000", 999), find("100000", 1000)), (Some(100_000), None), "the window's edge");
    }

    #[test]
    fn clients_can_neither_use_up_nor_guess_keys_of_others() {
        let mut keys = Keys::new(1000);
        keys.remember("a", Key::Host("order-1"), 1, 0);
        for n in 0..=100_000 {
            keys.remember("a", Key::Client("eve", &format!("order-{n}")), n + 2, 0);
        }
        assert_eq!(keys.find("a", Key::Host("order-1"), 0), Some(1));
        assert_eq!(keys.find("a", Key::Host("order-2"), 0), None);
        assert_eq!(keys.find("a", Key::Client("eve", "order-2"), 0), Some(4));
        assert_eq!(keys.find("a", Key::Client("ann", "order-2"), 0), None);
        assert_eq!(keys.find("a", Key::Client("", "order-2"), 0), None);
    }

    #[test]
    fn those_too_old_go_little_by_little_and_count_no_more() {
        let mut keys = Keys::new(1000);
        for n in 0..100 {
            keys.remember("a", Key::Host(&n.to_string()), n, 0);
        }
        assert_eq!(keys.find("a", Key::Host("99"), 1000), None);
        assert_eq!(keys.hosts.order.len(), 100 - FEW);
        keys.remember("a", Key::Host("99"), 200, 1000);
        while keys.expire(1000, 7) {}
        assert_eq!((keys.hosts.order.len(), keys.hosts.seqs.len()), (1, 1), "it came again");
        assert_eq!(keys.find("a", Key::Host("99"), 1999), Some(200));
        assert_eq!(keys.find("a", Key::Host("99"), 2000), None);
        assert_eq!((keys.hosts.order.len(), keys.hosts.seqs.len()), (0, 0));
    }
}
