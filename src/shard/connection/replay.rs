//! The replay: missed messages are read from the hub, at once or in parts. After that new messages reach the
//! subscriber.

use crate::dialect::push::replies;
use crate::framing::close::Close;
use crate::framing::ws_frames;
use crate::http::request::Subscribe;
#[cfg(test)]
use crate::hub::planted;
use crate::hub::{is_pattern, Cut, Item, Join, Replay, Request, Start};
use crate::shard::connection::conn::Flags;
use crate::shard::delivery::excepting::add_for;
use crate::shard::delivery::outbox::{CatchUp, Outbox, Piece};
use crate::shard::Shard;
use std::sync::Arc;

impl Shard {
    /// Reads the messages that a subscriber missed, up to the limit of a part, and joins it to its channels as `join`
    /// says. Returns true if the shard has met breaks of the log to get there.
    pub(in crate::shard) fn read_and_join<S: AsRef<str>>(&mut self, names: &[S], start: Start<'_>, join: Join) -> bool {
        // What a pattern fits can't be read in parts: the channels change from one to the next.
        let by_pattern = names.iter().any(|name| is_pattern(name.as_ref()));
        let request = Request {
            shard: self.handle.number,
            names,
            start,
            // All of it waits when the client goes live, and live messages need room behind it. A poll ends with it.
            limit: if by_pattern && join == Join::Always { self.replay_limit() / 2 } else { self.replay_limit() },
            broadcasts: true,
            cut: if by_pattern { Cut::Head } else { Cut::Tail },
            join,
        };
        self.subscriptions.subscribe(&self.context.hub, &request);
        self.count_gaps();
        self.reach_replay()
    }

    /// Writes the first part of a replay that is larger than an outbox. The rest follows as the client reads.
    pub(in crate::shard) fn begin_catching_up(&mut self, index: u32, pieces: Vec<Piece>, subscribe: &Subscribe<'_>) {
        let names = subscribe.channels.iter().map(|name| Box::from(&**name)).collect();
        let from_beginning = subscribe.start() == Start::Beginning;
        let announced = std::mem::take(&mut self.subscriptions.replay.later_gaps);
        let catch_up = CatchUp { names, after: self.subscriptions.replay.position, from_beginning, announced };
        self.put(index, pieces).catch_up = Some(catch_up);
        self.write_waiting(index);
    }

    /// Puts the next part of the replay into a subscriber's outbox, which is empty. After the last part the subscriber
    /// is live.
    pub(in crate::shard) fn put_next_part(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let Some(mut before) = conn.outbox.take() else { return };
        let (Some(mut catch_up), since) = (before.catch_up.take(), before.since) else { return };
        drop(before);
        if conn.transport().is_none() {
            return;
        }
        let after = if catch_up.from_beginning { Start::BeginningAfter } else { Start::After };
        let broken = self.read_and_join(&catch_up.names, after(catch_up.after), Join::Always);
        if broken || self.subscriptions.replay.wait {
            // Its number may be another message's by now. The client comes back with the epoch as well.
            self.subscriptions.abandon();
            self.put(index, Vec::new()).catch_up = Some(catch_up);
            return self.close_slow(index, Close::LOST);
        }
        if !self.conns[index as usize].format.tells_gaps() && self.has_unannounced_gap(&mut catch_up.announced) {
            // Raw frames have no place for a gap, but the next handshake has: the client comes back and is told there.
            self.subscriptions.abandon();
            // The channels that it waited for are counted as slow.
            self.put(index, Vec::new()).catch_up = Some(catch_up);
            return self.close_slow(index, Close::OVERTAKEN);
        }
        let mut pieces = Vec::new();
        self.add_replay(index, &mut pieces);
        if self.subscriptions.replay.complete {
            self.go_live(index);
            self.add_subscribed(index, &catch_up.names, &mut pieces);
            self.put(index, pieces).since = since;
            self.close_if_ended(index);
        } else {
            catch_up.after = self.subscriptions.replay.position;
            let outbox = self.put(index, pieces);
            (outbox.catch_up, outbox.since) = (Some(catch_up), since);
        }
    }

    /// Puts pieces into a connection's outbox.
    fn put(&mut self, index: u32, pieces: Vec<Piece>) -> &mut Outbox {
        let conn = &mut self.conns[index as usize];
        let wire = conn.wire(&self.encoder);
        let outbox = conn.outbox.get_or_insert_with(|| Outbox::new(&self.handle));
        pieces.into_iter().for_each(|piece| outbox.push(piece, &wire));
        outbox
    }

    /// Whether the replay has a gap that the handshake has not announced.
    fn has_unannounced_gap(&self, announced: &mut Vec<Option<Arc<str>>>) -> bool {
        let Replay { items, later_gaps, .. } = &self.subscriptions.replay;
        items.iter().filter(|item| item.is_gap()).any(|item| {
            let Some(place) = announced.iter().position(|known| known.as_deref() == item.channel()) else {
                return true;
            };
            // A second gap in the same channel is not announced yet. But if this one goes on after the cut, it is the same.
            if !later_gaps.iter().any(|channel| channel.as_deref() == item.channel()) {
                announced.swap_remove(place);
            }
            false
        })
    }

    /// Adds the replay to the pieces for a subscriber.
    pub(in crate::shard) fn add_replay(&mut self, index: u32, pieces: &mut Vec<Piece>) {
        let conn = &self.conns[index as usize];
        let wire = conn.wire(&self.encoder);
        let id = self.side.client_ids.of(index);
        #[cfg(test)]
        let id = id.filter(|_| !planted::is(planted::Mistake::ExceptsLiveOnly));
        let mut messages = 0;
        let replay = &mut self.subscriptions.replay;
        let mut positions = replay.tell_gaps_first().into_iter();
        for item in replay.items.drain(..) {
            if let Item::Message(message) = item {
                messages += u64::from(!message.excepts(id));
                add_for(pieces, message, id, &wire);
                continue;
            }
            let position = positions.next().map_or_else(String::new, |gap| gap.text(wire.encoder.epoch()));
            let gap = conn.format.gap(item.channel(), &position, wire.chunks);
            pieces.push(Piece::Bytes(gap.into()));
        }
        self.handle.metrics.deliveries.add(messages);
    }

    /// Adds `subscribed` for each channel and pattern of the URL, with the position reached, for clients that understand
    /// it.
    pub(in crate::shard) fn add_subscribed<S: AsRef<str>>(&self, index: u32, names: &[S], pieces: &mut Vec<Piece>) {
        if self.conns[index as usize].format.takes_requests() {
            let position = self.encoder.epoch().position(self.subscriptions.replay.position);
            let frame = |name: &S| ws_frames::text(&replies::subscribed(name.as_ref(), &position));
            let frames: Vec<u8> = names.iter().flat_map(frame).collect();
            if !frames.is_empty() {
                pieces.push(Piece::Bytes(frames.into()));
            }
        }
    }

    /// Has messages reach a subscriber from now on.
    pub(in crate::shard) fn go_live(&mut self, index: u32) {
        let joined = self.subscriptions.replay.position;
        let conn = &mut self.conns[index as usize];
        conn.flags.insert(Flags::LIVE);
        conn.joined = joined;
        self.delivery.settled = self.delivery.settled.max(joined);
        self.subscriptions.join(&mut self.conns, index);
    }

    /// Counts the gaps of the replay.
    pub(in crate::shard) fn count_gaps(&self) {
        let gaps = self.subscriptions.replay.items.iter().filter(|item| item.is_gap()).count();
        self.handle.metrics.gaps.add(gaps as u64);
    }
}
