//! Streams with a beginning and an end: what a hub knows of the marks in its channels' histories.

use super::{Hub, Mark, Outgoing};
use crate::error::Error;

impl Hub {
    /// The number of the newest end of these channels, if all of them have ended. A client that has everything up to
    /// there gets nothing more, unless a channel begins anew.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn all_ended(&self, channels: impl Iterator<Item = super::ChannelId>) -> Option<u64> {
        let state = self.state.lock();
        state.all_ended(channels)
    }

    /// Refuses a mark in a channel whose messages are not kept: clients that come later would never learn of it.
    pub(crate) fn check_mark(&self, channel: &str) -> Result<(), Error> {
        if self.state.lock().keeps(channel) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "channel: {channel} keeps no messages (options history_count and history_bytes), so a client that comes \
             later could not be told that its stream has ended"
        )))
    }
}

impl Outgoing<'_> {
    /// True if this ends a stream.
    pub(super) fn is_end(&self) -> bool {
        self.message.mark() == Some(Mark::End)
    }
}
