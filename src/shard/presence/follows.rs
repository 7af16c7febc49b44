//! Who follows which channels, what each of them knows, and when each channel is looked at next.
//!
//! Each channel has one look that is promised, however much changes, and keeps its pace, whoever comes and goes. A
//! channel that nobody follows any more is remembered for a second, so that to follow it again and again does not change
//! its pace.

use bytes::Bytes;
use foldhash::quality::RandomState;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The least time between two looks at a channel. Tests have no time.
pub(super) const PACE_MS: u64 = if cfg!(test) { 2 } else { 200 };
/// The least time between two numbers that a follower is told. A channel that nobody follows is remembered for so long.
pub(super) const NUMBERS_MS: u64 = if cfg!(test) { 8 } else { 1000 };

/// What a follower knows of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shard) enum Known {
    Nothing,
    /// The channel has no presence.
    Off,
    /// Only the number of members.
    Number(usize),
    /// The list of this version.
    List(u64),
    /// It polls, and knows everything up to this version. `None`: it is answered in any case.
    Poll(Option<u64>),
}

/// A connection, and what it knows.
pub(super) type Follower = (u32, Known);

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Follows {
    /// Clients choose the names, so the hash is seeded.
    channels: HashMap<Arc<str>, Followed, RandomState>,
    /// The channels that a connection follows.
    of: FxHashMap<u32, Vec<Arc<str>>>,
    /// The looks that are promised, at most one for each channel.
    looks: BTreeSet<(u64, Arc<str>)>,
    /// What polls of this turn share: what is shown of a channel in this version. They are dropped at that time at the
    /// latest.
    pub(super) shown: HashMap<Arc<str>, (u64, Bytes), RandomState>,
    pub(super) shown_until: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Followed {
    followers: BTreeMap<u32, Known>,
    looked_at: Option<u64>,
    look_at: Option<u64>,
    /// When numbers were told last.
    pub(super) numbers_at: Option<u64>,
    /// True if only a number was to be told at the last look.
    pub(super) is_numbered: bool,
}

impl Followed {
    /// The earliest time of the next look.
    fn next_at(&self, now: u64) -> u64 {
        self.looked_at.map_or(now, |at| now.max(at + PACE_MS))
    }

    /// Whether numbers may be told.
    pub(super) fn numbers_are_due(&self, now: u64) -> bool {
        self.numbers_at.is_none_or(|at| at + NUMBERS_MS <= now)
    }
}

impl Follows {
    /// Whether a channel is followed, or was a moment ago.
    #[cfg(test)]
    pub(super) fn has_channel(&self, channel: &str) -> bool {
        self.channels.contains_key(channel)
    }

    pub(super) fn channel_mut(&mut self, channel: &str) -> Option<&mut Followed> {
        self.channels.get_mut(channel)
    }

    /// A connection follows a channel. `name` is called if nobody has done so. A poll is looked at when there is news: it
    /// knows the rest.
    pub(super) fn add(&mut self, index: u32, channel: &str, known: Known, now: u64, name: impl FnOnce() -> Arc<str>) {
        let name = match self.channels.get_key_value(channel) {
            Some((name, _)) => name.clone(),
            None => name(),
        };
        let followed = self.channels.entry(name.clone()).or_default();
        if followed.followers.insert(index, known).is_none() {
            self.of.entry(index).or_default().push(name.clone());
        }
        let at = followed.next_at(now);
        if !matches!(known, Known::Poll(_)) {
            self.promise(&name, at);
        }
    }

    /// A connection follows a channel no more.
    pub(super) fn remove(&mut self, index: u32, channel: &str, now: u64) {
        let Some(followed) = self.channels.get_mut(channel) else { return };
        if followed.followers.remove(&index).is_none() {
            return;
        }
        if let Some(theirs) = self.of.get_mut(&index) {
            theirs.retain(|name| **name != *channel);
            if theirs.is_empty() {
                self.of.remove(&index);
            }
        }
        self.rest(channel, now);
    }

    /// A connection follows nothing any more.
    pub(super) fn remove_all(&mut self, index: u32, now: u64) {
        for channel in self.of.remove(&index).unwrap_or_default() {
            if let Some(followed) = self.channels.get_mut(&channel) {
                followed.followers.remove(&index);
            }
            self.rest(&channel, now);
        }
        // A crowd that left must not keep its room for ever.
        if self.of.capacity() > 1024 && self.of.len() * 8 < self.of.capacity() {
            self.of.shrink_to(self.of.len() * 2);
        }
    }

    /// A channel that nobody follows any more is looked at once more, and forgotten then.
    fn rest(&mut self, channel: &str, now: u64) {
        let Some((name, followed)) = self.channels.get_key_value(channel) else { return };
        if followed.followers.is_empty() {
            let name = name.clone();
            self.promise(&name, now + NUMBERS_MS);
        }
    }

    /// There is news of a channel.
    pub(super) fn note_news(&mut self, channel: &Arc<str>, now: u64) {
        let Some(followed) = self.channels.get(channel) else { return };
        let next = followed.next_at(now);
        let at = match followed.numbers_at.filter(|_| followed.is_numbered) {
            Some(told) => next.max(told + NUMBERS_MS),
            None => next,
        };
        self.promise(channel, at);
    }

    /// A channel is looked at then, or earlier if that was promised.
    pub(super) fn promise(&mut self, channel: &Arc<str>, at: u64) {
        let Some(followed) = self.channels.get_mut(channel) else { return };
        if followed.look_at.is_some_and(|promised| promised <= at) {
            return;
        }
        if let Some(later) = followed.look_at.replace(at) {
            self.looks.remove(&(later, channel.clone()));
        }
        self.looks.insert((at, channel.clone()));
    }

    /// A channel that is to be looked at now, with its followers. One that has none is forgotten.
    pub(super) fn next_look(&mut self, now: u64) -> Option<(Arc<str>, Vec<Follower>)> {
        let due = self.looks.first().is_some_and(|(at, _)| *at <= now);
        let (_, channel) = due.then(|| self.looks.pop_first()).flatten()?;
        let Some(followed) = self.channels.get_mut(&channel) else { return Some((channel, Vec::new())) };
        followed.look_at = None;
        followed.looked_at = Some(now);
        let followers: Vec<(u32, Known)> = followed.followers.iter().map(|(index, known)| (*index, *known)).collect();
        if followers.is_empty() {
            self.channels.remove(&channel);
            if self.channels.capacity() > 1024 && self.channels.len() * 8 < self.channels.capacity() {
                self.channels.shrink_to(self.channels.len() * 2);
            }
        }
        Some((channel, followers))
    }

    /// Notes what a follower knows now.
    pub(super) fn set(&mut self, index: u32, channel: &str, known: Known) {
        let followed = self.channels.get_mut(channel);
        if let Some(place) = followed.and_then(|followed| followed.followers.get_mut(&index)) {
            *place = known;
        }
    }

    /// Whether a connection follows a channel.
    pub(super) fn has(&self, index: u32, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|followed| followed.followers.contains_key(&index))
    }

    /// The channels that a connection follows.
    pub(super) fn of(&self, index: u32) -> Vec<Arc<str>> {
        self.of.get(&index).cloned().unwrap_or_default()
    }

    /// What a poll knows of all its channels. `None` inside: nothing.
    pub(super) fn known_to_poll(&self, index: u32) -> Option<Option<u64>> {
        let theirs = self.of.get(&index)?.iter().filter_map(|name| self.channels.get(name)?.followers.get(&index));
        let versions = theirs.filter_map(|known| match known {
            Known::Poll(version) => Some(*version),
            _ => None,
        });
        // `None` is the least.
        versions.min()
    }

    /// All channels that are followed.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.channels.keys().cloned().collect()
    }

    /// All followers of a channel must be told anew.
    pub(super) fn forget_known(&mut self, channel: &Arc<str>, now: u64) {
        let Some(followed) = self.channels.get_mut(channel) else { return };
        for known in followed.followers.values_mut() {
            *known = match known {
                Known::Poll(_) => Known::Poll(None),
                _ => Known::Nothing,
            };
        }
        let at = followed.next_at(now);
        self.promise(channel, at);
    }

    /// When something is to be done next.
    pub(super) fn due_at(&self) -> Option<u64> {
        [self.looks.first().map(|(at, _)| *at), self.shown_until].into_iter().flatten().min()
    }

    #[cfg(test)]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.channels.values().all(|followed| followed.followers.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(follows: &mut Follows, index: u32, now: u64) -> bool {
        let mut is_first = false;
        follows.add(index, "room", Known::Nothing, now, || {
            is_first = true;
            "room".into()
        });
        is_first
    }

    #[test]
    fn a_channel_keeps_its_pace_whoever_follows_it_again_and_again() {
        let mut follows = Follows::default();
        assert!(add(&mut follows, 1, 1000));
        assert_eq!(follows.next_look(1000).unwrap().1, [(1, Known::Nothing)]);
        for _ in 0..10 {
            follows.remove_all(1, 1000);
            assert!(!add(&mut follows, 1, 1000));
        }
        let next = 1000 + PACE_MS;
        assert_eq!((follows.due_at(), follows.next_look(next - 1)), (Some(next), None));
        assert_eq!(follows.next_look(next).unwrap().1.len(), 1);
        follows.remove(1, "room", next);
        let last = next + NUMBERS_MS;
        assert_eq!(follows.due_at(), Some(last));
        assert!(follows.next_look(last).unwrap().1.is_empty() && !follows.has_channel("room"));
        assert_eq!((follows.due_at(), follows.next_look(9999)), (None, None));
    }

    #[test]
    fn one_look_is_promised_however_much_changes() {
        let (mut follows, room) = (Follows::default(), Arc::from("room"));
        add(&mut follows, 1, 0);
        follows.next_look(0);
        for now in 0..10 {
            follows.note_news(&room, now);
        }
        assert_eq!((follows.looks.len(), follows.due_at()), (1, Some(PACE_MS)));
        follows.promise(&room, 1);
        assert_eq!((follows.looks.len(), follows.due_at()), (1, Some(1)));
        follows.channel_mut("room").unwrap().is_numbered = true;
        follows.channel_mut("room").unwrap().numbers_at = Some(1);
        follows.next_look(1);
        follows.note_news(&room, 1);
        assert_eq!(follows.due_at(), Some(1 + NUMBERS_MS));
        // Who comes new does not wait for that.
        add(&mut follows, 2, 1);
        assert_eq!(follows.due_at(), Some(1 + PACE_MS));
    }

    #[test]
    fn a_poll_is_told_what_the_least_of_its_channels_needs() {
        let mut follows = Follows::default();
        for (channel, version) in [("a", 7), ("b", 5)] {
            follows.add(1, channel, Known::Poll(Some(version)), 0, || channel.into());
        }
        assert_eq!((follows.known_to_poll(1), follows.due_at()), (Some(Some(5)), None));
        follows.forget_known(&"a".into(), 0);
        assert_eq!((follows.known_to_poll(1), follows.known_to_poll(2)), (Some(None), None));
        follows.remove_all(1, 0);
        assert!(follows.is_empty());
    }
}
