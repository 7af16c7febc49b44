//! Presence: the users of a channel's subscribers.

use super::query::{Gather, Query};
use crate::hub::ChannelId;
use crate::shard::Shard;
use crate::users::Users;
use std::sync::Arc;

/// Subscribers of a channel.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// Their users, one for each connection, in no order. Counting them is the asker's work: the shards have others to
    /// serve.
    users: Vec<Arc<str>>,
    /// The number of subscribers without a user.
    anonymous: usize,
}

impl Present {
    /// The users, one for each connection, in no order, and the number of subscribers without a user.
    pub(crate) fn into_parts(self) -> (Vec<Arc<str>>, usize) {
        (self.users, self.anonymous)
    }

    /// Counts them, and lists at most `limit` users after `after`.
    pub(crate) fn count(self, after: &str, limit: usize) -> Users {
        Users::count(self.users, self.anonymous, after, limit)
    }
}

impl Gather for Present {
    fn add(&mut self, mut part: Self) {
        self.users.append(&mut part.users);
        self.anonymous += part.anonymous;
    }
}

/// The channel that is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The hub may have given this number to another channel since it was looked up.
    pub(crate) channel: ChannelId,
    pub(crate) name: Box<str>,
}

/// A question to all shards for the subscribers of a channel.
pub(crate) type PresenceQuery = Query<Wanted, Present>;

impl Shard {
    /// Adds this shard's subscribers of a channel to the answer.
    pub(in crate::shard) fn present(&self, query: &PresenceQuery) {
        let Wanted { channel, name } = query.wanted();
        let local = self.subscriptions.channels.get(*channel).filter(|local| *local.name == **name);
        let Some(local) = local else { return };
        let mut present = Present::default();
        for index in local.solo.iter().chain(local.multi.iter().map(|(index, _)| index)) {
            match self.conns.get(*index as usize).and_then(|conn| conn.grant.as_ref()?.user().cloned()) {
                Some(user) => present.users.push(user),
                None => present.anonymous += 1,
            }
        }
        query.add(present);
    }
}
