//! A disk for tests. It can be told to fail. At a loss of power it loses what was not synced.

use super::disk::{Disk, Place};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

/// The size of a page. The kernel may write pages by itself, in any order.
const PAGE: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Inner>>, Arc<Condvar>);

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, Content>,
    /// The bytes that still fit before the disk is full.
    room: Option<usize>,
    /// Syncs fail. Then the kernel gives up the bytes that it could not write: later syncs do not write them, either. If
    /// `drops` is true, reads do not return them any more.
    sync_fails: bool,
    drops: bool,
    /// Syncs do not return.
    hangs: bool,
    /// Writes do not return.
    writes_hang: bool,
    /// Writes fail when they have written so many bytes.
    writes_fail: Option<usize>,
    /// Cuts fail, and cut nothing.
    cuts_fail: bool,
    /// Files are created, and the calls that do it fail: the directory can't be synced.
    creations_fail: bool,
    /// The number of syncs that have begun.
    syncs: usize,
    /// The number of syncs that had to write a new length of their file.
    longer: usize,
    /// The number of times that the files were copied to another directory.
    copies: u64,
    /// The next reader of a file finds zeros here: it reads the bytes before they are written.
    early: Option<(String, Range<usize>)>,
}

#[derive(Debug, Default, Clone)]
struct Content {
    /// The content that is read, and the content on the disk.
    cached: Vec<u8>,
    synced: Vec<u8>,
    /// For each byte: true if the kernel has given it up.
    given_up: Vec<bool>,
    writes: usize,
}

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        Content { cached: bytes.clone(), synced: bytes, given_up: Vec::new(), writes: 0 }
    }

    fn is_given_up(&self, at: usize) -> bool {
        self.given_up.get(at).copied().unwrap_or(false)
    }

    /// The bytes that are on the disk after a sync of these.
    fn written(&self, asked: &[u8]) -> Vec<u8> {
        let old = |at: usize| self.synced.get(at).copied().unwrap_or(0);
        asked.iter().enumerate().map(|(at, byte)| if self.is_given_up(at) { old(at) } else { *byte }).collect()
    }

    fn give_up(&mut self) {
        self.given_up.resize(self.cached.len(), false);
        for (at, byte) in self.cached.iter().enumerate() {
            self.given_up[at] |= self.synced.get(at) != Some(byte);
        }
    }
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

    pub(super) fn fail_writes(&self, fail: bool) {
        self.fail_writes_after(fail.then_some(0));
    }

    /// Makes writes fail when they have written so many bytes, or lets them succeed.
    pub(super) fn fail_writes_after(&self, bytes: Option<usize>) {
        self.0.lock().unwrap().writes_fail = bytes;
    }

    pub(super) fn fail_cuts(&self, fail: bool) {
        self.0.lock().unwrap().cuts_fail = fail;
    }

    /// Makes the creation of files fail, although the files are there then.
    pub(super) fn fail_creations(&self, fail: bool) {
        self.0.lock().unwrap().creations_fail = fail;
    }

    /// Everything succeeds again.
    pub(super) fn heal(&self) {
        self.fail_writes_after(None);
        self.fail_cuts(false);
        self.fail_creations(false);
        self.fail_syncs(false, false);
    }

    /// Makes syncs hang, or lets them go on.
    pub(super) fn hang(&self, hangs: bool) {
        self.0.lock().unwrap().hangs = hangs;
        self.1.notify_all();
    }

    /// Makes writes hang, or lets them go on.
    pub(super) fn hang_writes(&self, hang: bool) {
        self.0.lock().unwrap().writes_hang = hang;
        self.1.notify_all();
    }

    /// The number of syncs that have begun.
    pub(super) fn syncs(&self) -> usize {
        self.0.lock().unwrap().syncs
    }

    /// The number of syncs that had to write a new length of their file.
    pub(super) fn longer(&self) -> usize {
        self.0.lock().unwrap().longer
    }

    /// The number of writes to a file since it was created.
    pub(super) fn writes(&self, name: &str) -> usize {
        self.0.lock().unwrap().files[name].writes
    }

    /// Simulates a loss of power. Any pages that were not synced may have been written or not: `chance` decides for
    /// each, and for the end of each file.
    pub(super) fn power_loss(&self, chance: &mut dyn FnMut(usize) -> usize) {
        for content in self.0.lock().unwrap().files.values_mut() {
            let cached = content.written(&content.cached);
            let longest = cached.len().max(content.synced.len());
            let mut len = content.synced.len() + chance(longest - content.synced.len() + 1);
            if cached.len() < content.synced.len() && chance(2) == 1 {
                // The cut has reached the disk, although it was not synced.
                len = cached.len();
            }
            let mut after = content.synced.clone();
            after.resize(len.min(longest), 0);
            let len = after.len();
            for start in (0..len).step_by(PAGE) {
                let end = (start + PAGE).min(len).min(cached.len());
                if start < end && chance(2) == 1 {
                    after[start..end].copy_from_slice(&cached[start..end]);
                }
            }
            *content = Content::new(after);
        }
    }

    /// A file's content, to be changed.
    pub(super) fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.0.lock().unwrap();
        let content = inner.files.get_mut(name).unwrap();
        change(&mut content.cached);
        *content = Content::new(std::mem::take(&mut content.cached));
    }

    /// A copy of the disk with the same files, as a killed process leaves them.
    pub(super) fn copy(&self) -> Memory {
        let inner = self.0.lock().unwrap();
        let copy = Inner { files: inner.files.clone(), copies: inner.copies, ..Inner::default() };
        Memory(Arc::new(Mutex::new(copy)), Arc::default())
    }

    /// The copy that an operator makes of the files.
    pub(super) fn backup(&self) -> Memory {
        let copy = self.copy();
        copy.0.lock().unwrap().copies += 1;
        copy
    }

    /// The next read of this file finds zeros there. Later ones do not.
    pub(super) fn read_early(&self, name: &str, place: Range<usize>) {
        self.0.lock().unwrap().early = Some((name.into(), place));
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
        let mut inner = self.0.lock().unwrap();
        let early = inner.early.take_if(|(early, _)| early == name);
        let mut bytes = inner.files.get(name).map(|content| content.cached.clone()).ok_or(io::ErrorKind::NotFound)?;
        early.into_iter().for_each(|(_, place)| bytes[place].fill(0));
        Ok(bytes)
    }

    fn create(&self, name: &str, content: &dyn Fn(u64) -> Vec<u8>) -> io::Result<Box<dyn Place>> {
        let mut inner = self.0.lock().unwrap();
        let bytes = content(1 + inner.copies);
        inner.take(bytes.len())?;
        inner.files.insert(name.into(), Content::new(bytes));
        if inner.creations_fail {
            return Err(failed());
        }
        drop(inner);
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Place>> {
        Ok(Box::new(Open(self.clone(), name.into())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().files.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn identity(&self, name: &str) -> io::Result<u64> {
        let inner = self.0.lock().unwrap();
        inner.files.get(name).map(|_| 1 + inner.copies).ok_or(io::ErrorKind::NotFound.into())
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
        let inner = self.0 .0.lock().unwrap();
        let mut inner = self.0 .1.wait_while(inner, |inner| inner.writes_hang).unwrap();
        let bytes = &bytes[..inner.writes_fail.unwrap_or(bytes.len()).min(bytes.len())];
        // What is there is written over. The rest needs room, and the part that fits is written.
        let there = inner.files[&self.1].cached.len().saturating_sub(offset as usize).min(bytes.len());
        let before = inner.room.unwrap_or(bytes.len());
        let result = inner.take(bytes.len() - there);
        let fits = &bytes[..bytes.len().min(there.saturating_add(before))];
        let content = inner.files.get_mut(&self.1).unwrap();
        content.writes += 1;
        let end = offset as usize + fits.len();
        if content.cached.len() < end {
            content.cached.resize(end, 0);
        }
        content.cached[offset as usize..end].copy_from_slice(fits);
        content.given_up.iter_mut().take(end).skip(offset as usize).for_each(|given_up| *given_up = false);
        if inner.writes_fail.is_some() {
            return Err(failed());
        }
        result.map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.0 .0.lock().unwrap();
        inner.syncs += 1;
        // A sync writes the content that the file had when it was called.
        let asked = inner.files.get(&self.1).unwrap().cached.clone();
        inner = self.0 .1.wait_while(inner, |inner| inner.hangs).unwrap();
        let (fails, drops) = (inner.sync_fails, inner.drops);
        let content = inner.files.get_mut(&self.1).unwrap();
        if !fails {
            let written = content.written(&asked);
            let before = std::mem::replace(&mut content.synced, written);
            inner.longer += usize::from(asked.len() > before.len());
            return Ok(());
        }
        content.give_up();
        if drops {
            *content = Content::new(content.synced.clone());
        }
        Err(failed())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut inner = self.0 .0.lock().unwrap();
        if inner.cuts_fail {
            return Err(failed());
        }
        let content = inner.files.get_mut(&self.1).unwrap();
        content.cached.truncate(len as usize);
        content.given_up.truncate(len as usize);
        Ok(())
    }
}

fn failed() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}
