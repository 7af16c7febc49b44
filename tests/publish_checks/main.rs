//! Messages of clients that the host checks before they are published (`client_publish=host`).

mod answers;
mod attached;
mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod rights;

use common::folder::Folder;
use common::{attached, field, socket_path, until, Client, Host, PATIENCE};
use push::error::Kind;
use push::events::{Event, EventKind, Publishing};
use push::grant::{Grant, Terms};
use push::hub::{Publication, Replacement};
use push::Server;
use std::io::Write;

const EVENTS: (&str, &str) = ("events", "publish");

const ASKS: (&str, &str) = ("channel.chat.*.client_publish", "host");

/// Starts a server that checks what clients publish to `chat.*`, and asks it for events.
fn start(options: &[(&str, &str)]) -> Host {
    let host = Host::start(&[&[EVENTS, ASKS, ("call_timeout", "10m")], options].concat());
    host.server.event_fd().unwrap();
    host
}

fn next(server: &Server) -> Event {
    let event = server.next_event(Some(PATIENCE)).unwrap();
    assert_eq!(event.kind, EventKind::Publish);
    event
}

fn publish(client: &mut Client, reference: u64, channel: &str, data: &str) {
    client.say(&format!(r#"{{"type":"publish","ref":{reference},"channel":"{channel}","data":"{data}"}}"#));
}

/// The type or the code of the next answer, and its number.
fn answer(client: &mut Client) -> (String, String) {
    let told = client.text();
    let kind = field(&told, "type");
    (if kind == "error" { field(&told, "code") } else { kind }, field(&told, "ref"))
}

fn expect(client: &mut Client, kind: &str, reference: u64) {
    assert_eq!(answer(client), (kind.to_owned(), reference.to_string()));
}

/// What a subscriber gets, up to a message that is published now.
fn all(host: &Host, reader: &mut Client, channel: &str) -> Vec<String> {
    host.server.publish(&Publication::new(channel, b"the end")).unwrap();
    std::iter::from_fn(|| Some(reader.text()).filter(|text| text != "the end")).collect()
}

fn text(data: &str) -> Replacement<'_> {
    Replacement { data: data.as_bytes(), event: None, binary: false }
}

/// A grant for every channel, with which its client may publish to these.
fn grant(user: &str, publish: &[&str]) -> Grant {
    let (all, publish) = (["*".to_owned()], publish.iter().map(ToString::to_string).collect::<Vec<_>>());
    Grant::of(&Terms { user: Some(user), patterns: &all, publish_patterns: &publish, ..Terms::default() }).unwrap()
}

/// A WebSocket that is handed over.
fn adopted(server: &Server, grant: Option<Grant>) -> Client {
    let lines = format!("Host: localhost\r\n{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE);
    let mut client = common::adopted(server, &format!("GET /push HTTP/1.1\r\n{lines}\r\n"), grant);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client
}

/// When this returns, the only shard has done what it was told before.
fn done_before(host: &Host) {
    let mut client = host.websocket("", true);
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text(), r#"{"type":"pong"}"#);
}

/// Waits until all clients but so many have gone.
fn until_left(host: &Host, count: u64) {
    until("it has gone", || host.server.stats().unwrap().connections == count);
}
