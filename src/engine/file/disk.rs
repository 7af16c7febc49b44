//! The few file system calls that a log needs. Tests use a disk that fails, or that loses what was not synced.

use crate::sys::standard;
use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The name of a new file until it is complete.
pub(super) const UNFINISHED: &str = "new";

/// A directory with a log.
pub(crate) trait Disk: Send + Sync + Debug {
    /// The names of its files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The content of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Creates a file, or replaces the one that was there. Its content is made from its identity. After a crash the file is
    /// complete, or not there.
    fn create(&self, name: &str, content: &dyn Fn(u64) -> Vec<u8>) -> io::Result<Box<dyn Place>>;
    /// Opens a file to write.
    fn open(&self, name: &str) -> io::Result<Box<dyn Place>>;
    /// Removes a file. After a loss of power it may be back.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Tells a file from its copies: a number that stays while the file is written, and that a copy does not have.
    fn identity(&self, name: &str) -> io::Result<u64>;
}

/// A file that is written.
pub(crate) trait Place: Send + Debug {
    /// Writes all bytes. After an error, some of them may be in the file.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Syncs the written bytes (fdatasync(2)).
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file at a length.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// A directory of this machine.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The open directory, which is synced.
    itself: fs::File,
}

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Directory { path: path.into(), itself: above(fs::File::open(path)?) })
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn create(&self, name: &str, content: &dyn Fn(u64) -> Vec<u8>) -> io::Result<Box<dyn Place>> {
        let unfinished = self.path.join(UNFINISHED);
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let mut file = above(options);
        file.write_all(&content(identity(&file.metadata()?)))?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path.join(name))?;
        self.itself.sync_all()?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Place>> {
        Ok(Box::new(above(OpenOptions::new().write(true).open(self.path.join(name))?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn identity(&self, name: &str) -> io::Result<u64> {
        Ok(identity(&fs::metadata(self.path.join(name))?))
    }
}

/// From the inode, and the time of its birth (statx(2)), since the numbers of inodes are used again. A few file systems
/// keep no such time. The number of the device is left out: it may change at a boot.
fn identity(metadata: &fs::Metadata) -> u64 {
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    metadata.ino().rotate_left(32) ^ born.as_nanos() as u64
}

impl Place for fs::File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// See `sys::standard`.
pub(super) fn above(file: fs::File) -> fs::File {
    standard::above(OwnedFd::from(file)).into()
}
