//! Who may subscribe: tokens, the host's word, grants and their ends.

mod common;

use common::{field, Host, PATIENCE};
use push::events::{Event, EventKind};
use push::grant::Grant;
use std::os::fd::OwnedFd;

/// HS256 over a fixed secret; the claims never expire within a test.
fn token(claims: &serde_json::Value) -> String {
    use jsonwebtoken::{encode, EncodingKey, Header};
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn unix_seconds() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

fn claims(lifetime: i64) -> serde_json::Value {
    serde_json::json!({"sub": "ann", "exp": unix_seconds() + lifetime, "push": {"subscribe": ["a"], "publish": ["a"]}})
}

fn next_event(host: &Host, kind: EventKind) -> Event {
    std::iter::repeat_with(|| host.server.next_event(Some(PATIENCE)).unwrap()).find(|event| event.kind == kind).unwrap()
}

#[test]
fn a_token_opens_what_it_names() {
    let host = Host::start(&[("auth", "jwt"), ("jwt_secret", SECRET), ("poll_timeout", "100ms")]);
    let good = token(&claims(60));
    let status = |query: &str, lines: &str| host.get(query, lines).head()[9..12].to_owned();
    assert_eq!(status("channel=a", ""), "401");
    assert_eq!(status("channel=a&token=nonsense", ""), "401");
    assert_eq!(status(&format!("channel=a&token={good}"), ""), "200");
    assert_eq!(status("channel=a", &format!("Authorization: Bearer {good}\r\n")), "200");
    assert_eq!(status("channel=a", &format!("Cookie: x=y; push_token={good}\r\n")), "200");
    assert_eq!(status(&format!("channel=b&token={good}"), ""), "403");
    let mut client = host.websocket(&format!("token={good}"), true);
    client.say(r#"{"type":"publish","channel":"b","data":"x"}"#);
    assert_eq!(field(&client.text(), "code"), "publish");
    client.say(r#"{"type":"subscribe","channel":"b"}"#);
    assert_eq!(field(&client.text(), "code"), "channel");
    client.say(r#"{"type":"publish","channel":"a","data":"x"}"#);
    assert_eq!(field(&client.text(), "type"), "published");
    host.server.disconnect_user("ann", 4403, "revoked").unwrap();
    assert_eq!(client.close_code(), 4403);
    host.stop();
}

#[test]
fn an_expired_grant_ends_its_connection() {
    let host = Host::start(&[]);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let grant = Grant::new(Some("ann"), &["a".into()], unix_seconds() + 1, false, false).unwrap();
    let head = b"GET /elsewhere?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
    host.server.adopt(OwnedFd::from(theirs), head, Some(grant)).unwrap();
    let mut text = String::new();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Read::read_to_string(&mut &ours, &mut text).unwrap();
    assert!(text.contains(r#"{"type":"close","code":4403"#), "{text}");
    host.stop();
}

#[test]
fn a_preflight_opens_no_connection_for_requests_that_the_host_never_saw() {
    let host = Host::start(&[("allowed_origins", "https://app")]);
    host.publish("secret", "for nobody");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let preflight = "OPTIONS /push?channel=a HTTP/1.1\r\nHost: h\r\nOrigin: https://app\r\n\r\n";
    let more = "GET /push?channel=secret&last=1 HTTP/1.1\r\nHost: h\r\n\r\n";
    host.server.adopt(OwnedFd::from(theirs), format!("{preflight}{more}").as_bytes(), None).unwrap();
    let mut text = String::new();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Read::read_to_string(&mut &ours, &mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 204 ") && text.contains("Connection: close"), "{text}");
    assert!(!text.contains("for nobody"), "{text}");
    host.stop();
}

#[test]
fn a_question_is_answered_once() {
    let host = Host::start(&[("auth", "host"), ("poll_timeout", "100ms")]);
    host.server.event_fd().unwrap();
    let mut client = host.get("channel=a", "");
    let first = next_event(&host, EventKind::Request).request;
    host.server.allow(first, Grant::new(None, &["*".into()], 0, false, true).unwrap()).unwrap();
    assert!(client.response().0.contains(" 200 "));
    client.send(b"GET /push?channel=other HTTP/1.1\r\nHost: h\r\n\r\n");
    let second = next_event(&host, EventKind::Request).request;
    host.server.allow(first, Grant::new(None, &["*".into()], 0, false, true).unwrap()).unwrap();
    host.server.deny(second, 403, "").unwrap();
    assert!(client.response().0.contains(" 403 "), "a late yes to the first is none to the second");
    host.stop();
}

/// A connection that had an answer under this grant, and the question about its next request, which may be another
/// client's: behind a proxy they share it.
fn asked_again(host: &Host, grant: Grant) -> (common::Client, Event) {
    host.server.event_fd().unwrap();
    let mut client = host.get("channel=a", "");
    let first = next_event(host, EventKind::Request).request;
    host.server.allow(first, grant).unwrap();
    assert!(client.response().0.contains(" 200 "));
    client.send(b"GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n");
    let second = next_event(host, EventKind::Request);
    (client, second)
}

#[test]
fn a_question_does_not_end_with_the_grant_of_the_request_before_it() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "60s"), ("poll_timeout", "100ms"), ("threads", "1")]);
    let until = unix_seconds() + 2;
    let anns = Grant::new(Some("ann"), &["a".into()], until, false, false).unwrap();
    let (mut client, question) = asked_again(&host, anns);
    host.server.disconnect_user("ann", 4403, "thrown out").unwrap();
    host.server.revoke_channel("ann", "*", "").unwrap();
    common::eventually(|| unix_seconds() > until + 1);
    let bobs = Grant::new(Some("bob"), &["a".into()], 0, false, false).unwrap();
    host.server.allow(question.request, bobs).unwrap();
    let (head, body) = client.response();
    assert!(head.contains(" 200 "), "{head}{body}");
    host.stop();
}

#[test]
fn a_renewal_that_comes_after_its_poll_is_not_the_next_ones() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "60s"), ("poll_timeout", "100ms"), ("threads", "1")]);
    let grant = |user| Grant::new(Some(user), &["a".into()], 0, false, false).unwrap();
    let (mut client, question) = asked_again(&host, grant("ann"));
    host.server.renew(question.connection, grant("ann")).unwrap();
    host.server.disconnect_user("ann", 4403, "thrown out").unwrap();
    host.server.allow(question.request, grant("bob")).unwrap();
    let (head, body) = client.response();
    assert!(head.contains(" 200 "), "{head}{body}");
    host.stop();
}

#[test]
fn a_connection_that_the_host_closes_while_it_is_asked_is_told() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "60s"), ("poll_timeout", "100ms")]);
    let grant = || Grant::new(Some("ann"), &["a".into()], 0, false, false).unwrap();
    let (mut client, question) = asked_again(&host, grant());
    host.server.close(question.connection, 4403, "not today").unwrap();
    let (head, body) = client.response();
    assert!(head.contains(" 403 ") && body.contains(r#""code":"ended""#) && body.contains("not today"), "{head}{body}");
    assert_eq!(client.rest(), "");
    // A yes that comes later finds nobody.
    host.server.allow(question.request, grant()).unwrap();
    host.stop();
}

#[test]
fn the_host_is_asked_and_its_answer_counts() {
    let host = Host::start(&[("auth", "host"), ("poll_timeout", "100ms")]);
    assert!(host.get("channel=a", "").head().contains(" 503 "), "nobody listens for questions yet");
    host.server.event_fd().unwrap();
    let mut yes = host.get("channel=a", "Cookie: session=7\r\n");
    let event = next_event(&host, EventKind::Request);
    assert_eq!(event.channel.as_deref(), Some("a"));
    assert!(String::from_utf8_lossy(&event.data).contains("Cookie: session=7\r\n"));
    host.server.allow(event.request, Grant::new(None, &["*".into()], 0, false, true).unwrap()).unwrap();
    assert!(yes.response().0.contains(" 200 "));
    let mut no = host.get("channel=a", "Accept: text/event-stream\r\n");
    let event = next_event(&host, EventKind::Request);
    host.server.deny(event.request, 403, "not you").unwrap();
    let (head, body) = no.response();
    assert!(head.contains(" 403 ") && body.contains("not you"), "{head}{body}");
    assert!(host.server.deny(event.request, 200, "").is_err());
    host.stop();
}

#[test]
fn a_host_that_does_not_answer_costs_a_503() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "200ms")]);
    host.server.event_fd().unwrap();
    assert!(host.get("channel=a", "").head().contains(" 503 "));
    host.stop();
}

/// An open connection of each transport to channel `a` and, if it is to have two, `b`, for the user of the token.
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

/// How the connections of [`one_of_each`] are told of their end.
fn assert_ended([mut sse, mut stream, mut poll, mut raw, mut json]: [common::Client; 5], reason: &str) {
    let object = format!(r#"{{"type":"close","code":4403,"reason":"{reason}"}}"#);
    let text = sse.rest();
    assert!(text.contains("event: push-close") && text.contains(&object), "{text}");
    assert!(stream.rest().contains(&object));
    let (head, body) = poll.response();
    assert!(head.starts_with("HTTP/1.1 403 ") && field(&body, "error").contains(reason), "{head}{body}");
    assert_eq!(poll.rest(), "", "its connection ends with the answer");
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
    // With the leeway of five seconds it has one left.
    let clients = one_of_each(&host, "channel=a", &token(&claims(-3)));
    assert_ended(clients, "grant expired or revoked");
    host.stop();
}

#[test]
fn a_revoked_channel_is_lost_at_once_and_for_good() {
    let host = jwt(&[("poll_timeout", "10s")]);
    let mut both = claims(3600);
    both["push"] = serde_json::json!({"subscribe": ["a", "b"], "publish": ["a", "b"]});
    let both = token(&both);
    let one = one_of_each(&host, "channel=a", &both);
    let [mut sse, mut stream, mut poll, mut raw, mut json] = one_of_each_more(&host, &both);
    host.server.revoke_channel("ann", "a", "moved out").unwrap();
    let [sse_one, stream_one, poll_one, raw_one, mut json_one] = one;
    // Those with nothing left are closed, but for the subprotocol, which is told and may ask for more.
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
    // Those with another channel get that, and nothing of the first.
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
    assert!(host.server.revoke_channel("ann", "a*b", "").is_err());
    assert!(host.server.revoke_channel("", "a", "").is_err());
    host.stop();
}

/// [`one_of_each`] with two channels, on top of those that are there.
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
    // Told after the first one, by the same command: so that is still catching up, since nobody reads it.
    let mut mark = host.websocket(&format!("channel=a&token={}", token(&claims(3600))), true);
    assert_eq!(field(&mark.text(), "type"), "subscribed");
    host.server.revoke_channel("ann", "*", "").unwrap();
    assert_eq!(field(&mark.text(), "type"), "unsubscribed");
    let told = std::iter::repeat_with(|| client.text()).find(|text| !text.contains(r#""type":"message""#)).unwrap();
    assert_eq!(told, r#"{"type":"unsubscribed","channel":"a","code":4403,"reason":"revoked"}"#);
    client.say(r#"{"type":"ping"}"#);
    let next = std::iter::repeat_with(|| client.text()).find(|text| !text.contains(r#""type":"message""#)).unwrap();
    assert_eq!(field(&next, "type"), "pong");
    assert_eq!(host.server.stats().unwrap().subscriptions, 0);
    host.stop();
}

#[test]
fn a_new_token_in_time_prolongs_a_live_connection() {
    let host = jwt(&[]);
    let short = token(&claims(-3));
    let mut client = host.websocket(&format!("channel=a&token={short}"), true);
    client.text();
    let mut wide = claims(3600);
    wide["push"] = serde_json::json!({"subscribe": ["a", "b"]});
    let say = |client: &mut common::Client, token: &str| {
        client.say(&serde_json::json!({"type": "token", "token": token}).to_string());
        client.text()
    };
    let mut other = claims(3600);
    other["sub"] = "bob".into();
    assert_eq!(field(&say(&mut client, &token(&other)), "code"), "user");
    assert_eq!(field(&say(&mut client, "nonsense"), "code"), "token");
    assert_eq!(field(&say(&mut client, &token(&claims(-60))), "code"), "token", "expired");
    let answer = say(&mut client, &token(&wide));
    assert_eq!(field(&answer, "type"), "token");
    assert!(field(&answer, "expires").parse::<i64>().unwrap() > unix_seconds() + 3000, "{answer}");
    // The first token's time is over.
    let mut raw = host.websocket(&format!("channel=a&token={short}"), false);
    assert_eq!(raw.close_code(), 4403);
    client.say(r#"{"type":"subscribe","channel":"b"}"#);
    assert_eq!(field(&client.text(), "type"), "subscribed", "its rights are the new token's");
    client.say(r#"{"type":"publish","channel":"a","data":"x"}"#);
    assert_eq!(field(&client.text(), "code"), "publish", "what that does not name is not allowed any more");
    let mut narrow = claims(3600);
    narrow["push"] = serde_json::json!({"subscribe": ["b"]});
    assert_eq!(
        say(&mut client, &token(&narrow)),
        r#"{"type":"unsubscribed","channel":"a","code":4403,"reason":"not in the new grant"}"#
    );
    assert_eq!(field(&client.text(), "type"), "token");
    host.publish("a", "not any more");
    host.publish("b", "still");
    assert_eq!(field(&client.text(), "data"), "still");
    let again = say(&mut client, &token(&claims(-3)));
    assert_eq!(field(&again, "channel"), "b");
    assert_eq!(field(&client.text(), "type"), "token");
    assert_eq!(client.close_code(), 4403, "a token may also shorten");
    host.stop();
}

#[test]
fn a_token_changes_nothing_where_none_is_asked_for() {
    let say = |client: &mut common::Client| {
        client.say(&serde_json::json!({"type": "token", "token": token(&claims(3600))}).to_string());
        field(&client.text(), "code")
    };
    let open = Host::start(&[]);
    assert_eq!(say(&mut open.websocket("", true)), "token");
    open.stop();
    let host = jwt(&[]);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let head =
        format!("GET /push HTTP/1.1\r\nHost: h\r\n{}Sec-WebSocket-Protocol: push.v1.json\r\n\r\n", common::UPGRADE);
    let grant = Grant::new(Some("ann"), &["x".into()], 0, false, false).unwrap();
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
    let host = Host::start(&[("auth", "host")]);
    host.server.event_fd().unwrap();
    let mut client = host.get("channel=a", &format!("{}Sec-WebSocket-Protocol: push.v1.json\r\n", common::UPGRADE));
    let request = next_event(&host, EventKind::Request).request;
    let grant = |user: Option<&str>, channels: &[&str], left: i64| {
        let channels: Vec<String> = channels.iter().map(|name| name.to_string()).collect();
        Grant::new(user, &channels, unix_seconds() + left, false, false).unwrap()
    };
    host.server.allow(request, grant(None, &["a"], 2)).unwrap();
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
    host.server.renew(connection, grant(Some("ann"), &["b"], 1)).unwrap();
    assert_eq!(field(&client.text(), "channel"), "a");
    assert_eq!(client.close_code(), 4403);
    assert_eq!(next_event(&host, EventKind::Close).code, 4403);
    drop(client);
    common::eventually(|| host.server.stats().unwrap().connections == 0);
    assert!(host.server.renew(connection, grant(None, &["b"], 1)).is_err(), "it is gone");
    host.stop();
}

#[test]
fn who_is_renewed_often_is_pinged_all_the_same() {
    // By grants that last longer than it takes to be pinged, and by such as do not.
    for (lifetime, heartbeat) in [(3600, "300ms"), (3, "4s")] {
        who_is_renewed_often_is_pinged(lifetime, heartbeat);
    }
}

fn who_is_renewed_often_is_pinged(lifetime: i64, heartbeat: &str) {
    let host = Host::start(&[("heartbeat", heartbeat), ("ping_timeout", "400ms")]);
    host.server.event_fd().unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: h\r\n{}\r\n", common::UPGRADE);
    let granted = || Grant::new(Some("ann"), &["a".into()], unix_seconds() + lifetime, false, false).unwrap();
    host.server.adopt(OwnedFd::from(theirs), head.as_bytes(), Some(granted())).unwrap();
    let connection = next_event(&host, EventKind::Open).connection;
    // It answers no ping: it is asked, and then it is over.
    let until = std::time::Instant::now() + PATIENCE;
    while host.server.renew(connection, granted()).is_ok() {
        assert!(std::time::Instant::now() < until, "a client that is dead is renewed for ever");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(next_event(&host, EventKind::Close).code, 4408);
    drop(ours);
    host.stop();
}
