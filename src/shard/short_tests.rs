//! TLS clients whose sockets take one byte at a time, or a few, or none for now. So a write ends at every place inside
//! a record, and in the goodbye behind the last one.

use super::order_tests::{client, shard_with};
use super::secure_tests::put_secure;
use super::Shard;
use crate::framing::close::Close;
use crate::framing::message;
use crate::hub::{Outgoing, Publication};
use crate::shard::connection::conn::Token;
use crate::sys::epoll::{Event, Watch};
use crate::sys::socket::short;
use rustls::ClientConnection;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: push.v1.json\r\n";

/// The lines of a request for each transport, and a part of its last words.
const TRANSPORTS: [(&str, &str); 3] = [
    ("Accept: text/event-stream\r\n", "event: push-close"),
    ("Accept: application/x-ndjson\r\n", "\"type\":\"close\""),
    (UPGRADE, "going away"),
];

struct World {
    shard: Shard,
    socket: UnixStream,
    tls: Box<ClientConnection>,
    read: Vec<u8>,
    has_ended: bool,
}

impl World {
    /// A client with a session, which has sent its request.
    fn new(lines: &str) -> Self {
        let mut shard = shard_with(&[("outbox", "1MB"), ("compression", "false")]);
        let (adopted, socket) = client(None, b"");
        shard.adopt(adopted);
        socket.set_nonblocking(true).unwrap();
        let mut tls = put_secure(&mut shard, &socket);
        write!(tls.writer(), "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n{lines}\r\n").unwrap();
        let mut world = World { shard, socket, tls, read: Vec::new(), has_ended: false };
        while world.tls.wants_write() {
            world.tls.write_tls(&mut world.socket).unwrap();
        }
        world
    }

    fn publish(&self, data: &str) {
        let message = message(&Publication::new("", data.as_bytes()));
        let outgoing = Outgoing::new("a", None, message);
        self.shard.context.hub.publish(outgoing, self.shard.turn.now).unwrap();
    }

    /// Its socket takes so many bytes. The epoll tells of room, as the kernel would.
    fn turn(&mut self, room: usize) {
        for (index, conn) in &self.shard.conns {
            let token = Token { index: index as u32, generation: conn.generation };
            let fd = self.shard.socket_of(token.index).unwrap().as_raw_fd();
            self.shard.registry.epoll.change(fd, token.to_bits(), Watch::EdgeBoth).unwrap();
        }
        short::set_room(room);
        let mut events = [Event { events: 0, u64: 0 }; 64];
        let count = self.shard.registry.epoll.wait(&mut events, Some(0)).unwrap();
        self.shard.turn(&events[..count]);
        short::set_room(usize::MAX);
    }

    /// The client reads all that is there.
    fn receive(&mut self) {
        while self.tls.read_tls(&mut self.socket).is_ok_and(|len| len > 0) {
            self.tls.process_new_packets().unwrap();
            match self.tls.reader().read_to_end(&mut self.read) {
                Ok(_) => self.has_ended = true,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    fn until(&mut self, what: &str, room: impl Fn(usize) -> usize, there: impl Fn(&World) -> bool) {
        for number in 0..100_000 {
            if there(self) {
                return;
            }
            self.turn(room(number));
            self.receive();
        }
        panic!("{what}: {}", self.text());
    }
}

/// Serves a client of each transport, with so much room in each turn.
fn serve(sizes: &[usize], room: impl Fn(usize) -> usize + Copy) {
    for (lines, goodbye) in TRANSPORTS {
        let before = short::cuts();
        let mut world = World::new(lines);
        world.until("it subscribes", room, |world| world.shard.context.hub.stats().subscriptions == 1);
        let messages: Vec<_> =
            sizes.iter().enumerate().map(|(at, size)| format!("<{at}{}>", "x".repeat(*size))).collect();
        for message in &messages {
            world.publish(message);
            world.turn(room(1));
            world.receive();
        }
        let last = messages.last().unwrap().clone();
        world.until("all come", room, |world| world.text().contains(&last));
        world.publish("<before the end>");
        world.turn(0);
        let (index, _) = world.shard.conns.iter().next().unwrap();
        world.shard.close(index as u32, Close::going_away(7));
        world.until("its end is told", room, |world| world.has_ended);
        let text = world.text();
        let came: Vec<_> =
            text.match_indices('<').map(|(at, _)| &text[at..=at + text[at..].find('>').unwrap()]).collect();
        let expected: Vec<_> = messages.iter().map(String::as_str).chain(["<before the end>"]).collect();
        assert!(came == expected, "in order and once: {text}");
        assert!(text.contains(goodbye), "{text}");
        assert_eq!(world.shard.handle.metrics.outbox_bytes.get(), 0, "something is counted as held");
        world.tls.send_close_notify();
        world.tls.write_tls(&mut world.socket).unwrap();
        world.socket.shutdown(std::net::Shutdown::Write).unwrap();
        world.until("it is forgotten", room, |world| world.shard.conns.is_empty());
        assert!(short::cuts() - before >= 3, "no write was cut");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_tls_client_that_takes_one_byte_at_a_time_misses_nothing() {
    serve(&[3, 0, 200], |_| 1);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_tls_client_that_takes_nothing_now_and_then_misses_nothing() {
    let now_and_then = |part: usize| move |number: usize| if number.is_multiple_of(2) { 0 } else { part };
    // A part of a record's header, all of it, a byte behind it.
    for part in [4, 5, 6, 21] {
        serve(&[10, 300, 1], now_and_then(part));
    }
    // Less than a record, as much as there is in one, and with all that is around it.
    for part in [1000, 16_384, 16_406, 20_000] {
        serve(&[10, 40_000, 100, 16_384, 1], now_and_then(part));
    }
}
