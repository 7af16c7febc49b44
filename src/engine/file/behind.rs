//! What waits to be written, behind the publishers' backs: records in the order of their numbers.
//!
//! A publisher copies its record into a buffer and goes on. The writer takes the whole buffer a few milliseconds later,
//! so that one write takes many records. It sleeps while there is nothing, and a publisher wakes it once.

use super::record::{self, HEAD};
use super::state::{State, Whole};
use crate::engine::entry::{set_more, write_message, Entry, Logged};
use crate::error::{Error, Kind};
use crate::hub::{Journal, Noted};
use crate::sys::clock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// From how many bytes on the writer is not left to gather more.
const ENOUGH: usize = 256 << 10;
/// How long it gathers.
const GATHER: Duration = Duration::from_millis(5);
/// A buffer that was larger gives its room back.
const KEPT_ROOM: usize = 2 << 20;

const QUIET: u8 = 1;
const FAILED: u8 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Behind {
    buffer: Mutex<Buffer>,
    came: Condvar,
    /// Whether publishing needs more than the buffer: [`QUIET`], [`FAILED`].
    flags: AtomicU8,
    /// Somebody is to wake the writer.
    wake: AtomicBool,
    bound: AtomicUsize,
    state: Mutex<State>,
    /// The wall clock's time at the zero of the hub's clock, going round.
    wall_offset: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    waiting: Batch,
    /// Bytes that the writer has taken and not written yet.
    taken: usize,
    /// An empty piece with room.
    spare: Vec<u8>,
    /// The log says that it holds everything: that has to be taken back first.
    quiet: bool,
    /// The writer sleeps, and for how much.
    sleeps: bool,
    gathers: bool,
    failed: Option<Arc<str>>,
    stopping: bool,
}

/// Records that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Each has whole records. To the last one small records are added, if that is not a large one.
    pub(super) pieces: Vec<Vec<u8>>,
    open: bool,
    bytes: usize,
    /// The number of the last message.
    pub(super) last: u64,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Why the writer was woken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There is something to write.
    Filled,
    /// The time is over.
    Late,
    /// It is to end. There may be something to write.
    Stopping,
}

impl Behind {
    pub(super) fn new(state: State, last: u64, bound: usize) -> Self {
        let buffer = Buffer { waiting: Batch { last, ..Batch::default() }, ..Buffer::default() };
        let behind = Behind {
            buffer: Mutex::new(buffer),
            came: Condvar::new(),
            flags: AtomicU8::new(0),
            wake: AtomicBool::new(false),
            bound: AtomicUsize::new(bound),
            state: Mutex::new(state),
            wall_offset: AtomicU64::new(0),
        };
        behind.set_clock();
        behind
    }

    /// Lets more or less wait.
    pub(crate) fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
    }

    /// Why nothing can be written, if so.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.lock().failed.clone()
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        let buffer = self.lock();
        buffer.waiting.bytes + buffer.taken
    }

    /// Ends the writer, once all is written.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.came.notify_one();
    }

    /// Sees how the wall clock stands. Now and then, for it may be set.
    pub(super) fn set_clock(&self) {
        self.wall_offset.store(clock::unix_ms().wrapping_sub(clock::monotonic_ms()), Ordering::Relaxed);
    }

    /// Waits until there is something to write, and then a little for more.
    pub(super) fn wait(&self, timeout: Duration) -> Woken {
        let mut buffer = self.lock();
        let began = Instant::now();
        while buffer.waiting.is_empty() && !buffer.stopping {
            let Some(left) = timeout.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else {
                return Woken::Late;
            };
            buffer.sleeps = true;
            buffer = self.came.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
            buffer.sleeps = false;
        }
        let began = Instant::now();
        while buffer.waiting.bytes < ENOUGH && !buffer.stopping {
            let Some(left) = GATHER.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else { break };
            buffer.gathers = true;
            buffer = self.came.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
            buffer.gathers = false;
        }
        if buffer.stopping {
            Woken::Stopping
        } else {
            Woken::Filled
        }
    }

    /// Waits for a time, or until the writer is to end. True: it is.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let buffer = self.lock();
        let waited = self.came.wait_timeout_while(buffer, time, |buffer| !buffer.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    /// Takes all that waits. What was taken before is written.
    pub(super) fn take(&self, written: &mut Batch) {
        let mut spare = written.pieces.pop().filter(|piece| piece.capacity() <= KEPT_ROOM).unwrap_or_default();
        spare.clear();
        written.pieces.clear();
        (written.open, written.bytes) = (false, 0);
        let mut buffer = self.lock();
        written.last = buffer.waiting.last;
        std::mem::swap(&mut buffer.waiting, written);
        buffer.taken = written.bytes;
        buffer.spare = spare;
    }

    /// Everything taken is written.
    pub(super) fn note_written(&self) {
        self.lock().taken = 0;
    }

    /// Nothing can be written now.
    pub(super) fn fail(&self, why: &str) {
        self.lock().failed = Some(why.into());
        self.flags.fetch_or(FAILED, Ordering::SeqCst);
    }

    /// Everything was written after all.
    pub(super) fn heal(&self) {
        self.lock().failed = None;
        self.flags.fetch_and(!FAILED, Ordering::SeqCst);
    }

    /// Says in the file `state` that all is written, if it is. `last`: the last number that was.
    pub(super) fn be_quiet(&self, last: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut buffer = self.lock();
            if buffer.quiet || buffer.failed.is_some() || buffer.taken > 0 || !buffer.waiting.is_empty() {
                return;
            }
            buffer.quiet = true;
            self.flags.fetch_or(QUIET, Ordering::SeqCst);
        }
        // If it can't be said, a gap too many is told after this hub was killed.
        let _ = state.tell(Whole::UpTo(last));
    }

    /// Takes that back.
    fn be_loud(&self) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.lock().quiet {
            return Ok(());
        }
        self.set_clock();
        state.tell(Whole::Unknown).map_err(|error| Error::system("the log's file state can't be written", &error))?;
        self.lock().quiet = false;
        self.flags.fetch_and(!QUIET, Ordering::SeqCst);
        Ok(())
    }

    fn time_ms(&self, now: u64) -> u64 {
        now.wrapping_add(self.wall_offset.load(Ordering::Relaxed))
    }

    /// The buffer, to add to it.
    fn filling(&self) -> MutexGuard<'_, Buffer> {
        let buffer = self.lock();
        if !buffer.quiet {
            return buffer;
        }
        // The writer became quiet between `begin` and now.
        drop(buffer);
        let _ = self.be_loud();
        self.lock()
    }

    fn filled(&self, buffer: &mut Buffer, bytes: usize) {
        buffer.waiting.bytes += bytes;
        if buffer.sleeps || (buffer.gathers && buffer.waiting.bytes >= ENOUGH) {
            (buffer.sleeps, buffer.gathers) = (false, false);
            self.wake.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// Where the next small record goes.
    fn piece(&mut self) -> &mut Vec<u8> {
        if !self.waiting.open {
            self.waiting.pieces.push(std::mem::take(&mut self.spare));
            self.waiting.open = true;
        }
        let last = self.waiting.pieces.len() - 1;
        &mut self.waiting.pieces[last]
    }
}

impl Journal for Behind {
    fn begin(&self) -> Result<(), Error> {
        let flags = self.flags.load(Ordering::SeqCst);
        if flags & FAILED != 0 {
            let why = self.failure().unwrap_or_default();
            return Err(Error::new(Kind::System, format!("the log can't be written, so nothing was published: {why}")));
        }
        if flags & QUIET != 0 {
            self.be_loud()?;
        }
        Ok(())
    }

    fn has_room(&self, bytes: usize) -> bool {
        let buffer = self.lock();
        let waiting = buffer.waiting.bytes + buffer.taken;
        // One that is larger than the bound goes alone.
        waiting == 0 || waiting + bytes <= self.bound.load(Ordering::Relaxed)
    }

    fn note(&self, number: u64, noted: &Noted<'_>, now: u64) {
        let logged = Logged { time_ms: self.time_ms(now), more: false, noted: *noted };
        let mut buffer = self.filling();
        let piece = buffer.piece();
        let before = piece.len();
        record::append(piece, number, |into| write_message(&logged, into));
        let bytes = piece.len() - before;
        buffer.waiting.last = number;
        self.filled(&mut buffer, bytes);
    }

    fn prepare(&self, noted: &Noted<'_>, now: u64) -> Vec<u8> {
        let logged = Logged { time_ms: self.time_ms(now), more: false, noted: *noted };
        let mut record = Vec::with_capacity(noted.weight());
        record::append(&mut record, 0, |into| write_message(&logged, into));
        record
    }

    fn note_prepared(&self, batch: Vec<(u64, Vec<u8>)>) {
        let Some((last, _)) = batch.last() else { return };
        let last = *last;
        let mut records = batch;
        for (number, record) in &mut records {
            record::set_number(record, *number);
            if *number != last {
                set_more(&mut record[HEAD..]);
            }
        }
        let mut buffer = self.filling();
        let bytes = records.iter().map(|(_, record)| record.len()).sum();
        buffer.waiting.pieces.extend(records.into_iter().map(|(_, record)| record));
        buffer.waiting.open = false;
        buffer.waiting.last = last;
        self.filled(&mut buffer, bytes);
    }

    fn note_cleared(&self, number: u64, channel: &str) {
        let mut buffer = self.filling();
        let piece = buffer.piece();
        let before = piece.len();
        record::append(piece, number, |into| Entry::Cleared { channel }.write(into));
        let bytes = piece.len() - before;
        self.filled(&mut buffer, bytes);
    }

    fn wake(&self) {
        if self.wake.load(Ordering::Relaxed) && self.wake.swap(false, Ordering::Relaxed) {
            self.came.notify_one();
        }
    }
}
