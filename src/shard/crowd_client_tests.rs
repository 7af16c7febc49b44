//! A client of the crowd: its socket, TLS over it if it speaks that, and the objects that it reads from it.

use super::crowd_presence_tests::Follower;
use super::sink_tests::mask;
use crate::framing::inflate::Inflater;
use crate::hub::ClientId;
#[cfg(feature = "tls")]
use rustls::ClientConnection;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

pub(super) struct Client {
    pub(super) socket: UnixStream,
    pub(super) masked: bool,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Box<ClientConnection>>,
    pub(super) kind: Kind,
    pub(super) inflater: Inflater,
    /// Read and not understood yet.
    pub(super) unread: Vec<u8>,
    pub(super) head: bool,
    pub(super) closed: bool,
    /// The id that it has chosen.
    pub(super) id: Option<ClientId>,
    /// Channels that it is on, and up to where all of each has come or was told to be gone.
    pub(super) on: BTreeMap<&'static str, u64>,
    /// Those among them that it has by name.
    pub(super) named: Vec<&'static str>,
    /// Its patterns. It is on all channels that they fit.
    pub(super) patterns: Vec<&'static str>,
    /// By pattern: after which number it has brought everything, if that is known, and where it was joined.
    pub(super) read: BTreeMap<&'static str, (Option<u64>, u64)>,
    pub(super) requests: Requests,
    /// Its user, and what it shows of who is there.
    pub(super) presence: Follower,
}

/// What a client has asked for and has no answer to.
pub(super) struct Requests {
    /// Of which channel, from where.
    pub(super) asked: VecDeque<(&'static str, Ask)>,
    /// What it was told for the first of them.
    pub(super) told: Told,
}

pub(super) enum Kind {
    WebSocket,
    Stream,
    /// It polls with this request, up to the position.
    Poll(String),
}

#[derive(Default)]
pub(super) struct Told {
    /// By channel: what it had missed before, up to there.
    pub(super) missed: BTreeMap<&'static str, u64>,
    /// True if anything of it may be gone.
    pub(super) gap: bool,
    /// True if the channel has ended.
    pub(super) end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ask {
    /// By the URL.
    Url,
    New,
    Since(u64),
    Leave,
}

pub(super) enum Item {
    /// The position in the head of the response.
    Head(u64),
    Object(Value),
    /// The answer to a poll.
    Answer(Value),
}

/// A client that goes. A child that another test starts has its socket for a moment as well, so to close it would not
/// do.
impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Client {
    /// Sends bytes; says whether they go all of them. Over TLS the rest goes later.
    pub(super) fn send(&mut self, mut bytes: Vec<u8>) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(&bytes).unwrap();
            while tls.wants_write() && tls.write_tls(&mut self.socket).is_ok() {}
            return true;
        }
        mask(&mut bytes, self.masked);
        self.socket.write(&bytes).is_ok_and(|len| len == bytes.len())
    }

    /// Reads at most so much from the socket; says how much there was.
    pub(super) fn receive(&mut self, most: usize) -> usize {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && tls.write_tls(&mut self.socket).is_ok() {}
            let mut received = 0;
            // TLS takes a few kilobytes at once.
            while received < most {
                let Ok(len @ 1..) = tls.read_tls(&mut (&self.socket).take((most - received) as u64)) else { break };
                received += len;
                tls.process_new_packets().unwrap();
                // There is no more, or the end has come.
                let _ = tls.reader().read_to_end(&mut self.unread);
            }
            return received;
        }
        let mut bytes = vec![0; most];
        let len = self.socket.read(&mut bytes).unwrap_or(0);
        mask(&mut bytes[..len], self.masked);
        self.unread.extend_from_slice(&bytes[..len]);
        len
    }

    /// The next that is there as a whole.
    pub(super) fn next(&mut self) -> Option<Item> {
        if self.closed {
            return None;
        }
        if matches!(self.kind, Kind::Poll(_)) {
            return self.answer();
        }
        if !self.head {
            let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
            self.head = true;
            // A client that is told of ends has its position from the last of them.
            let Some((_, position)) = head.split_once("Push-Position: ") else { return Some(Item::Head(u64::MAX)) };
            let number = position.lines().next().unwrap().rsplit('-').next().unwrap();
            return Some(Item::Head(number.parse().unwrap()));
        }
        match self.kind {
            Kind::WebSocket => self.frame(),
            _ => self.line(),
        }
    }

    fn answer(&mut self) -> Option<Item> {
        let size = self.unread.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.unread[..size]).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let end = size + length.parse::<usize>().unwrap();
        let answer = serde_json::from_slice(self.unread.get(size..end)?).unwrap();
        self.unread.drain(..end);
        self.head = true;
        Some(Item::Answer(answer))
    }

    fn frame(&mut self) -> Option<Item> {
        let (first, len) = (*self.unread.first()?, *self.unread.get(1)?);
        let (size, len) = match len {
            126 => (4, usize::from(u16::from_be_bytes(self.unread.get(2..4)?.try_into().unwrap()))),
            127 => panic!("a frame that nobody has published"),
            len => (2, usize::from(len)),
        };
        let payload = self.unread.get(size..size + len)?.to_vec();
        self.unread.drain(..size + len);
        match first {
            0x81 => Some(Item::Object(serde_json::from_slice(&payload).unwrap())),
            0xc1 => {
                Some(Item::Object(serde_json::from_slice(self.inflater.message(&payload, 1 << 20).unwrap()).unwrap()))
            }
            0x88 => {
                assert_eq!(payload[..2], 4429u16.to_be_bytes(), "{}", String::from_utf8_lossy(&payload[2..]));
                self.closed = true;
                None
            }
            other => panic!("{other:x}"),
        }
    }

    /// A line of a stream: each is a chunk.
    fn line(&mut self) -> Option<Item> {
        loop {
            let end = self.unread.windows(2).position(|two| two == b"\r\n")?;
            let len = usize::from_str_radix(std::str::from_utf8(&self.unread[..end]).unwrap(), 16).unwrap();
            let line = self.unread.get(end + 2..end + 2 + len)?.to_vec();
            self.unread.get(end + 2 + len..end + 4 + len)?;
            self.unread.drain(..end + 4 + len);
            if line.len() > 1 {
                return Some(Item::Object(serde_json::from_slice(&line).unwrap()));
            }
        }
    }
}
