//! Who is on a channel, as the control API tells it.

mod common;

use common::{eventually, Host, CONTROL};
use push::grant::Grant;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// Hands over a client of that user; it stays as long as the result.
fn client(host: &Host, user: Option<&str>, query: &str, keep_alive: bool) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let grant = Grant::new(user, &["*".into()], 0, false, keep_alive).unwrap();
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: h\r\n\r\n");
    host.server.adopt(OwnedFd::from(theirs), head.as_bytes(), Some(grant)).unwrap();
    ours
}

/// Its users in one line, with the number of their connections; those without; whether there are more.
fn users(host: &Host, query: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(&host.control(&format!("/v1/users?{query}"))).unwrap();
    let users = answer["users"].as_array().unwrap().iter();
    let users: Vec<_> =
        users.map(|user| format!("{}:{}", user["user"].as_str().unwrap(), user["connections"])).collect();
    format!("{} of {}, {} anonymous, more: {}", users.join(" "), answer["count"], answer["anonymous"], answer["more"])
}

#[test]
fn users_are_counted_over_all_threads_and_transports() {
    let host = Host::start(&[&CONTROL[..], &[("threads", "2"), ("client_publish", "true")]].concat());
    let mut clients = Vec::new();
    for transport in ["stream", "sse", "poll"] {
        clients.push(client(&host, Some("ann"), &format!("channel=a&channel=b&transport={transport}"), false));
        clients.push(client(&host, Some("b\u{fc}b \"x\""), &format!("channel=a&transport={transport}"), false));
        clients.push(client(&host, None, &format!("channel=a&channel=c&transport={transport}"), false));
    }
    let own = host.websocket("channel=a", false);
    eventually(|| host.server.stats().unwrap().subscriptions == 16);
    assert_eq!(users(&host, "channel=a"), "ann:3 b\u{fc}b \"x\":3 of 2, 4 anonymous, more: false");
    assert_eq!(users(&host, "channel=b"), "ann:3 of 1, 0 anonymous, more: false");
    assert_eq!(users(&host, "channel=c"), " of 0, 3 anonymous, more: false");
    drop((clients.split_off(1), own));
    eventually(|| users(&host, "channel=a") == "ann:1 of 1, 0 anonymous, more: false");
    host.publish("kept", "by its history");
    assert_eq!(users(&host, "channel=kept"), " of 0, 0 anonymous, more: false");
    assert!(host.control("/v1/users?channel=c").contains("no such channel"));
    assert!(host.control("/v1/users?channel=").contains("no such channel"));
    assert!(host.control("/v1/users").contains("?channel=NAME is needed"));
    host.stop();
}

#[test]
fn many_users_come_in_pages() {
    let host = Host::start(&[&CONTROL[..], &[("threads", "2")]].concat());
    let clients: Vec<_> = (0..25)
        .map(|number| client(&host, Some(&format!("user-{number:02}")), "channel=a&transport=stream", false))
        .collect();
    eventually(|| host.server.stats().unwrap().subscriptions == 25);
    let page = |query: &str| {
        let answer: serde_json::Value =
            serde_json::from_str(&host.control(&format!("/v1/users?channel=a{query}"))).unwrap();
        let names = answer["users"].as_array().unwrap().iter().map(|user| user["user"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), answer["count"].as_u64().unwrap(), answer["more"].as_bool().unwrap())
    };
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (names, count, more) = page(&format!("&limit=10{after}"));
        assert_eq!(count, 25);
        seen.extend(names);
        after = format!("&after={}", seen.last().unwrap());
        if !more {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(|number| format!("user-{number:02}")).collect::<Vec<_>>());
    assert_eq!(page("&after=user-24"), (vec![], 25, false));
    assert!(!page("&limit=25").2);
    assert!(host.control("/v1/users?channel=a&limit=0").contains("limit must be a number from 1 to 1000"));
    drop(clients);
    host.stop();
}
