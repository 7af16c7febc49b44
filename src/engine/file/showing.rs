//! Shows a log as text, for people.

use super::disk::{Directory, Disk};
use super::reading::{self, Step};
use crate::engine::entry::{Entry, Logged};
use crate::error::{Error, Kind};
use crate::hub::Key;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::Path;

/// The number of characters that are shown of a payload.
const SHOWN: usize = 60;

/// Reads the log in a directory. Writes a line for each entry and fence (if `entries` is true) and a summary. It
/// changes nothing and takes no lock, so the end of a log in use may look incomplete. [`Kind::Closed`] if the output is
/// closed.
pub fn show_log(path: &Path, entries: bool, out: &mut dyn Write) -> Result<(), Error> {
    let place = path.display().to_string();
    let disk = Directory::open(path).map_err(|error| Error::system(&place, &error))?;
    show(&disk, &place, entries, out)
}

pub(super) fn show(disk: &dyn Disk, place: &str, entries: bool, out: &mut dyn Write) -> Result<(), Error> {
    let mut written = Ok(());
    // The segment and offset of the last line.
    let mut shown = (String::new(), 0);
    let mut read = || {
        let (mut first, mut messages, mut fences) = (1, 0, 0);
        let found = reading::read(disk, place, &mut |step| {
            let (segment, offset) = match step {
                Step::First(number) => {
                    first = number;
                    return;
                }
                Step::Fence { segment, .. } => (segment, 0),
                Step::Entry { segment, offset, .. } => (segment, offset),
            };
            fences += usize::from(matches!(step, Step::Fence { .. }));
            messages += usize::from(matches!(step, Step::Entry { entry: Entry::Message(_), .. }));
            if entries && written.is_ok() && (&*shown.0, shown.1) < (segment, offset) {
                written = show_step(&step, out);
                if shown.0 != segment {
                    shown.0 = segment.into();
                }
                shown.1 = offset;
            }
        })?;
        Ok::<_, Error>((found, first, messages, fences))
    };
    // A hub may write while this reads. What looks like damage, since late bytes were read behind early ones, is whole
    // when it is read again.
    let (found, first, messages, fences) = read().or_else(|_| read())?;
    let end = match (found.torn, found.closed) {
        (Some((at, bytes)), _) => format!("the end is incomplete from byte {at}: {} ignored", Rest(bytes)),
        (None, true) => "closed cleanly".into(),
        (None, false) => "not closed: a hub uses it, or was killed".into(),
    };
    let segments = Counted(found.segments.len(), "segment");
    let fences = if fences > 0 { format!(" and {}", Counted(fences, "fence")) } else { String::new() };
    let messages = Counted(messages, "message");
    let bytes: u64 = found.segments.iter().map(|segment| segment.bytes).sum();
    let epoch = found.lineage.map_or_else(String::new, |(epoch, chain)| {
        let before: String =
            chain.iter().rev().map(|link| format!(", before it {} up to {}", link.epoch.as_str(), link.last)).collect();
        format!("; epoch {}{before}", epoch.as_str())
    });
    let last = found.last;
    written
        .and_then(|()| {
            let about = format!("{segments} of {bytes} bytes, {messages}{fences}, numbers {first} to {last}");
            writeln!(out, "{place}: {about}; {end}{epoch}")
        })
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Error::new(Kind::Closed, "the output is closed"),
            _ => Error::system("the output", &error),
        })
}

fn show_step(step: &Step<'_>, out: &mut dyn Write) -> io::Result<()> {
    match step {
        Step::First(_) => Ok(()),
        Step::Fence { number, epoch, lossy, segment } => {
            let missing = if *lossy { "messages before it may be missing" } else { "nothing is missing" };
            writeln!(out, "{segment}:0 {number} fence: epoch {} begins; {missing}", epoch.as_str())
        }
        Step::Entry { number, entry, segment, offset } => {
            writeln!(out, "{segment}:{offset} {number} {}", Shown(entry))
        }
    }
}

/// A number of things, as English has it: "1 segment", "2 segments".
pub(super) struct Counted(pub(super) usize, pub(super) &'static str);

impl Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// The bytes of an incomplete end: "5 bytes are". Zeros behind them do not count, since a hub with `engine_sync=always`
/// writes many ahead.
pub(super) struct Rest(pub(super) usize);

impl Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "only zeros are"),
            1 => write!(f, "1 byte is"),
            bytes => write!(f, "{bytes} bytes are"),
        }
    }
}

/// An entry as a line.
struct Shown<'a, 'e>(&'a Entry<'e>);

impl Display for Shown<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Entry::Message(logged) => show_message(logged, f),
            Entry::Cleared { channel } => write!(f, "cleared {channel:?}"),
            Entry::Synced { offset } => write!(f, "synced up to byte {offset}"),
            Entry::Closed { time_ms } => write!(f, "closed {}", Time(*time_ms)),
            Entry::Ends { floor, channels } => {
                let channels = Counted(channels.len(), "channel");
                write!(f, "last numbers of {channels} before, and of others at most {floor}")
            }
        }
    }
}

fn show_message(logged: &Logged<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let noted = &logged.noted;
    write!(f, "{}", Time(logged.time_ms))?;
    if noted.channel.is_empty() {
        write!(f, " broadcast")?;
    } else {
        write!(f, " {:?}", noted.channel)?;
    }
    noted.event.iter().try_for_each(|event| write!(f, " event={event:?}"))?;
    match noted.key {
        None => {}
        Some(Key::Host(key)) => write!(f, " key={key:?}")?,
        Some(Key::Client(user, key)) => write!(f, " key={key:?} user={user:?}")?,
    }
    noted.except.iter().try_for_each(|id| write!(f, " except={id}"))?;
    if let Some(origin) = &noted.origin {
        let session: String = origin.session[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, " host={session}/{}", origin.number)?;
    }
    if logged.more {
        write!(f, " batch")?;
    }
    if let Some(mark) = noted.mark {
        return write!(f, " {}", mark.word());
    }
    write!(f, " {} bytes", noted.data.len())?;
    match std::str::from_utf8(noted.data) {
        Ok(text) if !noted.binary => {
            let shown: String = text.chars().take(SHOWN).collect();
            write!(f, " {shown:?}{}", if shown.len() < text.len() { "…" } else { "" })
        }
        _ => write!(f, " binary"),
    }
}

/// Milliseconds since 1970, as RFC 3339 writes them.
struct Time(u64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Years that begin in March have their leap day at the end.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let of_month = of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year + era * 400 + next;
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{of_month:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(Time(ms).to_string(), text);
        }
    }
}
