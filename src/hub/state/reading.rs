//! Subscribes, and reads the missed messages.

use super::steps::AT_ONCE;
use super::State;
use crate::hub::history::Messages;
use crate::hub::message::Message;
use crate::hub::replay::{Item, Replay, Request, Start};
use crate::hub::ChannelId;
use std::collections::BinaryHeap;
use std::sync::Arc;

impl State {
    /// Reads the messages that a subscriber missed and, unless the replay is cut, subscribes its shard; see
    /// [`crate::hub::Hub`]. If there is too much to read in one step, it does nothing and returns false.
    pub(in crate::hub) fn subscribe<S: AsRef<str>>(
        &mut self,
        request: &Request<'_, S>,
        epoch: &str,
        replay: &mut Replay,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) -> bool {
        replay.position = self.seq;
        replay.life = self.life();
        if !self.has_reached(request.start) {
            replay.put_off();
            return true;
        }
        if request.start != Start::New && !self.replay(request, epoch, replay) {
            return false;
        }
        self.note_ends(request.names.iter().map(AsRef::as_ref), replay);
        replay.all_ended = replay.ends.len() == request.names.len();
        if request.start == Start::New {
            replay.tell_ends();
        }
        if replay.joins(request.join) {
            ids.extend(request.names.iter().map(|name| self.join(name.as_ref(), request.shard)));
        }
        true
    }

    /// The number after which a subscriber begins, and whether its position is from another epoch. A number that this
    /// epoch never gave is from another one, too.
    pub(super) fn place_of(&self, start: Start<'_>, epoch: &str) -> (u64, bool) {
        let epoch = self.following.as_ref().map_or(epoch, |following| following.epoch.as_str());
        match start {
            Start::After(seq) | Start::BeginningAfter(seq) => (seq, false),
            Start::Beginning => (0, false),
            Start::Since(position) if position.epoch == epoch && position.seq <= self.seq => (position.seq, false),
            Start::Since(position) => self.lineage.place(position).map_or((0, true), |seq| (seq, false)),
            Start::Last(_) | Start::New => (self.seq, false),
        }
    }

    fn replay<S: AsRef<str>>(&self, request: &Request<'_, S>, epoch: &str, replay: &mut Replay) -> bool {
        let (after, foreign) = self.place_of(request.start, epoch);
        (replay.since, replay.has) = (request.since(after, foreign), request.has(after, foreign));
        let mut missed = Vec::new();
        for name in request.names {
            let from = replay.items.len();
            let after = if request.is_from_beginning() { self.after_in(name.as_ref(), after) } else { after };
            missed.extend(self.read(name.as_ref(), (after, foreign), request.start, replay));
            if !matches!(request.start, Start::Last(_)) {
                let told = replay.items.get(from).map_or(after, Item::seq);
                let loss = |fence| Item::Loss(name.as_ref().into(), fence);
                replay.items.extend(self.lineage.losses_after(told.max(after)).map(loss));
            }
        }
        if request.wants_broadcasts() {
            // After another epoch, the channels' gaps are enough. A client of a host that never broadcasts gets no gap
            // for the broadcasts.
            missed.extend(self.read("", (if foreign { self.seq } else { after }, false), request.start, replay));
        }
        if missed.iter().map(Messages::len).sum::<usize>() > AT_ONCE {
            replay.items.clear();
            return false;
        }
        merge(missed, request.newest_first(), request.limit, &mut replay.items);
        replay.sort();
        if request.newest_first() {
            replay.cut_head(request.limit);
        } else {
            replay.cut_tail(request.limit);
            if self.has_log() {
                replay.tell_later_gaps();
            }
        }
        true
    }

    /// The messages of a channel after a number. If some are missing, the replay gets a gap.
    fn read(
        &self,
        name: &str,
        (after, foreign): (u64, bool),
        start: Start<'_>,
        replay: &mut Replay,
    ) -> Option<Messages<'_>> {
        let hash = self.hash(name);
        let Some(id) = self.lookup(name, hash) else {
            let end = self.forgotten.end(hash);
            if !matches!(start, Start::Last(_)) && (foreign || after < end) {
                replay.items.push(Item::Gap((!name.is_empty()).then(|| name.into()), end));
            }
            return None;
        };
        let channel = &self.channels[id as usize];
        let messages = match start {
            Start::Last(count) => channel.history.last(channel.with_end(count)),
            _ => {
                let trimmed = channel.history.trimmed();
                if foreign || after < trimmed {
                    replay.items.push(Item::Gap((!name.is_empty()).then(|| channel.name.clone()), trimmed));
                }
                channel.history.after(after)
            }
        };
        (messages.len() > 0).then_some(messages)
    }

    /// True if the history outlives the hub, or if other hubs have it as well.
    pub(in crate::hub) fn has_log(&self) -> bool {
        self.forgotten.keeps_names()
    }

    pub(super) fn join(&mut self, name: &str, shard: usize) -> (ChannelId, Arc<str>) {
        let id = self.lookup(name, self.hash(name)).unwrap_or_else(|| self.create(name));
        let channel = &mut self.channels[id as usize];
        channel.shards |= 1 << shard;
        channel.subscribers += 1;
        self.subscriptions += 1;
        (id, channel.name.clone())
    }
}

/// Merges the messages of several channels, in the order of the sequence or against it, up to the limit: most of a long
/// history is cut off. One message beyond the limit is taken as well, so that the cut sees that there are more. If the
/// oldest are cut, the newest remaining message of each channel is also taken: its gap ends there.
fn merge<'h>(mut channels: Vec<Messages<'h>>, newest_first: bool, limit: usize, into: &mut Vec<Item>) {
    let step = |messages: &mut Messages<'h>| step(messages, newest_first);
    let (mut weight, mut over) = (0usize, false);
    let mut fits = |message: &Arc<Message>| {
        let within = !over;
        over = weight > limit;
        weight += message.weight();
        within
    };
    if let [one] = &mut channels[..] {
        // The usual case of one channel needs no merge.
        while let Some(message) = step(one).filter(|message| fits(message)) {
            into.push(Item::Message(message.clone()));
        }
        return;
    }
    let rank = |message: &Arc<Message>| rank(message, newest_first);
    let mut next: Vec<Option<&Arc<Message>>> = channels.iter_mut().map(step).collect();
    let mut order: BinaryHeap<(u64, usize)> = BinaryHeap::with_capacity(next.len());
    order.extend(next.iter().enumerate().filter_map(|(from, message)| Some((rank((*message)?), from))));
    while let Some((_, from)) = order.pop() {
        let Some(message) = next[from].filter(|message| fits(message)) else { break };
        next[from] = step(&mut channels[from]);
        order.extend(next[from].map(|message| (rank(message), from)));
        into.push(Item::Message(message.clone()));
    }
    if newest_first {
        into.extend(next.into_iter().flatten().cloned().map(Item::Message));
    }
}

/// The next message to take.
pub(super) fn step<'h>(messages: &mut Messages<'h>, newest_first: bool) -> Option<&'h Arc<Message>> {
    if newest_first {
        messages.next_back()
    } else {
        messages.next()
    }
}

/// A message's rank. The message with the greatest rank is taken first.
pub(super) fn rank(message: &Message, newest_first: bool) -> u64 {
    if newest_first {
        message.seq()
    } else {
        !message.seq()
    }
}
