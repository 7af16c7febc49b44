//! Presence: the users of a channel's subscribers. Each shard looks at its own, some in each turn.

use super::query::{Gather, Query};
use crate::hub::ChannelId;
use crate::shard::Shard;
use crate::users::{Counting, Named};
use std::sync::Arc;

/// What looking at one subscriber costs. Each of its channels costs 1: they may have to be looked through.
const LOOK: usize = 32;
/// About how much one turn looks at: some 100 microseconds, for which the clients of the shard wait. The asker waits for
/// all turns, and may have no more than a second or two.
const LOOKED: usize = if cfg!(test) { 4 * LOOK } else { 2048 * LOOK };

/// Subscribers of a channel.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// Their users, one for each connection, in no order. Counting them is the asker's work: the shards have others to
    /// serve. Each turn has made a list of its own. One list of all would be moved whenever it grows.
    users: Named,
    /// The number of subscribers without a user.
    anonymous: usize,
}

impl Present {
    /// The users, one for each connection, in no order, and the number of subscribers without a user.
    pub(crate) fn into_parts(self) -> (Named, usize) {
        (self.users, self.anonymous)
    }

    /// Subscribers with these users.
    #[cfg(test)]
    pub(crate) fn of(users: Vec<Arc<str>>, anonymous: usize) -> Self {
        Present { users: vec![users], anonymous }
    }

    /// Counts them in steps, and lists at most `limit` users after `after`.
    pub(crate) fn counting(self, after: &str, limit: usize) -> Counting {
        Counting::new(self.users, self.anonymous, after, limit)
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

/// A question for the subscribers of a channel, under way on one shard.
#[derive(Debug)]
pub(in crate::shard) struct Roll {
    query: Arc<PresenceQuery>,
    /// The places of those that were there and are not looked at yet. Whoever comes meanwhile is not among them, and
    /// each place is looked at once: so nobody counts twice.
    left: Vec<u32>,
    part: Present,
}

impl Shard {
    /// Begins to look for a channel's subscribers on this shard.
    pub(in crate::shard) fn begin_roll(&mut self, query: Arc<PresenceQuery>) {
        let Wanted { channel, name } = query.wanted();
        let local = self.subscriptions.channels.get(*channel).filter(|local| *local.name == **name);
        let Some(local) = local else { return };
        let left = local.solo.iter().copied().chain(local.multi.iter().map(|(index, _)| *index)).collect();
        self.scans.rolls.push_back(Roll { query, left, part: Present::default() });
    }

    /// Goes on with these questions. Returns true if there is more to do.
    pub(in crate::shard) fn go_on_with_rolls(&mut self) -> bool {
        let mut cost = 0;
        while cost < LOOKED {
            let Some(mut roll) = self.scans.rolls.pop_front() else { return false };
            cost += LOOK;
            if self.look_at_some(&mut roll, &mut cost) {
                roll.query.add(roll.part);
            } else {
                self.scans.rolls.push_back(roll);
            }
        }
        !self.scans.rolls.is_empty()
    }

    /// Looks at some of the subscribers that are still there. True: at all.
    fn look_at_some(&self, roll: &mut Roll, cost: &mut usize) -> bool {
        let Roll { query, left, part } = roll;
        let (Wanted { channel, name }, channels) = (query.wanted(), &self.subscriptions.channels);
        if channels.get(*channel).is_none_or(|local| *local.name != **name) {
            // The last one has left it.
            return true;
        }
        let mut users = Vec::new();
        while *cost < LOOKED {
            let Some(index) = left.pop() else { break };
            *cost += LOOK;
            // Another connection may have the place by now, or none.
            let Some(conn) = self.conns.get(index as usize) else { continue };
            *cost += conn.subs.len();
            if !channels.is_on(conn, index, *channel) {
                continue;
            }
            match conn.grant.as_ref().and_then(|grant| grant.user()) {
                Some(user) => users.push(user.clone()),
                None => part.anonymous += 1,
            }
        }
        if !users.is_empty() {
            part.users.push(users);
        }
        left.is_empty()
    }
}
