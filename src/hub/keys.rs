//! Idempotency keys: a publish that is sent again within a window is answered with the first one's position.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How many keys are remembered at once; beyond it the oldest go early.
const CAPACITY: usize = 100_000;

/// Keys seen, with the message that each stands for.
#[derive(Debug)]
pub(super) struct Keys {
    seen: HashMap<Arc<str>, u64>,
    order: VecDeque<(u64, Arc<str>)>,
    window_ms: u64,
}

impl Keys {
    pub(super) fn new(window_ms: u64) -> Self {
        Keys { seen: HashMap::new(), order: VecDeque::new(), window_ms }
    }

    /// Remembers keys for longer or shorter.
    pub(super) fn set_window(&mut self, window_ms: u64) {
        self.window_ms = window_ms;
    }

    /// The message that the key stands for in that channel.
    pub(super) fn find(&mut self, channel: &str, key: &str, now: u64) -> Option<u64> {
        self.expire(now);
        self.seen.get(joined(channel, key).as_str()).copied()
    }

    pub(super) fn remember(&mut self, channel: &str, key: &str, seq: u64, now: u64) {
        if self.window_ms == 0 {
            return;
        }
        let joined: Arc<str> = joined(channel, key).into();
        self.order.push_back((now, joined.clone()));
        self.seen.insert(joined, seq);
    }

    /// Drops keys that are too old or too many.
    pub(super) fn expire(&mut self, now: u64) {
        while let Some((since, key)) = self.order.front() {
            if now.saturating_sub(*since) < self.window_ms && self.order.len() <= CAPACITY {
                break;
            }
            self.seen.remove(key);
            self.order.pop_front();
        }
    }
}

/// Neither may contain a NUL, so this is one text for each pair.
fn joined(channel: &str, key: &str) -> String {
    format!("{channel}\0{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_remembered_as_the_documents_say() {
        let mut keys = Keys::new(1000);
        for n in 0..=100_000 {
            keys.remember("a", &n.to_string(), n, 0);
        }
        assert_eq!((keys.find("a", "0", 999), keys.find("a", "1", 999)), (None, Some(1)));
        assert_eq!(
            (keys.find("a", "100000", 999), keys.find("a", "100000", 1000)),
            (Some(100_000), None),
            "the window's edge"
        );
    }
}
