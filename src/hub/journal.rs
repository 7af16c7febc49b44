//! Hubs whose messages outlive them. Each message is noted in a journal, in the order of the numbers.
//!
//! The journal belongs to an engine. A hub notes a message under its lock when it gives the number, so the order is the
//! same. The journal writes nothing at that time: another thread does so later.

use super::keys::Key;
use super::state::State;
use super::{ClientId, Hub, Mark, Message, Outgoing, Pending, Publication, Published, Refused};
use crate::error::{Error, Kind};
use std::hash::BuildHasher;
use std::sync::Arc;

/// The origin of a message from another process: the session of an attached host, and its request number. It is used to
/// recognise a request that the host sends again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The host's session.
    pub(crate) session: [u8; 16],
    /// The user that the host runs as.
    pub(crate) uid: u32,
    /// The host's number of the request.
    pub(crate) number: u64,
}

/// A message in the form in which it is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted<'a> {
    /// Its channel. Empty for a broadcast.
    pub(crate) channel: &'a str,
    pub(crate) event: Option<&'a str>,
    pub(crate) key: Option<Key<'a>>,
    pub(crate) binary: bool,
    /// Set if it is the beginning or the end of a stream.
    pub(crate) mark: Option<Mark>,
    pub(crate) origin: Option<Origin>,
    /// The client that does not get it.
    pub(crate) except: Option<ClientId>,
    pub(crate) data: &'a [u8],
}

/// The journal in which a hub notes what it does. No call but [`Journal::begin`] waits.
pub(crate) trait Journal: Send + Sync {
    /// Called before the hub's lock is taken to note something. It may wait until the journal is ready, for two
    /// seconds at most.
    /// The error says why nothing can be noted at present.
    fn begin(&self) -> Result<(), Error>;
    /// True if the journal takes notes. Called under the hub's lock. A journal that is ready stays ready until the lock
    /// is released, unless it fails.
    fn is_ready(&self) -> bool;
    /// True if there is room for this many bytes of messages (see [`Noted::weight`]). It stays true until more is
    /// noted.
    fn has_room(&self, bytes: usize) -> bool;
    /// Notes a message. False if there is no room for it; nothing was done then.
    fn note(&self, number: u64, noted: &Noted<'_>, now: u64) -> bool;
    /// Does the part of noting that needs no lock.
    fn prepare(&self, noted: &Noted<'_>, now: u64) -> Vec<u8>;
    /// Notes prepared messages with their numbers. All of them count, or none.
    fn note_prepared(&self, batch: Vec<(u64, Vec<u8>)>);
    /// Notes that a channel's history was cleared, after the message with this number.
    fn note_cleared(&self, number: u64, channel: &str);
    /// True if messages may only be delivered after they are synced. Then each request is left here after it was noted.
    fn lasts_first(&self) -> bool;
    /// Leaves a request, which is settled when everything noted before it is synced.
    fn leave(&self, pending: Pending);
    /// Called after the hub's lock was released, if something was noted.
    fn wake(&self);
}

/// From this size on, a message is copied before the hub's lock is taken.
const LARGE: usize = 4096;

impl<'a> Noted<'a> {
    pub(super) fn of(outgoing: &'a Outgoing<'_>, origin: Option<Origin>) -> Self {
        let message = &outgoing.message;
        Noted {
            channel: outgoing.channel,
            event: message.event(),
            key: outgoing.key,
            binary: message.binary(),
            mark: message.mark(),
            origin,
            except: message.except(),
            data: message.data(),
        }
    }

    /// The message for a hub that takes it from a log. `make` builds it.
    pub(crate) fn outgoing(&self, make: impl FnOnce(&Publication<'_>) -> Arc<Message>) -> Outgoing<'a> {
        let Noted { channel, event, key, binary, mark, except, data, .. } = *self;
        let message = make(&Publication { event, binary, mark, except, ..Publication::new(channel, data) });
        Outgoing { channel, key, message, span: None }
    }

    /// True if it has nothing that a mark can't have. Data is passed over: transports do not show it.
    pub(crate) fn fits_mark(&self) -> bool {
        !self.channel.is_empty() && self.event.is_none() && self.key.is_none() && self.except.is_none()
    }

    /// About how many bytes it takes in a journal.
    pub(crate) fn weight(&self) -> usize {
        let key = match self.key {
            None => 0,
            Some(Key::Host(key)) => key.len(),
            Some(Key::Client(user, key)) => user.len() + key.len(),
        };
        let except = if self.except.is_some() { ClientId::BYTES } else { 0 };
        self.data.len() + self.channel.len() + self.event.map_or(0, str::len) + key + except + 64
    }
}

impl Hub {
    /// Like [`Hub::publish`], with a journal.
    #[inline(never)]
    pub(super) fn publish_noted(
        &self,
        journal: &dyn Journal,
        outgoing: Outgoing<'_>,
        origin: Option<Origin>,
        now: u64,
    ) -> Result<Published, Error> {
        let hash = self.hasher.hash_one(outgoing.channel);
        let prepared = (outgoing.message.data().len() >= LARGE).then(|| {
            let noted = Noted::of(&outgoing, origin);
            (noted.weight(), journal.prepare(&noted, now))
        });
        let published = self.change_noted(journal, |state| {
            if let Some(seq) = state.find_before(&outgoing, now) {
                return Ok(Published { seq, shards: 0, subscribers: 0 });
            }
            let known = state.find_room(outgoing.channel, hash, &self.mailboxes)?;
            let number = state.seq + 1;
            match prepared {
                Some((weight, prepared)) if journal.has_room(weight) => journal.note_prepared(vec![(number, prepared)]),
                None if journal.note(number, &Noted::of(&outgoing, origin), now) => {}
                _ => return Err(Refused::Unwritten),
            }
            Ok(state.place(outgoing, known, hash, now, &self.mailboxes))
        })?;
        let published = published.map_err(|refused| self.refused(refused))?;
        journal.wake();
        self.wake(published.shards);
        Ok(published)
    }

    /// Like [`Hub::publish_batch`], with a journal.
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
        let done = self.change_noted(journal, |state| {
            if !journal.has_room(weights.iter().sum()) {
                return Err(Refused::Unwritten);
            }
            let channels = batch.iter().map(|outgoing| outgoing.channel).zip(hashed.iter().copied());
            state.check_room(channels, &self.mailboxes)?;
            let mut notes = Vec::with_capacity(batch.len());
            for ((outgoing, hash), prepared) in batch.into_iter().zip(hashed).zip(prepared) {
                if let Some(seq) = state.find_before(&outgoing, now) {
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
        })?;
        done.map_err(|refused| self.refused(refused))?;
        journal.wake();
        self.wake(reached);
        Ok(results)
    }

    /// Like [`Hub::change`], when the journal takes notes.
    pub(super) fn change_noted<T>(
        &self,
        journal: &dyn Journal,
        work: impl FnOnce(&mut State) -> T,
    ) -> Result<T, Error> {
        let mut work = Some(work);
        loop {
            let done = self.change(|state| journal.is_ready().then(|| work.take().map(|work| work(state))));
            match done.flatten() {
                Some(done) => return Ok(done),
                None => journal.begin()?,
            }
        }
    }

    /// Does something short while no thread publishes.
    pub(crate) fn while_nobody_publishes<T>(&self, work: impl FnOnce() -> T) -> T {
        let _state = self.state.lock();
        work()
    }

    /// The number of the message that was published with a key.
    pub(crate) fn known(&self, (channel, key): (&str, Key<'_>), now: u64) -> Option<u64> {
        self.change(|state| state.known(channel, key, now))
    }

    /// Like [`Hub::publish`], for a message of an attached host.
    pub(crate) fn publish_of(&self, origin: Origin, outgoing: Outgoing<'_>, now: u64) -> Result<Published, Error> {
        match &self.journal {
            None => self.publish(outgoing, now),
            Some(journal) => self.publish_noted(&**journal, outgoing, Some(origin), now),
        }
    }

    /// Like [`Hub::publish_batch`], for messages of an attached host.
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

/// The error if too much waits to be written.
pub(super) fn unwritten() -> Error {
    Error::new(Kind::Busy, "too much waits to be written to the log (option engine_buffer); nothing was published")
}
