//! Applies the entries of a log, and its breaks, to a replica.

use super::{shards_in, State};
use crate::hub::act;
use crate::hub::applying::{Break, Change, Done, Loss};
use crate::hub::history::History;
use crate::hub::lineage::Lineage;
use crate::hub::mailbox::Mailbox;
use crate::hub::{ChannelId, Epoch, Start};
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

/// How many epochs are remembered for numbers that were given out and not told.
const EPOCHS: usize = 64;

/// The state that only a replica has.
#[derive(Debug)]
pub(in crate::hub) struct Following {
    /// The log's present epoch.
    pub(in crate::hub) epoch: Epoch,
    /// The last epochs, the present one last.
    epochs: VecDeque<Epoch>,
    /// The number of breaks so far.
    pub(in crate::hub) breaks: u32,
    /// The number up to which the shards have got everything, from an earlier reading or by a gap.
    announced: u64,
    /// The last number of the log when the hub began to read it. Subscribers wait until the hub has reached it.
    until: u64,
    /// True if the hub has reached that number once, so that it may have served subscribers.
    has_served: bool,
    /// Acts up to this number are older than the hub. No connection of this hub is meant.
    acts_after: u64,
}

impl Following {
    pub(in crate::hub) fn new(epoch: Epoch) -> Self {
        // Before the first break the hub knows nothing of the log.
        Following {
            epochs: [epoch.clone()].into(),
            epoch,
            breaks: 0,
            announced: 0,
            until: u64::MAX,
            has_served: false,
            acts_after: 0,
        }
    }
}

impl State {
    /// Applies an entry. False if a mailbox is full; nothing was done then.
    pub(in crate::hub) fn follow(
        &mut self,
        number: u64,
        change: &mut Option<Change<'_>>,
        hash: u64,
        now: u64,
        mailboxes: &[Arc<Mailbox>],
        done: &mut Done,
    ) -> bool {
        let (announced, acts_after) =
            self.following.as_ref().map_or((0, 0), |following| (following.announced, following.acts_after));
        let mailboxes = if number > announced { mailboxes } else { &[] };
        let known = match change {
            Some(Change::Message { outgoing, .. }) => match self.find_room(outgoing.channel, hash, mailboxes) {
                Ok(known) => known,
                Err(_) => return false,
            },
            Some(Change::Act(_)) if !State::all_have_room(mailboxes) => return false,
            _ => None,
        };
        match change.take() {
            Some(Change::Message { outgoing, since }) => {
                let published = self.apply(number, outgoing, (known, hash), (since, now), mailboxes);
                done.reached |= published.shards;
                return true;
            }
            Some(Change::Cleared(channel)) => {
                if self.clear(channel) {
                    done.cleared.push(number);
                }
            }
            Some(Change::Act(act)) => {
                if number > acts_after {
                    act::leave(&act, number, mailboxes);
                    done.reached = u64::MAX;
                }
            }
            Some(Change::Ends { epoch, until, floor, channels }) => {
                if self.following.as_ref().is_some_and(|following| following.epoch == epoch) {
                    self.learn_ends(until, floor, &channels);
                }
            }
            Some(Change::Nothing) | None => {}
        }
        self.seq = number;
        // Only messages count as published.
        self.began_at = self.began_at.wrapping_add(1);
        true
    }

    /// Applies a break: see [`Break`]. Returns the number of the gap of which the subscribers must be told, if any, and
    /// the histories that were dropped.
    pub(in crate::hub) fn break_off(&mut self, at: Break) -> (Option<u64>, Vec<History>) {
        let Break { epoch, chain, end, loss } = at;
        let seq = self.seq;
        self.lineage = Lineage::new(chain);
        let gap = loss.as_ref().map(|loss| loss.agreed);
        let dropped = loss.as_ref().map_or(Vec::new(), |loss| self.start_over(loss.from));
        if let Some(following) = &mut self.following {
            following.epochs.push_back(epoch.clone());
            if following.epochs.len() > EPOCHS {
                following.epochs.pop_front();
            }
            following.epoch = epoch;
            following.breaks = following.breaks.wrapping_add(1);
            following.has_served |= seq >= following.until;
            following.acts_after = if following.has_served { 0 } else { end };
            following.until = end.min(if loss.is_some() { u64::MAX } else { following.until });
            if let Some(Loss { agreed, .. }) = loss {
                following.announced = agreed;
            }
        }
        (gap, dropped)
    }

    /// True if a subscriber can be served: the hub has applied everything that the log had at first, and the
    /// subscriber's position is not ahead of the hub.
    pub(in crate::hub) fn has_reached(&self, start: Start<'_>) -> bool {
        let Some(following) = &self.following else { return true };
        let ahead = match start {
            Start::Since(position) if position.epoch == following.epoch.as_str() => position.seq > self.seq,
            Start::Since(position) => self.lineage.place(position).is_some_and(|seq| seq > self.seq),
            Start::After(seq) | Start::BeginningAfter(seq) => seq > self.seq,
            Start::Last(_) | Start::New | Start::Beginning => false,
        };
        self.seq >= following.until && !ahead
    }

    /// The epoch after that many breaks.
    pub(in crate::hub) fn epoch_at(&self, breaks: u32) -> Option<Epoch> {
        let following = self.following.as_ref()?;
        let back = following.breaks.wrapping_sub(breaks) as usize;
        following.epochs.iter().rev().nth(back).cloned()
    }

    /// The position of a number, if this is a replica. The epoch of another hub does not change.
    pub(in crate::hub) fn position_of_replica(&self, seq: u64) -> Option<String> {
        self.following.as_ref().map(|following| following.epoch.position(seq))
    }

    /// The epoch of positions, and the number of breaks so far. `None` if this is no replica.
    pub(in crate::hub) fn life(&self) -> Option<(Epoch, u32)> {
        self.following.as_ref().map(|following| (following.epoch.clone(), following.breaks))
    }

    /// Drops all history. Messages up to a number are gone, and later ones will be applied again.
    fn start_over(&mut self, from: u64) -> Vec<History> {
        let published = self.seq.wrapping_sub(self.began_at);
        (self.seq, self.began_at) = (from, from.wrapping_sub(published));
        self.rules.forget();
        self.keys.forget();
        self.forgotten.know_nothing_before(from);
        self.kept.forget();
        let emptied = |(_, channel): (usize, &mut super::Channel)| {
            (channel.is_ended, channel.is_whole) = (false, false);
            mem::replace(&mut channel.history, History::trimmed_at(from))
        };
        let dropped = self.channels.iter_mut().map(emptied).collect();
        let ids: Vec<ChannelId> = self.channels.iter().map(|(id, _)| id as ChannelId).collect();
        ids.into_iter().for_each(|id| self.drop_if_idle(id));
        dropped
    }

    /// True if all mailboxes have room for one more message.
    pub(in crate::hub) fn all_have_room(mailboxes: &[Arc<Mailbox>]) -> bool {
        shards_in(u64::MAX, mailboxes).all(|(_, mailbox)| mailbox.room() > 0)
    }
}
