//! Calls that wait until their messages have come back from the log.

use super::inlet::{Encoded, Offered};
use crate::hub::{OnSettled, Published, Settled};
use crate::trace::Span;
use std::collections::HashMap;

/// See the module. Entries are known by the counter that the replica gave them.
#[derive(Default)]
pub(super) struct Requests {
    entries: HashMap<u64, Entry>,
    /// Calls with a caller that waits for the result.
    calls: HashMap<u64, Call>,
    last: u64,
    /// The call from which entries are being taken, and how many were taken.
    taking: Option<(u64, usize)>,
}

struct Entry {
    weight: usize,
    /// Its call and its place there, and its channel, if somebody waits.
    of: Option<(u64, usize, Box<str>)>,
    span: Option<Span>,
}

struct Call {
    on_settled: OnSettled,
    count: usize,
    left: usize,
    clears: bool,
    settled: Settled,
}

impl Requests {
    /// The entries of a call come next.
    pub(super) fn begin(&mut self, offered: &mut Offered) {
        let Some(on_settled) = offered.on_settled.take() else { return };
        self.last += 1;
        let count = offered.entries.len();
        let clears = offered.clears;
        let places = if clears { Vec::new() } else { vec![Published::default(); count] };
        let settled = Settled { places, ..Settled::default() };
        self.calls.insert(self.last, Call { on_settled, count, left: count, clears, settled });
        self.taking = Some((self.last, 0));
    }

    /// The replica has taken an entry.
    pub(super) fn note(&mut self, counter: u64, entry: Encoded) {
        let Encoded { weight, channel, span, .. } = entry;
        let of = self.taking.as_mut().map(|(call, place)| {
            *place += 1;
            (*call, *place - 1, channel.unwrap_or_default())
        });
        self.entries.insert(counter, Entry { weight, of, span });
    }

    /// The span of an entry's message, if it has one.
    pub(super) fn span_of(&self, counter: u64) -> Option<&Span> {
        self.entries.get(&counter)?.span.as_ref()
    }

    /// All entries of the call are taken.
    pub(super) fn taken(&mut self) {
        self.taking = None;
    }

    /// An entry has cleared a channel that was there. Its result comes next.
    pub(super) fn note_cleared(&mut self, counter: u64) {
        let of = self.entries.get(&counter).and_then(|entry| entry.of.as_ref());
        if let Some(call) = of.and_then(|(call, ..)| self.calls.get_mut(call)) {
            call.settled.cleared = true;
        }
    }

    /// An entry has a result. Returns the entry's weight. `number`: its own, or that of the message with its key;
    /// `None`: nobody knows. `epoch`: the index of the number's epoch.
    pub(super) fn done(
        &mut self,
        counter: u64,
        (number, epoch): (Option<u64>, u32),
        subscribers: impl Fn(&str) -> u32,
    ) -> usize {
        let Some(Entry { weight, of, .. }) = self.entries.remove(&counter) else { return 0 };
        let Some((id, place, channel)) = of else { return weight };
        let Some(call) = self.calls.get_mut(&id) else { return weight };
        match number {
            Some(number) if !call.clears => {
                call.settled.places[place] = Published::found(number, subscribers(&channel));
            }
            Some(_) => {}
            None => call.settled.unknown = true,
        }
        if call.settled.epoch != epoch {
            // A position has one epoch. The places before it belong to another epoch.
            call.settled.unknown |= call.left < call.count;
            call.settled.epoch = epoch;
        }
        call.left -= 1;
        if call.left == 0 {
            if let Some(Call { on_settled, settled, .. }) = self.calls.remove(&id) {
                on_settled(settled);
            }
        }
        weight
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of entries that have no result.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
