//! Hubs that deliver a message only after it is synced.
//!
//! A message takes its number and goes into the journal. Its request waits there until the message is on the disk. Then
//! the journal settles the request: the hub applies the message, in the order of the numbers, and tells its position.
//! So nobody has seen a message that a loss of power takes back.

use super::awaited::{Awaited, Bell};
use super::state::State;
use super::{Hub, Journal, Mailbox, Message, Noted, Origin, Outgoing, Published, Refused};
use crate::error::Error;
use crate::trace::Span;
use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The number of messages that are applied under the lock at once. It is small in tests.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 64 };
/// The memory that a waiting message takes beside its bytes.
const ITEM: usize = 160;

/// The result of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The positions of the messages, in the order of the request.
    pub(crate) places: Vec<Published>,
    /// True if the channel that was to be cleared existed.
    pub(crate) cleared: bool,
    /// True if nobody knows what became of some of the messages. Their numbers are 0.
    pub(crate) unknown: bool,
    /// The index of the epoch that the numbers belong to: how many breaks of a log came before.
    pub(crate) epoch: u32,
}

/// Gets the result of a request, once. The journal's thread calls it, so it must not block. If the journal ends before
/// it could write, this is dropped without a call.
pub(crate) type OnSettled = Box<dyn FnOnce(Settled) + Send>;

/// The time at which a request is done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placing {
    /// It is done now, and nobody is told.
    Now(Settled),
    /// It is done when it is synced. Then `on_settled` gets the result, if there is one.
    Later,
}

/// A request that waits for a sync.
pub(crate) struct Pending {
    items: VecDeque<Item>,
    settled: Settled,
    told: Told,
    weight: usize,
}

/// Who is told the result of a request.
pub(super) enum Told {
    Nobody,
    Callback(OnSettled),
    /// A thread that waits. It is woken together with others.
    Caller(Arc<Awaited>),
}

impl From<Option<OnSettled>> for Told {
    fn from(on_settled: Option<OnSettled>) -> Self {
        on_settled.map_or(Told::Nobody, Told::Callback)
    }
}

enum Item {
    Message {
        number: u64,
        channel: Box<str>,
        hash: u64,
        message: Arc<Message>,
        since: u64,
        span: Option<Span>,
    },
    /// The message was published before, as its key tells.
    Known(u64),
    Cleared(Box<str>),
}

impl Pending {
    fn new(items: VecDeque<Item>, told: Told, weight: usize) -> Self {
        let settled = Settled { places: Vec::with_capacity(items.len()), ..Settled::default() };
        Pending { items, settled, told, weight }
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// True if a caller waits for the result.
    pub(crate) fn is_awaited(&self) -> bool {
        !matches!(self.told, Told::Nobody)
    }

    /// Names the bell that is rung when this request, and others, are settled.
    pub(crate) fn wait_at(&self, bell: &Arc<Bell>) {
        if let Told::Caller(awaited) = &self.told {
            awaited.wait_at(bell);
        }
    }

    /// Does the next step of the request. `None` if a mailbox is full; nothing was done then.
    fn step(&mut self, state: &mut State, now: u64, mailboxes: &[Arc<Mailbox>]) -> Option<u64> {
        let Some(item) = self.items.pop_front() else { return Some(0) };
        match item {
            Item::Known(seq) => self.settled.places.push(Published { seq, shards: 0, subscribers: 0 }),
            Item::Cleared(channel) => self.settled.cleared = state.clear(&channel),
            Item::Message { number, channel, hash, message, since, span } => {
                let Ok(known) = state.find_room(&channel, hash, mailboxes) else {
                    self.items.push_front(Item::Message { number, channel, hash, message, since, span });
                    return None;
                };
                let outgoing = Outgoing { channel: &channel, key: None, message, span };
                let published = state.apply(number, outgoing, (known, hash), (since, now), mailboxes);
                self.settled.places.push(published);
                return Some(published.shards);
            }
        }
        Some(0)
    }

    fn tell(self) {
        match self.told {
            Told::Nobody => {}
            Told::Callback(on_settled) => on_settled(self.settled),
            Told::Caller(awaited) => awaited.leave(self.settled),
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("items", &self.items.len()).finish_non_exhaustive()
    }
}

impl Hub {
    /// True if messages are delivered only after they are synced, so that a request is done later than its call.
    pub(crate) fn lasts_first(&self) -> bool {
        self.lasting
    }

    /// True if a journal of this hub settles the requests.
    pub(super) fn lasts_in_journal(&self) -> bool {
        self.lasting && self.outlet.is_none()
    }

    /// Publishes messages, all or none, with no other message between them. If this hub waits for syncs, `on_settled`
    /// gets the result later, if there is one. Otherwise the messages are published now.
    pub(crate) fn submit(
        &self,
        batch: Vec<Outgoing<'_>>,
        origin: Option<Origin>,
        now: u64,
        on_settled: Option<OnSettled>,
    ) -> Result<Placing, Error> {
        self.submit_told(batch, origin, now, on_settled.into())
    }

    pub(super) fn submit_told(
        &self,
        batch: Vec<Outgoing<'_>>,
        origin: Option<Origin>,
        now: u64,
        told: Told,
    ) -> Result<Placing, Error> {
        if let Some(outlet) = &self.outlet {
            let on_settled = match told {
                Told::Callback(on_settled) => Some(on_settled),
                Told::Nobody | Told::Caller(_) => None,
            };
            return self.offer(&**outlet, &batch, origin, on_settled);
        }
        match &self.journal {
            Some(journal) if self.lasting => self.submit_lasting(&**journal, batch, origin, now, told),
            Some(journal) => {
                let places = self.publish_batch_noted(&**journal, batch, origin, now)?;
                Ok(Placing::Now(Settled { places, ..Settled::default() }))
            }
            None => Ok(Placing::Now(Settled { places: self.publish_batch(batch, now)?, ..Settled::default() })),
        }
    }

    fn submit_lasting(
        &self,
        journal: &dyn Journal,
        batch: Vec<Outgoing<'_>>,
        origin: Option<Origin>,
        now: u64,
        told: Told,
    ) -> Result<Placing, Error> {
        journal.begin()?;
        let prepare = |outgoing: &Outgoing<'_>| {
            let noted = Noted::of(outgoing, origin);
            (noted.weight() + ITEM, journal.prepare(&noted, now))
        };
        let (weights, prepared): (Vec<usize>, Vec<Vec<u8>>) = batch.iter().map(prepare).unzip();
        let weight = weights.iter().sum();
        let hashed: Vec<u64> = batch.iter().map(|outgoing| self.hasher.hash_one(outgoing.channel)).collect();
        let done = self.change(|state| {
            if !journal.has_room(weight) {
                return Err(Refused::Unwritten);
            }
            let channels = batch.iter().map(|outgoing| outgoing.channel).zip(hashed.iter().copied());
            // A full mailbox makes the journal wait, and then its buffer is full and refuses.
            if let Err(Refused::TooMany) = state.check_room(channels, &self.mailboxes) {
                return Err(Refused::TooMany);
            }
            let (mut notes, mut items) = (Vec::with_capacity(batch.len()), VecDeque::with_capacity(batch.len()));
            for ((outgoing, hash), prepared) in batch.into_iter().zip(hashed).zip(prepared) {
                let Outgoing { channel, key, message, span } = outgoing;
                if let Some(seq) = state.find_key(channel, key, now) {
                    if let Some(span) = span {
                        span.found(seq, None);
                        // It ends without the lock.
                        state.kept.spans.push(span);
                    }
                    items.push_back(Item::Known(seq));
                    continue;
                }
                let number = state.take_ahead(channel, key, now);
                notes.push((number, prepared));
                items.push_back(Item::Message { number, channel: channel.into(), hash, message, since: now, span });
            }
            let mut pending = Pending::new(items, told, weight);
            if pending.items.iter().all(|item| matches!(item, Item::Known(seq) if *seq <= state.seq)) {
                while !pending.items.is_empty() {
                    pending.step(state, now, &self.mailboxes);
                }
                return Ok(Placing::Now(pending.settled));
            }
            journal.note_prepared(notes);
            journal.leave(pending);
            Ok(Placing::Later)
        });
        let placing = done.map_err(|refused| self.refused(refused))?;
        journal.wake();
        Ok(placing)
    }

    /// Like [`Hub::clear`]. `on_settled` is as for [`Self::submit`].
    pub(crate) fn submit_clear(&self, channel: &str, on_settled: Option<OnSettled>) -> Result<Placing, Error> {
        let now = |cleared| Placing::Now(Settled { cleared, ..Settled::default() });
        if channel.is_empty() {
            return Ok(now(false));
        }
        if let Some(outlet) = &self.outlet {
            outlet.offer_clear(channel, on_settled)?;
            return Ok(Placing::Later);
        }
        let Some(journal) = &self.journal else { return Ok(now(self.clear(channel))) };
        journal.begin()?;
        let weight = channel.len() + ITEM;
        let done = self.change_noted(&**journal, |state| {
            let waits = state.newest_given() > state.seq;
            if state.id(channel).is_none() && !waits {
                return Ok(now(false));
            }
            if !journal.has_room(weight) {
                return Err(Refused::Unwritten);
            }
            journal.note_cleared(state.newest_given(), channel);
            if !self.lasting {
                return Ok(now(state.clear(channel)));
            }
            journal.leave(Pending::new([Item::Cleared(channel.into())].into(), on_settled.into(), weight));
            Ok(Placing::Later)
        })?;
        let placing = done.map_err(|refused| self.refused(refused))?;
        journal.wake();
        Ok(placing)
    }

    /// Does the requests that are synced now, in order, and tells their results. Callers that wait have theirs, and are
    /// woken when their bell is rung. False if a mailbox is full, and the rest still waits. `nobody` is true if no shard
    /// is left to deliver to.
    pub(crate) fn settle(&self, waiting: &mut VecDeque<Pending>, now: u64, nobody: bool) -> bool {
        let mailboxes = if nobody { &[] } else { &self.mailboxes[..] };
        while !waiting.is_empty() {
            let (mut reached, mut full, mut done) = (0, false, Vec::new());
            self.change(|state| {
                for _ in 0..AT_ONCE {
                    let Some(pending) = waiting.front_mut() else { break };
                    match pending.step(state, now, mailboxes) {
                        Some(shards) => reached |= shards,
                        None => full = true,
                    }
                    if full {
                        break;
                    }
                    if pending.items.is_empty() {
                        done.extend(waiting.pop_front());
                    }
                }
            });
            self.wake(if nobody { 0 } else { reached });
            done.into_iter().for_each(Pending::tell);
            if full {
                return false;
            }
        }
        true
    }
}
