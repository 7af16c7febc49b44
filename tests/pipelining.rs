//! A slow client sends polls over TCP before it has the answer to the poll before.

mod common;

use common::{eventually, Client, Host, PATIENCE};
use push::hub::Publication;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;

const LARGE: usize = 8 << 20;

/// A client with a small receive buffer.
fn slow(host: &Host) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    let address: SocketAddr = host.address().parse().unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    Client::over(socket.into())
}

fn poll(channel: &str) -> String {
    format!("GET /push?channel={channel} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn subscriptions(host: &Host) -> u64 {
    host.server.stats().unwrap().subscriptions
}

/// The channel of an answer's only message, and the message's length.
fn answer(client: &mut Client) -> (String, usize) {
    let (head, body) = client.response();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let [message] = &body["messages"].as_array().unwrap()[..] else { panic!("{head}") };
    (message["channel"].as_str().unwrap().into(), message["data"].as_str().unwrap().len())
}

#[test]
fn polls_behind_one_with_an_answer_larger_than_the_socket_takes_are_answered_in_order() {
    let host = Host::start(&[("max_message", "16MB"), ("outbox", "16MB")]);
    // The part of the third poll that comes at once: none, half a head, all.
    for early in [0, 20, usize::MAX] {
        eventually(|| subscriptions(&host) == 0);
        let mut client = slow(&host);
        let third = poll("c");
        let (at_once, later) = third.as_bytes().split_at(early.min(third.len()));
        client.send(&[poll("a").as_bytes(), poll("b").as_bytes(), at_once].concat());
        eventually(|| subscriptions(&host) == 1);
        let data = "x".repeat(LARGE);
        host.server.publish(&Publication::new("a", data.as_bytes())).unwrap();
        // The first poll is answered, but the answer is not read. The next poll's turn has not come.
        eventually(|| subscriptions(&host) == 0);
        client.send(later);
        assert_eq!(answer(&mut client), ("a".into(), LARGE));
        for channel in ["b", "c"] {
            // Wait until the poll waits there, so that earlier messages are no answer to it.
            eventually(|| host.server.publish(&Publication::new(channel, b"y")).unwrap().subscribers == 1);
            assert_eq!(answer(&mut client), (channel.into(), 1));
        }
    }
    host.stop();
}

#[test]
fn an_empty_body_in_chunks_belongs_to_its_request_however_it_comes() {
    let host = Host::start(&[("head_timeout", "60s")]);
    let one = "GET /push?channel=a&wait=0 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let behind = "GET /push?channel=b&wait=0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let both = format!("{one}{behind}");
    for cut in [one.len() - 6, one.len() - 5, one.len() - 4, one.len() - 1, one.len(), both.len()] {
        let mut client = host.connect();
        client.send(&both.as_bytes()[..cut]);
        if cut < one.len() {
            // The end of the head has to come before the poll is answered.
            client.stream.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
            assert!(std::io::Read::read(&mut client.stream, &mut [0]).is_err(), "{cut}");
            client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.send(&both.as_bytes()[cut..]);
        for _ in 0..2 {
            assert!(client.response().0.starts_with("HTTP/1.1 200 "), "{cut}");
        }
    }
    host.stop();
}
