//! Requests of confused and hostile clients. Each gets a clear answer, and no other client notices.

mod common;

use common::{field, Host, UPGRADE};

/// The status of the answer to a request. 0: the connection ended without an answer.
fn status(host: &Host, request: &[u8]) -> u16 {
    let mut client = host.connect();
    client.send(request);
    let answer = client.rest();
    answer.strip_prefix("HTTP/1.1 ").map_or(0, |rest| rest[..3].parse().unwrap())
}

/// What a client gets that sends only the beginning of a request. On a slow machine its time may be over before anything
/// of it has come. Then it gets nothing, and the next one tries.
fn answer_to_half(host: &Host, request: &str) -> String {
    let mut answer = String::new();
    common::until("no beginning came in time", || {
        let mut client = host.connect();
        client.send(request.as_bytes());
        answer = client.rest();
        !answer.is_empty()
    });
    answer
}

#[test]
fn half_a_head_is_refused_after_its_time() {
    let host = Host::start(&[("head_timeout", "400ms")]);
    let answer = answer_to_half(&host, "GET /push?channel=a HTTP/1.1\r\nHo");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    host.stop();
}

#[test]
fn bad_requests_are_refused_and_the_server_goes_on() {
    let host = Host::start(&[("head_timeout", "10m"), ("close_timeout", "60s")]);
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let channels: String = (0..10_000).map(|n| format!("channel={n}&")).collect();
    let upgrade = |old: &str, new: &str| get("/push?channel=a", &UPGRADE.replace(old, new));
    let cases: Vec<(&str, String, u16)> = vec![
        ("garbage", "\u{15}\u{3}\u{1}\u{2}garbage\r\n\r\n".into(), 400),
        ("a head of 1 MB", get("/push?channel=a", &format!("X: {}\r\n", "x".repeat(1 << 20))), 413),
        ("a URL of 1 MB", get(&format!("/push?channel={}", "x".repeat(1 << 20)), ""), 414),
        ("bare LF", "GET /push?channel=a HTTP/1.1\nHost: h\n\n".into(), 400),
        ("a body", format!("{}body", get("/push?channel=a", "Content-Length: 4\r\n")), 400),
        ("chunks", get("/push?channel=a", "Transfer-Encoding: chunked\r\n") + "1\r\nx\r\n", 400),
        ("two lengths", get("/push?channel=a", "Content-Length: 0\r\nContent-Length: 0\r\n"), 400),
        ("WebSocket version 8", upgrade("13", "8"), 426),
        ("no key", upgrade("Sec-WebSocket-Key", "X-Key"), 400),
        ("no channel", get("/push", ""), 400),
        ("10,000 channels", get(&format!("/push?{channels}"), ""), 414),
        ("101 channels", get(&format!("/push?{}", &channels[..1200]), ""), 400),
        ("an unparsable position", get("/push?channel=a&since=yesterday", ""), 400),
        ("another path", get("/", ""), 404),
        ("POST", "POST /push?channel=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx".into(), 405),
        ("another origin", get("/push?channel=a", "Origin: https://evil.example\r\n"), 403),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400),
    ];
    for (what, request, expected) in &cases {
        assert_eq!(status(&host, request.as_bytes()), *expected, "{what}");
    }
    let mut client = host.websocket("channel=a", false);
    host.publish("a", "still here");
    assert_eq!(client.text(), "still here");
    assert_eq!(host.server.stats().unwrap().refused, cases.len() as u64);
    host.stop();
}

#[test]
fn an_event_source_on_a_slow_network_comes_back() {
    let host = Host::start(&[("head_timeout", "100ms"), ("retry", "3s"), ("allowed_origins", "https://app")]);
    let begun = "Host: localhost\r\nAccept: text/event-stream\r\nOrigin: https://app\r\nCookie: a";
    let answer = answer_to_half(&host, &format!("GET /push?channel=a HTTP/1.1\r\n{begun}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Access-Control-Allow-Origin: https://app"), "{head}");
    assert!(body.starts_with("retry: ") && body.contains("event: push-close"), "{body}");
    host.stop();
}

#[test]
fn thousands_of_polls_at_once_are_answered_one_by_one() {
    let host = Host::start(&[]);
    let start = host.server.position(0);
    host.publish("a", "x");
    let mut client = host.connect();
    let poll = format!("GET /push?channel=a&since={start} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for _ in 0..20 {
        client.send(poll.repeat(500).as_bytes());
        for _ in 0..500 {
            assert!(client.response().1.contains("\"data\":\"x\""));
        }
    }
    host.stop();
}

#[test]
fn bad_frames_close_with_the_right_code() {
    let host = Host::start(&[]);
    let announced = |len: u64| [&[0x82, 0x80 | 127], &len.to_be_bytes()[..], &[0; 4]].concat();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", vec![0x81, 1, b'x'], 1002),
        ("reserved bits", vec![0xf1, 0x81, 0, 0, 0, 0, b'x'], 1002),
        ("fragmented ping", vec![0x09, 0x80, 0, 0, 0, 0], 1002),
        ("invalid UTF-8", vec![0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        ("2^63 bytes", announced(1 << 63), 1009),
        ("more than max_client_message", announced(65_537), 1009),
    ];
    for (what, bytes, code) in cases {
        let mut client = host.websocket("channel=a", false);
        client.send(&bytes);
        assert_eq!(client.close_code(), code, "{what}");
    }
    host.stop();
}

#[test]
fn sixty_five_thousand_fragments_are_a_message() {
    let host = Host::start(&[("message_timeout", "10m")]);
    host.server.event_fd().unwrap();
    let mut client = host.websocket("channel=a", false);
    client.frame(0x02, b"x");
    for _ in 0..65_534 {
        client.frame(0x00, b"x");
    }
    client.frame(0x80, b"x");
    let event = std::iter::repeat_with(|| host.server.next_event(Some(common::PATIENCE)).unwrap())
        .find(|event| event.kind == push::events::EventKind::Message)
        .unwrap();
    assert_eq!((event.data.len(), event.binary), (65_536, true));
    host.stop();
}

#[test]
fn a_client_that_does_not_read_is_closed_and_recovers() {
    let host = Host::start(&[
        ("outbox", "64KB"),
        ("close_timeout", "10m"),
        ("history_count", "100000"),
        ("history_bytes", "256MB"),
        ("history_total", "256MB"),
    ]);
    let mut slow = host.websocket("channel=a", true);
    let mut fast = host.websocket("channel=a", true);
    assert_eq!(common::field(&slow.text(), "type"), "subscribed");
    fast.text();
    let payload = "x".repeat(10_000);
    let mut count = 0;
    while host.server.stats().unwrap().slow_closed == 0 {
        host.publish("a", &format!("{count} {payload}"));
        assert!(common::field(&fast.text(), "data").starts_with(&format!("{count} ")), "others are not held up");
        count += 1;
    }
    let (mut next, mut last) = (0, String::new());
    loop {
        let (first, bytes) = slow.next_frame();
        if first == 0x88 {
            assert_eq!(u16::from_be_bytes([bytes[0], bytes[1]]), 4429);
            break;
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(common::field(&text, "data").starts_with(&format!("{next} ")));
        last = common::field(&text, "id");
        next += 1;
    }
    let mut back = host.websocket(&format!("channel=a&since={last}"), true);
    for n in next..count {
        assert!(common::field(&back.text(), "data").starts_with(&format!("{n} ")), "what it missed, from there on");
    }
    host.stop();
}

#[test]
fn a_client_that_answers_no_ping_is_closed() {
    let host = Host::start(&[("heartbeat", "200ms"), ("ping_timeout", "200ms")]);
    let mut silent = host.websocket("channel=a", false);
    assert_eq!(silent.next_frame(), (0x89, vec![]));
    assert_eq!(silent.close_code(), 4408);
    host.stop();
    // A slow machine must have the time to answer.
    let host = Host::start(&[("heartbeat", "200ms"), ("ping_timeout", "60s")]);
    let mut lively = host.websocket("channel=a", false);
    for _ in 0..4 {
        assert_eq!(lively.next_frame(), (0x89, vec![]));
        lively.frame(0x8a, b"");
    }
    let mut sse = host.get("channel=a", "Accept: text/event-stream\r\n");
    sse.until("3\r\n:\n\n\r\n");
    let mut stream = host.get("channel=a&transport=stream", "");
    stream.head();
    stream.until("1\r\n\n\r\n1\r\n\n\r\n");
    host.stop();
}

#[test]
fn connections_beyond_the_limit_are_told_to_come_back() {
    let host = Host::start(&[("max_connections", "1")]);
    let _one = host.websocket("channel=a", false);
    let mut two = host.get("channel=a", "");
    let (head, body) = two.response();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: "), "{head}");
    let error = field(&body, "error");
    assert_eq!((field(&error, "code"), field(&error, "message")), ("full".into(), "max_connections is reached".into()));
    host.stop();
}
