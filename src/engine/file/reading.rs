//! Reads a log from its first segment to its last, and decides what is wrong with it.
//!
//! Only the end of the last segment may be torn: a hub was killed, or the power failed, while it wrote there. A torn
//! end is cut off. Anything else is damage, which is an error, and the log is left unchanged. If a later record says
//! that a place had been synced, that place was complete once. So an error there is damage and not a torn end.
//!
//! A hub with `engine_sync=always` writes zeros ahead of the last segment's end. They may also be behind a clean end, if
//! they could not be cut off. In another log zeros are torn: the file was made longer, and the power failed before its
//! bytes were written. In a copy, zeros are torn also if a later record says that their place had been synced: the hub
//! wrote on while the file was copied, so the copy may have early bytes from before that record, and late ones.

use super::disk::{Disk, UNFINISHED};
use super::record::{self, Record};
use super::segment::{self, Header, Unreadable, BEFORE, FORMAT, STEP};
use super::state;
use crate::engine::entry::{Entry, MARK};
use crate::error::{Error, Kind};
use crate::hub::{Epoch, Link};
use std::io;

/// The callbacks for what is read, in the order of the log.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// The number of the first message that the log can have. Earlier messages are gone.
    First(u64),
    /// With this segment an epoch begins, since the log was not closed cleanly. That takes a number. `lossy`: messages
    /// before it may be missing.
    Fence { number: u64, epoch: &'a Epoch, lossy: bool, segment: &'a str },
    /// An entry, with its number and place.
    Entry { number: u64, entry: Entry<'a>, segment: &'a str, offset: usize },
}

/// The result of reading a log.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) segments: Vec<Segment>,
    /// The last epoch, and those before it. `None` if there is no log yet.
    pub(crate) lineage: Option<(Epoch, Vec<Link>)>,
    /// The number of the last message.
    pub(crate) last: u64,
    /// True if its last entry says that it was closed.
    pub(crate) closed: bool,
    /// The channels that were cleared in the last segment before any message in it.
    pub(crate) cleared: Vec<String>,
    /// A torn end: its offset, and its number of bytes up to the last that is not zero. The segment's bytes do not include
    /// it.
    pub(crate) torn: Option<(usize, usize)>,
    /// The bytes that were written ahead of the end. The segment's bytes do not include them.
    pub(crate) zeros: usize,
    /// Files that are not part of the log.
    pub(crate) others: Vec<String>,
}

/// A segment that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) first: u64,
    /// The number of its last message, or of the last message before it.
    pub(crate) last: u64,
    pub(crate) bytes: u64,
    /// The newest time of a message in it, or the time of its creation.
    pub(crate) newest_ms: u64,
    /// The value with which its checksums begin.
    pub(crate) salt: u32,
    /// The offset up to which its bytes are on the disk for sure.
    pub(crate) on_disk: u64,
}

/// Reads a whole log. `place` names its directory in errors.
pub(crate) fn read(disk: &dyn Disk, place: &str, each: &mut dyn FnMut(Step<'_>)) -> Result<Found, Error> {
    let mut firsts = Vec::new();
    let mut others = Vec::new();
    for name in disk.list().map_err(|error| Error::system(place, &error))? {
        match segment::first_of(&name) {
            Some(first) => firsts.push(first),
            None if matches!(&*name, "lock" | "state" | UNFINISHED) => {}
            None => others.push(name),
        }
    }
    firsts.sort_unstable();
    let mut reader = Reader {
        place,
        each,
        allows_zeros: state::allows_zeros(disk),
        is_copy: state::is_copy(disk),
        before: None,
        last: 0,
        closed: false,
        cleared: Vec::new(),
        torn: None,
        zeros: 0,
    };
    let mut segments: Vec<Segment> = Vec::new();
    for (index, first) in firsts.iter().enumerate() {
        let name = segment::name(*first);
        let bytes = match disk.read(&name) {
            // A hub runs, which this reader watches, and has just removed its oldest segment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && segments.is_empty() => continue,
            read => read.map_err(|error| Error::system(format_args!("{place}/{name}"), &error))?,
        };
        let is_last = index + 1 == firsts.len();
        segments.push(reader.segment(&name, *first, &bytes, segments.last(), is_last)?);
    }
    let Reader { before, last, closed, cleared, torn, zeros, .. } = reader;
    let lineage = before.map(|header| (header.epoch, header.chain));
    Ok(Found { segments, lineage, last, closed, cleared, torn, zeros, others })
}

struct Reader<'a, 'e> {
    place: &'a str,
    each: &'e mut dyn FnMut(Step<'_>),
    /// True if zeros may end the log.
    allows_zeros: bool,
    /// True if the log was copied from elsewhere, maybe while a hub wrote it.
    is_copy: bool,
    /// The header of the segment that was read last.
    before: Option<Header>,
    last: u64,
    closed: bool,
    cleared: Vec<String>,
    torn: Option<(usize, usize)>,
    zeros: usize,
}

impl Reader<'_, '_> {
    fn segment(
        &mut self,
        name: &str,
        first: u64,
        bytes: &[u8],
        before: Option<&Segment>,
        is_last: bool,
    ) -> Result<Segment, Error> {
        let (header, start) = Header::read(bytes).map_err(|unreadable| self.unreadable(name, &unreadable))?;
        if header.first != first || first == 0 {
            return Err(self.damaged(name, 0, "its name is not the number that it begins with"));
        }
        match (&self.before, before) {
            (Some(old), Some(before)) => {
                self.follows(old, before, &header, name)?;
                if let Some(link) = header.chain.last().filter(|_| header.epoch != old.epoch) {
                    let (number, epoch, lossy) = (link.fence(), &header.epoch, link.lossy);
                    (self.each)(Step::Fence { number, epoch, lossy, segment: name });
                }
            }
            _ => (self.each)(Step::First(first)),
        }
        // A fence takes a number, too.
        self.last = first - 1;
        let is_first = before.is_none();
        let mut segment = Segment {
            name: name.into(),
            first,
            last: self.last,
            bytes: bytes.len() as u64,
            newest_ms: header.created_ms,
            salt: header.salt,
            // A segment is created with a synced header.
            on_disk: start as u64,
        };
        let end = self.entries(&mut segment, bytes, start, &header, is_first, is_last)?;
        segment.bytes = end as u64;
        self.before = Some(header);
        Ok(segment)
    }

    /// Reads the records of a segment. Returns the offset where they end.
    fn entries(
        &mut self,
        segment: &mut Segment,
        bytes: &[u8],
        start: usize,
        header: &Header,
        is_first: bool,
        is_last: bool,
    ) -> Result<usize, Error> {
        let mut at = start;
        self.closed = false;
        self.cleared.clear();
        // The messages of a batch that is not complete yet.
        let mut batch: Vec<(Record<'_>, Entry<'_>)> = Vec::new();
        while at < bytes.len() {
            let Some(record) = record::at(bytes, at, header.salt) else {
                let was_copied = || self.is_copy && bytes[at..].iter().take(record::HEAD).all(|byte| *byte == 0);
                if !is_last || (self.was_synced(bytes, at, header.salt) && !was_copied()) {
                    return Err(self.damaged(&segment.name, at, "an entry is damaged: its checksum is wrong"));
                }
                break;
            };
            let strange = "an entry is not one that this version of libpush writes";
            let entry = Entry::read(record.entry).ok_or_else(|| self.damaged(&segment.name, at, strange))?;
            let expected = self.last + u64::from(matches!(entry, Entry::Message(_)));
            if record.number != expected {
                let text =
                    format!("an entry has the number {}; after those before it, it must be {expected}", record.number);
                return Err(self.damaged(&segment.name, at, &text));
            }
            (self.last, at) = (record.number, record.end);
            self.closed = matches!(entry, Entry::Closed { .. });
            match entry {
                Entry::Synced { offset } => segment.on_disk = offset.min(record.offset as u64),
                Entry::Closed { .. } => segment.on_disk = record.offset as u64,
                _ => {}
            }
            match &entry {
                Entry::Message(message) => {
                    segment.newest_ms = segment.newest_ms.max(message.time_ms);
                    let more = message.more;
                    batch.push((record, entry));
                    if !more {
                        batch.drain(..).for_each(|(record, entry)| self.tell(record, entry, &segment.name));
                    }
                }
                // The last numbers in later segments are known already from the messages.
                Entry::Ends { .. } if !is_first => {}
                Entry::Cleared { channel } => {
                    if self.last < segment.first {
                        self.cleared.push((*channel).to_owned());
                    }
                    self.tell(record, entry, &segment.name);
                }
                _ => self.tell(record, entry, &segment.name),
            }
        }
        // A batch counts only if it is complete.
        if let Some((record, _)) = batch.first() {
            if !is_last {
                return Err(self.damaged(&segment.name, record.offset, "the rest of a batch is missing"));
            }
            (self.last, at) = (record.number - 1, record.offset);
        }
        let rest = &bytes[at..];
        if self.allows_zeros && rest.len() as u64 <= STEP && rest.iter().all(|byte| *byte == 0) {
            self.zeros = rest.len();
        } else if !rest.is_empty() {
            let no_zero = rest.iter().rposition(|byte| *byte != 0);
            self.torn = Some((at, no_zero.map_or(0, |last| last + 1)));
            self.closed = false;
        }
        segment.last = self.last;
        Ok(at)
    }

    fn tell(&mut self, record: Record<'_>, entry: Entry<'_>, segment: &str) {
        (self.each)(Step::Entry { number: record.number, entry, segment, offset: record.offset });
    }

    /// True if a later record says that the log was synced beyond `at`, where something is wrong now.
    fn was_synced(&self, bytes: &[u8], at: usize, salt: u32) -> bool {
        record::all_after(bytes, at + 1, MARK, salt, self.last).any(|record| match Entry::read(record.entry) {
            Some(Entry::Closed { .. }) => true,
            Some(Entry::Synced { offset }) => offset > at as u64,
            _ => false,
        })
    }

    /// Checks that a segment continues where the one before it ended. There may be a fence between them.
    fn follows(&self, old: &Header, before: &Segment, new: &Header, name: &str) -> Result<(), Error> {
        let goes_on = new.first == self.last + 1 && new.epoch == old.epoch;
        let fence = |link: &Link| link.epoch == old.epoch && link.last == self.last && new.first == self.last + 2;
        if goes_on || new.chain.last().is_some_and(fence) {
            return Ok(());
        }
        let text = format!(
            "it begins with number {}, but {} ends with {}: what was between them is missing",
            new.first, before.name, self.last
        );
        Err(self.damaged(name, 0, &text))
    }

    fn unreadable(&self, name: &str, unreadable: &Unreadable) -> Error {
        match unreadable {
            Unreadable::Short => self.damaged(name, 0, "its header is not all there"),
            Unreadable::Damaged => self.damaged(name, 0, "its header is damaged, or the file is no segment of a log"),
            Unreadable::Format(format) => {
                let [first, second] = BEFORE;
                let text = format!(
                    "{}/{name}: byte 8: the log has format {format}, and this version of libpush reads formats \
                     {first}, {second} and {FORMAT}; use the version that wrote it, or another directory",
                    self.place
                );
                Error::new(Kind::System, text)
            }
        }
    }

    fn damaged(&self, name: &str, offset: usize, what: &str) -> Error {
        let text = format!(
            "{}/{name}: byte {offset}: {what}. Nothing was changed. Restore the file from a copy; or move it and the \
             segments after it to another place and start again: their messages are then missing, and clients are told \
             of a gap",
            self.place
        );
        Error::new(Kind::System, text)
    }
}
