//! Hubs whose messages outlive them: each is noted in a journal, in the order of the numbers.
//!
//! The journal is an engine's. A hub notes a message under its lock, as it gives the number; so the order is the same.
//! Nothing is written there: that is done later, by another thread.

use super::keys::Key;
use super::{Hub, Outgoing, Published, Refused};
use crate::error::{Error, Kind};
use std::hash::BuildHasher;

/// Who had a message published that another process sent: a life of an attached host, and its own count. What a host
/// sends again is recognised by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The life of the host.
    pub(crate) session: [u8; 16],
    /// The user that the host runs as.
    pub(crate) uid: u32,
    /// The host's number of the request.
    pub(crate) number: u64,
}

/// A message as it is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted<'a> {
    /// Its channel; empty: a broadcast.
    pub(crate) channel: &'a str,
    pub(crate) event: Option<&'a str>,
    pub(crate) key: Option<Key<'a>>,
    pub(crate) binary: bool,
    pub(crate) origin: Option<Origin>,
    pub(crate) data: &'a [u8],
}

/// Where a hub notes what it does. Calls never wait for a disk.
pub(crate) trait Journal: Send + Sync {
    /// To be called before the hub's lock is taken, and something noted. An error: nothing can be noted now, and why.
    fn begin(&self) -> Result<(), Error>;
    /// Whether there is room for so many bytes of messages, by [`Noted::weight`]. Stays true until more is noted.
    fn has_room(&self, bytes: usize) -> bool;
    /// Notes a message.
    fn note(&self, number: u64, noted: &Noted<'_>, now: u64);
    /// What can be done of that before the hub's lock is taken.
    fn prepare(&self, noted: &Noted<'_>, now: u64) -> Vec<u8>;
    /// Notes messages that were prepared, with their numbers: all of them count, or none.
    fn note_prepared(&self, batch: Vec<(u64, Vec<u8>)>);
    /// Notes that a channel's history was cleared, after the message of that number.
    fn note_cleared(&self, number: u64, channel: &str);
    /// To be called after the hub's lock was given back, if something was noted.
    fn wake(&self);
}

/// From how many bytes on a message is copied before the hub's lock is taken.
const LARGE: usize = 4096;

impl<'a> Noted<'a> {
    fn of(outgoing: &'a Outgoing<'_>, origin: Option<Origin>) -> Self {
        let message = &outgoing.message;
        Noted {
            channel: outgoing.channel,
            event: message.event(),
            key: outgoing.key,
            binary: message.binary(),
            origin,
            data: message.data(),
        }
    }

    /// About how many bytes it takes in a journal.
    pub(crate) fn weight(&self) -> usize {
        let key = match self.key {
            None => 0,
            Some(Key::Host(key)) => key.len(),
            Some(Key::Client(user, key)) => user.len() + key.len(),
        };
        self.data.len() + self.channel.len() + self.event.map_or(0, str::len) + key + 64
    }
}

impl Hub {
    /// As [`Hub::publish`].
    #[inline(never)]
    pub(super) fn publish_noted(
        &self,
        journal: &dyn Journal,
        outgoing: Outgoing<'_>,
        origin: Option<Origin>,
        now: u64,
    ) -> Result<Published, Error> {
        journal.begin()?;
        let hash = self.hasher.hash_one(outgoing.channel);
        let noted = Noted::of(&outgoing, origin);
        let weight = noted.weight();
        let prepared = (weight >= LARGE).then(|| journal.prepare(&noted, now));
        let published = self.change(|state| {
            if let Some(seq) = state.find_key(outgoing.channel, outgoing.key, now) {
                return Ok(Published { seq, shards: 0, subscribers: 0 });
            }
            if !journal.has_room(weight) {
                return Err(Refused::Unwritten);
            }
            state.check_one(outgoing.channel, hash, &self.mailboxes)?;
            let number = state.seq + 1;
            match prepared {
                None => journal.note(number, &Noted::of(&outgoing, origin), now),
                Some(prepared) => journal.note_prepared(vec![(number, prepared)]),
            }
            Ok(state.publish(outgoing, hash, now, &self.mailboxes))
        });
        let published = published.map_err(|refused| self.refused(refused))?;
        journal.wake();
        self.wake(published.shards);
        Ok(published)
    }

    /// As [`Hub::publish_batch`].
    #[inline(never)]
    pub(super) fn publish_batch_noted(
        &self,
        journal: &dyn Journal,
        batch: Vec<Outgoing<'_>>,
        origin: Option<Origin>,
        now: u64,
    ) -> Result<Vec<Published>, Error> {
        journal.begin()?;
        let prepare = |outgoing: &Outgoing<'_>| {
            let noted = Noted::of(outgoing, origin);
            (noted.weight(), journal.prepare(&noted, now))
        };
        let (weights, prepared): (Vec<usize>, Vec<Vec<u8>>) = batch.iter().map(prepare).unzip();
        let hashed: Vec<u64> = batch.iter().map(|outgoing| self.hasher.hash_one(outgoing.channel)).collect();
        let (mut reached, mut results) = (0, Vec::with_capacity(batch.len()));
        let done = self.change(|state| {
            if !journal.has_room(weights.iter().sum()) {
                return Err(Refused::Unwritten);
            }
            let channels = batch.iter().map(|outgoing| outgoing.channel).zip(hashed.iter().copied());
            state.check_room(channels, &self.mailboxes)?;
            let mut notes = Vec::with_capacity(batch.len());
            for ((outgoing, hash), prepared) in batch.into_iter().zip(hashed).zip(prepared) {
                if let Some(seq) = state.find_key(outgoing.channel, outgoing.key, now) {
                    results.push(Published { seq, shards: 0, subscribers: 0 });
                    continue;
                }
                let published = state.publish(outgoing, hash, now, &self.mailboxes);
                reached |= published.shards;
                notes.push((published.seq, prepared));
                results.push(published);
            }
            journal.note_prepared(notes);
            Ok(())
        });
        done.map_err(|refused| self.refused(refused))?;
        journal.wake();
        self.wake(reached);
        Ok(results)
    }

    /// The same for a message of another process.
    pub(crate) fn publish_of(&self, origin: Origin, outgoing: Outgoing<'_>, now: u64) -> Result<Published, Error> {
        match &self.journal {
            None => self.publish(outgoing, now),
            Some(journal) => self.publish_noted(&**journal, outgoing, Some(origin), now),
        }
    }

    /// The same for messages of another process.
    pub(crate) fn publish_batch_of(
        &self,
        origin: Origin,
        batch: Vec<Outgoing<'_>>,
        now: u64,
    ) -> Result<Vec<Published>, Error> {
        match &self.journal {
            None => self.publish_batch(batch, now),
            Some(journal) => self.publish_batch_noted(&**journal, batch, Some(origin), now),
        }
    }
}

/// Said where too much waits to be written.
pub(super) fn unwritten() -> Error {
    Error::new(Kind::Busy, "too much waits to be written to the log (option engine_buffer); nothing was published")
}
