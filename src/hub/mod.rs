//! The hub: channels, one sequence, history, subscriptions. No sockets, no clock: time is passed in, as
//! milliseconds of any clock that does not go back.
//!
//! A publish takes its number, enters the history and the mailboxes of the shards under one lock. So every shard sees
//! messages in the order of the sequence, one number is a position in all channels, and a subscriber that joins at a
//! position under the same lock can neither miss nor repeat one. The lock is held for some hundred nanoseconds and
//! never across a system call: whoever must be woken is woken after it.

mod forgotten;
mod history;
mod journal;
mod keys;
mod lineage;
mod lock;
mod mailbox;
mod message;
mod name;
mod position;
mod replay;
mod restoring;
mod retention;
mod slow;
mod state;
#[cfg(test)]
mod steps_tests;
mod subscribing;
mod sync;
#[cfg(test)]
mod tests;

pub(crate) use journal::{Journal, Noted, Origin};
pub use keys::Key;
pub(crate) use lineage::{Link, MAX_LINKS};
pub use mailbox::{Delivery, Mailbox, Wake};
pub use message::{Form, Message, Publication, FORMS};
pub use name::{check_channel, check_event, check_key, check_text, ChannelPattern, MAX_CHANNEL};
pub use position::{Epoch, Position, ELSEWHERE, MAX_POSITION};
pub use replay::{Cut, Item, Join, Replay, Request, Start};
pub use retention::Retention;
pub use slow::SlowPolicy;

use crate::error::{Error, Kind};
use foldhash::fast::RandomState;
use lock::Lock;
use state::State;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// A channel's number while anything of it exists.
pub type ChannelId = u32;

/// The channel that everybody is subscribed to.
pub const BROADCAST: ChannelId = 0;

/// How many shards a hub can serve: they are bits of a mask.
pub const MAX_SHARDS: usize = 64;

/// How much a hub keeps.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Bounds for channels that no pattern fits.
    pub retention: Retention,
    /// Bounds for channels that a pattern fits; the closest pattern counts.
    pub patterns: &'a [(ChannelPattern, Retention)],
    /// What gives way to slow clients in channels that no pattern fits, and in broadcasts.
    pub slow_policy: SlowPolicy,
    /// The same for channels that a pattern fits; the closest pattern counts.
    pub slow_patterns: &'a [(ChannelPattern, SlowPolicy)],
    /// Bytes of all history together.
    pub total_bytes: usize,
    /// How long idempotency keys are remembered; 0: not at all.
    pub key_window_ms: u64,
    /// Microseconds, to stamp a sample of the messages with.
    pub clock_us: fn() -> u64,
}

/// A message's place, and whom it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub seq: u64,
    /// One bit for each shard that must be woken.
    shards: u64,
    /// The channel's subscribers at that moment.
    pub subscribers: u32,
}

/// A message's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its number.
    pub seq: u64,
    /// The channel's subscribers at that moment; 0 for the messages of a batch that went to another process.
    pub subscribers: u32,
    /// Which life of the hub the number is of: an attached hub may be started anew. Counted from 0.
    pub(crate) life: u32,
}

impl From<Published> for Placed {
    fn from(published: Published) -> Self {
        Placed { seq: published.seq, subscribers: published.subscribers, life: 0 }
    }
}

/// Subscriptions of one channel that ended on a shard.
#[derive(Debug, Clone, Copy)]
pub struct Leave {
    /// The channel.
    pub channel: ChannelId,
    /// How many.
    pub count: u32,
    /// Whether the shard has none left.
    pub last: bool,
}

/// What there is to say about a channel.
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
}

/// Why the state refused a publish.
enum Refused {
    Busy,
    TooMany,
    /// Too much waits to be written by an engine.
    Unwritten,
}

/// One message to publish: the channel and key by name, the rest as built by [`Message::new`].
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The channel; empty is the broadcast.
    pub channel: &'a str,
    /// The idempotency key.
    pub key: Option<Key<'a>>,
    /// The message.
    pub message: Arc<Message>,
}

/// See the module.
pub struct Hub {
    epoch: Epoch,
    state: Lock<State>,
    /// The state's own: names are hashed before its lock is taken.
    hasher: RandomState,
    mailboxes: Vec<Arc<Mailbox>>,
    busy: AtomicU64,
    /// Where messages are noted that outlive the hub.
    journal: Option<Arc<dyn Journal>>,
}

impl Hub {
    /// A hub that delivers into these mailboxes, one for each shard, at most [`MAX_SHARDS`]. `epoch` names this life of
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
        }
    }

    /// The name of this life of the history.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Keeps more or less from now on; what is too much goes at once. Holds the lock for as long as that takes.
    pub fn reconfigure(&self, settings: &Settings<'_>, now: u64) {
        self.change(|state| state.reconfigure(settings, now));
    }

    /// Publishes one message. [`Kind::Busy`]: a mailbox is full, and nothing was done.
    pub fn publish(&self, outgoing: Outgoing<'_>, now: u64) -> Result<Published, Error> {
        if let Some(journal) = &self.journal {
            return self.publish_noted(&**journal, outgoing, None, now);
        }
        let hash = self.hasher.hash_one(outgoing.channel);
        let published = self.change(|state| {
            if let Some(seq) = state.find_key(outgoing.channel, outgoing.key, now) {
                return Ok(Published { seq, shards: 0, subscribers: 0 });
            }
            state.publish_alone(outgoing, hash, now, &self.mailboxes)
        });
        let published = published.map_err(|refused| self.refused(refused))?;
        self.wake(published.shards);
        Ok(published)
    }

    /// Publishes several messages with nothing between them, all or none.
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
                if let Some(seq) = state.find_key(outgoing.channel, outgoing.key, now) {
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

    /// Drops history that has outlived its age, some hundred messages of it. To be called about once a second, and
    /// again while it says that there is more: in between others have the lock, which for all of a large history would
    /// be held for tenths of a second.
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

    /// Forgets a channel's history; its subscribers stay. False: there is no such channel.
    pub fn clear(&self, channel: &str) -> bool {
        let clear = |state: &mut State| {
            let cleared = state.clear(channel);
            if let Some(journal) = self.journal.as_ref().filter(|_| cleared) {
                journal.note_cleared(state.seq, channel);
            }
            cleared
        };
        let cleared = !channel.is_empty() && self.change(clear);
        self.journal.iter().for_each(|journal| journal.wake());
        cleared
    }

    /// A channel that exists.
    pub fn channel(&self, channel: &str) -> Option<ChannelInfo> {
        if channel.is_empty() {
            return None;
        }
        self.state.lock().info(channel)
    }

    /// The number of a channel that exists, which is another's after it is gone.
    pub fn channel_id(&self, channel: &str) -> Option<ChannelId> {
        if channel.is_empty() {
            return None;
        }
        self.state.lock().id(channel)
    }

    /// Channels whose name begins with `prefix`, at most `limit`, in no order. Others have the lock in between: a
    /// channel that comes or goes meanwhile may be missing.
    pub fn channels(&self, prefix: &str, limit: usize) -> Vec<ChannelInfo> {
        let mut found = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.state.lock().list(prefix, limit, from, &mut found);
        }
        found
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
            // The broadcast is no channel that anybody named.
            channels: state.channels.len() as u64 - 1,
            subscriptions: state.subscriptions,
            history_messages: state.total_messages as u64,
            history_bytes: state.total_bytes as u64,
            // Each message of this hub has a number, and nothing else has.
            published: state.seq - state.began_at,
            duplicates: state.duplicates,
            busy: self.busy.load(Ordering::Relaxed),
        }
    }

    /// Does something that may drop messages. The last of them is dropped when the lock is free again: that gives
    /// memory back, and mostly it is the only one.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let (done, evicted) = {
            let mut state = self.state.lock();
            (work(&mut state), state.evicted.take())
        };
        drop(evicted);
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
