//! One TLS connection: its socket, its keys, and nothing else while it is idle.
//!
//! It has no buffer of its own. Records are read and written through a buffer that its caller lends. It keeps only the
//! beginning of a record until the rest has come, and the rest of a record that the socket did not take.

mod ending;
mod handshake;
mod leaving;
#[cfg(test)]
mod tests;

use super::outcome::{self, Failure, Gone, Read};
use crate::sys::clock;
use crate::sys::socket;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{AlertDescription, Error, ServerConfig};
use std::fmt;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(crate) use leaving::Stays;

/// The most plaintext in a record (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
/// Room for a record, and for a message about keys before it.
const ENCRYPTED: usize = RECORD + 4096;
/// The most bytes of records without content that a client may send: empty records, and messages about keys. Each costs
/// as much as one with content. [`CONTENT_PER_EMPTY`] bytes of content take one off.
const EMPTY_BYTES: usize = 64 * 1024;
const CONTENT_PER_EMPTY: usize = 16;
/// What a record adds to its content at least (RFC 8446, section 5.2).
const RECORD_ADDS: usize = 22;
/// The most bytes that are kept of an incomplete message. A record is smaller.
const UNREAD_BYTES: usize = 2 * RECORD;

/// See the module.
pub(crate) struct Session {
    fd: OwnedFd,
    connection: UnbufferedServerConnection,
    /// Bytes of the peer's that wait for the rest of their record.
    unread: Vec<u8>,
    /// When the first of them came (monotonic milliseconds).
    since: Option<u64>,
    /// Content that came with the end of the handshake, if something was written before it was read.
    early: Vec<u8>,
    /// Content was read, or put aside. None waits in the connection then.
    has_read: bool,
    /// Encrypted bytes that the socket did not take.
    held: Vec<u8>,
    /// Bytes of records without content (see [`EMPTY_BYTES`]); in the handshake, all that came.
    empty: usize,
    /// Our side ends once nothing is held.
    ends: bool,
    /// The peer has ended its side.
    has_ended: bool,
    failure: Option<Failure>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys must not get into a log.
        f.debug_struct("Session").field("fd", &self.fd).field("failure", &self.failure).finish_non_exhaustive()
    }
}

/// The result of working through the records that have come.
struct Worked {
    used: usize,
    plain: usize,
    /// Those of `used` that are of records without content.
    empty: usize,
    /// The last record of `used` has content, which waits in the connection.
    waits: bool,
}

impl Session {
    /// A connection before its handshake. The bytes in `unread` have come already.
    pub(crate) fn new(fd: OwnedFd, config: Arc<ServerConfig>, unread: Vec<u8>) -> Result<Self, (OwnedFd, Error)> {
        match UnbufferedServerConnection::new(config) {
            Err(error) => Err((fd, error)),
            Ok(connection) => Ok(Session {
                fd,
                connection,
                unread,
                since: None,
                early: Vec::new(),
                has_read: false,
                held: Vec::new(),
                empty: 0,
                ends: false,
                has_ended: false,
                failure: None,
            }),
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.fd
    }

    /// How many bytes have come and are kept, since their record is incomplete.
    pub(crate) fn kept(&self) -> usize {
        self.unread.capacity() + self.early.capacity()
    }

    /// When the incomplete record began (monotonic milliseconds).
    pub(crate) fn since(&self) -> Option<u64> {
        self.since
    }

    /// Starts the time limit of the incomplete record again.
    pub(crate) fn give_time(&mut self, now_ms: u64) {
        self.since = self.since.map(|_| now_ms);
    }

    /// How many encrypted bytes wait for the socket.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Reads content. `into` has room for more than two records.
    pub(crate) fn read(&mut self, into: &mut [u8], scratch: &mut Vec<u8>) -> Result<Read, Gone> {
        if self.ends {
            return self.discard(scratch);
        }
        if !self.early.is_empty() {
            let len = self.early.len().min(into.len());
            into[..len].copy_from_slice(&self.early[..len]);
            self.early = self.early.split_off(len);
            return Ok(Read::Part(len));
        }
        self.has_read = true;
        let mut plain = 0;
        loop {
            if self.failure.is_some() {
                return Err(Gone);
            }
            if self.has_ended {
                return Ok(if plain > 0 { Read::Part(plain) } else { Read::End });
            }
            // The content is never larger than its records. One more may be decrypted already, since the handshake.
            let room = (into.len() - plain).saturating_sub(RECORD);
            if room < self.unread.len() + RECORD {
                return Ok(Read::Part(plain));
            }
            let kept = self.take_unread(scratch, room);
            let came = match socket::recv(&self.fd, &mut scratch[kept..room]) {
                Ok(0) => {
                    self.has_ended = true;
                    Some(0)
                }
                Ok(len) => Some(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(error) if error.kind() == ErrorKind::Interrupted => Some(0),
                Err(_) => return Err(Gone),
            };
            let there = kept + came.unwrap_or(0);
            let worked = self.work(&mut scratch[..there], &mut into[plain..]);
            self.keep_unread(&scratch[..there], &worked);
            plain += worked.plain;
            self.empty = (self.empty + worked.empty).saturating_sub(worked.plain / CONTENT_PER_EMPTY);
            // After a failure all that came behind it is left.
            if self.failure.is_none() && self.empty > EMPTY_BYTES {
                self.failure = Some(Failure::TooMuch("64KB came without content"));
            } else if self.failure.is_none() && self.unread.len() > UNREAD_BYTES {
                self.failure = Some(Failure::TooMuch("a message about the connection is larger than 32KB"));
            }
            // Answers to messages about keys, and alerts.
            self.send_held()?;
            // Less than asked for means that there was no more (epoll(7)).
            let is_all = came.is_none_or(|len| len > 0 && kept + len < room && plain > 0);
            if is_all && self.failure.is_none() && !self.has_ended {
                return Ok(if plain > 0 { Read::Bytes(plain) } else { Read::Nothing });
            }
        }
    }

    /// Puts content aside that came with the end of the handshake: before it is taken, nothing can be written.
    fn put_aside(&mut self, scratch: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_read, true) {
            return;
        }
        self.decrypt_early(scratch);
    }

    /// Encrypts bytes and sends them; says how many. A record that was begun is held until the socket takes the rest,
    /// so at most one is held.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>], scratch: &mut Vec<u8>) -> Result<usize, Gone> {
        if self.ends || !self.send_held()? {
            return Ok(0);
        }
        self.put_aside(scratch);
        scratch.resize(scratch.len().max(RECORD + ENCRYPTED), 0);
        let mut taken = 0;
        let (mut slices, mut offset) = (slices, 0);
        while let [first, rest @ ..] = slices {
            let (gathered, encrypted) = scratch.split_at_mut(RECORD);
            let left = &first[offset..];
            let plain = if rest.is_empty() || left.len() >= RECORD {
                let len = left.len().min(RECORD);
                offset += len;
                &left[..len]
            } else {
                let mut len = 0;
                while let [first, rest @ ..] = slices {
                    let part = (first.len() - offset).min(RECORD - len);
                    gathered[len..len + part].copy_from_slice(&first[offset..offset + part]);
                    (len, offset) = (len + part, offset + part);
                    if offset < first.len() {
                        break;
                    }
                    (slices, offset) = (rest, 0);
                }
                &gathered[..len]
            };
            if !plain.is_empty() {
                let len = self.encrypt(|state, out| state.encrypt(plain, out), encrypted)?;
                taken += plain.len();
                if !self.send(&encrypted[..len])? {
                    break;
                }
            }
            if slices.first().is_some_and(|first| offset == first.len()) {
                (slices, offset) = (&slices[1..], 0);
            }
        }
        Ok(taken)
    }

    /// Sends what is held; returns whether nothing is held now.
    pub(crate) fn send_held(&mut self) -> Result<bool, Gone> {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.send(&held)?;
        }
        if self.held.is_empty() && self.ends {
            socket::shutdown_write(&self.fd);
        }
        Ok(self.held.is_empty())
    }

    /// Moves the bytes that are kept to the front of the buffer, which gets at least this size. Returns their number.
    fn take_unread(&mut self, scratch: &mut Vec<u8>, size: usize) -> usize {
        let unread = std::mem::take(&mut self.unread);
        scratch.resize(scratch.len().max(size).max(unread.len()), 0);
        scratch[..unread.len()].copy_from_slice(&unread);
        unread.len()
    }

    fn keep_unread(&mut self, bytes: &[u8], worked: &Worked) {
        self.unread = bytes[worked.used..].to_vec();
        self.since = match self.since {
            _ if self.unread.is_empty() => None,
            // Still the same record.
            Some(since) if worked.used == 0 => Some(since),
            _ => Some(clock::monotonic_ms()),
        };
    }

    /// Processes the records that have come. During the handshake `into` is empty, and content stays in `bytes`.
    fn work(&mut self, bytes: &mut [u8], into: &mut [u8]) -> Worked {
        let mut worked = Worked { used: 0, plain: 0, empty: 0, waits: false };
        // After an error only the alert is left to be taken.
        while self.failure.is_none() || self.connection.wants_write() {
            let input = &mut bytes[worked.used..];
            let (first, before) = (record_size(input), worked.plain);
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(input);
            let mut goes_on = true;
            match state {
                Ok(ConnectionState::ReadTraffic(_)) if into.is_empty() => (goes_on, worked.waits) = (false, true),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        let len = record.payload.len();
                        match into.get_mut(worked.plain..worked.plain + len) {
                            Some(content) => content.copy_from_slice(record.payload),
                            None => {
                                self.failure = Some(Failure::TooMuch("more content than was to be read"));
                                break;
                            }
                        }
                        worked.plain += len;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let begins = self.held.len();
                    self.held.resize(begins + RECORD, 0);
                    let mut encoded = data.encode(&mut self.held[begins..]);
                    if let Err(EncodeError::InsufficientSize(size)) = &encoded {
                        self.held.resize(begins + size.required_size, 0);
                        encoded = data.encode(&mut self.held[begins..]);
                    }
                    self.held.truncate(begins + encoded.unwrap_or(0));
                }
                // It is held, and sent soon.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(_) => goes_on = false,
                // A goodbye in the handshake.
                Err(Error::AlertReceived(AlertDescription::CloseNotify)) => (self.has_ended, goes_on) = (true, false),
                Err(error) => {
                    self.failure.get_or_insert(Failure::Tls(error.to_string()));
                }
            }
            worked.used += discard;
            worked.empty += match worked.plain - before {
                0 => discard,
                // The record with the content alone, however much it was padded.
                _ if discard == first => 0,
                content => discard.saturating_sub(content + RECORD_ADDS),
            };
            if !goes_on {
                break;
            }
        }
        if matches!(self.failure, Some(Failure::Tls(_))) && outcome::names_the_name(&mut self.held) {
            self.failure = Some(Failure::Name);
        }
        worked
    }

    /// Has the connection encrypt something into a buffer. There is nothing that it would have to say before: that is
    /// taken when it comes up, while records are read.
    fn encrypt(
        &mut self,
        encrypt: impl FnOnce(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
        out: &mut [u8],
    ) -> Result<usize, Gone> {
        if self.failure.is_some() {
            return Err(Gone);
        }
        // The connection has noted how far it has read an incomplete message within the bytes that are kept.
        let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.unread);
        let encrypted = match state {
            Ok(ConnectionState::WriteTraffic(mut state)) => encrypt(&mut state, out),
            _ => return Err(Gone),
        };
        drop(self.unread.drain(..discard));
        encrypted.map_err(|error| {
            if matches!(error, EncryptError::EncryptExhausted) {
                self.say_goodbye();
            }
            Gone
        })
    }

    /// Sends encrypted bytes, and holds the rest. Returns whether all of them were sent.
    fn send(&mut self, bytes: &[u8]) -> Result<bool, Gone> {
        let mut sent = 0;
        while sent < bytes.len() {
            match socket::send(&self.fd, &bytes[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(Gone),
            }
        }
        if sent < bytes.len() {
            self.held = bytes[sent..].to_vec();
        }
        Ok(sent == bytes.len())
    }
}

/// The size of the record at the front, or 0 if its header is not complete.
fn record_size(bytes: &[u8]) -> usize {
    match bytes {
        [_, _, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

type WriteTraffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;
