//! A hub as a replica of a log that many hubs share.
//!
//! The replica decides, and does no I/O. A thread of the engine takes questions to the log from it ([`Replica::ask`]),
//! gives it the log's answers ([`Replica::answer`]), and makes it apply the entries that arrived ([`Replica::apply`]).
//! So the same code runs over any log that keeps the [contract](super::contract), and in a simulation.
//!
//! After each connect, the hub first checks that the log still has the entries that the hub has read (`agreeing`). The
//! hub reads on and appends only if the log's fence is in force. A message that the hub publishes (`own`) counts as
//! published when it has come back through the tail.

mod acts;
mod agreeing;
mod applying;
mod own;
mod queue;
mod seen;
#[cfg(test)]
mod tests;

#[cfg_attr(not(test), allow(unused_imports))]
pub(crate) use applying::{Heard, HubBeat, Now};
pub(crate) use own::Outcome;

use super::contract::{Answer, Ask, EntryId, Fence, Identity, LogId, Placed, Tailed};
use super::entry::Entry;
use super::envelope::{self, Body, Sign, Unreadable};
use super::file::MakeMessage;
use crate::hub::Epoch;
use crate::trace::Span;
use acts::Acts;
use agreeing::Search;
use own::Own;
use queue::Queue;
use seen::{Kind, Seen};
use std::fmt;
use std::mem;
use std::time::Duration;

/// The things that a replica needs from its engine.
pub(crate) struct Environment {
    /// Random bits that name this life of the hub.
    pub(crate) hub: u64,
    /// Returns random bits, for epochs.
    pub(crate) random: Box<dyn FnMut() -> u64 + Send>,
    /// Makes a message of an entry.
    pub(crate) make: MakeMessage,
    /// The bytes of own entries that may wait to come back. As many bytes are kept after they have come back.
    pub(crate) buffer: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Replica {
    environment: Environment,
    phase: Phase,
    connection: Connection,
    /// The number of the fence under which the hub reads, and the fence.
    fence: Option<(u64, Fence)>,
    seen: Seen,
    own: Own,
    queue: Queue,
    /// The number up to which all entries are applied.
    applied: u64,
    /// The number up to which the subscribers have received everything, or were told of a gap. After a loss it is ahead
    /// of the entries that are read.
    announced: u64,
    /// The epoch of the fence that this hub has asked for, if only this hub says of acts that the log has lost them.
    proposed: Option<Epoch>,
    /// Entries before this number of this log can't be read, although the log says that it has them.
    hole: Option<(LogId, u64)>,
    /// The log should remove the entries before this number. 0 if there is nothing to ask for.
    trim: u64,
    /// The last number of the log, as far as is known.
    end: u64,
    acts: Acts,
    /// The heartbeats that came.
    beats: Vec<HubBeat>,
}

/// The present connection to the log, or the last one.
#[derive(Debug, Default)]
struct Connection {
    /// The number of connections so far.
    attempt: u32,
    /// The last number that the log had when this hub connected to it.
    old: u64,
    /// How many fences of this hub the log has taken.
    fenced: u32,
    /// The hub asks for the last number.
    asks_end: bool,
}

impl Connection {
    /// A new one exists.
    fn begin(&mut self) {
        self.attempt = self.attempt.wrapping_add(1);
        (self.asks_end, self.fenced) = (false, 0);
    }
}

#[derive(Debug)]
enum Phase {
    /// There is no connection.
    Away,
    /// The hub identifies the log. `asked` is true if it waits for an answer.
    Identifying { search: Search, asked: bool },
    /// The hub appends a fence. `expected` is the number of the last fence. `asked` is true if it waits for an answer.
    Fencing { expected: u64, fence: Fence, asked: bool },
    /// The log continues from the last entry that the hub has read. `tail` is true if the hub has asked for the tail.
    Open { tail: bool },
    /// The hub ends the connection. `asked` is true if it waits for the end.
    Leaving { asked: bool },
    /// The entry with this number can't be read, so the hub has stopped reading.
    Stopped(Unreadable, u64),
}

impl Replica {
    pub(crate) fn new(environment: Environment) -> Self {
        let own = Own::new(environment.hub, environment.buffer);
        Replica {
            environment,
            phase: Phase::Away,
            connection: Connection::default(),
            fence: None,
            seen: Seen::default(),
            own,
            queue: Queue::default(),
            applied: 0,
            announced: 0,
            proposed: None,
            hole: None,
            trim: 0,
            end: 0,
            acts: Acts::default(),
            beats: Vec::new(),
        }
    }

    /// A new connection to the log exists.
    pub(crate) fn connected(&mut self) {
        self.connection.begin();
        self.identify();
    }

    /// Takes an entry to publish. Returns its counter, with which its [outcome](Self::outcome) will come. `key` is the
    /// key in the form in which the log compares keys, or empty. `None` if too many bytes wait; nothing was done then.
    pub(crate) fn publish(&mut self, key: &str, body: &Body<'_>) -> Option<u64> {
        self.own.offer(key, body)
    }

    /// The same for an entry that is encoded, by [`envelope::write`] with this hub's bits. `None`, and nothing was done:
    /// too many bytes wait.
    pub(crate) fn publish_encoded(
        &mut self,
        key: &mut Box<str>,
        bytes: &mut Vec<u8>,
        span: &Option<Span>,
    ) -> Option<u64> {
        self.own.has_room(bytes.len()).then(|| self.own.take(mem::take(key), mem::take(bytes), span.clone()))
    }

    /// Publishes a heartbeat that is good for a time, however much waits. Returns its counter. Zero: the hub ends. `name`:
    /// the hub's, for operators.
    pub(crate) fn beat(&mut self, good_for: Duration, name: &str) -> u64 {
        let id = EntryId { hub: self.environment.hub, counter: 0, attempt: 0 };
        let good_ms = good_for.as_millis().try_into().unwrap_or(u32::MAX);
        let sign = Sign { good_ms, name: Some(name) };
        self.own.take("".into(), envelope::write(id, &Body::Heartbeat(Some(sign))), None)
    }

    /// True if the log has taken everything that was published.
    pub(crate) fn all_placed(&self) -> bool {
        self.own.all_placed()
    }

    /// Changes the bytes of own entries that may wait.
    pub(crate) fn set_buffer(&mut self, bytes: usize) {
        self.own.set_bound(bytes);
    }

    /// How many entries of the log, as far as is known, are not applied.
    pub(crate) fn behind(&self) -> u64 {
        self.seen.last().max(self.end).saturating_sub(self.applied)
    }

    /// Asks the log where it ends. A hub that can't apply more reads no more either, and would not learn it.
    pub(crate) fn ask_end(&mut self) {
        self.connection.asks_end = true;
    }

    /// True if entries or breaks wait to be applied.
    pub(crate) fn has_unapplied(&self) -> bool {
        self.queue.front().is_some()
    }

    /// How many breaks the hub has met.
    pub(crate) fn breaks(&self) -> u64 {
        self.queue.breaks()
    }

    /// After how many breaks the hub began to read the log anew, because of a loss. Numbers before such a break mean
    /// nothing after it.
    pub(crate) fn losses(&self) -> u64 {
        self.queue.losses()
    }

    /// The heartbeats that have come since the last call.
    pub(crate) fn beats(&mut self) -> Vec<HubBeat> {
        mem::take(&mut self.beats)
    }

    /// How many acts this version does not know, and the kind of the last one.
    pub(crate) fn unknown_acts(&self) -> (u64, u8) {
        self.acts.unknown()
    }

    /// Makes the log remove the entries before a number, as far as this hub has applied them.
    pub(crate) fn trim(&mut self, before: u64) {
        self.trim = before.min(self.applied);
        // If the log loses them, they are too old to be appended again.
        self.own.forget_before(self.trim);
    }

    /// The next outcome of an entry that was published. Each entry has one outcome.
    pub(crate) fn outcome(&mut self) -> Option<(u64, Outcome)> {
        self.own.outcome()
    }

    /// True if an own entry whose outcome was just taken has cleared a channel that this hub had at that place.
    pub(crate) fn has_cleared(&self, counter: u64) -> bool {
        self.own.has_cleared(counter)
    }

    /// The bytes of own entries that have not come back yet.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.own.pending_bytes()
    }

    /// True if the replica takes more of the tail. Otherwise the tail must wait until more is applied.
    pub(crate) fn takes_more(&self) -> bool {
        self.queue.has_room()
    }

    /// True if the hub reads the log and appends to it.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// The number of an entry that can't be read, and the reason. Nothing after it is applied.
    pub(crate) fn unreadable(&self) -> Option<(u64, Unreadable)> {
        match self.phase {
            Phase::Stopped(why, number) => Some((number, why)),
            _ => None,
        }
    }

    /// The next question to the log. Call this until it returns `None`.
    pub(crate) fn ask(&mut self) -> Option<Ask> {
        match &mut self.phase {
            Phase::Identifying { search, asked: asked @ false } => {
                *asked = true;
                Some(Ask::Identify { number: search.number() })
            }
            Phase::Fencing { expected, fence, asked: asked @ false } => {
                *asked = true;
                Some(Ask::Fence { expected: *expected, fence: fence.clone() })
            }
            Phase::Open { tail: tail @ false } => {
                *tail = true;
                Some(Ask::Tail { after: self.seen.last() })
            }
            Phase::Open { .. } if mem::take(&mut self.connection.asks_end) => Some(Ask::Identify { number: 0 }),
            Phase::Open { .. } if self.trim > 0 => Some(Ask::Trim { before: mem::take(&mut self.trim) }),
            Phase::Open { .. } => {
                self.own.batch(self.connection.attempt).map(|(after, entries)| Ask::Append { after, entries })
            }
            Phase::Leaving { asked: asked @ false } => {
                *asked = true;
                Some(Ask::HangUp)
            }
            _ => None,
        }
    }

    /// Takes an answer of the log.
    pub(crate) fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Identity(identity) => self.identified(identity),
            Answer::Fenced(done) => {
                self.connection.fenced += u32::from(done);
                self.identify();
            }
            Answer::Appended(places) => {
                let ends = places.iter().filter_map(|place| match place {
                    Placed::At(number) => Some(*number),
                    Placed::Known(_) | Placed::Repeated => None,
                });
                self.end = ends.fold(self.end, u64::max);
                self.own.placed(&places);
            }
            Answer::Busy => self.own.refused(),
            Answer::Tail(items) => items.into_iter().for_each(|item| self.take(item)),
            Answer::Lost => {
                self.own.restart();
                if !matches!(self.phase, Phase::Stopped(..)) {
                    self.phase = Phase::Away;
                }
            }
        }
    }

    fn identify(&mut self) {
        if !matches!(self.phase, Phase::Stopped(..)) {
            self.phase = Phase::Identifying { search: Search::at(self.seen.last()), asked: false };
        }
    }

    fn identified(&mut self, identity: Identity) {
        if self.is_open() {
            self.end = self.end.max(identity.end);
        }
        let Phase::Identifying { search, asked: true } = &mut self.phase else { return };
        (self.end, self.connection.old) = (identity.end, identity.end);
        let mut search = mem::take(search);
        self.phase = match search.note(&identity, &self.seen, self.fence.as_ref()) {
            None => Phase::Identifying { search, asked: false },
            Some(agreed) => self.agree(&identity, agreed),
        };
    }

    /// Takes an item of the tail.
    fn take(&mut self, item: Tailed) {
        if !matches!(self.phase, Phase::Open { tail: true }) {
            return;
        }
        let mut kind = Kind::Other;
        let (number, id, bytes) = match item {
            Tailed::Idle { end } => {
                self.end = self.end.max(end);
                return;
            }
            Tailed::Fence { number, id } => (number, id, None),
            Tailed::Entry { number, bytes } => match envelope::read(&bytes) {
                Ok((id, body)) => {
                    kind = match body {
                        Body::Entry(Entry::Message(_)) => Kind::Message,
                        Body::Act(_) => Kind::Act,
                        _ => Kind::Other,
                    };
                    (number, id, Some(bytes))
                }
                Err(why) => {
                    self.phase = Phase::Stopped(why, number);
                    return;
                }
            },
        };
        let next = self.seen.last() + 1;
        if number < next {
            return;
        }
        let unknown_fence = bytes.is_none() && self.fence.as_ref().is_none_or(|(last, _)| number > *last);
        if number > next || unknown_fence {
            // The hub must identify the log again. Entries that arrive before that are dropped.
            if number > next {
                self.hole = self.fence.as_ref().map(|(_, fence)| (fence.log, number));
            }
            self.phase = Phase::Leaving { asked: false };
            return;
        }
        let is_new = self.seen.note(id, kind);
        let bytes = bytes.filter(|_| is_new);
        self.queue.push_entry(number, bytes);
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("hub", &self.hub).field("buffer", &self.buffer).finish_non_exhaustive()
    }
}
