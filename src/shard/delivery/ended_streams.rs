//! Connections of which all channels have ended.
//!
//! Such a connection is closed when its client has everything, unless the client can ask for other channels on it. An
//! EventSource comes back after each close, so its next request is answered with 204, after which it stays away. It must
//! not be told that while anything may be missing, since nothing in the page would bring it back.

use crate::dialect::Dialect;
use crate::framing::close::Close;
use crate::framing::Transport;
use crate::http::request::Subscribe;
use crate::http::response;
#[cfg(test)]
use crate::hub::planted;
use crate::hub::{ChannelId, Delivery, Mark};
use crate::shard::connection::conn::{Conn, Flags, Phase};
use crate::shard::Shard;

/// The channels that end in a batch, each once.
pub(in crate::shard) fn ended_in(batch: &[Delivery]) -> Vec<ChannelId> {
    let ends = batch.iter().filter(|delivery| delivery.message.mark() == Some(Mark::End));
    let mut ended: Vec<ChannelId> = ends.map(|delivery| delivery.channel).collect();
    ended.sort_unstable();
    ended.dedup();
    ended
}

impl Shard {
    /// Closes the connections that have no other channels than these and others that have ended.
    pub(in crate::shard) fn close_subscribers_of_ended(&mut self, channels: &[ChannelId]) {
        let mut subscribers = Vec::new();
        for local in channels.iter().filter_map(|channel| self.subscriptions.channels.get(*channel)) {
            subscribers.extend(local.solo.iter().chain(local.multi.iter().map(|(index, _)| index)));
        }
        // One may have many of them.
        subscribers.sort_unstable();
        subscribers.dedup();
        self.close_ended(subscribers);
    }

    /// Closes a live connection if all its channels have ended, and all that was published in them is on its way. A poll
    /// is answered.
    pub(in crate::shard) fn close_if_ended(&mut self, index: u32) {
        self.close_ended(vec![index]);
    }

    fn close_ended(&mut self, mut candidates: Vec<u32>) {
        candidates.retain(|index| self.has_ended(*index));
        let mut ends = Vec::new();
        for index in &candidates {
            self.subscriptions.channels.add_ends(&self.conns[*index as usize], &mut ends);
        }
        if candidates.is_empty() {
            return;
        }
        ends.sort_unstable();
        ends.dedup();
        // The mailbox may have something that follows an end.
        self.context.hub.keep_turned(&mut ends);
        self.subscriptions.channels.forget_ends(&ends);
        for index in candidates {
            let has_ended = self.has_ended(index);
            match self.conns.get(index as usize).map(|conn| conn.phase) {
                Some(Phase::Open(Transport::Poll)) if has_ended => self.answer_ended(index),
                Some(_) if has_ended => self.close(index, Close::ENDED),
                _ => {}
            }
        }
    }

    /// Whether a connection ends since all its channels have, as far as this shard knows.
    fn has_ended(&self, index: u32) -> bool {
        let Some(conn) = self.conns.get(index as usize) else { return false };
        #[cfg(test)]
        if planted::is(planted::Mistake::ClosesForOne) {
            return conn.is(Flags::LIVE) && ends_with_channels(conn);
        }
        let served = conn.joined.max(self.delivery.delivered);
        conn.is(Flags::LIVE)
            && ends_with_channels(conn)
            && self.subscriptions.channels.all_ended(conn, served)
            && self.given_channels(index) == 0
    }

    /// Answers an EventSource that must not come back, since there is nothing for it. The replay of its request was just
    /// read. False if it is to be served.
    pub(in crate::shard) fn send_away_if_ended(&mut self, index: u32, subscribe: &Subscribe<'_>, cors: &str) -> bool {
        let replay = &self.subscriptions.replay;
        let is_complete = replay.complete && replay.items.is_empty();
        if subscribe.transport != Transport::Sse || subscribe.since.is_none() || !is_complete {
            return false;
        }
        // The channel of a user does not end, whatever an earlier hub of the log has written.
        if !replay.is_the_end() || self.has_user_channel(subscribe) {
            return false;
        }
        let answer = response::ended(&self.encoder.epoch().position(replay.position), cors);
        self.subscriptions.abandon();
        self.last_bytes(index, answer.into());
        true
    }
}

/// True if nothing can come on this connection after its channels have ended.
fn ends_with_channels(conn: &Conn) -> bool {
    match conn.phase {
        Phase::Open(Transport::Sse | Transport::Stream | Transport::Poll) => true,
        // There is no frame that could say it, and the client can't subscribe to anything else.
        Phase::Open(Transport::WebSocket) => conn.format.dialect() == Dialect::Raw,
        _ => false,
    }
}
