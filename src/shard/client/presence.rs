//! Who is there: the users of a channel's subscribers.

use crate::hub::ChannelId;
use crate::shard::connection::close::user;
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
    /// Those whose grant names no user, or who have none.
    anonymous: usize,
}

impl Present {
    /// Counts them, and lists at most `limit` users after `after`.
    pub(crate) fn count(self, after: &str, limit: usize) -> Users {
        Users::count(self.users, self.anonymous, after, limit)
    }
}

/// Gets what all shards have said.
pub(crate) type Tell = Box<dyn FnOnce(Present) + Send>;

/// A question to all shards. The asker is told when the last of them lets go of it: it has answered, or has panicked or
/// ended and so has nobody any more.
pub(crate) struct Census {
    /// The hub may have given this number to another channel since it was looked up.
    channel: ChannelId,
    name: Box<str>,
    found: Mutex<Present>,
    tell: Mutex<Option<Tell>>,
}

impl Census {
    pub(crate) fn new(channel: ChannelId, name: &str, tell: Tell) -> Self {
        Census { channel, name: name.into(), found: Mutex::default(), tell: Mutex::new(Some(tell)) }
    }

    fn add(&self, mut present: Present) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.users.append(&mut present.users);
        found.anonymous += present.anonymous;
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        let found = std::mem::take(self.found.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(tell) = self.tell.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            tell(found);
        }
    }
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Shard {
    /// Says who is on a channel.
    pub(in crate::shard) fn present(&self, census: &Census) {
        let local = self.channels.get(census.channel).filter(|local| *local.name == *census.name);
        let Some(local) = local else { return };
        let mut present = Present::default();
        for index in local.solo.iter().chain(local.multi.iter().map(|(index, _)| index)) {
            match self.conns.get(*index as usize).and_then(user) {
                Some(user) => present.users.push(user),
                None => present.anonymous += 1,
            }
        }
        census.add(present);
    }
}
