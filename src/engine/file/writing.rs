//! Writing a log: records are appended to its last segment; old segments go as a whole.
//!
//! After an error nothing is given up: the same records are written again at the same place, until it succeeds.

use super::disk::{Disk, Place};
use super::reading::Segment;
use super::record;
use super::segment::{self, Header};
use crate::engine::entry::Entry;
use crate::hub::{Epoch, Link};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// How large a segment gets, at least and at most. In between they are an eighth of what is kept.
const SEGMENT: std::ops::RangeInclusive<u64> = (64 << 10)..=(64 << 20);
/// Of a segment's size, what the last numbers of channels may take at its beginning.
const ENDS_SHARE: usize = 4;

/// How much of a log is kept: older segments go.
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
}

/// The last numbers of channels, for the beginning of a segment.
pub(crate) type Ends = Vec<(u64, Arc<str>)>;

/// What a log goes on from.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) segments: Vec<Segment>,
    pub(super) epoch: Epoch,
    pub(super) chain: Vec<Link>,
    /// The last number that was given, to a message or a fence.
    pub(super) last: u64,
}

/// A log that is written. It has no thread and no clock.
#[derive(Debug)]
pub(crate) struct Appender {
    disk: Arc<dyn Disk>,
    kept: Kept,
    epoch: Epoch,
    chain: Vec<Link>,
    /// The segments before the last, oldest first.
    past: VecDeque<Segment>,
    past_bytes: u64,
    present: Segment,
    file: Box<dyn Place>,
    salt: u32,
    created_ms: u64,
    /// Up to where it was synced. Behind it are only records of ours.
    synced: u64,
    /// A sync has failed: nobody knows what of the rest is on the disk.
    in_doubt: bool,
}

impl Appender {
    /// Goes on with a log, in a new segment.
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        kept: Kept,
        beginning: Beginning,
        ends: &dyn Fn() -> Ends,
        now_ms: u64,
    ) -> io::Result<Self> {
        let Beginning { segments, epoch, chain, last } = beginning;
        let header = header(&epoch, &chain, last + 1, now_ms)?;
        let (present, file) = create(&*disk, &header, kept, ends)?;
        // One of that name had no messages, and is replaced.
        let past: VecDeque<Segment> = segments.into_iter().filter(|segment| segment.name != present.name).collect();
        let past_bytes = past.iter().map(|segment| segment.bytes).sum();
        let synced = present.bytes;
        let (salt, created_ms) = (header.salt, now_ms);
        Ok(Appender {
            disk,
            kept,
            epoch,
            chain,
            past,
            past_bytes,
            present,
            file,
            salt,
            created_ms,
            synced,
            in_doubt: false,
        })
    }

    /// The number of the last message that was written.
    pub(crate) fn last(&self) -> u64 {
        self.present.last
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.past_bytes + self.present.bytes
    }

    /// Whether everything was synced.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.present.bytes && !self.in_doubt
    }

    pub(crate) fn set_kept(&mut self, kept: Kept) {
        self.kept = kept;
    }

    /// Writes pieces of whole records, of which the last message has the number `last`. After an error none of it
    /// counts as written, and it is to be tried again.
    pub(crate) fn append(
        &mut self,
        pieces: &mut [&mut [u8]],
        last: u64,
        ends: &dyn Fn() -> Ends,
        now_ms: u64,
    ) -> io::Result<()> {
        self.make_sure()?;
        let old = now_ms.saturating_sub(self.created_ms) >= self.kept.segment_age_ms();
        if (self.present.bytes >= self.kept.segment_bytes() || old) && self.present.last >= self.present.first {
            self.next_segment(ends, now_ms)?;
        }
        let mut at = self.present.bytes;
        for piece in pieces {
            record::seal(piece, self.salt);
            self.write(piece, at)?;
            at += piece.len() as u64;
        }
        self.present.bytes = at;
        self.present.last = last;
        self.present.newest_ms = self.present.newest_ms.max(now_ms);
        Ok(())
    }

    /// Makes what was written last. `mark`: and says so in the log, with what is written next.
    pub(crate) fn sync(&mut self, mark: bool) -> io::Result<()> {
        self.make_sure()?;
        if self.is_synced() {
            return Ok(());
        }
        self.in_doubt = true;
        self.file.sync()?;
        self.in_doubt = false;
        self.synced = self.present.bytes;
        if mark {
            // It counts as synced itself: what it says is true without it.
            let offset = self.synced;
            if self.note(&Entry::Synced { offset }).is_ok() {
                self.synced = self.present.bytes;
            }
        }
        Ok(())
    }

    /// Closes the log in order. Nothing may be written after it.
    pub(crate) fn close(&mut self, now_ms: u64) -> io::Result<()> {
        self.sync(false)?;
        self.note(&Entry::Closed { time_ms: now_ms })?;
        self.sync(false)
    }

    /// Removes segments of which all is older than is kept, or that are too many. Says how many.
    pub(crate) fn drop_old(&mut self, now_ms: u64) -> io::Result<usize> {
        let mut dropped = 0;
        while let Some(oldest) = self.past.front() {
            let old = now_ms.saturating_sub(oldest.newest_ms) >= self.kept.age_ms;
            if !old && self.bytes() <= self.kept.bytes {
                break;
            }
            match self.disk.remove(&oldest.name) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.past_bytes -= oldest.bytes;
            self.past.pop_front();
            dropped += 1;
        }
        Ok(dropped)
    }

    /// In how many milliseconds the oldest segment is too old.
    pub(crate) fn oldest_goes_in(&self, now_ms: u64) -> Option<u64> {
        let oldest = self.past.front()?;
        Some(oldest.newest_ms.saturating_add(self.kept.age_ms).saturating_sub(now_ms))
    }

    fn next_segment(&mut self, ends: &dyn Fn() -> Ends, now_ms: u64) -> io::Result<()> {
        // Whole before the next one is there: only the end of the last segment may be torn.
        self.sync(false)?;
        let header = header(&self.epoch, &self.chain, self.present.last + 1, now_ms)?;
        let (present, file) = create(&*self.disk, &header, self.kept, ends)?;
        self.past_bytes += self.present.bytes;
        self.past.push_back(std::mem::replace(&mut self.present, present));
        (self.file, self.salt, self.created_ms) = (file, header.salt, now_ms);
        self.synced = self.present.bytes;
        Ok(())
    }

    /// Writes an entry that is no message.
    fn note(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        record::append(&mut bytes, self.present.last, |into| entry.write(into));
        record::seal(&mut bytes, self.salt);
        self.write(&bytes, self.present.bytes)?;
        self.present.bytes += bytes.len() as u64;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let written = self.file.write_at(bytes, at);
        if written.is_err() {
            // If that fails, too, what is there of it is a torn end, or is written over.
            let _ = self.file.cut(self.present.bytes);
        }
        written
    }

    /// After a sync that failed: the kernel may have dropped what it could not write, and say nothing at the next sync.
    /// So all of it is written again.
    fn make_sure(&mut self) -> io::Result<()> {
        if !self.in_doubt {
            return Ok(());
        }
        let all = self.disk.read(&self.present.name)?;
        let (from, to) = (self.synced as usize, self.present.bytes as usize);
        let lost = || io::Error::other("what could not be synced can't be read again; the hub has to be started anew");
        let doubtful = all.get(from..to).ok_or_else(lost)?;
        let mut at = from;
        while at < to {
            at = record::at(&all[..to], at, self.salt).ok_or_else(lost)?.end;
        }
        self.file.write_at(doubtful, self.synced)?;
        self.file.sync()?;
        self.in_doubt = false;
        self.synced = self.present.bytes;
        Ok(())
    }
}

fn header(epoch: &Epoch, chain: &[Link], first: u64, now_ms: u64) -> io::Result<Header> {
    let salt = getrandom::u32().map_err(io::Error::other)?;
    Ok(Header { first, created_ms: now_ms, salt, epoch: epoch.clone(), chain: chain.to_vec() })
}

/// Makes a segment, with the last numbers of channels that are from before it.
fn create(
    disk: &dyn Disk,
    header: &Header,
    kept: Kept,
    ends: &dyn Fn() -> Ends,
) -> io::Result<(Segment, Box<dyn Place>)> {
    let mut bytes = header.bytes();
    let room = kept.segment_bytes() as usize / ENDS_SHARE;
    let mut taken = 0;
    let ends = ends();
    let ends = ends.iter().filter(|(number, _)| *number < header.first);
    let ends: Vec<(u64, &str)> = ends
        .map(|(number, channel)| (*number, &**channel))
        .take_while(|(_, channel)| {
            taken += channel.len() + 9;
            taken <= room
        })
        .collect();
    if !ends.is_empty() {
        let start = bytes.len();
        record::append(&mut bytes, header.first - 1, |into| Entry::Ends(ends).write(into));
        record::seal(&mut bytes[start..], header.salt);
    }
    let name = segment::name(header.first);
    let file = disk.create(&name, &bytes)?;
    let (first, len) = (header.first, bytes.len() as u64);
    Ok((Segment { name, first, last: first - 1, bytes: len, newest_ms: header.created_ms }, file))
}
