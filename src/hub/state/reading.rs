//! Who subscribes, and reads what it missed.

use super::steps::AT_ONCE;
use super::State;
use crate::hub::history::Messages;
use crate::hub::message::Message;
use crate::hub::replay::{Item, Replay, Request, Start};
use crate::hub::ChannelId;
use std::collections::BinaryHeap;
use std::sync::Arc;

impl State {
    /// Reads what a subscriber missed and, where that was not cut, subscribes its shard: see [`crate::hub::Hub`]. False,
    /// and nothing was done: there is too much to read for one step.
    pub(in crate::hub) fn subscribe<S: AsRef<str>>(
        &mut self,
        request: &Request<'_, S>,
        epoch: &str,
        replay: &mut Replay,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) -> bool {
        replay.position = self.seq;
        if request.start != Start::New && !self.replay(request, epoch, replay) {
            return false;
        }
        if replay.joins(request.join) {
            ids.extend(request.names.iter().map(|name| self.join(name.as_ref(), request.shard)));
        }
        true
    }

    /// After which number a subscriber begins, and whether it is one of another life. A number that this life never gave
    /// is from another one too.
    pub(super) fn place_of(&self, start: Start<'_>, epoch: &str) -> (u64, bool) {
        match start {
            Start::After(seq) => (seq, false),
            Start::Since(position) if position.epoch == epoch && position.seq <= self.seq => (position.seq, false),
            Start::Since(position) => self.lineage.place(position).map_or((0, true), |seq| (seq, false)),
            Start::Last(_) | Start::New => (self.seq, false),
        }
    }

    fn replay<S: AsRef<str>>(&self, request: &Request<'_, S>, epoch: &str, replay: &mut Replay) -> bool {
        let (after, foreign) = self.place_of(request.start, epoch);
        let mut missed = Vec::new();
        for name in request.names {
            let from = replay.items.len();
            missed.extend(self.read(name.as_ref(), (after, foreign), request.start, replay));
            if !matches!(request.start, Start::Last(_)) {
                let told = replay.items.get(from).map_or(after, Item::seq);
                let gap = |fence| Item::Gap(Some(name.as_ref().into()), fence);
                replay.items.extend(self.lineage.losses_after(told.max(after)).map(gap));
            }
        }
        if request.wants_broadcasts() {
            // After another life the channels' gaps say enough: who never broadcasts need not hear of it.
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
        }
        true
    }

    /// What a channel has after a place, if anything; with a gap in the replay where something is missing.
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
            Start::Last(count) => channel.history.last(count),
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

    pub(super) fn join(&mut self, name: &str, shard: usize) -> (ChannelId, Arc<str>) {
        let id = self.lookup(name, self.hash(name)).unwrap_or_else(|| self.create(name));
        let channel = &mut self.channels[id as usize];
        channel.shards |= 1 << shard;
        channel.subscribers += 1;
        self.subscriptions += 1;
        (id, channel.name.clone())
    }
}

/// Takes messages of several channels in the order of the sequence, or against it, and no more than fit: of a long
/// history most is cut off. Beyond the limit there is one message more, by which the cut sees that there is; and, where
/// the oldest go, the newest of each channel that is left, up to which its gap then is.
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
        // As mostly: what comes next is known.
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

/// A message's place in the order in which they are taken: what comes first has the greatest.
pub(super) fn rank(message: &Message, newest_first: bool) -> u64 {
    if newest_first {
        message.seq()
    } else {
        !message.seq()
    }
}
