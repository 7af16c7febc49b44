//! Hosts attached to a hub: they publish, hand over clients and get events, also when one side goes away.

#[path = "../common/mod.rs"]
mod common;

mod away;
mod calls;
mod events;
mod handing_over;
mod strangers;
mod to_users;

use common::{attached, socket_path, Client, Host, UPGRADE};
use push::grant::Grant;
use push::hub::Publication;
use push::Server;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

/// The option that names a socket for this test alone.
fn path() -> String {
    format!("unix:{}", socket_path())
}

fn hub(path: &str, options: &[(&str, &str)]) -> Host {
    Host::start(&[&[("attach_listen", path)], options].concat())
}

/// A client. A host has accepted its connection, read `head` from it, and handed it over.
fn adopt(server: &Server, head: &str, grant: Option<Grant>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    server.adopt(OwnedFd::from(accepted), head.as_bytes(), grant).unwrap();
    Client::over(client)
}

fn websocket(server: &Server, query: &str, grant: Option<Grant>) -> Client {
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
    // The host reads half of it, and the hub the other half.
    let (read, unread) = head.split_at(20);
    let mut client = adopt(server, read, grant);
    client.send(unread.as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

fn publish(server: &Server, channel: &str, data: &str) -> String {
    let placed = server.publish(&Publication::new(channel, data.as_bytes())).unwrap();
    server.position_of(&placed)
}
