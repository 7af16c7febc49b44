//! Requests that come before the answer to the one before them: cut anywhere, while an answer waits for a client that
//! reads slowly, while the host is asked. Each is answered, in order, and none is forgotten.

use super::order_tests::{client, shard_with};
use super::Shard;
use crate::events::EventKind;
use crate::framing::masked;
use crate::fuzzing::random::Random;
use crate::grant::Grant;
use crate::hub::{Hub, Message, Outgoing, Publication};
use crate::shard::connection::conn::RequestId;
use crate::shard::turn::command::Command;
use crate::shard::turn::run::Next;
use crate::sys::epoll::Event;
use serde_json::Value;
use socket2::SockRef;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Of the socket's buffer: an answer with a message of [`LARGE`] does not fit.
const SMALL: usize = 4096;
const LARGE: usize = 50_000;

pub(super) const UPGRADE: &str = "GET /push HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: push.v1.json\r\n\r\n";

/// A client's `subscribe` to the channel `c`.
pub(super) fn subscribe() -> Vec<u8> {
    let text = br#"{"type":"subscribe","channel":"c"}"#;
    masked::frame(0x81, text, [0; 4])
}

pub(super) fn publish(hub: &Hub, channel: &str, size: usize) {
    let data = vec![b'x'; size];
    let message = Message::new(&Publication::new("", &data), false, b"");
    hub.publish(Outgoing::new(channel, None, message), 0).unwrap();
}

pub(super) fn turn(shard: &mut Shard) -> Next {
    let mut events = [Event { events: 0, u64: 0 }; 64];
    let count = shard.registry.epoll.wait(&mut events, Some(0)).unwrap();
    let next = shard.turn(&events[..count]);
    shard.check_inbox();
    assert!(next != Next::Sleep || shard.delivery.held.is_none(), "it sleeps with a message in its hand");
    next
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Asked {
    /// It waits for a message of the channel of its number.
    Poll,
    /// It does not wait.
    AtOnce,
    Preflight,
    /// The last one: to a WebSocket, with `subscribe` behind it.
    Upgrade,
}

struct World {
    shard: Shard,
    random: Random,
    socket: UnixStream,
    requests: Vec<Asked>,
    /// What the client has still to send.
    unsent: Vec<u8>,
    unread: Vec<u8>,
    answered: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let asks = random.below(2) == 0;
        let options = [("auth", "host")];
        let mut shard = shard_with(if asks { &options } else { &[] });
        shard.context.events.want();
        let (adopted, socket) = client(None, b"");
        SockRef::from(&adopted.fd).set_send_buffer_size(SMALL).unwrap();
        if asks || random.below(2) == 0 {
            shard.accepted(adopted.fd);
        } else {
            shard.adopt(adopted);
        }
        socket.set_nonblocking(true).unwrap();
        let mut requests: Vec<Asked> = (0..2 + random.below(6))
            .map(|_| [Asked::Poll, Asked::Poll, Asked::AtOnce, Asked::Preflight][random.below(4)])
            .collect();
        if random.below(2) == 0 {
            requests.push(Asked::Upgrade);
        }
        let bytes = requests.iter().enumerate().flat_map(|(number, kind)| match kind {
            Asked::Poll => format!("GET /push?channel=c{number} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes(),
            Asked::AtOnce => format!("GET /push?channel=c{number}&wait=0 HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes(),
            Asked::Preflight => "OPTIONS /push HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\n\
                                Access-Control-Request-Method: GET\r\n\r\n"
                .into(),
            Asked::Upgrade => [UPGRADE.replace("/push", "/push?channel=w").as_bytes(), &subscribe()].concat(),
        });
        let unsent = bytes.collect();
        World { shard, random, socket, requests, unsent, unread: Vec::new(), answered: 0 }
    }

    fn step(&mut self) {
        match self.random.below(8) {
            0 | 1 => {
                let len = self.random.below(self.unsent.len().min(150) + 1);
                let sent = self.socket.write(&self.unsent[..len]).unwrap_or(0);
                self.unsent.drain(..sent);
            }
            2 => self.publish(),
            3 => self.read(SMALL),
            4 => self.allow(),
            _ => {
                turn(&mut self.shard);
            }
        }
    }

    /// A message for the request whose turn it is, perhaps a large one.
    fn publish(&mut self) {
        let size = [1, LARGE][self.random.below(2)];
        publish(&self.shard.context.hub, &format!("c{}", self.answered), size);
    }

    /// The host says yes, if it is asked.
    fn allow(&mut self) {
        while let Ok(event) = self.shard.context.events.next(Some(Duration::ZERO)) {
            if event.kind == EventKind::Request {
                let grant = Arc::new(Grant::new(None, &[], &["*".into()], 0, false, true).unwrap());
                let request = RequestId::from_number(event.request).count;
                self.shard.handle.tell(Command::Allow { request, grant });
            }
        }
    }

    fn read(&mut self, most: usize) {
        let mut bytes = vec![0; most];
        let len = self.socket.read(&mut bytes).unwrap_or(0);
        self.unread.extend_from_slice(&bytes[..len]);
        while self.answered < self.requests.len() && self.take() {
            self.answered += 1;
        }
    }

    /// Takes the next answer, if all of it is there.
    fn take(&mut self) -> bool {
        let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
        let head = String::from_utf8(self.unread[..end].to_vec()).unwrap();
        let kind = self.requests[self.answered];
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
        let all = end + 4 + length.parse::<usize>().unwrap();
        let status = head.split(' ').nth(1).unwrap();
        match kind {
            Asked::Preflight => assert_eq!(status, "204", "{head}"),
            Asked::Upgrade => {
                assert_eq!(status, "101", "{head}");
                let text = String::from_utf8_lossy(&self.unread[all..]);
                return text.contains(r#"{"type":"subscribed","channel":"c""#);
            }
            Asked::Poll | Asked::AtOnce => {
                assert_eq!(status, "200", "{head}");
                let Some(body) = self.unread.get(end + 4..all) else { return false };
                let body: Value = serde_json::from_slice(body).unwrap();
                let messages = body["messages"].as_array().unwrap();
                let own = format!("c{}", self.answered);
                assert!(messages.iter().all(|message| message["channel"] == *own), "{own}: {head}");
                assert!(messages.is_empty() == (kind == Asked::AtOnce), "{own}: {kind:?}");
            }
        }
        self.unread.drain(..all);
        true
    }

    /// All is sent, read and answered.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.answered == self.requests.len() {
                return;
            }
            let sent = self.socket.write(&self.unsent).unwrap_or(0);
            self.unsent.drain(..sent);
            self.allow();
            turn(&mut self.shard);
            publish(&self.shard.context.hub, &format!("c{}", self.answered), 1);
            turn(&mut self.shard);
            self.read(1 << 16);
        }
        let (answered, requests) = (self.answered, &self.requests);
        panic!("{answered} of {requests:?} were answered; the client has {} bytes", self.unread.len());
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn each_request_is_answered_in_order_however_early_it_comes() {
    for seed in 1..=300 {
        let held = std::panic::catch_unwind(|| {
            let mut world = World::new(seed * 0x9e37_79b9);
            (0..150).for_each(|_| world.step());
            world.settle();
        });
        assert!(held.is_ok(), "seed {seed}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_poll_that_does_not_wait_is_never_subscribed() {
    let mut shard = shard_with(&[]);
    for query in ["channel=a", "channel=a&last=5"] {
        let (adopted, _socket) =
            client(None, format!("GET /push?{query}&wait=0 HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        shard.adopt(adopted);
        // Before the turn ends.
        let stats = shard.context.hub.stats();
        assert_eq!((stats.subscriptions, stats.channels), (0, 0), "{query}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_that_sends_many_requests_at_once_has_its_share_of_a_turn() {
    const COUNT: usize = 3000;
    let mut shard = shard_with(&[]);
    let (adopted, mut socket) = client(None, b"");
    shard.adopt(adopted);
    socket.set_nonblocking(true).unwrap();
    let requests = "GET /push?channel=a&wait=0 HTTP/1.1\r\nHost: h\r\n\r\n".repeat(COUNT).into_bytes();
    let (mut sent, mut answers, mut turns) = (0, String::new(), 0);
    let mut bytes = vec![0; 1 << 20];
    while answers.matches("HTTP/1.1 200 ").count() < COUNT {
        sent += socket.write(&requests[sent..]).unwrap_or(0);
        turn(&mut shard);
        turns += 1;
        let len = socket.read(&mut bytes).unwrap_or(0);
        let some = String::from_utf8_lossy(&bytes[..len]);
        // In a turn it may read early, and be read.
        assert!(some.matches("HTTP/1.1 ").count() <= 4 * 16, "{some}");
        answers += &some;
        let kept = shard.conns[0].received.unread.as_ref().map_or(0, |unread| unread.len());
        assert!(kept < 256 * 1024 && turns < 10_000, "{kept} bytes are kept; {turns} turns");
    }
    assert_eq!(answers.matches("HTTP/1.1 ").count(), COUNT);
}
