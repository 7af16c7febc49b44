//! The handshake of a connection.

use super::Session;
use crate::sys::socket;
use crate::tls::outcome::{Failure, Gone, Handshake};
use std::io::ErrorKind;

/// The most bytes that a client may send in its handshake. A chain of certificates may be long.
const HANDSHAKE_BYTES: usize = 64 * 1024;
/// How much is read at once in a handshake.
const HELLO: usize = 4096;
/// The type of all encrypted records of TLS 1.3 (RFC 8446, 5.2).
const APPLICATION_DATA: u8 = 23;

impl Session {
    /// Goes on with the handshake as far as possible. Content that comes behind it is left for [`Self::read`].
    pub(crate) fn shake_hands(&mut self, scratch: &mut Vec<u8>) -> Result<Handshake, Gone> {
        if !self.send_held()? {
            return Ok(Handshake::Waits);
        }
        loop {
            let kept = self.take_unread(scratch, 0);
            let worked = self.work(&mut scratch[..kept], &mut []);
            let behind = behind_finished(&scratch[..worked.used], worked.waits);
            self.keep_unread(&scratch[..kept], &worked);
            if !self.send_held()? {
                return self.failure.as_ref().map_or(Ok(Handshake::Waits), |_| Err(Gone));
            }
            if self.failure.is_some() || self.has_ended {
                return Err(Gone);
            }
            if !self.connection.is_handshaking() {
                self.empty = behind;
                return Ok(Handshake::Done);
            }
            scratch.resize(scratch.len().max(HELLO), 0);
            match socket::recv(&self.fd, &mut scratch[..HELLO]) {
                Ok(0) => return Err(Gone),
                Ok(len) => {
                    self.empty += len;
                    if self.empty > HANDSHAKE_BYTES {
                        self.failure = Some(Failure::TooMuch("the handshake is larger than 64KB"));
                        return Err(Gone);
                    }
                    self.unread.extend_from_slice(&scratch[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Handshake::Waits),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
    }
}

/// The bytes of the encrypted records behind the first one. In TLS 1.3 the first one ends the handshake, and others may
/// have brought new keys; but the last one has content if that `waits`. In TLS 1.2 there is content alone.
fn behind_finished(mut records: &[u8], waits: bool) -> usize {
    let (mut all, mut first, mut last) = (0, 0, 0);
    while let [kind, _, _, high, low, rest @ ..] = records {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        if *kind == APPLICATION_DATA {
            (all, last) = (all + len, len);
            first = if first == 0 { len } else { first };
        }
        records = &rest[len..];
    }
    all.saturating_sub(first + if waits { last } else { 0 })
}
