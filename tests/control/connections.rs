//! `GET /v1/connections`: who is connected, and who is slow.

use super::common::{adopted, until, Client, Host, CONTROL, UPGRADE};
use super::{ask, got, token, SECRET};
use push::grant::Grant;
use serde_json::{json, Value};
use socket2::{Domain, Socket, Type};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

/// The connections that a query finds.
fn listed(host: &Host, query: &str) -> Vec<Value> {
    got(host, &format!("/v1/connections?{query}"))["connections"].as_array().unwrap().clone()
}

fn users(host: &Host, query: &str) -> Vec<String> {
    let users = listed(host, query).into_iter().map(|row| row["user"].as_str().unwrap_or("-").to_owned());
    let mut users: Vec<_> = users.collect();
    users.sort();
    users
}

/// A connection that the host hands over with a grant, and the client's end.
fn handed_over(host: &Host, user: &str) -> Client {
    let head = format!("GET /push?channel=b HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
    let grant = Grant::new(Some(user), &["b".into()], &[], 0, false, false).unwrap();
    let mut client = adopted(&host.server, &head, Some(grant));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client
}

#[test]
fn each_connection_is_listed_with_what_is_known_of_it() {
    let options = [("auth", "jwt"), ("jwt_secret", SECRET), ("head_timeout", "10m")];
    let host = Host::start(&[&CONTROL[..], &options].concat());
    let hostile = "e\"ve<script>\\ \u{202e}\u{1f600}";
    let _ada = host.websocket(&format!("channel=a&channel=b&channel=%F0%9F%98%80&token={}", token("ada")), true);
    let mut bob = host.get(&format!("channel=a&transport=sse&token={}", token("bob")), "");
    bob.head();
    let _eve = host.websocket(&format!("channel=a&token={}", token(hostile)), false);
    let _joe = handed_over(&host, "joe");
    let _nobody = host.connect();
    until("the connection without a request is there", || listed(&host, "").len() == 5);

    let all = got(&host, "/v1/connections");
    let (rows, by_user) = (all["connections"].as_array().unwrap(), |user: Value| {
        let mut rows = all["connections"].as_array().unwrap().iter().filter(|row| row["user"] == user);
        let mut row = rows.next().unwrap_or_else(|| panic!("{user}: {all}")).clone();
        row.as_object_mut().unwrap().remove("connected_ms").unwrap();
        assert!(rows.next().is_none() && row["id"].as_str().unwrap().parse::<u64>().unwrap() > 0, "{all}");
        row
    });
    assert_eq!((rows.len(), &all["count"], &all["more"], &all["after"]), (5, &json!(5), &json!(false), &Value::Null));
    let expected = |user: &str, transport: &str, adopted: bool, names: &[&str]| {
        json!({"id": by_user(json!(user))["id"], "user": user, "address": "127.0.0.1", "transport": transport,
            "adopted": adopted, "channels": names.len(), "names": names, "waiting": 0, "behind_ms": 0,
            "catching_up": false})
    };
    assert_eq!(by_user(json!("ada")), expected("ada", "websocket", false, &["a", "b", "\u{1f600}"]));
    assert_eq!(by_user(json!("bob")), expected("bob", "sse", false, &["a"]));
    assert_eq!(by_user(json!(hostile)), expected(hostile, "websocket", false, &["a"]));
    assert_eq!(by_user(json!("joe")), expected("joe", "websocket", true, &["b"]));
    let nobody = by_user(Value::Null);
    assert_eq!((&nobody["transport"], &nobody["channels"]), (&json!("none"), &json!(0)));

    let encoded = "e%22ve%3Cscript%3E%5C%20%E2%80%AE%F0%9F%98%80";
    for (query, found) in [
        ("user=ada".to_owned(), &["ada"][..]),
        (format!("user={encoded}"), &[hostile]),
        ("user=nobody".into(), &[]),
        ("channel=a".into(), &["ada", "bob", hostile]),
        ("channel=%F0%9F%98%80".into(), &["ada"]),
        ("channel=b&user=joe".into(), &["joe"]),
        ("channel=b&user=bob".into(), &[]),
        ("address=127.0.0.1".into(), &["-", "ada", "bob", hostile, "joe"]),
        ("address=::ffff:127.0.0.1&channel=b".into(), &["ada", "joe"]),
        ("address=127.0.0.2".into(), &[]),
        ("address=unix".into(), &[]),
        ("slow=1".into(), &[]),
        ("slow=0&user=bob".into(), &["bob"]),
    ] {
        assert_eq!(users(&host, &query), found, "{query}");
    }
    assert_eq!(got(&host, "/v1/connections?channel=a&limit=1")["count"], 3);
    drop(bob);
    until("bob is gone", || users(&host, "user=bob").is_empty());
    host.stop();
}

/// Checks that a request gets 400, and what the answer says.
pub(super) fn is_refused(host: &Host, path: &str, told: &str) {
    let (status, body) = ask(host, "GET", path, "", b"");
    assert!(status == 400 && body.contains(told), "{path}: {status} {body}");
}

#[test]
fn what_can_not_be_listed_is_refused_with_what_is_allowed() {
    let host = Host::start(&CONTROL);
    let (name, number) = ("x".repeat(256), "9".repeat(255));
    for (query, told) in [
        ("limit=0", "limit must be a number from 1 to 1000"),
        ("limit=1001", "limit must be a number from 1 to 1000"),
        ("limit=-1", "limit must be a number from 1 to 1000"),
        ("after=-1", "after must be a number from 0 to 18446744073709551615"),
        ("after=18446744073709551616", "after must be a number from 0"),
        (&*format!("after={number}"), "after must be a number from 0"),
        ("after=", "after must be a number from 0"),
        ("slow=yes", "slow must be 0 or 1"),
        ("slow=1&after=1", "slow=1 has no further pages"),
        ("user=", "1 to 255 bytes are allowed"),
        (&*format!("user={name}"), "at most 255 are allowed"),
        ("user=%00", "control characters are not allowed"),
        ("user=%ff", "not UTF-8"),
        ("channel=", "1 to 255 bytes are allowed"),
        (&*format!("channel={name}"), "at most 255 are allowed"),
        ("channel=a*", "can't end in *"),
        ("address=", "an IPv4 or IPv6 address, or unix"),
        ("address=127.0.0.1:80", "an IPv4 or IPv6 address, or unix"),
        ("address=10.0.0.0/8", "an IPv4 or IPv6 address, or unix"),
        ("address=localhost", "an IPv4 or IPv6 address, or unix"),
    ] {
        is_refused(&host, &format!("/v1/connections?{query}"), told);
    }
    let (status, body) = ask(&host, "GET", "/v1/connections?channel=nobody", "", b"");
    assert!(status == 404 && body.contains("no such channel"), "{status} {body}");
    let longest = "%F0%9F%98%80".repeat(63);
    assert_eq!(ask(&host, "GET", &format!("/v1/connections?user={longest}"), "", b"").0, 200);
    assert_eq!(users(&host, "after=18446744073709551615"), [""; 0]);
    host.stop();
}

/// All pages of a listing; the numbers rise from page to page.
#[test]
fn a_connection_is_listed_with_the_time_since_it_came() {
    let host = Host::start(&CONTROL);
    let mut first = host.get("channel=a&transport=sse", "");
    first.head();
    let since = |index: usize| listed(&host, "")[index]["connected_ms"].as_u64().unwrap();
    until("it has been there for some time", || since(0) >= 2500);
    let _second = handed_over(&host, "joe");
    until("both are there", || listed(&host, "").len() == 2);
    let rows = listed(&host, "");
    let times: Vec<u64> = rows.iter().map(|row| row["connected_ms"].as_u64().unwrap()).collect();
    assert!(times.iter().max() >= times.iter().min().map(|least| least + 1500).as_ref(), "{times:?}");
    host.stop();
}

fn pages(host: &Host, query: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut after) = (Vec::<Value>::new(), "0".to_owned());
    loop {
        let page = got(host, &format!("/v1/connections?{query}&limit={limit}&after={after}"));
        let rows = page["connections"].as_array().unwrap();
        assert!(rows.len() <= limit, "{} of {limit}", rows.len());
        all.extend(rows.iter().cloned());
        match page["after"].as_str() {
            Some(next) if page["more"] == true => after = next.to_owned(),
            _ => break,
        }
    }
    let ids: Vec<u64> = all.iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|one, other| one < other), "{ids:?}");
    all
}

#[test]
fn each_of_thousands_is_on_exactly_one_page_while_others_come_and_go() {
    const STAY: usize = 3000;
    push::process::raise_descriptors().unwrap();
    let host = Host::start(&[&CONTROL[..], &[("threads", "3")]].concat());
    let query = |channel: &str| format!("channel={channel}&transport=sse");
    // Some leave again, so that there are free places between those that stay.
    let mut clients: Vec<Client> = (0..STAY + STAY / 2).map(|_| host.get(&query("stay"), "")).collect();
    clients.iter_mut().for_each(|client| drop(client.head()));
    let mut count = 0;
    clients.retain(|_| {
        count += 1;
        count % 3 != 0
    });
    let on = |channel: &str| got(&host, &format!("/v1/connections?channel={channel}&limit=1"))["count"].as_u64();
    until("the others have left", || on("stay") == Some(STAY as u64));

    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ending.load(Ordering::Relaxed) {
                let mut crowd: Vec<Client> = (0..50).map(|_| host.get(&query("come-and-go"), "")).collect();
                crowd.iter_mut().for_each(|client| drop(client.head()));
            }
        });
        let searched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (filter, limit) in [("", 1000), ("", 333), ("channel=stay", 97), ("address=127.0.0.1", 500)] {
                let mut found = HashMap::new();
                for row in pages(&host, filter, limit) {
                    if row["names"] == json!(["stay"]) {
                        *found.entry(row["id"].to_string()).or_insert(0) += 1;
                    }
                }
                assert_eq!(found.len(), STAY, "{filter}");
                assert!(found.values().all(|times| *times == 1), "{filter}");
            }
        }));
        ending.store(true, Ordering::Relaxed);
        searched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    drop(clients);
    host.stop();
}

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
fn slow_clients_are_listed_with_the_slowest_first() {
    let host = Host::start(&[&CONTROL[..], &[("outbox", "64MB"), ("outbox_total", "512MB")]].concat());
    let (few, many, quick) = (lazy(&host, "channel=few"), lazy(&host, "channel=many"), lazy(&host, "channel=quick"));
    assert_eq!(listed(&host, "slow=1"), [Value::Null; 0]);
    // More than the buffers of a socket hold, in any case.
    let payload = "x".repeat(1 << 20);
    (0..12).for_each(|_| drop(host.publish("few", &payload)));
    (0..24).for_each(|_| drop(host.publish("many", &payload)));
    host.publish("quick", "x");
    until("both are behind", || listed(&host, "slow=1").len() == 2);
    until("all is in the outboxes", || {
        let rows = listed(&host, "slow=1");
        rows[0]["waiting"].as_u64() > Some(12 << 20) && rows[1]["waiting"].as_u64() > Some(0)
    });
    let rows = listed(&host, "slow=1");
    assert_eq!((&rows[0]["names"], &rows[1]["names"]), (&json!(["many"]), &json!(["few"])));
    let first = got(&host, "/v1/connections?slow=1&limit=1");
    assert_eq!((&first["connections"][0]["id"], &first["count"]), (&rows[0]["id"], &json!(2)));
    assert_eq!((&first["more"], &first["after"]), (&json!(true), &Value::Null));
    assert_eq!(listed(&host, "slow=1&channel=few")[0]["id"], rows[1]["id"]);
    let behind = || listed(&host, "slow=1")[0]["behind_ms"].as_u64().unwrap();
    let before = behind();
    until("the time goes on", || behind() > before + 100);

    // A client that reads everything is no longer behind.
    let mut many = many;
    for _ in 0..24 {
        many.until(&payload);
    }
    until("one is left", || listed(&host, "slow=1").len() == 1);
    let row = &listed(&host, "channel=many")[0];
    assert_eq!((&row["waiting"], &row["behind_ms"]), (&json!(0), &json!(0)));
    drop((few, many, quick));
    host.stop();
}

#[test]
fn a_client_that_catches_up_is_listed_with_the_channels_that_it_waits_for() {
    let host = Host::start(
        &[&CONTROL[..], &[("outbox", "64KB"), ("history_bytes", "64MB"), ("history_count", "1000")]].concat(),
    );
    let first = host.publish("a", "first");
    let payload = "x".repeat(100_000);
    (0..400).for_each(|_| drop(host.publish("a", &payload)));
    let mut client = lazy(&host, &format!("channel=a&channel=b&since={first}"));
    until("it catches up", || {
        let rows = listed(&host, "channel=a&slow=1");
        rows.len() == 1 && rows[0]["catching_up"] == true
    });
    let row = &listed(&host, "channel=a")[0];
    assert_eq!((&row["channels"], &row["names"]), (&json!(2), &json!(["a", "b"])));
    let behind = || {
        let row = &listed(&host, "channel=a")[0];
        assert_eq!(row["catching_up"], true);
        row["behind_ms"].as_u64().unwrap()
    };
    until("some time has passed", || behind() > 500);
    // More than the buffers of a socket hold, so it has got another part. It has been behind all the time.
    for _ in 0..150 {
        client.until(&payload);
    }
    assert!(behind() > 500);
    for _ in 150..400 {
        client.until(&payload);
    }
    until("it has all", || listed(&host, "channel=b").first().is_some_and(|row| row["catching_up"] == false));
    host.stop();
}
