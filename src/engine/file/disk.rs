//! What a log needs of a file system: few calls, so that tests can have one that fails, or that loses what was not
//! synced.

use crate::sys::standard;
use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a new file is called until it is complete.
pub(super) const UNFINISHED: &str = "new";

/// A directory with a log.
pub(crate) trait Disk: Send + Sync + Debug {
    /// The names of its files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// All of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes a file of that content, in place of one that was there: it is there as a whole, and lasts, or not at all.
    fn create(&self, name: &str, content: &[u8]) -> io::Result<Box<dyn Place>>;
    /// Opens a file to write.
    fn open(&self, name: &str) -> io::Result<Box<dyn Place>>;
    /// Removes a file. It may come back where the power fails.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A file that is written.
pub(crate) trait Place: Send + Debug {
    /// Writes all. After an error some of it may be there.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written last (fdatasync(2)).
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts off what is beyond a length.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// A directory of this machine.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Open, to be synced.
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

    fn create(&self, name: &str, content: &[u8]) -> io::Result<Box<dyn Place>> {
        let unfinished = self.path.join(UNFINISHED);
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let mut file = above(options);
        file.write_all(content)?;
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
