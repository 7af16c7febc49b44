//! The hub's side of the buffer: notes what the hub does, under the hub's lock. Nothing here waits for the disk, but
//! `begin`.

use super::{WriteBehind, FAILED, QUIET};
use crate::engine::entry::{set_more, write_message, Entry};
use crate::engine::file::record::{self, HEAD};
use crate::error::{Error, Kind};
use crate::hub::{Journal, Noted, Pending};
use std::sync::atomic::Ordering;

/// From this size on, a prepared record is a piece of its own.
const LARGE: usize = 4096;

impl Journal for WriteBehind {
    fn begin(&self) -> Result<(), Error> {
        if self.flags.load(Ordering::SeqCst) & QUIET != 0 {
            self.await_awakening()?;
        }
        if self.flags.load(Ordering::SeqCst) & FAILED != 0 {
            let why = self.failure().unwrap_or_default();
            return Err(Error::new(Kind::System, format!("the log can't be written, so nothing was published: {why}")));
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.flags.load(Ordering::Relaxed) == 0
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.fits(&self.lock(), bytes)
    }

    fn note(&self, number: u64, noted: &Noted<'_>, now: u64) -> bool {
        let (time_ms, weight) = (self.time_ms(now), noted.weight());
        let mut buffer = self.lock();
        if !self.fits(&buffer, weight) {
            return false;
        }
        let piece = buffer.piece(weight);
        let before = piece.len();
        record::append(piece, number, |into| write_message(time_ms, false, noted, into));
        let bytes = piece.len() - before;
        buffer.waiting.last = number;
        self.filled(&mut buffer, bytes);
        true
    }

    fn prepare(&self, noted: &Noted<'_>, now: u64) -> Vec<u8> {
        let time_ms = self.time_ms(now);
        let mut record = Vec::with_capacity(noted.weight());
        record::append(&mut record, 0, |into| write_message(time_ms, false, noted, into));
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
        let mut buffer = self.lock();
        let bytes = records.iter().map(|(_, record)| record.len()).sum();
        for (_, record) in records {
            if record.len() < LARGE {
                buffer.piece(record.len()).extend_from_slice(&record);
            } else {
                buffer.waiting.pieces.push(record);
                buffer.waiting.open = false;
            }
        }
        buffer.waiting.last = last;
        self.filled(&mut buffer, bytes);
    }

    fn note_cleared(&self, number: u64, channel: &str) {
        let mut buffer = self.lock();
        let piece = buffer.piece(channel.len() + HEAD + 1);
        let before = piece.len();
        record::append(piece, number, |into| Entry::Cleared { channel }.write(into));
        let bytes = piece.len() - before;
        self.filled(&mut buffer, bytes);
    }

    fn lasts_first(&self) -> bool {
        self.always
    }

    fn leave(&self, pending: Pending) {
        let mut buffer = self.lock();
        buffer.unsettled += pending.weight();
        buffer.waiting.awaited += usize::from(pending.is_awaited());
        pending.wait_at(&buffer.waiting.bell);
        buffer.waiting.pending.push_back(pending);
        self.filled(&mut buffer, 0);
    }

    fn wake(&self) {
        if self.wake.load(Ordering::Relaxed) && self.wake.swap(false, Ordering::Relaxed) {
            self.came.notify_one();
        }
    }
}
