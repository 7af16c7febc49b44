//! Restores a hub from a log, before the hub is shared.

use super::lineage::Lineage;
use super::state::Listing;
use super::{Epoch, Hub, Journal, Link, Outgoing};
use std::sync::Arc;

/// The last numbers of channels before a place in the log.
#[derive(Debug, Default)]
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
        let mut found = Ends::default();
        let mut next = Some(Listing::Channels(0));
        while let Some(from) = next {
            next = self.state.lock_for_step().list_ends(first, from, &mut found);
        }
        found
    }
}
