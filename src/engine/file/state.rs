//! The file `state`: whether the log holds everything that was published, for a process that was killed.
//!
//! Messages are written behind their delivery, so a hub that is killed may have delivered some that its log does not
//! hold. But mostly it is quiet, and then it has not. So it says here that it is quiet, once all is written and synced,
//! and takes that back before it publishes again.
//!
//! Neither is synced, on purpose. Both survive the process, in the kernel's memory. What survives a loss of power is
//! what was synced at the start: not quiet. And if the kernel wrote a page of its own accord, the boot is another one.

use super::disk::{Disk, Place};
use std::io;

const MAGIC: &[u8; 8] = b"pushst1\n";
const NAME: &str = "state";
/// A boot's name is a UUID, as text.
pub(super) const BOOT: usize = 36;

/// What is known of a log beside what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// Messages may have been delivered that are not in it.
    Unknown,
    /// Everything up to that number is in it, and nothing else was published.
    UpTo(u64),
    /// Its hub delivered nothing before it was synced.
    Always,
}

/// The file, open.
#[derive(Debug)]
pub(super) struct State {
    file: Box<dyn Place>,
    boot: [u8; BOOT],
}

impl State {
    /// Says how the log is used from now on, in a way that lasts.
    pub(super) fn begin(disk: &dyn Disk, boot: [u8; BOOT], whole: Whole) -> io::Result<Self> {
        Ok(State { file: disk.create(NAME, &content(&boot, whole))?, boot })
    }

    /// Says something else.
    pub(super) fn tell(&mut self, whole: Whole) -> io::Result<()> {
        self.file.write_at(&content(&self.boot, whole), 0)
    }
}

/// What the last hub has said.
pub(super) fn read(disk: &dyn Disk, boot: &[u8; BOOT]) -> Whole {
    let bytes = disk.read(NAME).unwrap_or_default();
    let field = |from: usize, to| bytes.get(from..to);
    let Some(told_boot) = field(8, 8 + BOOT).and_then(|told| <[u8; BOOT]>::try_from(told).ok()) else {
        return Whole::Unknown;
    };
    let number = field(8 + BOOT, 16 + BOOT).and_then(|told| Some(u64::from_le_bytes(told.try_into().ok()?)));
    if bytes == content(&told_boot, Whole::Always) {
        return Whole::Always;
    }
    let up_to = Whole::UpTo(number.unwrap_or(0));
    if bytes == content(boot, up_to) {
        return up_to;
    }
    Whole::Unknown
}

/// The name of this boot; where it can't be read, of none.
pub(super) fn boot() -> [u8; BOOT] {
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.get(..BOOT).and_then(|text| text.try_into().ok()).unwrap_or_else(|| {
        let mut none = [b'?'; BOOT];
        // Never the same twice: nothing can be told of what was there before.
        none[..8].copy_from_slice(&getrandom::u64().unwrap_or(0).to_le_bytes());
        none
    })
}

fn content(boot: &[u8; BOOT], whole: Whole) -> Vec<u8> {
    let (kind, number) = match whole {
        Whole::Unknown => (0, 0),
        Whole::UpTo(number) => (1, number),
        Whole::Always => (2, 0),
    };
    let mut bytes = Vec::with_capacity(8 + BOOT + 8 + 1 + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(boot);
    bytes.extend_from_slice(&u64::to_le_bytes(number));
    bytes.push(kind);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}
