//! The end of a connection.

use super::{Session, ENCRYPTED};
use crate::sys::socket;
use crate::tls::outcome::{Gone, Read};
use std::io::ErrorKind;

impl Session {
    /// Tells the peer that no more comes (close_notify), behind what is held.
    pub(crate) fn end_writing(&mut self, scratch: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ends, true) {
            return;
        }
        self.put_aside(scratch);
        scratch.resize(scratch.len().max(ENCRYPTED), 0);
        if self.failure.is_none() {
            if let Ok(len) = self.encrypt(|state, out| state.queue_close_notify(out), scratch) {
                self.held.extend_from_slice(&scratch[..len]);
            }
        }
        // Nothing of it is read any more.
        (self.unread, self.early, self.since) = (Vec::new(), Vec::new(), None);
        let _ = self.send_held();
    }

    /// Ends both directions, and tells the peer if the socket takes that.
    pub(crate) fn end(&mut self, scratch: &mut Vec<u8>) {
        if self.held.is_empty() && !self.connection.is_handshaking() {
            self.end_writing(scratch);
        }
        socket::shutdown_both(&self.fd);
    }

    /// The keys have encrypted as much as they may (TLS 1.2), and the connection has made its goodbye already.
    pub(super) fn say_goodbye(&mut self) {
        self.ends = true;
        let mut unread = std::mem::take(&mut self.unread);
        let _ = self.work(&mut unread, &mut []);
        let _ = self.send_held();
    }

    /// Our side has ended, so nobody reads what comes. It is not decrypted either: the library must not answer it.
    pub(super) fn discard(&mut self, scratch: &mut Vec<u8>) -> Result<Read, Gone> {
        scratch.resize(scratch.len().max(ENCRYPTED), 0);
        match socket::recv(&self.fd, scratch) {
            Ok(0) => Ok(Read::End),
            Ok(_) => Ok(Read::Part(0)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Read::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Read::Part(0)),
            Err(_) => Err(Gone),
        }
    }
}
