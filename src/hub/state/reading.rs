//! Who subscribes, and reads what it missed.

use super::State;
use crate::hub::history::Messages;
use crate::hub::message::Message;
use crate::hub::replay::{Cut, Item, Replay, Request, Start};
use crate::hub::ChannelId;
use std::collections::BinaryHeap;
use std::sync::Arc;

impl State {
    /// Reads what a subscriber missed and, where that was not cut, subscribes its shard. See [`super::Hub::subscribe`].
    pub(in crate::hub) fn subscribe<S: AsRef<str>>(
        &mut self,
        request: &Request<'_, S>,
        epoch: &str,
        replay: &mut Replay,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) {
        replay.clear();
        // Also where nothing is subscribed: an earlier client's numbers must not be taken for this one's.
        ids.clear();
        replay.position = self.seq;
        if request.start != Start::New {
            self.replay(request, epoch, replay);
        }
        if replay.complete && (replay.items.is_empty() || !request.only_if_empty) {
            ids.extend(request.names.iter().map(|name| self.join(name.as_ref(), request.shard)));
        }
    }

    fn replay<S: AsRef<str>>(&self, request: &Request<'_, S>, epoch: &str, replay: &mut Replay) {
        // A number that this life never gave is from another one too.
        let (after, foreign) = match request.start {
            Start::After(seq) => (seq, false),
            Start::Since(position) if position.epoch == epoch && position.seq <= self.seq => (position.seq, false),
            Start::Since(_) => (0, true),
            Start::Last(_) | Start::New => (self.seq, false),
        };
        let mut missed = Vec::new();
        for name in request.names {
            missed.extend(self.read(name.as_ref(), (after, foreign), request.start, replay));
        }
        if request.broadcasts && !matches!(request.start, Start::Last(_)) {
            // After another life the channels' gaps say enough: who never broadcasts need not hear of it.
            missed.extend(self.read("", (if foreign { self.seq } else { after }, false), request.start, replay));
        }
        let newest_first = matches!(request.start, Start::Last(_)) || request.cut == Cut::Head;
        merge(missed, newest_first, request.limit, &mut replay.items);
        replay.sort();
        if newest_first {
            replay.cut_head(request.limit);
        } else {
            replay.cut_tail(request.limit);
        }
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

    fn join(&mut self, name: &str, shard: usize) -> (ChannelId, Arc<str>) {
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
    let step = |messages: &mut Messages<'h>| -> Option<&'h Arc<Message>> {
        if newest_first {
            messages.next_back()
        } else {
            messages.next()
        }
    };
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
    // What comes first has the greatest.
    let rank = |message: &Arc<Message>| if newest_first { message.seq() } else { !message.seq() };
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
