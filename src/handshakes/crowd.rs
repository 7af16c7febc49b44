//! The clients whose handshakes are under way, by address.

use crate::limits::AddressKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// See the module. Clients are named by their tokens.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// The clients of each address, the oldest first.
    clients: BTreeMap<AddressKey, VecDeque<u64>>,
    by_count: BTreeSet<(usize, AddressKey)>,
}

impl Crowd {
    pub(super) fn enter(&mut self, address: AddressKey, token: u64) {
        let clients = self.clients.entry(address).or_default();
        self.by_count.remove(&(clients.len(), address));
        clients.push_back(token);
        self.by_count.insert((clients.len(), address));
    }

    pub(super) fn leave(&mut self, address: AddressKey, token: u64) {
        let Some(clients) = self.clients.get_mut(&address) else { return };
        self.by_count.remove(&(clients.len(), address));
        clients.retain(|client| *client != token);
        if clients.is_empty() {
            self.clients.remove(&address);
        } else {
            self.by_count.insert((clients.len(), address));
        }
    }

    /// The oldest client of an address that has at least this many.
    pub(super) fn oldest_of(&self, address: AddressKey, at_least: usize) -> Option<u64> {
        let clients = self.clients.get(&address)?;
        clients.front().filter(|_| clients.len() >= at_least).copied()
    }

    /// The oldest client of the address with the most, if an address has several.
    pub(super) fn oldest_of_most(&self) -> Option<u64> {
        let (count, address) = self.by_count.last()?;
        self.oldest_of(*address, 1).filter(|_| *count > 1)
    }

    pub(super) fn clear(&mut self) {
        self.clients.clear();
        self.by_count.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_address_with_the_most_gives_way() {
        let of = |text: &str| AddressKey::of(text.parse().unwrap());
        let (many, few) = (of("192.0.2.1"), of("2001:db8::1"));
        let mut crowd = Crowd::default();
        crowd.enter(few, 1);
        assert_eq!(crowd.oldest_of_most(), None, "each has one");
        (2..10).for_each(|token| crowd.enter(many, token));
        crowd.enter(few, 10);
        assert_eq!(crowd.oldest_of_most(), Some(2));
        assert_eq!(
            (crowd.oldest_of(many, 8), crowd.oldest_of(many, 9), crowd.oldest_of(few, 1)),
            (Some(2), None, Some(1))
        );
        crowd.leave(many, 2);
        crowd.leave(many, 4);
        crowd.leave(many, 99);
        assert_eq!(
            (crowd.oldest_of_most(), crowd.oldest_of(many, 6), crowd.oldest_of(many, 7)),
            (Some(3), Some(3), None)
        );
        (2..10).for_each(|token| crowd.leave(many, token));
        assert_eq!(crowd.oldest_of_most(), Some(1));
        [1, 10].into_iter().for_each(|token| crowd.leave(few, token));
        assert!(crowd.clients.is_empty() && crowd.by_count.is_empty());
    }
}
