//! The places for connections: nobody is kept out by others that send nothing, or keep what they have.

use super::common::{self, until, Client, Host, Lines, CONTROL};
use super::tail::Tail;
use super::{ask, post};
use std::net::TcpStream;

#[test]
fn silent_connections_keep_nobody_out() {
    push::process::raise_descriptors().unwrap();
    let host = Host::start(&[("control", "127.0.0.1:0"), CONTROL[1], ("head_timeout", "10m")]);
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(&host.server.addresses()[1]).unwrap()).collect();
    assert_eq!(post(&host, "/v1/publish?channel=a", "x").0, 200);
    let metrics = ask(&host, "GET", "/metrics", "", b"").1;
    let gave_way = common::counted(&metrics, "push_refusals_total");
    assert!(gave_way.len() == 1 && gave_way[0].0 == "busy" && gave_way[0].1 >= 45, "{gave_way:?}");
    drop(silent);
    host.stop();
}

const PUBLISH: &str = "POST /v1/publish?channel=a HTTP/1.1\r\nHost: localhost\r\n";

fn key() -> String {
    format!("Authorization: Bearer {}\r\n", CONTROL[1].1)
}

/// Publishes over a connection that stays open.
fn publish(client: &mut Client) {
    client.send(format!("{PUBLISH}{}Content-Length: 1\r\n\r\nx", key()).as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.until("}\n");
}

fn logged(lines: &Lines, part: &str) -> bool {
    lines.lock().unwrap().iter().any(|line| line.contains(part))
}

#[test]
fn connections_that_are_kept_between_requests_keep_nobody_out() {
    push::process::raise_descriptors().unwrap();
    // A connection may also be idle for so long.
    let (host, lines) = Host::logged(&[CONTROL[0], CONTROL[1], ("head_timeout", "10m")]);
    let connect = || Client::over(TcpStream::connect(&host.server.addresses()[1]).unwrap());
    // Its request does not end, so it stays, though it is the oldest.
    let mut tail = Tail::begin(&host, "channel=a");
    let mut kept: Vec<Client> = (0..255).map(|_| connect()).collect();
    kept.iter_mut().for_each(publish);
    assert_eq!(post(&host, "/v1/publish?channel=a", "x").0, 200);
    assert_eq!(kept[0].rest(), "", "the one that has been idle for longest is closed");
    let told = "Info control API: 256 connections were open, and this one was idle (address 127.0.0.1)";
    until("the log says so", || logged(&lines, told));
    let metrics = ask(&host, "GET", "/metrics", "", b"").1;
    let gave_way = common::counted(&metrics, "push_refusals_total");
    assert!(gave_way.len() == 1 && gave_way[0].0 == "busy", "{gave_way:?}");
    // The others are served as before.
    kept[100..].iter_mut().for_each(publish);
    assert_eq!(tail.message()["data"], "x");
    host.stop();
}

#[test]
fn while_all_have_requests_in_progress_one_more_waits_and_the_log_says_so() {
    push::process::raise_descriptors().unwrap();
    let (host, lines) = Host::logged(&[CONTROL[0], CONTROL[1], ("head_timeout", "10m")]);
    let connect = || Client::over(TcpStream::connect(&host.server.addresses()[1]).unwrap());
    let mut busy: Vec<Client> = (0..256).map(|_| connect()).collect();
    // All at once: a body has half a minute to come.
    for client in &mut busy {
        client.send(format!("{PUBLISH}{}Expect: 100-continue\r\nContent-Length: 1\r\n\r\n", key()).as_bytes());
    }
    for client in &mut busy {
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 100 "), "{head}");
    }
    let mut late = connect();
    late.send(format!("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n{}\r\n", key()).as_bytes());
    let told = "Warn control API: 256 requests are in progress, and a connection waits for the end of one (address";
    until("it waits", || logged(&lines, told));
    assert!(!late.has_come());
    // The first one is answered, and makes room.
    busy[0].send(b"x");
    assert!(busy[0].head().starts_with("HTTP/1.1 200 "));
    busy[0].until("}\n");
    assert!(late.head().starts_with("HTTP/1.1 200 "));
    assert_eq!(busy[0].rest(), "");
    // Whoever is in the middle of a request is not disturbed.
    busy[200].send(b"x");
    assert!(busy[200].head().starts_with("HTTP/1.1 200 "));
    host.stop();
}
