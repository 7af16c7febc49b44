//! Requests that are sent and not answered.

use super::entry::Entry;
use super::lanes::Lane;
use crate::attach::{MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES, RESERVED};
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Requests that publish. The answers come in their order.
    publishing: VecDeque<Entry>,
    /// The bytes of these frames.
    pub(super) bytes: usize,
    /// Other requests. The answers come in any order.
    asked: VecDeque<Entry>,
}

impl InFlight {
    /// Requests that were sent to another attachment, and to which the hub repeats its answers.
    pub(super) fn of(sent: Vec<Entry>) -> Self {
        let mut in_flight = InFlight::default();
        sent.into_iter().for_each(|entry| in_flight.push(entry));
        in_flight
    }

    pub(super) fn push(&mut self, entry: Entry) {
        match entry.content.lane() {
            Lane::Publishing => {
                self.bytes += entry.frame.len();
                self.publishing.push_back(entry);
            }
            Lane::Free => self.asked.push_back(entry),
        }
    }

    /// Takes out the request that is answered. `None`: there is none with this number, or another one that publishes
    /// comes first.
    pub(super) fn take(&mut self, number: u64) -> Option<Entry> {
        if self.publishing.front().is_some_and(|entry| entry.content.is(number)) {
            let entry = self.publishing.pop_front()?;
            self.bytes -= entry.frame.len();
            return Some(entry);
        }
        let at = self.asked.iter().position(|entry| entry.content.is(number))?;
        self.asked.remove(at)
    }

    /// Takes out all: those that publish, and the others.
    pub(super) fn take_all(&mut self) -> (VecDeque<Entry>, VecDeque<Entry>) {
        let InFlight { publishing, asked, .. } = std::mem::take(self);
        (publishing, asked)
    }

    /// Whether a request publishes, and waits for its answer.
    pub(super) fn publishes(&self, number: u64) -> bool {
        self.publishing.iter().any(|entry| entry.content.is(number))
    }

    /// Whether any request publishes.
    pub(super) fn publishes_any(&self) -> bool {
        !self.publishing.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.publishing.len() + self.asked.len()
    }

    /// Whether there may be one more request that publishes. A large one goes alone.
    pub(super) fn may_publish(&self, next: &Entry) -> bool {
        let has_room = self.publishing.is_empty() || self.bytes + next.frame.len() <= MAX_IN_FLIGHT_BYTES;
        has_room && self.publishing.len() < MAX_IN_FLIGHT - RESERVED && self.may_ask()
    }

    /// Whether there may be one more request that does not publish.
    pub(super) fn may_ask(&self) -> bool {
        self.len() < MAX_IN_FLIGHT
    }
}
