//! Segments: the files of a log. Each is named by the number of its first message, even if it has no messages yet.
//!
//! ```text
//! "pushlog\n" | u32 format | u32 length of the header | u32 CRC-32 of the rest of the header
//! u64 first number | u64 created (ms since 1970) | u32 salt | epoch | u16 links | links
//! ```
//!
//! Records follow, up to the end of the file, or up to zeros in the last segment of a log with `engine_sync=always`.
//!
//! An epoch is a byte with its length, and its text; a link is an epoch, its last number (u64), and a byte: 1 if
//! messages may have been lost at its end. The first three fields are the same in every format.

use crate::engine::entry::{short, Fields};
use crate::hub::{Epoch, Link};

/// The format that this version writes. It has messages that one client does not get. No checksum covers the format, so
/// no flipped bit makes it one of those before.
pub(super) const FORMAT: u32 = 8;
/// The formats before, which this version reads. Format 5 has the beginnings and ends of streams among its messages. A
/// hub begins a segment when it starts, so it writes none of these.
pub(super) const BEFORE: [u32; 2] = [2, 5];
/// With `engine_sync=always`, the most zeros that are written ahead of the end, in bytes.
pub(super) const STEP: u64 = if cfg!(test) { 1 << 10 } else { 256 << 10 };
const MAGIC: &[u8; 8] = b"pushlog\n";
const BEFORE_REST: usize = 20;
/// The header of [`MAX_LINKS`](crate::hub::MAX_LINKS) links fits well.
const MAX_HEADER: usize = 8192;

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The number of the first message.
    pub(super) first: u64,
    pub(super) created_ms: u64,
    /// The value with which its checksums begin.
    pub(super) salt: u32,
    pub(super) epoch: Epoch,
    /// The earlier epochs, oldest first.
    pub(super) chain: Vec<Link>,
}

/// The reason why a header can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is incomplete.
    Short,
    /// It is damaged, or the bytes are not a header.
    Damaged,
    /// It has another format.
    Format(u32),
}

impl Header {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        rest.extend_from_slice(&self.first.to_le_bytes());
        rest.extend_from_slice(&self.created_ms.to_le_bytes());
        rest.extend_from_slice(&self.salt.to_le_bytes());
        short(&mut rest, self.epoch.as_str());
        rest.extend_from_slice(&(self.chain.len() as u16).to_le_bytes());
        for link in &self.chain {
            short(&mut rest, link.epoch.as_str());
            rest.extend_from_slice(&link.last.to_le_bytes());
            rest.push(link.lossy.into());
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&((BEFORE_REST + rest.len()) as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&rest).to_le_bytes());
        bytes.append(&mut rest);
        bytes
    }

    /// Reads a header. Returns its length as well.
    pub(super) fn read(segment: &[u8]) -> Result<(Self, usize), Unreadable> {
        if segment.len() < BEFORE_REST {
            return Err(Unreadable::Short);
        }
        let number = |at: usize| u32::from_le_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
        let (format, len, crc) = (number(8), number(12) as usize, number(16));
        if segment[..8] != *MAGIC || !(BEFORE_REST..=MAX_HEADER).contains(&len) {
            return Err(Unreadable::Damaged);
        }
        let rest = segment.get(BEFORE_REST..len).ok_or(Unreadable::Short)?;
        if crc32fast::hash(rest) != crc {
            return Err(Unreadable::Damaged);
        }
        if format != FORMAT && !BEFORE.contains(&format) {
            return Err(Unreadable::Format(format));
        }
        let header = Header::read_rest(Fields(rest)).ok_or(Unreadable::Damaged)?;
        Ok((header, len))
    }

    fn read_rest(mut fields: Fields<'_>) -> Option<Self> {
        let (first, created_ms) = (fields.u64()?, fields.u64()?);
        let salt = u32::from_le_bytes(fields.take(4)?.try_into().ok()?);
        let epoch = Epoch::from_text(fields.short()?)?;
        let links = u16::from_le_bytes(fields.take(2)?.try_into().ok()?);
        let mut chain = Vec::new();
        for _ in 0..links {
            let (epoch, last) = (Epoch::from_text(fields.short()?)?, fields.u64()?);
            chain.push(Link { epoch, last, lossy: fields.take(1)?[0] != 0, acts: false });
        }
        fields.0.is_empty().then_some(Header { first, created_ms, salt, epoch, chain })
    }
}

/// The name of the segment that begins with this number. The files are in the order of their numbers if sorted by name.
pub(super) fn name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The number in a file's name, if the file is a segment.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_anything_else_is_named() {
        let epoch = |bits| Epoch::from_random(bits);
        let chain = [(1, 7, true), (2, 9, false)]
            .map(|(at, last, lossy)| Link { epoch: epoch(at), last, lossy, acts: false })
            .to_vec();
        let header = Header { first: 10, created_ms: 5, salt: 3, epoch: epoch(3), chain };
        let mut bytes = header.bytes();
        let len = bytes.len();
        bytes.extend_from_slice(b"entries");
        assert_eq!(Header::read(&bytes), Ok((header, len)));
        for cut in 0..len {
            assert_eq!(Header::read(&bytes[..cut]), Err(Unreadable::Short), "{cut}");
        }
        for at in (0..len).filter(|at| !(8..12).contains(at)) {
            bytes[at] ^= 4;
            assert!(Header::read(&bytes).is_err(), "{at}");
            bytes[at] ^= 4;
        }
        for before in BEFORE {
            assert!((before ^ FORMAT).count_ones() > 1, "a flipped bit makes it {before}");
            bytes[8] = before as u8;
            assert_eq!(Header::read(&bytes).map(|(header, _)| header.first), Ok(10), "of a version before");
        }
        bytes[8] = 9;
        assert_eq!(Header::read(&bytes), Err(Unreadable::Format(9)));
        bytes[8] = 0;
        assert_eq!(Header::read(&bytes), Err(Unreadable::Format(0)));
    }

    #[test]
    fn names_are_numbers() {
        assert_eq!(first_of(&name(42)), Some(42));
        assert_eq!(first_of(&name(u64::MAX)), Some(u64::MAX));
        for other in ["lock", "42.log", "+0000000000000000042.log", "99999999999999999999.log", "x"] {
            assert_eq!(first_of(other), None, "{other}");
        }
        assert!(name(9) < name(10));
    }
}
