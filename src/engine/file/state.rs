//! The file `state`. It tells whether the log has every message that was published, after a process was killed.
//!
//! Messages are delivered before they are written. So a killed hub may have delivered messages that its log does not
//! have. But mostly a hub is quiet, and then none are missing. So when everything is written, the file says that the
//! hub is quiet. The hub takes that back before it publishes again: the first publisher waits for it. The thread that
//! writes the log writes both, so that no publisher waits for a disk that hangs, or holds the hub's lock meanwhile.
//!
//! Neither of these writes is synced, on purpose. The kernel's memory survives the process. After a loss of power, the
//! file has what was synced at the start: not quiet. The kernel may have written a page by itself, but then the boot is
//! another one.

use super::disk::{Disk, Place};
use std::io;

const MAGIC: &[u8; 8] = b"pushst1\n";
const NAME: &str = "state";
/// The length of a boot's name, which is a UUID as text.
pub(super) const BOOT: usize = 36;

/// What the file says about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// Messages may have been delivered that are not in the log.
    Unknown,
    /// The log has everything up to this number, and nothing else was published.
    UpTo(u64),
    /// The hub delivered no message before it was synced.
    Always,
}

/// The open file.
#[derive(Debug)]
pub(super) struct State {
    file: Box<dyn Place>,
    boot: [u8; BOOT],
}

impl State {
    /// Says how the log is used from now on. This is synced.
    pub(super) fn begin(disk: &dyn Disk, boot: [u8; BOOT], whole: Whole) -> io::Result<Self> {
        Ok(State { file: disk.create(NAME, &content(&boot, whole))?, boot })
    }

    /// Says something else. This is not synced.
    pub(super) fn tell(&mut self, whole: Whole) -> io::Result<()> {
        self.file.write_at(&content(&self.boot, whole), 0)
    }
}

/// What the last hub has said.
pub(super) fn read(disk: &dyn Disk, boot: &[u8; BOOT]) -> Whole {
    let bytes = disk.read(NAME).unwrap_or_default();
    let field = |from: usize, to| bytes.get(from..to);
    let Some(its_boot) = field(8, 8 + BOOT).and_then(|bytes| <[u8; BOOT]>::try_from(bytes).ok()) else {
        return Whole::Unknown;
    };
    let number = field(8 + BOOT, 16 + BOOT).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    if bytes == content(&its_boot, Whole::Always) {
        return Whole::Always;
    }
    let up_to = Whole::UpTo(number.unwrap_or(0));
    if bytes == content(boot, up_to) {
        return up_to;
    }
    Whole::Unknown
}

/// The name of this boot, or a random one if it can't be read.
pub(super) fn boot() -> [u8; BOOT] {
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.get(..BOOT).and_then(|text| text.try_into().ok()).unwrap_or_else(|| {
        let mut none = [b'?'; BOOT];
        // A random name never matches, so nothing that was said before counts.
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
