//! Records that wait to be written, in the order of their numbers.
//!
//! A publisher copies its record into a buffer and goes on. The writer takes the whole buffer a few milliseconds later,
//! so that one write takes many records. The writer sleeps while there is nothing to write, and one publisher wakes it.
//!
//! After a quiet time the file `state` says that the log is complete (`state`). The first publisher then waits until the
//! writer has taken that back. No publisher goes to the disk itself.
//!
//! With `engine_sync=always` requests wait here as well, beside their records, until the records are synced. The
//! callers that the writer has just answered may publish again at once. So the writer waits a moment for them, and one
//! sync serves all.

mod noting;

use super::batch::{Batch, Buffer, Enough, Gather};
use crate::error::{Error, Kind};
use crate::sys::clock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// At this number of bytes the writer stops gathering.
const ENOUGH: usize = 256 << 10;
/// After this time a disk that does not answer is reported.
const STUCK: Duration = Duration::from_secs(if cfg!(test) { 120 } else { 5 });
/// How long publishers wait, after a quiet time, for the writer to take back that the log is complete.
const AWAKENING: Duration = Duration::from_secs(if cfg!(test) { 20 } else { 2 });

const QUIET: u8 = 1;
const FAILED: u8 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    buffer: Mutex<Buffer>,
    came: Condvar,
    /// Tells publishers that the log is no longer quiet, or can't be written.
    awake: Condvar,
    /// Flags for states in which publishing needs extra work: [`QUIET`], [`FAILED`].
    flags: AtomicU8,
    /// True if a publisher must wake the writer.
    wake: AtomicBool,
    /// True if messages are delivered only when they are synced.
    always: bool,
    bound: AtomicUsize,
    /// The wall clock's time at the zero of the hub's clock. It wraps around.
    wall_offset: AtomicU64,
}

/// The reason why the writer was woken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There is something to write, or a publisher waits for the end of a quiet time.
    Filled,
    /// The timeout is over.
    Late,
    /// The writer should end. There may be something to write.
    Stopping,
}

impl WriteBehind {
    /// If `always` is true, messages are delivered only when they are synced.
    pub(super) fn new(last: u64, bound: usize, always: bool) -> Self {
        let waiting = Batch { last, ..Batch::default() };
        let buffer = Buffer { waiting, written: last, ..Buffer::default() };
        let behind = WriteBehind {
            buffer: Mutex::new(buffer),
            came: Condvar::new(),
            awake: Condvar::new(),
            flags: AtomicU8::new(0),
            wake: AtomicBool::new(false),
            always,
            bound: AtomicUsize::new(bound),
            wall_offset: AtomicU64::new(0),
        };
        behind.set_clock();
        behind
    }

    /// Changes the bound. Records that wait already stay.
    pub(crate) fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
    }

    /// Waits until everything that was accepted is synced and delivered, at most for `time`.
    pub(crate) fn await_settled(&self, time: Duration) {
        let began = Instant::now();
        while self.lock().unsettled > 0 && began.elapsed() < time {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The reason why nothing can be written. `None` if there is none.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        let buffer = self.lock();
        let stuck = buffer.works_since.map(|since| since.elapsed()).filter(|since| *since >= STUCK);
        let why = stuck.map(|since| format!("the disk has not answered for {} s", since.as_secs()).into());
        buffer.failed.clone().or(why)
    }

    /// The writer goes to the disk, or comes back.
    pub(super) fn note_work(&self, works: bool) {
        self.lock().works_since = works.then(Instant::now);
    }

    /// The bytes that wait to be written, or that belong to requests which wait for a sync.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().held()
    }

    /// True if there are records or requests that the writer has not taken.
    pub(super) fn has_waiting(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// The number of awaited requests that the writer has not taken.
    pub(super) fn awaited(&self) -> usize {
        self.lock().waiting.awaited
    }

    /// Ends the writer when everything is written. If the disk fails, the writer ends at `until`.
    pub(crate) fn stop(&self, until: Option<Instant>) {
        let mut buffer = self.lock();
        (buffer.stopping, buffer.give_up_at) = (true, until);
        drop(buffer);
        self.came.notify_one();
    }

    /// True if the writer should end although not all is written.
    pub(super) fn gives_up(&self) -> bool {
        self.lock().give_up_at.is_some_and(|at| at <= Instant::now())
    }

    /// Says which messages may be missing in the log.
    pub(crate) fn unwritten(&self) -> String {
        let buffer = self.lock();
        let (first, last) = (buffer.written + 1, buffer.waiting.last);
        if first > last {
            return "all messages are in the log, but it was not closed cleanly".into();
        }
        let sync = if self.always { " (accepted, and delivered to nobody)" } else { "" };
        format!("the messages {first} to {last}{sync} may not be in the log")
    }

    /// Reads the wall clock. This is repeated, since the clock may be set.
    pub(super) fn set_clock(&self) {
        self.wall_offset.store(clock::unix_ms().wrapping_sub(clock::monotonic_ms()), Ordering::Relaxed);
    }

    /// Waits until there is something to write, and then a little longer for more.
    pub(super) fn wait(&self, timeout: Duration, gather: Gather) -> Woken {
        let mut buffer = self.lock();
        let began = Instant::now();
        while buffer.waiting.is_empty() && !buffer.stopping && buffer.wanted_since.is_none() {
            let Some(left) = timeout.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else {
                return Woken::Late;
            };
            buffer.sleeps = true;
            buffer = self.came.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
            buffer.sleeps = false;
        }
        if buffer.wanted_since.is_some() && buffer.waiting.is_empty() && !buffer.stopping {
            return Woken::Filled;
        }
        let began = Instant::now();
        let enough = Enough { bytes: ENOUGH, awaited: gather.awaited };
        while !buffer.waiting.is(enough) && !buffer.stopping {
            let Some(left) = gather.time.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else { break };
            buffer.gathers = Some(enough);
            buffer = self.came.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
            buffer.gathers = None;
        }
        if buffer.stopping {
            Woken::Stopping
        } else {
            Woken::Filled
        }
    }

    /// Waits for a time, or until the writer should end. True if it should.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let buffer = self.lock();
        let waited = self.came.wait_timeout_while(buffer, time, |buffer| !buffer.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    /// Takes everything that waits. The batch that was taken before must be written.
    pub(super) fn take(&self, written: &mut Batch) {
        (written.open, written.bytes, written.awaited) = (false, 0, 0);
        let mut buffer = self.lock();
        written.last = buffer.waiting.last;
        std::mem::swap(&mut buffer.waiting, written);
        buffer.taken = written.bytes;
    }

    /// Gives back the memory of written pieces.
    pub(super) fn give_back(&self, mut pieces: Vec<Vec<u8>>) {
        self.lock().keep_spares(&mut pieces);
        // The others are freed now that the lock is released.
    }

    /// Notes that everything taken is written.
    pub(super) fn note_written(&self, last: u64) {
        let mut buffer = self.lock();
        (buffer.taken, buffer.written) = (0, last);
    }

    /// Notes the last message that is in the log for sure, unless the power fails.
    pub(super) fn note_sure(&self, last: u64) {
        self.lock().written = last;
    }

    /// Notes that requests of this size are settled.
    pub(super) fn note_settled(&self, weight: usize) {
        let mut buffer = self.lock();
        buffer.unsettled = buffer.unsettled.saturating_sub(weight);
    }

    /// Notes that nothing can be written at present.
    pub(super) fn fail(&self, why: &str) {
        let mut buffer = self.lock();
        buffer.failed = Some(why.into());
        // Where the failure is told nothing is published any more.
        self.flags.fetch_or(FAILED, Ordering::SeqCst);
        drop(buffer);
        self.awake.notify_all();
    }

    /// Notes that writing succeeds again.
    pub(super) fn heal(&self) {
        let mut buffer = self.lock();
        buffer.failed = None;
        self.flags.fetch_and(!FAILED, Ordering::SeqCst);
    }

    /// Becomes quiet, if everything is written. Called while no thread publishes. True if the file `state` must say now
    /// that the log is complete.
    pub(super) fn become_quiet(&self) -> bool {
        let mut buffer = self.lock();
        if self.always || buffer.quiet || buffer.failed.is_some() || buffer.taken > 0 || !buffer.waiting.is_empty() {
            // With `always` the file says from the start that no message is delivered before it is in the log.
            return false;
        }
        buffer.quiet = true;
        self.flags.fetch_or(QUIET, Ordering::SeqCst);
        true
    }

    /// True in a quiet time. Only the writer begins and ends it.
    pub(super) fn is_quiet(&self) -> bool {
        self.lock().quiet
    }

    /// True if a publisher waits for the end of the quiet time. Then the file `state` must say first that the log may
    /// lack messages.
    pub(super) fn is_wanted(&self) -> bool {
        self.lock().wanted_since.is_some()
    }

    /// Ends the quiet time.
    pub(super) fn awaken(&self) {
        let mut buffer = self.lock();
        (buffer.quiet, buffer.wanted_since) = (false, None);
        self.flags.fetch_and(!QUIET, Ordering::SeqCst);
        drop(buffer);
        self.awake.notify_all();
    }

    /// Waits until the writer has ended the quiet time.
    fn await_awakening(&self) -> Result<(), Error> {
        let mut buffer = self.lock();
        while buffer.quiet && buffer.failed.is_none() {
            let since = *buffer.wanted_since.get_or_insert_with(|| {
                self.came.notify_one();
                Instant::now()
            });
            let Some(left) = AWAKENING.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(Error::new(Kind::Busy, "the log's disk does not answer; nothing was published"));
            };
            buffer = self.awake.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(buffer);
        Ok(())
    }

    fn time_ms(&self, now: u64) -> u64 {
        now.wrapping_add(self.wall_offset.load(Ordering::Relaxed))
    }

    /// True if there is room for a message of this many bytes. One that is larger than the bound goes alone.
    fn fits(&self, buffer: &Buffer, bytes: usize) -> bool {
        let held = buffer.held();
        held == 0 || held + bytes <= self.bound.load(Ordering::Relaxed)
    }

    fn filled(&self, buffer: &mut Buffer, bytes: usize) {
        debug_assert!(!buffer.quiet, "a publisher waits for the end of the quiet time first");
        buffer.waiting.bytes += bytes;
        if buffer.sleeps || buffer.gathers.is_some_and(|enough| buffer.waiting.is(enough)) {
            (buffer.sleeps, buffer.gathers) = (false, None);
            self.wake.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
