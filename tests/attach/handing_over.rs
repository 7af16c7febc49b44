//! Connections that attached hosts hand over.

use super::{adopt, hub, pair, path, publish, websocket};
use crate::common::{until, Client, Lines};
use push::error::Kind;
use push::Server;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn connections_that_follow_one_another_are_sent_together() {
    let (hub, host) = pair(&[]);
    publish(&host, "a", "before");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let head = "GET /push?channel=a&last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let hand_over = |count: usize| -> Vec<Client> {
        let one = |_| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = OwnedFd::from(listener.accept().unwrap().0);
            host.adopt_more(accepted, head.as_bytes(), None).unwrap();
            Client::over(client)
        };
        (0..count).map(one).collect()
    };
    // There are fewer than go in one message. They wait until a flush, or until another request is sent. After the publish
    // the host's thread may still be about to send: then they go with that.
    let mut waiting = Vec::new();
    let has_waited = (0..100).any(|_| {
        let before = waiting.len() as u64;
        waiting.extend(hand_over(10));
        let waits = hub.server.stats().unwrap().adopted == before;
        host.flush();
        until("they have gone", || hub.server.stats().unwrap().adopted == waiting.len() as u64);
        waits
    });
    assert!(has_waited);
    waiting.extend(hand_over(5));
    publish(&host, "b", "takes them along");
    until("they have gone", || hub.server.stats().unwrap().adopted == waiting.len() as u64);
    // When there are as many connections as one message carries, they do not wait. The host's thread may have taken some
    // of them along before, so fewer than a message full may be left.
    waiting.extend(hand_over(320));
    until("fewer than a message full wait", || hub.server.stats().unwrap().adopted > waiting.len() as u64 - 32);
    host.flush();
    for client in &mut waiting {
        assert!(client.head().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(host.stats().unwrap().adopted, waiting.len() as u64);
}

#[test]
fn a_full_hub_answers_connections_that_were_handed_over() {
    let (_hub, host) = pair(&[("max_connections", "1")]);
    let _first = websocket(&host, "channel=a", None);
    let mut second = adopt(&host, "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n", None);
    assert!(second.head().starts_with("HTTP/1.1 503 "));
    // A status would end an EventSource for good.
    let events = "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    let (head, body) = adopt(&host, events, None).response();
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("event: push-close\n"), "{head}{body}");
}

#[test]
fn many_connections_are_handed_over_in_one_go() {
    let (hub, host) = pair(&[]);
    let head = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients: Vec<_> = (0..200).map(|_| adopt(&host, head, None)).collect();
    for client in &mut clients {
        assert!(client.head().starts_with("HTTP/1.1 200 "));
    }
    until("all are in", || hub.server.stats().unwrap().streams == 200);
    publish(&host, "a", "x");
    for client in &mut clients {
        client.until("\"data\":\"x\"");
    }
}

#[test]
fn a_connection_without_a_grant_is_refused_unless_auth_is_set_to_none() {
    let path = path();
    let hub = hub(&path, &[]);
    let (lines, mut careless) = (Lines::default(), push::Builder::default());
    careless.set("attach", &path).unwrap();
    let into = lines.clone();
    careless.on_log = Some(std::sync::Arc::new(move |_, line| into.lock().unwrap().push(line.to_owned())));
    let careless = Server::start(careless).unwrap();
    let head = "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let try_with = |server: &Server, more: bool| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let adopt = if more { Server::adopt_more } else { Server::adopt };
        adopt(server, theirs.into(), head.as_bytes(), None).map(|()| ours).map_err(|(error, _fd)| error)
    };
    for more in [false, true] {
        let error = try_with(&careless, more).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("auth=none is not set"), "{error}");
    }
    // It is the same in this process. A default does not count as set, but a reload may set it.
    let mut options = push::Builder::default();
    options.set("listen", "none").unwrap();
    let server = Server::start(options.clone()).unwrap();
    assert_eq!(try_with(&server, false).unwrap_err().kind(), Kind::Invalid);
    options.set("auth", "none").unwrap();
    assert_eq!(server.reload(&options).unwrap().changed, ["auth"]);
    try_with(&server, false).unwrap();
    options.set("jwt_secret", &"x".repeat(32)).unwrap();
    options.set("auth", "jwt").unwrap();
    server.reload(&options).unwrap();
    assert_eq!(try_with(&server, true).unwrap_err().kind(), Kind::Invalid);
    server.stop(Duration::ZERO);
    careless.stop(Duration::ZERO);
    hub.stop();
    let said = |line: &String| line.contains("a client from the host is refused: a grant is missing");
    until("the host's log says it", || lines.lock().unwrap().iter().any(said));
}
