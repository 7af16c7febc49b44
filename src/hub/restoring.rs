//! Restores a hub from a log, before the hub is shared, and lists the last numbers of channels for later hubs.

#[cfg(test)]
#[path = "last_numbers_tests.rs"]
mod tests;

use super::lineage::Lineage;
use super::state::Listing;
use super::{Epoch, Hub, Journal, Link, Outgoing};
use std::cmp::Reverse;
use std::sync::Arc;

/// The last numbers of channels before a place in the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    /// The last number of each channel that is known, in no particular order. The empty name stands for the broadcasts.
    /// A channel may be there several times. Then the largest number counts.
    pub(crate) channels: Vec<(u64, Arc<str>)>,
    /// No other channel had a message after this number.
    pub(crate) floor: u64,
}

impl Ends {
    /// Nothing is known of the messages before `first`.
    pub(crate) fn unknown(first: u64) -> Self {
        Ends { channels: Vec::new(), floor: first.saturating_sub(1) }
    }

    /// Those that fit into so many bytes. The lowest are left out, and raise the floor. A channel may come twice, as one
    /// that is gone and one that exists: the higher number counts. There may be a million of them, so none is looked up,
    /// and no name is read.
    pub(crate) fn fitting(mut self, room: usize) -> Self {
        // The floor says as much of these.
        let floor = self.floor;
        self.channels.retain(|(number, channel)| *number != floor || channel.is_empty());
        // The broadcasts have no floor, so they come first. No more than these can fit.
        let order = |(number, channel): &(u64, Arc<str>)| Reverse((channel.is_empty(), *number));
        let most = room / 9;
        let mut left_out = 0;
        if self.channels.len() > most {
            self.channels.select_nth_unstable_by_key(most, order);
            left_out = self.channels.drain(most..).map(|(number, _)| number).max().unwrap_or(0);
        }
        self.channels.sort_unstable_by_key(order);
        let mut taken = 0;
        let fits = |(_, channel): &&(u64, Arc<str>)| {
            taken += channel.len() + 9;
            taken <= room
        };
        let fitting = self.channels.iter().take_while(fits).count();
        left_out = self.channels.drain(fitting..).map(|(number, _)| number).fold(left_out, u64::max);
        self.floor = self.floor.max(left_out);
        self
    }
}

impl Hub {
    /// A log will be restored, which needs the names of channels that are gone.
    pub(crate) fn keep_names(&mut self) {
        self.state.lock().keep_names();
    }

    /// The log begins with the number `first`. Earlier messages are gone.
    pub(crate) fn begin_before(&mut self, first: u64) {
        self.state.lock().begin_before(first);
    }

    /// The last numbers of channels before the log begins.
    pub(crate) fn restore_ends<'c>(&mut self, floor: u64, ends: impl Iterator<Item = (u64, &'c str)>) {
        self.state.lock().restore_ends(floor, ends);
    }

    /// Restores a message of the log. `since` is its time on the hub's clock, which may be before the clock's zero.
    pub(crate) fn restore(&mut self, seq: u64, outgoing: Outgoing<'_>, since: u64) {
        self.state.lock().restore(seq, outgoing, since);
    }

    /// Restores that a channel's history was cleared.
    pub(crate) fn restore_cleared(&mut self, channel: &str) {
        self.state.lock().clear(channel);
    }

    /// The log is restored. The hub goes on after its last number, and notes new messages in the journal.
    pub(crate) fn go_on(&mut self, epoch: Epoch, chain: Vec<Link>, last: u64, journal: Arc<dyn Journal>, now: u64) {
        self.epoch = epoch;
        self.lasting = journal.lasts_first();
        self.journal = Some(journal);
        self.state.lock().go_on_after(last, Lineage::new(chain), now);
    }

    /// The last numbers of channels before the number `first`. Other threads get the lock in between.
    pub(crate) fn ends(&self, first: u64) -> Ends {
        let mut listing = EndsListing::new(first);
        while !listing.step(self) {}
        listing.found
    }
}

/// The last numbers of channels before a number, some hundred channels at a time.
#[derive(Debug)]
pub(crate) struct EndsListing {
    first: u64,
    next: Option<Listing>,
    /// What was found so far.
    pub(crate) found: Ends,
}

impl EndsListing {
    pub(crate) fn new(first: u64) -> Self {
        EndsListing { first, next: Some(Listing::Channels(0)), found: Ends::default() }
    }

    /// Goes on. True if it is complete.
    pub(crate) fn step(&mut self, hub: &Hub) -> bool {
        if let Some(from) = self.next {
            self.next = hub.state.lock_for_step().list_ends(self.first, from, &mut self.found);
        }
        self.next.is_none()
    }
}
