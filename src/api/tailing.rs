//! What is published, for an operator who looks on.

use super::Api;
use crate::error::{Error, Kind};
use crate::hub::{ChannelPattern, Epoch, Seen, Tap};
use crate::sys::clock;
use std::sync::Arc;

/// A tap of the hub. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Tail {
    api: Arc<Api>,
    tap: Arc<Tap>,
    /// The epoch of the last message, and its index.
    epoch: Option<(u32, Epoch)>,
}

impl Tail {
    /// Begins to look on at the channels that match, and with `*` at the broadcasts.
    pub(crate) fn begin(api: &Arc<Api>, pattern: ChannelPattern) -> Result<Self, Error> {
        let tap = api.context.hub.tap(pattern).ok_or_else(|| {
            Error::new(Kind::Busy, "too many tails are under way; end one of them, or call again later")
        })?;
        Ok(Tail { api: api.clone(), tap, epoch: None })
    }

    /// What waits longest.
    pub(crate) fn take(&mut self) -> Option<Seen> {
        self.tap.take()
    }

    /// The epoch with this index.
    pub(crate) fn epoch(&mut self, index: u32) -> &Epoch {
        let known = self.epoch.take().filter(|(known, _)| *known == index);
        let epoch = known.unwrap_or_else(|| (index, self.api.context.hub.epoch_at(index)));
        &self.epoch.insert(epoch).1
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.api.context.hub.untap(&self.tap);
    }
}

/// A time of the hub's clock in milliseconds since 1970.
pub(crate) fn unix_ms(since: u64) -> u64 {
    // A time before the clock's zero is a very large number.
    let age = (clock::monotonic_ms().wrapping_sub(since) as i64).max(0) as u64;
    clock::unix_ms().saturating_sub(age)
}
