//! The acts of hubs that have come.

use super::super::contract::EntryId;
use std::collections::HashMap;

/// The number of hubs of which the last act is remembered.
const HUBS: usize = 1 << 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Acts {
    /// The last act of each hub, by its counter. If the log loses acts and gets them again, they are not done again.
    done: HashMap<u64, u64>,
    /// How many were passed over because only a later version knows them, and the kind of the last one.
    unknown: (u64, u8),
}

impl Acts {
    /// False if the act came before, and the log has lost it meanwhile.
    pub(super) fn is_new(&self, id: EntryId) -> bool {
        self.done.get(&id.hub).is_none_or(|counter| *counter < id.counter)
    }

    pub(super) fn note(&mut self, id: EntryId) {
        if self.done.len() >= HUBS && !self.done.contains_key(&id.hub) {
            self.done.clear();
        }
        let counter = self.done.entry(id.hub).or_insert(0);
        *counter = id.counter.max(*counter);
    }

    pub(super) fn note_unknown(&mut self, kind: u8) {
        self.unknown = (self.unknown.0 + 1, kind);
    }

    pub(super) fn unknown(&self) -> (u64, u8) {
        self.unknown
    }
}
