//! The state of the log, for other threads: health, metrics, and whether the hub may serve clients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Status {
    why: Mutex<Option<Arc<str>>>,
    kept: Mutex<(Duration, u64)>,
    ready: Mutex<bool>,
    became_ready: Condvar,
    /// Entries that the hub has not applied.
    behind: AtomicU64,
    fences: AtomicU64,
    connects: AtomicU64,
    appends: AtomicU64,
    append_us: AtomicU64,
}

/// Numbers for metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Numbers {
    pub(crate) behind: u64,
    pub(crate) fences: u64,
    /// Connections that were made again.
    pub(crate) reconnects: u64,
    /// Appends that were answered, and how long all of them took.
    pub(crate) appends: u64,
    pub(crate) append_us: u64,
}

impl Status {
    pub(super) fn new(kept: (Duration, u64)) -> Self {
        Status {
            why: Mutex::new(Some("not connected yet".into())),
            kept: Mutex::new(kept),
            ready: Mutex::new(false),
            became_ready: Condvar::new(),
            behind: AtomicU64::new(0),
            fences: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            append_us: AtomicU64::new(0),
        }
    }

    /// Changes how long, and about how many bytes, the log is kept.
    pub(crate) fn set_kept(&self, kept: (Duration, u64)) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    pub(super) fn kept(&self) -> (Duration, u64) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reason why the hub is not healthy. `None`: a heartbeat of its own has just come back from the log.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the reason why it is not healthy. True if that is news.
    pub(super) fn set_failure(&self, why: Option<&str>) -> bool {
        let mut held = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = held.as_deref() != why;
        if is_news {
            *held = why.map(Arc::from);
        }
        is_news
    }

    /// True if the hub has read everything that the log had when the hub began.
    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for that, at most for `time`. True if the hub has read everything.
    pub(crate) fn await_ready(&self, time: Duration) -> bool {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.became_ready.wait_timeout_while(ready, time, |ready| !*ready);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn set_ready(&self) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.became_ready.notify_all();
    }

    pub(crate) fn numbers(&self) -> Numbers {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Numbers {
            behind: get(&self.behind),
            fences: get(&self.fences),
            reconnects: get(&self.connects).saturating_sub(1),
            appends: get(&self.appends),
            append_us: get(&self.append_us),
        }
    }

    pub(super) fn set_behind(&self, entries: u64, fences: u64) {
        self.behind.store(entries, Ordering::Relaxed);
        self.fences.store(fences, Ordering::Relaxed);
    }

    pub(super) fn note_connect(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_append(&self, took: Duration) {
        self.appends.fetch_add(1, Ordering::Relaxed);
        self.append_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }
}
