//! Streams with a beginning and an end: what a hub knows of the marks in its channels' histories.

use super::message::Place;
use super::replay::{Ended, Item, Replay};
use super::{Hub, Mark, Message, Outgoing, Publication, SlowPolicy};
use crate::error::Error;
use std::sync::Arc;

impl Hub {
    /// The number of the newest end of these channels, if all of them have ended. A client that has everything up to
    /// there gets nothing more, unless a channel begins anew.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn all_ended(&self, channels: impl Iterator<Item = super::ChannelId>) -> Option<u64> {
        let state = self.state.lock();
        state.all_ended(channels)
    }

    /// The number of a channel's end, if its stream has ended.
    pub(crate) fn end_of(&self, channel: &str) -> Option<u64> {
        self.state.lock().ended_at(channel)
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

impl Replay {
    /// Tells a subscriber that wants new messages only which of its channels have ended: there it would wait for ever.
    pub(super) fn tell_ends(&mut self) {
        let last = self.ends.iter().rposition(|ended| ended.seq <= self.position);
        let told = self.ends.iter().enumerate().filter(|(_, ended)| ended.seq <= self.position);
        // All are at the subscriber's position: with a lower one a subscriber that comes back would get older messages of
        // other channels. Only the last one has it: a subscriber that is cut off before comes back for all of them.
        let seq = |place| if Some(place) == last { self.position } else { NO_POSITION };
        let told: Vec<Item> = told.map(|(place, ended)| end_at(&ended.name, seq(place))).collect();
        self.items.extend(told);
    }

    /// Tells a subscriber that came with a position which of its channels had ended before.
    pub(crate) fn tell_passed_ends(&mut self) {
        let Some(since) = self.since else { return };
        let passed = self.ends.iter().filter(|ended| ended.seq <= since);
        self.items.splice(..0, passed.map(|ended| end_at(&ended.name, since)).collect::<Vec<_>>());
    }
}

impl Replay {
    /// Tells a subscriber which of its channels have ended, where it has got the end otherwise. It is told behind all
    /// others: it would stand among messages that the subscriber has.
    pub(crate) fn tell_known_ends(&mut self) {
        let is_end_of = |item: &Item, name: &str| {
            item.message().is_some_and(|message| message.mark() == Some(Mark::End)) && item.channel() == Some(name)
        };
        let is_told = |ended: &&Ended| self.items.iter().any(|item| is_end_of(item, &ended.name));
        let known = self.ends.iter().filter(|ended| ended.seq <= self.position && !is_told(ended));
        let known: Vec<Item> = known.map(|ended| end_at(&ended.name, self.position)).collect();
        self.items.extend(known);
    }
}

/// The number of an end that has no position.
const NO_POSITION: u64 = 0;

impl Message {
    /// False for an end that is told where another one has the position of both.
    pub(crate) fn has_position(&self) -> bool {
        self.seq() != NO_POSITION
    }
}

/// The end of a channel at a subscriber's position.
fn end_at(channel: &Arc<str>, seq: u64) -> Item {
    let mut end = Message::new(&Publication::mark("", Mark::End), false, b"");
    Message::place(&mut end, &Place { seq, channel: Some(channel), slow: SlowPolicy::Disconnect, stamp: 0 });
    Item::Message(end)
}
