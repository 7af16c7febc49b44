//! The attached hosts. Only the thread of the attach socket knows them: it notes their number, and answers the question
//! which ones are attached.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// An attached host, as an operator sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AttachedHost {
    /// The option `attach_name` of the host.
    pub(crate) name: Box<str>,
    /// Names this attachment. A host that attaches again has another number.
    pub(crate) number: u64,
    pub(crate) process: i32,
    pub(crate) user: u32,
    /// The version of the attach protocol that it speaks.
    pub(crate) version: u16,
    pub(crate) attached_ms: u64,
    /// The connections that it has handed over in this attachment.
    pub(crate) adopted: u64,
    /// It has asked for events.
    pub(crate) takes_events: bool,
    /// Events that it has no room for yet.
    pub(crate) events: u64,
    /// Its requests that can't be done yet, and their bytes.
    pub(crate) requests: u64,
    pub(crate) request_bytes: u64,
    /// Its requests that wait for the log to acknowledge them.
    pub(crate) unanswered: u64,
    /// Its questions that wait for answers of shards or hubs.
    pub(crate) questions: u64,
    /// Bytes that its socket has not taken.
    pub(crate) unsent: u64,
    /// For how long an event, a request that can't be done, or a byte has waited without a break.
    pub(crate) behind_ms: u64,
}

/// Called with the hosts.
pub(crate) type Tell = Box<dyn FnOnce(Vec<AttachedHost>) + Send>;

/// What the other threads know of the attached hosts.
#[derive(Default)]
pub(crate) struct Hosts {
    count: AtomicUsize,
    /// The questions that wait for the thread.
    waiting: Mutex<Vec<Tell>>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

partial_debug!(Hosts { count });

impl Hosts {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn set_count(&self, count: usize) {
        self.count.store(count, Ordering::Relaxed);
    }

    /// Asks. If no host can attach, the answer comes at once.
    pub(crate) fn ask(&self, tell: Tell) {
        match self.wake.get() {
            Some(wake) => {
                self.lock().push(tell);
                wake();
            }
            None => tell(Vec::new()),
        }
    }

    /// From now on a thread answers. `wake` makes it look.
    pub(crate) fn answered_by(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let _ = self.wake.set(wake);
    }

    /// Takes the questions.
    pub(crate) fn take(&self) -> Vec<Tell> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tell>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
