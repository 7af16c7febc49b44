//! Hubs that go on with a log: what is in it comes back, before the hub is shared.

use super::lineage::Lineage;
use super::{Epoch, Hub, Journal, Link, Outgoing};
use std::sync::Arc;

impl Hub {
    /// The log begins with that number; what was before it is gone.
    pub(crate) fn begin_before(&mut self, first: u64) {
        self.state.lock().begin_before(first);
    }

    /// The last number of a channel in what was before the log.
    pub(crate) fn restore_end(&mut self, channel: &str, seq: u64) {
        self.state.lock().restore_end(channel, seq);
    }

    /// A message of the log. `since`: its time on the clock of the hub, which may be before the clock's zero.
    pub(crate) fn restore(&mut self, seq: u64, outgoing: Outgoing<'_>, since: u64) {
        self.state.lock().restore(seq, outgoing, since);
    }

    /// A channel's history was cleared.
    pub(crate) fn restore_cleared(&mut self, channel: &str) {
        self.state.lock().clear(channel);
    }

    /// All that the log has is restored: goes on after its last number, and notes in the journal what comes.
    pub(crate) fn go_on(&mut self, epoch: Epoch, chain: Vec<Link>, last: u64, journal: Arc<dyn Journal>, now: u64) {
        self.epoch = epoch;
        self.journal = Some(journal);
        self.state.lock().go_on_after(last, Lineage::new(chain), now);
    }

    /// The last number of each channel that exists, and of the broadcasts. Others have the lock in between.
    pub(crate) fn ends(&self) -> Vec<(u64, Arc<str>)> {
        let mut found = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.state.lock().ends(from, &mut found);
        }
        found
    }
}
