//! A disk of tests: it fails when it is told to, and forgets what was not synced when the power fails.

use super::disk::{Disk, Place};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Pages are what the kernel writes of its own accord, in any order.
const PAGE: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, Content>,
    /// Bytes that still fit; then it is full.
    room: Option<usize>,
    /// Syncs fail, and what they should have made last is dropped or not.
    sync_fails: bool,
    drops: bool,
}

#[derive(Debug, Default, Clone)]
struct Content {
    /// What is read; and what is on the disk.
    cached: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug)]
struct Open(Memory, String);

impl Memory {
    pub(super) fn set_room(&self, room: Option<usize>) {
        self.0.lock().unwrap().room = room;
    }

    pub(super) fn fail_syncs(&self, fail: bool, drops: bool) {
        let mut inner = self.0.lock().unwrap();
        (inner.sync_fails, inner.drops) = (fail, drops);
    }

    /// Of what was not synced, any pages may have been written or not: `chance` says of each, and where a file ends.
    pub(super) fn power_loss(&self, chance: &mut dyn FnMut(usize) -> usize) {
        for content in self.0.lock().unwrap().files.values_mut() {
            let longest = content.cached.len().max(content.synced.len());
            let len = content.synced.len() + chance(longest - content.synced.len() + 1);
            let mut after = content.synced.clone();
            after.resize(len.min(longest), 0);
            let len = after.len();
            for start in (0..len).step_by(PAGE) {
                let end = (start + PAGE).min(len).min(content.cached.len());
                if start < end && chance(2) == 1 {
                    after[start..end].copy_from_slice(&content.cached[start..end]);
                }
            }
            *content = Content { cached: after.clone(), synced: after };
        }
    }

    /// What a file holds, to be changed.
    pub(super) fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.0.lock().unwrap();
        let content = inner.files.get_mut(name).unwrap();
        change(&mut content.cached);
        content.synced = content.cached.clone();
    }

    /// Another one with the same files.
    pub(super) fn copy(&self) -> Memory {
        let inner = self.0.lock().unwrap();
        Memory(Arc::new(Mutex::new(Inner { files: inner.files.clone(), ..Inner::default() })))
    }

    pub(super) fn segments(&self) -> Vec<String> {
        self.list().unwrap().into_iter().filter(|name| name.ends_with(".log")).collect()
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let inner = self.0.lock().unwrap();
        inner.files.get(name).map(|content| content.cached.clone()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<Box<dyn Place>> {
        let mut inner = self.0.lock().unwrap();
        inner.take(bytes.len())?;
        inner.files.insert(name.into(), Content { cached: bytes.into(), synced: bytes.into() });
        drop(inner);
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Place>> {
        Ok(Box::new(Open(self.clone(), name.into())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().files.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Inner {
    fn take(&mut self, bytes: usize) -> io::Result<usize> {
        let Some(room) = &mut self.room else { return Ok(bytes) };
        let fits = bytes.min(*room);
        *room -= fits;
        if fits < bytes {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(fits)
    }
}

impl Place for Open {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.0 .0.lock().unwrap();
        let before = inner.room.unwrap_or(bytes.len());
        let result = inner.take(bytes.len());
        // What fitted of it is there.
        let fits = &bytes[..bytes.len().min(before)];
        let content = inner.files.get_mut(&self.1).unwrap();
        let end = offset as usize + fits.len();
        if content.cached.len() < end {
            content.cached.resize(end, 0);
        }
        content.cached[offset as usize..end].copy_from_slice(fits);
        result.map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.0 .0.lock().unwrap();
        let (fails, drops) = (inner.sync_fails, inner.drops);
        let content = inner.files.get_mut(&self.1).unwrap();
        if !fails {
            content.synced = content.cached.clone();
            return Ok(());
        }
        if drops {
            content.cached = content.synced.clone();
        }
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0 .0.lock().unwrap().files.get_mut(&self.1).unwrap().cached.truncate(len as usize);
        Ok(())
    }
}
