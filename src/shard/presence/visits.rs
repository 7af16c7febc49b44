//! The channels that connections of users have entered. They are noted here and not found by the connection's
//! subscriptions: the options and the grant may be others by the time it leaves. Connections on channels without presence
//! have no entry.

use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// How long those for whom there was no room wait before they are tried again.
const AGAIN_MS: u64 = if cfg!(test) { 4 } else { 500 };
/// How many connections are tried again in one turn.
const AT_ONCE: usize = if cfg!(test) { 8 } else { 256 };

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Visits {
    of: FxHashMap<u32, Visitor>,
    /// Connections with a channel for which there was no room.
    refused: BTreeSet<u32>,
    /// When these are tried again, and after which of them it goes on.
    again: Option<(u64, Option<u32>)>,
    /// When a member leaves whose last connection was here.
    pub(super) ends_at: Option<u64>,
    /// When the last of these leaves. Later ones are the matter of other shards.
    pub(super) ends_until: u64,
}

/// The channels that a connection has entered, all as one user.
#[derive(Debug)]
pub(in crate::shard) struct Visitor {
    pub(super) user: Arc<str>,
    /// Sorted by the names of the channels.
    pub(super) places: Vec<Place>,
}

/// A channel that a connection has entered.
#[derive(Debug, Clone)]
pub(in crate::shard) struct Place {
    pub(super) channel: Arc<str>,
    /// False: there was no room.
    pub(super) is_member: bool,
}

impl Visits {
    pub(super) fn of(&self, index: u32) -> Option<&Visitor> {
        self.of.get(&index)
    }

    /// Whether a connection has entered a channel.
    pub(super) fn has(&self, index: u32, channel: &str) -> bool {
        self.of.get(&index).is_some_and(|visitor| visitor.find(channel).is_ok())
    }

    /// Notes that a connection has entered a channel, or that there was no room. If it had entered it before, there is
    /// room now, or none.
    pub(super) fn note(&mut self, index: u32, user: &Arc<str>, place: Place, now: u64) {
        if !place.is_member {
            self.refused.insert(index);
            self.again.get_or_insert((now + AGAIN_MS, None));
        }
        let visitor = self.of.entry(index).or_insert_with(|| Visitor { user: user.clone(), places: Vec::new() });
        match visitor.find(&place.channel) {
            Ok(at) => visitor.places[at] = place,
            Err(at) => {
                // Mostly there is one.
                visitor.places.reserve_exact(usize::from(visitor.places.is_empty()));
                visitor.places.insert(at, place);
            }
        }
    }

    /// Takes out that a connection has entered a channel.
    pub(super) fn take(&mut self, index: u32, channel: &str) -> Option<(Arc<str>, Place)> {
        let visitor = self.of.get_mut(&index)?;
        let at = visitor.find(channel).ok()?;
        let (user, place) = (visitor.user.clone(), visitor.places.remove(at));
        if visitor.places.is_empty() {
            self.take_all(index);
        }
        Some((user, place))
    }

    /// Takes out all that a connection has entered.
    pub(super) fn take_all(&mut self, index: u32) -> Option<Visitor> {
        let visitor = self.of.remove(&index)?;
        self.refused.remove(&index);
        // A crowd that left must not keep its room for ever.
        if self.of.capacity() > 1024 && self.of.len() * 8 < self.of.capacity() {
            self.of.shrink_to(self.of.len() * 2);
        }
        Some(visitor)
    }

    /// Notes when a member leaves whose last connection was here.
    pub(super) fn await_end(&mut self, at: Option<u64>) {
        if let Some(at) = at {
            self.ends_at = Some(self.ends_at.map_or(at, |earlier| earlier.min(at)));
            self.ends_until = self.ends_until.max(at);
        }
    }

    /// Some of the connections with channels for which there was no room, if it is time to try them again.
    pub(super) fn next_again(&mut self, now: u64) -> Vec<u32> {
        let Some((_, after)) = self.again.filter(|(at, _)| *at <= now) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<u32> = self.refused.range((from, Bound::Unbounded)).take(AT_ONCE).copied().collect();
        self.again = match next.last() {
            Some(last) if next.len() == AT_ONCE => Some((now, Some(*last))),
            _ if self.refused.is_empty() => None,
            _ => Some((now + AGAIN_MS, None)),
        };
        next
    }

    /// Notes whether a connection still has a channel for which there is no room.
    pub(super) fn settle(&mut self, index: u32) {
        if !self.refused.contains(&index) {
            return;
        }
        let waits = |visitor: &Visitor| visitor.places.iter().any(|place| !place.is_member);
        if !self.of.get(&index).is_some_and(waits) {
            self.refused.remove(&index);
        }
    }

    /// When something is to be done next.
    pub(super) fn due_at(&self) -> Option<u64> {
        [self.ends_at, self.again.map(|(at, _)| at)].into_iter().flatten().min()
    }

    #[cfg(test)]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.refused.is_empty()
    }
}

impl Visitor {
    fn find(&self, channel: &str) -> Result<usize, usize> {
        self.places.binary_search_by(|place| (*place.channel).cmp(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(channel: &str, is_member: bool) -> Place {
        Place { channel: channel.into(), is_member }
    }

    #[test]
    fn what_was_entered_is_left_once() {
        let (mut visits, user) = (Visits::default(), Arc::from("ada"));
        for name in ["c", "a", "b", "a"] {
            visits.note(7, &user, place(name, true), 0);
        }
        assert!(visits.has(7, "a") && !visits.has(7, "d") && !visits.has(8, "a"));
        let names = |visits: &Visits| visits.of(7).map_or(0, |visitor| visitor.places.len());
        assert_eq!(names(&visits), 3);
        assert_eq!(&*visits.take(7, "b").unwrap().1.channel, "b");
        assert!(visits.take(7, "b").is_none());
        assert_eq!(visits.take_all(7).unwrap().places.len(), 2);
        assert!(visits.take_all(7).is_none() && visits.is_empty());
    }

    #[test]
    fn those_without_room_are_tried_again_all_of_them_some_in_each_turn() {
        let (mut visits, user) = (Visits::default(), Arc::from("ada"));
        let all = 2 * AT_ONCE as u32 + 10;
        (0..all).for_each(|index| visits.note(index, &user, place("a", false), 100));
        assert_eq!((visits.next_again(100 + AGAIN_MS - 1).len(), visits.due_at()), (0, Some(100 + AGAIN_MS)));
        let now = 100 + AGAIN_MS;
        let mut tried = Vec::new();
        while visits.due_at() <= Some(now) {
            let some = visits.next_again(now);
            assert!(some.len() <= AT_ONCE);
            tried.extend(some);
        }
        assert_eq!(tried, (0..all).collect::<Vec<_>>());
        for index in 0..all {
            visits.note(index, &user, place("a", true), now);
            visits.settle(index);
        }
        assert!(visits.next_again(now + AGAIN_MS).is_empty());
        assert_eq!(visits.due_at(), None);
    }
}
