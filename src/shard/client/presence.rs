//! Presence: the users of a channel's subscribers.

use crate::hub::ChannelId;
use crate::shard::Shard;
use crate::users::Users;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Called with the answers of all shards.
pub(crate) type Tell = Box<dyn FnOnce(Present) + Send>;

/// A presence query to all shards. The asker is told when the last shard drops it. A shard that has panicked or ended
/// drops it too, and has no subscribers any more.
pub(crate) struct PresenceQuery {
    /// The hub may have given this number to another channel since it was looked up.
    channel: ChannelId,
    name: Box<str>,
    found: Mutex<Present>,
    tell: Mutex<Option<Tell>>,
}

impl PresenceQuery {
    pub(crate) fn new(channel: ChannelId, name: &str, tell: Tell) -> Self {
        PresenceQuery { channel, name: name.into(), found: Mutex::default(), tell: Mutex::new(Some(tell)) }
    }

    fn add(&self, mut present: Present) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.users.append(&mut present.users);
        found.anonymous += present.anonymous;
    }
}

impl Drop for PresenceQuery {
    fn drop(&mut self) {
        let found = std::mem::take(self.found.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(tell) = self.tell.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            tell(found);
        }
    }
}

impl fmt::Debug for PresenceQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceQuery").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Shard {
    /// Adds this shard's subscribers of a channel to the answer.
    pub(in crate::shard) fn present(&self, query: &PresenceQuery) {
        let local = self.channels.get(query.channel).filter(|local| *local.name == *query.name);
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
