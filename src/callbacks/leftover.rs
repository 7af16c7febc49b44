//! Threads that may still run after their server has stopped, and the latches that tell when they have ended.

use crate::runtime::Work;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the end of a server waits for the host's functions at least. Time to be told the last events and lines.
const GRACE: Duration = Duration::from_secs(1);

/// A thread that still runs after its server has stopped. One of the host's functions has not returned, the disk of the
/// log does not answer, or a line does not get through the descriptor of the option `log_fd`. A callback thread keeps the
/// host's data until the function returns, then frees it and ends.
#[derive(Debug)]
pub struct Leftover {
    latch: Arc<Latch>,
    thread: JoinHandle<()>,
    /// Another thread that is left over from the same server.
    before: Option<Box<Leftover>>,
    why: &'static str,
}

impl Leftover {
    /// Waits for the end of the thread of a log. It is left over if it has not ended after `time`.
    pub(crate) fn of_log(latch: Arc<Latch>, thread: JoinHandle<()>, time: Duration) -> Option<Self> {
        let ended = latch.wait(time);
        Leftover::unless(ended, latch, thread, "the disk of the log (option engine) does not answer")
    }

    /// Joins a thread that has ended, or keeps it with the reason why it has not.
    pub(super) fn unless(ended: bool, latch: Arc<Latch>, thread: JoinHandle<()>, why: &'static str) -> Option<Self> {
        let left = Leftover { latch, thread, before: None, why };
        if ended {
            left.join();
            return None;
        }
        Some(left)
    }

    /// Combines two threads that are left over from the same server.
    pub(crate) fn and(self, before: Option<Leftover>) -> Self {
        Leftover { before: before.map(Box::new), ..self }
    }

    /// The reason why the thread is left over.
    pub(crate) fn why(&self) -> &'static str {
        self.why
    }

    pub(crate) fn latches(&self) -> Vec<Arc<Latch>> {
        let before = self.before.as_ref().map_or_else(Vec::new, |before| before.latches());
        before.into_iter().chain([self.latch.clone()]).collect()
    }

    /// Waits for the end of the thread. It ends at once after the latch is set.
    pub(crate) fn join(self) {
        let _ = self.thread.join();
        if let Some(before) = self.before {
            before.join();
        }
    }
}

/// How long the end of a server waits for one of its threads: the time that is left, and [`GRACE`] at least.
pub(crate) fn patience(until: Option<Instant>) -> Duration {
    until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()).max(GRACE))
}

/// Work that sets a latch when it has ended.
pub(crate) fn latched(work: Work) -> (Arc<Latch>, Work) {
    let latch = Arc::new(Latch::default());
    let sets = SetsLatch(latch.clone());
    let run = move || {
        let _sets = sets;
        work();
    };
    (latch, Box::new(run))
}

/// Whether a callback thread still has something of the host.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// No function of the host may be called any more.
    abandoned: bool,
    /// The thread has no function and no data of the host any more.
    ended: bool,
}

impl Latch {
    /// Whether the thread has let go of the host, after `time` at the latest.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    /// Lets no call begin any more. True: the thread has let go of the host just now.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.state();
        state.abandoned = true;
        state.ended
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the latch when it is dropped, also after a panic.
pub(super) struct SetsLatch(pub(super) Arc<Latch>);

impl Drop for SetsLatch {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.changed.notify_all();
    }
}
