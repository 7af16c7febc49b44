//! The making of subscriptions: the hub's answer, and the channels that a connection is listed under then.

use super::channels::Channels;
use crate::hub::{ChannelId, Hub, Replay, Request};
use crate::shard::connection::conn::Conn;
use slab::Slab;
use std::sync::Arc;

/// The channels of a shard, and the hub's answer to the subscription that is being made. Its lists are used again and
/// again.
#[derive(Default)]
pub(in crate::shard) struct Subscriptions {
    pub(in crate::shard) channels: Channels,
    /// The messages that the subscriber missed.
    pub(in crate::shard) replay: Replay,
    /// The channels that the hub has subscribed it to.
    made: Vec<(ChannelId, Arc<str>)>,
    /// Work of other threads, in a test, while this shard subscribes a live connection to one more channel.
    #[cfg(test)]
    pub(in crate::shard) meanwhile: Option<fn(&Hub)>,
}

/// An answer of the hub that is put aside.
pub(in crate::shard) struct Aside {
    replay: Replay,
    made: Vec<(ChannelId, Arc<str>)>,
}

impl Subscriptions {
    /// Subscribes at the hub. [`Self::join`] or [`Self::abandon`] follows.
    pub(in crate::shard) fn subscribe<S: AsRef<str>>(&mut self, hub: &Hub, request: &Request<'_, S>) {
        hub.subscribe(request, &mut self.replay, &mut self.made);
    }

    /// The same for a connection that has some channels by their names already. It misses nothing of these.
    pub(in crate::shard) fn subscribe_beside<S: AsRef<str>>(
        &mut self,
        hub: &Hub,
        request: &Request<'_, S>,
        others: &[Arc<str>],
    ) {
        hub.subscribe_beside(request, others, &mut self.replay, &mut self.made);
    }

    /// Lists a connection under the channels that the hub has subscribed it to.
    pub(in crate::shard) fn join(&mut self, conns: &mut Slab<Conn>, index: u32) {
        self.channels.join(conns, index, &self.made, self.replay.position);
        self.channels.note_ends(&self.replay.ends);
        // Others can't subscribe to more.
        if conns.get(index as usize).is_some_and(|conn| conn.format.takes_requests()) {
            self.channels.note_read(index, &self.made, &self.replay);
        }
    }

    /// Gives up the subscriptions that the hub has made.
    pub(in crate::shard) fn abandon(&mut self) {
        self.channels.abandon(&self.made);
    }

    /// Puts the answer aside while earlier messages are delivered. Its subscriptions are given up until
    /// [`Self::reclaim`], so that the hub hears of it if a panic comes in between.
    pub(in crate::shard) fn set_aside(&mut self) -> Aside {
        self.abandon();
        Aside { replay: std::mem::take(&mut self.replay), made: std::mem::take(&mut self.made) }
    }

    /// Takes the answer up again. Its subscriptions are still given up.
    pub(in crate::shard) fn put_back(&mut self, Aside { replay, made }: Aside) {
        (self.replay, self.made) = (replay, made);
    }

    /// Takes back that the subscriptions are given up, before the hub was told.
    pub(in crate::shard) fn reclaim(&mut self) {
        self.channels.reclaim(&self.made);
    }
}
