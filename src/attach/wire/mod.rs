//! The protocol of the attach socket. A frame is a length (four bytes, little-endian, of the bytes that follow it), a
//! type (one byte) and a body. This code has no sockets and no clock. Its input is not trusted.

mod fields;
mod from_host;
mod from_hub;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use from_host::{FromHost, Hello};
pub(crate) use from_hub::{FromHub, RefusedBecause};

use std::fmt;

/// The version of everything after the hello. A hub and a host agree on a version, or the hub refuses the host. Version
/// 2 adds [`FromHost::Users`]. Version 3 adds the largest batch to [`FromHub::Welcome`]; and a client without a grant
/// comes only from a host whose option `auth` is `none`. Version 4 adds grants that name the channels that a client gets
/// at once. Version 5 adds to [`FromHub::Users`] which hubs of a log have answered. In version 6 requests that publish nothing
/// are answered as soon as possible, whatever waits before them; a question says how long its host waits; the welcome
/// names the life of the hub; and a new epoch of the log is told with [`FromHub::Epoch`]. In version 7 commands have numbers,
/// so that a command that is sent again is not done again. Version 8 adds the beginnings and ends of streams, which are
/// published as messages are. In version 9 a message may have its place in a trace of the host. Version 10 adds events of
/// subscriptions, calls of clients with their answers, and messages to users; and a welcome says whether users have
/// channels. Version 11 adds the messages of clients that the host checks, and its answers. In version 12 a message may
/// leave one client out. In version 13 a client's TLS may be in the kernel. In version 14 a grant may say something of its
/// user, which others are told.
pub(crate) const VERSION: u16 = 14;
/// The first version in which a welcome names the largest batch.
pub(crate) const NAMES_MAX_BATCH: u16 = 3;
/// The first version in which a missing grant is intended, and not a mistake of the host.
pub(crate) const MEANS_NO_GRANT: u16 = 3;
/// The first version in which a grant may name the channels that a client gets at once.
pub(crate) const SUBSCRIBES: u16 = 4;
/// The first version in which the users on a channel come with the hubs that have answered.
pub(crate) const NAMES_HUBS: u16 = 5;
/// The first version in which only the requests that publish are answered in their order. See
/// [`FromHost::is_free`].
pub(crate) const ANSWERS_AT_ONCE: u16 = 6;
/// The first version in which a question says how long its host waits for the answer.
pub(crate) const NAMES_TIME: u16 = 6;
/// The first version in which a welcome names the life of the hub.
pub(crate) const NAMES_LIFE: u16 = 6;
/// The first version in which a host is told of a new epoch while it is attached.
pub(crate) const TELLS_EPOCHS: u16 = 6;
/// The first version in which commands have numbers.
pub(crate) const NUMBERS_COMMANDS: u16 = 7;
/// The first version in which a host publishes the beginning and the end of a stream.
pub(crate) const MARKS: u16 = 8;
/// The first version in which a message may have its place in a trace. An older hub gets the message without it.
pub(crate) const TRACES: u16 = 9;
/// The first version in which a host knows the events of subscriptions and of calls. An older one does not get them.
pub(crate) const TELLS_SUBSCRIPTIONS: u16 = 10;
/// The first version in which a host answers calls.
pub(crate) const ANSWERS_CALLS: u16 = 10;
/// The first version in which a host publishes to users, and a welcome says whether they have channels.
pub(crate) const USER_CHANNELS: u16 = 10;
/// The first version in which a host is asked about the messages of clients, and answers.
pub(crate) const PUBLISHES_ASKED: u16 = 11;
/// The first version in which a message may leave one client out. An older hub would publish it to that client, too, so
/// it does not get it.
pub(crate) const EXCEPTS: u16 = 12;
/// The first version in which the TLS of a client that is handed over may be in the kernel. An older hub would take its
/// alerts for the end of the connection, and end its own side without one.
pub(crate) const ENCRYPTED_BY_KERNEL: u16 = 13;
/// The first version in which a grant may have an info about its user. An older hub does not understand such a grant.
pub(crate) const INFORMS: u16 = 14;
/// The oldest version that both sides still speak. A host falls back to it if the hub refuses newer ones. A hub accepts
/// every version from this one on.
pub(crate) const OLDEST: u16 = 1;
/// The largest frame: the largest payload that `max_message` allows, and room for the other fields.
pub(crate) const MAX_FRAME: usize = (64 << 20) + (64 << 10);
/// The largest frame before a valid hello. So a stranger can't make the hub reserve memory.
pub(crate) const MAX_HELLO: usize = 256;

/// True if we speak this version.
pub(crate) fn speaks(version: u16) -> bool {
    (OLDEST..=VERSION).contains(&version)
}

/// The bytes are not a frame of this protocol. The rest of the stream can't be interpreted then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The first frame of `bytes` (type and body), or `None` while the frame is incomplete.
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

/// The number of bytes that a frame takes on the wire.
pub(crate) fn framed_len(frame: &[u8]) -> usize {
    4 + frame.len()
}

/// Appends a number, little-endian, to a frame that has just been written: the last one, from `start`.
pub(crate) fn append(into: &mut Vec<u8>, start: usize, field: &[u8]) {
    into.extend_from_slice(field);
    set_length(into, start);
}

/// Writes a frame. The length is filled in after `body` has written its part.
fn framed(into: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(into);
    set_length(into, start);
    #[cfg(test)]
    tests::WRITTEN.set(tests::WRITTEN.get() + into.len() - start);
}

fn set_length(into: &mut [u8], start: usize) {
    let length = (into.len() - start - 4) as u32;
    into[start..start + 4].copy_from_slice(&length.to_le_bytes());
}
