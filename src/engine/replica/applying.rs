//! Applies entries of the log to the hub.

use super::super::contract::EntryId;
use super::super::entry::{Entry, Logged};
use super::super::envelope::{self, Body, Known, Sign};
use super::queue::Step;
use super::Replica;
use crate::hub::{Act, Change, Hub, Origin, Outgoing};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The number of entries that are decoded before they are applied.
const AT_ONCE: usize = 256;
/// How many heartbeats wait at most to be taken.
const BEATS: usize = 1 << 16;

/// What a replica tells of the messages of attached hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Another hub has published a message of a host: its origin, its number, and whether more messages of the same
    /// request follow.
    Published(Origin, u64, bool),
    /// The log has lost some of them. Those that are left come again.
    Lost,
}

/// A heartbeat of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubBeat {
    pub(crate) hub: u64,
    /// How long it is good for. `None`: it does not say that. Zero: the hub ends.
    pub(crate) good_for: Option<Duration>,
    /// The hub's name for operators, if it says one.
    pub(crate) name: Option<Arc<str>>,
    /// False if the log had it before this hub connected to it.
    pub(crate) is_new: bool,
}

/// The present time, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Milliseconds on the hub's clock.
    pub(crate) hub: u64,
    /// Milliseconds since 1970.
    pub(crate) wall: u64,
}

impl Replica {
    /// Applies entries until the queue is empty or a shard's mailbox is full. `hear` gets what other
    /// hubs have published for attached hosts. True if it stopped before a break, so that the outcomes of what
    /// was published before it are told first: their numbers belong to the epoch that ends there.
    pub(crate) fn apply(&mut self, hub: &Hub, now: Now, hear: &mut dyn FnMut(Heard)) -> bool {
        loop {
            match self.queue.front() {
                None => break,
                Some(Step::Break(at)) => {
                    self.own.reached(self.applied);
                    if self.own.has_outcomes() {
                        return true;
                    }
                    if !hub.break_off(at) {
                        break;
                    }
                    if at.loss.is_some() {
                        hear(Heard::Lost);
                    }
                    self.queue.pop();
                }
                Some(Step::Entry(..)) => {
                    if !self.apply_entries(hub, now, hear) {
                        break;
                    }
                }
            }
        }
        self.own.reached(self.applied);
        false
    }

    /// Applies the entries up to the next break. False if a mailbox is full.
    fn apply_entries(&mut self, hub: &Hub, now: Now, hear: &mut dyn FnMut(Heard)) -> bool {
        let mut changes = VecDeque::with_capacity(AT_ONCE.min(self.queue.len()));
        for step in self.queue.iter().take(AT_ONCE) {
            let Step::Entry(number, bytes) = step else { break };
            changes.push_back((*number, self.change(bytes.as_deref(), now)));
        }
        let count = changes.len();
        let cleared = hub.apply(&mut changes, now.hub);
        let left = changes.len();
        drop(changes);
        for _ in left..count {
            let Some(Step::Entry(number, bytes)) = self.queue.pop() else { break };
            self.applied = number;
            let Some((id, body)) = bytes.as_deref().and_then(|bytes| envelope::read(bytes).ok()) else { continue };
            if id.hub == self.environment.hub {
                self.own.returned(id.counter, number);
            }
            match body {
                Body::Entry(Entry::Cleared { .. }) if id.hub == self.environment.hub && cleared.contains(&number) => {
                    self.own.note_cleared(id.counter);
                }
                Body::Entry(Entry::Message(Logged { noted, more, .. })) if id.hub != self.environment.hub => {
                    noted.origin.into_iter().for_each(|origin| hear(Heard::Published(origin, number, more)));
                }
                Body::Heartbeat(sign @ Some(_)) => self.note_beat(id.hub, sign, number),
                // An engine may give entries of its own this form. They are the first of a hub that there is not.
                Body::Heartbeat(None) if id.counter > 1 => self.note_beat(id.hub, None, number),
                Body::Act(Act::Later(kind)) => self.acts.note_unknown(kind),
                Body::Act(_) => self.acts.note(id),
                _ => {}
            }
        }
        left == 0
    }

    fn change<'a>(&self, bytes: Option<&'a [u8]>, now: Now) -> Change<'a> {
        match bytes.and_then(|bytes| envelope::read(bytes).ok()) {
            Some((id, Body::Entry(Entry::Message(logged)))) => self.message(id, &logged, now),
            Some((_, Body::Entry(Entry::Cleared { channel }))) => Change::Cleared(channel),
            Some((_, Body::Ends(Known { epoch, until, floor, channels }))) => {
                Change::Ends { epoch, until, floor, channels }
            }
            // This hub has done its own acts already.
            Some((id, Body::Act(act))) if id.hub != self.environment.hub && self.acts.is_new(id) => Change::Act(act),
            _ => Change::Nothing,
        }
    }

    fn note_beat(&mut self, hub: u64, sign: Option<Sign<'_>>, number: u64) {
        let good_for = sign.map(|sign| Duration::from_millis(sign.good_ms.into()));
        let name = sign.and_then(|sign| sign.name).map(Arc::from);
        let beat = HubBeat { hub, good_for, name, is_new: number > self.connection.old };
        if self.beats.last() != Some(&beat) && self.beats.len() < BEATS {
            self.beats.push(beat);
        }
    }

    /// A message's age counts from its own time. A message whose time is in the future counts as new.
    fn message<'a>(&self, id: EntryId, logged: &Logged<'a>, now: Now) -> Change<'a> {
        let age = now.wall.saturating_sub(logged.time_ms);
        let span = if id.hub == self.environment.hub { self.own.span_of(id.counter) } else { None };
        let outgoing = Outgoing { span, ..logged.noted.outgoing(self.environment.make) };
        Change::Message { outgoing, since: now.hub.wrapping_sub(age) }
    }
}
