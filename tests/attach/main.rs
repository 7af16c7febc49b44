//! Hosts attached to a hub: they publish, hand over clients and get events, also when one side goes away.

#[path = "../common/mod.rs"]
mod common;

mod away;
mod calls;
mod events;
mod except;
mod handing_over;
mod info;
mod presence;
mod strangers;
mod to_users;

use common::{adopted as adopt, socket_path, Client, Host, Lines, UPGRADE};
use push::grant::Grant;
use push::hub::Publication;
use push::Server;
use std::ops::Deref;
use std::time::Duration;

/// The option that names a socket for this test alone.
fn path() -> String {
    format!("unix:{}", socket_path())
}

/// A hub or a host, which ends with its test. It may also be ended before.
struct Ending<T> {
    running: Option<T>,
    end: fn(T),
}

type Hub = Ending<Host>;

type Attached = Ending<Server>;

impl Hub {
    fn stop(self) {
        drop(self);
    }
}

impl Attached {
    fn stop(mut self, drain: Duration) {
        self.running.take().unwrap().stop(drain);
    }
}

impl<T> Deref for Ending<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.running.as_ref().unwrap()
    }
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        match self.running.take() {
            // A test that has failed says so at once.
            Some(server) if !std::thread::panicking() => (self.end)(server),
            _ => {}
        }
    }
}

fn hub(path: &str, options: &[(&str, &str)]) -> Hub {
    Ending { running: Some(Host::start(&[&[("attach_listen", path)], options].concat())), end: Host::stop }
}

/// A hub, with its log.
fn logged_hub(path: &str, options: &[(&str, &str)]) -> (Hub, Lines) {
    let (host, lines) = Host::logged(&[&[("attach_listen", path)], options].concat());
    (Ending { running: Some(host), end: Host::stop }, lines)
}

fn attached(path: &str, options: &[(&str, &str)]) -> Attached {
    Ending { running: Some(common::attached(path, options)), end: |server| _ = server.stop(Duration::ZERO) }
}

/// A hub with these options, and a host that is attached to it.
fn pair(options: &[(&str, &str)]) -> (Hub, Attached) {
    let path = path();
    (hub(&path, options), attached(&path, &[]))
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
