//! Calls: a client of `push.v1.json` asks the host something, and gets its answer.

mod common;

use common::{attached, field, socket_path, until, Client, Host, PATIENCE};
use push::error::Kind;
use push::events::{Event, EventKind};
use push::grant::Grant;
use push::Server;
use std::io::Write;
use std::time::Duration;

/// Starts a server that takes calls, and asks it for events.
fn start(options: &[(&str, &str)]) -> Host {
    let host = Host::start(&[&[("events", "call"), ("call_timeout", "10m")], options].concat());
    host.server.event_fd().unwrap();
    host
}

fn open(host: &Host) -> Client {
    host.websocket("", true)
}

fn next(server: &Server) -> Event {
    let event = server.next_event(Some(PATIENCE)).unwrap();
    assert_eq!(event.kind, EventKind::Call);
    event
}

fn call(client: &mut Client, reference: u64, data: &str) {
    client.say(&format!(r#"{{"type":"call","ref":{reference},"data":"{data}"}}"#));
}

#[test]
fn each_call_gets_its_own_answer_in_any_order() {
    let host = start(&[]);
    let mut client = open(&host);
    call(&mut client, 7, "first");
    client.say(r#"{"type":"call","ref":8,"data":"AP8=","base64":true}"#);
    call(&mut client, 9, "third");
    let calls = [(); 3].map(|()| next(&host.server));
    assert_eq!((&calls[0].data[..], calls[0].binary), (&b"first"[..], false));
    assert_eq!((&calls[1].data[..], calls[1].binary), (&[0, 255][..], true));
    assert!(calls.iter().all(|event| event.connection == calls[0].connection && event.connection != 0));
    host.server.deny(calls[2].request, 403, "not you").unwrap();
    assert_eq!(client.text(), r#"{"type":"error","code":"refused","message":"not you","status":403,"ref":9}"#);
    host.server.answer_call(calls[1].request, &[1, 2], true).unwrap();
    assert_eq!(client.text(), r#"{"type":"answer","data":"AQI=","base64":true,"ref":8}"#);
    host.server.answer_call(calls[0].request, "\"\u{fc}\n".as_bytes(), false).unwrap();
    assert_eq!(client.text(), "{\"type\":\"answer\",\"data\":\"\\\"\u{fc}\\n\",\"ref\":7}");
    // Each is answered once.
    for event in &calls {
        host.server.answer_call(event.request, b"again", false).unwrap();
        host.server.deny(event.request, 503, "again").unwrap();
    }
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text(), r#"{"type":"pong"}"#);
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.calls, stats.calls_given_up, stats.calls_waiting), (3, 0, 0));
    host.stop();
}

#[test]
fn an_answer_of_the_wrong_kind_changes_nothing() {
    let host = start(&[("auth", "host"), ("auth_timeout", "10m")]);
    let mut client = host.get("", &format!("{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE));
    let asked = host.server.next_event(Some(PATIENCE)).unwrap();
    assert_eq!(asked.kind, EventKind::Request);
    host.server.answer_call(asked.request, b"no", false).unwrap();
    let grant = || Grant::new(Some("ann"), &[], &["*".into()], 0, false, false).unwrap();
    host.server.allow(asked.request, grant()).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    call(&mut client, 1, "x");
    let event = next(&host.server);
    assert_eq!(event.user.as_deref(), Some("ann"));
    host.server.allow(event.request, grant()).unwrap();
    host.server.answer_call(event.request, b"yes", false).unwrap();
    assert_eq!(client.text(), r#"{"type":"answer","data":"yes","ref":1}"#);
    host.stop();
}

#[test]
fn a_call_that_is_wrong_reaches_no_host() {
    let host = start(&[]);
    let mut client = open(&host);
    for (wrong, code) in [
        (r#"{"type":"call","data":"x"}"#, "malformed"),
        (r#"{"type":"call","ref":1}"#, "malformed"),
        (r#"{"type":"call","ref":1,"data":7}"#, "malformed"),
        (r#"{"type":"call","ref":1,"data":"?","base64":true}"#, "base64"),
    ] {
        client.say(wrong);
        assert_eq!(field(&client.text(), "code"), code, "{wrong}");
    }
    call(&mut client, 2, "right");
    assert_eq!(&next(&host.server).data[..], b"right");
    for (request, data, kind) in [(0, &b"x"[..], Kind::NotFound), (7 << 8, b"\xff", Kind::Invalid)] {
        assert_eq!(host.server.answer_call(request, data, false).unwrap_err().kind(), kind);
    }
    host.stop();
    // This host takes no calls, and the same one does when its option is another.
    let host = Host::start(&[]);
    host.server.event_fd().unwrap();
    let mut client = open(&host);
    call(&mut client, 1, "x");
    let told = client.text();
    assert_eq!((&*field(&told, "code"), &*field(&told, "ref")), ("unsupported", "1"), "{told}");
    host.server.reload(&common::builder(&[("events", "call")])).unwrap();
    until("it takes calls", || {
        call(&mut client, 2, "x");
        host.server.next_event(Some(Duration::from_millis(50))).is_ok_and(|event| event.kind == EventKind::Call)
    });
    host.stop();
}

#[test]
fn a_call_without_an_answer_ends_in_time_and_a_late_answer_goes_nowhere() {
    let host = start(&[("call_timeout", "100ms")]);
    let mut client = open(&host);
    call(&mut client, 5, "x");
    let event = next(&host.server);
    let told = client.text();
    assert_eq!((&*field(&told, "code"), &*field(&told, "ref")), ("timeout", "5"), "{told}");
    host.server.answer_call(event.request, b"late", false).unwrap();
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text(), r#"{"type":"pong"}"#);
    assert_eq!(host.server.stats().unwrap().calls_given_up, 1);
    host.stop();
}

#[test]
fn calls_of_a_connection_are_bounded_and_forgotten_with_it() {
    let host = start(&[("max_calls", "2"), ("call_timeout", "10m"), ("threads", "1")]);
    let mut client = open(&host);
    (1..=3).for_each(|reference| call(&mut client, reference, "x"));
    let told = client.text();
    assert_eq!((&*field(&told, "code"), &*field(&told, "ref")), ("calls", "3"), "{told}");
    let [first, second] = [(); 2].map(|()| next(&host.server));
    host.server.answer_call(first.request, b"1", false).unwrap();
    assert_eq!(field(&client.text(), "ref"), "1");
    call(&mut client, 4, "x");
    let third = next(&host.server);
    drop(client);
    until("it is gone", || host.server.stats().unwrap().connections == 0);
    // The next client may have its place, and gets none of its answers.
    let mut other = open(&host);
    for event in [&second, &third] {
        host.server.answer_call(event.request, b"not for you", false).unwrap();
    }
    call(&mut other, 1, "x");
    call(&mut other, 2, "x");
    let [first, second] = [(); 2].map(|()| next(&host.server));
    for event in [&second, &first] {
        host.server.answer_call(event.request, b"for you", false).unwrap();
    }
    let told = [(); 2].map(|()| other.text());
    let answer = |reference| format!(r#"{{"type":"answer","data":"for you","ref":{reference}}}"#);
    assert_eq!(told, [answer(2), answer(1)]);
    host.stop();
}

/// Clients that call as fast as they can are not read from while the host is behind.
#[test]
fn a_host_that_takes_no_events_is_not_buried_in_calls() {
    const CALLS: u64 = 40;
    let host = start(&[("event_queue", "16"), ("max_calls", "1000"), ("client_rate", "0"), ("threads", "1")]);
    let (data, mut clients) = ("x".repeat(10_000), [(); 8].map(|()| open(&host)));
    // Each client sends more than the shard takes in one read, and all together more than the queue holds.
    let senders = clients.each_mut().map(|client| {
        let (mut stream, data) = (client.stream.try_clone().unwrap(), data.clone());
        std::thread::spawn(move || {
            for reference in 0..CALLS {
                let text = format!(r#"{{"type":"call","ref":{reference},"data":"{data}"}}"#);
                stream.write_all(&common::masked::frame(0x81, text.as_bytes(), [1, 2, 3, 4])).unwrap();
            }
        })
    });
    let waiting = || host.server.stats().unwrap().events_waiting;
    until("the queue is full", || waiting() >= 16);
    // A read has 64 KB, which is six calls and a part of one. So there is at most one read more than the queue holds.
    let (mut most, mut settled) = (waiting(), 0);
    until("the shard reads no more", || {
        std::thread::sleep(Duration::from_millis(10));
        settled = if waiting() > most { 0 } else { settled + 1 };
        most = most.max(waiting());
        settled == 20
    });
    assert!(most < 16 + 8, "{most}");
    for _ in 0..8 * CALLS {
        host.server.answer_call(next(&host.server).request, b"y", false).unwrap();
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    for client in &mut clients {
        for reference in 0..CALLS {
            assert_eq!(client.text(), format!(r#"{{"type":"answer","data":"y","ref":{reference}}}"#));
        }
    }
    assert_eq!(host.server.stats().unwrap().calls_waiting, 0);
    host.stop();
}

/// Calls are forgotten with their connection, so a client may come again and call again before the host has answered.
#[test]
fn a_client_that_comes_again_and_again_does_not_bury_the_host_in_calls() {
    const CALLS: u64 = 4;
    let host = start(&[("event_queue", "16"), ("max_calls", "4"), ("client_rate", "0"), ("threads", "1")]);
    let stats = || host.server.stats().unwrap();
    // The shard reads the head and the calls in one go, and so does not look at the queue between them.
    let protocol = "Sec-WebSocket-Protocol: push.v1.json\r\n";
    let head = format!("GET /push HTTP/1.1\r\nHost: {}\r\n{}{protocol}\r\n", host.address(), common::UPGRADE);
    let mut bytes = head.into_bytes();
    for reference in 1..=CALLS + 1 {
        let text = format!(r#"{{"type":"call","ref":{reference},"data":"x"}}"#);
        bytes.extend(common::masked::frame(0x81, text.as_bytes(), [1, 2, 3, 4]));
    }
    let comes = || {
        let mut client = host.connect();
        client.send(&bytes);
        client.head()
    };
    until("new clients are refused", || comes().starts_with("HTTP/1.1 503 "));
    let most = stats().events_waiting;
    assert!((4 * 16..4 * 16 + CALLS).contains(&most), "{most}");
    for _ in 0..10 {
        assert!(comes().starts_with("HTTP/1.1 503 "));
    }
    assert_eq!((stats().events_waiting, stats().calls), (most, most));
    for _ in 0..most {
        host.server.answer_call(next(&host.server).request, b"for nobody", false).unwrap();
    }
    // While the queue was full, the server read nothing from them, and did not notice their end.
    until("they have gone", || stats().connections == 0);
    assert_eq!((stats().calls_waiting, stats().events_waiting), (0, 0));
    let mut client = open(&host);
    call(&mut client, 1, "x");
    host.server.answer_call(next(&host.server).request, b"y", false).unwrap();
    assert_eq!(client.text(), r#"{"type":"answer","data":"y","ref":1}"#);
    host.stop();
}

/// The answer says so at once, whatever the reason is that nobody gets the call.
#[test]
fn a_call_that_nobody_can_answer_is_refused_and_may_be_tried_again() {
    let refused = |client: &mut Client| {
        call(client, 1, "x");
        let told = client.text();
        assert_eq!((&*field(&told, "code"), &*field(&told, "status")), ("refused", "503"), "{told}");
    };
    // No host has asked for events yet.
    let host = Host::start(&[("events", "call"), ("call_timeout", "10m")]);
    let mut client = open(&host);
    refused(&mut client);
    host.server.event_fd().unwrap();
    call(&mut client, 2, "x");
    host.server.answer_call(next(&host.server).request, b"y", false).unwrap();
    assert_eq!(field(&client.text(), "ref"), "2");
    host.stop();
    // The hosts of its name are gone, and another one is there.
    let path = format!("unix:{}", socket_path());
    let events = ("events", "call");
    let hub = Host::start(&[("attach_listen", &path), events, ("call_timeout", "10m")]);
    let [gone, other] = ["gone", "other"].map(|name| attached(&path, &[events, ("attach_name", name)]));
    for host in [&gone, &other] {
        host.event_fd().unwrap();
        host.stats().unwrap();
    }
    let lines = format!("Host: localhost\r\n{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE);
    let mut client = common::adopted(&gone, &format!("GET /push HTTP/1.1\r\n{lines}\r\n"), None);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    call(&mut client, 7, "x");
    gone.answer_call(next(&gone).request, b"y", false).unwrap();
    assert_eq!(field(&client.text(), "ref"), "7");
    gone.stop(PATIENCE);
    // A call that was on its way to it would be lost with it.
    until("the hub sees that it has gone", || hub.server.stats().unwrap().hosts == 1);
    refused(&mut client);
    // A host that takes no calls says so, too.
    let options = [("attach", &*path), ("attach_timeout", "1m"), ("attach_name", "other"), ("events", "none")];
    other.reload(&common::builder(&options)).unwrap();
    refused(&mut open(&hub));
    other.stop(PATIENCE);
    hub.stop();
}

#[test]
fn an_attached_host_answers_and_refuses() {
    let path = format!("unix:{}", socket_path());
    let events = ("events", "call");
    let hub = Host::start(&[("attach_listen", &path), events, ("call_timeout", "10m")]);
    let host = attached(&path, &[events]);
    host.event_fd().unwrap();
    // The hub knows by now that the host wants events.
    host.stats().unwrap();
    let mut client = open(&hub);
    call(&mut client, 1, "x");
    call(&mut client, 2, "x");
    let [first, second] = [(); 2].map(|()| next(&host));
    host.answer_call(second.request, b"yes", false).unwrap();
    host.deny(first.request, 429, "too many").unwrap();
    assert_eq!(client.text(), r#"{"type":"answer","data":"yes","ref":2}"#);
    assert_eq!(client.text(), r#"{"type":"error","code":"refused","message":"too many","status":429,"ref":1}"#);
    host.stop(PATIENCE);
    hub.stop();
}
