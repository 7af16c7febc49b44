//! Checks whether a log still has the entries that a hub has read, and decides what the hub does if it has not.
//!
//! A hub that reconnects to a log asks for the entry that it read last. If the log has another entry at that number, or
//! none, the hub searches for the last entry that both have. Entries have names (`EntryId`), so if both have the same
//! entry at a number, they have the same entries before it.
//!
//! If the log's fence is in force, the hub follows it. If the fence was written for another log or another life of it,
//! the log may have lost entries that a hub has read. Then the hub writes the next fence. It can vouch only for entries
//! that it has read and that the log still has: up to there, positions of the earlier epochs stay exact. Other hubs may
//! have read more. If the log still has those entries, these hubs lose nothing, but clients with positions beyond the
//! fence are told of a gap.
//!
//! Hubs that have read less than others can't see a loss: they agree with the log about all that they have read, and
//! the messages that they have missed do not come any more if their hub is dead. So a hub that has read messages of
//! others, and finds them lost, writes that into the chain of the fence (`lossy`), in a fence of its own if need be.
//! Each hub that meets such a fence tells its subscribers of a gap, and clients that come back with an earlier position
//! are told of it there. The same goes for acts (`acts`): hubs that meet such a fence may lack them, and close all
//! connections that have a user.

use super::super::contract::{EntryId, Fence, Identity};
use super::seen::{Kind, Seen};
use super::{Phase, Replica};
use crate::hub::{Break, Epoch, Link, Loss, MAX_LINKS};

/// So many fences are written over one connection to tell other hubs of losses: one is enough, unless the hub learns
/// more meanwhile.
const FENCES: u32 = 3;

/// The search for the last entry that hub and log both have.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The number that the hub asks about.
    number: u64,
    /// Hub and log have the same entries up to this number.
    low: u64,
    /// They have different entries from this number on. 0 before the search has begun.
    high: u64,
}

impl Search {
    /// A search that begins with the last entry that the hub has read.
    pub(super) fn at(last: u64) -> Self {
        Search { number: last, low: 0, high: 0 }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Takes an answer. `Some` is the result: hub and log have the same entries up to this number. `None` if the hub
    /// must ask about another number.
    pub(super) fn note(&mut self, identity: &Identity, seen: &Seen, fence: Option<&(u64, Fence)>) -> Option<u64> {
        let same = self.number == 0 || (identity.entry.is_some() && identity.entry == seen.entry(self.number));
        if self.high == 0 {
            // The fences vouch for this much, without a look at the entries.
            self.low = vouched(identity, fence).min(seen.last());
            self.high = self.number + 1;
            if self.low == self.number {
                return Some(self.low);
            }
        }
        if same {
            self.low = self.low.max(self.number);
        } else {
            self.high = self.high.min(self.number);
        }
        // Entries up to the floor can't be compared: the hub or the log no longer has them.
        let floor = self.low.max(seen.first() - 1).max(identity.first.saturating_sub(1));
        if self.high <= floor + 1 {
            return Some(self.low);
        }
        self.number = floor + (self.high - floor) / 2;
        None
    }
}

/// The number up to which the fences of a hub and of a log say that both have the same entries.
fn vouched(identity: &Identity, fence: Option<&(u64, Fence)>) -> u64 {
    let (Some((number, mine)), Some((_, present))) = (fence, &identity.fence) else { return 0 };
    if mine.epoch == present.epoch {
        return *number;
    }
    present.chain.iter().find(|link| link.epoch == mine.epoch).map_or(0, |link| link.last)
}

impl Replica {
    /// Decides what to do after the search. Hub and log have the same entries up to `agreed`.
    pub(super) fn agree(&mut self, identity: &Identity, agreed: u64) -> Phase {
        let hole = self.hole.filter(|(log, _)| *log == identity.log).map_or(0, |(_, number)| number);
        let first = identity.first.max(hole).max(1);
        let last = self.seen.last();
        let Some((number, fence)) = identity.fence.as_ref().filter(|(_, fence)| fence.log == identity.log) else {
            return self.propose(identity, agreed);
        };
        let same_epoch = self.fence.as_ref().is_some_and(|(_, mine)| mine.epoch == fence.epoch);
        // The log has trimmed entries that the hub has not read. Then there is nothing to compare.
        let trimmed = last + 1 < first;
        let comparable = last >= identity.first && self.seen.entry(last).is_some();
        if same_epoch && !trimmed && comparable && agreed < last {
            // The log has lost entries, although it has the same identity.
            return self.propose(identity, agreed);
        }
        if !same_epoch && self.connection.fenced < FENCES && self.knows_more(fence, identity.first, agreed) {
            return self.propose(identity, agreed);
        }
        // Other hubs have read messages that the log has lost, and this hub has not.
        let missed = !same_epoch && fence.chain.iter().any(|link| link.lossy && !self.knows_lossy(&link.epoch));
        let missed_acts = !same_epoch
            && self.proposed.as_ref() != Some(&fence.epoch)
            && fence.chain.iter().any(|link| link.acts && !self.knows_acts(&link.epoch));
        let whole = !trimmed && (agreed == last || (same_epoch && !comparable));
        // If the hub is reading the log again, its subscribers have received more than it has read.
        if self.fence.is_some() && whole && !missed && !missed_acts && (same_epoch || last >= self.announced) {
            if !same_epoch {
                // The hub has not read those entries, so it can't know whether they are lost.
                self.own.doubt_after(last);
                self.meet(identity, fence, None);
            }
        } else {
            // Live subscribers have received everything that the hub has applied. They may have received more. Then
            // they receive that again.
            let announced = if trimmed { first - 1 } else { agreed.min(self.applied).max(first - 1) };
            // At its start a hub has no clients that acts could have meant.
            let unread = (trimmed || missed_acts) && self.fence.is_some();
            self.own.lost_after(if trimmed && same_epoch { last } else { agreed });
            self.lose(identity, fence, Loss { from: first - 1, agreed: announced, unread });
        }
        self.fence = Some((*number, fence.clone()));
        Phase::Open { tail: false }
    }

    /// Makes the hub drop its history and read the log again from the first entry. The hub's own entries that the log
    /// lost are appended again.
    fn lose(&mut self, identity: &Identity, fence: &Fence, loss: Loss) {
        self.queue.clear();
        self.seen = Seen::after(loss.from);
        (self.applied, self.announced, self.hole) = (loss.from, loss.agreed, None);
        // It was a number of what is lost.
        self.trim = 0;
        self.meet(identity, fence, Some(loss));
    }

    fn meet(&mut self, identity: &Identity, fence: &Fence, loss: Option<Loss>) {
        let (epoch, chain) = (fence.epoch.clone(), fence.chain.clone());
        self.queue.push_break(Break { epoch, chain, end: identity.end, loss });
    }

    /// True if the hub has read messages, or acts, after a number that nobody appends again, as far as it knows: those
    /// of other hubs, which may be dead, and those of its own that it no longer keeps. `first` is the log's first number:
    /// if the log has trimmed all that the hub has read, nothing can be compared, and nothing counts as lost.
    fn has_lost(&self, kind: Kind, agreed: u64, first: u64) -> bool {
        let own = |id: EntryId| id.hub == self.environment.hub && self.own.holds(id.counter);
        self.seen.last() >= first && self.seen.has_after(agreed, kind, own)
    }

    fn knows_lossy(&self, epoch: &Epoch) -> bool {
        let mut links = self.fence.iter().flat_map(|(_, mine)| &mine.chain);
        links.any(|link| link.lossy && link.epoch == *epoch)
    }

    fn knows_acts(&self, epoch: &Epoch) -> bool {
        let mut links = self.fence.iter().flat_map(|(_, mine)| &mine.chain);
        links.any(|link| link.acts && link.epoch == *epoch)
    }

    /// True if the hub knows of a loss of which the log's fence says nothing. Hubs that have not read what is lost can
    /// learn of it only from the fence.
    fn knows_more(&self, fence: &Fence, first: u64, agreed: u64) -> bool {
        let Some((_, mine)) = &self.fence else { return false };
        let says = |epoch: &Epoch| fence.chain.iter().any(|link| link.lossy && link.epoch == *epoch);
        let says_acts = |epoch: &Epoch| fence.chain.iter().any(|link| link.acts && link.epoch == *epoch);
        let lost = self.has_lost(Kind::Message, agreed, first) && !says(&mine.epoch);
        let lost_acts = self.has_lost(Kind::Act, agreed, first) && !says_acts(&mine.epoch);
        let unsaid = |link: &Link| link.lossy && !says(&link.epoch) || link.acts && !says_acts(&link.epoch);
        lost || lost_acts || mine.chain.iter().any(unsaid)
    }

    /// Makes the next fence, the entry with which an epoch begins, and asks the log to append it. Another hub's fence
    /// may be appended instead. In both cases the hub asks the log for its identity again.
    fn propose(&mut self, identity: &Identity, agreed: u64) -> Phase {
        let lossy = self.has_lost(Kind::Message, agreed, identity.first);
        let acts = self.has_lost(Kind::Act, agreed, identity.first);
        let vouch = |link: &Link| Link {
            last: link.last.min(agreed),
            lossy: link.lossy || self.knows_lossy(&link.epoch),
            acts: link.acts || self.knows_acts(&link.epoch),
            ..link.clone()
        };
        let before = identity.fence.as_ref();
        let mut chain: Vec<Link> = before.iter().flat_map(|(_, fence)| fence.chain.iter().map(vouch)).collect();
        // The fence of the hub's own epoch may be lost as well.
        let epochs = before.into_iter().chain(&self.fence).map(|(_, fence)| fence.epoch.clone());
        for epoch in epochs {
            if chain.iter().all(|link| link.epoch != epoch) {
                chain.push(Link { epoch, last: agreed, lossy: false, acts: false });
            }
        }
        for link in self.fence.iter().flat_map(|(_, mine)| &mine.chain).filter(|link| link.lossy || link.acts) {
            if chain.iter().all(|other| other.epoch != link.epoch) {
                chain.push(vouch(link));
            }
        }
        // What was lost under the hub's epoch is missing for everyone who has come as far since then.
        let own = self.fence.as_ref().and_then(|(_, mine)| chain.iter().position(|link| link.epoch == mine.epoch));
        if let Some(own) = own {
            for link in &mut chain[own..] {
                (link.lossy, link.acts) = (link.lossy || lossy, link.acts || acts);
            }
        }
        // An epoch of which no entry is left needs no link, unless clients have to be told of its loss.
        chain.retain(|link| link.last > 0 || link.lossy || link.acts);
        chain.drain(..chain.len().saturating_sub(MAX_LINKS));
        let epoch = Epoch::from_random((self.environment.random)());
        // What this hub says about lost acts it says because it has read them, unless another one has said it before.
        let is_all_own =
            before.is_none_or(|(_, fence)| fence.chain.iter().all(|link| !link.acts || self.knows_acts(&link.epoch)));
        self.proposed = is_all_own.then(|| epoch.clone());
        let fence = Fence { epoch, log: identity.log, chain };
        Phase::Fencing { expected: before.map_or(0, |(number, _)| *number), fence, asked: false }
    }
}
