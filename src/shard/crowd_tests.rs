//! A shard with clients that come, ask, read slowly and go, in any order, beside what was published. Requests come in
//! one read with the handshake, or cut anywhere; broadcasts and messages of each `slow_policy` wait for those who do
//! not read.
//!
//! Held for each client: of each channel that it is on the messages come in order and once; what is missing is told
//! before anything newer, but under `latest`; in the end all have come, or the client was closed as too slow.

use super::crowd_client_tests::{Ask, Client, Item};
use super::order_tests::{client, shard_with};
use super::sink_tests::put_masked;
use super::Shard;
use crate::framing::{masked, message};
use crate::fuzzing::random::Random;
use crate::hub::planted::{with, Mistake};
use crate::hub::{Mark, Outgoing, Publication};
use crate::shard::turn::command::Command;
use crate::sys::epoll::Event;
use socket2::SockRef;
use std::collections::{BTreeMap, VecDeque};

/// By their first letters of the policies; the last is that of the broadcasts.
const CHANNELS: [&str; 6] = ["d1", "d2", "l1", "x1", "x2", ""];
/// Of a socket's buffer, and of an outbox: a few messages fill them.
const SMALL: usize = 4096;

struct World {
    shard: Shard,
    random: Random,
    /// The general policy.
    general: &'static str,
    /// What a client must get, or be told of. An end is taken back by what comes after it.
    published: BTreeMap<u64, &'static str>,
    /// Everything that was ever published, and whether it is an end.
    all: BTreeMap<u64, (&'static str, bool)>,
    clients: Vec<Client>,
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
            ("slow_policy", general),
            ("channel.d*.slow_policy", "drop-oldest"),
            ("channel.l*.slow_policy", "latest"),
        ];
        World {
            shard: shard_with(&options),
            random,
            general,
            published: BTreeMap::new(),
            all: BTreeMap::new(),
            clients: Vec::new(),
        }
    }

    fn policy(&self, channel: &str) -> &'static str {
        match channel.as_bytes().first() {
            Some(b'd') => "drop-oldest",
            Some(b'l') => "latest",
            _ => self.general,
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..=4 => self.publish(),
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

    fn publish(&mut self) {
        let channel = CHANNELS[self.random.below(CHANNELS.len())];
        let data = "ab".repeat(self.random.below(400));
        let ends = !channel.is_empty() && self.random.below(8) == 0;
        let publication = if ends { Publication::mark("", Mark::End) } else { Publication::new("", data.as_bytes()) };
        let outgoing = Outgoing::new(channel, None, message(&publication));
        let seq = self.shard.context.hub.publish(outgoing, self.shard.turn.now).unwrap().seq;
        if let Some(before) = self.newest(channel, u64::MAX).filter(|(before, ended)| *ended && *before < seq) {
            self.published.remove(&before.0);
        }
        self.published.insert(seq, channel);
        self.all.insert(seq, (channel, ends));
    }

    /// The newest that was published in a channel up to a number, and whether it is an end.
    fn newest(&self, channel: &str, until: u64) -> Option<(u64, bool)> {
        let theirs = self.all.range(..=until).rev().find(|(_, (name, _))| *name == channel);
        theirs.map(|(seq, (_, ends))| (*seq, *ends))
    }

    fn come(&mut self) {
        let websocket = self.random.below(3) > 0;
        let (mut on, mut asked) = (BTreeMap::new(), VecDeque::new());
        let mut head = "GET /push?transport=".to_owned();
        head += if websocket { "ws" } else { "stream" };
        for channel in CHANNELS.into_iter().filter(|channel| !channel.is_empty()) {
            if self.random.below(4) == 0 || (!websocket && channel == "x1") {
                head += &format!("&channel={channel}");
                on.insert(channel, u64::MAX);
                asked.extend(websocket.then_some((channel, Ask::Url)));
            }
        }
        on.insert("", u64::MAX);
        head += " HTTP/1.1\r\nHost: h\r\n";
        if websocket {
            head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: push.v1.json\r\n";
            if self.random.below(2) == 0 {
                head += "Sec-WebSocket-Extensions: permessage-deflate\r\n";
            }
        }
        let mut bytes = (head + "\r\n").into_bytes();
        // It has missed nothing and is live at once, so its requests may stand right behind the handshake.
        while websocket && self.random.below(2) == 0 {
            let (ask, frame) = self.request();
            asked.push_back(ask);
            bytes.extend(frame);
        }
        // Two of four have a sink of another kind than the plain socket. It can't be given bytes before it is there.
        let kind = self.random.below(4);
        let (masked, secure) = (kind == 0, kind == 1 && cfg!(feature = "tls"));
        let cut = if masked || secure { 0 } else { self.random.below(bytes.len() + 1) };
        let (adopted, socket) = client(None, &bytes[..cut]);
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
            websocket,
            inflater,
            unread,
            head: false,
            closed: false,
            on,
            asked,
        };
        assert!(client.send(bytes.split_off(cut)), "a socket has room for a request");
        self.clients.push(client);
    }

    /// A request of `push.v1.json` in a frame.
    fn request(&mut self) -> ((&'static str, Ask), Vec<u8>) {
        let channel = CHANNELS[self.random.below(CHANNELS.len() - 1)];
        let newest = self.published.last_key_value().map_or(0, |(seq, _)| *seq);
        let since = self.random.below(newest as usize + 1) as u64;
        let ask = [Ask::New, Ask::Since(since), Ask::Leave][self.random.below(3)];
        let text = match ask {
            Ask::New | Ask::Url => format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#),
            Ask::Leave => format!(r#"{{"type":"unsubscribe","channel":"{channel}"}}"#),
            Ask::Since(seq) => {
                let since = self.shard.context.hub.epoch().position(seq);
                format!(r#"{{"type":"subscribe","channel":"{channel}","since":"{since}"}}"#)
            }
        };
        ((channel, ask), masked::frame(0x81, text.as_bytes(), [0; 4]))
    }

    fn ask(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let client = self.random.below(self.clients.len());
        let (ask, frame) = self.request();
        let client = &mut self.clients[client];
        if client.websocket && !client.closed && client.send(frame) {
            client.asked.push_back(ask);
        }
    }

    fn turn(&mut self) {
        let mut events = [Event { events: 0, u64: 0 }; 64];
        let count = self.shard.registry.epoll.wait(&mut events, Some(0)).unwrap();
        self.shard.turn(&events[..count]);
        self.shard.check_inbox();
    }

    /// Has a client read so much, at most; says how much there was.
    fn read(&mut self, number: usize, most: usize) -> usize {
        let len = self.clients[number].receive(most);
        while let Some(item) = self.clients[number].next() {
            self.take(number, &item);
        }
        len
    }

    /// Messages of a channel between two numbers.
    fn between(&self, channel: &str, after: u64, before: u64) -> Vec<u64> {
        let theirs = self.published.iter().filter(|(_, name)| **name == channel).map(|(seq, _)| *seq);
        theirs.filter(|seq| *seq > after && *seq < before).collect()
    }

    fn take(&mut self, number: usize, item: &Item) {
        let value = match item {
            Item::Head(position) => {
                let client = &mut self.clients[number];
                client.on.values_mut().for_each(|reached| *reached = *position);
                return;
            }
            Item::Object(value) => value,
        };
        let name = value["channel"].as_str().unwrap_or("");
        let channel = *CHANNELS.iter().find(|known| **known == name).unwrap();
        let seq = value["id"].as_str().map(|id| id.rsplit('-').next().unwrap().parse::<u64>().unwrap());
        let client = &mut self.clients[number];
        match value["type"].as_str().unwrap() {
            kind @ ("message" | "broadcast" | "gap" | "end") => {
                let Some(seq) = seq else { return assert_eq!(kind, "end") };
                if kind == "end" {
                    client.on.values_mut().filter(|reached| **reached == u64::MAX).for_each(|reached| *reached = seq);
                }
                if let (Some((asked, Ask::New)), "end", false) =
                    (client.asked.front(), kind, client.on.contains_key(channel))
                {
                    assert_eq!(*asked, channel, "{value}");
                    client.on.insert(channel, seq);
                }
                if let (Some((asked, Ask::Since(since))), false) =
                    (client.asked.front(), client.on.contains_key(channel))
                {
                    assert_eq!(*asked, channel, "{value}");
                    client.on.insert(channel, *since);
                }
                let reached = *client.on.get(channel).unwrap_or_else(|| panic!("it is not on that: {value}"));
                client.on.insert(channel, seq);
                let may_be_there = matches!(kind, "gap" | "end") && seq == reached;
                assert!(seq > reached || may_be_there, "{value} after {reached}");
                let missing = self.between(channel, reached, seq);
                let told = kind == "gap" || self.policy(channel) == "latest";
                assert!(told || missing.is_empty(), "{missing:?} are missing before {value}");
            }
            "subscribed" => {
                let (asked, ask) = client.asked.pop_front().unwrap();
                assert_eq!(asked, channel, "{value}");
                let from = match ask {
                    Ask::Since(since) => since,
                    _ => seq.unwrap(),
                };
                client.on.entry(channel).or_insert(from);
                // Who stores this position has everything before it, of all its channels.
                let all: Vec<_> = client.on.keys().copied().collect();
                all.into_iter().for_each(|channel| self.reach(number, channel, seq.unwrap()));
            }
            "unsubscribed" => {
                assert_eq!(client.asked.pop_front(), Some((channel, Ask::Leave)), "{value}");
                assert!(client.on.remove(channel).is_some());
            }
            "error" => {
                let (asked, ask) = client.asked.pop_front().unwrap();
                let expected = if ask == Ask::Leave { "not_subscribed" } else { "subscribed" };
                assert_eq!((asked, value["code"].as_str().unwrap()), (channel, expected), "{value}");
                assert_eq!(client.on.contains_key(channel), ask != Ask::Leave, "{value}");
            }
            "close" if value["code"] == 1000 => {
                client.closed = true;
                for (channel, reached) in self.clients[number].on.iter().filter(|(channel, _)| !channel.is_empty()) {
                    let ended = self.newest(channel, *reached).is_some_and(|(_, ends)| ends);
                    assert!(ended, "it is closed, but {channel} has not ended up to {reached}");
                }
            }
            "close" => {
                assert_eq!(value["code"], 4429, "{value}");
                client.closed = true;
            }
            _ => panic!("{value}"),
        }
    }

    /// Nothing of a channel up to there may be missing.
    fn reach(&mut self, number: usize, channel: &'static str, seq: u64) {
        let reached = self.clients[number].on[channel];
        let missing = self.between(channel, reached, seq + 1);
        assert!(missing.is_empty() || self.policy(channel) == "latest", "{channel}: {missing:?} before {seq}");
        self.clients[number].on.insert(channel, reached.max(seq));
    }

    /// Everybody reads all there is.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            self.turn();
            let read: usize = (0..self.clients.len()).map(|client| self.read(client, 1 << 16)).sum();
            quiet = if read == 0 { quiet + 1 } else { 0 };
        }
        for client in &self.clients {
            assert!(client.unread.is_empty() || client.closed, "a part of something");
            if client.closed {
                continue;
            }
            assert!(client.head && client.asked.is_empty(), "{} requests have no answer", client.asked.len());
            for (channel, reached) in &client.on {
                let missing = self.between(channel, *reached, u64::MAX);
                assert!(missing.is_empty(), "{channel}: {missing:?} never came");
            }
        }
        self.clients.clear();
        (0..3).for_each(|_| self.turn());
        let metrics = &self.shard.handle.metrics;
        let left = (metrics.connections.get(), metrics.outboxes.get(), metrics.outbox_bytes.get());
        assert_eq!((left, self.shard.context.hub.stats().subscriptions), ((0, 0, 0), 0), "something stays behind");
    }
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
fn the_crowd_finds_a_connection_that_is_closed_though_one_of_its_channels_is_open() {
    let finds = |seed| std::panic::catch_unwind(|| with(Mistake::ClosesForOne, || run(seed))).is_err();
    assert!((1..=100).any(finds), "it is not found");
}
