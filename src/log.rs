//! The log: lines for the host's callback, and nowhere else.

use crossbeam::channel::{Sender, TrySendError};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gets lines, on the callback thread.
pub type LogSink = dyn Fn(Level, &str) + Send + Sync;

/// How grave a line is. The numbers are the C API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// A defect, or something that ended what it should not.
    Error = 1,
    /// Something is wrong outside, or soon will be.
    Warn = 2,
    /// Start, stop, listeners.
    Info = 3,
    /// One line a connection.
    Debug = 4,
}

/// A line on its way.
pub(crate) type Line = (Level, String);

/// Where the crate's lines go in; without a sink it costs one branch.
#[derive(Clone)]
pub struct Log {
    lines: Option<Sender<Line>>,
    dropped: std::sync::Arc<AtomicU64>,
}

impl Log {
    pub(crate) fn new(lines: Option<Sender<Line>>) -> Self {
        Log { lines, dropped: Default::default() }
    }

    /// Adds a line. Never waits: when the callback is slow, lines are dropped and counted.
    pub(crate) fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        if let Some(lines) = &self.lines {
            if let Err(TrySendError::Full(_)) = lines.try_send((level, text.to_string())) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("enabled", &self.lines.is_some()).finish_non_exhaustive()
    }
}
