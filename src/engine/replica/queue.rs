//! What has come from the log and is not applied yet.

use crate::hub::Break;
use std::collections::VecDeque;

/// The number of entries that may wait to be applied, and their bytes.
const WAITING: usize = 8192;
const WAITING_BYTES: usize = if cfg!(test) { 1 << 12 } else { 16 << 20 };

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    steps: VecDeque<Step>,
    /// The bytes of the entries.
    bytes: usize,
    /// How many breaks have come.
    breaks: u64,
    /// How many breaks that lost something were applied.
    losses: u64,
}

/// One step of what is applied, in order.
#[derive(Debug)]
pub(super) enum Step {
    /// An entry. `None` if it changes nothing and only takes its number.
    Entry(u64, Option<Vec<u8>>),
    Break(Break),
}

impl Queue {
    pub(super) fn push_entry(&mut self, number: u64, bytes: Option<Vec<u8>>) {
        self.bytes += bytes.as_ref().map_or(0, Vec::len);
        self.steps.push_back(Step::Entry(number, bytes));
    }

    pub(super) fn push_break(&mut self, at: Break) {
        self.breaks += 1;
        self.steps.push_back(Step::Break(at));
    }

    pub(super) fn front(&self) -> Option<&Step> {
        self.steps.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    /// Takes out the first step, which is applied.
    pub(super) fn pop(&mut self) -> Option<Step> {
        let step = self.steps.pop_front()?;
        match &step {
            Step::Entry(_, bytes) => self.bytes -= bytes.as_ref().map_or(0, Vec::len),
            Step::Break(at) => self.losses += u64::from(at.loss.is_some()),
        }
        Some(step)
    }

    /// Drops all that is not applied.
    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.bytes = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.steps.len() < WAITING && self.bytes < WAITING_BYTES
    }

    pub(super) fn breaks(&self) -> u64 {
        self.breaks
    }

    pub(super) fn losses(&self) -> u64 {
        self.losses
    }
}
