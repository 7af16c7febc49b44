//! One connection whose records the kernel encrypts and decrypts.
#![allow(clippy::box_collection)] // 8 bytes instead of 24 for what most connections do not have

use super::control::{self, Patience, Verdict};
use crate::sys::ktls::{self, Version};
use crate::sys::{passing, socket};
use crate::tls::outcome::{Failure, Gone, Read};
use rustls::{AlertDescription, Error};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};

/// The most content in a record (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;
/// After so many records a connection should have new keys: with AES-GCM no more than 2^24.5 may have the same (RFC
/// 8446, section 5.5).
const WORN: u32 = 1 << 24;
/// With so many it ends at the latest.
const WORN_OUT: u32 = WORN + WORN / 4;

/// See the module. It has no buffer. Only the socket is left of the session.
#[derive(Debug)]
pub(crate) struct InKernel {
    fd: OwnedFd,
    version: Version,
    /// Content that came with the end of the handshake, until it is read.
    early: Option<Box<Vec<u8>>>,
    /// How many records were sent, at least.
    sent: u32,
    patience: Patience,
    goodbye: Goodbye,
    /// What comes can't be decrypted any more.
    is_deaf: bool,
    failure: Option<Box<Failure>>,
}

/// The alert that no more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    NotYet,
    /// The socket had no room for it.
    Waits,
    Sent,
}

impl InKernel {
    /// The connection of a socket that has both keys. The content in `early` has come already.
    pub(crate) fn new(fd: OwnedFd, version: Version, early: Vec<u8>) -> Self {
        let (patience, goodbye) = (Patience::default(), Goodbye::NotYet);
        let early = (!early.is_empty()).then(|| Box::new(early));
        InKernel { fd, version, early, sent: 0, patience, goodbye, is_deaf: false, failure: None }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.fd
    }

    /// How many bytes have come and were not read.
    pub(crate) fn kept(&self) -> usize {
        self.early.as_ref().map_or(0, |early| early.capacity())
    }

    /// How many bytes wait for the socket.
    pub(crate) fn held(&self) -> usize {
        if self.goodbye == Goodbye::Waits {
            control::CLOSE_NOTIFY.len()
        } else {
            0
        }
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_deref()
    }

    /// Whether so many records were sent that it should have new keys.
    pub(crate) fn is_worn(&self) -> bool {
        self.sent >= WORN
    }

    /// Reads content. `into` has room for a record.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<Read, Gone> {
        if self.is_deaf {
            return Ok(self.watch());
        }
        if let Some(mut early) = self.early.take() {
            let len = early.len().min(into.len());
            into[..len].copy_from_slice(&early[..len]);
            if len < early.len() {
                *early = early.split_off(len);
                self.early = Some(early);
            }
            return Ok(Read::Part(len));
        }
        let came = ktls::recv(&self.fd, into);
        let ends = self.goodbye != Goodbye::NotYet;
        match came {
            Ok((None, 0)) => Ok(Read::End),
            // It has come before the goodbye of ours, and nobody reads it.
            Ok((None | Some(control::CONTENT), _)) if ends => Ok(Read::Part(0)),
            // A record of another type may be next, so that less came than there is room for.
            Ok((None | Some(control::CONTENT), len)) => Ok(Read::Part(len)),
            Ok((Some(kind), len)) => {
                let verdict = self.patience.judge(self.version, kind, &into[..len]);
                self.follow(verdict, ends)
            }
            Err(error) => self.failed(&error, ends),
        }
    }

    /// Does what a record that is no content asks for. After our goodbye it gets no answer.
    fn follow(&mut self, verdict: Verdict, ends: bool) -> Result<Read, Gone> {
        match verdict {
            Verdict::Pass => Ok(Read::Part(0)),
            // What we have said last may still be on its way. It closes when it has read that.
            Verdict::End if ends => Ok(Read::Part(0)),
            Verdict::End => Ok(Read::End),
            Verdict::NewKeys | Verdict::Wrong(..) if ends => {
                self.is_deaf = true;
                Ok(self.watch())
            }
            Verdict::Answer(alert) => {
                if !ends {
                    let _ = ktls::send_record(&self.fd, control::ALERT, &alert);
                }
                Ok(Read::Part(0))
            }
            Verdict::NewKeys => {
                self.is_deaf = true;
                Ok(Read::NewKeys)
            }
            Verdict::Wrong(failure, alert) => {
                self.failure = Some(Box::new(failure));
                if let Some(alert) = alert {
                    ktls::take_error(&self.fd);
                    let _ = ktls::send_record(&self.fd, control::ALERT, &alert);
                }
                Err(Gone)
            }
        }
    }

    /// The kernel could read nothing.
    fn failed(&mut self, error: &io::Error, ends: bool) -> Result<Read, Gone> {
        let verdict = match error.raw_os_error() {
            _ if error.kind() == ErrorKind::WouldBlock => return Ok(Read::Nothing),
            _ if error.kind() == ErrorKind::Interrupted => return Ok(Read::Part(0)),
            // The texts are those of the library for TLS.
            Some(libc::EBADMSG) => control::wrong(Error::DecryptError.to_string(), AlertDescription::BadRecordMac),
            Some(libc::EMSGSIZE) => {
                control::wrong(Error::PeerSentOversizedRecord.to_string(), AlertDescription::RecordOverflow)
            }
            Some(libc::EINVAL) => control::wrong("a record is malformed", AlertDescription::DecodeError),
            _ => return Err(Gone),
        };
        self.follow(verdict, ends)
    }

    /// Reads nothing, and sees whether the peer is there.
    fn watch(&self) -> Read {
        if passing::gone(std::iter::once(self.fd.as_raw_fd())) == [true] {
            Read::End
        } else {
            Read::Nothing
        }
    }

    /// Sends bytes; says how many.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Gone> {
        if self.goodbye != Goodbye::NotYet {
            return Ok(0);
        }
        if self.sent >= WORN_OUT {
            return Err(Gone);
        }
        match socket::send_vectored(&self.fd, slices) {
            Ok(len) => {
                // The kernel makes at least one record for each call.
                self.sent = self.sent.saturating_add(1 + (len / RECORD) as u32);
                Ok(len)
            }
            Err(error) => self.not_sent(&error).map(|()| 0),
        }
    }

    /// The kernel could send nothing now, or never again. It tells of a record that it could not decrypt in whichever call
    /// comes first, and then never again.
    fn not_sent(&mut self, error: &io::Error) -> Result<(), Gone> {
        self.failed(error, false).map(drop)
    }

    /// Sends the goodbye, if it waits; returns whether nothing waits now.
    pub(crate) fn flush(&mut self) -> Result<bool, Gone> {
        if self.goodbye == Goodbye::Waits {
            match ktls::send_record(&self.fd, control::ALERT, &control::CLOSE_NOTIFY) {
                Ok(_) => self.goodbye = Goodbye::Sent,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(self.goodbye != Goodbye::Waits)
    }

    /// Tells the peer that no more comes.
    ///
    /// The socket's sending side stays open until the peer closes or its time is over. A part of a record may wait in
    /// the kernel for room in the socket, and the end of the sending side would overtake it.
    pub(crate) fn end_writing(&mut self) {
        if self.goodbye == Goodbye::NotYet {
            self.goodbye = Goodbye::Waits;
            self.early = None;
            let _ = self.flush();
        }
    }

    /// Ends both directions, and tells the peer if the socket takes that.
    pub(crate) fn end(&mut self) {
        if self.failure.is_none() {
            self.end_writing();
        }
        socket::shutdown_both(&self.fd);
    }
}

/// A Unix socket stands in for one with TLS: it has no types of records, and carries the alerts as they are.
#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    fn connection(early: &[u8]) -> (InKernel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (InKernel::new(ours.into(), Version::Tls13, early.to_vec()), theirs)
    }

    fn told(mut peer: &UnixStream) -> Vec<u8> {
        let mut bytes = vec![0; 100];
        let len = peer.read(&mut bytes).unwrap_or(0);
        bytes[..len].to_vec()
    }

    /// The peer goes. A child that another test starts has its descriptor for a moment as well, so closing it would not
    /// do.
    fn leave(peer: &UnixStream) {
        peer.shutdown(std::net::Shutdown::Both).unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn content_that_came_early_is_read_first() {
        let (mut ours, mut peer) = connection(b"early");
        peer.write_all(b"late").unwrap();
        assert_eq!(ours.kept(), 5);
        let mut into = [0; 4];
        let mut read = || (ours.read(&mut into), into);
        assert_eq!(read(), (Ok(Read::Part(4)), *b"earl"));
        assert_eq!(read().0, Ok(Read::Part(1)));
        assert_eq!(read(), (Ok(Read::Part(4)), *b"late"));
        assert_eq!(read().0, Ok(Read::Nothing));
        leave(&peer);
        assert_eq!(read().0, Ok(Read::End));
        assert_eq!((ours.kept(), ours.failure()), (0, None));
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn new_keys_are_told_once_and_something_can_still_be_said() {
        let (mut ours, mut peer) = connection(b"");
        assert_eq!(ours.follow(Verdict::NewKeys, false), Ok(Read::NewKeys));
        peer.write_all(b"with other keys").unwrap();
        let mut into = [0; 100];
        assert_eq!(ours.read(&mut into), Ok(Read::Nothing));
        assert_eq!(ours.write(&[IoSlice::new(b"come back")]), Ok(9));
        ours.end_writing();
        assert_eq!(told(&peer), b"come back\x01\x00");
        assert_eq!(ours.read(&mut into), Ok(Read::Nothing));
        leave(&peer);
        assert_eq!(ours.read(&mut into), Ok(Read::End), "the peer has gone");
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_wrong_record_gets_its_alert_and_is_the_end() {
        let (mut ours, peer) = connection(b"");
        for (error, alert, text) in [
            (libc::EBADMSG, 20, "cannot decrypt peer's message"),
            (libc::EMSGSIZE, 22, "peer sent excess record size"),
            (libc::EINVAL, 50, "a record is malformed"),
        ] {
            assert_eq!(ours.failed(&io::Error::from_raw_os_error(error), false), Err(Gone));
            assert_eq!(told(&peer), [2, alert]);
            assert_eq!(ours.failure().unwrap().to_string(), text);
        }
        ours.end();
        assert_eq!(told(&peer), b"", "no goodbye follows");
        // A write may come before the next read, and gets the error.
        let (mut ours, peer) = connection(b"");
        assert_eq!(ours.not_sent(&io::Error::from_raw_os_error(libc::EBADMSG)), Err(Gone));
        assert_eq!(told(&peer), [2, 20]);
        assert_eq!(ours.failure().unwrap().to_string(), "cannot decrypt peer's message");
        let (mut ours, peer) = connection(b"");
        for error in [libc::EAGAIN, libc::EINTR] {
            assert_eq!(ours.not_sent(&io::Error::from_raw_os_error(error)), Ok(()));
        }
        assert_eq!((ours.failure(), told(&peer)), (None, Vec::new()));
        let (mut ours, _peer) = connection(b"");
        assert_eq!(ours.failed(&io::Error::from_raw_os_error(libc::ECONNRESET), false), Err(Gone));
        assert_eq!(ours.failure(), None, "a client that is gone has done nothing wrong");
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn after_our_goodbye_nothing_that_comes_is_an_error() {
        let (mut ours, mut peer) = connection(b"early");
        ours.end_writing();
        ours.end_writing();
        assert_eq!(told(&peer), [1, 0]);
        assert_eq!((ours.kept(), ours.held()), (0, 0));
        assert_eq!(ours.write(&[IoSlice::new(b"more")]), Ok(0));
        peer.write_all(b"content").unwrap();
        let mut into = [0; 100];
        assert_eq!(ours.read(&mut into), Ok(Read::Part(0)));
        for verdict in [Verdict::Answer([1, 100]), Verdict::End] {
            assert_eq!(ours.follow(verdict, true), Ok(Read::Part(0)));
        }
        assert_eq!(ours.failed(&io::Error::from_raw_os_error(libc::EBADMSG), true), Ok(Read::Nothing));
        assert_eq!((ours.read(&mut into), ours.failure()), (Ok(Read::Nothing), None));
        assert_eq!(told(&peer), b"");
        ours.end();
        assert_eq!(told(&peer), b"", "the goodbye is said once");
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_goodbye_waits_for_room() {
        let (mut ours, peer) = connection(b"");
        let block = [b'x'; 4096];
        while ours.write(&[IoSlice::new(&block)]).unwrap() > 0 {}
        ours.end_writing();
        assert_eq!((ours.held(), ours.flush()), (2, Ok(false)));
        let mut all = Vec::new();
        while ours.flush() == Ok(false) {
            all.extend(told(&peer));
        }
        assert_eq!(ours.held(), 0);
        loop {
            match told(&peer) {
                rest if rest.is_empty() => break,
                rest => all.extend(rest),
            }
        }
        assert!(all.ends_with(b"x\x01\x00") && all[..all.len() - 2].iter().all(|byte| *byte == b'x'));
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn keys_wear_out() {
        let (mut ours, _peer) = connection(b"");
        assert_eq!(ours.write(&[IoSlice::new(&[0; 20_000])]), Ok(20_000));
        assert_eq!(ours.sent, 2, "of two records");
        ours.sent = WORN - 1;
        assert!(!ours.is_worn());
        assert_eq!(ours.write(&[IoSlice::new(b"a")]), Ok(1));
        assert!(ours.is_worn());
        ours.sent = WORN_OUT;
        assert_eq!(ours.write(&[IoSlice::new(b"a")]), Err(Gone));
    }

    #[test]
    fn a_connection_in_the_kernel_stays_small() {
        // With its place among the sinks and its entry in the slab it is to be less than 300 bytes: see tests/tls.
        assert!(size_of::<InKernel>() <= 32, "{}", size_of::<InKernel>());
    }
}
