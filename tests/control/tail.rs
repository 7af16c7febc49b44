//! `GET /v1/tail`: what is published, as it is published.

use super::common::{builder, until, Client, Host, CONTROL, PATIENCE};
use super::connections::is_refused;
use super::{ask, got, post};
use push::hub::Publication;
use serde_json::{json, Value};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A tail that has begun.
pub struct Tail(Client);

impl Tail {
    pub fn begin(host: &Host, query: &str) -> Self {
        Self::over(TcpStream::connect(&host.server.addresses()[1]).unwrap(), query)
    }

    fn over(stream: TcpStream, query: &str) -> Self {
        let mut client = Client::over(stream);
        let lines = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", CONTROL[1].1);
        client.send(format!("GET /v1/tail?{query} HTTP/1.1\r\n{lines}\r\n").as_bytes());
        let head = client.head().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ") && head.contains("content-type: text/event-stream"), "{head}");
        let mut tail = Tail(client);
        assert_eq!(tail.next(), json!({"type": "open"}));
        tail
    }

    /// The next event. The frames of the chunks between events are passed over.
    fn next(&mut self) -> Value {
        self.0.until("data: ");
        let event = self.0.until("\n\n");
        serde_json::from_str(&event).unwrap_or_else(|error| panic!("{error}: {event}"))
    }

    /// The next event, which is a message.
    pub fn message(&mut self) -> Value {
        let event = self.next();
        assert!(event["type"] == "message" || event["type"] == "broadcast", "{event}");
        event
    }
}

#[test]
fn the_end_of_a_stream_is_a_mark_and_not_the_end_of_the_tail() {
    let host = Host::start(&CONTROL);
    let mut tail = Tail::begin(&host, "pattern=*");
    let (status, _) = post(&host, "/v1/end?channel=a", "");
    assert_eq!(status, 200);
    let seen = tail.next();
    let id = host.server.position(1);
    let expected = json!({"type": "mark", "mark": "end", "channel": "a", "id": id, "time": seen["time"]});
    assert_eq!(seen, expected);
    host.publish("a", "goes on");
    assert_eq!(tail.message()["data"], "goes on");
    host.stop();
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn what_is_published_is_seen_with_its_place_time_and_size() {
    let host = Host::start(&CONTROL);
    let mut one = Tail::begin(&host, "channel=n%C3%A4ws");
    let mut some = Tail::begin(&host, "pattern=n*");
    let mut all = Tail::begin(&host, "pattern=*");
    let before = now_ms();
    let id = host.publish("n\u{e4}ws", "h\u{e4}llo \u{1b}[2J\n\ndata: x");
    let seen = one.message();
    let expected = json!({"type": "message", "channel": "n\u{e4}ws", "id": id, "time": seen["time"], "size": 20,
        "data": "h\u{e4}llo \u{1b}[2J\n\ndata: x"});
    assert_eq!(seen, expected);
    // The hub's clock is one of the kernel's ticks.
    let time = seen["time"].as_u64().unwrap();
    assert!(time + 1000 >= before && time <= now_ms() + 1000, "{before} {seen}");
    for tail in [&mut some, &mut all] {
        let seen = tail.message();
        assert_eq!((&seen["id"], &seen["data"]), (&expected["id"], &expected["data"]));
        assert!(seen["time"].as_u64().unwrap().abs_diff(time) < 100, "{seen}");
    }

    // Other channels, with and without subscribers, a batch, bytes, an event, and a broadcast.
    let _subscriber = host.websocket("channel=other", false);
    host.publish("other", "1");
    let batch = r#"[{"channel":"n.1","data":"2","event":"tick"},{"channel":"n.2","data":"AP8=","base64":true}]"#;
    assert_eq!(post(&host, "/v1/publish", batch).0, 200);
    host.server.broadcast(&Publication::new("", b"all")).unwrap();
    host.publish("n\u{e4}ws", "last");
    let (tick, bytes) = (some.message(), some.message());
    assert_eq!((&tick["channel"], &tick["event"], &tick["data"]), (&json!("n.1"), &json!("tick"), &json!("2")));
    assert_eq!((&bytes["data"], &bytes["base64"], &bytes["size"]), (&json!("AP8="), &json!(true), &json!(2)));
    assert_eq!((some.message()["data"].clone(), one.message()["data"].clone()), (json!("last"), json!("last")));
    let rest: Vec<_> = (0..5).map(|_| all.message()).collect();
    assert_eq!(rest.iter().map(|seen| seen["size"].clone()).collect::<Vec<_>>(), [1, 1, 2, 3, 4]);
    assert_eq!((&rest[3]["type"], &rest[3]["channel"]), (&json!("broadcast"), &Value::Null));
    // What a repeated key does not publish is not seen.
    post(&host, "/v1/publish?channel=n%C3%A4ws&key=k", "once");
    post(&host, "/v1/publish?channel=n%C3%A4ws&key=k", "twice");
    host.publish("n\u{e4}ws", "end");
    assert_eq!([one.message()["data"].clone(), one.message()["data"].clone()], ["once", "end"]);
    host.stop();
}

#[test]
fn messages_are_seen_where_nothing_is_kept_and_long_ones_are_cut() {
    let host = Host::start(&[&CONTROL[..], &[("history_count", "0")]].concat());
    let mut tail = Tail::begin(&host, "channel=a");
    host.publish("a", "short");
    assert_eq!(tail.message()["data"], "short");
    // The cut would go through the middle of a character.
    let long = format!("x{}", "\u{e4}".repeat(100_000));
    host.publish("a", &long);
    let seen = tail.message();
    let data = seen["data"].as_str().unwrap();
    assert_eq!(
        (seen["cut"].clone(), seen["size"].clone(), data.len()),
        (json!(true), json!(long.len()), (64 << 10) - 1)
    );
    assert!(long.starts_with(data));
    host.publish("a", &"y".repeat(64 << 10));
    assert_eq!(tail.message()["cut"], Value::Null);
    host.stop();
}

#[test]
fn what_can_not_be_looked_at_is_refused_with_what_is_allowed() {
    let host = Host::start(&CONTROL);
    let long = "x".repeat(256);
    for (query, told) in [
        ("", "one of ?channel= and ?pattern= is needed"),
        ("channel=a&pattern=a*", "and not both"),
        ("channel=a&channel=b", "takes it only once"),
        ("pattern=a*&pattern=b*", "takes it only once"),
        ("channel=", "1 to 255 bytes are allowed"),
        ("channel=a*", "can't end in *"),
        (&*format!("channel={long}"), "at most 255 are allowed"),
        ("channel=a%00", "control characters are not allowed"),
        ("channel=%ff", "not UTF-8"),
        ("pattern=", "a prefix and * at its end"),
        ("pattern=a", "a prefix and * at its end"),
        ("pattern=a*b*", "* may stand at the end only"),
        ("pattern=**", "* may stand at the end only"),
        (&*format!("pattern={long}*"), "at most 255 are allowed"),
        ("channels=a", "unknown parameter channels; allowed: channel, pattern"),
    ] {
        is_refused(&host, &format!("/v1/tail?{query}"), told);
    }
    host.stop();
}

#[test]
fn sixteen_may_look_on_at_once_and_an_end_makes_room() {
    let host = Host::start(&CONTROL);
    let mut tails: Vec<_> = (0..16).map(|n| Tail::begin(&host, &format!("channel={n}"))).collect();
    let (status, body) = ask(&host, "GET", "/v1/tail?pattern=*", "", b"");
    assert!(status == 503 && body.contains("too many tails are under way"), "{status} {body}");
    host.publish("7", "x");
    assert_eq!(tails[7].message()["data"], "x");
    drop(tails.pop());
    // The hub finds out that it has gone when it writes to it, or by the end of its side.
    until("there is room", || {
        host.publish("15", "y");
        let mut client = Client::over(TcpStream::connect(&host.server.addresses()[1]).unwrap());
        let lines = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", CONTROL[1].1);
        client.send(format!("GET /v1/tail?pattern=* HTTP/1.1\r\n{lines}\r\n").as_bytes());
        client.head().starts_with("HTTP/1.1 200 ")
    });
    host.stop();
}

#[test]
fn a_reader_that_is_too_slow_loses_messages_and_is_told_how_many_and_nobody_waits_for_it() {
    const MESSAGES: usize = 1500;
    let host = Host::start(&[&CONTROL[..], &[("history_bytes", "1MB")]].concat());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.connect(&host.server.addresses()[1].parse::<SocketAddr>().unwrap().into()).unwrap();
    let mut slow = Tail::over(TcpStream::from(socket), "pattern=*");
    let mut quick = Tail::begin(&host, "channel=end");
    // More than the buffers of a socket hold and the tail keeps, in any case.
    let payload = "x".repeat(60_000);
    (0..MESSAGES).for_each(|_| drop(host.publish("a", &payload)));
    // The control API answers meanwhile, and another tail goes on.
    assert_eq!(got(&host, "/v1/stats")["published"], MESSAGES);
    host.publish("end", "end");
    assert_eq!(quick.message()["data"], "end");
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < MESSAGES + 1 {
        let event = slow.next();
        match event["type"].as_str() {
            Some("lost") => lost += event["count"].as_u64().unwrap() as usize,
            Some("message") => {
                let number: usize = event["id"].as_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
                seen += 1;
                assert_eq!(number, seen + lost, "the loss is told at its place");
            }
            _ => panic!("{event}"),
        }
    }
    assert!(lost > 0 && seen > 10, "{seen} {lost}");
    host.publish("a", "after");
    assert_eq!(slow.message()["data"], "after");
    host.stop();
}

#[test]
fn a_tail_ends_with_the_hub_and_with_its_key() {
    let host = Host::start(&CONTROL);
    let mut tail = Tail::begin(&host, "pattern=*");
    let mut options = builder(&CONTROL);
    host.server.reload(&options).unwrap();
    host.publish("a", "still there");
    assert_eq!(tail.message()["data"], "still there");
    options.set("control_key", "another-key-of-some-length").unwrap();
    host.server.reload(&options).unwrap();
    let end = tail.next();
    assert!(end["type"] == "end" && end["reason"].as_str().unwrap().contains("control_key has changed"), "{end}");
    assert!(tail.0.rest().ends_with("0\r\n\r\n"));
    host.server.reload(&builder(&CONTROL)).unwrap();
    let mut tail = Tail::begin(&host, "pattern=*");
    let ending = std::thread::spawn(move || host.server.stop(Duration::from_secs(5)));
    loop {
        let event = tail.next();
        if event["type"] == "end" {
            break;
        }
    }
    tail.0.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tail.0.rest();
    ending.join().unwrap();
}
