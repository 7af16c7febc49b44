//! Who subscribes, and reads what it missed.

use super::State;
use crate::hub::replay::{Cut, Item, Replay, Request, Start};
use crate::hub::ChannelId;
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
        let bounds = (request.cut, request.limit);
        for name in request.names {
            self.read(name.as_ref(), (after, foreign), request.start, bounds, replay);
        }
        if request.broadcasts && !matches!(request.start, Start::Last(_)) {
            // After another life the channels' gaps say enough: who never broadcasts need not hear of it.
            self.read("", (if foreign { self.seq } else { after }, false), request.start, bounds, replay);
        }
        replay.sort();
        match (request.start, request.cut) {
            (Start::Last(_), _) | (_, Cut::Head) => replay.cut_head(request.limit),
            _ => replay.cut_tail(request.limit),
        }
    }

    /// Adds what a channel has after a place to a replay, with a gap where something is missing.
    fn read(
        &self,
        name: &str,
        (after, foreign): (u64, bool),
        start: Start<'_>,
        (cut, limit): (Cut, usize),
        replay: &mut Replay,
    ) {
        let hash = self.hash(name);
        let Some(id) = self.lookup(name, hash) else {
            let end = self.forgotten.end(hash);
            if !matches!(start, Start::Last(_)) && (foreign || after < end) {
                replay.items.push(Item::Gap((!name.is_empty()).then(|| name.into()), end));
            }
            return;
        };
        let channel = &self.channels[id as usize];
        if let Start::Last(count) = start {
            replay.items.extend(channel.history.last(count).cloned().map(Item::Message));
            return;
        }
        let trimmed = channel.history.trimmed();
        if foreign || after < trimmed {
            replay.items.push(Item::Gap((!name.is_empty()).then(|| channel.name.clone()), trimmed));
        }
        // Not all of a long history where its tail will be cut: as much as can be given at once, and one message more,
        // by which the cut sees that there is more.
        let bound = if cut == Cut::Tail { limit } else { usize::MAX };
        let (mut weight, mut over) = (0usize, false);
        let fitting = channel.history.after(after).take_while(|message| {
            let within = !over;
            over = weight > bound;
            weight += message.weight();
            within
        });
        replay.items.extend(fitting.cloned().map(Item::Message));
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
