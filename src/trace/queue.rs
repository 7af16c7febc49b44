//! Spans that have ended, and wait for the collector.

use super::span::Ended;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// See the module. It is bounded.
pub(super) struct Queue {
    spans: Mutex<Spans>,
    /// Those that were there when somebody took the first of them. So nobody who adds one waits until many are taken.
    taken: Mutex<Spans>,
    /// The number of both.
    len: AtomicUsize,
    room: usize,
    /// Half of the room is taken.
    filled: Notify,
}

partial_debug!(Queue { room });

/// A queue that grows moves what it has, while others wait for its lock. So it has only references.
type Spans = VecDeque<Box<Ended>>;

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        let (spans, taken) = Default::default();
        Queue { spans, taken, len: AtomicUsize::new(0), room, filled: Notify::new() }
    }

    /// False: there is no room.
    pub(super) fn add(&self, ended: Ended) -> bool {
        let ended = Box::new(ended);
        let len = {
            let mut spans = lock(&self.spans);
            // It grows only under this lock.
            if self.len.load(Ordering::Relaxed) >= self.room {
                return false;
            }
            spans.push_back(ended);
            self.len.fetch_add(1, Ordering::Relaxed) + 1
        };
        // Each call wakes a thread, so not each span does it.
        if len == self.room.div_ceil(2) {
            self.filled.notify_one();
        }
        true
    }

    /// Takes those that wait longest.
    pub(super) fn take(&self, most: usize) -> Vec<Ended> {
        let mut taken = lock(&self.taken);
        let mut all = Vec::new();
        loop {
            if taken.is_empty() {
                std::mem::swap(&mut *taken, &mut *lock(&self.spans));
            }
            let count = taken.len().min(most - all.len());
            if count == 0 {
                break;
            }
            all.extend(taken.drain(..count).map(|ended| *ended));
            self.len.fetch_sub(count, Ordering::Relaxed);
        }
        all
    }

    /// Waits until half of the room is taken.
    #[cfg_attr(not(feature = "trace"), allow(dead_code))]
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

fn lock(spans: &Mutex<Spans>) -> MutexGuard<'_, Spans> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::tests::tracer;

    #[test]
    fn the_queue_is_bounded_and_keeps_what_came_first() {
        let tracer = tracer(1, 3);
        for seq in 1..=5 {
            tracer.begin(None, "a", 1).unwrap().place(seq, None, 0, 0);
        }
        assert_eq!((tracer.queue.len(), tracer.outcomes()[2]), (3, ("dropped", 2)));
        let positions = |most| -> Vec<_> {
            let taken = tracer.queue.take(most).into_iter();
            taken.map(|ended| ended.progress.position.unwrap()).collect()
        };
        assert_eq!(positions(2), ["e-1", "e-2"]);
        tracer.begin(None, "a", 1).unwrap().place(6, None, 0, 0);
        assert_eq!((tracer.queue.len(), tracer.outcomes()[2]), (2, ("dropped", 2)), "there is room again");
        assert_eq!(positions(9), ["e-3", "e-6"]);
        assert_eq!((tracer.queue.len(), positions(9).len()), (0, 0));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_when_half_of_the_room_is_taken() {
        let tracer = tracer(1, 4);
        let publish = || _ = tracer.begin(None, "a", 1).unwrap().place(1, None, 0, 0);
        publish();
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), tracer.queue.filled()).await;
        assert!(early.is_err(), "a quarter is not enough");
        publish();
        tracer.queue.filled().await;
    }
}
