//! The age and the size of the entries in the log. From these a hub knows which entries the log may forget.
//!
//! A hub notes from time to time the number that it has come to. Entries from before the hub began count as new at its
//! beginning: the log keeps rather too much than too little.

use super::super::contract::Tailed;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The retention is met this exactly.
const PARTS: u32 = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Marks {
    marks: VecDeque<Mark>,
    /// Bytes that were read, in all.
    bytes: u64,
    /// How often the log has lost entries, as far as the marks know.
    losses: u64,
}

#[derive(Debug)]
struct Mark {
    number: u64,
    at: Instant,
    bytes: u64,
}

impl Marks {
    pub(super) fn new() -> Self {
        Marks { marks: VecDeque::new(), bytes: 0, losses: 0 }
    }

    /// The log has lost entries that often. After another loss, what it has now counts as new.
    pub(super) fn note_losses(&mut self, losses: u64) {
        if losses != self.losses {
            *self = Marks { losses, ..Marks::new() };
        }
    }

    pub(super) fn count(&mut self, piece: &[Tailed]) {
        let bytes = |item: &Tailed| match item {
            Tailed::Entry { bytes, .. } => bytes.len() as u64,
            Tailed::Fence { .. } | Tailed::Idle { .. } => 0,
        };
        self.bytes += piece.iter().map(bytes).sum::<u64>();
    }

    /// The number before which the log may forget everything, if that is news. Everything up to `number` is applied.
    pub(super) fn look(&mut self, number: impl Fn() -> u64, (age, most): (Duration, u64)) -> Option<u64> {
        let now = Instant::now();
        if self.marks.back().is_some_and(|last| last.number > number()) {
            // These are numbers of a life of the log that is over. What it has now counts as new.
            self.marks.clear();
        }
        let due = self.marks.back().is_none_or(|last| {
            now - last.at >= (age / PARTS).max(Duration::from_secs(1))
                || self.bytes - last.bytes > most / u64::from(PARTS)
        });
        if due {
            self.marks.push_back(Mark { number: number(), at: now, bytes: self.bytes });
        }
        let mut before = None;
        while let Some(first) = self.marks.front() {
            if now - first.at <= age && self.bytes - first.bytes <= most {
                break;
            }
            before = Some(first.number + 1);
            self.marks.pop_front();
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn numbers_of_another_life_of_the_log_are_forgotten() {
        let mut marks = Marks::new();
        let kept = (Duration::from_secs(640), 1 << 30);
        for second in 0..600u64 {
            assert_eq!(marks.look(|| second, kept), None);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // The log has lost all but 100 entries, and gets others.
        for second in 0..600u64 {
            assert_eq!(marks.look(|| 100 + second, kept), None, "after {second} s");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_or_too_much_is_forgotten_and_nothing_else() {
        let mut marks = Marks::new();
        let kept = (Duration::from_secs(640), 6400);
        let mut forgotten = Vec::new();
        for second in 0..1000u64 {
            forgotten.extend(marks.look(|| second, kept));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((300..=360).contains(forgotten.last().unwrap()), "{forgotten:?}");
        assert!(marks.marks.len() <= PARTS as usize + 2);
        for _ in 0..100 {
            marks.count(&[Tailed::Entry { number: 1, bytes: vec![0; 100] }]);
            forgotten.extend(marks.look(|| 1000, kept));
        }
        assert_eq!(forgotten.last(), Some(&1001), "100 of them are 10000 bytes");
    }
}
