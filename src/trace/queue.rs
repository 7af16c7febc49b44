//! Spans that have ended, and wait for the collector.

use super::span::Ended;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// See the module. It is bounded.
pub(super) struct Queue {
    spans: Mutex<VecDeque<Ended>>,
    room: usize,
    /// Half of the room is taken.
    filled: Notify,
}

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        Queue { spans: Mutex::default(), room, filled: Notify::new() }
    }

    /// False: there is no room.
    pub(super) fn add(&self, ended: Ended) -> bool {
        let len = {
            let mut spans = self.lock();
            if spans.len() >= self.room {
                return false;
            }
            spans.push_back(ended);
            spans.len()
        };
        // Each call wakes a thread, so not each span does it.
        if len == self.room.div_ceil(2) {
            self.filled.notify_one();
        }
        true
    }

    /// Takes those that wait longest.
    pub(super) fn take(&self, most: usize) -> Vec<Ended> {
        let mut spans = self.lock();
        let count = spans.len().min(most);
        spans.drain(..count).collect()
    }

    /// Waits until half of the room is taken.
    #[cfg_attr(not(feature = "trace"), allow(dead_code))]
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Ended>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("room", &self.room).finish_non_exhaustive()
    }
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
        assert_eq!(positions(9), ["e-3", "e-6"]);
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
