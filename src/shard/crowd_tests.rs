//! A shard with clients that come, ask, read slowly and go, in any order, beside what was published. Requests come in
//! one read with the handshake, or cut anywhere; broadcasts and messages of each `slow_policy` wait for those who do
//! not read.
//!
//! Held for each client: of each channel that it is on the messages come in order and once; what is missing is told
//! before anything newer, but under `latest`; in the end all have come, or the client was closed as too slow. A message
//! that leaves a client out does not come to it, but its position does, or something that leads further. Who follows a
//! channel shows in the end who is there.

use super::crowd_client_tests::{Ask, Client, Kind, Requests, Told};
use super::crowd_polling_tests::{request, Polls};
use super::crowd_presence_tests::{Follower, USERS};
use super::crowd_reading_tests::fits;
use super::order_tests::{client, shard_with};
use super::sink_tests::put_masked;
use super::Shard;
use crate::framing::{masked, message};
use crate::fuzzing::random::Random;
use crate::hub::planted::{with, Mistake};
use crate::hub::{ClientId, Mark, Outgoing, Publication};
use crate::shard::turn::command::Command;
use crate::sys::epoll::Event;
use socket2::SockRef;
use std::collections::{BTreeMap, VecDeque};

/// By their first letters of the policies; the last is that of the broadcasts.
pub(super) const CHANNELS: [&str; 6] = ["d1", "d2", "l1", "x1", "x2", ""];
/// What some clients ask for in their URLs.
pub(super) const PATTERNS: [&str; 4] = ["*", "d*", "d1*", "x*"];
/// Of a socket's buffer, and of an outbox: a few messages fill them.
const SMALL: usize = 4096;

pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) random: Random,
    /// The general policy.
    general: &'static str,
    /// What a client must get, or be told of. An end is taken back by what comes after it.
    pub(super) published: BTreeMap<u64, &'static str>,
    /// The clients that messages leave out.
    pub(super) excepted: BTreeMap<u64, ClientId>,
    /// Everything that was ever published, and whether it is an end.
    all: BTreeMap<u64, (&'static str, bool)>,
    pub(super) clients: Vec<Client>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let general = ["disconnect", "drop-oldest", "latest"][random.below(3)];
        let options = [
            ("outbox", "4KB"),
            ("compression", "true"),
            ("client_rate", "0"),
            ("history_count", "8"),
            ("max_patterns", "4"),
            ("channel.*.presence", "true"),
            ("channel.x2.presence", "false"),
            // Polls come back within it, unless this thread stands still.
            ("presence_grace", "5ms"),
            ("presence_detail", "2"),
            ("slow_policy", general),
            ("channel.d*.slow_policy", "drop-oldest"),
            ("channel.l*.slow_policy", "latest"),
        ];
        World {
            shard: shard_with(&options),
            random,
            general,
            published: BTreeMap::new(),
            excepted: BTreeMap::new(),
            all: BTreeMap::new(),
            clients: Vec::new(),
        }
    }

    pub(super) fn policy(&self, channel: &str) -> &'static str {
        match channel.as_bytes().first() {
            Some(b'd') => "drop-oldest",
            Some(b'l') => "latest",
            _ => self.general,
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..=4 => {
                let channel = CHANNELS[self.random.below(CHANNELS.len())];
                // Sometimes it is more at once than an answer to a poll holds.
                let count = if self.random.below(24) == 0 { 16 } else { 1 };
                (0..count).for_each(|_| self.publish(channel));
            }
            5 => self.come(),
            6 => self.ask(),
            7 | 8 if !self.clients.is_empty() => {
                let (client, most) = (self.random.below(self.clients.len()), 1 + self.random.below(3 * SMALL));
                self.read(client, most);
            }
            9 if self.clients.len() > 4 => {
                let client = self.random.below(self.clients.len());
                self.clients.swap_remove(client);
            }
            _ => self.turn(),
        }
    }

    fn publish(&mut self, channel: &'static str) {
        let data = "ab".repeat(self.random.below(400));
        let ends = !channel.is_empty() && self.random.below(8) == 0;
        // Several clients share an id, and nobody has the last one.
        let except = [None, None, Some(id(0)), Some(id(1)), Some(id(7))][self.random.below(5)];
        let publication = match ends {
            true => Publication::mark("", Mark::End),
            false => Publication { except, ..Publication::new("", data.as_bytes()) },
        };
        let outgoing = Outgoing::new(channel, None, message(&publication));
        let seq = self.shard.context.hub.publish(outgoing, self.shard.turn.now).unwrap().seq;
        if let Some(before) = self.newest(channel, u64::MAX).filter(|(before, ended)| *ended && *before < seq) {
            self.published.remove(&before.0);
        }
        self.published.insert(seq, channel);
        self.excepted.extend(publication.except.map(|id| (seq, id)));
        self.all.insert(seq, (channel, ends));
    }

    /// The newest that was published in a channel up to a number, and whether it is an end.
    pub(super) fn newest(&self, channel: &str, until: u64) -> Option<(u64, bool)> {
        let theirs = self.all.range(..=until).rev().find(|(_, (name, _))| *name == channel);
        theirs.map(|(seq, (_, ends))| (*seq, *ends))
    }

    fn come(&mut self) {
        let transport = ["stream", "poll", "ws", "ws"][self.random.below(4)];
        let websocket = transport == "ws";
        let (mut on, mut asked) = (BTreeMap::new(), VecDeque::new());
        let mut head = format!("GET /push?transport={transport}&");
        for channel in CHANNELS.into_iter().filter(|channel| !channel.is_empty()) {
            if self.random.below(4) == 0 || (!websocket && channel == "x1") {
                head += &format!("channel={channel}&");
                on.insert(channel, u64::MAX);
                asked.extend(websocket.then_some((channel, Ask::Url)));
            }
        }
        let user = [None, Some(0), Some(1), Some(2)][self.random.below(4)].map(|user: usize| USERS[user]);
        let follows = self.random.below(2) == 0;
        let mut patterns = Vec::new();
        for pattern in PATTERNS {
            if self.random.below(6) == 0 {
                head += &format!("pattern={pattern}&");
                patterns.push(pattern);
                asked.extend(websocket.then_some((pattern, Ask::Url)));
            }
        }
        let named: Vec<&'static str> = on.keys().copied().collect();
        let presence = Follower::new(user, follows, &named);
        let read = patterns.iter().map(|pattern| (*pattern, (Some(u64::MAX), u64::MAX))).collect();
        on.extend(CHANNELS.into_iter().filter(|channel| fits(&patterns, channel)).map(|channel| (channel, u64::MAX)));
        on.insert("", u64::MAX);
        let id = [None, Some(id(0)), Some(id(1))][self.random.below(3)];
        id.iter().for_each(|id| head += &format!("client={id}&"));
        let kind = match transport {
            "ws" => Kind::WebSocket,
            "stream" => Kind::Stream,
            _ => Kind::Poll(head.clone()),
        };
        if follows {
            head += "presence=1";
        }
        head += " HTTP/1.1\r\nHost: h\r\n";
        if websocket {
            head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: push.v1.json\r\n";
            if self.random.below(2) == 0 {
                head += "Sec-WebSocket-Extensions: permessage-deflate\r\n";
            }
        }
        let mut bytes = match &kind {
            Kind::Poll(query) => request(query, &Polls::first(follows)),
            _ => (head + "\r\n").into_bytes(),
        };
        // It has missed nothing and is live at once, so its requests may stand right behind the handshake.
        while websocket && self.random.below(2) == 0 {
            let (ask, frame) = self.request(follows);
            asked.push_back(ask);
            bytes.extend(frame);
        }
        // Two of four have a sink of another kind than the plain socket. It can't be given bytes before it is there.
        let sink = self.random.below(4);
        let (masked, secure) = (sink == 0, sink == 1 && cfg!(feature = "tls"));
        let cut = if masked || secure { 0 } else { self.random.below(bytes.len() + 1) };
        let (adopted, socket) = client(user, &bytes[..cut]);
        SockRef::from(&adopted.fd).set_send_buffer_size(SMALL).unwrap();
        match self.random.below(2) {
            _ if masked => {
                self.shard.adopt(adopted);
                put_masked(&mut self.shard);
            }
            _ if secure => self.shard.adopt(adopted),
            0 => self.shard.adopt(adopted),
            _ => self.shard.handle.tell(Command::Adopt(adopted)),
        }
        socket.set_nonblocking(true).unwrap();
        let (inflater, unread) = Default::default();
        let mut client = Client {
            #[cfg(feature = "tls")]
            tls: secure.then(|| super::secure_tests::put_secure(&mut self.shard, &socket)),
            socket,
            masked,
            kind,
            inflater,
            unread,
            head: false,
            closed: false,
            id,
            on,
            named,
            patterns,
            read,
            requests: Requests { asked, told: Told::default() },
            presence,
        };
        assert!(client.send(bytes.split_off(cut)), "a socket has room for a request");
        self.clients.push(client);
    }

    /// A request of `push.v1.json` in a frame.
    fn request(&mut self, follows: bool) -> ((&'static str, Ask), Vec<u8>) {
        let all = CHANNELS.len() - 1 + PATTERNS.len();
        let name =
            *CHANNELS.iter().filter(|name| !name.is_empty()).chain(&PATTERNS).nth(self.random.below(all)).unwrap();
        let member = if name.ends_with('*') { "pattern" } else { "channel" };
        let newest = self.published.last_key_value().map_or(0, |(seq, _)| *seq);
        // Mostly of what is still kept.
        let back = if self.random.below(4) == 0 { newest as usize + 1 } else { 24 };
        let since = newest.saturating_sub(self.random.below(back) as u64);
        let ask = [Ask::New, Ask::Since(since), Ask::Since(since), Ask::Leave][self.random.below(4)];
        let presence = if follows && member == "channel" { r#","presence":true"# } else { "" };
        let text = match ask {
            Ask::New | Ask::Url => format!(r#"{{"type":"subscribe","{member}":"{name}"{presence}}}"#),
            Ask::Leave => format!(r#"{{"type":"unsubscribe","{member}":"{name}"}}"#),
            Ask::Since(seq) => {
                let since = self.shard.context.hub.epoch().position(seq);
                format!(r#"{{"type":"subscribe","{member}":"{name}","since":"{since}"{presence}}}"#)
            }
        };
        ((name, ask), masked::frame(0x81, text.as_bytes(), [0; 4]))
    }

    fn ask(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let client = self.random.below(self.clients.len());
        let (ask, frame) = self.request(self.clients[client].presence.follows);
        let client = &mut self.clients[client];
        if matches!(client.kind, Kind::WebSocket) && !client.closed && client.send(frame) {
            client.requests.asked.push_back(ask);
        }
    }

    pub(super) fn turn(&mut self) {
        let mut events = [Event { events: 0, u64: 0 }; 64];
        let count = self.shard.registry.epoll.wait(&mut events, Some(0)).unwrap();
        self.shard.turn(&events[..count]);
        self.shard.check_inbox();
    }

    /// Has a client read so much, at most; says how much there was.
    pub(super) fn read(&mut self, number: usize, most: usize) -> usize {
        let len = self.clients[number].receive(most);
        while let Some(item) = self.clients[number].next() {
            self.take(number, &item);
        }
        len
    }

    /// Everybody reads all there is.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            self.turn();
            let read: usize = (0..self.clients.len()).map(|client| self.read(client, 1 << 16)).sum();
            quiet = if read == 0 { quiet + 1 } else { 0 };
        }
        self.settle_presence();
        for client in &self.clients {
            assert!(client.unread.is_empty() || client.closed, "a part of something");
            if client.closed {
                continue;
            }
            let asked = &client.requests.asked;
            assert!(client.head && asked.is_empty(), "{} requests have no answer", asked.len());
            for (channel, reached) in &client.on {
                let missing = self.between(channel, *reached, u64::MAX);
                assert!(missing.is_empty(), "{channel}: {missing:?} never came");
            }
        }
        self.clients.clear();
        (0..3).for_each(|_| self.turn());
        self.end_presence();
        let metrics = &self.shard.handle.metrics;
        let left = (metrics.connections.get(), metrics.outboxes.get(), metrics.outbox_bytes.get());
        assert_eq!((left, self.shard.context.hub.stats().subscriptions), ((0, 0, 0), 0), "something stays behind");
    }
}

fn id(n: u8) -> ClientId {
    ClientId::from_bytes([n; 16])
}

fn run(seed: u64) {
    let mut world = World::new(seed * 0x9e37_79b9);
    (0..400).for_each(|_| world.step());
    world.settle();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn each_gets_what_it_asked_for_however_slowly_it_reads() {
    for seed in 1..=100 {
        assert!(std::panic::catch_unwind(|| run(seed)).is_ok(), "seed {seed}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_crowd_finds_messages_that_come_to_a_client_which_they_leave_out_and_positions_that_do_not() {
    for mistake in [Mistake::ExceptsLiveOnly, Mistake::ExceptsInReplaysOnly, Mistake::KeepsPositions] {
        let finds = |seed| std::panic::catch_unwind(|| with(mistake, || run(seed))).is_err();
        assert!((1..=100).any(finds), "{mistake:?} is not found");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_crowd_finds_planted_mistakes_with_presence() {
    use crate::presence::planted::{with, Mistake};
    for mistake in [Mistake::NobodyLeaves, Mistake::NotPutOff, Mistake::TabIsJoin] {
        let finds = |seed| std::panic::catch_unwind(|| with(mistake, || run(seed))).is_err();
        assert!((1..=200).any(finds), "{mistake:?} is not found");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_crowd_finds_a_connection_that_is_closed_though_one_of_its_channels_is_open() {
    let finds = |seed| std::panic::catch_unwind(|| with(Mistake::ClosesForOne, || run(seed))).is_err();
    assert!((1..=100).any(finds), "it is not found");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_crowd_finds_planted_mistakes_with_patterns_and_polls() {
    for mistake in [Mistake::OnceForEach, Mistake::AnswerIsAhead, Mistake::KnownComesAgain, Mistake::KnownEndIsNotTold]
    {
        let finds = |seed| std::panic::catch_unwind(|| with(mistake, || run(seed))).is_err();
        assert!((1..=400).any(finds), "{mistake:?} is not found");
    }
}
