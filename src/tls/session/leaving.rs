//! The move of a connection into the kernel.

use super::{Session, ENCRYPTED, RECORD};
use crate::metrics::TlsPlace;
use crate::sys::ktls::{self, Direction};
use crate::sys::socket;
use crate::tls::kernel::{self, InKernel, Kernel};
use rustls::unbuffered::ConnectionState;
use std::os::fd::OwnedFd;

/// The size of a record's header (RFC 8446, section 5.1).
const HEADER: usize = 5;

/// Why a connection is not in the kernel.
#[derive(Debug)]
pub(crate) enum Stays {
    /// It goes on as it was, for this reason.
    Here(Box<Session>, TlsPlace),
    /// The kernel has taken the keys of one direction and not those of the other. Nobody can go on with it.
    Lost(OwnedFd, String),
}

impl Session {
    /// Moves the connection into the kernel after its handshake, with nothing sent or received twice or lost.
    pub(crate) fn into_kernel(mut self: Box<Self>, kernel: &Kernel, scratch: &mut Vec<u8>) -> Result<InKernel, Stays> {
        if !kernel.has_any() {
            return Err(Stays::Here(self, TlsPlace::Unavailable));
        }
        let suite = self.connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let names =
            self.connection.protocol_version().zip(suite).and_then(|(version, suite)| kernel.names(version, suite));
        let Some((version, _)) = names else { return Err(Stays::Here(self, TlsPlace::Cipher)) };
        if !self.reaches_a_boundary(scratch) {
            return Err(Stays::Here(self, TlsPlace::Unfinished));
        }
        // Without keys the socket is as before, so this can still be given up.
        if ktls::attach(&self.fd).is_err() {
            return Err(Stays::Here(self, TlsPlace::Refused));
        }
        let Session { fd, connection, early, .. } = *self;
        let secrets = match connection.dangerous_into_kernel_connection() {
            Ok((secrets, _)) => secrets,
            Err(error) => return Err(Stays::Lost(fd, format!("it has no keys for the kernel: {error}"))),
        };
        for (direction, (sequence, secrets)) in [(Direction::Receive, &secrets.rx), (Direction::Send, &secrets.tx)] {
            let set = match kernel::keys(version, secrets, *sequence) {
                Some(keys) => ktls::set(&fd, direction, &keys),
                None => Err(std::io::ErrorKind::Unsupported.into()),
            };
            if let Err(error) = set {
                return Err(Stays::Lost(fd, format!("the kernel does not take its keys: {error}")));
            }
        }
        Ok(InKernel::new(fd, version, early))
    }

    /// Reads on to the end of the record that has begun, if its rest is there. Returns whether all that has come is
    /// processed, and all that there was to say is sent.
    fn reaches_a_boundary(&mut self, scratch: &mut Vec<u8>) -> bool {
        self.has_read = true;
        self.decrypt_early(scratch);
        // The rest of a header, and then what it announces.
        for _ in 0..2 {
            let missing = missing(&self.unread);
            if missing == 0 || missing > ENCRYPTED {
                break;
            }
            scratch.resize(scratch.len().max(missing), 0);
            let Ok(len) = socket::recv(&self.fd, &mut scratch[..missing]) else { break };
            self.unread.extend_from_slice(&scratch[..len]);
            if len < missing {
                break;
            }
        }
        if !self.unread.is_empty() {
            self.decrypt_early(scratch);
        }
        // Records without content may have brought new keys. rustls answers them with the next content that it sends, and
        // the kernel would not.
        let is_done = self.unread.is_empty() && self.failure.is_none() && !self.has_ended && self.empty == 0;
        // An alert goes in any case.
        let is_sent = matches!(self.send_held(), Ok(true));
        is_done
            && is_sent
            && matches!(self.connection.process_tls_records(&mut []).state, Ok(ConnectionState::WriteTraffic(_)))
    }

    /// Decrypts the content that came with the end of the handshake, and keeps it.
    pub(super) fn decrypt_early(&mut self, scratch: &mut Vec<u8>) {
        let mut early = std::mem::take(&mut self.early);
        let before = early.len();
        let kept = self.take_unread(scratch, 0);
        early.resize(before + kept + RECORD, 0);
        let worked = self.work(&mut scratch[..kept], &mut early[before..]);
        self.keep_unread(&scratch[..kept], &worked);
        self.empty += worked.empty;
        early.truncate(before + worked.plain);
        early.shrink_to_fit();
        self.early = early;
    }
}

/// How many bytes are missing at least of a record that has begun.
fn missing(record: &[u8]) -> usize {
    match record {
        [] => 0,
        [_, _, _, high, low, content @ ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(content.len())
        }
        part => HEADER - part.len(),
    }
}
