//! Numbers that are given before their messages are applied.

use super::State;
use crate::hub::keys::Key;

impl State {
    /// The last number that was given.
    pub(in crate::hub) fn newest_given(&self) -> u64 {
        self.ahead.max(self.seq)
    }

    /// Like [`Self::find_key`], but does not count a duplicate.
    pub(in crate::hub) fn known(&mut self, channel: &str, key: Key<'_>, now: u64) -> Option<u64> {
        self.keys.find(channel, key, now)
    }

    /// Gives a message the next number. Its key counts from now on.
    pub(in crate::hub) fn take_ahead(&mut self, channel: &str, key: Option<Key<'_>>, now: u64) -> u64 {
        self.ahead = self.newest_given() + 1;
        if let Some(key) = key {
            self.keys.remember(channel, key, self.ahead, now);
        }
        self.ahead
    }
}
