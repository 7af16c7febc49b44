//! Connections that attached hosts hand over.

use super::{adopt, attached, hub, path, publish, websocket};
use crate::common::{until, Client};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

#[test]
fn connections_that_follow_one_another_are_sent_together() {
    let path = path();
    let hub = hub(&path, &[]);
    let host = attached(&path, &[]);
    publish(&host, "a", "before");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let head = "GET /push?channel=a&last=1 HTTP/1.1\r\nHost: h\r\n\r\n";
    let hand_over = |count: usize| -> Vec<Client> {
        let one = |_| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = OwnedFd::from(listener.accept().unwrap().0);
            host.adopt_more(accepted, head.as_bytes(), None).unwrap();
            Client::over(client)
        };
        (0..count).map(one).collect()
    };
    // Fewer than go at once: they wait until they are told to go, or something else does.
    let mut waiting = hand_over(10);
    assert_eq!(hub.server.stats().unwrap().adopted, 0);
    host.flush();
    waiting.extend(hand_over(5));
    publish(&host, "b", "takes them along");
    // As many as go at once do not wait.
    waiting.extend(hand_over(32));
    for client in &mut waiting {
        assert!(client.head().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(host.stats().unwrap().adopted, 47);
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn a_full_hub_answers_what_was_handed_over() {
    let path = path();
    let hub = hub(&path, &[("max_connections", "1")]);
    let host = attached(&path, &[]);
    let _first = websocket(&host, "channel=a", None);
    let mut second = adopt(&host, "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n", None);
    assert!(second.head().starts_with("HTTP/1.1 503 "));
    // Which would end an EventSource for good.
    let events = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n";
    let (head, body) = adopt(&host, events, None).response();
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("event: push-close\n"), "{head}{body}");
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn many_connections_are_handed_over_in_one_go() {
    let path = path();
    let hub = hub(&path, &[]);
    let host = attached(&path, &[]);
    let head = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut clients: Vec<_> = (0..200).map(|_| adopt(&host, head, None)).collect();
    for client in &mut clients {
        assert!(client.head().starts_with("HTTP/1.1 200 "));
    }
    until("all are in", || hub.server.stats().unwrap().streams == 200);
    publish(&host, "a", "x");
    for client in &mut clients {
        client.until("\"data\":\"x\"");
    }
    host.stop(Duration::ZERO);
    hub.stop();
}
