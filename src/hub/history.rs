//! The history of one channel: its newest messages, and the number of the last message that was dropped.

use super::message::Message;
use std::collections::VecDeque;
use std::sync::Arc;

/// Some of a channel's messages, in the order of the sequence.
pub(super) type Messages<'h> = std::collections::vec_deque::Iter<'h, Arc<Message>>;

/// Messages of one channel in the order of the sequence.
#[derive(Debug, Default)]
pub(super) struct History {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
    /// The number of the newest dropped message. A subscriber that has seen less has missed messages.
    trimmed: u64,
}

impl History {
    /// An empty history of a channel whose messages up to `trimmed` are gone.
    pub(super) fn trimmed_at(trimmed: u64) -> Self {
        History { trimmed, ..History::default() }
    }

    pub(super) fn push(&mut self, message: Arc<Message>) {
        self.bytes += message.weight();
        self.messages.push_back(message);
    }

    /// Removes the oldest message, and returns it.
    pub(super) fn trim_oldest(&mut self) -> Option<Arc<Message>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.weight();
        self.trimmed = message.seq();
        // A channel that was busy once must not keep its memory for ever.
        if self.messages.capacity() > 64 && self.messages.len() * 4 < self.messages.capacity() {
            self.messages.shrink_to(self.messages.len() * 2);
        }
        Some(message)
    }

    /// Removes the newest message, which no subscriber needs any more, and returns it.
    pub(super) fn take_newest(&mut self) -> Option<Arc<Message>> {
        let message = self.messages.pop_back()?;
        self.bytes -= message.weight();
        Some(message)
    }

    /// True if the message with this number is there.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.messages.binary_search_by_key(&seq, |message| message.seq()).is_ok()
    }

    /// The oldest message.
    pub(super) fn first_message(&self) -> Option<&Arc<Message>> {
        self.messages.front()
    }

    /// Notes a message that was never kept.
    pub(super) fn skip(&mut self, seq: u64) {
        self.trimmed = seq;
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.messages.front().map(|message| message.seq())
    }

    pub(super) fn newest(&self) -> Option<u64> {
        self.messages.back().map(|message| message.seq())
    }

    /// The newest message before a number.
    pub(super) fn newest_before(&self, seq: u64) -> Option<u64> {
        let before = self.messages.partition_point(|message| message.seq() < seq);
        Some(self.messages.get(before.checked_sub(1)?)?.seq())
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn trimmed(&self) -> u64 {
        self.trimmed
    }

    /// The messages after `seq`, oldest first.
    pub(super) fn after(&self, seq: u64) -> Messages<'_> {
        let start = self.messages.partition_point(|message| message.seq() <= seq);
        self.messages.range(start..)
    }

    /// The newest `count` messages, oldest first.
    pub(super) fn last(&self, count: usize) -> Messages<'_> {
        self.messages.range(self.messages.len().saturating_sub(count)..)
    }

    /// The messages after one number and up to another, oldest first.
    pub(super) fn between(&self, after: u64, until: u64) -> Messages<'_> {
        let start = self.messages.partition_point(|message| message.seq() <= after);
        let end = self.messages.partition_point(|message| message.seq() <= until);
        self.messages.range(start..end.max(start))
    }

    /// The newest `count` messages up to a number, oldest first.
    pub(super) fn last_until(&self, count: usize, until: u64) -> Messages<'_> {
        let end = self.messages.partition_point(|message| message.seq() <= until);
        self.messages.range(end.saturating_sub(count)..end)
    }
}
