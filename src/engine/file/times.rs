//! When the writer of a log has something to do although nothing is published.

use std::time::{Duration, Instant};

/// The time without new records after which the file `state` says that the log is complete.
const QUIET_AFTER: Duration = Duration::from_millis(250);
/// How often the log gets a mark that says how far it is synced, if each message is synced.
const MARK: Duration = Duration::from_secs(1);

/// When a sync and a mark are due.
pub(super) struct Due {
    pub(super) marked_at: Instant,
    /// The time of the next sync, with `engine_sync=interval`.
    pub(super) sync_at: Option<Instant>,
}

impl Due {
    pub(super) fn is_mark(&self) -> bool {
        self.marked_at.elapsed() >= MARK
    }

    pub(super) fn is_sync(&self) -> bool {
        self.sync_at.is_some_and(|at| at <= Instant::now())
    }

    pub(super) fn sync_in(&self) -> Option<Duration> {
        self.sync_at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// The time without new records.
pub(super) struct Quiet {
    pub(super) last_write: Instant,
    /// A sync has interrupted it.
    pub(super) was_interrupted: bool,
}

impl Quiet {
    /// Whether it has been long enough to say that the log is complete.
    pub(super) fn is_long(&self) -> bool {
        self.last_write.elapsed() >= QUIET_AFTER
    }

    /// How long until then. `None`: that was before.
    pub(super) fn is_long_in(&self) -> Option<Duration> {
        QUIET_AFTER.checked_sub(self.last_write.elapsed()).map(|left| left + Duration::from_millis(1))
    }
}
