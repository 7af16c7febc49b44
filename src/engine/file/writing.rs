//! Writes a log: appends records to the last segment, and removes old segments as a whole.
//!
//! After an error nothing is given up. The same records are written again at the same offset until that succeeds.

use super::disk::{Disk, Place};
use super::growing::Growing;
use super::reading::Segment;
use super::record;
use super::segment::{self, Header};
use crate::engine::entry::Entry;
use crate::hub::{Ends, Epoch, Link};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// The smallest and the largest size of a segment. In between, a segment is an eighth of what is kept.
const SEGMENT: std::ops::RangeInclusive<u64> = (64 << 10)..=(64 << 20);
/// The share of a segment that the last numbers of channels may take at its beginning.
const ENDS_SHARE: usize = 4;

/// How much of a log is kept. Older segments are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) age_ms: u64,
    pub(crate) bytes: u64,
}

impl Kept {
    fn segment_bytes(&self) -> u64 {
        (self.bytes / 8).clamp(*SEGMENT.start(), *SEGMENT.end())
    }

    fn segment_age_ms(&self) -> u64 {
        (self.age_ms / 8).max(1000)
    }

    /// True if the oldest segment of a log with this many bytes goes.
    fn is_over(&self, oldest: &Segment, bytes: u64, now_ms: u64) -> bool {
        bytes > self.bytes || now_ms.saturating_sub(oldest.newest_ms) >= self.age_ms
    }
}

/// Lists the last numbers of channels before a number, for the beginning of a segment.
pub(super) type EndsBefore<'a> = dyn Fn(u64) -> Ends + 'a;

/// The point from which a log goes on.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) segments: Vec<Segment>,
    /// The channels that were cleared in the last segment before any message in it.
    pub(super) cleared: Vec<String>,
    pub(super) epoch: Epoch,
    pub(super) chain: Vec<Link>,
    /// The last number that was used, by a message or a fence.
    pub(super) last: u64,
    /// True if each append is synced before anything else is done.
    pub(super) always: bool,
}

/// A log that is open for writing. It has no thread and no clock.
#[derive(Debug)]
pub(crate) struct Appender {
    disk: Arc<dyn Disk>,
    kept: Kept,
    epoch: Epoch,
    chain: Vec<Link>,
    /// The earlier segments, oldest first.
    past: VecDeque<Segment>,
    past_bytes: u64,
    present: Segment,
    file: Growing,
    /// The next segment must begin: its file may be there already.
    must_begin: bool,
    created_ms: u64,
    /// The offset up to which the present segment needs no sync.
    synced: u64,
    /// The number of the last message that was synced.
    last_synced: u64,
    /// The end of the last mark, or of the segment's beginning.
    marked: u64,
    /// A sync has failed. It is not known which of the later bytes are on the disk.
    in_doubt: bool,
}

impl Appender {
    /// Goes on with a log, in a new segment.
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        kept: Kept,
        beginning: Beginning,
        ends: &EndsBefore<'_>,
        now_ms: u64,
    ) -> io::Result<Self> {
        let Beginning { segments, cleared, epoch, chain, last, always } = beginning;
        let header = header(&epoch, &chain, last + 1, now_ms)?;
        // An older file of this name has no messages, and is replaced. It may have cleared channels.
        let is_replaced = |segment: &Segment| segment.first == header.first;
        let cleared = if segments.last().is_some_and(is_replaced) { &cleared[..] } else { &[] };
        let (present, file) = create(&*disk, &header, kept, ends, cleared)?;
        let past: VecDeque<Segment> = segments.into_iter().filter(|segment| !is_replaced(segment)).collect();
        let past_bytes = past.iter().map(|segment| segment.bytes).sum();
        let (synced, marked, created_ms) = (present.bytes, present.bytes, now_ms);
        Ok(Appender {
            disk,
            kept,
            epoch,
            chain,
            past,
            past_bytes,
            present,
            file: Growing::new(file, synced, always),
            must_begin: false,
            created_ms,
            synced,
            last_synced: last,
            marked,
            in_doubt: false,
        })
    }

    /// The number with which the present segment begins.
    pub(crate) fn first(&self) -> u64 {
        self.present.first
    }

    /// The number of the last message that is in the log for sure, unless the power fails. After a failed sync, the kernel
    /// may have given up what was written since the sync before.
    pub(crate) fn last_sure(&self) -> u64 {
        if self.in_doubt {
            self.last_synced
        } else {
            self.present.last
        }
    }

    /// The number of the last message that was written.
    pub(crate) fn last(&self) -> u64 {
        self.present.last
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.past_bytes + self.present.bytes
    }

    /// True if everything is synced.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.present.bytes && !self.in_doubt
    }

    pub(crate) fn set_kept(&mut self, kept: Kept) {
        self.kept = kept;
    }

    /// Writes pieces of complete records. `last` is the number of their last message. After an error none of them
    /// counts as written, and the caller tries again.
    pub(crate) fn append(
        &mut self,
        pieces: &mut [&mut [u8]],
        last: u64,
        ends: &EndsBefore<'_>,
        now_ms: u64,
    ) -> io::Result<()> {
        self.make_sure()?;
        let old = now_ms.saturating_sub(self.created_ms) >= self.kept.segment_age_ms();
        let is_full =
            (self.present.bytes >= self.kept.segment_bytes() || old) && self.present.last >= self.present.first;
        if is_full || self.must_begin {
            self.next_segment(ends, now_ms)?;
        }
        let before = self.present.bytes;
        let mut at = before;
        for piece in pieces {
            record::seal(piece, self.present.salt);
            self.file.write(piece, at, before)?;
            at += piece.len() as u64;
        }
        self.present.bytes = at;
        self.present.last = last;
        self.present.newest_ms = self.present.newest_ms.max(now_ms);
        self.file.write_ahead(at, at - before, self.kept.segment_bytes());
        Ok(())
    }

    /// Syncs what was written. If `mark` is true, an entry is written after that, which says how far the log is synced.
    pub(crate) fn sync(&mut self, mark: bool) -> io::Result<()> {
        self.make_sure()?;
        if self.is_synced() {
            return Ok(());
        }
        self.sync_file()?;
        if mark {
            self.mark();
        }
        Ok(())
    }

    /// Writes an entry that says how far the log is synced, if that is further than the last one says. It needs no sync
    /// of its own: its statement is true without it.
    pub(crate) fn mark(&mut self) {
        let offset = self.synced;
        if self.is_synced() && offset > self.marked && self.note(&Entry::Synced { offset }).is_ok() {
            (self.synced, self.marked) = (self.present.bytes, self.present.bytes);
            self.file.loosen();
        }
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.in_doubt = true;
        self.file.sync()?;
        self.note_synced();
        Ok(())
    }

    /// Closes the log cleanly. Nothing may be written after that.
    pub(crate) fn close(&mut self, now_ms: u64) -> io::Result<()> {
        self.sync(false)?;
        // For people alone: the file `state` tells the next hub of the clean end. A full disk may have no room for it.
        let _ = self.note(&Entry::Closed { time_ms: now_ms });
        // If this fails, or does not last, the next hub does it.
        let _ = self.file.finish(self.present.bytes);
        self.sync(false)
    }

    /// Removes segments that are too old or too many. Returns how many.
    pub(crate) fn drop_old(&mut self, now_ms: u64) -> io::Result<usize> {
        let mut dropped = 0;
        while let Some(oldest) = self.past.front().filter(|oldest| self.kept.is_over(oldest, self.bytes(), now_ms)) {
            remove(&*self.disk, oldest)?;
            self.past_bytes -= oldest.bytes;
            self.past.pop_front();
            dropped += 1;
        }
        Ok(dropped)
    }

    /// The milliseconds until the oldest segment is too old.
    pub(crate) fn oldest_goes_in(&self, now_ms: u64) -> Option<u64> {
        let oldest = self.past.front()?;
        Some(oldest.newest_ms.saturating_add(self.kept.age_ms).saturating_sub(now_ms))
    }

    fn next_segment(&mut self, ends: &EndsBefore<'_>, now_ms: u64) -> io::Result<()> {
        // The segment ends with a record and is synced before the next one is created: only the end of the last segment
        // may be torn.
        self.file.finish(self.present.bytes)?;
        self.sync(false)?;
        if self.file.is_loose() {
            self.sync_file()?;
        }
        // If this fails, the file may be there all the same. Then no more may come into the segment before it, also if
        // nothing was created in truth, and a reload would leave room in that segment.
        self.must_begin = true;
        let header = header(&self.epoch, &self.chain, self.present.last + 1, now_ms)?;
        let (present, file) = create(&*self.disk, &header, self.kept, ends, &[])?;
        self.past_bytes += self.present.bytes;
        self.past.push_back(std::mem::replace(&mut self.present, present));
        self.file.go_on_in(file, self.present.bytes);
        (self.must_begin, self.created_ms) = (false, now_ms);
        (self.synced, self.marked) = (self.present.bytes, self.present.bytes);
        Ok(())
    }

    /// Writes an entry that is not a message.
    fn note(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        if self.must_begin {
            return Err(io::Error::other("the segment has ended"));
        }
        let mut bytes = Vec::new();
        record::append(&mut bytes, self.present.last, |into| entry.write(into));
        record::seal(&mut bytes, self.present.salt);
        self.file.write(&bytes, self.present.bytes, self.present.bytes)?;
        self.present.bytes += bytes.len() as u64;
        Ok(())
    }

    /// After a failed sync, writes everything again that it may not have written.
    fn make_sure(&mut self) -> io::Result<()> {
        if self.in_doubt {
            self.file.write_again(&*self.disk, &self.present)?;
            self.note_synced();
        }
        Ok(())
    }

    fn note_synced(&mut self) {
        (self.in_doubt, self.last_synced) = (false, self.present.last);
        (self.synced, self.present.on_disk) = (self.present.bytes, self.present.bytes);
    }
}

/// Removes segments that are too old or too many from a log that is not written yet. The last one stays.
pub(super) fn drop_at_start(disk: &dyn Disk, kept: Kept, segments: &mut Vec<Segment>, now_ms: u64) -> io::Result<()> {
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    while segments.len() > 1 && kept.is_over(&segments[0], bytes, now_ms) {
        remove(disk, &segments[0])?;
        bytes -= segments.remove(0).bytes;
    }
    Ok(())
}

fn remove(disk: &dyn Disk, segment: &Segment) -> io::Result<()> {
    match disk.remove(&segment.name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn header(epoch: &Epoch, chain: &[Link], first: u64, now_ms: u64) -> io::Result<Header> {
    let salt = getrandom::u32().map_err(io::Error::other)?;
    Ok(Header { first, created_ms: now_ms, salt, epoch: epoch.clone(), chain: chain.to_vec() })
}

/// Creates a segment. It begins with the last numbers of channels from before it, and with the channels that were cleared
/// in a segment that it replaces.
fn create(
    disk: &dyn Disk,
    header: &Header,
    kept: Kept,
    ends: &EndsBefore<'_>,
    cleared: &[String],
) -> io::Result<(Segment, Box<dyn Place>)> {
    let mut bytes = header.bytes();
    let room = kept.segment_bytes() as usize / ENDS_SHARE;
    let ends = ends(header.first).fitting(room);
    let mut entries: Vec<Entry<'_>> = cleared.iter().map(|channel| Entry::Cleared { channel }).collect();
    let channels = ends.channels.iter().map(|(number, channel)| (*number, &**channel)).collect();
    entries.push(Entry::Ends { floor: ends.floor, channels });
    let start = bytes.len();
    for entry in entries {
        record::append(&mut bytes, header.first - 1, |into| entry.write(into));
    }
    record::seal(&mut bytes[start..], header.salt);
    let name = segment::name(header.first);
    let len = bytes.len() as u64;
    let file = disk.create(&name, &|_| bytes.clone())?;
    let first = header.first;
    let (newest_ms, salt) = (header.created_ms, header.salt);
    Ok((Segment { name, first, last: first - 1, bytes: len, newest_ms, salt, on_disk: len }, file))
}
