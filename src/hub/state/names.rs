//! Finds channels by their names.

use super::Channel;
use crate::hub::patterns::may_be_fitted;
use crate::hub::ChannelId;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::Arc;

/// The numbers of the channels, by the hash of their names. The names themselves are in the channels only, so each
/// method gets the channels. Clients choose names, so the hash is seeded.
pub(super) struct Names {
    table: HashTable<ChannelId>,
    hasher: RandomState,
    /// The same by name, without those that no pattern fits. So the channels that a pattern fits are found without a look
    /// at all channels. `None` while there may be no patterns: then nobody pays for it.
    in_order: Option<BTreeMap<Arc<str>, ChannelId>>,
}

impl Names {
    pub(super) fn new(hasher: RandomState, in_order: bool) -> Self {
        Names { table: HashTable::new(), hasher, in_order: in_order.then(BTreeMap::new) }
    }

    /// Keeps them in order from now on, or no longer.
    pub(super) fn keep_in_order(&mut self, in_order: bool, channels: &Slab<Channel>) {
        if in_order != self.in_order.is_some() {
            let fitted = channels.iter().filter(|(_, channel)| may_be_fitted(&channel.name));
            self.in_order =
                in_order.then(|| fitted.map(|(id, channel)| (channel.name.clone(), id as ChannelId)).collect());
        }
    }

    /// The channels whose names begin with a prefix, in order and after a name. `None`: they are not kept in order.
    pub(super) fn beginning_with<'n>(
        &'n self,
        prefix: &'n str,
        after: Option<&'n str>,
    ) -> Option<impl Iterator<Item = (&'n Arc<str>, ChannelId)> + 'n> {
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let names = self.in_order.as_ref()?.range::<str, _>((from, Bound::Unbounded));
        Some(names.map(|(name, id)| (name, *id)).take_while(move |(name, _)| name.starts_with(prefix)))
    }

    pub(super) fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    pub(super) fn find(&self, name: &str, hash: u64, channels: &Slab<Channel>) -> Option<ChannelId> {
        self.table.find(hash, |id| &*channels[*id as usize].name == name).copied()
    }

    /// Adds a channel that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, id: ChannelId, channels: &Slab<Channel>) {
        let Names { table, hasher, in_order } = self;
        table.insert_unique(hash, id, |id| hasher.hash_one(&*channels[*id as usize].name));
        let name = &channels[id as usize].name;
        if let Some(in_order) = in_order.as_mut().filter(|_| may_be_fitted(name)) {
            in_order.insert(name.clone(), id);
        }
    }

    /// Removes a channel, which is no longer among the others.
    pub(super) fn remove(&mut self, hash: u64, id: ChannelId, name: &str, channels: &Slab<Channel>) {
        let Names { table, hasher, in_order } = self;
        if let Some(in_order) = in_order {
            in_order.remove(name);
        }
        if let Ok(entry) = table.find_entry(hash, |known| *known == id) {
            entry.remove();
        }
        // A burst of channels must not keep its memory for ever.
        if table.capacity() > 1024 && table.len() * 8 < table.capacity() {
            table.shrink_to(table.len() * 2, |id| hasher.hash_one(&*channels[*id as usize].name));
        }
    }
}
