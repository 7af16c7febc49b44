//! The hub: channels, one sequence, history, subscriptions. It has no sockets and no clock. Times are passed in, as
//! milliseconds of any clock that does not go back.
//!
//! A publish takes its number and enters the history and the mailboxes of the shards under one lock. So every shard
//! sees the messages in the order of the sequence, and one number is a position in all channels. A subscriber that
//! joins at a position under the same lock can neither miss nor repeat a message. The lock is held for some hundred
//! nanoseconds and never across a system call: threads are woken after it.

mod act;
#[cfg_attr(not(test), allow(dead_code))]
mod applying;
#[cfg(test)]
mod applying_tests;
mod awaited;
mod client_id;
mod forgotten;
mod history;
mod journal;
mod keys;
mod lasting;
mod lineage;
mod listing;
mod lock;
mod mailbox;
mod mark;
mod message;
mod name;
mod outgoing;
mod outlet;
mod patterns;
#[cfg(test)]
mod patterns_tests;
mod position;
mod replacement;
mod replay;
mod restoring;
mod retention;
#[cfg(test)]
mod retention_tests;
mod settings;
mod slow;
#[cfg(test)]
mod spans_tests;
mod state;
#[cfg(test)]
mod steps_tests;
mod streams;
#[cfg(test)]
mod streams_tests;
mod subscribing;
mod sync;
mod tap;
mod telling;
#[cfg(test)]
mod telling_tests;
#[cfg(test)]
mod tests;

pub use crate::trace::Traceparent;
pub(crate) use act::Act;
pub(crate) use applying::{Break, Change, Loss};
pub(crate) use awaited::Bell;
pub use client_id::ClientId;
pub(crate) use journal::{Journal, Noted, Origin};
pub use keys::Key;
pub(crate) use lasting::{OnSettled, Pending, Placing, Settled};
pub(crate) use lineage::{Link, MAX_LINKS};
pub use mailbox::{Delivery, Mailbox, Wake};
pub use mark::Mark;
pub use message::{Form, Message, Publication};
pub use name::{channel_of_user, check_channel, check_event, check_key, check_text, ChannelPattern, MAX_CHANNEL};
pub(crate) use name::{is_the_librarys, user_of, OF_THE_LIBRARY};
pub use outgoing::Outgoing;
pub(crate) use outlet::Outlet;
pub(crate) use patterns::{check_pattern, fits as pattern_fits, is_id_of_pattern, is_pattern, Prefixes};
pub use position::{Epoch, Position, ELSEWHERE, MAX_POSITION};
pub use replacement::Replacement;
pub(crate) use replay::Ended;
pub use replay::{Cut, Item, Join, Replay, Request, Start};
pub(crate) use restoring::{Ends, EndsListing};
pub use retention::Retention;
pub use settings::Settings;
pub use slow::SlowPolicy;
pub(crate) use tap::{Seen, Tap};
pub(crate) use telling::GapPosition;

#[cfg(test)]
pub(crate) use state::streams::planted;

use crate::error::{Error, Kind};
use crate::trace::Tracer;
use foldhash::fast::RandomState;
use lock::Lock;
use state::State;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// A channel's number while anything of it exists. Patterns have numbers as well, which no channel has.
pub type ChannelId = u32;

/// The channel that every connection is subscribed to.
pub const BROADCAST: ChannelId = 0;

/// The largest number of shards of a hub: they are bits of a mask.
pub const MAX_SHARDS: usize = 64;

/// The position of a published message, and its reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub seq: u64,
    /// One bit for each shard that must be woken.
    shards: u64,
    /// The channel's subscribers at that moment, and those of the patterns that fit it.
    pub subscribers: u32,
}

/// The position of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its number.
    pub seq: u64,
    /// The channel's subscribers at that moment, and those of the patterns that fit it. 0 for the messages of a batch that
    /// went to another process.
    pub subscribers: u32,
    /// The index of the epoch that the number belongs to, counted from 0. An attached host counts the epochs of its
    /// hubs.
    pub(crate) epoch_index: u32,
}

impl Published {
    /// A message that was found, or has come back, with that number.
    pub(crate) fn found(seq: u64, subscribers: u32) -> Self {
        Published { seq, shards: 0, subscribers }
    }
}

impl From<Published> for Placed {
    fn from(published: Published) -> Self {
        Placed { seq: published.seq, subscribers: published.subscribers, epoch_index: 0 }
    }
}

/// Subscriptions of one channel or pattern that ended on a shard.
#[derive(Debug, Clone, Copy)]
pub struct Leave {
    /// The channel or pattern.
    pub channel: ChannelId,
    /// How many.
    pub count: u32,
    /// Whether the shard has none left.
    pub last: bool,
}

/// The state of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Subscriptions to it.
    pub subscribers: u32,
    /// Messages in its history.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The newest message in its history.
    pub newest: Option<u64>,
}

/// Gauges and counters of a hub.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct HubStats {
    pub seq: u64,
    pub channels: u64,
    pub subscriptions: u64,
    pub history_messages: u64,
    pub history_bytes: u64,
    pub published: u64,
    pub duplicates: u64,
    pub busy: u64,
    pub ended: u64,
    pub patterns: u64,
}

/// The reason why the state refused a publish.
enum Refused {
    Busy,
    TooMany,
    /// Too much waits to be written to the log.
    Unwritten,
}

/// See the module.
pub struct Hub {
    epoch: Epoch,
    state: Lock<State>,
    /// The same hasher as the state's: names are hashed before the lock is taken.
    hasher: RandomState,
    mailboxes: Vec<Arc<Mailbox>>,
    busy: AtomicU64,
    /// The journal of the messages, if they outlive the hub.
    journal: Option<Arc<dyn Journal>>,
    /// Takes what is published, if the hub follows a log.
    outlet: Option<Arc<dyn Outlet>>,
    /// True if a message is delivered only when the journal has synced it, or when it has come back from a log.
    lasting: bool,
    /// Begins the spans of messages, if any are traced.
    tracer: Option<Arc<Tracer>>,
}

impl Hub {
    /// A hub that delivers into these mailboxes, one for each shard, at most [`MAX_SHARDS`]. `epoch` names this run of
    /// the history.
    pub fn new(epoch: Epoch, settings: &Settings<'_>, mailboxes: Vec<Arc<Mailbox>>) -> Self {
        assert!(mailboxes.len() <= MAX_SHARDS, "the option threads is bounded to {MAX_SHARDS}");
        let hasher = RandomState::default();
        Hub {
            epoch,
            state: Lock::new(State::new(settings, hasher.clone())),
            hasher,
            mailboxes,
            busy: AtomicU64::new(0),
            journal: None,
            outlet: None,
            lasting: false,
            tracer: None,
        }
    }

    /// The name of this run of the history.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Applies new bounds. Messages beyond them are dropped at once, and the lock is held for as long as that takes.
    pub fn reconfigure(&self, settings: &Settings<'_>, now: u64) {
        self.change(|state| state.reconfigure(settings, now));
    }

    /// Publishes one message. [`Kind::Busy`] if a mailbox is full; nothing was done then.
    pub fn publish(&self, outgoing: Outgoing<'_>, now: u64) -> Result<Published, Error> {
        if let Some(journal) = &self.journal {
            return self.publish_noted(&**journal, outgoing, None, now);
        }
        let hash = self.hasher.hash_one(outgoing.channel);
        let published = self.change(|state| {
            if let Some(seq) = state.find_before(&outgoing, now) {
                return Ok(Published { seq, shards: 0, subscribers: 0 });
            }
            state.publish_alone(outgoing, hash, now, &self.mailboxes)
        });
        let published = published.map_err(|refused| self.refused(refused))?;
        self.wake(published.shards);
        Ok(published)
    }

    /// Publishes several messages, all or none, with no other message between them.
    pub fn publish_batch(&self, batch: Vec<Outgoing<'_>>, now: u64) -> Result<Vec<Published>, Error> {
        if let Some(journal) = &self.journal {
            return self.publish_batch_noted(&**journal, batch, None, now);
        }
        let mut reached = 0;
        let mut results = Vec::with_capacity(batch.len());
        let hashed: Vec<u64> = batch.iter().map(|outgoing| self.hasher.hash_one(outgoing.channel)).collect();
        let done = self.change(|state| {
            let channels = batch.iter().map(|outgoing| outgoing.channel).zip(hashed.iter().copied());
            state.check_room(channels, &self.mailboxes)?;
            let publish = |(outgoing, hash): (Outgoing<'_>, u64)| {
                if let Some(seq) = state.find_before(&outgoing, now) {
                    return Published { seq, shards: 0, subscribers: 0 };
                }
                let published = state.publish(outgoing, hash, now, &self.mailboxes);
                reached |= published.shards;
                published
            };
            results.extend(batch.into_iter().zip(hashed).map(publish));
            Ok(())
        });
        done.map_err(|refused| self.refused(refused))?;
        self.wake(reached);
        Ok(results)
    }

    /// Drops some hundred messages of the history that are too old. Returns true if there are more. Call it about once
    /// a second, and again at once while there are more. In between, other threads get the lock: for all of a large
    /// history it would be held for tenths of a second.
    pub fn expire(&self, now: u64) -> bool {
        let more = self.change(|state| {
            let more = state.expire(now);
            if !more {
                state.look_at_room(now);
            }
            more
        });
        if !more {
            self.state.calm();
        }
        more
    }

    /// Clears a channel's history. Its subscribers stay. Returns false if the channel does not exist. Only for hubs
    /// without a log.
    pub fn clear(&self, channel: &str) -> bool {
        !channel.is_empty() && self.change(|state| state.clear(channel))
    }

    /// A channel that exists.
    pub fn channel(&self, channel: &str) -> Option<ChannelInfo> {
        if channel.is_empty() {
            return None;
        }
        self.state.lock().info(channel)
    }

    /// The number of a channel that exists. After the channel is gone, another channel may get it.
    pub fn channel_id(&self, channel: &str) -> Option<ChannelId> {
        if channel.is_empty() {
            return None;
        }
        self.state.lock().id(channel)
    }

    /// The newest message's number.
    pub fn seq(&self) -> u64 {
        self.state.lock().seq
    }

    /// Gauges and counters.
    pub fn stats(&self) -> HubStats {
        let state = self.state.lock();
        HubStats {
            seq: state.seq,
            // The broadcast channel does not count.
            channels: state.channels.len() as u64 - 1,
            subscriptions: state.subscriptions,
            history_messages: state.kept.messages as u64,
            history_bytes: state.kept.bytes as u64,
            // Each message of this hub has one number. What else has numbers is not counted.
            published: state.seq.wrapping_sub(state.began_at),
            duplicates: state.keys.duplicates(),
            busy: self.busy.load(Ordering::Relaxed),
            ended: state.kept.ended as u64,
            patterns: state.beyond.patterns.len() as u64,
        }
    }

    /// Does something that may drop messages, and end spans. The last of the messages is freed after the lock is
    /// released, since that takes time. Mostly it is the only one. All the spans end there.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let (done, evicted, spans) = {
            let mut state = self.state.lock();
            (work(&mut state), state.kept.evicted.take(), state.kept.take_spans())
        };
        drop((evicted, spans));
        done
    }

    fn wake(&self, shards: u64) {
        let mut rest = shards;
        for mailbox in &self.mailboxes {
            if rest & 1 == 1 {
                mailbox.wake();
            }
            rest >>= 1;
        }
    }

    fn refused(&self, refused: Refused) -> Error {
        match refused {
            Refused::TooMany => Error::new(
                Kind::TooLarge,
                "the batch has more messages for one thread than its mailbox holds (option mailbox)",
            ),
            Refused::Unwritten => {
                self.busy.fetch_add(1, Ordering::Relaxed);
                journal::unwritten()
            }
            Refused::Busy => {
                self.busy.fetch_add(1, Ordering::Relaxed);
                Error::new(Kind::Busy, "the mailbox of a thread is full (option mailbox); nothing was published")
            }
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
