//! `GET /v1/hosts`: which hosts are attached, and what waits for them.

use super::common::{adopted, attached, socket_path, until, Client, Host, CONTROL, UPGRADE};
use super::{ask, got};
use push::hub::Publication;
use push::Server;
use serde_json::{json, Value};
use std::time::Duration;

/// A client of which a host has accepted the connection.
fn handed_over(server: &Server, query: &str) -> Client {
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
    let mut client = adopted(server, &head, None);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client
}

fn hosts(host: &Host) -> Vec<Value> {
    // On a slow machine the thread of the attach socket may not answer in time.
    let mut body = String::new();
    until("the hosts are not told", || {
        let (status, told) = ask(host, "GET", "/v1/hosts", "", b"");
        body = told;
        status == 200
    });
    serde_json::from_str::<Value>(&body).unwrap()["hosts"].as_array().unwrap().clone()
}

#[test]
fn a_hub_to_which_nobody_can_attach_has_none() {
    let host = Host::start(&CONTROL);
    assert_eq!(got(&host, "/v1/hosts"), json!({"hosts": []}));
    host.stop();
}

#[test]
fn attached_hosts_are_listed_with_what_they_did_and_what_waits_for_them() {
    let path = format!("unix:{}", socket_path());
    let hub = Host::start(&[&CONTROL[..], &[("attach_listen", &path), ("event_queue", "16")]].concat());
    assert_eq!(hosts(&hub), [Value::Null; 0]);
    let (web, hostile) = (attached(&path, &[("event_queue", "16")]), "w\"eb<b>\u{202e}\u{1f600}");
    let odd = attached(&path, &[("attach_name", hostile)]);
    until("both are attached", || hosts(&hub).len() == 2);
    let by_name = |name: &str| {
        let found = hosts(&hub).into_iter().find(|host| host["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {:?}", hosts(&hub)))
    };
    let fresh = by_name(hostile);
    let same = |name| fresh[name].clone();
    let expected = json!({"host": same("host"), "name": hostile, "process": std::process::id(), "user": same("user"),
        "version": same("version"), "attached_ms": same("attached_ms"), "adopted": 0, "takes_events": false,
        "events": 0, "requests": 0, "request_bytes": 0, "unanswered": 0, "questions": 0, "unsent": 0, "behind_ms": 0});
    assert_eq!(fresh, expected);
    assert!(fresh["host"].as_str().unwrap().parse::<u64>().unwrap() > 0 && fresh["version"].as_u64() > Some(0));
    let attached_ms = || by_name("host")["attached_ms"].as_u64().unwrap();
    let before = attached_ms();
    until("the time goes on", || attached_ms() > before + 50);

    // It wants events, and does not take them.
    web.event_fd().unwrap();
    let mut clients = [handed_over(&web, "channel=a"), handed_over(&web, "channel=b")];
    until("they are counted", || by_name("host")["adopted"] == 2);
    for n in 0..200 {
        clients[0].say(&n.to_string());
    }
    until("events wait", || by_name("host")["events"].as_u64() > Some(0));
    assert_eq!(by_name("host")["takes_events"], true);
    until("for some time", || by_name("host")["behind_ms"].as_u64() > Some(100));
    assert_eq!(by_name(hostile)["behind_ms"], 0);
    // It takes them.
    until("none is left", || {
        while web.next_event(Some(Duration::ZERO)).is_ok() {}
        let row = by_name("host");
        row["events"] == 0 && row["behind_ms"] == 0
    });
    let gone = by_name("host")["host"].clone();
    web.stop(Duration::ZERO);
    until("it has gone", || hosts(&hub).iter().all(|host| host["host"] != gone));
    assert_eq!(hosts(&hub).len(), 1);
    odd.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn what_an_attached_host_publishes_and_hands_over_is_seen_and_ended_as_any_other() {
    let path = format!("unix:{}", socket_path());
    let hub = Host::start(&[&CONTROL[..], &[("attach_listen", &path)]].concat());
    let web = attached(&path, &[]);
    let mut client = handed_over(&web, "channel=a");
    let mut own = hub.websocket("channel=a", false);
    let mut tail = super::tail::Tail::begin(&hub, "channel=a");
    web.publish(&Publication::new("a", b"hello")).unwrap();
    assert_eq!(tail.message()["data"], "hello");
    // Both are counted, whoever has accepted them.
    let (status, body) = super::post(&hub, "/v1/disconnect?all=1&code=4000&reason=bye", "");
    assert_eq!((status, &*body), (200, "{\"closed\":2}\n"));
    assert_eq!((client.end(), own.end()), ((4000, "bye".into()), (4000, "bye".into())));
    web.stop(Duration::ZERO);
    hub.stop();
}
