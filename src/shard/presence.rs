//! Who is there: the users of a channel's subscribers.

use super::closing::user;
use super::Shard;
use crate::hub::ChannelId;
use std::sync::Arc;

/// The subscribers of a channel that one shard has.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// Their users, one for each connection, in no order. Counting them is the asker's work: the shard has others to
    /// serve.
    pub(crate) users: Vec<Arc<str>>,
    /// Those whose grant names no user, or who have none.
    pub(crate) anonymous: usize,
}

impl Shard {
    /// Who is on a channel. The hub may have given its number to another since it was looked up.
    pub(super) fn present(&self, channel: ChannelId, name: &str) -> Present {
        let mut present = Present::default();
        let Some(local) = self.channels.get(channel).filter(|local| *local.name == *name) else { return present };
        for index in local.solo.iter().chain(local.multi.iter().map(|(index, _)| index)) {
            match self.conns.get(*index as usize).and_then(user) {
                Some(user) => present.users.push(user),
                None => present.anonymous += 1,
            }
        }
        present
    }
}
