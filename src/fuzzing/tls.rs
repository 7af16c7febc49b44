//! TLS: a session between a client and its bytes, which come and go in parts of any size.
//!
//! If the first byte is even, the rest is what a stranger sends: the session must end in the same way, in whatever
//! pieces it comes. If it is odd, a real client does what the bytes say: it sends content, new keys and its goodbye, and
//! the network cuts, holds back and spoils what either side sends.

mod configs;

use super::Source;
use crate::sys::socket::short;
use crate::tls::outcome::{Gone, Handshake, Read};
use crate::tls::session::Session;
use configs::CONFIGS;
use rustls::pki_types::ServerName;
use rustls::ClientConnection;
use std::io::{IoSlice, Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// The most that a session keeps of what has come, and of what the socket did not take.
const KEPT: usize = 128 * 1024;
const HELD: usize = 32 * 1024;
/// Room for two records and more, as a shard has.
const INTO: usize = 64 * 1024;
/// More messages about new keys than this end a client.
const REFRESHES: usize = 20;

/// See the module.
pub(super) fn run(data: &[u8]) {
    short::set_room(usize::MAX);
    let mut source = Source(data);
    let kind = source.byte();
    if kind % 2 == 0 {
        let piece = 1 + source.below(64);
        let whole = stranger(source.0, source.0.len().max(1));
        assert_eq!(stranger(source.0, piece), whole, "pieces of {piece}");
        return;
    }
    let mut world = World::new(usize::from(kind >> 1) % 2, source.below(256));
    let mut steps = 0;
    while !source.is_empty() && !world.is_over && steps < 300 {
        world.step(&mut source);
        steps += 1;
    }
    world.settle();
    short::set_room(usize::MAX);
}

/// How a session goes to which a stranger sends bytes in pieces: its failure, and whether it has ended.
fn stranger(bytes: &[u8], piece: usize) -> (Option<String>, bool) {
    let (mut session, mut socket) = session(Vec::new());
    let mut scratch = Vec::new();
    let mut state = Ok(Handshake::Waits);
    for piece in bytes.chunks(piece) {
        // All of it fits into the socket's buffer.
        socket.write_all(piece).expect("room");
        state = session.shake_hands(&mut scratch);
        assert!(session.kept() <= KEPT && session.held() == 0);
        if state.is_err() {
            break;
        }
    }
    assert_ne!(state, Ok(Handshake::Done), "nobody guesses keys");
    (session.failure().map(ToString::to_string), state.is_err())
}

fn session(unread: Vec<u8>) -> (Session, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).and_then(|()| theirs.set_nonblocking(true)).expect("sockets that don't block");
    (Session::new(ours.into(), CONFIGS.0.clone(), unread).expect("a session"), theirs)
}

struct World {
    session: Session,
    client: ClientConnection,
    socket: UnixStream,
    network: Network,
    /// The content that was sent when so many bytes were said.
    marks: Vec<(usize, usize)>,
    content: Content,
    refreshes: usize,
    is_done: bool,
    client_ends: bool,
    server_ends: bool,
    /// The session has told the end of the client's side.
    told_end: bool,
    is_over: bool,
    scratch: Vec<u8>,
}

/// The way from the client to the server.
struct Network {
    /// What the client has said, and the network has not passed on yet.
    on_its_way: Vec<u8>,
    /// How many bytes the client has said, and how many of them have come.
    said: usize,
    passed: usize,
    /// It has changed something.
    is_spoilt: bool,
}

impl Network {
    /// Passes on at most so many bytes, if there is room.
    fn pass(&mut self, socket: &mut UnixStream, most: usize) {
        let most = most.min(self.on_its_way.len());
        let passed = socket.write(&self.on_its_way[..most]).unwrap_or(0);
        self.on_its_way.drain(..passed);
        self.passed += passed;
    }
}

/// How much content each side has sent and got. Content is the same for all: each byte says its place.
#[derive(Default)]
struct Content {
    sent: usize,
    came: usize,
    written: usize,
    received: usize,
}

/// The byte of content at a place.
fn content(place: usize) -> u8 {
    (place % 251) as u8
}

fn check_content(bytes: &[u8], from: usize) {
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == content(from + at)), "other content");
}

impl World {
    /// The first bytes of the client came before there was a session.
    fn new(version: usize, first: usize) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(CONFIGS.1[version].clone(), name).expect("a client");
        client.set_buffer_limit(None);
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("a hello");
        let rest = hello.split_off(first.min(hello.len()));
        let (said, passed) = (hello.len() + rest.len(), hello.len());
        let (session, socket) = session(hello);
        World {
            session,
            client,
            socket,
            network: Network { on_its_way: rest, said, passed, is_spoilt: false },
            marks: Vec::new(),
            content: Content::default(),
            refreshes: 0,
            is_done: false,
            client_ends: false,
            server_ends: false,
            told_end: false,
            is_over: false,
            scratch: Vec::new(),
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.below(14) {
            0 if !self.client_ends => {
                let len = source.below(256) * (1 + source.below(80));
                self.send(len);
            }
            1 | 2 => self.pass(1 + source.below(256)),
            3 => self.pass(usize::MAX),
            4 | 5 => self.serve(),
            6 => {
                let len = source.below(256) * (1 + source.below(80));
                self.write(len, 1 + source.below(5));
            }
            7 => short::set_room(source.below(256) * if source.below(2) == 0 { 1 } else { 100 }),
            8 => self.flush(),
            9 => drop(self.receive(1 + source.below(256) * 16)),
            10 => self.refresh(),
            11 => self.spoil(source),
            12 if !self.client_ends && !self.client.is_handshaking() && source.below(4) == 0 => {
                self.client_ends = true;
                self.client.send_close_notify();
                self.say();
            }
            13 if self.is_done && source.below(4) == 0 => {
                self.session.end_writing(&mut self.scratch);
                self.server_ends = true;
                assert_eq!((self.session.kept(), self.session.since()), (0, None));
            }
            _ => {}
        }
        assert!(self.session.kept() <= KEPT && self.session.held() <= HELD, "{:?}", self.session);
    }

    /// The client sends content.
    fn send(&mut self, len: usize) {
        let bytes: Vec<u8> = (self.content.sent..self.content.sent + len).map(content).collect();
        if self.client.writer().write_all(&bytes).is_err() {
            // It has found that the handshake was spoilt.
            return assert!(self.network.is_spoilt);
        }
        self.content.sent += len;
        self.say();
    }

    fn refresh(&mut self) {
        if self.refreshes < REFRESHES && !self.client_ends && self.client.refresh_traffic_keys().is_ok() {
            self.refreshes += 1;
            self.say();
        }
    }

    /// What the client has to say is on its way.
    fn say(&mut self) {
        while self.client.wants_write() {
            self.network.said += self.client.write_tls(&mut self.network.on_its_way).expect("a vector takes it");
        }
        if !self.client.is_handshaking() {
            self.marks.push((self.network.said, self.content.sent));
        }
    }

    /// The network passes on so many bytes, if there is room.
    fn pass(&mut self, most: usize) {
        self.network.pass(&mut self.socket, most);
    }

    /// The network changes a bit of what is on its way, or puts something in.
    fn spoil(&mut self, source: &mut Source<'_>) {
        if source.below(4) > 0 {
            return;
        }
        self.network.is_spoilt = true;
        match source.below(2) {
            0 => {
                let bytes = source.take(source.0.len().min(40)).to_vec();
                self.network.on_its_way.extend_from_slice(&bytes);
            }
            _ if self.network.on_its_way.is_empty() => {}
            _ => {
                let at = source.below(256) % self.network.on_its_way.len();
                self.network.on_its_way[at] ^= 1 << source.below(8);
            }
        }
    }

    /// The server goes on with what has come.
    fn serve(&mut self) {
        if !self.is_done {
            return match self.session.shake_hands(&mut self.scratch) {
                Ok(Handshake::Done) => self.is_done = true,
                Ok(Handshake::Waits) => {}
                Err(Gone) => self.gone(),
            };
        }
        let mut into = vec![0; INTO];
        for _ in 0..1000 {
            let read = match self.session.read(&mut into, &mut self.scratch) {
                Ok(read) => read,
                Err(Gone) => return self.gone(),
            };
            if let Read::Bytes(len) | Read::Part(len) = read {
                check_content(&into[..len], self.content.came);
                self.content.came += len;
            }
            assert!(self.content.came <= self.content.sent, "more content than was sent");
            match read {
                Read::Part(_) => {}
                Read::End => {
                    self.told_end = true;
                    assert!(self.client_ends || self.network.is_spoilt, "an end that nobody told");
                    return;
                }
                Read::Bytes(_) | Read::Nothing => return self.check_all_came(),
                Read::NewKeys => panic!("the library follows new keys by itself"),
            }
        }
        panic!("it reads for ever");
    }

    /// The content of all records that have come whole was read. Nothing would tell of it again.
    fn check_all_came(&self) {
        let whole = self.marks.iter().rev().find(|(said, _)| *said <= self.network.passed).map_or(0, |(_, sent)| *sent);
        let all_came = self.network.is_spoilt || self.server_ends || self.content.came >= whole;
        assert!(all_came, "{} of {whole} came", self.content.came);
        assert_eq!(self.session.since().is_none(), self.session.kept() == 0, "a part without a time");
    }

    fn gone(&mut self) {
        // The client's goodbye may be all that is behind its handshake.
        let has_left = self.client_ends && !self.is_done && self.content.sent == 0 && self.session.failure().is_none();
        assert!(self.network.is_spoilt || has_left, "{:?}", self.session.failure());
        self.is_over = true;
    }

    /// The server writes content in several slices.
    fn write(&mut self, len: usize, slices: usize) {
        if !self.is_done || self.server_ends {
            return;
        }
        let bytes: Vec<u8> = (self.content.written..self.content.written + len).map(content).collect();
        let slices: Vec<_> = bytes.chunks((len / slices).max(1)).map(IoSlice::new).collect();
        match self.session.write(&slices, &mut self.scratch) {
            Ok(taken) => self.content.written += taken,
            Err(Gone) => self.gone(),
        }
    }

    fn flush(&mut self) {
        match self.session.send_held() {
            Ok(all) => assert_eq!(all, self.session.held() == 0),
            Err(Gone) => self.gone(),
        }
    }

    /// The client reads at most so many bytes. Returns how many there were.
    fn receive(&mut self, most: usize) -> usize {
        let mut bytes = vec![0; most];
        let len = self.socket.read(&mut bytes).unwrap_or(0);
        let mut rest = &bytes[..len];
        while !rest.is_empty() {
            // After its goodbye it reads no more. The server's alert is all that may be wrong.
            if !matches!(self.client.read_tls(&mut rest), Ok(1..)) || self.client.process_new_packets().is_err() {
                assert!(self.network.is_spoilt || self.server_ends, "what the server sends is wrong");
                break;
            }
            let mut content = Vec::new();
            let _ = self.client.reader().read_to_end(&mut content);
            check_content(&content, self.content.received);
            self.content.received += content.len();
        }
        self.say();
        len
    }

    /// All comes to rest. What was sent has come, unless the network has spoilt it.
    fn settle(&mut self) {
        short::set_room(usize::MAX);
        let mut quiet = 0;
        for _ in 0..2000 {
            if self.is_over || quiet > 3 {
                break;
            }
            let before = self.network.on_its_way.len();
            self.pass(usize::MAX);
            if !self.told_end {
                self.serve();
            }
            if !self.is_over {
                self.flush();
            }
            let moved = self.receive(INTO) + before - self.network.on_its_way.len().min(before);
            quiet = if moved == 0 { quiet + 1 } else { 0 };
        }
        if self.network.is_spoilt || self.is_over {
            return;
        }
        assert!(quiet > 3 && self.is_done && self.session.held() == 0, "it does not come to rest");
        assert_eq!(self.content.received, self.content.written, "content of the server's is missing");
        assert!(
            self.server_ends || self.content.came == self.content.sent,
            "{} of {} came",
            self.content.came,
            self.content.sent
        );
        assert!(self.server_ends || self.told_end == self.client_ends, "the client's goodbye");
        if self.server_ends {
            let end = self.client.reader().read(&mut [0]);
            assert!(matches!(end, Ok(0)), "it ended without a goodbye: {end:?}");
        }
    }
}
