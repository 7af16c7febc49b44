//! One hostile client sends many, tiny, huge, endless or nested things. It gets what its bounds allow, and other
//! clients are not affected. The option `client_rate` would slow it down. It is off in tests where it would hide the
//! effect. `make abuse` does the same with thousands of clients, and measures it.

mod common;

use common::{field, Client, Host, UPGRADE};
use jsonwebtoken::{encode, Algorithm, EncodingKey, Header};
use std::io::Write;

/// Checks that other clients are served as usual.
fn others_are_served(host: &Host) {
    let mut other = host.websocket("channel=others", false);
    host.publish("others", "as ever");
    // Where heartbeats are short, a ping may have come before.
    let first = std::iter::repeat_with(|| other.next_frame()).find(|(first, _)| *first != 0x89);
    assert_eq!(first, Some((0x81, b"as ever".to_vec())));
}

/// A server that lets its clients send as fast as they can, and one of them.
fn unlimited() -> (Host, Client) {
    let host = Host::start(&[("client_rate", "0")]);
    let client = host.websocket("channel=a", false);
    (host, client)
}

/// Checks that all is read that the client has sent, and that others are served.
fn is_read(client: &mut Client, host: &Host) {
    client.frame(0x89, b"alive");
    assert_eq!(client.next_frame(), (0x8a, b"alive".to_vec()));
    others_are_served(host);
}

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    common::masked::frame(first, payload, [0; 4])
}

/// Sends the same bytes again and again from a thread of its own, until all are sent or the server ends the connection.
fn flood(client: &Client, bytes: Vec<u8>, times: usize) -> std::thread::JoinHandle<bool> {
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || (0..times).all(|_| stream.write_all(&bytes).is_ok()))
}

#[test]
fn a_hundred_thousand_pings_are_answered_in_order() {
    let (host, mut client) = unlimited();
    let pings: Vec<u8> = (0..1000u32).flat_map(|n| frame(0x89, &n.to_be_bytes())).collect();
    let sent = flood(&client, pings, 100);
    for n in 0..100_000u32 {
        let (first, payload) = client.next_frame();
        assert_eq!((first, payload), (0x8a, (n % 1000).to_be_bytes().to_vec()));
    }
    assert!(sent.join().unwrap());
    others_are_served(&host);
    host.stop();
}

#[test]
fn pongs_that_nobody_reads_end_the_connection() {
    // Its outbox becomes too large, or it is not read from any more before that. Then a heartbeat ends it.
    let host = Host::start(&[("outbox", "64KB"), ("client_rate", "0"), ("heartbeat", "2s")]);
    let client = host.websocket("channel=a", false);
    let sent = flood(&client, frame(0x89, &[b'x'; 125]).repeat(500), 1_000_000);
    others_are_served(&host);
    assert!(!sent.join().unwrap(), "500 million pings were accepted from a client that reads no pongs");
    others_are_served(&host);
    host.stop();
}

#[test]
fn a_quarter_million_messages_of_one_byte_are_read() {
    let (host, mut client) = unlimited();
    assert!(flood(&client, frame(0x81, b"x").repeat(1000), 250).join().unwrap());
    is_read(&mut client, &host);
    host.stop();
}

#[test]
fn endless_fragments_are_bounded_or_cost_nothing() {
    let (host, mut client) = unlimited();
    // Fragments of one byte: the message becomes too large.
    let _ = flood(&client, [frame(0x01, b"x"), frame(0x00, b"x").repeat(70_000)].concat(), 1);
    assert_eq!(client.close_code(), 1009);
    // Empty fragments: they take no memory.
    let mut client = host.websocket("channel=a", false);
    client.send(&frame(0x01, b"x"));
    assert!(flood(&client, frame(0x00, b"").repeat(1000), 250).join().unwrap());
    is_read(&mut client, &host);
    host.stop();
}

#[test]
fn announcing_a_large_frame_takes_no_memory() {
    let host = Host::start(&[("max_client_message", "64MB")]);
    let announced = |len: u64| [&[0x82, 0x80 | 127], &len.to_be_bytes()[..], &[0; 4]].concat();
    let mut clients: Vec<_> = (0..200).map(|_| host.websocket("channel=a", false)).collect();
    let before = resident_kb();
    for client in &mut clients {
        client.send(&announced(64 << 20));
        client.send(&[b'x'; 100]);
        client.frame(0x89, b"");
    }
    others_are_served(&host);
    assert!(resident_kb() < before + 200_000, "200 clients announced 64 MB each and got it");
    let mut client = host.websocket("channel=a", false);
    client.send(&announced(u64::MAX >> 1));
    assert_eq!(client.close_code(), 1009);
    host.stop();
}

fn resident_kb() -> usize {
    status_kb("VmRSS:")
}

/// A value of this process's status, in kB (proc(5)).
fn status_kb(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_hundred_thousand_channel_names_are_forgotten() {
    let host = Host::start(&[("client_rate", "0"), ("history_total", "1MB"), ("history_count", "10")]);
    for n in 0..100_000 {
        host.publish(&format!("name {n}"), "x");
    }
    let stats = host.server.stats().unwrap();
    assert!(stats.history_bytes <= 1 << 20 && stats.channels < 10_000, "{stats:?}");
    // A client subscribes to new channels all the time, and leaves them.
    let mut client = host.websocket("channel=a", true);
    client.text();
    for n in 0..5_000 {
        client.say(&format!(r#"{{"type":"subscribe","channel":"new {n}"}}"#));
        client.say(&format!(r#"{{"type":"unsubscribe","channel":"new {n}"}}"#));
        assert_eq!(field(&client.text(), "type"), "subscribed");
        assert_eq!(field(&client.text(), "type"), "unsubscribed");
    }
    // The shard counts the last leave at the end of the turn in which it answered.
    while host.server.stats().unwrap().subscriptions > 1 {
        std::thread::yield_now();
    }
    assert!(host.server.stats().unwrap().channels < 10_000);
    host.stop();
}

#[test]
fn deeply_nested_json_is_refused_everywhere() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let host = Host::start(&[("control", "127.0.0.1:0"), ("control_key", SECRET)]);
    let mut client = host.websocket("channel=a", true);
    client.text();
    let deep = "[".repeat(60_000);
    for text in [
        deep.clone(),
        format!(r#"{{"type":{deep}"#),
        format!(r#"{{"type":"subscribe","channel":{deep}"#),
        format!(r#"{{"x":{deep},"type":"ping"}}"#),
        r#"{"a":"#.repeat(10_000),
    ] {
        client.say(&text);
        assert_eq!(field(&client.text(), "code"), "malformed");
    }
    let control = host.server.addresses()[1].clone();
    let ask = |body: &str| {
        let mut client = Client::over(std::net::TcpStream::connect(&control).unwrap());
        let head = format!(
            "POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n"
        );
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        client.rest()
    };
    let item = r#"{"channel":"a","data":""},"#;
    for (body, says) in [
        (&*"[".repeat(1 << 20), "not a JSON array"),
        (&*format!(r#"[{{"channel":"a","data":"","x":{deep}"#), "unknown member x"),
        // Small messages, which would take much more memory than their text.
        (&*format!("[{}", item.repeat(40_000)), "at most 8192 messages"),
    ] {
        let answer = ask(body);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(says), "{says}: {answer}");
    }
    host.stop();

    let host = Host::start(&[("auth", "jwt"), ("jwt_secret", SECRET)]);
    let claims = format!(r#"{{"exp":9999999999,"push":{{"subscribe":{}{}}}}}"#, "[".repeat(100), "]".repeat(100));
    let claims: serde_json::Value = serde_json::from_str(&claims).unwrap();
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    for token in [token, format!("{}.{}.x", "e".repeat(4000), "W".repeat(4000))] {
        let (head, _) = host.get(&format!("channel=a&token={token}"), "").response();
        assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    }
    host.stop();
}

#[test]
fn unknown_fields_of_a_request_take_no_memory() {
    let host = Host::start(&[("max_client_message", "8MB")]);
    let mut client = host.websocket("channel=a", true);
    client.text();
    let most = || status_kb("VmHWM:");
    let before = most();
    // 4 MB of JSON. Every four bytes of it are an array with one value.
    let values = "[0],".repeat(1 << 20);
    client.say(&format!(r#"{{"x":[{values}0],"type":"ping"}}"#));
    assert_eq!(field(&client.text(), "type"), "pong");
    assert!(most() < before + 100_000, "4 MB of values became {} kB", most() - before);
    host.stop();
}

#[test]
fn nothing_is_decompressed_without_the_option() {
    let host = Host::start(&[("control", "127.0.0.1:0"), ("control_key", "0123456789abcdef")]);
    let mut client = host.get("channel=a", &format!("{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.to_lowercase().contains("sec-websocket-extensions"), "{head}");
    // The client sends a compressed frame although it has not agreed to compression.
    client.send(&frame(0xc1, b"\x00"));
    assert_eq!(client.close_code(), 1002);
    // A compressed body is not decompressed, and is not published as it is.
    let mut control = Client::over(std::net::TcpStream::connect(&host.server.addresses()[1]).unwrap());
    let bomb = b"\x1f\x8b\x08\0\0\0\0\0";
    let head = "POST /v1/publish?channel=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\nContent-Encoding: gzip\r\n";
    control.send(
        format!("{head}Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n", bomb.len()).as_bytes(),
    );
    control.send(bomb);
    assert!(control.head().starts_with("HTTP/1.1 415 "));
    assert_eq!(host.server.stats().unwrap().published, 0);
    host.stop();
}

#[test]
fn a_request_behind_a_refused_one_is_never_served() {
    let host = Host::start(&[]);
    host.publish("secret", "x");
    let framings = [
        "Content-Length: 50\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 50\r\n",
        "Content-Length: +0\r\n",
        "Host: other\r\n",
    ];
    for framing in framings {
        let mut client = host.get("channel=a", framing);
        client.send(b"0\r\n\r\nGET /push?channel=secret&last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{framing:?}: {answer}");
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{framing:?}: {answer}");
        assert!(answer.contains("Connection: close"), "{framing:?}: {answer}");
    }
    host.stop();
}

#[test]
fn clients_that_are_all_cut_off_recover_all_at_once() {
    const CLIENTS: usize = 300;
    let host = Host::start(&[]);
    let start = host.server.position(0);
    let mut crowd: Vec<_> = (0..CLIENTS).map(|_| host.websocket(&format!("channel=a&since={start}"), true)).collect();
    crowd.iter_mut().for_each(|client| assert_eq!(field(&client.text(), "type"), "subscribed"));
    let mut last = start;
    for round in 0..3 {
        drop(std::mem::take(&mut crowd));
        let missed: Vec<_> = (0..20).map(|n| host.publish("a", &format!("{round}.{n}"))).collect();
        crowd = (0..CLIENTS)
            .map(|_| {
                host.get(
                    &format!("channel=a&since={last}"),
                    &format!("{UPGRADE}Sec-WebSocket-Protocol: push.v1.json\r\n"),
                )
            })
            .collect();
        for client in &mut crowd {
            client.head();
            for (n, id) in missed.iter().enumerate() {
                let text = client.text();
                assert_eq!((field(&text, "data"), &field(&text, "id")), (format!("{round}.{n}"), id));
            }
            assert_eq!(field(&client.text(), "type"), "subscribed");
        }
        last.clone_from(&missed[19]);
    }
    host.stop();
}
