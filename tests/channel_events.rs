//! The host is told which channels a connection gets and loses: the kinds `subscribe` and `unsubscribe` of the option
//! `events`.

mod common;

use common::{adopted, field, until, Client, Host, PATIENCE};
use push::events::EventKind;
use push::grant::{Grant, Terms};
use push::Server;

const BOTH: (&str, &str) = ("events", "subscribe,unsubscribe");

/// Starts a server, and asks it for events.
fn start(options: &[(&str, &str)]) -> Host {
    let host = Host::start(options);
    host.server.event_fd().unwrap();
    host
}

/// The next event, as `KIND CHANNEL`.
fn next(server: &Server) -> String {
    let event = server.next_event(Some(PATIENCE)).unwrap();
    let kind = match event.kind {
        EventKind::Open => "open",
        EventKind::Close => "close",
        EventKind::Subscribe => "+",
        EventKind::Unsubscribe => "-",
        other => panic!("{other:?}"),
    };
    [kind, event.channel.as_deref().unwrap_or("")].join(" ").trim_end().to_owned()
}

fn told(server: &Server, count: usize) -> Vec<String> {
    (0..count).map(|_| next(server)).collect()
}

/// The same, where the order does not matter.
fn told_sorted(server: &Server, count: usize) -> Vec<String> {
    let mut told = told(server, count);
    told.sort_unstable();
    told
}

fn say(client: &mut Client, request: &str, answer: &str) {
    client.say(request);
    let told = client.text();
    assert!(told.contains(answer), "{told}");
}

#[test]
fn each_transport_tells_the_channels_of_its_request_and_their_end_but_polls_do_not() {
    let host = start(&[("events", "open,close,subscribe,unsubscribe")]);
    for (query, lines, opened) in [
        ("channel=a&channel=b", common::UPGRADE, "HTTP/1.1 101 "),
        ("channel=a&channel=b&transport=sse", "", "push-open"),
        ("channel=a&channel=b&transport=stream", "", "HTTP/1.1 200 "),
    ] {
        let mut client = host.get(query, lines);
        client.until(opened);
        assert_eq!(told(&host.server, 3), ["open a", "+ a", "+ b"], "{query}");
        // Polls come and go meanwhile.
        assert!(host.get("channel=a&channel=b&wait=0", "").response().0.starts_with("HTTP/1.1 200 "));
        drop(client);
        assert_eq!(told_sorted(&host.server, 2), ["- a", "- b"], "{query}");
        assert_eq!(next(&host.server), "close");
    }
    host.stop();
}

#[test]
fn a_live_connection_tells_what_it_subscribes_to_and_nothing_that_is_refused() {
    let host = start(&[BOTH, ("max_channels", "2")]);
    let mut client = host.websocket("channel=a", true);
    assert_eq!(field(&client.text(), "type"), "subscribed");
    say(&mut client, r#"{"type":"subscribe","channel":"b"}"#, r#""type":"subscribed""#);
    for refused in ["a", "b", "c", ""] {
        say(&mut client, &format!(r#"{{"type":"subscribe","channel":"{refused}"}}"#), r#""type":"error""#);
    }
    say(&mut client, r#"{"type":"unsubscribe","channel":"c"}"#, r#""type":"error""#);
    say(&mut client, r#"{"type":"unsubscribe","channel":"a"}"#, r#""type":"unsubscribed""#);
    say(&mut client, r#"{"type":"subscribe","channel":"c"}"#, r#""type":"subscribed""#);
    assert_eq!(told(&host.server, 4), ["+ a", "+ b", "- a", "+ c"]);
    drop(client);
    assert_eq!(told_sorted(&host.server, 2), ["- b", "- c"]);
    // Nothing else has come.
    drop(host.websocket("channel=last", false));
    assert_eq!(told(&host.server, 2), ["+ last", "- last"]);
    host.stop();
}

#[test]
fn an_event_names_the_connection_and_its_user_and_a_channel_that_is_taken_away_is_told_once() {
    let host = start(&[BOTH]);
    let names = ["a", "b", "c"].map(str::to_owned);
    let terms = Terms { user: Some("ann"), subscribe: &names, ..Terms::default() };
    let head = format!("GET /push HTTP/1.1\r\nHost: localhost\r\n{}\r\n", common::UPGRADE);
    let mut client = adopted(&host.server, &head, Some(Grant::of(&terms).unwrap()));
    client.head();
    let first = host.server.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((first.kind, first.user.as_deref()), (EventKind::Subscribe, Some("ann")));
    assert_eq!(told(&host.server, 2), ["+ b", "+ c"]);
    host.server.revoke_channel("ann", "a", "").unwrap();
    let lost = host.server.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((lost.kind, lost.channel.as_deref()), (EventKind::Unsubscribe, Some("a")));
    assert_eq!((lost.connection, lost.user.as_deref()), (first.connection, Some("ann")));
    // The new grant has only one of them.
    let terms = Terms { user: Some("ann"), channels: &names[2..], ..Terms::default() };
    host.server.renew(first.connection, Grant::of(&terms).unwrap()).unwrap();
    assert_eq!(next(&host.server), "- b");
    // The last one is taken away, so the connection ends.
    host.server.revoke_channel("ann", "*", "").unwrap();
    assert_eq!(client.close_code(), 4403);
    assert_eq!(next(&host.server), "- c");
    drop(host.websocket("channel=last", false));
    assert_eq!(told(&host.server, 2), ["+ last", "- last"]);
    host.stop();
}

/// Its channels are told with its request, and their end once, also if it never comes so far that it is live.
#[test]
fn a_client_that_catches_up_has_its_channels_from_the_start() {
    let kept = [("history_bytes", "64MB"), ("history_count", "1000")];
    let host = start(&[&[BOTH, ("outbox", "64KB"), ("close_timeout", "10m")], &kept[..]].concat());
    let first = host.publish("a", "first");
    let payload = "x".repeat(100_000);
    (0..200).for_each(|_| drop(host.publish("a", &payload)));
    let query = format!("channel=a&channel=b&since={first}&transport=stream");
    // One reads nothing, and goes. Another one is slow until its history is gone, and is sent away.
    let gone = host.get(&query, "");
    assert_eq!(told(&host.server, 2), ["+ a", "+ b"]);
    drop(gone);
    assert_eq!(told_sorted(&host.server, 2), ["- a", "- b"]);
    let mut slow = host.websocket(&format!("channel=a&channel=b&since={first}"), false);
    assert_eq!(told(&host.server, 2), ["+ a", "+ b"]);
    (0..1500).for_each(|_| drop(host.publish("a", "y")));
    until("it is sent away", || slow.next_frame().0 == 0x88);
    assert_eq!(told_sorted(&host.server, 2), ["- a", "- b"]);
    // One that reads everything becomes live, which is told no second time.
    let since = host.publish("a", "first");
    (0..200).for_each(|_| drop(host.publish("a", &payload)));
    let mut quick = host.get(&format!("channel=a&channel=b&since={since}&transport=stream"), "");
    (0..200).for_each(|_| drop(quick.until(&payload)));
    host.publish("b", "live");
    quick.until("live");
    drop(quick);
    assert_eq!(told(&host.server, 2), ["+ a", "+ b"]);
    assert_eq!(told_sorted(&host.server, 2), ["- a", "- b"]);
    host.stop();
}

#[test]
fn nothing_is_told_that_was_not_asked_for() {
    let host = start(&[]);
    let mut client = host.websocket("channel=a", true);
    assert_eq!(field(&client.text(), "type"), "subscribed");
    say(&mut client, r#"{"type":"subscribe","channel":"b"}"#, r#""type":"subscribed""#);
    drop(client);
    assert_eq!(told(&host.server, 2), ["open a", "close"]);
    host.stop();
    // Before the host asks for events a connection is not told, and neither are its channels later.
    let host = Host::start(&[BOTH]);
    let mut before = host.websocket("channel=a", true);
    assert_eq!(field(&before.text(), "type"), "subscribed");
    host.server.event_fd().unwrap();
    say(&mut before, r#"{"type":"subscribe","channel":"b"}"#, r#""type":"subscribed""#);
    say(&mut before, r#"{"type":"unsubscribe","channel":"a"}"#, r#""type":"unsubscribed""#);
    drop(before);
    until("it is gone", || host.server.stats().unwrap().connections == 0);
    drop(host.websocket("channel=after", false));
    assert_eq!(told(&host.server, 2), ["+ after", "- after"]);
    host.stop();
}

/// A client that subscribes and unsubscribes as fast as it can is not read from while the host is behind.
#[test]
fn a_host_that_takes_no_events_is_not_buried() {
    let host = start(&[BOTH, ("event_queue", "16"), ("client_rate", "0")]);
    let mut client = host.websocket("channel=a", true);
    assert_eq!(field(&client.text(), "type"), "subscribed");
    // Nobody reads the answers. If they filled half of the outbox, the client would not be read for that reason.
    const ROUNDS: usize = 2_000;
    let sender = std::thread::spawn(move || {
        for _ in 0..ROUNDS {
            client.say(r#"{"type":"subscribe","channel":"b"}"#);
            client.say(r#"{"type":"unsubscribe","channel":"b"}"#);
        }
        client
    });
    let waiting = || host.server.stats().unwrap().events_waiting;
    until("the queue is full", || waiting() >= 16);
    let (mut most, mut settled) = (waiting(), 0);
    until("the shard reads no more", || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        settled = if waiting() > most { 0 } else { settled + 1 };
        most = most.max(waiting());
        settled == 20
    });
    // One read of the shard may exceed the bound. Its 64 KB have about 1,300 of these requests, of 4,000.
    assert!(most < 16 + 2000, "{most}");
    assert_eq!(next(&host.server), "+ a");
    for _ in 0..ROUNDS {
        assert_eq!(told(&host.server, 2), ["+ b", "- b"]);
    }
    drop(sender.join().unwrap());
    assert_eq!(next(&host.server), "- a");
    host.stop();
}
