//! Streams with a beginning and an end, over every transport, as raw bytes.

mod common;

use common::{eventually, field, Client, Host, CONTROL};
use push::grant::Grant;
use push::hub::{Mark, Publication};

fn mark(host: &Host, channel: &str, mark: Mark) -> String {
    host.server.position_of(&host.server.publish(&Publication::mark(channel, mark)).unwrap())
}

fn end(host: &Host, channel: &str) -> String {
    mark(host, channel, Mark::End)
}

fn end_object(channel: &str, id: &str) -> String {
    format!(r#"{{"type":"end","channel":"{channel}","id":"{id}"}}"#)
}

/// The events of an SSE body, with the chunks taken away.
fn events(body: &str) -> Vec<String> {
    let lines: Vec<&str> = body.split("\r\n").filter(|line| line.len() > 3).collect();
    lines.concat().split("\n\n").filter(|event| !event.is_empty()).map(str::to_owned).collect()
}

const SSE: &str = "Accept: text/event-stream\r\n";
const CLOSED: &str = r#""code":1000,"reason":"all of its channels have ended","ended":true"#;

#[test]
fn an_event_source_gets_the_end_is_closed_and_does_not_come_back() {
    let host = Host::start(&[]);
    let mut live = host.get("channel=a", SSE);
    live.until("push-open");
    let message = host.publish("a", "one");
    let id = end(&host, "a");
    let told = events(&live.rest());
    let last = &told[told.len() - 3..];
    assert_eq!(last[0], format!("id: {message}\ndata: one"), "{told:?}");
    assert_eq!(last[1], format!("id: {id}\nevent: push-end\ndata: {}", end_object("a", &id)));
    assert!(last[2].contains("event: push-close") && last[2].contains(CLOSED), "{told:?}");
    // It comes back with the end, or with a later position.
    let later = host.publish("b", "x");
    for position in [&id, &later] {
        for query in ["channel=a", "channel=a&since=start", "channel=a&format=json"] {
            let head = host.get(query, &format!("{SSE}Last-Event-ID: {position}\r\n")).rest();
            assert!(head.starts_with("HTTP/1.1 204 No Content\r\n") && head.ends_with("\r\n\r\n"), "{head}");
            assert!(head.contains(&format!("Push-Position: {later}\r\n")), "{head}");
        }
    }
    eventually(|| host.server.stats().unwrap().subscriptions == 0);
    assert_eq!(host.server.stats().unwrap().ended_channels, 1);
    host.stop();
}

#[test]
fn an_event_source_that_may_still_get_something_is_served() {
    let host = Host::start(&[("history_count", "3")]);
    let before = host.publish("a", "one");
    let id = end(&host, "a");
    let open = host.publish("open", "x");
    let came = |query: &str, since: &str| {
        let mut client = host.get(query, &format!("{SSE}Last-Event-ID: {since}\r\n"));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{query} {since}: {head}");
        client
    };
    // It lacks the end; another channel has not ended; one does not exist; the position is of another life.
    assert!(came("channel=a", &before).rest().contains("push-end"));
    came("channel=a&channel=open", &open).until("push-open");
    came("channel=a&channel=nobody", &open).until("push-open");
    assert!(came("channel=a", "elsewhere-7").rest().contains("push-end"));
    // A broadcast that it lacks is told first.
    host.server.broadcast(&Publication::new("", b"to all")).unwrap();
    assert!(came("channel=a", &id).rest().contains("to all"));
    // Something new is published there, and it waits for more.
    let mut waits = came("channel=a&channel=open", &host.server.position(host.server.stats().unwrap().seq));
    waits.until("push-open");
    host.publish("a", "again");
    waits.until("again");
    came("channel=a", &id).until("again");
    end(&host, "a");
    waits.until("push-end");
    host.publish("open", "one of its channels is open");
    waits.until("one of its channels is open");
    end(&host, "open");
    assert!(waits.rest().contains(CLOSED));
    host.stop();
}

#[test]
fn a_grant_is_asked_for_before_an_end_is_told() {
    let host = Host::start(&[("auth", "host")]);
    let position = end(&host, "secret");
    let grant = Grant::new(None, &["public".into()], &[], 0, false, false).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let head = format!("GET /push?channel=secret HTTP/1.1\r\nHost: h\r\n{SSE}Last-Event-ID: {position}\r\n\r\n");
    host.server.adopt(theirs.into(), head.as_bytes(), Some(grant)).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut &ours, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    host.stop();
}

#[test]
fn a_stream_and_a_poll_tell_the_end_as_an_object() {
    let host = Host::start(&[]);
    let mut live = host.get("channel=a&transport=stream", "");
    live.head();
    live.until("\n\r\n");
    host.publish("a", "one");
    let mut waits = host.get("channel=a&since=start", "");
    assert!(waits.response().1.contains("\"one\""));
    let since = host.server.position(1);
    waits.send(format!("GET /push?channel=a&since={since} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    eventually(|| host.server.stats().unwrap().polls == 1);
    let id = end(&host, "a");
    let answer = format!(r#"{{"position":"{id}","messages":[{}],"ended":true}}"#, end_object("a", &id));
    assert_eq!(waits.response().1, answer);
    let rest = live.rest();
    assert!(rest.contains(&format!("{}\n", end_object("a", &id))) && rest.contains(CLOSED), "{rest}");
    assert!(rest.ends_with("0\r\n\r\n"));
    // Who comes later gets it, too: with everything, with the newest, or alone.
    for (query, has_one) in [("since=start", true), ("last=1", true), ("", false)] {
        let lines = host.get(&format!("channel=a&transport=stream&{query}"), "").rest();
        assert!(lines.contains("\"type\":\"end\"") && lines.contains(CLOSED), "{query}: {lines}");
        assert_eq!(lines.contains("\"one\""), has_one, "{query}: {lines}");
        let body = host.get(&format!("channel=a&{query}"), "").response().1;
        assert!(
            body.contains("\"type\":\"end\"")
                && body.ends_with(r#","ended":true}"#)
                && body.contains("\"one\"") == has_one,
            "{query}: {body}"
        );
    }
    // A poll that has everything is told that nothing is left. Somebody may publish there again.
    let nothing = |query: &str| host.get(&format!("{query}&since={id}"), "").response().1;
    assert_eq!(nothing("channel=a"), format!(r#"{{"position":"{id}","messages":[],"ended":true}}"#));
    assert_eq!(nothing("channel=a&channel=b&wait=0"), format!(r#"{{"position":"{id}","messages":[]}}"#));
    host.publish("a", "again");
    assert!(nothing("channel=a").ends_with(r#""data":"again"}]}"#));
    host.stop();
}

#[test]
fn a_poll_is_over_only_with_the_last_of_its_channels() {
    let host = Host::start(&[("outbox", "4KB")]);
    let poll = |query: &str| {
        let client = host.get(query, "");
        eventually(|| host.server.stats().unwrap().polls == 1);
        client
    };
    let begin = host.server.position(0);
    let both = format!("channel=a&channel=b&since={begin}");
    let mut waits = poll(&both);
    let first = end(&host, "a");
    assert!(waits.response().1.ends_with(r#""}]}"#), "b is open");
    let mut waits = poll(&format!("channel=a&channel=b&since={first}"));
    end(&host, "b");
    assert!(waits.response().1.ends_with(r#""}],"ended":true}"#));
    assert!(host.get(&both, "").response().1.ends_with(r#""}],"ended":true}"#));
    // One that gets only a part is not over.
    let long = "x".repeat(3000);
    host.publish("long", &long);
    host.publish("long", &long);
    end(&host, "long");
    let body = host.get("channel=long&since=start", "").response().1;
    assert!(body.ends_with(r#"],"more":true}"#), "{body}");
    let rest = host.get(&format!("channel=long&since={}", field(&body, "position")), "").response().1;
    assert!(rest.ends_with(r#"],"ended":true}"#), "{rest}");
    // A host's own close with the same words is no end.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let head = b"GET /push?channel=open&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
    let grant = Grant::new(Some("u"), &["open".into()], &[], 0, false, false).unwrap();
    host.server.adopt(theirs.into(), head, Some(grant)).unwrap();
    eventually(|| host.server.stats().unwrap().streams == 1);
    host.server.disconnect_user("u", 1000, "all of its channels have ended").unwrap();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut &ours, &mut told).unwrap();
    assert!(told.contains(r#""reason":"all of its channels have ended"}"#), "{told}");
    host.stop();
}

#[test]
fn websockets_get_the_end_as_an_object_or_are_closed() {
    let host = Host::start(&[("compression", "true")]);
    let mut json = host.websocket("channel=a", true);
    assert_eq!(field(&json.text(), "type"), "subscribed");
    let mut raw = host.websocket("channel=a", false);
    host.publish("a", "one");
    let id = end(&host, "a");
    assert_eq!((raw.text(), raw.end()), ("one".into(), (1000, "all of its channels have ended".into())));
    assert_eq!(field(&json.text(), "data"), "one");
    assert_eq!(json.text(), end_object("a", &id));
    // It stays, and can have other channels, or this one when it begins anew.
    json.say(r#"{"type":"unsubscribe","channel":"a"}"#);
    assert_eq!(field(&json.text(), "type"), "unsubscribed");
    json.say(r#"{"type":"subscribe","channel":"a","since":"start"}"#);
    assert_eq!((field(&json.text(), "data"), json.text()), ("one".into(), end_object("a", &id)));
    assert_eq!(field(&json.text(), "type"), "subscribed");
    let begun = mark(&host, "a", Mark::Begin);
    assert_eq!(json.text(), format!(r#"{{"type":"begin","channel":"a","id":"{begun}"}}"#));
    host.publish("a", "two");
    assert_eq!(field(&json.text(), "data"), "two");
    json.say(r#"{"type":"subscribe","channel":"b","since":"begin"}"#);
    assert_eq!(field(&json.text(), "message"), "since must be a position that was sent before, or: start");
    host.stop();
}

#[test]
fn who_comes_at_the_end_or_after_it_is_told_of_it() {
    let host = Host::start(&[]);
    host.publish("a", "one");
    let id = end(&host, "a");
    let later = host.publish("b", "x");
    for since in [&id, &later] {
        let lines = host.get(&format!("channel=a&transport=stream&since={since}"), "").rest();
        assert!(lines.contains(&end_object("a", since)) && lines.contains(CLOSED), "{lines}");
        assert!(!lines.contains("\"one\""), "{lines}");
        let mut json = host.websocket(&format!("channel=a&channel=b&since={since}"), true);
        assert_eq!(json.text(), end_object("a", since));
        json.until("subscribed");
        let mut live = host.websocket("channel=b", true);
        live.text();
        live.say(&format!(r#"{{"type":"subscribe","channel":"a","since":"{since}"}}"#));
        assert_eq!((live.text(), field(&live.text(), "type")), (end_object("a", since), "subscribed".into()));
    }
    host.stop();
}

#[test]
fn a_client_without_a_position_gets_one_with_the_last_end_that_it_is_told() {
    let host = Host::start(&[]);
    end(&host, "a");
    let position = end(&host, "b");
    let sse = host.get("channel=a&channel=b", SSE).rest();
    let ids: Vec<String> = events(&sse).into_iter().filter(|event| event.contains("id: ")).collect();
    assert!(!sse.contains("Push-Position") && ids.len() == 1, "{sse}");
    assert_eq!(ids[0], format!("id: {position}\nevent: push-end\ndata: {}", end_object("b", &position)));
    assert!(sse.contains(r#"data: {"type":"end","channel":"a"}"#), "{sse}");
    let lines = host.get("channel=a&channel=b&transport=stream", "").rest();
    assert!(!lines.contains("Push-Position") && lines.contains(r#"{"type":"end","channel":"a"}"#), "{lines}");
    let (head, _) = host.get("channel=a&channel=b", "").response();
    assert!(head.contains(&format!("Push-Position: {position}\r\n")), "a poll is read as a whole: {head}");
    // Nothing is told, and the position is there at once.
    assert!(host.get("channel=c", SSE).until("push-open").contains(&format!("Push-Position: {position}\r\n")));
    host.stop();
}

#[test]
fn a_live_websocket_gets_a_stream_from_its_start_or_an_error_and_never_a_part() {
    let host = Host::start(&[("outbox", "4KB")]);
    let long = "x".repeat(1500);
    host.publish("a", &long);
    let mut socket = host.websocket("channel=b", true);
    socket.text();
    let subscribe = r#"{"type":"subscribe","channel":"a","since":"start"}"#;
    socket.say(subscribe);
    assert_eq!((field(&socket.text(), "data"), field(&socket.text(), "type")), (long.clone(), "subscribed".into()));
    socket.say(r#"{"type":"unsubscribe","channel":"a"}"#);
    socket.text();
    host.publish("a", &long);
    host.publish("a", &long);
    socket.say(subscribe);
    let error = socket.text();
    assert_eq!((field(&error, "type"), field(&error, "code")), ("error".into(), "since".into()));
    assert!(error.contains("open a connection whose URL has this channel and since=start"), "{error}");
    host.publish("b", "it goes on");
    assert_eq!(field(&socket.text(), "data"), "it goes on");
    host.stop();
}

#[test]
fn from_the_start_comes_everything_that_is_kept_over_every_transport() {
    let host = Host::start(&[("history_count", "3"), ("outbox", "4KB")]);
    for data in ["1", "2", "3"] {
        host.publish("a", data);
    }
    let all = |client: &mut Client, expected: &[&str]| {
        expected.iter().for_each(|part| _ = client.until(part));
    };
    let whole: &[&str] = &["\"data\":\"1\"", "\"data\":\"2\"", "\"data\":\"3\""];
    let cut: &[&str] = &["\"type\":\"gap\"", "\"data\":\"2\"", "\"data\":\"3\"", "\"data\":\"4\""];
    for expected in [whole, cut] {
        for (query, lines) in [("&transport=stream", ""), ("&format=json", SSE), ("", "")] {
            all(&mut host.get(&format!("channel=a&since=start{query}"), lines), expected);
        }
        let mut socket = host.websocket("channel=a&since=start", true);
        all(&mut socket, expected);
        host.publish("a", "4");
    }
    let raw = host.get("channel=a&since=start&transport=ws", common::UPGRADE).head();
    assert!(raw.contains("Push-Gap: 1"), "{raw}");
    // More than an outbox takes, in parts.
    mark(&host, "long", Mark::Begin);
    let long = "x".repeat(3000);
    host.publish("long", &long);
    host.publish("long", &long);
    end(&host, "long");
    let lines = host.get("channel=long&since=start&transport=stream", "").rest();
    assert!(lines.matches(&long).count() == 2 && lines.contains("\"end\"") && lines.contains(CLOSED), "{lines}");
    let refused = host.get("channel=a&since=begin", "").response().1;
    assert!(refused.contains("since must be a position that was sent before, or: start"), "{refused}");
    host.stop();
}

#[test]
fn the_control_api_ends_and_begins_streams_and_says_what_it_can_not_end() {
    let host = Host::start(&[
        CONTROL[0],
        CONTROL[1],
        ("channel.unkept.history_count", "0"),
        ("channel.small.history_bytes", "100"),
    ]);
    let ask = |method: &str, path: &str| {
        let mut client = Client::over(std::net::TcpStream::connect(&host.server.addresses()[1]).unwrap());
        let key = CONTROL[1].1;
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\r\n");
        client.send(head.as_bytes());
        let status = client.head()[9..12].to_owned();
        (status, client.rest())
    };
    let (status, first) = ask("POST", "/v1/end?channel=a");
    assert_eq!((&*status, field(&first, "id")), ("200", host.server.position(1)), "it did not exist");
    assert_eq!(ask("POST", "/v1/end?channel=a").1, first, "it has ended already");
    assert_eq!(field(&ask("POST", "/v1/begin?channel=a").1, "id"), host.server.position(2));
    for (path, why) in [
        ("/v1/end", "?channel= is needed"),
        ("/v1/end?channel=", "channel: empty"),
        ("/v1/end?channel=a*", "channel: a name can't end in *"),
        ("/v1/end?channel=a&channel=b", "channel: this request takes it only once"),
        ("/v1/end?channel=a&key=k", "key"),
        ("/v1/end?channel=unkept", "channel: unkept keeps no messages"),
        ("/v1/end?channel=small", "channel: small keeps no messages"),
        ("/v1/begin?channel=unkept", "channel: unkept keeps no messages"),
    ] {
        let (status, body) = ask("POST", path);
        assert!(status == "400" && body.contains(why), "{path}: {status} {body}");
    }
    assert_eq!(ask("GET", "/v1/end?channel=a").0, "405");
    host.stop();
}
