//! The walk-through of docs/operating.md, "one client is slow: which, why, what to do".

use super::common::{metrics, until, Client, Host};
use super::{hub, json, told};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};

/// A client with a small receive buffer, which reads only the head.
fn lazy(host: &Host, query: &str) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.connect(&host.address().parse::<SocketAddr>().unwrap().into()).unwrap();
    let mut client = Client::over(TcpStream::from(socket));
    client.send(format!("GET /push?{query}&transport=sse HTTP/1.1\r\nHost: {}\r\n\r\n", host.address()).as_bytes());
    client.head();
    client
}

#[test]
fn one_client_is_slow_which_why_and_what_to_do() {
    let (host, at) = hub(&[("outbox", "64MB")]);
    let mut good = host.websocket("channel=prices", false);
    let slow = lazy(&host, "channel=prices&channel=news");
    let payload = "x".repeat(1 << 20);
    (0..24).for_each(|_| drop(host.publish("prices", &payload)));

    // The alert: clients are behind.
    let path = at.strip_prefix("unix:").unwrap();
    let gauge = |name: &str| {
        let text = metrics(path);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
        line.unwrap_or_else(|| panic!("{name}: {text}"))
    };
    for _ in 0..24 {
        assert_eq!(good.next_frame().1.len(), payload.len());
    }
    until("one is behind", || gauge("push_outboxes") == 1 && gauge("push_outbox_bytes") > 8 << 20);

    // Which?
    until("it has been so for a while", || {
        json(&at, &["connections", "--slow"])["connections"][0]["behind_ms"].as_u64() > Some(200)
    });
    let list = told(&at, &["connections", "--slow", "--limit", "10"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    let id = row[0];
    assert!(row[2] == "MB" && row.ends_with(&["127.0.0.1", "sse", "prices,news"]), "{row:?}");

    // Why? It reads nothing, while others on the channel are not behind: so it is not the hub, and not the channel.
    let of_channel = json(&at, &["connections", "--channel", "prices"]);
    let behind = of_channel["connections"].as_array().unwrap().iter().filter(|row| row["waiting"] != 0).count();
    assert_eq!((of_channel["count"].as_u64(), behind), (Some(2), 1));
    let channels = told(&at, &["channels", "prices"]);
    assert!(channels.lines().nth(1).unwrap().starts_with("prices "), "{channels}");

    // What to do: it comes back by itself, with its position.
    assert_eq!(told(&at, &["kick", id, "--code", "4000", "--reason", "slow"]), format!("{id} is closed\n"));
    drop(slow);
    until("nobody is behind", || gauge("push_outboxes") == 0 && json(&at, &["connections", "--slow"])["count"] == 0);
    host.publish("prices", "the others go on");
    assert_eq!(good.text(), "the others go on");
    host.stop();
}
