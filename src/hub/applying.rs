//! Hubs that are replicas of a log. A replica applies the entries of the log in their order, with their numbers.
//!
//! The numbers come from the log, so a position means the same on all replicas. Where the log does not simply go on,
//! there is a [`Break`]: a new epoch, and perhaps a loss. Shards get the break through their mailboxes, in order
//! with the messages. A shard that has not come to the break yet writes positions of the epoch before. Hubs may not
//! know such a position later, and then answer it with a gap. But it never stands for a message that its client has not
//! seen.

use super::lineage::Link;
use super::mailbox::Delivery;
use super::message::{Message, Place, Publication};
use super::state::{Following, State};
use super::{Act, ChannelId, Epoch, Hub, Mailbox, Outgoing, Settings, SlowPolicy};
use crate::trace::Ticket;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The number of entries that are applied under one lock.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 128 };
/// Marks a break in a mailbox, in place of a channel.
pub(super) const BREAK: ChannelId = ChannelId::MAX;
/// The event of a break with a loss, and of one behind which acts may be missing.
const LOSS: &str = "loss";
const UNREAD: &str = "unread";

/// The effect of a log's entry on a hub.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// A message. `since` is the time of its publication on the hub's clock, possibly before the clock's zero.
    Message { outgoing: Outgoing<'a>, since: u64 },
    /// The history of a channel is cleared.
    Cleared(&'a str),
    /// All shards are to do this.
    Act(Act<'a>),
    /// The last numbers of channels up to the entry `until`, as a hub knew them in this epoch. No other channel had a
    /// message after `floor`.
    Ends { epoch: Epoch, until: u64, floor: u64, channels: Vec<(u64, &'a str)> },
    /// No effect: the entry only takes a number.
    Nothing,
}

/// What applying has done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The shards that have got something, each as a bit.
    pub(super) reached: u64,
    /// The numbers of the clears that have met their channel.
    pub(super) cleared: Vec<u64>,
}

/// A point in the log at which entries may have been lost, and a new epoch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Break {
    /// The log's epoch from now on.
    pub(crate) epoch: Epoch,
    /// The epochs before it.
    pub(crate) chain: Vec<Link>,
    /// The last number of the log at this moment. New subscribers that wait are served when the hub has reached it.
    pub(crate) end: u64,
    /// The loss. `None` if this hub has seen no entry that is lost.
    pub(crate) loss: Option<Loss>,
}

/// The log lacks entries that the hub has, or has trimmed entries that the hub has not read. The hub drops its history,
/// and applies the log's entries from the first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The last number before the log's first entry.
    pub(crate) from: u64,
    /// The number up to which hub and log agree, as far as that can be known. The present subscribers are told of a gap
    /// at this number. Then they get the messages after it, and none up to it.
    pub(crate) agreed: u64,
    /// True if the log had entries that this hub has not read and that are gone. Acts on its users may be among them.
    pub(crate) unread: bool,
}

impl Hub {
    /// A hub that follows a log. It serves subscribers when it has met the first break, and has applied the entries
    /// that the log had then.
    pub(crate) fn replica(settings: &Settings<'_>, mailboxes: Vec<Arc<Mailbox>>) -> Self {
        // No client sees this epoch. The first break brings the log's epoch.
        let epoch = Epoch::from_random(0);
        let hub = Hub::new(epoch.clone(), settings, mailboxes);
        {
            let mut state = hub.state.lock();
            state.following = Some(Following::new(epoch));
            // It tells other hubs of channels that are gone.
            state.keep_names();
        }
        hub
    }

    /// Applies entries of the log, some at a time under one lock, and takes them from the queue. Stops before a message
    /// for which a mailbox has no room. Then call it again later. Returns the numbers of the clears that have met their
    /// channel.
    pub(crate) fn apply(&self, changes: &mut VecDeque<(u64, Change<'_>)>, now: u64) -> Vec<u64> {
        let mut done = Done::default();
        loop {
            let hash = |(_, change): &(u64, Change<'_>)| match change {
                Change::Message { outgoing, .. } => self.hasher.hash_one(outgoing.channel),
                Change::Cleared(_) | Change::Act(_) | Change::Ends { .. } | Change::Nothing => 0,
            };
            let hashes: Vec<u64> = changes.iter().take(AT_ONCE).map(hash).collect();
            let some = hashes.len();
            let applied = self.change(|state| {
                let mut apply = |hash| {
                    let (number, change) = changes.pop_front()?;
                    let mut change = Some(change);
                    if state.follow(number, &mut change, hash, now, &self.mailboxes, &mut done) {
                        return Some(());
                    }
                    changes.extend(change.map(|change| (number, change)));
                    changes.rotate_right(1);
                    None
                };
                hashes.into_iter().map_while(&mut apply).count()
            });
            if applied < some || changes.is_empty() {
                break;
            }
        }
        self.wake(done.reached);
        done.cleared
    }

    /// Applies a break. False if a mailbox is full; nothing was done then.
    pub(crate) fn break_off(&self, at: &Break) -> bool {
        let dropped = {
            let mut state = self.state.lock();
            if !State::all_have_room(&self.mailboxes) {
                return false;
            }
            let (gap, dropped) = state.break_off(at.clone());
            let message = message_of(at, gap, state.seq);
            for mailbox in &self.mailboxes {
                mailbox.push(Delivery { channel: BREAK, ticket: Ticket::default(), message: message.clone() });
            }
            dropped
        };
        // This takes time if it is much, so the lock is released before.
        drop(dropped);
        self.wake(u64::MAX);
        true
    }

    /// The epoch with an index: of the numbers that were given out after that many breaks. Positions of one that is
    /// not remembered are nowhere.
    pub(crate) fn epoch_at(&self, index: u32) -> Epoch {
        match self.outlet {
            None => self.epoch.clone(),
            Some(_) => self.state.lock().epoch_at(index).unwrap_or_else(|| self.epoch.clone()),
        }
    }

    /// The number of breaks so far.
    pub(crate) fn breaks(&self) -> u32 {
        self.state.lock().life().map_or(0, |(_, breaks)| breaks)
    }

    /// The present epoch of positions.
    pub(crate) fn present_epoch(&self) -> Epoch {
        self.state.lock().life().map_or_else(|| self.epoch.clone(), |(epoch, _)| epoch)
    }
}

/// A break in the form in which the shards get it.
fn message_of(at: &Break, gap: Option<u64>, seq: u64) -> Arc<Message> {
    let unread = at.loss.is_some_and(|loss| loss.unread);
    let publication = Publication {
        event: gap.map(|_| if unread { UNREAD } else { LOSS }),
        ..Publication::new("", at.epoch.as_str().as_bytes())
    };
    let mut message = Message::new(&publication, false, b"");
    let place = Place { seq: gap.unwrap_or(seq), channel: None, slow: SlowPolicy::Disconnect, stamp: 0 };
    Message::place(&mut message, &place);
    message
}

impl Delivery {
    /// If this is a break: the epoch from here on, and the number of the gap of which all subscribers must be told, if
    /// there is a loss.
    pub(crate) fn as_break(&self) -> Option<(Epoch, Option<u64>)> {
        if self.channel != BREAK {
            return None;
        }
        let epoch = Epoch::from_text(std::str::from_utf8(self.message.data()).ok()?)?;
        Some((epoch, self.message.event().map(|_| self.message.seq())))
    }

    /// True if acts may be missing that stood before this break.
    pub(crate) fn may_lack_acts(&self) -> bool {
        self.channel == BREAK && self.message.event() == Some(UNREAD)
    }
}
