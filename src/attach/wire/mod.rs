//! What goes over the attach socket: frames, each a length (four bytes, little-endian, of what follows), a type (one
//! byte) and a body. Pure: no sockets, no clock. Whatever comes in may be anything.

mod fields;
mod from_host;
mod from_hub;
#[cfg(test)]
mod tests;

pub(crate) use from_host::{FromHost, Hello};
pub(crate) use from_hub::{FromHub, RefusedBecause};

use std::fmt;

/// The version of all that follows the hello. A hub and a host agree on it or part. Version 2 has [`FromHost::Users`],
/// version 3 the largest batch in [`FromHub::Welcome`], and none but a host whose options say that anybody may hands a
/// client over without a grant.
pub(crate) const VERSION: u16 = 3;
/// The version from which on a welcome names the largest batch.
pub(crate) const NAMES_MAX_BATCH: u16 = 3;
/// The version from which on it is no slip that there is no grant.
pub(crate) const MEANS_NO_GRANT: u16 = 3;
/// The oldest that both sides still speak: a host with a hub that refuses the newest, a hub with whoever asks for it.
pub(crate) const OLDEST: u16 = 1;
/// The largest frame: the largest payload that `max_message` allows, and what stands around it.
pub(crate) const MAX_FRAME: usize = (64 << 20) + (64 << 10);
/// The largest frame before the hello was understood: nobody gets memory for less.
pub(crate) const MAX_HELLO: usize = 256;

/// Whether we speak that version.
pub(crate) fn speaks(version: u16) -> bool {
    (OLDEST..=VERSION).contains(&version)
}

/// The bytes are no frame of this protocol. What is left of the stream means nothing then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The first frame of `bytes` (type and body), or nothing while it is incomplete.
pub(crate) fn first_frame(bytes: &[u8], max: usize) -> Result<Option<&[u8]>, Malformed> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 {
        return Err(Malformed("an empty frame"));
    }
    if length > max {
        return Err(Malformed("a frame that is too large"));
    }
    Ok(rest.get(..length))
}

/// How many bytes a frame takes on the wire.
pub(crate) fn framed_len(frame: &[u8]) -> usize {
    4 + frame.len()
}

/// Writes a frame: room for the length, then what `body` writes, then the length.
fn framed(into: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(into);
    let length = (into.len() - start - 4) as u32;
    into[start..start + 4].copy_from_slice(&length.to_le_bytes());
}
