//! The limits of one address, of one user and of all together, and the answers to clients beyond them.

mod common;

use common::{eventually, field, tcp_pair, until, Client, Host, UPGRADE};
use push::events::EventKind;
use push::grant::Grant;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

const SSE: &str = "Accept: text/event-stream\r\n";

/// The status of the answer, and its code if it is a refusal.
fn outcome(client: &mut Client) -> (u16, String) {
    let head = client.head();
    let status = head[9..12].parse().unwrap();
    if status < 400 {
        return (status, String::new());
    }
    assert!(status != 429 || head.contains("Retry-After: "), "{head}");
    let body: serde_json::Value = serde_json::from_str(&client.rest()).unwrap();
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

fn too_many(what: &str) -> (u16, String) {
    (429, what.to_owned())
}

const OK: (u16, String) = (200, String::new());

#[test]
fn an_address_has_at_most_max_per_address_connections() {
    let host = Host::start(&[("max_per_address", "2")]);
    let mut open = vec![host.get("channel=a", SSE), host.websocket("channel=a", false)];
    open[0].head();
    assert_eq!(outcome(&mut host.get("channel=a", "")), too_many("max_per_address"));
    assert_eq!(outcome(&mut host.get("channel=a", UPGRADE)), too_many("max_per_address"));
    // An EventSource that should come back must not get an error status.
    let mut sse = host.get("channel=a", SSE);
    assert_eq!(outcome(&mut sse), OK);
    let text = sse.rest();
    assert!(text.contains("retry: ") && text.contains("event: push-close") && text.contains("\"code\":4429"), "{text}");
    drop(open.pop());
    eventually(|| host.server.stats().unwrap().connections == 1);
    assert_eq!(outcome(&mut host.get("channel=a", SSE)), OK);
    host.stop();
}

#[test]
fn connections_without_a_request_count_for_their_address() {
    let host = Host::start(&[("threads", "1"), ("max_per_address", "2"), ("head_timeout", "10m")]);
    let silent: Vec<Client> = (0..50).map(|_| host.connect()).collect();
    // Ten requests are read, so that they are refused in their own way. The rest is refused without being read.
    eventually(|| {
        let stats = host.server.stats().unwrap();
        (stats.refused, stats.connections) == (40, 10)
    });
    // They need not be those who came first: the kernel may complete two handshakes in another order.
    until("not all are told", || silent.iter().filter(|client| client.has_come()).count() == 40);
    let told = silent.into_iter().filter(|client| client.has_come());
    assert!(told.map(|mut client| client.rest()).all(|text| text.starts_with("HTTP/1.1 429 ")));
    eventually(|| host.server.stats().unwrap().connections == 0);
    assert_eq!(outcome(&mut host.get("channel=a", SSE)), OK, "what they had is free again");
    host.stop();
}

#[test]
fn behind_a_trusted_proxy_the_client_counts() {
    let host = Host::start(&[("max_per_address", "1"), ("trusted_proxies", "127.0.0.0/8"), ("poll_timeout", "10m")]);
    let from = |address: &str| host.get("channel=a", &format!("{SSE}X-Forwarded-For: 1.1.1.1, {address}\r\n"));
    let mut open: Vec<Client> = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"].map(from).into();
    for client in &mut open {
        assert_eq!(outcome(client), OK);
        client.until("push-open");
    }
    // The next one is refused in the way of SSE. The text to the left of its address is its own.
    for address in ["192.0.2.1", "192.0.2.1:99", "2001:db8::ffff", "192.0.2.2, 127.0.0.9"] {
        assert!(from(address).rest().contains("4429"), "{address}");
    }
    let poll = |client: &mut Client, address: &str| {
        client.send(
            format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\n\r\n").as_bytes(),
        );
    };
    // A proxy's connection carries requests of several clients. Each counts while it waits.
    let mut proxy = host.connect();
    for address in ["192.0.2.7", "192.0.2.8", "192.0.2.7"] {
        poll(&mut proxy, address);
        eventually(|| host.server.stats().unwrap().polls == 1);
        let mut other = host.connect();
        poll(&mut other, address);
        assert_eq!(outcome(&mut other), too_many("max_per_address"));
        host.publish("a", "x");
        assert!(proxy.response().1.contains("\"data\":\"x\""));
        eventually(|| host.server.stats().unwrap().polls == 0);
    }
    // A proxy that names no client speaks for itself, and is not counted.
    let own: Vec<Client> = (0..3).map(|_| host.websocket("channel=a", false)).collect();
    drop((own, open));
    eventually(|| host.server.stats().unwrap().sse == 0);
    assert_eq!(outcome(&mut from("192.0.2.1")), OK);
    host.stop();
}

#[test]
fn a_stranger_cannot_name_an_address() {
    let one = Host::start(&[("max_per_address", "1")]);
    let two =
        Host::start(&[("max_per_address", "1"), ("trusted_proxies", "127.0.0.1"), ("forwarded_header", "forwarded")]);
    let get = |host: &Host, lines: &str| host.get("channel=a&transport=stream", lines);
    let mut kept = get(&one, "X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(outcome(&mut kept).0, 200);
    assert_eq!(outcome(&mut get(&one, "X-Forwarded-For: 192.0.2.2\r\n")), too_many("max_per_address"));
    // The header that the proxy does not write comes from the client itself.
    let mut kept = get(&two, "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.9\r\n");
    assert_eq!(outcome(&mut kept).0, 200);
    let mut again = get(&two, "Forwarded: for=\"192.0.2.1:80\";proto=https\r\nX-Forwarded-For: 192.0.2.8\r\n");
    assert_eq!(outcome(&mut again), too_many("max_per_address"));
    one.stop();
    two.stop();
}

#[test]
fn connections_that_the_host_hands_over_count_for_their_address() {
    let host = Host::start(&[("max_per_address", "1"), ("trusted_proxies", "unix")]);
    let hand_over = |fd: OwnedFd, lines: &str| {
        let head = format!("GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        host.server
            .adopt(fd, head.as_bytes(), Some(Grant::new(None, &[], &["*".into()], 0, false, false).unwrap()))
            .unwrap();
    };
    let (mut one, fd) = tcp_pair();
    hand_over(fd, "");
    assert_eq!(outcome(&mut one), OK);
    let (mut two, fd) = tcp_pair();
    hand_over(fd, "X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(outcome(&mut two), too_many("max_per_address"));
    let through_unix = |lines: &str| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        hand_over(theirs.into(), lines);
        Client::over(TcpStream::from(OwnedFd::from(ours)))
    };
    let mut first = through_unix("X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(outcome(&mut first), OK);
    assert_eq!(outcome(&mut through_unix("X-Forwarded-For: 192.0.2.1\r\n")), too_many("max_per_address"));
    let unnamed: Vec<Client> = (0..3).map(|_| through_unix("")).collect();
    assert!(unnamed.into_iter().all(|mut client| outcome(&mut client) == OK));
    host.stop();
}

#[test]
fn a_user_has_at_most_max_per_user_subscriptions() {
    let host = Host::start(&[("max_per_user", "2"), ("poll_timeout", "10m")]);
    let open = |user: Option<&str>, transport: &str| {
        let (client, fd) = tcp_pair();
        let head = format!("GET /push?channel=a&transport={transport} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        host.server
            .adopt(fd, head.as_bytes(), Some(Grant::new(user, &[], &["*".into()], 0, false, true).unwrap()))
            .unwrap();
        client
    };
    let mut stream = open(Some("ann"), "stream");
    assert_eq!(outcome(&mut stream), OK);
    let mut poll = open(Some("ann"), "poll");
    eventually(|| host.server.stats().unwrap().polls == 1);
    assert_eq!(outcome(&mut open(Some("ann"), "stream")), too_many("max_per_user"));
    assert!(open(Some("ann"), "sse").rest().contains("max_per_user"));
    assert_eq!(outcome(&mut open(Some("bob"), "stream")), OK);
    let nobody: Vec<Client> = (0..3).map(|_| open(None, "stream")).collect();
    assert!(nobody.into_iter().all(|mut client| outcome(&mut client) == OK));
    // A poll that was answered does not count, though its connection stays.
    host.publish("a", "x");
    assert!(poll.response().0.contains(" 200 "));
    let mut second = open(Some("ann"), "stream");
    assert_eq!(outcome(&mut second), OK);
    drop(stream);
    eventually(|| host.server.stats().unwrap().streams == 1);
    assert_eq!(outcome(&mut open(Some("ann"), "stream")), OK);
    host.stop();
}

#[test]
fn a_new_grant_for_another_user_moves_the_count() {
    let host = Host::start(&[("max_per_user", "1"), ("threads", "1")]);
    host.server.event_fd().unwrap();
    let grant = |user| Grant::new(user, &[], &["*".into()], 0, false, false).unwrap();
    let open = |user| {
        let (client, fd) = tcp_pair();
        let head = b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        host.server.adopt(fd, head, Some(grant(user))).unwrap();
        client
    };
    let mut guest = open(None);
    assert_eq!(outcome(&mut guest), OK);
    let event = host.server.next_event(Some(common::PATIENCE)).unwrap();
    assert_eq!(event.kind, EventKind::Open);
    host.server.renew(event.connection, grant(Some("ann"))).unwrap();
    assert_eq!(outcome(&mut open(Some("ann"))), too_many("max_per_user"));
    host.server.renew(event.connection, grant(Some("bob"))).unwrap();
    let mut ann = open(Some("ann"));
    assert_eq!(outcome(&mut ann), OK);
    assert_eq!(outcome(&mut open(Some("bob"))), too_many("max_per_user"));
    drop(guest);
    eventually(|| host.server.stats().unwrap().streams == 1);
    assert_eq!(outcome(&mut open(Some("bob"))), OK);
    host.stop();
}

/// A PROXY header of version 2 from an IPv4 address.
fn v2(source: [u8; 4]) -> Vec<u8> {
    let block = [&source[..], &[127, 0, 0, 1], &[0x10, 0, 0, 80]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &block[..]].concat()
}

#[test]
fn a_proxy_header_gives_the_address_of_the_client() {
    let proxied = [("proxy_protocol", "true"), ("trusted_proxies", "127.0.0.1, 10.0.0.0/8"), ("max_per_address", "1")];
    let host = Host::start(&[&proxied[..], &[("head_timeout", "10m")]].concat());
    let request = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n";
    let get = |header: &[u8], lines: &str| {
        let mut client = host.connect();
        client.send(&[header, request.as_bytes(), lines.as_bytes(), b"\r\n"].concat());
        client
    };
    let mut open = [
        get(b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n", ""),
        get(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", ""),
        get(&v2([192, 0, 2, 2]), ""),
        // This comes through another trusted proxy, which writes the HTTP header.
        get(&v2([10, 1, 1, 1]), "X-Forwarded-For: 192.0.2.3\r\n"),
    ];
    assert!(open.iter_mut().all(|client| outcome(client) == OK));
    let again = [
        get(&v2([192, 0, 2, 1]), ""),
        get(b"PROXY TCP6 2001:db8::2 ::1 1 2\r\n", "X-Forwarded-For: 9.9.9.9\r\n"),
        get(&v2([192, 0, 2, 2]), ""),
        get(b"PROXY TCP4 192.0.2.3 127.0.0.1 1 2\r\n", ""),
    ];
    assert!(again.into_iter().all(|mut client| outcome(&mut client) == too_many("max_per_address")));
    // The header comes byte by byte, together with the request.
    let mut slow = host.connect();
    for byte in [&v2([192, 0, 2, 4])[..], request.as_bytes(), b"\r\n"].concat() {
        slow.send(&[byte]);
    }
    assert_eq!(outcome(&mut slow), OK);
    // The proxy connects for itself, as for a health check, and no limit applies.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let checks: Vec<Client> = (0..3).map(|n| get(if n == 0 { b"PROXY UNKNOWN\r\n" } else { local }, "")).collect();
    assert!(checks.into_iter().all(|mut client| outcome(&mut client) == OK));
    for (what, bytes) in
        [("none", &b""[..]), ("a bad one", b"PROXY TCP4 192.0.2.9\r\n"), ("two", b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n")]
    {
        assert_eq!(outcome(&mut get(bytes, "")).0, 400, "{what}");
    }
    host.stop();
}

#[test]
fn a_proxy_header_is_taken_from_trusted_proxies_only() {
    let host = Host::start(&[("proxy_protocol", "true"), ("trusted_proxies", "192.0.2.1, unix")]);
    let mut client = host.connect();
    client.send(b"PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\nGET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.rest(), "", "nobody is heard who is no proxy");
    assert_eq!(host.server.stats().unwrap().accepted, 1);
    // A connection that the host hands over has no such header: the host has read it.
    let (mut adopted, fd) = tcp_pair();
    let head = b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    host.server.adopt(fd, head, None).unwrap();
    assert_eq!(outcome(&mut adopted), OK);
    host.stop();
    let mut builder = push::Builder::default();
    builder.set("proxy_protocol", "true").unwrap();
    assert_eq!(builder.build().unwrap_err().kind(), push::Kind::Config, "everybody could name himself as he likes");
}

#[test]
fn connections_beyond_connect_rate_are_refused() {
    for (options, header) in [
        (&[("connect_rate", "1")][..], ""),
        (&[("connect_rate_per_address", "1")], ""),
        (&[("connect_rate_per_address", "1"), ("trusted_proxies", "127.0.0.1")], "X-Forwarded-For: 192.0.2.1\r\n"),
    ] {
        let host = Host::start(options);
        let one = || outcome(&mut host.get("channel=a&transport=stream", header));
        assert_eq!(one(), OK);
        // Each one comes well within a second after the one before it.
        let refused = std::iter::repeat_with(one).take(100).find(|outcome| *outcome != OK);
        assert_eq!(refused, Some(too_many("connect_rate")));
        eventually(|| one() == OK);
        host.stop();
    }
}

#[test]
fn a_client_that_sends_fast_is_read_slowly_and_loses_nothing() {
    let host = Host::start(&[("client_rate", "100"), ("threads", "1")]);
    host.server.event_fd().unwrap();
    let mut fast = host.websocket("channel=a", false);
    let mut other = host.websocket("channel=a", false);
    for n in 0..400 {
        fast.say(&n.to_string());
    }
    other.say("me");
    let message = || {
        let events = std::iter::repeat_with(|| host.server.next_event(Some(common::PATIENCE)).unwrap());
        let mut messages = events.filter(|event| event.kind == EventKind::Message);
        String::from_utf8(messages.next().unwrap().data.to_vec()).unwrap()
    };
    let came: Vec<String> = std::iter::repeat_with(message).take(401).collect();
    let fast_ones: Vec<&String> = came.iter().filter(|text| *text != "me").collect();
    assert!(fast_ones.iter().enumerate().all(|(n, text)| **text == n.to_string()), "all of them, in order");
    assert_eq!(fast_ones.len(), 400);
    drop(fast);
    eventually(|| host.server.stats().unwrap().websockets == 1);
    host.stop();
}

#[test]
fn a_client_that_floods_is_closed() {
    for first in [0x81, 0x89] {
        let host = Host::start(&[("client_rate", "1")]);
        let mut client = host.websocket("channel=a", true);
        client.text();
        let frame = [&[first, 0x8f, 0, 0, 0, 0][..], br#"{"type":"ping"}"#].concat();
        client.send(&frame.repeat(50));
        let (code, reason) = client.end();
        assert_eq!(code, 4429);
        assert!(reason.contains("client_rate"), "{reason}");
        host.stop();
    }
}

#[test]
fn tokens_are_not_verified_as_often_as_messages_come() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let host = Host::start(&[("auth", "jwt"), ("jwt_secret", SECRET)]);
    let claims = serde_json::json!({"exp": 4_000_000_000_u64, "push.subscribe": ["a"]});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let mut client = host.websocket(&format!("channel=a&token={token}"), true);
    client.text();
    // A few tokens at once are allowed. 300 of them, thirty seconds' worth, are not, though 300 messages would be.
    let renew = format!(r#"{{"type":"token","token":"{token}"}}"#);
    for _ in 0..5 {
        client.say(&renew);
        assert_eq!(field(&client.text(), "type"), "token");
    }
    // All at once: what comes in thirty seconds may be allowed.
    client.send(&common::masked::frame(0x81, renew.as_bytes(), [1, 2, 3, 4]).repeat(300));
    assert_eq!(client.end().0, 4429);
    host.stop();
}

#[test]
fn all_slow_clients_together_hold_at_most_outbox_total() {
    let total = 2 << 20;
    let host = Host::start(&[("threads", "1"), ("outbox", "1MB"), ("outbox_total", "2MB"), ("history_count", "0")]);
    let stalled: Vec<Client> = (0..8).map(|_| host.websocket("channel=a", false)).collect();
    let mut reader = host.websocket("channel=a", false);
    let payload = "x".repeat(60_000);
    while host.server.stats().unwrap().slow_closed < stalled.len() as u64 {
        host.publish("a", &payload);
        assert_eq!(reader.text().len(), payload.len(), "who reads is not held up");
        let waiting = host.server.stats().unwrap().outbox_bytes;
        assert!(waiting <= total + (stalled.len() * payload.len()) as u64, "{waiting}");
    }
    host.stop();
}

#[test]
fn the_client_with_the_most_waiting_gives_way_first() {
    let host = Host::start(&[("threads", "1"), ("outbox", "64MB"), ("outbox_total", "8MB"), ("history_count", "0")]);
    let mut names: Vec<(String, Client)> = Vec::new();
    for name in ["much", "little"] {
        names.push((name.into(), host.websocket(&format!("channel={name}"), true)));
    }
    let payload = "x".repeat(60_000);
    // They are sent one by one, since a batch is counted only at its end.
    let stats = || host.server.stats().unwrap();
    let publish = |channel| {
        host.publish(channel, &payload);
        eventually(|| stats().deliveries == stats().published);
    };
    while stats().outbox_bytes == 0 {
        publish("little");
    }
    while stats().slow_closed == 0 {
        publish("much");
    }
    host.publish("little", "the last");
    let (_, mut little) = names.pop().unwrap();
    while !little.text().contains("the last") {}
    assert_eq!(host.server.stats().unwrap().slow_closed, 1);
    host.stop();
}

#[test]
fn the_limits_are_off_by_default() {
    let host = Host::start(&[]);
    let open: Vec<Client> = (0..200).map(|_| host.websocket("channel=a", false)).collect();
    assert_eq!(host.server.stats().unwrap().websockets, open.len() as u64);
    assert_eq!(field(&format!("{{\"refused\":{}}}", host.server.stats().unwrap().refused), "refused"), "0");
    host.stop();
}
