//! Lists of channels. Each looks through all channels, some at a time, so that nobody waits for the lock for long.

use super::{ChannelInfo, Hub};

/// So many channels more than are wanted may be kept while they are looked through.
const SLACK: usize = 1024;

impl Hub {
    /// Channels whose names begin with `prefix`, at most `limit` of them, in no particular order. Other threads get the
    /// lock in between, so a channel that comes or goes meanwhile may be missing.
    pub fn channels(&self, prefix: &str, limit: usize) -> Vec<ChannelInfo> {
        let mut found = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.list_some(prefix, limit, from, &mut found);
        }
        found
    }

    /// One step of [`Self::channels`], which looks through some hundred channels. Returns where to go on, if there are
    /// more.
    pub(crate) fn list_some(
        &self,
        prefix: &str,
        limit: usize,
        from: usize,
        found: &mut Vec<ChannelInfo>,
    ) -> Option<usize> {
        self.state.lock_for_step().list(prefix, limit, from, found)
    }

    /// The first channels whose names begin with `prefix`, in the order of names, at most `limit`.
    pub(crate) fn first_channels(&self, prefix: &str, limit: usize) -> Vec<ChannelInfo> {
        let mut found: Vec<ChannelInfo> = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.state.lock_for_step().list(prefix, usize::MAX, from, &mut found);
            if next.is_none() || found.len() > 2 * limit + SLACK {
                found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
                // A channel that moves while they are looked through would come twice.
                found.dedup_by(|one, other| one.name == other.name);
                found.truncate(limit);
            }
        }
        found
    }
}
