//! Each end of a connection is logged with its true reason, and counted under its code.

mod common;

use common::{eventually, field, Client, Host, Lines, UPGRADE};
use push::grant::Grant;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A connection of this machine, and the end that a host would hand over.
fn tcp_pair() -> (Client, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (Client::over(client), listener.accept().unwrap().0.into())
}

/// A stream on channel `a` that the host handed over.
fn handed_over(host: &Host, grant: Grant) -> Client {
    let (mut client, fd) = tcp_pair();
    let head = b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    host.server.adopt(fd, head, Some(grant)).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

fn ann() -> Grant {
    Grant::new(Some("ann"), &[], &["*".into()], 0, false, false).unwrap()
}

fn count(lines: &Lines, text: &str) -> usize {
    lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
}

type Options = &'static [(&'static str, &'static str)];

/// How a connection is brought to its end; what it leaves must live until that was seen.
type Bring = fn(&Host) -> Box<dyn std::any::Any>;

/// Options, what happens, and what the log then says.
const ENDS: [(Options, Bring, &str); 17] = [
    (
        &[("client_rate", "1")],
        too_fast,
        "Info a WebSocket ended with 4429: too many messages a second (option client_rate)",
    ),
    (&[("outbox", "4KB"), ("heartbeat", "10m")], too_slow, "Info a WebSocket ended with 4429: too slow: outbox full"),
    (
        &[("outbox", "1GB"), ("heartbeat", "100ms")],
        stuck,
        "Info an SSE connection ended with 4429: too slow: the client read nothing for a whole heartbeat",
    ),
    (&[], disconnected, "Info a stream ended with 4403: moved out"),
    (&[], revoked, "Info a stream ended with 4403: not hers any more"),
    (&[], expired, "Info a stream ended with 4403: grant expired or revoked"),
    (&[], closed_by_host, "Debug a WebSocket ended with 3999: as the host said"),
    (&[], closed_without_a_word, "Debug a WebSocket ended with 1000: no reason was given"),
    (
        &[("heartbeat", "100ms"), ("ping_timeout", "100ms")],
        silent,
        "Info a WebSocket ended with 4408: no answer to pings",
    ),
    (&[], |host| frame(host, 0xf1, b"x"), "Info a WebSocket ended with 1002: protocol error"),
    (&[], |host| frame(host, 0x81, b"\xff"), "Info a WebSocket ended with 1007: text is not UTF-8"),
    (
        &[("max_client_message", "1KB")],
        |host| frame(host, 0x81, &[b'x'; 2000]),
        "Info a WebSocket ended with 1009: message too large",
    ),
    (&[], |host| frame(host, 0x88, &1000u16.to_be_bytes()), "Debug a WebSocket ended with 1000: its client closed it"),
    // What a client says is its own word, whatever the code means here.
    (&[], |host| frame(host, 0x88, &4429u16.to_be_bytes()), "Debug a WebSocket ended with 4429: its client closed it"),
    (&[], |host| frame(host, 0x88, b""), "Debug a WebSocket ended with 1005: its client closed it"),
    (&[], gone, "Debug an SSE connection ended with 1006: connection lost"),
    (&[], drained, "Debug a stream ended with 1001: server going away; retry in "),
];

fn too_fast(host: &Host) -> Box<dyn std::any::Any> {
    let mut client = host.websocket("channel=a", false);
    (0..50).for_each(|_| client.say("x"));
    Box::new(client)
}

fn flood(host: &Host) {
    let payload = "x".repeat(100_000);
    // More than the buffers of a socket hold.
    (0..200).for_each(|_| drop(host.publish("a", &payload)));
}

fn too_slow(host: &Host) -> Box<dyn std::any::Any> {
    let client = host.websocket("channel=a", false);
    flood(host);
    Box::new(client)
}

fn stuck(host: &Host) -> Box<dyn std::any::Any> {
    let mut client = host.get("channel=a", "Accept: text/event-stream\r\n");
    client.until("push-open");
    flood(host);
    Box::new(client)
}

fn disconnected(host: &Host) -> Box<dyn std::any::Any> {
    let client = handed_over(host, ann());
    host.server.disconnect_user("ann", 4403, "moved out").unwrap();
    Box::new(client)
}

fn revoked(host: &Host) -> Box<dyn std::any::Any> {
    let client = handed_over(host, ann());
    host.server.revoke_channel("ann", "a", "not hers any more").unwrap();
    Box::new(client)
}

fn expired(host: &Host) -> Box<dyn std::any::Any> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Box::new(handed_over(host, Grant::new(None, &[], &["*".into()], now.as_secs() as i64 + 2, false, false).unwrap()))
}

/// Closes the next connection that opens.
fn close(host: &Host, code: u16, reason: &str) -> Box<dyn std::any::Any> {
    host.server.event_fd().unwrap();
    let client = host.websocket("channel=a", false);
    let event = host.server.next_event(Some(common::PATIENCE)).unwrap();
    host.server.close(event.connection, code, reason).unwrap();
    Box::new(client)
}

fn closed_by_host(host: &Host) -> Box<dyn std::any::Any> {
    close(host, 3999, "as the host said")
}

fn closed_without_a_word(host: &Host) -> Box<dyn std::any::Any> {
    close(host, 1000, "")
}

fn silent(host: &Host) -> Box<dyn std::any::Any> {
    Box::new(host.websocket("channel=a", false))
}

fn frame(host: &Host, first: u8, payload: &[u8]) -> Box<dyn std::any::Any> {
    let mut client = host.websocket("channel=a", false);
    client.frame(first, payload);
    Box::new(client)
}

fn gone(host: &Host) -> Box<dyn std::any::Any> {
    let mut client = host.get("channel=a", "Accept: text/event-stream\r\n");
    client.until("push-open");
    drop(client);
    Box::new(())
}

fn drained(host: &Host) -> Box<dyn std::any::Any> {
    let client = handed_over(host, ann());
    host.server.drain(Duration::ZERO).unwrap();
    Box::new(client)
}

#[test]
fn each_end_is_logged_with_its_reason_and_counted_under_its_code() {
    for (options, bring, line) in ENDS {
        let path = common::socket_path();
        let control = format!("unix:{path}");
        let more = [("log_level", "debug"), ("threads", "1"), ("control", &control)];
        let (host, lines) = Host::logged(&[options, &more].concat());
        let kept = bring(&host);
        eventually(|| count(&lines, " ended with ") > 0);
        eventually(|| host.server.stats().unwrap().websockets == 0);
        let ends: Vec<String> =
            lines.lock().unwrap().iter().filter(|line| line.contains(" ended with ")).cloned().collect();
        assert!(ends.len() == 1 && ends[0].starts_with(line), "{line}: {ends:?}");
        let code = line.split(" ended with ").nth(1).unwrap()[..4].replace("3999", "other");
        assert_eq!(common::counted(&common::metrics(&path), "push_closed_total"), [(code, 1)]);
        drop(kept);
        host.stop();
    }
}

#[test]
fn a_subprotocol_that_is_not_spoken_is_logged_and_a_token_is_not() {
    let (host, lines) = Host::logged(&[]);
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2lnbmF0dXJl";
    for (offered, chosen, said) in [
        ("push.v1.json, my-app".to_owned(), "push.v1.json", None),
        (format!("{token}, my-app"), "my-app", Some("but not push.v1.json; it gets raw frames")),
        (token.to_owned(), token, Some("but not push.v1.json; it gets raw frames")),
        // A token that only the host understands is no name to be logged, either.
        ("opaque-s3cret-token".to_owned(), "opaque-s3cret-token", Some("but not push.v1.json; it gets raw frames")),
    ] {
        let head = host.get("channel=a", &format!("{UPGRADE}Sec-WebSocket-Protocol: {offered}\r\n")).head();
        assert!(head.contains(&format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n")), "{head}");
        let is_said = |line: &String| said.is_some_and(|said| line.ends_with(said));
        eventually(|| said.is_none() || lines.lock().unwrap().iter().any(is_said));
    }
    assert!(host
        .get("channel=a", &format!("{UPGRADE}Sec-WebSocket-Protocol: PUSH.V1.JSON\r\n"))
        .head()
        .contains(" 400 "));
    let wrong = "Info refused with 400 subprotocol: only push.v1.json is spoken here";
    eventually(|| lines.lock().unwrap().iter().any(|line| line.starts_with(wrong)));
    host.stop();
    assert!(lines.lock().unwrap().iter().all(|line| !line.contains("eyJ") && !line.contains("s3cret")));
}

#[test]
fn a_refusal_is_logged_with_its_reason() {
    let (host, lines) = Host::logged(&[]);
    let (_, body) = host.get("", "").response();
    let error = field(&body, "error");
    let error = (field(&error, "code"), field(&error, "message"));
    eventually(|| count(&lines, &format!("Info refused with 400 {}: {}", error.0, error.1)) == 1);
    host.stop();
}
