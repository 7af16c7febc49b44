//! The ids that clients have given themselves (`client=`), so that a message finds those that it leaves out. Most
//! connections have none, and cost nothing here. There is one for a connection at most.

use crate::hub::ClientId;
use foldhash::quality::RandomState;
use rustc_hash::FxHashMap;
use std::collections::HashMap;

/// Beyond this room, a table that is mostly empty gives some of it back.
const KEPT: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct ClientIds {
    /// The id of a connection, by its slot.
    of: FxHashMap<u32, ClientId>,
    /// How many connections have an id. A tab that was duplicated may have that of another. Clients choose the ids, so
    /// the hash is seeded.
    count: HashMap<ClientId, u32, RandomState>,
}

impl ClientIds {
    /// The id of a connection.
    pub(in crate::shard) fn of(&self, index: u32) -> Option<ClientId> {
        self.of.get(&index).copied()
    }

    /// Whether a connection here has this id.
    pub(in crate::shard) fn has(&self, id: ClientId) -> bool {
        self.count.contains_key(&id)
    }

    /// Notes the id that a connection has by its request, or that it has none.
    pub(in crate::shard) fn set(&mut self, index: u32, id: Option<ClientId>) {
        if self.of(index) == id {
            return;
        }
        self.forget(index);
        if let Some(id) = id {
            self.of.insert(index, id);
            *self.count.entry(id).or_insert(0) += 1;
        }
    }

    /// The id of a connection. One that has none gets one that nobody else has. `None`: the system has no random bits.
    pub(in crate::shard) fn own(&mut self, index: u32) -> Option<ClientId> {
        if let Some(id) = self.of(index) {
            return Some(id);
        }
        let id = ClientId::random()?;
        self.set(index, Some(id));
        Some(id)
    }

    /// A connection is not subscribed any more.
    pub(in crate::shard) fn forget(&mut self, index: u32) {
        let Some(id) = self.of.remove(&index) else { return };
        match self.count.get_mut(&id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.count.remove(&id)),
        }
        // A crowd that left must not keep its room for ever.
        if self.of.capacity() > KEPT && self.of.len() * 8 < self.of.capacity() {
            self.of.shrink_to(self.of.len() * 2);
            self.count.shrink_to(self.count.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::random::Random;
    use std::collections::BTreeMap;

    #[test]
    fn an_id_is_there_while_a_connection_has_it() {
        let id = |n: usize| ClientId::from_bytes([n as u8; 16]);
        let (mut random, mut ids, mut model) = (Random(7), ClientIds::default(), BTreeMap::new());
        for _ in 0..20_000 {
            let (index, n) = (random.below(20) as u32, random.below(8));
            match random.below(4) {
                0 => ids.forget(index),
                1 => ids.set(index, None),
                _ => ids.set(index, Some(id(n))),
            }
            model.remove(&index);
            model.extend(ids.of(index).map(|_| (index, n)));
            for n in 0..8 {
                assert_eq!(ids.has(id(n)), model.values().any(|its| *its == n));
            }
            assert!((0..20).all(|index| ids.of(index) == model.get(&index).map(|n| id(*n))));
        }
        (0..20).for_each(|index| ids.forget(index));
        assert!(ids.of.is_empty() && ids.count.is_empty());
    }

    #[test]
    fn a_connection_without_an_id_gets_its_own_and_keeps_it() {
        let mut ids = ClientIds::default();
        let own = ids.own(7).unwrap();
        assert_eq!((ids.own(7), ids.of(7), ids.has(own)), (Some(own), Some(own), true));
        assert_ne!(ids.own(8), Some(own));
        let chosen = ClientId::from_bytes([1; 16]);
        ids.set(9, Some(chosen));
        assert_eq!(ids.own(9), Some(chosen));
    }

    #[test]
    fn a_crowd_that_left_takes_its_room_along() {
        let mut ids = ClientIds::default();
        (0..100_000).for_each(|index| ids.set(index, Some(ClientId::from_bytes(u128::from(index).to_le_bytes()))));
        (0..100_000).for_each(|index| ids.forget(index));
        assert!(ids.of.capacity() <= 2 * KEPT && ids.count.capacity() <= 2 * KEPT);
    }
}
