//! Presence: the users on a channel, from the control API and from the host's own call.

mod common;

use common::{eventually, socket_path, Host, CONTROL, PATIENCE};
use push::error::Kind;
use push::grant::Grant;
use push::hub::Publication;
use push::users::{Users, MAX_USERS};
use push::Server;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// Hands over a client of that user. It stays as long as the result.
fn client(server: &Server, user: Option<&str>, query: &str, keep_alive: bool) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let grant = Grant::new(user, &[], &["*".into()], 0, false, keep_alive).unwrap();
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.adopt(OwnedFd::from(theirs), head.as_bytes(), Some(grant)).unwrap();
    ours
}

/// The channel's users in one line with the number of their connections, the anonymous ones, and whether there are
/// more.
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
        clients.push(client(&host.server, Some("ann"), &format!("channel=a&channel=b&transport={transport}"), false));
        clients.push(client(&host.server, Some("b\u{fc}b \"x\""), &format!("channel=a&transport={transport}"), false));
        clients.push(client(&host.server, None, &format!("channel=a&channel=c&transport={transport}"), false));
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
    // The hub hears a moment later that nobody is on it any more.
    eventually(|| host.control("/v1/users?channel=c").contains("no such channel"));
    assert!(host.control("/v1/users?channel=").contains("channel: empty; 1 to 255 bytes are allowed"));
    assert!(host.control("/v1/users").contains("?channel= is needed"));
    host.stop();
}

#[test]
fn many_users_come_in_pages() {
    let host = Host::start(&[&CONTROL[..], &[("threads", "2")]].concat());
    let clients: Vec<_> = (0..25)
        .map(|number| client(&host.server, Some(&format!("user-{number:02}")), "channel=a&transport=stream", false))
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

/// The host's answer, in one line.
fn told(users: &Users) -> String {
    let Users { page, more, count, connections, anonymous, hubs } = users;
    assert_eq!(*hubs, None, "no log is shared");
    let page: Vec<_> = page.iter().map(|user| format!("{}:{}", user.name, user.connections)).collect();
    let page = page.join(" ");
    format!("{page} of {count}, {connections} connections, {anonymous} anonymous, more: {more}")
}

/// All users, asked for in pages, and the number of pages.
fn pages(server: &Server, channel: &str, limit: usize) -> (Vec<String>, usize) {
    let (mut seen, mut after, mut count) = (Vec::new(), String::new(), 0);
    loop {
        let users = server.users(channel, &after, limit).unwrap();
        assert!(users.page.len() <= limit);
        seen.extend(users.page.iter().map(|user| user.name.to_string()));
        count += 1;
        if !users.more {
            return (seen, count);
        }
        after.clone_from(seen.last().unwrap());
    }
}

#[test]
fn the_host_is_told_without_http() {
    let host = Host::start(&[("threads", "2")]);
    let ask = |channel: &str, after: &str, limit| told(&host.server.users(channel, after, limit).unwrap());
    assert_eq!(ask("a", "", 10), " of 0, 0 connections, 0 anonymous, more: false");
    let mut clients = Vec::new();
    for user in [Some("ann"), Some("bob"), Some("ann"), None, Some("carl")] {
        clients.push(client(&host.server, user, "channel=a&channel=b&transport=stream", false));
    }
    clients.push(client(&host.server, Some("dora"), "channel=b&transport=poll", false));
    eventually(|| host.server.stats().unwrap().subscriptions == 11);
    assert_eq!(ask("a", "", 10), "ann:2 bob:1 carl:1 of 3, 5 connections, 1 anonymous, more: false");
    assert_eq!(ask("b", "bob", 1), "carl:1 of 4, 6 connections, 1 anonymous, more: true");
    assert_eq!(ask("b", "", 0), " of 4, 6 connections, 1 anonymous, more: true");
    assert_eq!(ask("b", "zoe", MAX_USERS), " of 4, 6 connections, 1 anonymous, more: false");
    assert_eq!(pages(&host.server, "b", 1), (["ann", "bob", "carl", "dora"].map(String::from).to_vec(), 4));
    drop(clients);
    eventually(|| ask("b", "", 10) == " of 0, 0 connections, 0 anonymous, more: false");
    let long = "x".repeat(256);
    for (channel, after, limit) in [("", "", 1), ("a\n", "", 1), (&*long, "", 1), ("a", &*long, 1), ("a", "\0", 1)] {
        assert_eq!(host.server.users(channel, after, limit).unwrap_err().kind(), Kind::Invalid);
    }
    assert_eq!(host.server.users("a", "", MAX_USERS + 1).unwrap_err().kind(), Kind::Invalid);
    host.stop();
}

#[test]
fn questions_are_answered_while_clients_come_and_go() {
    let host = Host::start(&[("threads", "2")]);
    let _stays = client(&host.server, Some("m"), "channel=a&transport=stream", false);
    eventually(|| host.server.stats().unwrap().subscriptions == 1);
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let (seen, _) = pages(&host.server, "a", 2);
                        assert!(seen.is_sorted_by(|a, b| a < b) && seen.contains(&"m".to_owned()), "{seen:?}");
                    }
                })
            })
            .collect();
        while askers.iter().any(|asker| !asker.is_finished()) {
            let come = |user| client(&host.server, Some(user), "channel=a&transport=sse", false);
            let clients = ["a", "b", "x", "y"].map(come);
            host.publish("a", "x");
            drop(clients);
            eventually(|| host.server.stats().unwrap().subscriptions == 1);
        }
    });
    host.stop();
}

/// A host at the hub of that socket.
fn attached(path: &str, timeout: &str) -> Server {
    common::attached(&format!("unix:{path}"), &[("attach_timeout", timeout)])
}

#[test]
fn attached_hosts_are_told_of_all_clients() {
    let path = socket_path();
    let hub = Host::start(&[("attach_listen", &format!("unix:{path}")), ("threads", "2")]);
    let (one, two) = (attached(&path, "1m"), attached(&path, "1m"));
    let names: Vec<String> = (0..25).map(|number| format!("user-{number:02}")).collect();
    let mut clients: Vec<_> =
        names.iter().map(|name| client(&one, Some(name), "channel=a&transport=stream", false)).collect();
    clients.push(client(&hub.server, None, "channel=a&transport=sse", false));
    eventually(|| hub.server.stats().unwrap().subscriptions == 26);
    let counts = "of 25, 26 connections, 1 anonymous";
    assert_eq!(told(&two.users("a", "user-22", 1).unwrap()), format!("user-23:1 {counts}, more: true"));
    assert_eq!(told(&two.users("a", "", 0).unwrap()), format!(" {counts}, more: true"));
    assert_eq!(told(&two.users("b", "", 1).unwrap()), " of 0, 0 connections, 0 anonymous, more: false");
    for (limit, count) in [(10, 3), (25, 1), (MAX_USERS, 1)] {
        assert_eq!(pages(&two, "a", limit), (names.clone(), count));
    }
    assert_eq!(two.users("", "", 1).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(two.users("a", "", MAX_USERS + 1).unwrap_err().kind(), Kind::Invalid);
    // Answers come in the order of the calls of all threads. Publishes in between have their own answers.
    std::thread::scope(|scope| {
        for host in [&one, &one, &two] {
            let names = &names;
            scope.spawn(move || {
                for _ in 0..100 {
                    assert_eq!(pages(host, "a", 13), (names.clone(), 2));
                    host.publish(&Publication::new("b", b"x")).unwrap();
                    host.post(&Publication::new("b", b"y")).unwrap();
                }
            });
        }
    });
    one.stop(PATIENCE);
    assert_eq!(pages(&two, "a", 10).0, names, "they stay when their host goes");
    two.stop(PATIENCE);
    assert_eq!(hub.server.stats().unwrap().published, 600);
    hub.stop();
}

/// A frame of the attach protocol.
fn frame(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(body.len() as u32 + 1).to_le_bytes()[..], &[kind], &body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The next frame, with the length before it.
fn read_frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame).ok()?;
    let len = u32::from_le_bytes(frame[..].try_into().unwrap());
    frame.resize(4 + len as usize, 0);
    stream.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

/// A hub that speaks version 1 of the protocol. It passes requests of that version to a real hub behind it.
fn older_hub(path: &str, behind: &str) {
    let (listener, behind) = (UnixListener::bind(path).unwrap(), behind.to_owned());
    std::thread::spawn(move || {
        for mut host in listener.incoming().map_while(Result::ok) {
            let Some(hello) = read_frame(&mut host) else { continue };
            if hello[13..15] != [1, 0] {
                let _ = host.write_all(&frame(66, &[&[1], &text("the host speaks version 2, the hub speaks 1")]));
                continue;
            }
            let Ok(mut hub) = UnixStream::connect(&behind) else { continue };
            hub.write_all(&hello).unwrap();
            let pairs = [(host.try_clone(), hub.try_clone()), (Ok(hub), Ok(host))];
            for (mut from, mut into) in pairs.map(|(from, into)| (from.unwrap(), into.unwrap())) {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
}

#[test]
fn an_older_hub_is_not_asked_and_does_all_else() {
    let (path, older) = (socket_path(), socket_path());
    let hub = Host::start(&[("attach_listen", &format!("unix:{path}"))]);
    // The answer comes when the question waits for it already.
    let host = attached(&older, "1m");
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| host.users("a", "", 1));
        older_hub(&older, &path);
        asked.join().unwrap()
    });
    for error in [answer.unwrap_err(), host.users("a", "", 1).unwrap_err()] {
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("the hub is older"), "{error}");
    }
    assert_eq!(host.publish(&Publication::new("a", b"x")).unwrap().seq, 1);
    // If it was slow, there may have been another try to attach before.
    eventually(|| host.stats().unwrap().hosts == 1);
    // No host was disconnected for it.
    assert_eq!(hub.server.stats().unwrap().refused, 0);
    host.stop(Duration::from_secs(5));
    let _ = std::fs::remove_file(older);
    hub.stop();
}

/// A page of users as a frame, in answer to a number.
fn page(number: u64, names: &[&str]) -> Vec<u8> {
    let users: Vec<u8> = names.iter().flat_map(|name| [text(name), 1u64.to_le_bytes().to_vec()].concat()).collect();
    frame(73, &[&number.to_le_bytes(), &[0; 24], &[0], &(names.len() as u32).to_le_bytes(), &users])
}

/// The number that a frame answers.
type Answer = fn(u64) -> Vec<u8>;

/// A hub that welcomes every host, and gives one of these answers for each question, and then none.
fn fake_hub<const N: usize>(path: &str, answers: [Answer; N]) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        for mut host in listener.incoming().map_while(Result::ok) {
            let Some(_hello) = read_frame(&mut host) else { continue };
            let limits = 1000u64.to_le_bytes();
            // A host does not wait for ever for its welcome. It comes again.
            if host.write_all(&frame(65, &[&text("epoch"), &[0; 8], &limits, &limits])).is_err() {
                continue;
            }
            while let Some(question) = read_frame(&mut host) {
                let number = u64::from_le_bytes(question[5..13].try_into().unwrap());
                let Some(answer) = answers.next() else { continue };
                let _ = host.write_all(&answer(number));
            }
        }
    });
}

#[test]
fn impossible_answers_of_a_hub_are_refused() {
    let path = socket_path();
    fake_hub(
        &path,
        [
            |number| page(number, &["n", "o"]),
            // The answers have more users than were asked for, users before the page, or answer another question.
            |number| page(number, &["n", "o", "p"]),
            |number| page(number, &["m"]),
            |number| frame(67, &[&number.to_le_bytes(), &[0; 12]]),
            // After these the hub is disconnected.
            |number| page(number, &["o", "n"]),
            |number| page(number, &["n\n"]),
            |number| page(number + 1, &["n"]),
            |number| page(number, &["n", "o"]),
        ],
    );
    let host = attached(&path, "1m");
    let ask = || host.users("a", "m", 2);
    assert_eq!(told(&ask().unwrap()), "n:1 o:1 of 0, 0 connections, 0 anonymous, more: false");
    for _ in 0..3 {
        let error = ask().unwrap_err();
        assert_eq!(error.kind(), Kind::System, "{error}");
    }
    for _ in 0..3 {
        let error = ask().unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
    }
    assert_eq!(ask().unwrap().page.len(), 2);
    host.stop(Duration::ZERO);
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_hub_that_does_not_answer_holds_up_nobody_for_long() {
    let path = socket_path();
    let host = attached(&path, "100ms");
    eventually(|| host.users("a", "", 1).unwrap_err().kind() == Kind::Busy);
    fake_hub(&path, []);
    eventually(|| host.users("a", "", 1).unwrap_err().kind() == Kind::Timeout);
    host.stop(Duration::ZERO);
    let _ = std::fs::remove_file(path);
}
