//! Finds channels by their names.

use super::Channel;
use crate::hub::ChannelId;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use std::hash::BuildHasher;

/// The numbers of the channels, by the hash of their names. The names themselves are in the channels only, so each
/// method gets the channels. Clients choose names, so the hash is seeded.
pub(super) struct Names {
    table: HashTable<ChannelId>,
    hasher: RandomState,
}

impl Names {
    pub(super) fn new(hasher: RandomState) -> Self {
        Names { table: HashTable::new(), hasher }
    }

    pub(super) fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    pub(super) fn find(&self, name: &str, hash: u64, channels: &Slab<Channel>) -> Option<ChannelId> {
        self.table.find(hash, |id| &*channels[*id as usize].name == name).copied()
    }

    /// Adds a channel that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, id: ChannelId, channels: &Slab<Channel>) {
        let Names { table, hasher } = self;
        table.insert_unique(hash, id, |id| hasher.hash_one(&*channels[*id as usize].name));
    }

    /// Removes a channel, which is no longer among the others.
    pub(super) fn remove(&mut self, hash: u64, id: ChannelId, channels: &Slab<Channel>) {
        let Names { table, hasher } = self;
        if let Ok(entry) = table.find_entry(hash, |known| *known == id) {
            entry.remove();
        }
        // A burst of channels must not keep its memory for ever.
        if table.capacity() > 1024 && table.len() * 8 < table.capacity() {
            table.shrink_to(table.len() * 2, |id| hasher.hash_one(&*channels[*id as usize].name));
        }
    }
}
