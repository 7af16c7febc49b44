//! The file `state`. It tells whether the log has every message that was published, after a process was killed.
//!
//! Messages are delivered before they are written. So a killed hub may have delivered messages that its log does not
//! have. But mostly a hub is quiet, and then none are missing. So when everything is written, the file says that the
//! hub is quiet. The hub takes that back before it publishes again: the first publisher waits for it. The thread that
//! writes the log writes both, so that no publisher waits for a disk that hangs, or holds the hub's lock meanwhile.
//!
//! A hub is quiet from its start, and that file is synced. Neither of the later writes is synced, on purpose: the kernel's
//! memory survives the process. After a loss of power the file may say that the hub was quiet, though it was not. But it
//! says so for another boot, and counts for nothing.
//!
//! With `engine_sync=always` the file says so, which stays true after a loss of power. Such a file is never written in
//! place, since a torn write would leave a file that says nothing: a new one replaces it.
//!
//! At a clean end the file says so, with the last number. The segments could not say it alone: each clean end is in
//! them, and an operator who moves a damaged segment away may leave an older one at the end. The file also names itself
//! (its inode and its birth). A copy of the directory has another one. So a hub that starts from an older copy begins a
//! new epoch, since clients may have seen more than the copy has.

use super::disk::{Disk, Place};
use std::cell::Cell;
use std::io;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"pushst2\n";
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
    /// The hub delivered no message before it was synced, and its last segment begins with this number, or a later one.
    Always(u64),
    /// The hub has ended cleanly, and this was the last number.
    Closed(u64),
}

/// The open file.
#[derive(Debug)]
pub(super) struct State {
    disk: Arc<dyn Disk>,
    file: Box<dyn Place>,
    about: About,
    /// Unknown after a write that failed.
    said: Option<Whole>,
}

/// What the file is about: the boot, and the file itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct About {
    boot: [u8; BOOT],
    file: u64,
}

impl State {
    /// Says how the log is used from now on. This is synced.
    pub(super) fn begin(disk: Arc<dyn Disk>, boot: [u8; BOOT], whole: Whole) -> io::Result<Self> {
        let about = Cell::new(About { boot, file: 0 });
        let file = disk.create(NAME, &|file| {
            about.set(About { boot, file });
            content(about.get(), whole)
        })?;
        Ok(State { disk, file, about: about.get(), said: Some(whole) })
    }

    /// Says something else, in a new file. After a loss of power there is this file or the one before it, and it is
    /// complete. This is synced.
    pub(super) fn replace(&mut self, whole: Whole) -> io::Result<()> {
        if self.said != Some(whole) {
            *self = State::begin(self.disk.clone(), self.about.boot, whole)?;
        }
        Ok(())
    }

    /// Says something else. This is not synced, and a loss of power may leave a file that says nothing.
    pub(super) fn tell(&mut self, whole: Whole) -> io::Result<()> {
        if self.said != Some(whole) {
            self.said = None;
            self.file.write_at(&content(self.about, whole), 0)?;
            self.said = Some(whole);
        }
        Ok(())
    }

    /// Says that the log was closed cleanly behind this number. This is synced.
    pub(super) fn close(&mut self, last: u64) -> io::Result<()> {
        // A full disk may have no room for a new file.
        self.replace(Whole::Closed(last)).or_else(|_| {
            self.tell(Whole::Closed(last))?;
            self.file.sync()
        })
    }
}

/// What the last hub has said.
pub(super) fn read(disk: &dyn Disk, boot: &[u8; BOOT]) -> Whole {
    let bytes = disk.read(NAME).unwrap_or_default();
    let Ok(file) = disk.identity(NAME) else { return Whole::Unknown };
    let field = |from: usize, to| bytes.get(from..to);
    let Some(its_boot) = field(8, 8 + BOOT).and_then(|bytes| <[u8; BOOT]>::try_from(bytes).ok()) else {
        return Whole::Unknown;
    };
    let number = field(8 + BOOT, 16 + BOOT).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let number = number.unwrap_or(0);
    let (same_boot, any_boot) = (About { boot: *boot, file }, About { boot: its_boot, file });
    let known =
        [(same_boot, Whole::UpTo(number)), (any_boot, Whole::Always(number)), (any_boot, Whole::Closed(number))];
    let said = known.into_iter().find(|(about, whole)| bytes == content(*about, *whole));
    said.map_or(Whole::Unknown, |(_, whole)| whole)
}

/// True if zeros may end the log: the last hub has synced each append before it did anything else, or has ended cleanly,
/// and maybe could not cut them off. That counts for any boot.
pub(super) fn allows_zeros(disk: &dyn Disk) -> bool {
    matches!(read(disk, &[0; BOOT]), Whole::Always(_) | Whole::Closed(_))
}

/// True if the file names another file. Then the directory is a copy of the one that a hub has used.
pub(super) fn is_copy(disk: &dyn Disk) -> bool {
    let bytes = disk.read(NAME).unwrap_or_default();
    let Some((said, crc)) = bytes.split_last_chunk::<4>() else { return false };
    let Some((_, file)) = said.split_last_chunk::<8>() else { return false };
    let is_whole = bytes.starts_with(MAGIC) && crc32fast::hash(said) == u32::from_le_bytes(*crc);
    is_whole && disk.identity(NAME).is_ok_and(|named| named != u64::from_le_bytes(*file))
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

fn content(about: About, whole: Whole) -> Vec<u8> {
    let (kind, number) = match whole {
        Whole::Unknown => (0, 0),
        Whole::UpTo(number) => (1, number),
        Whole::Always(number) => (2, number),
        Whole::Closed(number) => (3, number),
    };
    let mut bytes = Vec::with_capacity(8 + BOOT + 8 + 8 + 1 + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&about.boot);
    bytes.extend_from_slice(&u64::to_le_bytes(number));
    bytes.push(kind);
    bytes.extend_from_slice(&u64::to_le_bytes(about.file));
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Makes the file of a copied directory name itself. So a copy can stand for a directory from which a hub was killed.
#[cfg(test)]
pub(super) fn take_over(disk: &dyn Disk) {
    let mut bytes = disk.read(NAME).unwrap();
    let at = bytes.len() - 12;
    bytes[at..at + 8].copy_from_slice(&disk.identity(NAME).unwrap().to_le_bytes());
    let crc = crc32fast::hash(&bytes[..at + 8]);
    bytes[at + 8..].copy_from_slice(&crc.to_le_bytes());
    disk.open(NAME).unwrap().write_at(&bytes, 0).unwrap();
}
