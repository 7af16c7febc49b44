//! Who may subscribe: tokens, the host's answer, grants and their ends.

#[path = "../common/mod.rs"]
mod common;

mod live;

use common::{field, Host, PATIENCE};
use push::events::{Event, EventKind};
use push::grant::Grant;
use std::os::fd::OwnedFd;

/// Signs with HS256 and a fixed secret. The claims never expire within a test.
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

/// Makes attempts with a grant or a token that ends in so many seconds, until one was in time. On a slow machine the end
/// may be over before the server has looked at the grant. Then an attempt returns `None`, and the next has more time.
fn soon<T>(attempt: impl FnMut(i64) -> Option<T>) -> T {
    (1..30).find_map(attempt).expect("half a minute is too short")
}

fn next_event(host: &Host, kind: EventKind) -> Event {
    std::iter::repeat_with(|| host.server.next_event(Some(PATIENCE)).unwrap()).find(|event| event.kind == kind).unwrap()
}

#[test]
fn a_token_allows_what_it_names() {
    let host = Host::start(&[("auth", "jwt"), ("jwt_secret", SECRET), ("poll_timeout", "100ms")]);
    let good = token(&claims(3600));
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
    let text = soon(|seconds| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let grant = Grant::new(Some("ann"), &["a".into()], &[], unix_seconds() + seconds, false, false).unwrap();
        let head = b"GET /elsewhere?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        host.server.adopt(OwnedFd::from(theirs), head, Some(grant)).unwrap();
        let mut text = String::new();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Read::read_to_string(&mut &ours, &mut text).unwrap();
        (!text.starts_with("HTTP/1.1 403 ")).then_some(text)
    });
    assert!(text.contains(r#"{"type":"close","code":4403"#), "{text}");
    host.stop();
}

#[test]
fn a_preflight_opens_no_connection_for_requests_that_the_host_never_saw() {
    let host = Host::start(&[("allowed_origins", "https://app")]);
    host.publish("secret", "for nobody");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let preflight = "OPTIONS /push?channel=a HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app\r\n\r\n";
    let more = "GET /push?channel=secret&last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
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
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "10m"), ("poll_timeout", "100ms")]);
    host.server.event_fd().unwrap();
    let mut client = host.get("channel=a", "");
    let first = next_event(&host, EventKind::Request).request;
    host.server.allow(first, Grant::new(None, &[], &["*".into()], 0, false, true).unwrap()).unwrap();
    assert!(client.response().0.contains(" 200 "));
    client.send(b"GET /push?channel=other HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let second = next_event(&host, EventKind::Request).request;
    host.server.allow(first, Grant::new(None, &[], &["*".into()], 0, false, true).unwrap()).unwrap();
    host.server.deny(second, 403, "").unwrap();
    assert!(client.response().0.contains(" 403 "), "a late yes to the first is none to the second");
    host.stop();
}

/// A connection that had an answer under this grant, and the question about its next request. That request may be from
/// another client: behind a proxy clients share a connection.
fn asked_again(host: &Host, grant: Grant) -> (common::Client, Event) {
    asked_again_in_time(host, grant).expect("the first request is answered with 200")
}

/// The same. `None`: the grant had ended before the first answer.
fn asked_again_in_time(host: &Host, grant: Grant) -> Option<(common::Client, Event)> {
    host.server.event_fd().unwrap();
    let mut client = host.get("channel=a", "");
    let first = next_event(host, EventKind::Request).request;
    host.server.allow(first, grant).unwrap();
    if !client.response().0.contains(" 200 ") {
        return None;
    }
    client.send(b"GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let second = next_event(host, EventKind::Request);
    Some((client, second))
}

#[test]
fn a_question_does_not_end_with_the_grant_of_the_request_before_it() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "10m"), ("poll_timeout", "100ms"), ("threads", "1")]);
    let (until, mut client, question) = soon(|seconds| {
        let until = unix_seconds() + seconds;
        let anns = Grant::new(Some("ann"), &["a".into()], &[], until, false, false).unwrap();
        asked_again_in_time(&host, anns).map(|(client, question)| (until, client, question))
    });
    host.server.disconnect_user("ann", 4403, "thrown out").unwrap();
    host.server.revoke_channel("ann", "*", "").unwrap();
    common::eventually(|| unix_seconds() > until + 1);
    let bobs = Grant::new(Some("bob"), &["a".into()], &[], 0, false, false).unwrap();
    host.server.allow(question.request, bobs).unwrap();
    let (head, body) = client.response();
    assert!(head.contains(" 200 "), "{head}{body}");
    host.stop();
}

#[test]
fn a_renewal_that_comes_after_its_poll_does_not_count_for_the_next() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "60s"), ("poll_timeout", "100ms"), ("threads", "1")]);
    let grant = |user| Grant::new(Some(user), &["a".into()], &[], 0, false, false).unwrap();
    let (mut client, question) = asked_again(&host, grant("ann"));
    host.server.renew(question.connection, grant("ann")).unwrap();
    host.server.disconnect_user("ann", 4403, "thrown out").unwrap();
    host.server.allow(question.request, grant("bob")).unwrap();
    let (head, body) = client.response();
    assert!(head.contains(" 200 "), "{head}{body}");
    host.stop();
}

#[test]
fn a_client_that_the_host_closes_during_a_question_is_answered() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "60s"), ("poll_timeout", "100ms")]);
    let grant = || Grant::new(Some("ann"), &["a".into()], &[], 0, false, false).unwrap();
    let (mut client, question) = asked_again(&host, grant());
    host.server.close(question.connection, 4403, "not today").unwrap();
    let (head, body) = client.response();
    assert!(head.contains(" 403 ") && body.contains(r#""code":"ended""#) && body.contains("not today"), "{head}{body}");
    assert_eq!(client.rest(), "");
    // A later answer finds no client.
    host.server.allow(question.request, grant()).unwrap();
    host.stop();
}

#[test]
fn a_client_that_may_come_back_is_told_so_when_it_is_closed_during_a_question() {
    for (code, final_one) in [(1008, true), (4403, true), (1001, false), (1012, false), (1013, false), (4000, false)] {
        let host = Host::start(&[("auth", "host"), ("auth_timeout", "60s"), ("poll_timeout", "100ms")]);
        let grant = || Grant::new(Some("ann"), &["a".into()], &[], 0, false, false).unwrap();
        let (mut client, question) = asked_again(&host, grant());
        host.server.close(question.connection, code, "").unwrap();
        let (head, body) = client.response();
        let status = if final_one { " 403 " } else { " 503 " };
        assert!(head.contains(status) && body.contains(r#""code":"ended""#), "{code}: {head}{body}");
        assert_eq!(head.contains("Retry-After: "), !final_one, "{code}: {head}");
        host.stop();
    }
}

#[test]
fn the_host_is_asked_and_its_answer_counts() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "10m"), ("poll_timeout", "100ms")]);
    assert!(host.get("channel=a", "").head().contains(" 503 "), "nobody listens for questions yet");
    host.server.event_fd().unwrap();
    let mut yes = host.get("channel=a", "Cookie: session=7\r\n");
    let event = next_event(&host, EventKind::Request);
    assert_eq!(event.channel.as_deref(), Some("a"));
    assert!(String::from_utf8_lossy(&event.data).contains("Cookie: session=7\r\n"));
    host.server.allow(event.request, Grant::new(None, &[], &["*".into()], 0, false, true).unwrap()).unwrap();
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
fn a_client_gets_503_if_the_host_does_not_answer() {
    let host = Host::start(&[("auth", "host"), ("auth_timeout", "200ms")]);
    host.server.event_fd().unwrap();
    assert!(host.get("channel=a", "").head().contains(" 503 "));
    host.stop();
}
