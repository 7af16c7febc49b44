//! Each end of a connection is logged with its true reason, and counted under its code.

mod common;

use common::{eventually, field, tcp_pair, Client, Host, Lines, UPGRADE};
use push::grant::Grant;
use std::net::TcpStream;
use std::time::Duration;

/// A stream on channel `a` that the host handed over.
const STREAM: &[u8] = b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn handed_over(host: &Host, grant: Grant) -> Client {
    let (mut client, fd) = tcp_pair();
    host.server.adopt(fd, STREAM, Some(grant)).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

fn ann() -> Grant {
    Grant::new(Some("ann"), &[], &["*".into()], 0, false, false).unwrap()
}

fn count(lines: &Lines, text: &str) -> usize {
    lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
}

/// The part of a line about its client: the connection, then the rest.
fn client_of(line: &str) -> (&str, &str) {
    let (_, client) = line.rsplit_once(" (connection ").unwrap_or_else(|| panic!("{line}"));
    client.strip_suffix(')').and_then(|client| client.split_once(", ")).unwrap_or_else(|| panic!("{line}"))
}

/// A line about the end of a connection has the connection, the user if there is one, the address and the transport.
fn names_its_client(line: &str) {
    let (connection, rest) = client_of(line);
    assert!(connection.parse::<u64>().is_ok_and(|number| number > 0), "{line}");
    let handed_over = line.contains(" a stream ended with ") && !line.contains("grant expired");
    let user = if handed_over { r#"user "ann", "# } else { "" };
    let transport = match line {
        _ if line.contains("a WebSocket") => "websocket",
        _ if line.contains("an SSE connection") => "sse",
        _ => "stream",
    };
    assert_eq!(rest, format!("{user}address 127.0.0.1, transport {transport}"), "{line}");
}

/// The first line that begins like this, as soon as it is there.
fn line_of(lines: &Lines, begin: &str) -> String {
    let found = || lines.lock().unwrap().iter().find(|line| line.starts_with(begin)).cloned();
    eventually(|| found().is_some());
    found().unwrap()
}

/// Waits until a refusal is logged, for a client at this address.
fn refused_from(lines: &Lines, begin: &str, address: &str) {
    let line = line_of(lines, begin);
    assert!(line.contains(&format!("address {address}")), "{line}");
}

type Options = &'static [(&'static str, &'static str)];

/// Brings a connection to its end. The result must live until the end was seen.
type Bring = fn(&Host) -> Box<dyn std::any::Any>;

/// Options, an action, and the log line that follows.
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
    // A client's close code is the client's own, whatever the code means here.
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
    // This is more than the buffers of a socket hold.
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
    // On a slow machine a grant may end before the server has looked at it. Then the next has more time.
    let opened = (2..30).find_map(|seconds| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let grant = Grant::new(None, &[], &["*".into()], now.as_secs() as i64 + seconds, false, false).unwrap();
        let (mut client, fd) = tcp_pair();
        host.server.adopt(fd, STREAM, Some(grant)).unwrap();
        client.head().starts_with("HTTP/1.1 200 ").then_some(client)
    });
    Box::new(opened.expect("half a minute is too short"))
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
        // The line comes first. Then the end is counted, and the connection does not count any more.
        let open = |stats: push::metrics::Stats| stats.websockets + stats.sse + stats.streams;
        eventually(|| open(host.server.stats().unwrap()) == 0);
        let ends: Vec<String> =
            lines.lock().unwrap().iter().filter(|line| line.contains(" ended with ")).cloned().collect();
        assert!(ends.len() == 1 && ends[0].starts_with(line), "{line}: {ends:?}");
        names_its_client(&ends[0]);
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
        // A token that only the host understands must not be logged as a name, either.
        ("opaque-s3cret-token".to_owned(), "opaque-s3cret-token", Some("but not push.v1.json; it gets raw frames")),
    ] {
        let head = host.get("channel=a", &format!("{UPGRADE}Sec-WebSocket-Protocol: {offered}\r\n")).head();
        assert!(head.contains(&format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n")), "{head}");
        let is_said = |line: &String| said.is_some_and(|said| line.contains(&format!("{said} (connection ")));
        eventually(|| said.is_none() || lines.lock().unwrap().iter().any(is_said));
    }
    assert!(host
        .get("channel=a", &format!("{UPGRADE}Sec-WebSocket-Protocol: PUSH.V1.JSON\r\n"))
        .head()
        .contains(" 400 "));
    let wrong = "Info refused with 400 subprotocol: the only subprotocol of this server is push.v1.json";
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

#[test]
fn the_line_has_the_number_by_which_the_host_knows_the_connection() {
    let (host, lines) = Host::logged(&[("log_level", "debug")]);
    host.server.event_fd().unwrap();
    let client = handed_over(&host, ann());
    let event = host.server.next_event(Some(common::PATIENCE)).unwrap();
    host.server.disconnect_user("ann", 4403, "moved out").unwrap();
    let line = line_of(&lines, "Info a stream ended with 4403");
    assert_eq!(client_of(&line).0, event.connection.to_string());
    drop(client);
    host.stop();
}

#[test]
fn the_log_has_the_address_of_a_connection_that_was_reset() {
    let (host, lines) = Host::logged(&[("log_level", "debug")]);
    let client = TcpStream::connect(host.address()).unwrap();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    let mut client = Client::over(client);
    client.send(b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    drop(client);
    let line = line_of(&lines, "Debug a stream ended with 1006");
    assert_eq!(client_of(&line).1, "address 127.0.0.1, transport stream");
    host.stop();
}

#[test]
fn a_refusal_names_the_transport_that_was_asked_for() {
    let (host, lines) = Host::logged(&[("auth", "jwt"), ("jwt_secret", "0123456789abcdef0123456789abcdef")]);
    for (more, transport) in
        [("", "poll"), ("&transport=stream", "stream"), ("&transport=sse", "sse"), ("", "websocket")]
    {
        let upgrade = if transport == "websocket" { UPGRADE } else { "" };
        drop(host.get(&format!("channel=a{more}"), upgrade).response());
        let end = format!(", address 127.0.0.1, transport {transport})");
        eventually(|| lines.lock().unwrap().iter().any(|line| line.ends_with(&end)));
    }
    host.stop();
}

#[test]
fn behind_a_proxy_the_address_is_the_clients() {
    let trusted = ("trusted_proxies", "127.0.0.1, 10.0.0.0/8, unix");
    for (limited, adopted) in [(false, false), (true, false), (false, true)] {
        let limit = [("max_per_address", "5")];
        let options = [&[("log_level", "debug"), trusted][..], if limited { &limit } else { &[] }].concat();
        let (host, lines) = Host::logged(&options);
        let mut client = if adopted {
            let (client, fd) = tcp_pair();
            let head = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
            host.server.adopt(fd, head.as_bytes(), Some(ann())).unwrap();
            client
        } else {
            host.get("channel=a&transport=stream", "X-Forwarded-For: 1.1.1.1, 192.0.2.7, 10.0.0.1\r\n")
        };
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        drop(client);
        let line = line_of(&lines, "Debug a stream ended with 1006");
        assert!(line.ends_with("address 192.0.2.7, transport stream)"), "{line}");
        // This holds for refusals, too, and the next connection in the same slab entry has its own number.
        drop(host.get("channel=a", "X-Forwarded-For: 192.0.2.8\r\nOrigin: https://other.example\r\n").response());
        refused_from(&lines, "Info refused with 403 origin", "192.0.2.8");
        drop(host.get("", "").response());
        refused_from(&lines, "Info refused with 400", "127.0.0.1");
        host.stop();
    }
}

#[test]
fn an_address_that_a_stranger_claims_is_not_logged() {
    let (host, lines) = Host::logged(&[("trusted_proxies", "192.0.2.1")]);
    drop(host.get("", "X-Forwarded-For: 192.0.2.7\r\n").response());
    refused_from(&lines, "Info refused with 400", "127.0.0.1");
    host.stop();
}

#[test]
fn the_proxy_header_names_the_client_and_its_requests_do_not() {
    let options = [("proxy_protocol", "true"), ("trusted_proxies", "127.0.0.1, 10.0.0.0/8")];
    for (source, address) in [("192.0.2.9", "192.0.2.9"), ("10.0.0.1", "192.0.2.7")] {
        let (host, lines) = Host::logged(&options);
        let mut client = host.connect();
        let request = "GET /push HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
        client.send(format!("PROXY TCP4 {source} 192.0.2.1 1 2\r\n{request}").as_bytes());
        drop(client.response());
        refused_from(&lines, "Info refused with 400", address);
        host.stop();
    }
}

#[test]
fn addresses_can_be_left_out_of_the_log() {
    let options = [("log_addresses", "false"), ("log_level", "debug"), ("trusted_proxies", "127.0.0.1")];
    let (host, lines) = Host::logged(&options);
    let mut client = host.get("channel=a&transport=stream", "X-Forwarded-For: 192.0.2.7\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    drop(client);
    let line = line_of(&lines, "Debug a stream ended with 1006");
    assert!(line.ends_with(", transport stream)"), "{line}");
    drop(host.get("", "").response());
    line_of(&lines, "Info refused with 400");
    // It can also be changed while the server runs.
    host.server.reload(&common::builder(&options[1..])).unwrap();
    drop(host.get("nothing=known", "Origin: https://other.example\r\n").response());
    let after = line_of(&lines, "Info refused with 403");
    assert!(after.contains("address 127.0.0.1"), "{after}");
    host.stop();
    let lines = lines.lock().unwrap();
    assert!(lines.iter().filter(|line| **line != after).all(|line| !line.contains("address ")), "{lines:?}");
}

#[test]
fn a_hostile_user_or_reason_hides_nothing_of_the_client() {
    let (host, lines) = Host::logged(&[]);
    let user = format!("eve\", address 1.2.3.4){}", "\\".repeat(200));
    let grant = Grant::new(Some(&user), &[], &["*".into()], 0, false, false).unwrap();
    let client = handed_over(&host, grant);
    host.server.disconnect_user(&user, 4403, &"x".repeat(100)).unwrap();
    let line = line_of(&lines, "Info a stream ended with 4403");
    assert!(line.contains(r#", user "eve\", address 1.2.3.4)\\"#), "{line}");
    assert!(line.ends_with("…\", address 127.0.0.1, transport stream)") && line.len() < 1000, "{line}");
    drop(client);
    // The log quotes this long request.
    let mut client = host.websocket("channel=a", true);
    client.say(&format!(r#"{{"type":"subscribe","channel":"{}"}}"#, "x".repeat(2000)));
    let line = line_of(&lines, "Info a request of push.v1.json is refused");
    assert!(line.ends_with(", address 127.0.0.1, transport websocket)") && line.len() < 1000, "{line}");
    host.stop();
}
