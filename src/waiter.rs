//! A value that one thread hands to another once, and for which the other waits.
//!
//! It is made of a lock and a condition variable, which need no thread-locals. The channels of std and of tokio keep
//! thread-locals with destructors, and the threads that wait here are the host's.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The value, once it is there.
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
    /// Waits for the value, at most for `timeout`. `Duration::MAX` waits for ever.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<T> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.came.wait_timeout_while(told, timeout, |told| told.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }

    pub(crate) fn tell(&self, what: T) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        self.came.notify_one();
    }

    /// Takes the value if it is there, without waiting.
    pub(crate) fn take(&self) -> Option<T> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
