//! Where one thread waits for what another tells it, once.
//!
//! A lock and a condition variable, which leave nothing behind with a thread: the channels of std and of tokio keep
//! thread-locals with destructors, and those who wait here are the host's threads.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Waiter<T> {
    told: Mutex<Option<T>>,
    came: Condvar,
}

impl<T> Default for Waiter<T> {
    fn default() -> Self {
        Waiter { told: Mutex::new(None), came: Condvar::new() }
    }
}

impl<T> Waiter<T> {
    /// Waits at most that long; `Duration::MAX` is for ever.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<T> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.came.wait_timeout_while(told, timeout, |told| told.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }

    pub(crate) fn tell(&self, what: T) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        self.came.notify_one();
    }

    /// What was told, if it was.
    pub(crate) fn take(&self) -> Option<T> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
