//! Records: an entry with its length, checksum and number before it.
//!
//! ```text
//! u32 length of the entry | u32 CRC-32 of the length, number and entry | u64 number | entry
//! ```
//!
//! The checksum begins with the segment's salt. So nobody who only publishes can make a payload that looks like a
//! record where a torn end is looked through.

use crc32fast::Hasher;

/// The bytes in front of an entry.
pub(super) const HEAD: usize = 16;
/// The longest entry: the largest message that the option `max_message` allows, and its other fields.
pub(super) const MAX_ENTRY: usize = (64 << 20) + 2048;

/// A record within a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) number: u64,
    pub(super) entry: &'a [u8],
    /// The offsets in the segment where it begins, and where the next one does.
    pub(super) offset: usize,
    pub(super) end: usize,
}

/// Appends a record. `write` appends its entry. [`seal`] fills in the checksum.
pub(super) fn append(into: &mut Vec<u8>, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    let mut head = [0; HEAD];
    set_number(&mut head, number);
    into.extend_from_slice(&head);
    write(into);
    let len = (into.len() - start - HEAD) as u32;
    into[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Gives a record another number.
pub(super) fn set_number(record: &mut [u8], number: u64) {
    record[8..HEAD].copy_from_slice(&number.to_le_bytes());
}

/// Fills in the checksums of consecutive records.
pub(super) fn seal(records: &mut [u8], salt: u32) {
    let mut rest = records;
    while let Some(len) = length(rest) {
        let (record, after) = rest.split_at_mut(HEAD + len);
        let crc = checksum(record, salt);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        rest = after;
    }
}

/// The record at an offset. `None` if there is no complete record with the right checksum.
pub(super) fn at(segment: &[u8], offset: usize, salt: u32) -> Option<Record<'_>> {
    let bytes = segment.get(offset..)?;
    let len = length(bytes).filter(|len| (1..=MAX_ENTRY).contains(len))?;
    let record = bytes.get(..HEAD + len)?;
    let crc = u32::from_le_bytes(record[4..8].try_into().ok()?);
    (checksum(record, salt) == crc).then(|| Record {
        number: number(record),
        entry: &record[HEAD..],
        offset,
        end: offset + HEAD + len,
    })
}

/// The complete records after an offset that have the right checksum, an entry of this many bytes, and a number that may
/// follow `last` there. They are used to look behind a damaged place, so they may begin anywhere.
///
/// A publisher may have put there what looks like the beginnings of records. Since the length is given, each costs the
/// checksum of a few bytes, and not of all that follows.
pub(super) fn all_after(
    segment: &[u8],
    offset: usize,
    len: usize,
    salt: u32,
    last: u64,
) -> impl Iterator<Item = Record<'_>> {
    (offset..segment.len().saturating_sub(HEAD)).filter_map(move |at_offset| {
        let bytes = &segment[at_offset..];
        let possible = length(bytes) == Some(len) && number(bytes).wrapping_sub(last) <= segment.len() as u64;
        possible.then(|| at(segment, at_offset, salt)).flatten()
    })
}

fn length(bytes: &[u8]) -> Option<usize> {
    bytes.get(..HEAD).map(|head| u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize)
}

fn number(record: &[u8]) -> u64 {
    record[8..HEAD].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn checksum(record: &[u8], salt: u32) -> u32 {
    #[cfg(test)]
    tests::SUMMED.set(tests::SUMMED.get() + record.len());
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// The number of bytes of which this thread has made checksums.
        pub(in crate::engine::file) static SUMMED: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn records_are_found_as_they_were_appended_and_nothing_else_is() {
        let mut bytes = Vec::new();
        append(&mut bytes, 7, |into| into.extend_from_slice(b"first"));
        append(&mut bytes, 8, |into| into.extend_from_slice(b"second"));
        seal(&mut bytes, 99);
        let first = at(&bytes, 0, 99).unwrap();
        assert_eq!((first.number, first.entry, first.end), (7, &b"first"[..], HEAD + 5));
        let second = at(&bytes, first.end, 99).unwrap();
        assert_eq!((second.number, second.entry, second.end), (8, &b"second"[..], bytes.len()));
        assert!(at(&bytes, second.end, 99).is_none());
        assert!(at(&bytes, 0, 98).is_none(), "another segment's");
        let numbers = |from, len, last| all_after(&bytes, from, len, 99, last).map(|record| record.number).collect();
        let found: [Vec<u64>; 4] = [numbers(1, 6, 7), numbers(0, 5, 7), numbers(0, 7, 7), numbers(1, 6, 9)];
        assert_eq!(found, [vec![8], vec![7], vec![], vec![]]);
        for at_byte in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at_byte] ^= 1 << bit;
                assert_eq!(at(&bytes, 0, 99).is_some(), at_byte >= first_len(), "byte {at_byte}, bit {bit}");
                bytes[at_byte] ^= 1 << bit;
            }
        }
        assert!(at(&[0; 64], 0, 0).is_none(), "an empty entry is none: zeros are no record");
    }

    fn first_len() -> usize {
        HEAD + 5
    }
}
