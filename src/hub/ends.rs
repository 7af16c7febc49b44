//! Streams with a beginning and an end: what a hub knows of the marks in its channels' histories.

use super::{Hub, Mark, Message, Outgoing, Publication};
use crate::error::Error;

impl Hub {
    /// The number of the newest end of these channels, if all of them have ended. A client that has everything up to
    /// there gets nothing more, unless a channel begins anew.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn all_ended(&self, channels: impl Iterator<Item = super::ChannelId>) -> Option<u64> {
        let state = self.state.lock();
        state.all_ended(channels)
    }

    /// Keeps the ends that something followed. The channels have subscribers.
    pub(crate) fn keep_turned(&self, ends: &mut Vec<(super::ChannelId, u64)>) {
        let state = self.state.lock();
        ends.retain(|(channel, end)| state.is_followed(*channel, *end));
    }

    /// Refuses a mark in a channel that would not keep it: clients that come later would never learn of it.
    pub(crate) fn check_mark(&self, channel: &str) -> Result<(), Error> {
        // A mark is as large as a message without data.
        let least = Message::new(&Publication::mark("", Mark::End), false, b"").weight();
        if self.state.lock().keeps_mark(channel, least) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "channel: {channel} keeps no messages (options history_count, and history_bytes and history_total, of which a \
             mark needs {least}), so a client that comes later could not be told that its stream has ended"
        )))
    }
}

impl Outgoing<'_> {
    /// True if this ends a stream.
    pub(super) fn is_end(&self) -> bool {
        self.message.mark() == Some(Mark::End)
    }
}
