//! Clients that read too slowly, and the policies for them.

#[path = "../common/mod.rs"]
mod common;

mod losses;

use common::{eventually, field, Client, Host};
use push::hub::Publication;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};

/// This many messages of this size are more than the buffers of a socket hold.
const SIZE: usize = 10_000;
const MANY: usize = 1500;

const OPTIONS: [(&str, &str); 6] = [
    ("outbox", "64KB"),
    ("threads", "1"),
    // A client that is closed takes its last words only after all messages are published.
    ("close_timeout", "10m"),
    ("channel.drop.*.slow_policy", "drop-oldest"),
    ("channel.last.*.slow_policy", "latest"),
    ("history_count", "10"),
];

/// A client with a small receive buffer.
fn connect(host: &Host, query: &str, lines: &str) -> Client {
    let mut client = ask(host, query, lines);
    client.head();
    client
}

/// The same, before anything is read.
fn ask(host: &Host, query: &str, lines: &str) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.connect(&host.address().parse::<SocketAddr>().unwrap().into()).unwrap();
    let mut client = Client::over(TcpStream::from(socket));
    client.send(format!("GET /push?{query} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", host.address()).as_bytes());
    client
}

fn flood(host: &Host, channel: &str, count: usize) -> Vec<String> {
    let payload = "x".repeat(SIZE);
    (0..count).map(|n| host.publish(channel, &format!("{n} {payload}"))).collect()
}

/// The same bytes in small messages, many at once. They are copied together on their way.
fn flood_small(host: &Host, channel: &str, count: usize) -> Vec<String> {
    let payload = "x".repeat(SIZE / 50);
    let batch = vec![Publication::new(channel, payload.as_bytes()); 50];
    let publish = || loop {
        match host.server.publish_batch(&batch) {
            Ok(placed) => return placed,
            Err(error) if error.kind() == push::Kind::Busy => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    (0..count).flat_map(|_| publish()).map(|placed| host.server.position(placed.seq)).collect()
}

/// Waits until each message was delivered, or has found an outbox full. Then it returns the counters.
fn settled(host: &Host) -> push::metrics::Stats {
    let mut probe = host.websocket("channel=probe", false);
    host.publish("probe", "x");
    assert_eq!(probe.text(), "x");
    host.server.stats().unwrap()
}

fn number(position: &str) -> u64 {
    position.rsplit('-').next().unwrap().parse().unwrap()
}

/// The objects that come until the message with this position, over any transport.
fn objects_until(client: &mut Client, sse: bool, last: &str) -> Vec<String> {
    let mut objects = Vec::new();
    loop {
        let line = if sse { client.until("\n") } else { client.until("}\n") + "}" };
        let Some(at) = line.find("{\"type\":\"") else { continue };
        let object = line[at..].to_owned();
        let id = if object.contains("\"id\"") { field(&object, "id") } else { String::new() };
        let done = id == last && field(&object, "type") == "message";
        objects.push(object);
        if done {
            return objects;
        }
    }
}

fn frames_until(client: &mut Client, last: &str) -> Vec<String> {
    let mut objects = Vec::new();
    loop {
        let text = client.text();
        let done = field(&text, "type") == "message" && field(&text, "id") == last;
        objects.push(text);
        if done {
            return objects;
        }
    }
}

/// Each number of a channel must appear in order: as a message, or in a gap in its place. Returns how many are missing.
fn accounted(objects: &[String], first: u64) -> u64 {
    let (mut next, mut missing) = (first, 0);
    for object in objects {
        let kind = field(object, "type");
        if kind != "message" && kind != "gap" {
            continue;
        }
        let id = number(&field(object, "id"));
        match &*kind {
            "message" => assert_eq!(id, next, "a message is missing and no gap says so"),
            _ => {
                assert!(id >= next, "a gap that tells nothing");
                missing += id + 1 - next;
            }
        }
        next = id + 1;
    }
    missing
}

#[test]
fn drop_oldest_announces_the_gap_in_its_place() {
    drop_oldest_tells(flood);
}

#[test]
fn drop_oldest_announces_the_gap_if_messages_are_copied_together() {
    drop_oldest_tells(flood_small);
}

fn drop_oldest_tells(flood: fn(&Host, &str, usize) -> Vec<String>) {
    for (form, lines) in [
        ("stream", "Accept: application/x-ndjson\r\n"),
        ("sse", "Accept: text/event-stream\r\n"),
        (
            "ws",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: push.v1.json\r\n",
        ),
    ] {
        let host = Host::start(&OPTIONS);
        let mut client = connect(&host, "channel=drop.a&format=json", lines);
        let ids = flood(&host, "drop.a", MANY);
        let last = ids.last().unwrap();
        let stats = settled(&host);
        assert_eq!((stats.slow_closed, stats.outboxes), (0, 1), "{form}");
        assert!(stats.dropped > 0 && stats.outbox_bytes <= 64 * 1024 + SIZE as u64, "{form}: {stats:?}");
        let objects = match form {
            "ws" => frames_until(&mut client, last),
            _ => objects_until(&mut client, form == "sse", last),
        };
        assert_eq!(accounted(&objects, number(&ids[0])), host.server.stats().unwrap().dropped, "{form}");
        assert!(objects.iter().any(|object| field(object, "type") == "gap"), "{form}");
        // It goes on as if nothing had happened.
        let id = host.publish("drop.a", "after");
        let after = match form {
            "ws" => frames_until(&mut client, &id),
            _ => objects_until(&mut client, form == "sse", &id),
        };
        assert_eq!(after.len(), 1, "{form}");
        let stats = settled(&host);
        assert_eq!((stats.outboxes, stats.outbox_bytes), (0, 0), "{form}");
        drop(client);
        host.stop();
    }
}

#[test]
fn latest_gives_the_newest_and_never_an_older_one_after_it() {
    for subprotocol in [false, true] {
        let host = Host::start(&OPTIONS);
        let protocol = if subprotocol { "Sec-WebSocket-Protocol: push.v1.json\r\n" } else { "" };
        let lines = format!("{}{protocol}", common::UPGRADE);
        let mut client = connect(&host, "channel=last.a&channel=last.b", &lines);
        let payload = "x".repeat(SIZE);
        for n in 0..MANY {
            host.publish("last.a", &format!("{n} {payload}"));
            host.publish("last.b", &format!("{n} {payload}"));
        }
        settled(&host);
        let value = |text: &str| text.split(' ').next().unwrap().parse::<usize>().unwrap();
        let (mut a, mut b, mut seen) = (None, None, 0);
        while a != Some(MANY - 1) || b != Some(MANY - 1) {
            let text = client.text();
            if !subprotocol {
                // Raw frames do not name their channel. Each of the two channels sends a value at most once.
                let n = value(&text);
                let known = if a.is_none_or(|known| n > known) { &mut a } else { &mut b };
                assert!(known.is_none_or(|known| n > known), "{n} after {known:?}");
                *known = Some(n);
                seen += 1;
            } else if field(&text, "type") == "message" {
                let n = value(&field(&text, "data"));
                let known = if field(&text, "channel") == "last.a" { &mut a } else { &mut b };
                assert!(known.is_none_or(|known| n > known), "{n} after {known:?}");
                *known = Some(n);
                seen += 1;
            } else {
                assert_eq!(field(&text, "type"), "subscribed", "nothing is told of what was replaced");
            }
        }
        let stats = host.server.stats().unwrap();
        assert_eq!((stats.replaced, stats.slow_closed, stats.gaps), ((2 * MANY - seen) as u64, 0, 0));
        assert!(stats.replaced > MANY as u64 / 10);
        drop(client);
        host.stop();
    }
}

#[test]
fn policies_of_several_channels_hold_on_one_connection() {
    let host = Host::start(&OPTIONS);
    let lines = format!("{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE);
    let mut client = connect(&host, "channel=drop.a&channel=last.a&channel=kept", &lines);
    let payload = "x".repeat(SIZE);
    let (mut kept, mut dropped, mut end) = (Vec::new(), Vec::new(), String::new());
    for n in 0..MANY {
        dropped.push(number(&host.publish("drop.a", &payload)));
        end = host.publish("last.a", &payload);
        if n % 300 == 0 {
            kept.push(host.publish("kept", &n.to_string()));
        }
    }
    settled(&host);
    let objects = frames_until(&mut client, &end);
    let of = |channel: &str, kind: &str| -> Vec<String> {
        let fits =
            |object: &&String| field(object, "type") == kind && object.contains(&format!("\"channel\":\"{channel}\""));
        objects.iter().filter(fits).map(|object| field(object, "id")).collect()
    };
    assert_eq!(of("kept", "message"), kept, "what may not be dropped was not");
    assert!(of("kept", "gap").is_empty() && of("last.a", "gap").is_empty());
    assert!(of("last.a", "message").len() < MANY);
    let all: Vec<u64> = objects
        .iter()
        .filter(|object| matches!(&*field(object, "type"), "message" | "gap"))
        .map(|object| number(&field(object, "id")))
        .collect();
    assert!(all.is_sorted(), "one order, gaps included: a position speaks for all channels");
    // Each message of the channel came, or a gap after the message before it says that it is missing.
    let (messages, gaps) = (of("drop.a", "message"), of("drop.a", "gap"));
    let covered = |n: u64| {
        let next = messages.iter().map(|id| number(id)).find(|id| *id >= n).unwrap_or(u64::MAX);
        next == n || gaps.iter().map(|id| number(id)).any(|gap| n <= gap && gap < next)
    };
    assert!(dropped.iter().all(|n| covered(*n)) && !gaps.is_empty());
    let stats = host.server.stats().unwrap();
    assert_eq!(stats.slow_closed, 0);
    assert_eq!(stats.dropped, (MANY - messages.len()) as u64);
    // A channel that may not give way ends the connection.
    flood(&host, "kept", MANY);
    settled(&host);
    assert_eq!(client.end().0, 4429);
    host.stop();
}

#[test]
fn a_client_with_little_to_drop_is_not_searched_for_each_message() {
    const LIMIT: u64 = 256 << 10;
    let host = Host::start(&[&OPTIONS[1..], &[("outbox", "256KB")]].concat());
    let lines = format!("{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE);
    let mut client = connect(&host, "channel=drop.a&channel=kept", &lines);
    flood(&host, "drop.a", MANY);
    assert_eq!(settled(&host).slow_closed, 0);
    let mut quick = host.websocket("channel=kept&channel=drop.a", true);
    (0..2).for_each(|_| drop(quick.text()));
    let text = "a message of some sixty bytes with all that it is sent with";
    host.publish("kept", text);
    // This includes the head of the frame, and the cost of a piece beside its bytes.
    let weight = quick.text().len() as u64 + 4 + 64;
    // Messages that may not give way come to fill nearly all of the outbox, in place of those that may. How many of those
    // wait depends on what the socket has taken. So the connection may be closed before the outbox is that full.
    let filling = (0..LIMIT / 16 * 15 / weight).map(|_| "kept");
    // They are published one by one, so that each has to make its own room.
    let mut before = settled(&host);
    let mut turns = filling.chain(["drop.a"; 200]).map(|channel| {
        host.publish(channel, text);
        quick.text();
        let stats = settled(&host);
        (std::mem::replace(&mut before, stats), stats)
    });
    let (before, stats) = turns.find(|(_, stats)| stats.slow_closed > 0).expect("it is closed");
    assert_eq!((before.slow_closed, stats.slow_closed), (0, 1));
    assert_eq!(
        (stats.dropped, stats.gaps),
        (before.dropped, before.gaps),
        "what its client gets by its position is not lost"
    );
    assert_eq!(client.end().0, 4429);
    host.stop();
}

#[test]
fn raw_frames_have_no_gap_so_the_connection_is_closed() {
    let host = Host::start(&OPTIONS);
    let mut client = connect(&host, "channel=drop.a", common::UPGRADE);
    flood(&host, "drop.a", MANY);
    let stats = settled(&host);
    assert_eq!((stats.slow_closed, stats.dropped), (1, 0));
    let mut next = 0;
    loop {
        let (first, payload) = client.next_frame();
        if first == 0x88 {
            assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), 4429);
            break;
        }
        assert!(payload.starts_with(format!("{next} ").as_bytes()), "in order, nothing missing");
        next += 1;
    }
    host.stop();
}

#[test]
fn a_slow_replay_of_a_channel_that_drops_announces_the_gap() {
    let host = Host::start(&[&OPTIONS[..5], &[("history_count", "100"), ("history_bytes", "64MB")]].concat());
    let start = host.server.position(0);
    let before = flood(&host, "drop.a", 90);
    let mut client = connect(&host, &format!("channel=drop.a&since={start}"), "Accept: application/x-ndjson\r\n");
    let ids = flood(&host, "drop.a", MANY);
    settled(&host);
    let objects = objects_until(&mut client, false, ids.last().unwrap());
    assert!(accounted(&objects, number(&before[0])) > 0);
    host.stop();
}

#[test]
fn stalled_readers_hold_no_more_than_their_bound() {
    const STALLED: u64 = 60;
    let host = Host::start(&[&OPTIONS[..], &[("history_total", "1MB")]].concat());
    let lines = format!("{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE);
    let stalled: Vec<Client> = (0..STALLED)
        .map(|n| connect(&host, if n % 2 == 0 { "channel=drop.a" } else { "channel=last.a" }, &lines))
        .collect();
    let mut quick = host.websocket("channel=drop.a&channel=last.a", false);
    let payload = "x".repeat(SIZE);
    for n in 0..MANY {
        // This client reads each message before the next is published. So it is never behind, even if others are.
        for channel in ["drop.a", "last.a"] {
            let text = format!("{n} {channel} {payload}");
            host.publish(channel, &text);
            assert_eq!(quick.text(), text);
        }
    }
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.slow_closed, stats.outboxes), (0, STALLED));
    assert!(stats.outbox_bytes <= STALLED * (64 * 1024 + SIZE as u64), "{}", stats.outbox_bytes);
    assert!(stats.dropped > 0 && stats.replaced > 0);
    drop(stalled);
    host.stop();
}

#[test]
fn answers_of_polls_that_are_copies_are_bounded_together() {
    const POLLS: usize = 8;
    const LARGE: usize = 8 << 20;
    let options = [
        ("threads", "1"),
        ("max_message", "8MB"),
        ("history_bytes", "16MB"),
        ("outbox_total", "24MB"),
        // One is read after the other, and each takes its time.
        ("close_timeout", "10m"),
        ("allowed_origins", "https://app"),
    ];
    // With one channel, with several, and with missed messages.
    for (query, missed) in [("channel=a", false), ("channel=a&channel=b", false), ("channel=a", true)] {
        let host = Host::start(&options);
        let since = host.publish("a", "before");
        let query = if missed { format!("{query}&since={since}") } else { query.to_owned() };
        let large = "x".repeat(LARGE);
        if missed {
            host.publish("a", &large);
        }
        let lines = "Origin: https://app\r\nConnection: close\r\n";
        let polls: Vec<_> = (0..POLLS).map(|_| ask(&host, &query, lines)).collect();
        if !missed {
            eventually(|| host.server.stats().unwrap().polls == POLLS as u64);
            host.publish("a", &large);
        }
        eventually(|| {
            let stats = host.server.stats().unwrap();
            stats.outboxes + stats.slow_closed == POLLS as u64
        });
        let stats = host.server.stats().unwrap();
        assert!(stats.outbox_bytes <= 24 << 20 && stats.outboxes >= 2, "{query}: {stats:?}");
        // A client that waits gets all of it.
        let whole = polls.into_iter().filter_map(|mut poll| poll.rest().contains(&large).then_some(()));
        assert_eq!(whole.count() as u64, stats.outboxes, "{query}");
        host.stop();
    }
}
