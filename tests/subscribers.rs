//! The four transports, as raw bytes.

mod common;

use common::{eventually, field, Client, Host, PATIENCE, UPGRADE};
use push::grant::Grant;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

#[test]
fn sse_begins_with_a_position_and_carries_events() {
    let host = Host::start(&[]);
    let mut client = host.get("channel=news", "Accept: text/event-stream\r\n");
    let head = client.head();
    for line in ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked"] {
        assert!(head.contains(line), "{head}");
    }
    let opening = client.until("\n\n\r\n");
    assert!(opening.contains("retry: 2000\nid: ") && opening.contains("\nevent: push-open\n"), "{opening}");
    let id = host.publish("news", "two\nlines");
    assert_eq!(client.until("\r\n").len(), 2, "the chunk's size in hex");
    assert_eq!(client.until("\n\n"), format!("id: {id}\ndata: two\ndata: lines"));
    host.stop();
    let rest = client.rest();
    assert!(rest.contains("event: push-close") && rest.contains("\"code\":1001"), "{rest}");
    assert!(rest.ends_with("0\r\n\r\n"), "the body ends properly");
}

#[test]
fn http_1_0_gets_no_chunks() {
    let host = Host::start(&[]);
    let mut client = host.connect();
    client.send(b"GET /push?channel=a&transport=stream HTTP/1.0\r\n\r\n");
    let head = client.head();
    assert!(!head.contains("chunked") && head.contains("Connection: close"), "{head}");
    let id = host.publish("a", "x");
    let line = client.until("}\n");
    assert_eq!(line.trim_start(), format!(r#"{{"type":"message","channel":"a","id":"{id}","data":"x""#));
    host.stop();
}

#[test]
fn a_stream_has_one_object_a_line() {
    let host = Host::start(&[]);
    let mut client = host.get("channel=a&channel=b", "Accept: application/x-ndjson\r\n");
    client.head();
    client.until("\n\r\n");
    let id = host.publish("b", "\u{fc}\"\n");
    client.until("\r\n");
    let line = client.until("\n");
    assert_eq!((field(&line, "type"), field(&line, "channel")), ("message".into(), "b".into()));
    assert_eq!((field(&line, "id"), field(&line, "data")), (id, "\u{fc}\"\n".into()));
    host.stop();
}

#[test]
fn a_poll_waits_answers_and_keeps_the_connection() {
    let host = Host::start(&[("poll_timeout", "300ms")]);
    let mut client = host.get("channel=a", "");
    let (head, body) = client.response();
    assert_eq!(field(&body, "messages"), "[]", "the time was over");
    let position = field(&body, "position");
    assert!(head.contains(&format!("Push-Position: {position}")), "{head}");
    let id = host.publish("a", "x");
    let again = format!("GET /push?channel=a&since={position} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(again.as_bytes());
    let (_, body) = client.response();
    assert_eq!(field(&body, "position"), id);
    assert!(body.contains("\"data\":\"x\""), "{body}");
    // Two come at once. The second is answered after the first.
    client.send([again.as_bytes(), again.as_bytes()].concat().as_slice());
    assert!(client.response().1.contains("\"data\":\"x\""));
    assert!(client.response().1.contains("\"data\":\"x\""));
    host.stop();
}

#[test]
fn a_poll_that_does_not_wait_returns_its_position() {
    let host = Host::start(&[("poll_timeout", "1h"), ("outbox", "4KB")]);
    let ask = |client: &mut Client, query: &str| {
        client.send(format!("GET /push?channel=a&wait=0{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        client.response().1
    };
    let mut client = host.get("channel=a&wait=0", "");
    let start = host.server.position(0);
    let nothing = |position: &str| format!(r#"{{"position":"{position}","messages":[]}}"#);
    assert_eq!(client.response().1, nothing(&start));
    // A message of another channel brings nothing for this one, but a later position.
    let other = host.publish("b", "x");
    assert_eq!(ask(&mut client, &format!("&since={start}")), nothing(&other));
    assert_eq!(ask(&mut client, "&last=1"), nothing(&other));
    // The poll leaves no subscription behind.
    eventually(|| host.server.stats().unwrap().subscriptions == 0);
    let id = host.publish("a", &"y".repeat(3000));
    let answer = ask(&mut client, &format!("&since={start}"));
    assert!(answer.ends_with("\"}]}") && field(&answer, "position") == id, "{answer}");
    // These are more messages than an answer may have.
    host.publish("a", &"z".repeat(3000));
    let last = host.publish("a", &"z".repeat(3000));
    let (mut position, mut answers) = (start, 0);
    loop {
        let answer = ask(&mut client, &format!("&since={position}"));
        position = field(&answer, "position");
        answers += 1;
        if !answer.ends_with(r#"],"more":true}"#) {
            break;
        }
    }
    assert!(position == last && answers > 1, "{position} after {answers}");
    let (head, body) = host.get("channel=a&wait=1", "").response();
    assert!(head.starts_with("HTTP/1.1 400") && body.contains("wait must be 0"), "{body}");
    host.stop();
}

#[test]
fn a_raw_websocket_gets_payloads_and_a_close_with_its_code() {
    let host = Host::start(&[]);
    let mut client = host.websocket("channel=a", false);
    host.publish("a", "text");
    assert_eq!(client.text(), "text");
    host.server.publish(&push::hub::Publication::new("a", &[0xff, 0])).unwrap();
    assert_eq!(client.next_frame(), (0x82, vec![0xff, 0]));
    host.publish("a", &"x".repeat(70_000));
    assert_eq!(client.text().len(), 70_000);
    client.frame(0x89, b"hi");
    assert_eq!(client.next_frame(), (0x8a, b"hi".to_vec()));
    client.frame(0x88, &4000u16.to_be_bytes());
    assert_eq!(client.close_code(), 4000);
    assert_eq!(client.rest(), "");
    host.stop();
}

#[test]
fn push_v1_json_speaks_both_ways() {
    let host = Host::start(&[("client_publish", "true")]);
    let mut client = host.websocket("", true);
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text(), r#"{"type":"pong"}"#);
    let before = host.publish("a", "before");
    client.say(r#"{"type":"subscribe","channel":"a","last":1}"#);
    assert_eq!(field(&client.text(), "id"), before);
    assert_eq!(client.text(), format!(r#"{{"type":"subscribed","channel":"a","id":"{before}"}}"#));
    client.say(r#"{"type":"publish","channel":"a","data":"mine","event":"e"}"#);
    let (first, second) = (client.text(), client.text());
    let published = if first.contains("published") { &first } else { &second };
    let message = if first.contains("published") { &second } else { &first };
    assert_eq!(field(published, "id"), field(message, "id"));
    assert_eq!((field(message, "data"), field(message, "event")), ("mine".into(), "e".into()));
    client.say(r#"{"type":"subscribe","channel":"a"}"#);
    assert_eq!(field(&client.text(), "code"), "subscribed");
    client.say(r#"{"type":"unsubscribe","channel":"a"}"#);
    assert_eq!(client.text(), r#"{"type":"unsubscribed","channel":"a"}"#);
    host.publish("a", "unheard");
    for (ask, code) in [
        ("nonsense", "malformed"),
        (r#"{"type":"dance"}"#, "malformed"),
        (r#"{"type":"subscribe","channel":""}"#, "channel"),
        (r#"{"type":"subscribe","channel":"b","since":"x"}"#, "position"),
        (r#"{"type":"unsubscribe","channel":"b"}"#, "not_subscribed"),
        (r#"{"type":"publish","channel":"a","data":"x","event":"push-x"}"#, "malformed"),
    ] {
        client.say(ask);
        let reply = client.text();
        assert_eq!((field(&reply, "type"), field(&reply, "code")), ("error".into(), code.into()), "{ask}");
    }
    host.stop();
    assert_eq!(client.close_code(), 1001);
}

#[test]
fn an_answer_of_push_v1_json_has_the_number_of_its_request() {
    let host = Host::start(&[("client_publish", "true")]);
    let mut client = host.websocket("", true);
    for (number, ask, answer) in [
        (7, r#"{"type":"ping""#, "pong"),
        (u64::MAX, r#"{"type":"subscribe","channel":"a""#, "subscribed"),
        (0, r#"{"type":"publish","channel":"b","data":"x""#, "published"),
        (8, r#"{"type":"unsubscribe","channel":"a""#, "unsubscribed"),
        (9, r#"{"type":"unsubscribe","channel":"a""#, "error"),
        (10, r#"{"type":"subscribe""#, "error"),
        (11, r#"{"type":"token","token":"x""#, "error"),
    ] {
        client.say(&format!(r#"{ask},"ref":{number}}}"#));
        let told = client.text();
        assert_eq!(field(&told, "type"), answer, "{ask}");
        assert!(told.ends_with(&format!(r#","ref":{number}}}"#)), "{told}");
    }
    host.stop();
}

#[test]
fn clients_may_publish_only_if_it_is_allowed() {
    let host = Host::start(&[]);
    let mut client = host.websocket("", true);
    client.say(r#"{"type":"publish","channel":"a","data":"x"}"#);
    assert_eq!(field(&client.text(), "code"), "publish");
    host.stop();
}

#[test]
fn a_broadcast_reaches_everybody_and_is_recovered() {
    let host = Host::start(&[]);
    let mut raw = host.websocket("channel=a", false);
    let mut json = host.websocket("", true);
    let mut poll = host.get("channel=c", "");
    let mut sse = host.get("channel=b&channel=d", "Accept: text/event-stream\r\n");
    sse.head();
    sse.until("\n\n\r\n");
    while host.server.stats().unwrap().polls == 0 {
        std::thread::yield_now();
    }
    let before = host.server.position(host.server.stats().unwrap().seq);
    let published = host.server.broadcast(&push::hub::Publication::new("", b"all")).unwrap();
    let id = host.server.position(published.seq);
    assert_eq!(raw.text(), "all");
    let object = format!(r#"{{"type":"broadcast","id":"{id}","data":"all"}}"#);
    assert_eq!(json.text(), object);
    assert!(poll.response().1.contains(&object));
    sse.until("\r\n");
    assert_eq!(sse.until("\n\n"), format!("id: {id}\ndata: all"));
    let mut late = host.get(&format!("channel=z&since={before}"), "");
    assert!(late.response().1.contains(&object));
    host.stop();
}

#[test]
fn a_replay_larger_than_the_outbox_comes_in_full() {
    let host = Host::start(&[("outbox", "4KB"), ("history_count", "2000"), ("history_bytes", "64MB")]);
    let start = host.server.position(0);
    let payload = "x".repeat(1000);
    for n in 0..2000 {
        host.publish(if n % 2 == 0 { "a" } else { "b" }, &format!("{n} {payload}"));
    }
    let mut client = host.websocket(&format!("channel=a&channel=b&since={start}"), true);
    for n in 0..2000 {
        assert!(field(&client.text(), "data").starts_with(&format!("{n} ")));
    }
    assert_eq!(field(&client.text(), "type"), "subscribed");
    host.publish("a", "live");
    loop {
        let text = client.text();
        if field(&text, "type") == "message" {
            assert_eq!(field(&text, "data"), "live");
            break;
        }
    }
    host.stop();
}

#[test]
fn a_subscribed_position_holds_for_all_channels() {
    let host = Host::start(&[("outbox", "64MB")]);
    let mut client = host.websocket("channel=busy", true);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for n in 0..20_000 {
                host.publish("busy", &n.to_string());
            }
        });
        let (mut next, mut reached) = (0, 0);
        let number = |text: &str| field(text, "id").rsplit_once('-').unwrap().1.parse::<u64>().unwrap();
        while next < 20_000 {
            if next % 500 == 0 {
                client.say(&format!(r#"{{"type":"subscribe","channel":"other {next}"}}"#));
                client.say(&format!(r#"{{"type":"unsubscribe","channel":"other {next}"}}"#));
            }
            let text = client.text();
            match field(&text, "type").as_str() {
                "subscribed" => reached = number(&text),
                "message" => {
                    assert!(number(&text) > reached, "{text} after {reached}");
                    assert_eq!(field(&text, "data"), next.to_string());
                    next += 1;
                }
                _ => {}
            }
        }
        publisher.join().unwrap();
    });
    host.stop();
}

#[test]
fn a_gap_is_announced_in_every_form() {
    let host = Host::start(&[("history_count", "1")]);
    let start = host.server.position(0);
    let gone = host.publish("a", "1");
    let kept = host.publish("a", "2");
    let gap = format!(r#"{{"type":"gap","channel":"a","id":"{gone}"}}"#);
    let query = format!("channel=a&since={start}");
    let mut poll = host.get(&query, "");
    assert!(poll.response().1.contains(&format!("[{gap},")));
    let mut json = host.websocket(&query, true);
    assert_eq!((json.text(), field(&json.text(), "id")), (gap.clone(), kept.clone()));
    let mut sse = host.get(&query, "Accept: text/event-stream\r\n");
    sse.head();
    sse.until("\n\n\r\n");
    sse.until("\r\n");
    assert_eq!(sse.until("\n\n"), format!("id: {gone}\nevent: push-gap\ndata: {gap}"));
    let mut raw = host.get(&query, common::UPGRADE);
    assert!(raw.head().contains("Push-Gap: 1"));
    assert_eq!(raw.text(), "2");
    host.stop();
}

#[test]
fn a_gap_further_on_in_a_long_replay_is_told_by_the_handshake_of_raw_frames() {
    // The missed messages are more than may wait for a client, so they come in parts.
    let host = Host::start(&[("outbox", "4KB"), ("channel.b.history_count", "1")]);
    let start = host.server.position(0);
    let payload = "x".repeat(1000);
    for n in 0..20 {
        host.publish("a", &format!("{n} {payload}"));
    }
    for n in 20..23 {
        host.publish("b", &n.to_string());
    }
    // A client of raw frames knows only this position. It would ask for the same messages again and again.
    let mut raw = host.get(&format!("channel=a&channel=b&since={start}"), common::UPGRADE);
    assert!(raw.head().contains("Push-Gap: 1"));
    for n in 0..20 {
        assert!(raw.text().starts_with(&format!("{n} ")));
    }
    assert_eq!(raw.text(), "22");
    host.publish("b", "live");
    assert_eq!(raw.text(), "live");
    host.stop();
}

#[test]
fn head_is_answered_without_a_body_under_every_path() {
    let host = Host::start(&[]);
    for (path, status) in [("/push?channel=a", "405"), ("/elsewhere", "404")] {
        let mut client = host.connect();
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        assert!(client.head().starts_with(&format!("HTTP/1.1 {status} ")), "{path}");
        assert_eq!(client.rest(), "", "{path}");
    }
    host.stop();
}

#[test]
fn thousands_of_channels_are_lost_at_once() {
    const EACH: usize = 5000;
    let host = Host::start(&[("threads", "1"), ("max_channels", "10000"), ("client_rate", "0")]);
    host.server.event_fd().unwrap();
    let open = |user| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let head =
            format!("GET /push HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}Sec-WebSocket-Protocol: push.v1.json\r\n\r\n");
        let all = Grant::new(Some(user), &[], &["*".into()], 0, false, false).unwrap();
        host.server.adopt(theirs.into(), head.as_bytes(), Some(all)).unwrap();
        let mut client = Client::over(OwnedFd::from(ours).into());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        (client, host.server.next_event(Some(PATIENCE)).unwrap().connection)
    };
    let ask = |client: &mut Client, what: &str, channels: &[String]| {
        for some in channels.chunks(50) {
            for channel in some {
                client.say(&format!(r#"{{"type":"{what}","channel":"{channel}"}}"#));
            }
            for channel in some {
                let answer = client.text();
                assert_eq!((field(&answer, "type"), field(&answer, "channel")), (format!("{what}d"), channel.clone()));
            }
        }
    };
    let names = |prefix: &str| -> Vec<String> { (0..EACH).map(|n| format!("{prefix}{n}")).collect() };
    let (mut bob, _) = open("bob");
    ask(&mut bob, "subscribe", &["a0", "b0", "a4999", "b4999"].map(String::from));
    let (mut ann, connection) = open("ann");
    // One of each in turns, so that the clients that stay are moved.
    let mixed: Vec<String> = names("a").into_iter().zip(names("b")).flat_map(|(a, b)| [a, b]).collect();
    ask(&mut ann, "subscribe", &mixed);
    ask(&mut ann, "unsubscribe", &mixed[..2]);
    let subscriptions = |count: usize| eventually(|| host.server.stats().unwrap().subscriptions == count as u64);
    let lose = |client: &mut Client, count: usize| {
        for _ in 0..count {
            let told = client.text();
            assert_eq!((field(&told, "type"), field(&told, "code")), ("unsubscribed".into(), "4403".into()));
        }
    };
    host.server.revoke_channel("ann", "a*", "").unwrap();
    lose(&mut ann, EACH - 1);
    subscriptions(4 + EACH - 1);
    for channel in ["a4999", "b0", "b4999"] {
        host.publish(channel, channel);
        assert_eq!(field(&bob.text(), "channel"), channel);
    }
    assert_eq!(field(&ann.text(), "channel"), "b4999", "the only one of these that it still has");
    host.server.renew(connection, Grant::new(Some("ann"), &[], &["b1*".into()], 0, false, false).unwrap()).unwrap();
    let kept: Vec<String> = names("b").into_iter().filter(|name| name.starts_with("b1")).collect();
    lose(&mut ann, EACH - 1 - kept.len());
    subscriptions(4 + kept.len());
    host.publish("b1999", "x");
    assert_eq!(field(&ann.text(), "channel"), "b1999");
    ask(&mut ann, "unsubscribe", &kept);
    subscriptions(4);
    host.stop();
}
