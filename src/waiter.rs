//! A value that one thread hands to another once, and for which the other waits.
//!
//! It is made of a lock and a condition variable, which need no thread-locals. The channels of std and of tokio keep
//! thread-locals with destructors, and the threads that wait here are the host's.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The value, once it is there.
#[derive(Debug)]
pub(crate) struct Waiter<T> {
    value: Mutex<Option<T>>,
    came: Condvar,
}

impl<T> Default for Waiter<T> {
    fn default() -> Self {
        Waiter { value: Mutex::new(None), came: Condvar::new() }
    }
}

impl<T> Waiter<T> {
    /// Waits for the value, at most for `timeout`. `Duration::MAX` waits for ever.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<T> {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.came.wait_timeout_while(value, timeout, |value| value.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }

    pub(crate) fn tell(&self, what: T) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        self.came.notify_one();
    }

    /// Takes the value if it is there, without waiting.
    pub(crate) fn take(&self) -> Option<T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
