//! Restores a hub from a log, before the hub is shared.

use super::lineage::Lineage;
use super::{Epoch, Hub, Journal, Link, Outgoing};
use std::sync::Arc;

impl Hub {
    /// The log begins with the number `first`. Earlier messages are gone.
    pub(crate) fn begin_before(&mut self, first: u64) {
        self.state.lock().begin_before(first);
    }

    /// The last number of a channel before the log begins.
    pub(crate) fn restore_end(&mut self, channel: &str, seq: u64) {
        self.state.lock().restore_end(channel, seq);
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

    /// The last number of each channel that exists, and of the broadcasts. Other threads get the lock in between.
    pub(crate) fn ends(&self) -> Vec<(u64, Arc<str>)> {
        let mut found = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.state.lock().ends(from, &mut found);
        }
        found
    }
}
