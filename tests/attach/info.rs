//! What the grants of attached hosts say of their users.

use super::{adopt, attached, hub, path};
use crate::common::{Client, PATIENCE};
use push::events::EventKind;
use push::grant::{Grant, Terms};
use push::Server;

fn grant(user: &str, info: &str) -> Grant {
    let all = ["*".to_owned()];
    Grant::of(&Terms { user: Some(user), info: Some(info), patterns: &all, ..Terms::default() }).unwrap()
}

fn stream(host: &Server, query: &str, grant: Grant) -> Client {
    let head = format!("GET /push?transport=stream&channel=a{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut client = adopt(host, &head, Some(grant));
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

#[test]
fn each_grant_of_a_host_may_have_an_info() {
    let path = path();
    let hub = hub(&path, &[("channel.*.presence", "true"), ("auth", "host")]);
    let hosts = [attached(&path, &[("attach_name", "web")]), attached(&path, &[("attach_name", "jobs")])];
    let host = &hosts[0];
    host.event_fd().unwrap();
    // This was answered, so the hub has got the request for events before it.
    host.stats().unwrap();
    let event_of = |kind: EventKind| {
        let mut events = std::iter::repeat_with(|| host.next_event(Some(PATIENCE)).unwrap());
        events.find(|event| event.kind == kind).unwrap()
    };
    let mut follower = stream(host, "&presence=1", grant("ada", r#"{"name":"Ada"}"#));
    follower
        .until(r#"{"type":"presence","channel":"a","users":[{"user":"ada","info":"{\"name\":\"Ada\"}"}],"count":1}"#);
    let connection = event_of(EventKind::Open).connection;
    let _theirs = stream(&hosts[1], "", grant("bob", "B\u{f6}b"));
    follower.until("{\"type\":\"join\",\"channel\":\"a\",\"user\":\"bob\",\"info\":\"B\u{f6}b\",\"count\":2}");
    // Any host may give it another grant.
    hosts[1].renew(connection, grant("ada", "Countess")).unwrap();
    follower.until(r#"{"type":"join","channel":"a","user":"ada","info":"Countess","count":2}"#);
    let mut asked = hub.get("channel=a&transport=stream", "");
    host.allow(event_of(EventKind::Request).request, grant("eve", "Eve")).unwrap();
    assert!(asked.head().starts_with("HTTP/1.1 200 "));
    follower.until(r#"{"type":"join","channel":"a","user":"eve","info":"Eve","count":3}"#);
}
