//! The handshake of a connection.

use super::Session;
use crate::sys::socket;
use crate::tls::outcome::{Failure, Gone, Handshake};
use std::io::ErrorKind;

/// The most bytes that a client may send in its handshake. A chain of certificates may be long.
const HANDSHAKE_BYTES: usize = 64 * 1024;
/// How much is read at once in a handshake.
const HELLO: usize = 4096;

impl Session {
    /// Goes on with the handshake as far as possible. Content that comes behind it is left for [`Self::read`].
    pub(crate) fn shake_hands(&mut self, scratch: &mut Vec<u8>) -> Result<Handshake, Gone> {
        if !self.send_held()? {
            return Ok(Handshake::Waits);
        }
        loop {
            let kept = self.take_unread(scratch, 0);
            let worked = self.work(&mut scratch[..kept], &mut []);
            self.keep_unread(&scratch[..kept], &worked);
            if !self.send_held()? {
                return self.failure.as_ref().map_or(Ok(Handshake::Waits), |_| Err(Gone));
            }
            if self.failure.is_some() || self.has_ended {
                return Err(Gone);
            }
            if !self.connection.is_handshaking() {
                self.empty = 0;
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
