//! Subscribers by pattern. A message goes to those of its channel and to those of each pattern that fits it, and a
//! connection that is several of these gets it once. All of them get their messages merged ([`super::merging`]).

use crate::hub::{is_id_of_pattern, pattern_fits, ChannelId, Delivery, Replay};
use crate::shard::connection::conn::{Conn, Sub, Subs};
use crate::shard::delivery::channels::{Channels, Local};
use std::sync::Arc;

impl Channels {
    /// The patterns of this shard that fit a message's channel.
    pub(in crate::shard) fn fitting<'c>(&'c self, delivery: &'c Delivery) -> impl Iterator<Item = &'c Local> + 'c {
        let name = delivery.message.channel().filter(|_| !self.patterns.is_empty());
        let ids = name.into_iter().flat_map(move |name| self.patterns.fitting(name));
        ids.filter_map(move |id| self.get(id))
    }

    /// How many patterns a connection has.
    pub(in crate::shard) fn patterns_of(&self, conn: &Conn) -> usize {
        self.ids(conn).filter(|id| is_id_of_pattern(*id)).count()
    }

    /// The number of a pattern that this shard has subscribers of.
    pub(in crate::shard) fn id_of_pattern(&self, pattern: &str) -> Option<ChannelId> {
        self.patterns.get(pattern)
    }

    /// The channels that a connection has by their names and that a pattern fits.
    pub(in crate::shard) fn names_fitted(&self, conn: &Conn, pattern: &str) -> Vec<Arc<str>> {
        let named = self.ids(conn).filter(|id| !is_id_of_pattern(*id)).filter_map(|id| self.get(id));
        named.map(|local| &local.name).filter(|name| pattern_fits(pattern, name)).cloned().collect()
    }

    /// The patterns of a connection, and the number after which each has brought everything of the channels that it fits,
    /// but for those that the connection has by name.
    pub(in crate::shard) fn patterns_read(&self, conn: &Conn, index: u32) -> Vec<(Arc<str>, u64)> {
        let Subs::Many(subs) = &conn.subs else { return Vec::new() };
        let read = |sub: &Sub| {
            let after = self.read_from.get(&(index, sub.channel)).copied().unwrap_or(sub.joined);
            self.get(sub.channel).map(|local| (local.name.clone(), after))
        };
        subs.iter().filter(|sub| is_id_of_pattern(sub.channel)).filter_map(read).collect()
    }

    /// Notes what the new patterns of a connection have brought it.
    pub(in crate::shard) fn note_read(&mut self, index: u32, made: &[(ChannelId, Arc<str>)], replay: &Replay) {
        for (id, name) in made.iter().filter(|(id, _)| is_id_of_pattern(*id)) {
            let after = replay.read_from.after(name);
            // Mostly it is what the subscription itself says.
            match after < replay.position {
                true => self.read_from.insert((index, *id), after),
                false => self.read_from.remove(&(index, *id)),
            };
        }
    }

    /// A connection has a channel by name no longer. Its patterns that fit it may have begun without it: they count from
    /// where they were joined.
    pub(in crate::shard) fn forget_read(&mut self, conn: &Conn, index: u32, channel: &str) {
        for id in self.ids(conn).filter(|id| is_id_of_pattern(*id)) {
            if self.get(id).is_some_and(|local| pattern_fits(&local.name, channel)) {
                self.read_from.remove(&(index, id));
            }
        }
    }
}
