//! Does the same as [`super::reading`] for large requests, in short steps. Other threads get the lock between the
//! steps.
//!
//! The steps read up to one number, which is the newest one at the first step. If messages are dropped from a history
//! in between, they are announced as a gap, as if they had been dropped before. Then the shard joins the channels, some
//! at a time. The last step reads what has come since the first one. From there on, the mailbox has everything.

use super::{reading, State};
use crate::hub::message::Message;
use crate::hub::replay::{Has, Item, Replay, Request, Start};
use crate::hub::ChannelId;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

/// The number of channels that are looked up, and of messages that are taken, in one step. It is small for the hub's
/// model.
pub(in crate::hub) const AT_ONCE: usize = if cfg!(any(test, fuzzing)) { 3 } else { 512 };

/// The progress of a reader in steps.
#[derive(Debug)]
pub(in crate::hub) struct Reading {
    /// The reader reads up to this number.
    until: u64,
    after: u64,
    /// True if each channel is read from the first message of its stream.
    from_beginning: bool,
    foreign: bool,
    newest_first: bool,
    /// The number of messages of each channel, for a request for the newest ones.
    last: Option<usize>,
    limit: usize,
    /// True if the shard has joined the channels before. Then this is all that the subscriber is told of up to `until`.
    has_joined: bool,
    cursors: Vec<Cursor>,
    /// The next message of each channel: its rank, and the index of its cursor.
    order: BinaryHeap<(u64, usize)>,
    weight: usize,
    over: bool,
}

/// A channel that is being read. It may be dropped between two steps, and another channel may get its number.
#[derive(Debug)]
struct Cursor {
    channel: ChannelId,
    name: Arc<str>,
    /// The number after which it is read.
    after: u64,
    /// The number of messages that may still be taken from it.
    left: usize,
}

impl Reading {
    /// The position of a subscriber that came with one.
    pub(in crate::hub) fn since<S>(&self, request: &Request<'_, S>) -> Option<u64> {
        request.since(self.after, self.foreign)
    }

    /// What the subscriber has.
    pub(in crate::hub) fn has<S>(&self, request: &Request<'_, S>) -> Has {
        request.has(self.after, self.foreign)
    }

    /// The number up to which the reader reads.
    pub(in crate::hub) fn until(&self) -> u64 {
        self.until
    }

    /// The number after which it begins.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// True if the newest messages of each channel are wanted.
    pub(super) fn is_last(&self) -> bool {
        self.last.is_some()
    }

    /// True if there is nothing that the subscriber wants of what was published before.
    pub(in crate::hub) fn is_up_to_date(&self) -> bool {
        !self.foreign && !self.is_last() && self.after >= self.until
    }

    /// True if the subscriber, which begins after a number, lacks messages of a history that has lost those up to another
    /// one.
    pub(super) fn lacks(&self, after: u64, trimmed: u64) -> bool {
        !self.is_last() && (self.foreign || after < trimmed)
    }

    /// The channels of which something was read.
    pub(in crate::hub) fn begun(&self) -> HashSet<Arc<str>> {
        self.cursors.iter().map(|cursor| cursor.name.clone()).collect()
    }

    /// If the oldest are cut: the end of the gap of each channel that has messages left. They may be many, so this is done
    /// without the lock.
    pub(in crate::hub) fn tell_left(&mut self, replay: &mut Replay) {
        if !self.newest_first {
            return;
        }
        for (seq, at) in std::mem::take(&mut self.order) {
            self.tell_gone(&self.cursors[at].name, seq, replay);
        }
    }

    fn rank(&self, message: &Message) -> u64 {
        reading::rank(message, self.newest_first)
    }

    /// The end of a gap that is found before `seq` is taken. It must not be after a message that was taken from its
    /// channel already.
    fn before_taken(&self, end: u64, seq: u64) -> u64 {
        if self.newest_first {
            end.min(seq)
        } else {
            end
        }
    }

    /// Like [`reading::merge`], this lets one message beyond the limit through, so that the cut sees that there are
    /// more.
    fn fits(&mut self, message: &Message) -> bool {
        let within = !self.over;
        self.over = self.weight > self.limit;
        self.weight += message.weight();
        within
    }

    /// Adds a gap: a channel's messages up to a number are gone. Later gaps are left out if the last step or the next
    /// request announces them.
    fn tell_gone(&self, name: &Arc<str>, end: u64, replay: &mut Replay) {
        let end = if self.has_joined { end.min(self.until) } else { end };
        if end <= self.until {
            replay.items.push(Item::Gap((!name.is_empty()).then(|| name.clone()), end));
        }
    }
}

impl State {
    /// The first step.
    pub(in crate::hub) fn begin_reading<S: AsRef<str>>(&self, request: &Request<'_, S>, epoch: &str) -> Reading {
        let (after, foreign) = self.place_of(request.start, epoch);
        let last = match request.start {
            Start::Last(count) => Some(count),
            _ => None,
        };
        Reading {
            until: self.seq,
            after,
            from_beginning: request.is_from_beginning(),
            foreign,
            newest_first: request.newest_first(),
            last,
            limit: request.limit,
            has_joined: false,
            cursors: Vec::new(),
            order: BinaryHeap::new(),
            weight: 0,
            over: false,
        }
    }

    /// The first step of a subscriber that has joined already.
    pub(in crate::hub) fn begin_joined<S: AsRef<str>>(&self, request: &Request<'_, S>, epoch: &str) -> Reading {
        Reading { has_joined: true, ..self.begin_reading(request, epoch) }
    }

    /// Looks up some channels. The empty name stands for the broadcasts.
    pub(in crate::hub) fn find_first<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        reading: &mut Reading,
        replay: &mut Replay,
    ) {
        for name in names {
            // `State::replay` explains both cases.
            let foreign = reading.foreign && !name.is_empty();
            let after = if reading.foreign && name.is_empty() { reading.until } else { reading.after };
            let after = if reading.from_beginning { self.after_in(name, after) } else { after };
            let hash = self.hash(name);
            let known = self.lookup(name, hash);
            let trimmed = known.map_or_else(|| self.forgotten.end(hash), |id| self.trimmed(id));
            if reading.last.is_none() {
                if foreign || after < trimmed {
                    reading.tell_gone(&name.into(), trimmed, replay);
                }
                if !name.is_empty() {
                    let losses = self.lineage.losses_after(after.max(trimmed));
                    let told = losses.filter(|fence| *fence <= reading.until);
                    replay.items.extend(told.map(|fence| Item::Loss(name.into(), fence)));
                }
            }
            if let Some(id) = known {
                self.read_from(id, after, reading);
            }
        }
    }

    /// Has a channel read, after a number.
    pub(super) fn read_from(&self, id: ChannelId, after: u64, reading: &mut Reading) {
        let channel = &self.channels[id as usize];
        let mut messages = match reading.last {
            Some(count) => channel.history.last_until(channel.with_end(count), reading.until),
            None => channel.history.between(after, reading.until),
        };
        let left = messages.len();
        if let Some(message) = reading::step(&mut messages, reading.newest_first) {
            reading.order.push((reading.rank(message), reading.cursors.len()));
            reading.cursors.push(Cursor { channel: id, name: channel.name.clone(), after, left });
        }
    }

    /// The number after which a channel is read that a pattern fits.
    pub(super) fn after_in_fitted(&self, id: ChannelId, reading: &Reading) -> u64 {
        match reading.from_beginning {
            true => reading.after.max(self.channels[id as usize].beginning()),
            false => reading.after,
        }
    }

    pub(super) fn trimmed(&self, id: ChannelId) -> u64 {
        self.channels[id as usize].history.trimmed()
    }

    /// True if a channel has messages after a number.
    pub(super) fn has_after(&self, id: ChannelId, after: u64) -> bool {
        self.channels[id as usize].history.newest().is_some_and(|newest| newest > after)
    }

    /// Takes some messages. True if there are more.
    pub(in crate::hub) fn take_some(&self, reading: &mut Reading, replay: &mut Replay) -> bool {
        let mut taken = 0;
        while let Some((rank, at)) = reading.order.pop() {
            let seq = if reading.newest_first { rank } else { !rank };
            let cursor = &reading.cursors[at];
            let channel = self.channels.get(cursor.channel as usize);
            let Some(channel) = channel.filter(|channel| Arc::ptr_eq(&channel.name, &cursor.name)) else {
                if reading.last.is_none() {
                    let end = self.forgotten.end(self.hash(&cursor.name));
                    reading.tell_gone(&cursor.name, reading.before_taken(end, seq), replay);
                }
                continue;
            };
            let history = &channel.history;
            let mut messages = match (reading.newest_first, reading.last) {
                (true, Some(_)) => history.last_until(cursor.left, seq),
                (true, None) => history.between(cursor.after, seq),
                (false, _) => history.between(seq.saturating_sub(1), reading.until),
            };
            // The oldest messages may be gone by now. An end that something followed is gone as well, and is no gap.
            let lost_after = if reading.newest_first { cursor.after } else { seq.saturating_sub(1) };
            let gone = history.trimmed() > lost_after && (!reading.newest_first || messages.len() < cursor.left);
            if gone && reading.last.is_none() {
                reading.tell_gone(&cursor.name, reading.before_taken(history.trimmed(), seq), replay);
            }
            reading.cursors[at].left = messages.len();
            while let Some(message) = reading::step(&mut messages, reading.newest_first) {
                let rank = reading.rank(message);
                // Another channel has the next message, or other threads have their turn.
                if taken == AT_ONCE || reading.order.peek().is_some_and(|next| *next > (rank, at)) {
                    reading.order.push((rank, at));
                    break;
                }
                if !reading.fits(message) {
                    reading.order.push((rank, at));
                    return false;
                }
                taken += 1;
                reading.cursors[at].left -= 1;
                replay.items.push(Item::Message(message.clone()));
            }
            if taken == AT_ONCE {
                return !reading.order.is_empty();
            }
        }
        false
    }

    /// Subscribes a shard to some channels.
    pub(in crate::hub) fn join_some<'n>(
        &mut self,
        names: impl Iterator<Item = &'n str>,
        shard: usize,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) {
        ids.extend(names.map(|name| self.join(name, shard)));
    }

    /// The last step reads what has come since the first one. The shard is on all channels by now, so none of them is
    /// dropped. A client that asked for the newest messages misses nothing in a channel of which it gets none. In a
    /// channel of which it got some (`begun`), it would.
    pub(in crate::hub) fn read_rest<S>(
        &self,
        request: &Request<'_, S>,
        ids: &[(ChannelId, Arc<str>)],
        begun: &HashSet<Arc<str>>,
        replay: &mut Replay,
    ) {
        let after = std::mem::replace(&mut replay.position, self.seq);
        self.note_ends(ids.iter().map(|(_, name)| &**name), replay);
        if request.start == Start::New {
            replay.tell_ends();
        }
        if request.start == Start::New || after == self.seq {
            return;
        }
        self.drop_turned(replay);
        let is_last = matches!(request.start, Start::Last(_));
        let broadcasts = (request.broadcasts && !is_last).then_some(super::BROADCAST);
        for id in ids.iter().map(|(id, _)| *id).chain(broadcasts) {
            let channel = &self.channels[id as usize];
            let trimmed = channel.history.trimmed();
            let after = if request.is_from_beginning() { after.max(channel.beginning()) } else { after };
            if after < trimmed && (!is_last || begun.contains(&channel.name)) {
                replay.items.push(Item::Gap((id != super::BROADCAST).then(|| channel.name.clone()), trimmed));
            }
            if channel.history.newest().is_some_and(|newest| newest > after) {
                replay.items.extend(channel.history.after(after).cloned().map(Item::Message));
            }
        }
    }
}
