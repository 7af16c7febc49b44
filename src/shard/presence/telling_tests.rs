//! What followers of a channel are told, over each transport, by one shard.

use crate::grant::Grant;
use crate::presence::Bounds;
use crate::shard::order_tests::{client, leave, shard_with};
use crate::shard::turn::command::Command;
use crate::shard::Shard;
use crate::sys::epoll::Event;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Polls and streams, with the presence of each channel but `off`.
const OPTIONS: [(&str, &str); 4] = [
    ("channel.*.presence", "true"),
    ("channel.off.presence", "false"),
    ("presence_grace", "0s"),
    ("presence_detail", "3"),
];

struct World(Shard);

impl World {
    fn new(options: &[(&str, &str)]) -> Self {
        World(shard_with(&[&OPTIONS, options].concat()))
    }

    fn turn(&mut self) {
        let mut events = [Event { events: 0, u64: 0 }; 64];
        let count = self.0.registry.epoll.wait(&mut events, Some(0)).unwrap();
        self.0.turn(&events[..count]);
    }

    /// A client with this request.
    fn come(&mut self, user: Option<&str>, query: &str) -> UnixStream {
        let head = format!("GET /push?{query} HTTP/1.1\r\nHost: h\r\n\r\n");
        let (adopted, theirs) = client(user, head.as_bytes());
        self.0.adopt(adopted);
        theirs.set_nonblocking(true).unwrap();
        theirs
    }

    /// Takes turns until a client has read this.
    fn until(&mut self, mut theirs: &UnixStream, wanted: &str) -> String {
        let mut text = String::new();
        for _ in 0..20_000 {
            self.turn();
            let mut bytes = [0; 4096];
            if let Ok(len @ 1..) = theirs.read(&mut bytes) {
                text += std::str::from_utf8(&bytes[..len]).unwrap();
            }
            if text.contains(wanted) {
                return text;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{wanted} does not come, but {text}");
    }

    /// Takes turns until this holds.
    fn until_it(&mut self, holds: impl Fn(&Shard) -> bool) {
        for _ in 0..20_000 {
            self.turn();
            if holds(&self.0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it never comes to that");
    }

    fn members(&self) -> u64 {
        self.0.context.presence.figures().members
    }

    fn check(&self) {
        self.0.context.presence.check();
    }
}

fn list(users: &str, count: usize) -> String {
    format!(r#"{{"type":"presence","channel":"room","users":[{users}],"count":{count}}}"#)
}

const ADA: &str = r#"{"user":"ada"}"#;

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_follower_gets_the_list_and_then_who_comes_and_goes() {
    let mut world = World::new(&[]);
    let ada = world.come(Some("ada"), "transport=stream&channel=room&presence=1");
    world.until(&ada, &list(ADA, 1));
    let bob = world.come(Some("bob"), "transport=stream&channel=room");
    world.until(&ada, r#"{"type":"join","channel":"room","user":"bob","count":2}"#);
    // A second tab is no join, and its end is no leave.
    let tab = world.come(Some("bob"), "transport=sse&channel=room");
    world.until_it(|shard| shard.handle.metrics.sse.get() == 1);
    leave(&tab);
    world.until_it(|shard| shard.handle.metrics.sse.get() == 0);
    assert_eq!(world.members(), 2);
    leave(&bob);
    let told = world.until(&ada, r#"{"type":"leave","channel":"room","user":"bob","count":1}"#);
    assert_eq!(told.matches("join").count(), 0, "{told}");
    leave(&ada);
    world.until_it(|shard| shard.context.presence.figures().members == 0);
    assert!(world.0.side.visits.is_empty() && world.0.side.follows.is_empty());
    world.check();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn an_event_of_presence_has_no_id() {
    let mut world = World::new(&[]);
    let ada = world.come(Some("ada"), "transport=sse&format=raw&channel=room&channel=off&presence=1");
    let told = world.until(&ada, r#""off":true}"#) + &world.until_list(&ada);
    let event = format!("event: push-presence\ndata: {}\n\n", list(ADA, 1));
    assert!(told.contains(&event), "{told}");
    // Nothing stands before its name in the chunk.
    let mut before = told.split("event: push-presence").collect::<Vec<_>>();
    before.pop();
    assert!(before.iter().all(|text| text.ends_with("\r\n")), "{told}");
}

impl World {
    /// The rest up to the list of the room, which may have come before.
    fn until_list(&mut self, theirs: &UnixStream) -> String {
        let _bob = self.come(Some("bob"), "transport=stream&channel=room");
        self.until(theirs, "push-join")
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn above_the_bound_only_numbers_come_and_below_it_a_list() {
    let mut world = World::new(&[]);
    let ada = world.come(Some("ada"), "transport=stream&channel=room&presence=1");
    world.until(&ada, &list(ADA, 1));
    let crowd: Vec<UnixStream> =
        ["b", "c", "d", "e"].map(|user| world.come(Some(user), "transport=stream&channel=room")).into();
    world.until(&ada, r#"{"type":"presence","channel":"room","count":5}"#);
    crowd.iter().for_each(leave);
    // Those who are left may be told one by one.
    let told = world.until(&ada, r#""count":1}"#);
    assert!(told.contains(r#""users":[{"user":"ada"}"#), "{told}");
    world.check();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn changes_that_are_too_long_are_told_by_the_list() {
    let mut world = World::new(&[("outbox", "4KB"), ("presence_detail", "100")]);
    // Each change names it, and a list names it once.
    let room = "r".repeat(200);
    let eve = world.come(None, &format!("transport=stream&channel={room}&presence=1"));
    let mut told = world.until(&eve, r#""users":[],"count":0}"#);
    let query = format!("transport=stream&channel={room}");
    let names = (10..40).map(|number| format!("{number}{}", "u".repeat(58)));
    let crowd: Vec<UnixStream> = names.map(|name| world.come(Some(&name), &query)).collect();
    told += &world.until(&eve, r#""count":30}"#);
    crowd.iter().for_each(leave);
    told += &world.until(&eve, r#""count":0}"#);
    let number = format!(r#"{room}","count""#);
    assert!(!told.contains(&number), "the list fits: {told}");
    world.check();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn polls_get_lists_with_a_version_and_wait_until_it_changes() {
    let mut world = World::new(&[("presence_grace", "1h")]);
    let ada = world.come(Some("ada"), "transport=poll&channel=room&presence=1");
    let answer = world.until(&ada, r#""presence":""#);
    let expected = format!(r#""messages":[{}],"presence":""#, list(ADA, 1));
    assert!(answer.contains(&expected), "{answer}");
    let version = answer.split(&expected).nth(1).unwrap().split('"').next().unwrap().to_owned();
    // It is there between two polls.
    assert_eq!(world.members(), 1);
    let position = answer.split(r#""position":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let query = format!("transport=poll&channel=room&since={position}&presence={version}");
    let ada = world.come(Some("ada"), &query);
    world.until_it(|shard| shard.handle.metrics.polls.get() == 1);
    let _bob = world.come(Some("bob"), "transport=stream&channel=room");
    let answer = world.until(&ada, r#""count":2}"#);
    assert!(answer.contains(&list(&format!(r#"{ADA},{{"user":"bob"}}"#), 2)), "{answer}");
    world.check();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_connection_that_gets_a_user_enters_what_it_has_and_leaves_as_the_one_before() {
    let mut world = World::new(&[]);
    let eve = world.come(None, "transport=stream&channel=room&presence=1");
    world.until(&eve, &list("", 0));
    let of = world.0.conns.iter().map(|(index, _)| world.0.token(index as u32)).next().unwrap();
    for user in ["ada", "bob"] {
        let grant = Grant::new(Some(user), &[], &["*".into()], 0, false, true).unwrap();
        world.0.handle.tell(Command::Renew { of, grant: Box::new(grant) });
        world.until(&eve, &format!(r#"{{"type":"join","channel":"room","user":"{user}","count":1}}"#));
        assert_eq!(world.members(), 1);
    }
    world.check();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_follower_without_room_is_told_when_it_has_some() {
    let mut world = World::new(&[("outbox", "4KB"), ("presence_grace", "1h")]);
    let ada = world.come(Some("ada"), "transport=stream&channel=room&presence=1");
    world.until(&ada, &list(ADA, 1));
    let index = world.0.conns.iter().map(|(index, _)| index as u32).next().unwrap();
    // It does not read, and messages for it wait.
    let fill = vec![b'\n'; 1 << 20];
    world.0.transmit_bytes(index, fill);
    assert!(world.0.conns[index as usize].outbox.is_some());
    let _bob = world.come(Some("bob"), "transport=stream&channel=room");
    (0..20).for_each(|_| world.turn());
    let outbox = |world: &World| world.0.conns[index as usize].outbox.as_ref().map(|outbox| outbox.has_news());
    assert_eq!(outbox(&world), Some(false), "it has no room");
    // What has changed is not kept for it.
    world.until(&ada, &list(r#"{"user":"ada"},{"user":"bob"}"#, 2));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn news_that_wait_close_nobody() {
    let mut world = World::new(&[("outbox", "4KB"), ("presence_grace", "1h")]);
    let ada = world.come(Some("ada"), "transport=stream&channel=room&presence=1");
    world.until(&ada, &list(ADA, 1));
    let index = world.0.conns.iter().map(|(index, _)| index as u32).next().unwrap();
    // The socket is full, and hardly anything waits.
    let mut filled = 0;
    while world.0.conns[index as usize].outbox.is_none() {
        world.0.transmit_bytes(index, vec![b'\n'; 1024]);
        filled += 1;
        assert!(filled < 1 << 20);
    }
    let user = "b".repeat(255);
    let _bob = world.come(Some(&user), "transport=stream&channel=room");
    world.until_it(|shard| shard.conns[index as usize].outbox.as_ref().is_some_and(|outbox| outbox.has_news()));
    assert!(world.0.handle.news_bytes() > 255);
    let outbox = world.0.conns[index as usize].outbox.as_ref().unwrap();
    assert!(outbox.weight() <= 1024 + 64 && outbox.held() <= 1024 + 64 && outbox.bytes() > 255);
    world.until(&ada, &format!(r#""user":"{user}","count":2}}"#));
    assert_eq!(world.0.handle.news_bytes(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn those_without_room_are_shown_when_others_have_gone() {
    let mut world = World::new(&[]);
    // There is room for one of these names.
    world.0.context.presence.reconfigure(Bounds { grace_ms: 0, detail: 3, total: 300 }, false, 0);
    let ada = world.come(Some("ada"), "transport=stream&channel=room&presence=1");
    world.until(&ada, &list(ADA, 1));
    let eve = world.come(Some("eve"), "transport=stream&channel=room&presence=1");
    // It is tried again soon, and counts again then.
    assert_eq!(world.0.context.presence.figures().refused, 1);
    world.until(&eve, &list(ADA, 1));
    leave(&ada);
    world.until(&eve, r#"{"type":"join","channel":"room","user":"eve","count":1}"#);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_of_the_subprotocol_follows_on_a_live_connection() {
    let mut world = World::new(&[("max_patterns", "2")]);
    let head = "GET /push HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Sec-WebSocket-Protocol: push.v1.json\r\n\r\n";
    let (adopted, mut ada) = client(Some("ada"), head.as_bytes());
    world.0.adopt(adopted);
    let frame = |text: &str| crate::framing::masked::frame(0x81, text.as_bytes(), [0; 4]);
    ada.set_nonblocking(true).unwrap();
    ada.write_all(&frame(r#"{"type":"subscribe","pattern":"a*","presence":true}"#)).unwrap();
    until_bytes(&mut world, &ada, br#""code":"presence""#);
    ada.write_all(&frame(r#"{"type":"subscribe","channel":"room","presence":true}"#)).unwrap();
    let told = until_bytes(&mut world, &ada, list(ADA, 1).as_bytes());
    let place = |wanted: &[u8]| told.windows(wanted.len()).position(|some| some == wanted);
    assert!(place(b"\"subscribed\"") < place(b"\"presence\""), "the list comes behind the answer");
    ada.write_all(&frame(r#"{"type":"unsubscribe","channel":"room"}"#)).unwrap();
    until_bytes(&mut world, &ada, b"unsubscribed");
    assert!(world.0.side.visits.is_empty() && world.0.side.follows.is_empty());
    assert_eq!(world.members(), 0);
}

/// Takes turns until a client has read this among other bytes.
fn until_bytes(world: &mut World, mut theirs: &UnixStream, wanted: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    for _ in 0..20_000 {
        world.turn();
        let mut bytes = [0; 4096];
        if let Ok(len @ 1..) = theirs.read(&mut bytes) {
            read.extend_from_slice(&bytes[..len]);
        }
        if read.windows(wanted.len()).any(|some| some == wanted) {
            return read;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{:?} does not come, but {:?}", String::from_utf8_lossy(wanted), String::from_utf8_lossy(&read));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_reload_turns_presence_on_and_off() {
    let mut world = World::new(&[]);
    let ada = world.come(Some("ada"), "transport=stream&channel=off&presence=1");
    world.until(&ada, r#"{"type":"presence","channel":"off","off":true}"#);
    let reload = |world: &mut World, has: &str| {
        let options = [("channel.off.presence", has), ("presence_grace", "0s")];
        let config = crate::config::Builder::with(&options).config().clone();
        world.0.handle.tell(Command::Reconfigure(std::sync::Arc::new(config)));
    };
    reload(&mut world, "true");
    world.until(&ada, r#"{"type":"presence","channel":"off","users":[{"user":"ada"}],"count":1}"#);
    reload(&mut world, "false");
    world.until(&ada, r#"{"type":"presence","channel":"off","off":true}"#);
    world.until_it(|shard| shard.context.presence.figures().members == 0);
    world.check();
}
