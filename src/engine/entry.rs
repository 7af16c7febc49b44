//! The entries of a log, as bytes.
//!
//! On disk each entry has a number and a checksum in front of it (`file::record`), and each file begins with the log's
//! format (`file::segment`). All numbers are little-endian.

use crate::hub::{ClientId, Key, Mark, Noted, Origin};
use std::str;

const MESSAGE: u8 = 1;
const CLEARED: u8 = 2;
const SYNCED: u8 = 3;
const CLOSED: u8 = 4;
const ENDS: u8 = 6;
/// A message that one client does not get. The client's id stands behind the time. Segments have these since format 8,
/// and shared logs since version 3 of the envelope.
const EXCEPTING: u8 = 7;

/// The length of an entry that says that the log is synced or closed.
pub(crate) const MARK: usize = 9;

const BINARY: u8 = 1;
const MORE: u8 = 2;
const ORIGIN: u8 = 4;
const EVENT: u8 = 8;
const KEY: u8 = 16;
const USER: u8 = 32;
/// The message is the beginning, or the end, of its channel's stream. Segments have these since format 5, and shared logs
/// since version 2 of the envelope.
const BEGIN: u8 = 64;
const END: u8 = 128;

/// A message in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logged<'a> {
    /// The time of its publication: milliseconds since 1970, by the wall clock.
    pub(crate) time_ms: u64,
    /// True if the next entry belongs to the same batch. All entries of a batch count, or none.
    pub(crate) more: bool,
    pub(crate) noted: Noted<'a>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// A message. Only messages have their own numbers. Other entries have the number of the message before them.
    Message(Logged<'a>),
    /// A channel's history was cleared.
    Cleared { channel: &'a str },
    /// When this was written, everything before this offset in the segment was synced.
    Synced { offset: u64 },
    /// The log was closed cleanly. It was synced before that.
    Closed { time_ms: u64 },
    /// The last numbers of channels at the beginning of the segment. No other channel had a message after the floor.
    Ends { floor: u64, channels: Vec<(u64, &'a str)> },
}

impl<'a> Entry<'a> {
    /// Appends its bytes.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        match self {
            Entry::Message(Logged { time_ms, more, noted }) => write_message(*time_ms, *more, noted, into),
            Entry::Cleared { channel } => {
                into.push(CLEARED);
                into.extend_from_slice(channel.as_bytes());
            }
            Entry::Synced { offset } => {
                into.push(SYNCED);
                into.extend_from_slice(&offset.to_le_bytes());
            }
            Entry::Closed { time_ms } => {
                into.push(CLOSED);
                into.extend_from_slice(&time_ms.to_le_bytes());
            }
            Entry::Ends { floor, channels } => {
                into.push(ENDS);
                into.extend_from_slice(&floor.to_le_bytes());
                for (number, channel) in channels {
                    into.extend_from_slice(&number.to_le_bytes());
                    short(into, channel);
                }
            }
        }
    }

    /// Reads an entry. `None` if the bytes are not an entry.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let mut fields = Fields(rest);
        let entry = match *kind {
            MESSAGE | EXCEPTING => return read_message(fields, *kind == EXCEPTING).map(Entry::Message),
            CLEARED => return Some(Entry::Cleared { channel: str::from_utf8(rest).ok()? }),
            SYNCED => Entry::Synced { offset: fields.u64()? },
            CLOSED => Entry::Closed { time_ms: fields.u64()? },
            ENDS => {
                let (floor, mut channels) = (fields.u64()?, Vec::new());
                while !fields.0.is_empty() {
                    channels.push((fields.u64()?, fields.short()?));
                }
                return Some(Entry::Ends { floor, channels });
            }
            _ => return None,
        };
        fields.0.is_empty().then_some(entry)
    }
}

/// Appends the bytes of a message's entry.
pub(crate) fn write_message(time_ms: u64, more: bool, noted: &Noted<'_>, into: &mut Vec<u8>) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = flag(noted.binary, BINARY)
        | flag(more, MORE)
        | flag(noted.origin.is_some(), ORIGIN)
        | flag(noted.event.is_some(), EVENT)
        | flag(noted.key.is_some(), KEY)
        | flag(matches!(noted.key, Some(Key::Client(..))), USER)
        | flag(noted.mark == Some(Mark::Begin), BEGIN)
        | flag(noted.mark == Some(Mark::End), END);
    let kind = if noted.except.is_some() { EXCEPTING } else { MESSAGE };
    let mut head = [kind, flags, 0, 0, 0, 0, 0, 0, 0, 0];
    head[2..].copy_from_slice(&time_ms.to_le_bytes());
    into.extend_from_slice(&head);
    noted.except.iter().for_each(|id| into.extend_from_slice(&id.to_bytes()));
    if let Some(origin) = &noted.origin {
        into.extend_from_slice(&origin.session);
        into.extend_from_slice(&origin.uid.to_le_bytes());
        into.extend_from_slice(&origin.number.to_le_bytes());
    }
    short(into, noted.channel);
    noted.event.iter().for_each(|event| short(into, event));
    match noted.key {
        None => {}
        Some(Key::Host(key)) => short(into, key),
        Some(Key::Client(user, key)) => {
            short(into, user);
            short(into, key);
        }
    }
    into.extend_from_slice(noted.data);
}

/// Marks a message's entry: the next entry belongs to the same batch.
pub(crate) fn set_more(entry: &mut [u8]) {
    if let [MESSAGE | EXCEPTING, flags, ..] = entry {
        *flags |= MORE;
    }
}

fn read_message(mut fields: Fields<'_>, excepting: bool) -> Option<Logged<'_>> {
    let flags = fields.take(1)?[0];
    let has = |bit: u8| flags & bit != 0;
    let mark = match (has(BEGIN), has(END)) {
        (false, false) => None,
        (true, false) => Some(Mark::Begin),
        (false, true) => Some(Mark::End),
        (true, true) => return None,
    };
    let time_ms = fields.u64()?;
    let except = match excepting {
        true => Some(ClientId::from_bytes(fields.take(ClientId::BYTES)?.try_into().ok()?)),
        false => None,
    };
    let origin = match has(ORIGIN) {
        true => Some(Origin {
            session: fields.take(16)?.try_into().ok()?,
            uid: u32::from_le_bytes(fields.take(4)?.try_into().ok()?),
            number: fields.u64()?,
        }),
        false => None,
    };
    let channel = fields.short()?;
    let event = if has(EVENT) { Some(fields.short()?) } else { None };
    let key = match (has(KEY), has(USER)) {
        (false, _) => None,
        (true, false) => Some(Key::Host(fields.short()?)),
        (true, true) => Some(Key::Client(fields.short()?, fields.short()?)),
    };
    let noted = Noted { channel, event, key, binary: has(BINARY), mark, origin, except, data: fields.0 };
    if mark.is_some() && !noted.fits_mark() {
        return None;
    }
    Some(Logged { time_ms, more: has(MORE), noted })
}

/// A text of at most 255 bytes. Names are checked before they get here, and none is longer.
pub(crate) fn short(into: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= 255);
    into.push(text.len() as u8);
    into.extend_from_slice(text.as_bytes());
}

/// Reads bytes from the front.
#[derive(Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn short(&mut self) -> Option<&'a str> {
        let len = self.u8()?;
        str::from_utf8(self.take(usize::from(len))?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry<'static>> {
        let plain = Noted {
            channel: "",
            event: None,
            key: None,
            binary: false,
            mark: None,
            origin: None,
            except: None,
            data: b"",
        };
        let except = Some(ClientId::from_bytes([9; 16]));
        let message = |noted| Entry::Message(Logged { time_ms: 1, more: false, noted });
        let origin = Origin { session: [7; 16], uid: 33, number: u64::MAX };
        vec![
            message(plain),
            message(Noted { channel: "news", data: b"hello", binary: true, ..plain }),
            message(Noted { channel: "news", mark: Some(Mark::Begin), ..plain }),
            message(Noted { channel: "news", mark: Some(Mark::End), origin: Some(origin), ..plain }),
            message(Noted { event: Some("e"), key: Some(Key::Host("k")), ..plain }),
            message(Noted { key: Some(Key::Client("", "k")), origin: Some(origin), ..plain }),
            message(Noted { except, data: b"hello", ..plain }),
            message(Noted { except, key: Some(Key::Host("k")), origin: Some(origin), ..plain }),
            Entry::Message(Logged { time_ms: u64::MAX, more: true, noted: plain }),
            Entry::Cleared { channel: "news" },
            Entry::Synced { offset: 70_000 },
            Entry::Closed { time_ms: 5 },
            Entry::Ends { floor: 0, channels: vec![] },
            Entry::Ends { floor: 4, channels: vec![(5, "a"), (u64::MAX, "ä")] },
        ]
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        for entry in entries() {
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            assert_eq!(Entry::read(&bytes), Some(entry.clone()), "{entry:?}");
            if matches!(entry, Entry::Synced { .. } | Entry::Closed { .. }) {
                assert_eq!(bytes.len(), MARK);
            }
            if let Entry::Message(message) = &entry {
                set_more(&mut bytes);
                let with_more = Entry::Message(Logged { more: true, ..*message });
                assert_eq!(Entry::read(&bytes), Some(with_more));
            }
        }
    }

    #[test]
    fn whatever_is_cut_or_strange_is_none_or_another_but_never_a_panic() {
        for entry in entries() {
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            for len in 0..bytes.len() {
                assert_ne!(Entry::read(&bytes[..len]), Some(entry.clone()));
            }
        }
        for strange in [&[][..], &[0], &[99, 1, 2], &[MESSAGE, 192, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'a'], &[CLEARED, 0xff]]
        {
            assert_eq!(Entry::read(strange), None, "{strange:?}");
        }
        let mut end = vec![EXCEPTING, END];
        end.extend([0; 8 + ClientId::BYTES]);
        end.extend([1, b'a']);
        assert_eq!(Entry::read(&end), None, "an end is for everybody");
    }
}
