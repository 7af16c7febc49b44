//! The channels of a shard, and the connections that are subscribed to each.
//!
//! A channel has two lists. Those of its subscribers that have no other channel get all of it, so the channel's
//! messages of a turn are put together once for them; those with several channels get theirs merged.

use crate::hub::{is_id_of_pattern, ChannelId, Delivery, Ended, Leave, Mark, Prefixes};
use crate::shard::connection::conn::{Conn, Sub, Subs};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::sync::Arc;

/// The subscribers of one channel on this shard, or of one pattern. Those of a pattern are all in `multi`.
#[derive(Debug)]
pub(in crate::shard) struct Local {
    pub(in crate::shard) name: Arc<str>,
    /// Slots of connections with this channel only.
    pub(in crate::shard) solo: Vec<u32>,
    /// Slots of other connections, with the place of the subscription in theirs.
    pub(in crate::shard) multi: Vec<(u32, u32)>,
    /// No subscriber joined after this number: later messages are everybody's, without looking.
    pub(in crate::shard) settled: u64,
    /// Messages of this turn, as places in the batch.
    pub(in crate::shard) run: Vec<u32>,
    /// The number of the end of its stream, if nothing came after it. The hub may keep the end no longer.
    pub(in crate::shard) ended: Option<u64>,
}

/// All channels that a shard has subscribers of.
#[derive(Debug, Default)]
pub(in crate::shard) struct Channels {
    locals: FxHashMap<ChannelId, Local>,
    /// The patterns among them.
    pub(super) patterns: Prefixes,
    /// By connection and pattern: the number after which the connection has what the pattern fits, where that is before it
    /// joined. Only for those that may subscribe to more.
    pub(super) read_from: FxHashMap<(u32, ChannelId), u64>,
    /// Subscriptions that ended in this turn. At its end the hub is told of all, under one lock.
    left: FxHashMap<ChannelId, u32>,
    leaves: Vec<Leave>,
    /// How many of the channels have ended.
    ended: usize,
}

impl Channels {
    pub(in crate::shard) fn get(&self, channel: ChannelId) -> Option<&Local> {
        self.locals.get(&channel)
    }

    pub(in crate::shard) fn get_mut(&mut self, channel: ChannelId) -> Option<&mut Local> {
        self.locals.get_mut(&channel)
    }

    /// Lists a connection under the channels that the hub subscribed it to, from message `joined` on.
    pub(in crate::shard) fn join(
        &mut self,
        conns: &mut Slab<Conn>,
        index: u32,
        channels: &[(ChannelId, Arc<str>)],
        joined: u64,
    ) {
        let Some(conn) = conns.get_mut(index as usize) else { return };
        let only = channels.first().filter(|(channel, _)| channels.len() == 1 && !is_id_of_pattern(*channel));
        if let (Subs::None, Some((channel, name))) = (&conn.subs, only) {
            let local = self.local(*channel, name, joined);
            conn.subs = Subs::One { channel: *channel, slot: local.solo.len() as u32 };
            local.solo.push(index);
            return;
        }
        self.make_many(conns, index);
        let Some(Conn { subs: Subs::Many(subs), .. }) = conns.get_mut(index as usize) else { return };
        for (channel, name) in channels {
            let local = self.local(*channel, name, joined);
            let slot = local.multi.len() as u32;
            local.multi.push((index, subs.len() as u32));
            subs.push(Sub { channel: *channel, slot, joined });
        }
    }

    /// Takes a connection off all its channels.
    pub(in crate::shard) fn leave_all(&mut self, conns: &mut Slab<Conn>, index: u32) {
        let Some(conn) = conns.get_mut(index as usize) else { return };
        match std::mem::take(&mut conn.subs) {
            Subs::None => {}
            Subs::One { channel, slot } => self.leave_solo(conns, channel, slot),
            Subs::Many(subs) => {
                for sub in subs.iter() {
                    self.leave_multi(conns, sub.channel, sub.slot);
                }
            }
        }
    }

    /// Takes a connection off one channel; false when it was not on it.
    pub(in crate::shard) fn leave_one(&mut self, conns: &mut Slab<Conn>, index: u32, channel: ChannelId) -> bool {
        let Some(place) = conns.get(index as usize).and_then(|conn| self.place_of(conn, index, channel)) else {
            return false;
        };
        match &mut conns[index as usize].subs {
            Subs::None => {}
            Subs::One { slot, .. } => {
                let slot = *slot;
                conns[index as usize].subs = Subs::None;
                self.leave_solo(conns, channel, slot);
            }
            Subs::Many(subs) => {
                let sub = subs.swap_remove(place);
                // The subscription that took its place is listed under the old one.
                if let Some(moved) = subs.get(place) {
                    self.note_place(moved, place);
                }
                self.leave_multi(conns, sub.channel, sub.slot);
            }
        }
        true
    }

    /// Takes a connection off all channels that are lost to it, and says which these were. In one go: one by one would
    /// be a search for each.
    pub(in crate::shard) fn leave_lost(
        &mut self,
        conns: &mut Slab<Conn>,
        index: u32,
        lost: impl Fn(&str) -> bool,
    ) -> Vec<Arc<str>> {
        let mut left = Vec::new();
        let Some(conn) = conns.get_mut(index as usize) else { return left };
        let is_lost = |locals: &FxHashMap<ChannelId, Local>, channel: &ChannelId| {
            locals.get(channel).map(|local| &local.name).filter(|name| lost(name)).cloned()
        };
        match std::mem::take(&mut conn.subs) {
            Subs::None => {}
            Subs::One { channel, slot } => match is_lost(&self.locals, &channel) {
                Some(name) => {
                    left.push(name);
                    self.leave_solo(conns, channel, slot);
                }
                None => conn.subs = Subs::One { channel, slot },
            },
            Subs::Many(subs) => {
                let mut kept = Vec::new();
                for sub in *subs {
                    if let Some(name) = is_lost(&self.locals, &sub.channel) {
                        left.push(name);
                        self.leave_multi(conns, sub.channel, sub.slot);
                    } else {
                        self.note_place(&sub, kept.len());
                        kept.push(sub);
                    }
                }
                conns[index as usize].subs = Subs::Many(Box::new(kept));
            }
        }
        left
    }

    /// Where a subscription now stands among its connection's.
    fn note_place(&mut self, sub: &Sub, place: usize) {
        if let Some(local) = self.locals.get_mut(&sub.channel) {
            local.multi[sub.slot as usize].1 = place as u32;
        }
    }

    /// Gives up subscriptions that the hub has made and nobody will use.
    pub(in crate::shard) fn abandon(&mut self, channels: &[(ChannelId, Arc<str>)]) {
        for (channel, _) in channels {
            *self.left.entry(*channel).or_insert(0) += 1;
        }
    }

    /// Takes that back, before the hub was told.
    pub(in crate::shard) fn reclaim(&mut self, channels: &[(ChannelId, Arc<str>)]) {
        for (channel, _) in channels {
            match self.left.get_mut(channel) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.left.remove(channel)),
            }
        }
    }

    /// Whether a connection is on a channel.
    pub(in crate::shard) fn is_on(&self, conn: &Conn, index: u32, channel: ChannelId) -> bool {
        self.place_of(conn, index, channel).is_some()
    }

    /// Where a channel stands among a connection's. Of the two lists that tell, the shorter one is looked through:
    /// either may have thousands of entries.
    fn place_of(&self, conn: &Conn, index: u32, channel: ChannelId) -> Option<usize> {
        match &conn.subs {
            Subs::None => None,
            Subs::One { channel: only, .. } => (*only == channel).then_some(0),
            Subs::Many(subs) => {
                let multi = &self.locals.get(&channel)?.multi;
                if multi.len() < subs.len() {
                    multi.iter().find(|(other, _)| *other == index).map(|(_, place)| *place as usize)
                } else {
                    subs.iter().position(|sub| sub.channel == channel)
                }
            }
        }
    }

    /// The numbers of the channels that a connection is on.
    pub(in crate::shard) fn ids<'c>(&self, conn: &'c Conn) -> impl Iterator<Item = ChannelId> + 'c {
        let (only, several) = match &conn.subs {
            Subs::None => (None, None),
            Subs::One { channel, .. } => (Some(*channel), None),
            Subs::Many(subs) => (None, Some(subs.iter().map(|sub| sub.channel))),
        };
        only.into_iter().chain(several.into_iter().flatten())
    }

    /// The channels that a connection is on.
    pub(in crate::shard) fn names(&self, conn: &Conn) -> Vec<Arc<str>> {
        self.first_names(conn, usize::MAX)
    }

    /// Some of the channels that a connection is on, at most `max`.
    pub(in crate::shard) fn first_names(&self, conn: &Conn, max: usize) -> Vec<Arc<str>> {
        let name = |channel: ChannelId| self.locals.get(&channel).map(|local| local.name.clone());
        match &conn.subs {
            Subs::None => Vec::new(),
            Subs::One { channel, .. } => name(*channel).into_iter().collect(),
            Subs::Many(subs) => subs.iter().take(max).filter_map(|sub| name(sub.channel)).collect(),
        }
    }

    /// Notes the ends that a batch has, and what comes after an end. `has_ends`: there are ends in it.
    pub(in crate::shard) fn note_batch(&mut self, batch: &[Delivery], has_ends: bool) {
        if !has_ends && self.ended == 0 {
            return;
        }
        for delivery in batch {
            let is_end = delivery.message.mark() == Some(Mark::End);
            self.note_newest(delivery.channel, delivery.message.seq(), is_end);
        }
    }

    /// Notes ends that the hub knows. What follows them is still to be delivered.
    pub(in crate::shard) fn note_ends(&mut self, ends: &[Ended]) {
        ends.iter().for_each(|ended| self.note_newest(ended.channel, ended.seq, true));
    }

    fn note_newest(&mut self, channel: ChannelId, seq: u64, is_end: bool) {
        let Some(local) = self.locals.get_mut(&channel) else { return };
        if local.ended < Some(seq) {
            self.ended -= usize::from(local.ended.is_some());
            local.ended = is_end.then_some(seq);
            self.ended += usize::from(is_end);
        }
    }

    /// Whether all channels of a connection have ended, up to a number.
    pub(in crate::shard) fn all_ended(&self, conn: &Conn, until: u64) -> bool {
        let has_ended =
            |channel| self.locals.get(&channel).and_then(|local| local.ended).is_some_and(|end| end <= until);
        self.ended > 0 && conn.subs.len() > 0 && self.ids(conn).all(has_ended)
    }

    /// Adds the channels of a connection with their ends.
    pub(in crate::shard) fn add_ends(&self, conn: &Conn, ends: &mut Vec<(ChannelId, u64)>) {
        let end = |channel: ChannelId| Some((channel, self.locals.get(&channel)?.ended?));
        ends.extend(self.ids(conn).filter_map(end));
    }

    /// Forgets ends that something follows.
    pub(in crate::shard) fn forget_ends(&mut self, turned: &[(ChannelId, u64)]) {
        for (channel, _) in turned {
            if let Some(local) = self.locals.get_mut(channel) {
                self.ended -= usize::from(local.ended.take().is_some());
            }
        }
    }

    /// A log has lost what came after that number. Subscribers get everything after it.
    pub(in crate::shard) fn go_back_to(&mut self, number: u64) {
        for local in self.locals.values_mut() {
            local.settled = local.settled.min(number);
            if local.ended > Some(number) {
                local.ended = None;
                self.ended -= 1;
            }
        }
        self.read_from.values_mut().for_each(|after| *after = number.min(*after));
    }

    /// Forgets all channels. Subscriptions that ended before are counted, and the hub is told with the next leaves.
    pub(in crate::shard) fn forget_all(&mut self) {
        self.locals.clear();
        self.patterns = Prefixes::default();
        self.read_from = FxHashMap::default();
        self.ended = 0;
    }

    /// The subscriptions that ended since the last call, for the hub.
    pub(in crate::shard) fn take_leaves(&mut self) -> &[Leave] {
        self.leaves.clear();
        for (channel, count) in self.left.drain() {
            let last = self.locals.get(&channel).is_none_or(|local| local.solo.is_empty() && local.multi.is_empty());
            if let Some(local) = last.then(|| self.locals.remove(&channel)).flatten() {
                self.ended -= usize::from(local.ended.is_some());
                if is_id_of_pattern(channel) {
                    self.patterns.remove(&local.name);
                }
            }
            self.leaves.push(Leave { channel, count, last });
        }
        // A crowd that left must not keep its room for ever.
        if self.locals.capacity() > 1024 && self.locals.len() * 8 < self.locals.capacity() {
            self.locals.shrink_to(self.locals.len() * 2);
        }
        if self.read_from.capacity() > 1024 && self.read_from.len() * 8 < self.read_from.capacity() {
            self.read_from.shrink_to(self.read_from.len() * 2);
        }
        &self.leaves
    }

    fn local(&mut self, channel: ChannelId, name: &Arc<str>, joined: u64) -> &mut Local {
        if is_id_of_pattern(channel) {
            self.patterns.insert(name, channel);
        }
        let local = self.locals.entry(channel).or_insert_with(|| Local {
            name: name.clone(),
            solo: Vec::new(),
            multi: Vec::new(),
            settled: 0,
            run: Vec::new(),
            ended: None,
        });
        // The hub may have given the number to another channel since.
        if local.name != *name {
            local.name = name.clone();
            self.ended -= usize::from(local.ended.take().is_some());
        }
        local.settled = local.settled.max(joined);
        local
    }

    /// Moves a connection from the solo list of its one channel to the other.
    fn make_many(&mut self, conns: &mut Slab<Conn>, index: u32) {
        let Some(conn) = conns.get_mut(index as usize) else { return };
        let joined = conn.joined;
        match conn.subs {
            Subs::Many(_) => {}
            Subs::None => conn.subs = Subs::Many(Box::default()),
            Subs::One { channel, slot } => {
                self.unlist_solo(conns, channel, slot);
                let Some(local) = self.locals.get_mut(&channel) else { return };
                let sub = Sub { channel, slot: local.multi.len() as u32, joined };
                local.multi.push((index, 0));
                conns[index as usize].subs = Subs::Many(Box::new(vec![sub]));
            }
        }
    }

    fn leave_solo(&mut self, conns: &mut Slab<Conn>, channel: ChannelId, slot: u32) {
        *self.left.entry(channel).or_insert(0) += 1;
        self.unlist_solo(conns, channel, slot);
    }

    fn unlist_solo(&mut self, conns: &mut Slab<Conn>, channel: ChannelId, slot: u32) {
        let Some(local) = self.locals.get_mut(&channel) else { return };
        if slot as usize >= local.solo.len() {
            // A fan-out has borrowed the list and panicked.
            return;
        }
        local.solo.swap_remove(slot as usize);
        // The connection that moved there must know its new place.
        if let Some(moved) = local.solo.get(slot as usize) {
            if let Some(Conn { subs: Subs::One { slot: place, .. }, .. }) = conns.get_mut(*moved as usize) {
                *place = slot;
            }
        }
    }

    fn leave_multi(&mut self, conns: &mut Slab<Conn>, channel: ChannelId, slot: u32) {
        *self.left.entry(channel).or_insert(0) += 1;
        let Some(local) = self.locals.get_mut(&channel) else { return };
        let (index, _) = local.multi.swap_remove(slot as usize);
        if let Some((moved, place)) = local.multi.get(slot as usize) {
            if let Some(Conn { subs: Subs::Many(subs), .. }) = conns.get_mut(*moved as usize) {
                subs[*place as usize].slot = slot;
            }
        }
        if is_id_of_pattern(channel) {
            self.read_from.remove(&(index, channel));
        }
    }
}
