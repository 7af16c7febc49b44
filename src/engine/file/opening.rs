//! Opens a log: locks it, reads it, and finds the number from which its next hub goes on.

use super::disk::{above, Directory, Disk};
use super::growing::write_again;
use super::reading::{self, Found, Step};
use super::showing::{Counted, Rest};
use super::state::{self, State, Whole, BOOT};
use super::writing::{drop_at_start, Appender, Beginning, EndsBefore, Kept};
use crate::error::{Error, Kind};
use crate::hub::{Epoch, Link, MAX_LINKS};
use crate::log::{Level, Log};
use crate::sys::flock::Locked;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A log that was read and is not yet written to. Nothing in it has changed.
#[derive(Debug)]
pub(crate) struct Unwritten {
    disk: Arc<dyn Disk>,
    /// The lock, held as long as the log is used.
    lock: Option<Locked>,
    place: String,
    boot: [u8; BOOT],
    found: Found,
    /// The point from which it goes on.
    epoch: Epoch,
    chain: Vec<Link>,
    last: u64,
}

/// A log that is open for writing, and what belongs to it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) appender: Appender,
    pub(super) state: State,
    pub(super) lock: Option<Locked>,
    pub(super) place: String,
}

impl Unwritten {
    /// Locks a directory for this process, and reads its log.
    pub(crate) fn open(path: &Path, each: &mut dyn FnMut(Step<'_>)) -> Result<Self, Error> {
        let place = path.display().to_string();
        let lock = take(path, &place)?;
        let disk = Directory::open(path).map_err(|error| Error::system(&place, &error))?;
        Unwritten::read(Arc::new(disk), Some(lock), place, state::boot(), each)
    }

    pub(super) fn read(
        disk: Arc<dyn Disk>,
        lock: Option<Locked>,
        place: String,
        boot: [u8; BOOT],
        each: &mut dyn FnMut(Step<'_>),
    ) -> Result<Self, Error> {
        let found = reading::read(&*disk, &place, each)?;
        let fresh = || getrandom::u64().map(Epoch::from_random).map_err(no_random);
        let (epoch, chain, last) = match found.lineage.clone() {
            None => (fresh()?, Vec::new(), 0),
            Some((epoch, mut chain)) => {
                let whole = state::read(&*disk, &boot);
                // Behind a clean end there may be a segment without messages: its hub was killed as it started.
                if whole == Whole::Closed(found.last) || whole == Whole::UpTo(found.last) {
                    (epoch, chain, found.last)
                } else {
                    // If the last segment is an older one, somebody has moved segments away.
                    let last_begins = found.segments.last().map_or(0, |segment| segment.first);
                    let lossy = !matches!(whole, Whole::Always(first) if first <= last_begins);
                    chain.push(Link { epoch, last: found.last, lossy, acts: false });
                    chain.drain(..chain.len().saturating_sub(MAX_LINKS));
                    // The fence takes one number.
                    (fresh()?, chain, found.last + 1)
                }
            }
        };
        Ok(Unwritten { disk, lock, place, boot, found, epoch, chain, last })
    }

    /// The present epoch, and those before it.
    pub(crate) fn lineage(&self) -> (Epoch, Vec<Link>) {
        (self.epoch.clone(), self.chain.clone())
    }

    /// The last number that was used, by a message or a fence.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Logs what was found.
    pub(crate) fn tell(&self, log: &Log) {
        let (place, found) = (&self.place, &self.found);
        for name in &found.others {
            log.line(Level::Warn, format_args!("engine: {place}/{name} is not a part of this log; it is ignored"));
        }
        if let (Some((at, bytes)), Some(segment)) = (found.torn, found.segments.last()) {
            let text = format_args!(
                "engine: {place}/{}: byte {at}: the end is incomplete; {} cut off",
                segment.name,
                Rest(bytes)
            );
            log.line(Level::Warn, text);
        }
        let segments = Counted(found.segments.len(), "segment");
        match self.chain.last().filter(|link| Some(&link.epoch) == found.lineage.as_ref().map(|(epoch, _)| epoch)) {
            Some(link) if link.lossy => log.line(
                Level::Warn,
                format_args!(
                    "engine: {place} was not closed cleanly, and messages after number {} may be missing: clients \
                     that come back are told of a gap there",
                    link.last
                ),
            ),
            Some(_) => {
                log.line(Level::Info, format_args!("engine: {place} was not closed cleanly; nothing is missing"))
            }
            None => {}
        }
        log.line(Level::Info, format_args!("engine: {place} was read: {segments}, up to number {}", found.last));
    }

    /// Begins to write. If `always` is true, messages are delivered only when they are synced.
    pub(super) fn begin(self, kept: Kept, always: bool, ends: &EndsBefore<'_>, now_ms: u64) -> Result<Written, Error> {
        let Unwritten { disk, lock, place, boot, mut found, epoch, chain, last } = self;
        let written = || -> io::Result<(Appender, State)> {
            // A full disk may have room then. The last segment stays until the next one has its epoch and numbers.
            drop_at_start(&*disk, kept, &mut found.segments, now_ms)?;
            if let Some(segment) = found.segments.last() {
                let mut file = disk.open(&segment.name)?;
                if found.torn.is_some() || found.zeros > 0 {
                    file.cut(segment.bytes)?;
                }
                // A killed hub leaves bytes in the kernel's memory. If the last sync has failed, the kernel may have given
                // them up. Only the last segment may lose its end, so they must be on the disk before the next one.
                write_again(&*disk, &mut *file, segment)?;
            }
            let beginning = Beginning { segments: found.segments, cleared: found.cleared, epoch, chain, last, always };
            let appender = Appender::begin(disk.clone(), kept, beginning, ends, now_ms)?;
            // The file `state` is about the last epoch in the log, so it is written after the new segment. If the start
            // ends in between, the older file is right about the end that is before that segment.
            let whole = if always { Whole::Always(appender.first()) } else { Whole::UpTo(appender.last()) };
            Ok((appender, State::begin(disk.clone(), boot, whole)?))
        };
        let (appender, state) =
            written().map_err(|error| Error::system(format_args!("{place}: the log can't be written"), &error))?;
        Ok(Written { appender, state, lock, place })
    }
}

/// Makes the directory if it does not exist, and locks it.
fn take(path: &Path, place: &str) -> Result<Locked, Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!(
                "{place}: the parent directory does not exist; the hub makes only the last directory of the path"
            );
            return Err(Error::new(Kind::System, text));
        }
        Err(error) => return Err(Error::system(format_args!("{place}: the directory can't be made"), &error)),
    }
    if !fs::metadata(path).map_err(|error| Error::system(place, &error))?.is_dir() {
        return Err(Error::new(Kind::System, format!("{place}: not a directory")));
    }
    let options =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path.join("lock"));
    let lock = above(
        options.map_err(|error| Error::system(format_args!("{place}/lock: it can't be opened to write"), &error))?,
    );
    let locked = Locked::take(lock).map_err(|error| Error::system(format_args!("{place}/lock"), &error))?;
    let mut lock = locked.map_err(|mut lock| {
        let mut holder = String::new();
        let _ = (&mut lock).take(20).read_to_string(&mut holder);
        let holder = if holder.is_empty() { String::new() } else { format!(" (process {})", holder.trim()) };
        let text = format!("{place}: another hub uses this directory{holder}; each hub needs one of its own");
        Error::new(Kind::System, text)
    })?;
    // Only the message above uses this.
    let file = lock.file();
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(lock)
}

/// Makes a new directory outlast a loss of power. Mostly it would without this: file systems with a journal write its name
/// along with the files in it. So a failure is no error.
fn sync_parent(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = fs::File::open(parent).and_then(|parent| above(parent).sync_all());
}

fn no_random(error: getrandom::Error) -> Error {
    Error::system("the system has no random numbers", &io::Error::other(error))
}
