//! The thread that writes a log: `push-log`.

use super::batch::{Batch, Gather};
use super::opening::Written;
use super::state::{State, Whole};
use super::times::{Due, Quiet};
use super::write_behind::{Woken, WriteBehind};
use super::writing::{Appender, Kept};
use crate::hub::{Ends, Hub, Pending};
use crate::log::{Level, Log};
use crate::sys::clock;
use crate::sys::flock::Locked;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// With `engine_sync=interval`, the time after which written records are synced.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time after which a failed write is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// The time after which a full mailbox is checked again.
const ROOM: Duration = Duration::from_millis(1);
/// While a mailbox is full: the time after which callers are woken again, if there are results.
const RING: Duration = Duration::from_millis(10);
/// How long a stop waits for a disk that can't be written.
const LAST_TRIES: Duration = Duration::from_secs(2);
/// The longest time between two checks for old segments.
const LOOK: Duration = Duration::from_secs(3600);

/// When written records are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// At most a second after they are written.
    #[default]
    Interval,
    /// Before the messages are delivered.
    Always,
    /// When the system decides; also when a segment is full, and at the end.
    Never,
}

/// The state of the writer that other threads read and change.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) behind: Arc<WriteBehind>,
    kept: Mutex<Kept>,
    kept_changed: AtomicBool,
    /// Bytes of the log.
    bytes: AtomicU64,
}

impl Shared {
    /// Changes how much of the log is kept.
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
    state: State,
    shared: Arc<Shared>,
    sync: Sync,
    log: Log,
    place: String,
    /// The hub whose log it is. `None` before the thread runs.
    hub: Option<Box<dyn AsRef<Hub> + Send>>,
    batch: Batch,
    /// How long to wait for more before something is written.
    gather: Gather,
    due: Due,
    quiet: Quiet,
    /// The start of this writer, also as a wall clock's time.
    began: (Instant, u64),
    /// The time since which nothing can be written.
    failing_since: Option<Instant>,
    closed: bool,
    /// The lock, held until the log is closed.
    _lock: Option<Locked>,
}

impl Writer {
    pub(super) fn new(written: Written, (sync, kept, bound): (Sync, Kept, usize), log: Log) -> Self {
        let Written { appender, state, lock, place } = written;
        let shared = Arc::new(Shared {
            behind: Arc::new(WriteBehind::new(appender.last(), bound, sync == Sync::Always)),
            kept: Mutex::new(kept),
            kept_changed: AtomicBool::new(false),
            bytes: AtomicU64::new(appender.bytes()),
        });
        // Nobody has published yet. A hub that is killed before somebody does leaves no gap.
        shared.behind.become_quiet();
        Writer {
            appender,
            state,
            shared,
            sync,
            log,
            place,
            hub: None,
            batch: Batch::default(),
            gather: if sync == Sync::Always { Gather::NONE } else { Gather::BEHIND },
            due: Due { marked_at: Instant::now(), sync_at: None },
            quiet: Quiet { last_write: Instant::now(), was_interrupted: false },
            began: (Instant::now(), clock::unix_ms()),
            failing_since: None,
            closed: false,
            _lock: lock,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Writes until it is told to stop and everything is written.
    pub(crate) fn run(mut self, hub: Box<dyn AsRef<Hub> + Send>) {
        self.serve(hub);
        while !self.turn() {}
        self.close();
    }

    /// The hub whose log it is.
    pub(super) fn serve(&mut self, hub: Box<dyn AsRef<Hub> + Send>) {
        self.hub = Some(hub);
    }

    #[cfg(test)]
    pub(super) fn gather(&self) -> Gather {
        self.gather
    }

    /// Waits for something to do, and does it. True if the thread should end.
    pub(super) fn turn(&mut self) -> bool {
        let behind = &self.shared.behind;
        let stopping = match behind.wait(self.patience(), self.gather) {
            Woken::Filled => false,
            Woken::Late => {
                if self.quiet.is_long() {
                    self.become_quiet();
                    if self.sync == Sync::Always {
                        // What comes may be the last that this hub writes.
                        self.appender.mark();
                    }
                }
                false
            }
            Woken::Stopping => true,
        };
        let behind = &self.shared.behind;
        behind.set_clock();
        behind.take(&mut self.batch);
        let mut stopping = stopping;
        loop {
            self.shared.behind.note_work(true);
            let worked = self.work();
            self.shared.behind.note_work(false);
            self.shared.behind.note_sure(self.appender.last_sure());
            match worked {
                Ok(()) => {
                    self.healed();
                    if std::mem::take(&mut self.quiet.was_interrupted) {
                        self.become_quiet();
                    }
                    // While this thread waited for room in a mailbox, more may have been accepted, and the stop may have
                    // come. Nothing is accepted after the stop.
                    return self.settle(stopping) && !self.shared.behind.has_waiting();
                }
                Err(error) => {
                    self.failed(&error);
                    let long = self.failing_since.is_some_and(|since| since.elapsed() >= LAST_TRIES);
                    let give_up = long || self.shared.behind.gives_up();
                    if stopping && give_up {
                        return true;
                    }
                    if stopping {
                        // `rest` would return at once.
                        std::thread::sleep(AGAIN / 10);
                    }
                    stopping |= self.shared.behind.rest(AGAIN);
                }
            }
        }
    }

    /// Says in the file `state` that the log is complete, if it is.
    fn become_quiet(&mut self) {
        let Some(hub) = &self.hub else { return };
        let behind = &self.shared.behind;
        if (**hub).as_ref().while_nobody_publishes(|| behind.become_quiet()) {
            behind.note_work(true);
            // If this fails, clients are told of an unnecessary gap after this hub is killed.
            let _ = self.state.tell(Whole::UpTo(self.appender.last()));
            behind.note_work(false);
        }
    }

    /// Lets the hub apply the messages that are synced. If a mailbox is full, this waits, and everything later waits,
    /// too. True if the thread should end.
    fn settle(&mut self, mut stopping: bool) -> bool {
        let (Some(hub), Batch { pending, bell, .. }) = (&self.hub, &mut self.batch) else { return stopping };
        let weigh = |pending: &VecDeque<Pending>| pending.iter().map(Pending::weight).sum::<usize>();
        let (mut weight, mut count, mut rung_at) = (weigh(pending), pending.len(), Instant::now());
        // The bytes come back before the callers are woken, who may need them for what they publish next.
        let mut ring = |pending: &VecDeque<Pending>| {
            let rest = weigh(pending);
            if rest < weight {
                self.shared.behind.note_settled(weight - rest);
                weight = rest;
            }
            bell.ring();
        };
        // The shards end before this thread is told to. Then no thread takes messages out of their mailboxes.
        while !pending.is_empty() && !(**hub).as_ref().settle(pending, clock::monotonic_ms(), stopping) {
            // Those that are done need not wait for the others. But each ring wakes all of them, on the CPUs that the
            // shard needs to empty its mailbox.
            if pending.len() < count && rung_at.elapsed() >= RING {
                ring(pending);
                (count, rung_at) = (pending.len(), Instant::now());
            }
            stopping |= self.shared.behind.rest(ROOM);
        }
        ring(pending);
        stopping
    }

    /// How long the thread may sleep if no records come.
    fn patience(&self) -> Duration {
        let (quiet, sync) = (self.quiet.is_long_in(), self.due.sync_in());
        let old = self.appender.oldest_goes_in(self.now_ms()).map(|ms| Duration::from_millis(ms.max(1000)));
        [quiet, sync, old, Some(LOOK)].into_iter().flatten().min().unwrap_or(LOOK)
    }

    /// The time by which the log's ages count. The wall clock gives its start only: if that is set later, it must not
    /// make the whole log too old at once.
    fn now_ms(&self) -> u64 {
        let (start, at_start) = self.began;
        at_start.saturating_add(start.elapsed().as_millis() as u64)
    }

    /// Ends the quiet time. Publishers go on.
    fn awaken(&mut self) -> io::Result<()> {
        self.state.tell(Whole::Unknown)?;
        self.shared.behind.awaken();
        // A publisher that wanted this may publish nothing. The next quiet time begins all the same.
        self.quiet.last_write = Instant::now();
        Ok(())
    }

    /// Writes the records that were taken. Syncs, and drops old segments, if it is time.
    fn work(&mut self) -> io::Result<()> {
        if self.shared.behind.is_wanted() {
            self.awaken()?;
        }
        let now_ms = self.now_ms();
        if self.shared.kept_changed.swap(false, Ordering::Acquire) {
            self.appender.set_kept(*self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if self.failing_since.is_some() {
            // The disk may be full. Then this makes room.
            self.drop_old(now_ms);
        }
        // After a failed sync the pieces are written already. An append of nothing could begin a segment, and the hub does
        // not know this batch's numbers yet: they would be missing from the segment's ends.
        if !self.batch.pieces.is_empty() {
            let mut pieces: Vec<&mut [u8]> = self.batch.pieces.iter_mut().map(|piece| &mut piece[..]).collect();
            let hub = &self.hub;
            let ends = |first| hub.as_ref().map_or_else(|| Ends::unknown(first), |hub| (**hub).as_ref().ends(first));
            self.appender.append(&mut pieces, self.batch.last, &ends, now_ms)?;
            self.shared.behind.give_back(std::mem::take(&mut self.batch.pieces));
            if self.sync != Sync::Always {
                self.shared.behind.note_written(self.appender.last());
            }
            self.quiet.last_write = Instant::now();
            if self.sync == Sync::Interval && self.due.sync_at.is_none() {
                self.due.sync_at = Some(self.quiet.last_write + INTERVAL);
            }
        }
        if self.sync == Sync::Always {
            // Before the first message of a segment is delivered, the file says that there is this segment. If it is
            // missing later, clients are told of a gap.
            self.state.replace(Whole::Always(self.appender.first()))?;
        }
        if self.sync == Sync::Always && !self.appender.is_synced() {
            let (began, awaited) = (Instant::now(), self.batch.awaited);
            let mark = self.due.is_mark();
            self.appender.sync(mark)?;
            self.gather = self.gather.after(began.elapsed(), awaited, self.shared.behind.awaited());
            self.shared.behind.note_written(self.appender.last());
            if mark {
                self.due.marked_at = began;
            }
        }
        if self.due.is_sync() {
            if self.shared.behind.is_quiet() {
                // Publishers would wait for this thread, which may now wait for the disk.
                self.awaken()?;
                self.quiet.was_interrupted = true;
            }
            self.appender.sync(true)?;
            self.due.sync_at = None;
        }
        self.drop_old(now_ms);
        self.shared.bytes.store(self.appender.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Writing goes on even if an old segment can't be removed.
    fn drop_old(&mut self, now_ms: u64) {
        if let Err(error) = self.appender.drop_old(now_ms) {
            let text = format_args!("engine: {}: an old segment can't be removed: {error}", self.place);
            self.log.limited(Level::Warn, "engine", text);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let why = format!("{}: {error}", self.place);
        if self.failing_since.is_none() {
            self.failing_since = Some(Instant::now());
            let text = format_args!("engine: {why}; nothing is published until this is fixed");
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
            None => self.appender.close(clock::unix_ms()).and_then(|()| self.state.close(self.appender.last())),
            Some(_) => Err(io::Error::other(self.shared.behind.unwritten())),
        };
        match closed {
            Ok(()) => self.log.line(Level::Info, format_args!("engine: the log {} is closed", self.place)),
            Err(error) => {
                let text = format_args!("engine: {}: the log could not be closed cleanly: {error}", self.place);
                self.log.line(Level::Error, text);
            }
        }
    }
}

/// If the start fails later, the log is still closed.
impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The records that were taken may not be written.
            self.shared.behind.fail("the thread that writes the log has panicked; restart the hub");
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
