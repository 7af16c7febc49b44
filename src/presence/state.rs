//! Who is there: members, their connections, and those who have gone a moment ago.

use super::changes::Before;
use super::places::{cost, Channel, Place};
#[cfg(test)]
use super::planted;
use super::{Bounds, Figures, Visit};
use foldhash::quality::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many members leave in one go, under one lock.
const AT_ONCE: usize = 512;
/// How long a channel is remembered that has no members and no followers. A client that polls is no follower between
/// two polls, and its version must still say something then.
const LINGER_MS: u64 = 60_000;
/// The most channels that are remembered so.
const MAX_IDLE: usize = if cfg!(test) { 3 } else { 10_000 };

/// See the module.
pub(super) struct State {
    pub(super) bounds: Bounds,
    /// Clients choose the names, so the hash is seeded.
    pub(super) channels: HashMap<Arc<str>, Channel, RandomState>,
    /// Members whose last connection has gone, in that order, by the serial number that their place has.
    left: BTreeMap<u64, Left>,
    /// Channels without members and followers, in the order in which they became so.
    idle: BTreeMap<u64, (u64, Arc<str>)>,
    /// The last serial number.
    serial: u64,
    /// The latest time that anybody has passed in.
    now: u64,
    counts: Counts,
    pub(super) versions: Versions,
    /// By shard: the channels that it must look at.
    pub(super) news: Vec<Vec<Arc<str>>>,
    /// One bit for each shard that must be woken.
    pub(super) woken: u64,
}

/// A member whose last connection has gone.
#[derive(Debug)]
struct Left {
    at: u64,
    channel: Arc<str>,
    user: Arc<str>,
}

#[derive(Debug, Default)]
struct Counts {
    members: usize,
    bytes: usize,
    /// Of the bytes those of members that have left. They give way.
    in_grace: usize,
    refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Versions {
    /// That of the latest change of any channel.
    pub(super) now: u64,
    /// No channel that was forgotten has a greater one.
    pub(super) forgotten: u64,
    /// That of the moment at which other channels got presence.
    pub(super) switched: u64,
}

impl State {
    pub(super) fn new(bounds: Bounds, shards: usize) -> Self {
        State {
            bounds,
            channels: HashMap::default(),
            left: BTreeMap::new(),
            idle: BTreeMap::new(),
            serial: 0,
            now: 0,
            counts: Counts::default(),
            versions: Versions::default(),
            news: vec![Vec::new(); shards],
            woken: 0,
        }
    }

    /// The clocks of the shards differ by the length of their turns.
    pub(super) fn note_time(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    pub(super) fn enter(&mut self, visit: Visit<'_>) -> Option<Arc<str>> {
        let Visit { channel, user, info } = visit;
        let known = self.channels.get_key_value(channel);
        match known.filter(|(_, state)| state.places.contains_key(user)).map(|(name, _)| name.clone()) {
            Some(name) => {
                self.enter_again(&name, user, info);
                Some(name)
            }
            None => self.enter_first(visit),
        }
    }

    fn enter_first(&mut self, Visit { channel, user, info }: Visit<'_>) -> Option<Arc<str>> {
        let cost = cost(channel, user, info);
        if !self.make_room(cost) {
            self.counts.refused += 1;
            return None;
        }
        let name = self.awake(channel);
        let place = Place { connections: 1, left: None, info: info.map(Arc::from) };
        self.channels.get_mut(&name)?.places.insert(user.clone(), place);
        self.counts.members += 1;
        self.counts.bytes += cost;
        self.changed(&name, user, None);
        Some(name)
    }

    /// A member has one more connection, or has come back.
    fn enter_again(&mut self, name: &Arc<str>, user: &Arc<str>, info: Option<&str>) {
        let Some(place) = self.channels.get_mut(name).and_then(|channel| channel.places.get_mut(user)) else { return };
        place.connections += 1;
        let before = place.info.clone();
        if let Some(serial) = place.left.take() {
            self.left.remove(&serial);
            self.counts.in_grace -= cost(name, user, before.as_deref());
        }
        #[cfg(test)]
        if planted::is(planted::Mistake::TabIsJoin) {
            self.changed(name, user, None);
        }
        if before.as_deref() == info {
            return;
        }
        let length = |info: Option<&str>| info.map_or(0, str::len);
        let more = length(info).saturating_sub(length(before.as_deref()));
        // Without room nothing is told of it, rather than what is no longer true.
        let info = match more == 0 || self.make_room(more) {
            true => info,
            false => {
                self.counts.refused += 1;
                None
            }
        };
        if before.as_deref() == info {
            return;
        }
        self.counts.bytes = self.counts.bytes + length(info) - length(before.as_deref());
        if let Some(place) = self.channels.get_mut(name).and_then(|channel| channel.places.get_mut(user)) {
            place.info = info.map(Arc::from);
        }
        self.changed(name, user, Some(before));
    }

    pub(super) fn leave(&mut self, channel: &str, user: &str) -> Option<u64> {
        let (now, grace_ms) = (self.now, self.bounds.grace_ms);
        let name = self.channels.get_key_value(channel)?.0.clone();
        let places = &mut self.channels.get_mut(channel)?.places;
        let user = places.get_key_value(user)?.0.clone();
        let place = places.get_mut(&user)?;
        if place.connections != 1 {
            place.connections = place.connections.saturating_sub(1);
            return None;
        }
        place.connections = 0;
        #[cfg(test)]
        let grace_ms = if planted::is(planted::Mistake::NoGrace) { 0 } else { grace_ms };
        if grace_ms == 0 {
            self.remove(&name, &user);
            return None;
        }
        self.serial += 1;
        place.left = Some(self.serial);
        self.counts.in_grace += cost(&name, &user, place.info.as_deref());
        self.left.insert(self.serial, Left { at: now, channel: name, user });
        Some(now + grace_ms)
    }

    pub(super) fn expire(&mut self) -> Option<u64> {
        for _ in 0..AT_ONCE {
            if self.next_end().is_none_or(|at| at > self.now) || !self.end_oldest() {
                break;
            }
        }
        for _ in 0..AT_ONCE {
            let oldest = self.idle.first_key_value().map(|(_, (since, _))| since + LINGER_MS);
            if oldest.is_none_or(|at| at > self.now) {
                break;
            }
            self.forget_oldest();
        }
        self.next_end()
    }

    /// When the next member leaves: at once, if there is no room for those who have left.
    fn next_end(&self) -> Option<u64> {
        let (_, oldest) = self.left.first_key_value()?;
        let is_over = self.counts.bytes > self.bounds.total;
        Some(if is_over { self.now } else { oldest.at + self.bounds.grace_ms })
    }

    pub(super) fn reconfigure(&mut self, bounds: Bounds, switched: bool) {
        let before = std::mem::replace(&mut self.bounds, bounds);
        if switched {
            self.switch();
        }
        let is_other = |channel: &Channel| {
            let members = channel.places.len();
            (members > before.detail) != (members > bounds.detail)
        };
        let others = self.channels.iter().filter(|(_, channel)| is_other(channel)).map(|(name, _)| name.clone());
        for name in others.collect::<Vec<_>>() {
            self.versions.now += 1;
            if let Some(channel) = self.channels.get_mut(&name) {
                channel.version = self.versions.now;
                channel.log.restart(channel.version);
            }
            self.promise(&name);
        }
    }

    /// Other channels have presence, so no version of before says what a client knows.
    pub(super) fn switch(&mut self) {
        self.versions.now += 1;
        self.versions.switched = self.versions.now;
    }

    pub(super) fn figures(&self) -> Figures {
        let Counts { members, bytes, refused, .. } = self.counts;
        Figures { members: members as u64, bytes: bytes as u64, refused }
    }

    /// Makes room for so many bytes, if that is possible: those who have left longest ago leave at once.
    fn make_room(&mut self, bytes: usize) -> bool {
        if self.counts.bytes - self.counts.in_grace + bytes > self.bounds.total {
            return false;
        }
        while self.counts.bytes + bytes > self.bounds.total {
            if !self.end_oldest() {
                return false;
            }
        }
        true
    }

    /// The member who has left longest ago leaves at once.
    fn end_oldest(&mut self) -> bool {
        let Some((_, Left { channel, user, .. })) = self.left.pop_first() else { return false };
        self.remove(&channel, &user);
        true
    }

    /// Takes a member out.
    fn remove(&mut self, name: &Arc<str>, user: &Arc<str>) {
        let Some(place) = self.channels.get_mut(name).and_then(|channel| channel.places.remove(user)) else { return };
        let cost = cost(name, user, place.info.as_deref());
        self.counts.bytes -= cost;
        if let Some(serial) = place.left {
            self.left.remove(&serial);
            self.counts.in_grace -= cost;
        }
        #[cfg(test)]
        if planted::is(planted::Mistake::EvictedCounts) && place.left.is_some() {
            self.counts.members += 1;
        }
        self.counts.members -= 1;
        self.changed(name, user, Some(place.info));
        self.rest_if_idle(name);
    }

    /// Something has changed with a member, of whom this was known before.
    fn changed(&mut self, name: &Arc<str>, user: &Arc<str>, before: Before) {
        self.versions.now += 1;
        let version = self.versions.now;
        if let Some(channel) = self.channels.get_mut(name) {
            channel.note(version, user, before, self.bounds.detail);
        }
        self.promise(name);
    }

    /// A channel that is about to have a member or a follower.
    pub(super) fn awake(&mut self, channel: &str) -> Arc<str> {
        let forgotten = self.versions.forgotten;
        let name = match self.channels.get_key_value(channel) {
            Some((name, _)) => name.clone(),
            None => Arc::from(channel),
        };
        let state = self.channels.entry(name.clone()).or_insert_with(|| Channel::new(forgotten));
        if let Some(serial) = state.idle.take() {
            self.idle.remove(&serial);
        }
        name
    }

    /// A channel that has no members and no followers is forgotten after a while.
    pub(super) fn rest_if_idle(&mut self, name: &Arc<str>) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if !channel.places.is_empty() || channel.followed != 0 || channel.idle.is_some() {
            return;
        }
        self.serial += 1;
        channel.idle = Some(self.serial);
        channel.log.restart(channel.version);
        self.idle.insert(self.serial, (self.now, name.clone()));
        if self.idle.len() > MAX_IDLE {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, (_, name))) = self.idle.pop_first() else { return };
        if let Some(channel) = self.channels.remove(&name) {
            self.versions.forgotten = self.versions.forgotten.max(channel.version);
        }
        // A crowd of channels must not keep its room for ever.
        if self.channels.capacity() > 1024 && self.channels.len() * 8 < self.channels.capacity() {
            self.channels.shrink_to(self.channels.len() * 2);
        }
    }

    /// Asserts that all counts agree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let (mut members, mut bytes, mut in_grace, mut left, mut idle) = (0, 0, 0, 0, 0);
        for (name, channel) in &self.channels {
            for (user, place) in &channel.places {
                let cost = cost(name, user, place.info.as_deref());
                members += 1;
                bytes += cost;
                assert_eq!(place.connections == 0, place.left.is_some(), "{user} on {name}");
                if let Some(serial) = place.left {
                    assert!(self.left.get(&serial).is_some_and(|left| left.user == *user && left.channel == *name));
                    in_grace += cost;
                    left += 1;
                }
            }
            assert!(channel.version <= self.versions.now && channel.promised & !channel.followed == 0, "{name}");
            let rests = channel.places.is_empty() && channel.followed == 0;
            assert_eq!(rests, channel.idle.is_some(), "{name}");
            idle += usize::from(rests);
        }
        let counts = (self.counts.members, self.counts.bytes, self.counts.in_grace);
        assert_eq!(counts, (members, bytes, in_grace));
        assert_eq!((self.left.len(), self.idle.len()), (left, idle));
        assert!(idle <= MAX_IDLE && self.versions.forgotten <= self.versions.now);
    }
}
