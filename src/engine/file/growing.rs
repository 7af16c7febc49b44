//! The file of the segment that is written, and what may be in it behind the last record that counts.
//!
//! A write that fails may leave a part of its bytes, and these are cut off. The cut may fail as well. Then nothing is
//! written and no segment begins until it has succeeded. A shorter write over those bytes would leave the rest of them
//! behind it. In a later segment's place they would be damage: only the end of the last segment may be torn.

use super::disk::{Disk, Place};
use super::reading::Segment;
use super::writing::write_again;
use std::io;

/// See the module. In all calls, `end` is where the last record that counts ends.
#[derive(Debug)]
pub(super) struct Growing {
    file: Box<dyn Place>,
    /// A write has failed. Anything may be behind the end.
    ragged: bool,
    /// Bytes were written or cut for which nobody needs a sync: a mark, or a failed write. They are synced before the
    /// next segment.
    loose: bool,
}

impl Growing {
    /// A file that ends with the last record that counts.
    pub(super) fn new(file: Box<dyn Place>) -> Self {
        Growing { file, ragged: false, loose: false }
    }

    /// Writes bytes at an offset, which is the end, or behind other bytes that were written there.
    pub(super) fn write(&mut self, bytes: &[u8], at: u64, end: u64) -> io::Result<()> {
        self.tidy(end)?;
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
            self.file.cut(end)?;
            (self.ragged, self.loose) = (false, true);
        }
        Ok(())
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
