//! Idempotency keys: a publish that is sent again within a window is answered with the first one's position.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How many keys of hosts, and how many of clients, are remembered at once; beyond it the oldest go early.
const CAPACITY: usize = 100_000;

/// An idempotency key, and whose it is. Each has its own: a client that knows or guesses another's can't have that one's
/// message taken for a duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// A host's, or the control API's.
    Host(&'a str),
    /// A client's: its user, or an empty text, and the key.
    Client(&'a str, &'a str),
}

/// Keys seen. Those of clients are apart, so that they, who may send as many as they like, use up none of the hosts'.
#[derive(Debug)]
pub(super) struct Keys {
    hosts: Seen,
    clients: Seen,
    window_ms: u64,
}

/// Keys with the message that each stands for.
#[derive(Debug, Default)]
struct Seen {
    seqs: HashMap<Arc<str>, u64>,
    order: VecDeque<(u64, Arc<str>)>,
}

impl Keys {
    pub(super) fn new(window_ms: u64) -> Self {
        Keys { hosts: Seen::default(), clients: Seen::default(), window_ms }
    }

    /// Remembers keys for longer or shorter.
    pub(super) fn set_window(&mut self, window_ms: u64) {
        self.window_ms = window_ms;
    }

    /// The message that the key stands for in that channel.
    pub(super) fn find(&mut self, channel: &str, key: Key<'_>, now: u64) -> Option<u64> {
        self.expire(now);
        self.of(key).seqs.get(joined(channel, key).as_str()).copied()
    }

    pub(super) fn remember(&mut self, channel: &str, key: Key<'_>, seq: u64, now: u64) {
        if self.window_ms == 0 {
            return;
        }
        let joined: Arc<str> = joined(channel, key).into();
        let seen = self.of(key);
        seen.order.push_back((now, joined.clone()));
        seen.seqs.insert(joined, seq);
    }

    /// Drops keys that are too old or too many.
    pub(super) fn expire(&mut self, now: u64) {
        self.hosts.expire(self.window_ms, now);
        self.clients.expire(self.window_ms, now);
    }

    fn of(&mut self, key: Key<'_>) -> &mut Seen {
        match key {
            Key::Host(_) => &mut self.hosts,
            Key::Client(..) => &mut self.clients,
        }
    }
}

impl Seen {
    fn expire(&mut self, window_ms: u64, now: u64) {
        while let Some((since, key)) = self.order.front() {
            if now.saturating_sub(*since) < window_ms && self.order.len() <= CAPACITY {
                break;
            }
            self.seqs.remove(key);
            self.order.pop_front();
        }
    }
}

/// None of them may contain a NUL, so this is one text for each of what it is made of.
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
}
