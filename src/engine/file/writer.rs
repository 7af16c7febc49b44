//! The thread that writes a log: `push-log`.

use super::behind::{Batch, Behind, Woken};
use super::opening::Written;
use super::writing::{Appender, Ends, Kept};
use crate::log::{Level, Log};
use crate::sys::clock;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After which time what was written is synced, with `engine_sync=interval`.
const INTERVAL: Duration = Duration::from_secs(1);
/// For how long nothing must come until the log says that it holds everything.
const QUIET_AFTER: Duration = Duration::from_millis(250);
/// After which time a write that failed is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a stop waits for a disk that does not write.
const LAST_TRIES: Duration = Duration::from_secs(2);
/// How often to look for segments that are too old, at least.
const LOOK: Duration = Duration::from_secs(3600);

/// When what was written is made to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// A second after it was written, at the latest.
    #[default]
    Interval,
    /// When the system sees fit; and when a segment is full, and at the end.
    Never,
}

/// What others may know and change of the writer.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) behind: Arc<Behind>,
    kept: Mutex<Kept>,
    kept_changed: AtomicBool,
    /// Bytes of the log.
    bytes: AtomicU64,
}

impl Shared {
    /// Keeps more or less from now on.
    pub(crate) fn set_kept(&self, kept: Kept) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        self.kept_changed.store(true, Ordering::Release);
    }

    /// Bytes of the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// See the module.
pub(crate) struct Writer {
    appender: Appender,
    shared: Arc<Shared>,
    sync: Sync,
    log: Log,
    place: String,
    /// The last numbers of the hub's channels.
    ends: Box<dyn Fn() -> Ends + Send>,
    batch: Batch,
    /// When there is something to sync.
    sync_at: Option<Instant>,
    last_write: Instant,
    /// Whether nothing can be written, since when.
    failing_since: Option<Instant>,
    closed: bool,
    /// Held until the log is closed.
    _lock: Option<File>,
}

impl Writer {
    pub(super) fn new(written: Written, (sync, kept, bound): (Sync, Kept, usize), log: Log) -> Self {
        let Written { appender, state, lock, place } = written;
        let shared = Arc::new(Shared {
            behind: Arc::new(Behind::new(state, appender.last(), bound)),
            kept: Mutex::new(kept),
            kept_changed: AtomicBool::new(false),
            bytes: AtomicU64::new(appender.bytes()),
        });
        Writer {
            appender,
            shared,
            sync,
            log,
            place,
            ends: Box::new(Vec::new),
            batch: Batch::default(),
            sync_at: None,
            last_write: Instant::now(),
            failing_since: None,
            closed: false,
            _lock: lock,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Writes until it is told to stop, and all is written. `ends`: the last numbers of the hub's channels.
    pub(crate) fn run(mut self, ends: Box<dyn Fn() -> Ends + Send>) {
        self.ends = ends;
        while !self.turn() {}
        self.close();
    }

    /// Waits for something to do, and does it. True: it is to end.
    fn turn(&mut self) -> bool {
        let behind = &self.shared.behind;
        let stopping = match behind.wait(self.patience()) {
            Woken::Filled => false,
            Woken::Late => {
                if self.last_write.elapsed() >= QUIET_AFTER {
                    behind.be_quiet(self.appender.last());
                }
                false
            }
            Woken::Stopping => true,
        };
        behind.set_clock();
        behind.take(&mut self.batch);
        let mut stopping = stopping;
        loop {
            match self.work() {
                Ok(()) => {
                    self.healed();
                    return stopping;
                }
                Err(error) => {
                    self.failed(&error);
                    let give_up = self.failing_since.is_some_and(|since| since.elapsed() >= LAST_TRIES);
                    if stopping && give_up {
                        return true;
                    }
                    stopping |= self.shared.behind.rest(AGAIN);
                }
            }
        }
    }

    /// How long there is nothing to do if nothing comes.
    fn patience(&self) -> Duration {
        let until = |at: Instant| at.saturating_duration_since(Instant::now());
        let quiet = QUIET_AFTER.checked_sub(self.last_write.elapsed()).map(|left| left + Duration::from_millis(1));
        let sync = self.sync_at.map(until);
        let old = self.appender.oldest_goes_in(clock::unix_ms()).map(|ms| Duration::from_millis(ms.max(1000)));
        [quiet, sync, old, Some(LOOK)].into_iter().flatten().min().unwrap_or(LOOK)
    }

    /// Writes what was taken; syncs, and drops old segments, if it is time.
    fn work(&mut self) -> io::Result<()> {
        let now_ms = clock::unix_ms();
        if !self.batch.is_empty() {
            let mut pieces: Vec<&mut [u8]> = self.batch.pieces.iter_mut().map(|piece| &mut piece[..]).collect();
            self.appender.append(&mut pieces, self.batch.last, &*self.ends, now_ms)?;
            self.batch.pieces.truncate(1);
            self.shared.behind.note_written();
            // It is a spare one now.
            self.batch.pieces.first_mut().into_iter().for_each(Vec::clear);
            self.last_write = Instant::now();
            if self.sync == Sync::Interval && self.sync_at.is_none() {
                self.sync_at = Some(self.last_write + INTERVAL);
            }
        }
        if self.sync_at.is_some_and(|at| at <= Instant::now()) {
            self.appender.sync(true)?;
            self.sync_at = None;
        }
        if self.shared.kept_changed.swap(false, Ordering::Acquire) {
            self.appender.set_kept(*self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner));
        }
        // Not to be able to remove something is no reason not to write.
        if let Err(error) = self.appender.drop_old(now_ms) {
            let text = format_args!("engine: {}: an old segment can't be removed: {error}", self.place);
            self.log.limited(Level::Warn, "engine", text);
        }
        self.shared.bytes.store(self.appender.bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) {
        let why = format!("{}: {error}", self.place);
        if self.failing_since.is_none() {
            self.failing_since = Some(Instant::now());
            let text = format_args!("engine: {why}; until this is mended nothing is published");
            self.log.line(Level::Error, text);
        }
        self.shared.behind.fail(&why);
    }

    fn healed(&mut self) {
        if let Some(since) = self.failing_since.take() {
            self.shared.behind.heal();
            let seconds = since.elapsed().as_secs();
            let text = format_args!("engine: {}: written again, after {seconds} s; nothing is missing", self.place);
            self.log.line(Level::Info, text);
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let closed = match self.failing_since {
            None => self.appender.close(clock::unix_ms()),
            Some(_) => Err(io::Error::other("it could not be written to the end")),
        };
        match closed {
            Ok(()) => self.log.line(Level::Info, format_args!("engine: {} is closed", self.place)),
            Err(error) => {
                let text = format_args!("engine: {}: the log could not be closed in order: {error}", self.place);
                self.log.line(Level::Error, text);
            }
        }
    }
}

/// A start that fails afterwards leaves a log that is closed.
impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What was taken may not be written.
            self.shared.behind.fail("the thread that writes the log has panicked; start the hub anew");
        } else {
            self.close();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("place", &self.place).finish_non_exhaustive()
    }
}
