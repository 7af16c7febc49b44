//! Live connections when their grants end, are taken away, or are renewed.

use super::{claims, next_event, soon, token, unix_seconds, SECRET};
use crate::common::{self, eventually, field, Host, PATIENCE};
use push::events::EventKind;
use push::grant::{Grant, Terms};
use std::os::fd::OwnedFd;

/// An open connection of each transport to channel `a`, and to `b` if it should have two, for the user of the token.
fn one_of_each(host: &Host, channels: &str, token: &str) -> [common::Client; 5] {
    let get = |query: &str| host.get(&format!("{channels}{query}&token={token}"), "");
    let mut sse = get("&transport=sse");
    sse.until("push-open");
    let mut stream = get("&transport=stream");
    stream.head();
    let poll = get("");
    let raw = host.websocket(&format!("{channels}&token={token}"), false);
    let mut json = host.websocket(&format!("{channels}&token={token}"), true);
    for _ in channels.split('&') {
        assert_eq!(field(&json.text(), "type"), "subscribed");
    }
    common::eventually(|| host.server.stats().unwrap().polls == 1);
    [sse, stream, poll, raw, json]
}

/// A token that is good for so many seconds more. The server allows for clocks that differ by five seconds.
fn short_token(seconds: i64) -> String {
    token(&claims(seconds - 5))
}

/// The client, if it was let in. Otherwise its token had expired.
fn let_in(mut client: common::Client) -> Option<common::Client> {
    let head = client.head();
    let status = &head[9..12];
    assert!(["101", "200", "401", "403"].contains(&status), "{head}");
    status.starts_with(['1', '2']).then_some(client)
}

/// What the server says next to a client of the subprotocol. `None`: it ends the connection.
fn answer(client: &mut common::Client) -> Option<String> {
    let (first, payload) = client.next_frame();
    (first == 0x81).then(|| String::from_utf8(payload).unwrap())
}

/// How the connections of [`one_of_each`] are told of their end.
fn assert_ended([sse, stream, mut poll, raw, json]: [common::Client; 5], reason: &str) {
    let (head, body) = poll.response();
    assert!(head.starts_with("HTTP/1.1 403 ") && field(&body, "error").contains(reason), "{head}{body}");
    assert_eq!(poll.rest(), "", "its connection ends with the answer");
    assert_streams_ended([sse, stream, raw, json], reason);
}

fn assert_streams_ended([mut sse, mut stream, mut raw, mut json]: [common::Client; 4], reason: &str) {
    let object = format!(r#"{{"type":"close","code":4403,"reason":"{reason}"}}"#);
    let text = sse.rest();
    assert!(text.contains("event: push-close") && text.contains(&object), "{text}");
    assert!(stream.rest().contains(&object));
    assert_eq!(raw.close_code(), 4403);
    assert_eq!(json.close_code(), 4403);
}

fn jwt(options: &[(&str, &str)]) -> Host {
    Host::start(&[&[("auth", "jwt"), ("jwt_secret", SECRET)], options].concat())
}

#[test]
fn a_user_that_is_disconnected_is_gone_at_once_on_every_transport() {
    let host = jwt(&[]);
    let clients = one_of_each(&host, "channel=a", &token(&claims(3600)));
    host.server.disconnect_user("bob", 4403, "not him").unwrap();
    host.server.disconnect_user("ann", 4403, "thrown out").unwrap();
    assert_ended(clients, "thrown out");
    host.stop();
}

#[test]
fn a_grant_that_expires_ends_every_transport() {
    let host = jwt(&[]);
    let reason = "grant expired or revoked";
    let get = |query: &str, seconds, lines: &str| {
        host.get(&format!("channel=a{query}&token={}", short_token(seconds)), lines)
    };
    let [sse, stream] =
        ["sse", "stream"].map(|name| soon(|seconds| let_in(get(&format!("&transport={name}"), seconds, ""))));
    let raw = soon(|seconds| let_in(get("", seconds, common::UPGRADE)));
    let subprotocol = format!("{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE);
    let json = soon(|seconds| {
        let mut client = let_in(get("", seconds, &subprotocol))?;
        assert_eq!(field(&answer(&mut client)?, "type"), "subscribed");
        Some(client)
    });
    // A poll is answered when its grant ends. If it was not let in, its answer gives another reason.
    let (head, rest) = soon(|seconds| {
        let mut poll = get("", seconds, "");
        let (head, body) = poll.response();
        body.contains(reason).then(|| (head, poll.rest()))
    });
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(rest, "", "its connection ends with the answer");
    assert_streams_ended([sse, stream, raw, json], reason);
    host.stop();
}

/// The client can't name other channels, so the next poll must not be refused for one that is revoked.
#[test]
fn polls_go_on_with_the_channels_of_their_grant_that_are_left() {
    let host = Host::start(&[]);
    let names = ["a", "b"].map(str::to_owned);
    let terms = Terms { user: Some("ann"), subscribe: &names, keep_alive: true, ..Terms::default() };
    let poll = "GET /push?since=0-0&wait=0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = common::adopted(&host.server, poll, Some(Grant::of(&terms).unwrap()));
    assert!(client.response().0.starts_with("HTTP/1.1 200 "));
    host.publish("a", "not for her");
    host.publish("b", "for her");
    host.server.revoke_channel("ann", "a", "").unwrap();
    client.send(poll.as_bytes());
    let (head, body) = client.response();
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("for her") && !body.contains("not for"), "{head}{body}");
    host.server.revoke_channel("ann", "b", "").unwrap();
    client.send(poll.as_bytes());
    assert!(client.response().0.starts_with("HTTP/1.1 403 "));
    host.stop();
}

#[test]
fn a_revoked_channel_is_lost_at_once_and_for_good() {
    let host = jwt(&[]);
    let mut both = claims(3600);
    both["push"] = serde_json::json!({"subscribe": ["a", "b"], "publish": ["a", "b"]});
    let both = token(&both);
    let one = one_of_each(&host, "channel=a", &both);
    let [mut sse, mut stream, mut poll, mut raw, mut json] = one_of_each_more(&host, &both);
    host.server.revoke_channel("ann", "a", "moved out").unwrap();
    let [sse_one, stream_one, poll_one, raw_one, mut json_one] = one;
    // Clients without a channel are closed. A client of the subprotocol is told instead, and may ask for more.
    assert!([sse_one, stream_one]
        .into_iter()
        .all(|mut client| client.rest().contains(r#""code":4403,"reason":"moved out""#)));
    assert!({ poll_one }.response().0.contains(" 403 "));
    assert_eq!({ raw_one }.close_code(), 4403);
    for client in [&mut json_one, &mut json] {
        let told = client.text();
        assert_eq!(told, r#"{"type":"unsubscribed","channel":"a","code":4403,"reason":"moved out"}"#);
        client.say(r#"{"type":"subscribe","channel":"a"}"#);
        assert_eq!(field(&client.text(), "code"), "channel", "the door is closed");
        client.say(r#"{"type":"publish","channel":"a","data":"x"}"#);
        assert_eq!(field(&client.text(), "code"), "publish", "this one, too");
        client.say(&serde_json::json!({"type": "token", "token": both}).to_string());
        assert_eq!(field(&client.text(), "type"), "token");
        client.say(r#"{"type":"subscribe","channel":"a"}"#);
        assert_eq!(field(&client.text(), "code"), "channel", "it is no key to it");
    }
    json_one.say(r#"{"type":"subscribe","channel":"b"}"#);
    assert_eq!(field(&json_one.text(), "type"), "subscribed");
    // Clients with another channel get that one, and nothing of the first.
    host.publish("a", "not for them");
    host.publish("b", "for them");
    assert_eq!(field(&json.text(), "data"), "for them");
    assert_eq!(field(&json_one.text(), "data"), "for them");
    assert_eq!(raw.text(), "for them");
    let poll = poll.response().1;
    assert!(poll.contains("for them") && !poll.contains("not for them"), "{poll}");
    for client in [&mut sse, &mut stream] {
        assert!(!client.until("for them").contains("not "), "only the other channel");
    }
    assert!(host.get(&format!("channel=a&token={both}"), "Accept: text/event-stream\r\n").head().contains(" 200 "));
    assert!(host.server.revoke_channel("ann", "a*b*", "").is_err());
    assert!(host.server.revoke_channel("", "a", "").is_err());
    host.stop();
}

/// Opens [`one_of_each`] with two channels, beside the clients that are there.
fn one_of_each_more(host: &Host, token: &str) -> [common::Client; 5] {
    let get = |query: &str| host.get(&format!("channel=a&channel=b{query}&token={token}"), "");
    let (mut sse, mut stream, poll) = (get("&transport=sse"), get("&transport=stream"), get(""));
    sse.until("push-open");
    stream.head();
    let raw = host.websocket(&format!("channel=a&channel=b&token={token}"), false);
    let mut json = host.websocket(&format!("channel=a&channel=b&token={token}"), true);
    json.text();
    json.text();
    common::eventually(|| host.server.stats().unwrap().polls == 2);
    [sse, stream, poll, raw, json]
}

#[test]
fn a_channel_is_lost_while_its_history_is_still_under_way() {
    let host = jwt(&[
        ("threads", "1"),
        ("outbox", "4KB"),
        ("history_count", "100000"),
        ("history_bytes", "64MB"),
        ("max_message", "64KB"),
    ]);
    let start = host.server.position(0);
    for _ in 0..400 {
        host.publish("a", &"x".repeat(60_000));
    }
    let mut client = host.websocket(&format!("channel=a&since={start}&token={}", token(&claims(3600))), true);
    // The same command tells this client after the first one. The first one is still catching up, since it is not read.
    let mut mark = host.websocket(&format!("channel=a&token={}", token(&claims(3600))), true);
    assert_eq!(field(&mark.text(), "type"), "subscribed");
    host.server.revoke_channel("ann", "*", "").unwrap();
    assert_eq!(field(&mark.text(), "type"), "unsubscribed");
    let told = std::iter::repeat_with(|| client.text()).find(|text| !text.contains(r#""type":"message""#)).unwrap();
    assert_eq!(told, r#"{"type":"unsubscribed","channel":"a","code":4403,"reason":"revoked"}"#);
    client.say(r#"{"type":"ping"}"#);
    let next = std::iter::repeat_with(|| client.text()).find(|text| !text.contains(r#""type":"message""#)).unwrap();
    assert_eq!(field(&next, "type"), "pong");
    // Counted at the end of the turn in which they were told.
    eventually(|| host.server.stats().unwrap().subscriptions == 0);
    host.stop();
}

#[test]
fn a_new_token_in_time_prolongs_a_live_connection() {
    let host = jwt(&[]);
    let mut wide = claims(3600);
    wide["push"] = serde_json::json!({"subscribe": ["a", "b"]});
    let say = |client: &mut common::Client, token: &str| {
        client.say(&serde_json::json!({"type": "token", "token": token}).to_string());
        answer(client)
    };
    let mut other = claims(3600);
    other["sub"] = "bob".into();
    let subprotocol = format!("{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE);
    let get = |seconds, lines: &str| host.get(&format!("channel=a&token={}", short_token(seconds)), lines);
    let (mut client, first_end) = soon(|seconds| {
        let end = unix_seconds() + seconds;
        let mut client = let_in(get(seconds, &subprotocol))?;
        assert_eq!(field(&answer(&mut client)?, "type"), "subscribed");
        assert_eq!(field(&say(&mut client, &token(&other))?, "code"), "user");
        assert_eq!(field(&say(&mut client, "nonsense")?, "code"), "token");
        assert_eq!(field(&say(&mut client, &token(&claims(-60)))?, "code"), "token", "expired");
        let answer = say(&mut client, &token(&wide))?;
        assert_eq!(field(&answer, "type"), "token");
        assert!(field(&answer, "expires").parse::<i64>().unwrap() > unix_seconds() + 3000, "{answer}");
        Some((client, end))
    });
    // The first token has expired when one has that ends later.
    let mut raw = soon(|seconds| let_in(get(seconds + (first_end - unix_seconds()).max(0), common::UPGRADE)));
    assert_eq!(raw.close_code(), 4403);
    client.say(r#"{"type":"subscribe","channel":"b"}"#);
    assert_eq!(field(&client.text(), "type"), "subscribed", "its rights are the new token's");
    client.say(r#"{"type":"publish","channel":"a","data":"x"}"#);
    assert_eq!(field(&client.text(), "code"), "publish", "what that does not name is not allowed any more");
    let mut narrow = claims(3600);
    narrow["push"] = serde_json::json!({"subscribe": ["b"]});
    assert_eq!(
        say(&mut client, &token(&narrow)).unwrap(),
        r#"{"type":"unsubscribed","channel":"a","code":4403,"reason":"not in the new grant"}"#
    );
    assert_eq!(field(&client.text(), "type"), "token");
    host.publish("a", "not any more");
    host.publish("b", "still");
    assert_eq!(field(&client.text(), "data"), "still");
    let code = soon(|seconds| {
        let again = say(&mut client, &short_token(seconds))?;
        if field(&again, "type") == "error" {
            return None;
        }
        assert_eq!(field(&again, "channel"), "b");
        assert_eq!(field(&client.text(), "type"), "token");
        Some(client.close_code())
    });
    assert_eq!(code, 4403, "a token may also shorten");
    host.stop();
}

#[test]
fn a_token_changes_nothing_without_auth_jwt() {
    let say = |client: &mut common::Client| {
        client.say(&serde_json::json!({"type": "token", "token": token(&claims(3600))}).to_string());
        field(&client.text(), "code")
    };
    let open = Host::start(&[]);
    assert_eq!(say(&mut open.websocket("", true)), "token");
    open.stop();
    let host = jwt(&[]);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let head = format!(
        "GET /push HTTP/1.1\r\nHost: localhost\r\n{}Sec-WebSocket-Protocol: push.v1.json\r\n\r\n",
        common::UPGRADE
    );
    let grant = Grant::new(Some("ann"), &["x".into()], &[], 0, false, false).unwrap();
    host.server.adopt(OwnedFd::from(theirs), head.as_bytes(), Some(grant)).unwrap();
    // The raw bytes are the same over any stream.
    let stream = std::net::TcpStream::from(OwnedFd::from(ours));
    let mut client = common::Client::over(stream);
    client.head();
    assert_eq!(say(&mut client), "token", "the host has decided what this one may");
    host.stop();
}

#[test]
fn the_host_gives_a_live_connection_another_grant() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "10m")]);
    host.server.event_fd().unwrap();
    let mut client = host.get("channel=a", &format!("{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE));
    let request = next_event(&host, EventKind::Request).request;
    let grant = |user: Option<&str>, channels: &[&str], left: i64| {
        let channels: Vec<String> = channels.iter().map(|name| name.to_string()).collect();
        Grant::new(user, &channels, &[], unix_seconds() + left, false, false).unwrap()
    };
    host.server.allow(request, grant(None, &["a"], 1800)).unwrap();
    let connection = next_event(&host, EventKind::Open).connection;
    assert!(client.head().contains(" 101 "));
    client.text();
    client.say(r#"{"type":"message","data":"login, please"}"#);
    assert_eq!(next_event(&host, EventKind::Message).user, None);
    host.server.renew(connection, grant(Some("ann"), &["a", "b"], 3600)).unwrap();
    client.say(r#"{"type":"message","data":"who am I?"}"#);
    assert_eq!(next_event(&host, EventKind::Message).user.as_deref(), Some("ann"));
    client.say(r#"{"type":"subscribe","channel":"b"}"#);
    assert_eq!(field(&client.text(), "type"), "subscribed");
    host.server.renew(connection, grant(Some("ann"), &["b"], 3600)).unwrap();
    assert_eq!(field(&client.text(), "channel"), "a");
    host.server.renew(connection, grant(Some("ann"), &["b"], 1)).unwrap();
    assert_eq!(client.close_code(), 4403);
    assert_eq!(next_event(&host, EventKind::Close).code, 4403);
    drop(client);
    common::eventually(|| host.server.stats().unwrap().connections == 0);
    assert!(host.server.renew(connection, grant(None, &["b"], 1)).is_err(), "it is gone");
    host.stop();
}

#[test]
fn a_client_that_is_renewed_often_is_still_pinged() {
    assert_eq!(who_is_renewed_often_ends_with(3600, "300ms"), 4408);
    // Some grants last longer than the time to the next ping, and some do not. On a slow machine such a grant may end
    // before it is renewed.
    let code = (3..20).map(|seconds| who_is_renewed_often_ends_with(seconds, &format!("{}s", seconds + 1)));
    assert_eq!({ code }.find(|code| *code != 4403), Some(4408));
}

fn who_is_renewed_often_ends_with(lifetime: i64, heartbeat: &str) -> u16 {
    let host = Host::start(&[("heartbeat", heartbeat), ("ping_timeout", "400ms")]);
    host.server.event_fd().unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{}\r\n", common::UPGRADE);
    let granted = || Grant::new(Some("ann"), &["a".into()], &[], unix_seconds() + lifetime, false, false).unwrap();
    host.server.adopt(OwnedFd::from(theirs), head.as_bytes(), Some(granted())).unwrap();
    let connection = next_event(&host, EventKind::Open).connection;
    // It answers no ping. So it gets a ping, and then it is closed.
    let until = std::time::Instant::now() + PATIENCE;
    while host.server.renew(connection, granted()).is_ok() {
        assert!(std::time::Instant::now() < until, "a client that is dead is renewed for ever");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let code = next_event(&host, EventKind::Close).code;
    drop(ours);
    host.stop();
    code
}
