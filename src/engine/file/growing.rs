//! The file of the segment that is written, and what may be in it behind the last record that counts.
//!
//! A write that fails may leave a part of its bytes, and these are cut off. The cut may fail as well. Then nothing is
//! written and no segment begins until it has succeeded. A shorter write over those bytes would leave the rest of them
//! behind it. In a later segment's place they would be damage: only the end of the last segment may be torn.
//!
//! With `engine_sync=always` zeros are written ahead. A sync of a longer file also writes its new length, which takes
//! about as long again. Over zeros, records need no other length. Zeros are no record, so they end a segment. They are
//! cut off before the next segment begins, and at a clean end.

use super::disk::{Disk, Place};
use super::reading::Segment;
use super::record;
use super::segment::STEP;
use std::io;

/// The most zeros behind the first append of a segment. Later there are as many as the segment has bytes, up to
/// [`STEP`]. Many segments never get more than a few messages, as they are also begun by their age.
pub(super) const FIRST: u64 = if cfg!(test) { STEP / 2 } else { 4 << 10 };
/// The share of the zeros that an append may be as large as: they must serve several appends to be worth it.
const SMALL: u64 = 8;

/// See the module. In all calls, `end` is where the last record that counts ends.
#[derive(Debug)]
pub(super) struct Growing {
    file: Box<dyn Place>,
    /// The file is no longer than this.
    len: u64,
    /// True if zeros are written ahead.
    ahead: bool,
    /// A write has failed. Anything may be behind the end.
    ragged: bool,
    /// Bytes were written or cut for which nobody needs a sync: a mark, or a failed write. They are synced before the
    /// next segment.
    loose: bool,
}

impl Growing {
    /// A file that ends with the last record that counts.
    pub(super) fn new(file: Box<dyn Place>, end: u64, ahead: bool) -> Self {
        Growing { file, len: end, ahead, ragged: false, loose: false }
    }

    /// The same for the next segment.
    pub(super) fn go_on_in(&mut self, file: Box<dyn Place>, end: u64) {
        *self = Growing::new(file, end, self.ahead);
    }

    /// Writes bytes at an offset, which is the end, or behind other bytes that were written there.
    pub(super) fn write(&mut self, bytes: &[u8], at: u64, end: u64) -> io::Result<()> {
        self.tidy(end)?;
        self.len = self.len.max(at + bytes.len() as u64);
        let written = self.file.write_at(bytes, at);
        if written.is_err() {
            self.ragged = true;
            // If this fails, it is tried again before anything else is written.
            let _ = self.tidy(end);
        }
        written
    }

    /// Cuts off what a failed write has left. An error: it is still there.
    pub(super) fn tidy(&mut self, end: u64) -> io::Result<()> {
        if self.ragged {
            self.cut(end)?;
        }
        Ok(())
    }

    /// Cuts off all that is behind the end, zeros as well.
    pub(super) fn finish(&mut self, end: u64) -> io::Result<()> {
        if self.ragged || self.len > end {
            self.cut(end)?;
        }
        Ok(())
    }

    fn cut(&mut self, end: u64) -> io::Result<()> {
        self.file.cut(end)?;
        (self.len, self.ragged, self.loose) = (end, false, true);
        Ok(())
    }

    /// Writes zeros behind the end, if the last append, of so many bytes, has made the file longer. `most` is the
    /// length from which no more comes into this segment.
    pub(super) fn write_ahead(&mut self, end: u64, appended: u64, most: u64) {
        let step = STEP.min(FIRST.max(end));
        let to = most.min(end + step);
        if self.ahead && self.len == end && appended <= step / SMALL && to > end {
            // If this fails, there are fewer zeros, and it is not tried again before it would be time for more.
            self.len = to;
            let _ = self.file.write_at(&vec![0; (to - end) as usize], end);
        }
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.loose = false;
        Ok(())
    }

    /// See [`write_again`].
    pub(super) fn write_again(&mut self, disk: &dyn Disk, segment: &Segment) -> io::Result<()> {
        write_again(disk, &mut *self.file, segment)?;
        self.loose = false;
        Ok(())
    }

    /// What was written last needs no sync of its own.
    pub(super) fn loosen(&mut self) {
        self.loose = true;
    }

    /// True if the next segment must wait for a sync that nothing else needs.
    pub(super) fn is_loose(&self) -> bool {
        self.loose
    }
}

/// Writes the bytes of a segment again that may not be on the disk, and syncs them. After a failed sync, the kernel may
/// have given up bytes that it could not write. Reads still return them, and the next sync succeeds without them.
pub(super) fn write_again(disk: &dyn Disk, file: &mut dyn Place, segment: &Segment) -> io::Result<()> {
    let all = disk.read(&segment.name)?;
    let (from, to) = (segment.on_disk as usize, segment.bytes as usize);
    let lost = || io::Error::other("entries that could not be synced can't be read back; restart the hub");
    let doubtful = all.get(from..to).ok_or_else(lost)?;
    let mut at = from;
    while at < to {
        at = record::at(&all[..to], at, segment.salt).ok_or_else(lost)?.end;
    }
    file.write_at(doubtful, segment.on_disk)?;
    file.sync()
}
