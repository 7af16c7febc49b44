//! Edge cases of the control API: each refusal says what is wrong, and nothing in a request is ignored.

mod closing;
#[path = "../common/mod.rs"]
mod common;
mod connections;
#[cfg(feature = "console")]
mod console;
mod everywhere;
mod except;
mod guesses;
mod hosts;
mod keyless;
mod listing;
#[cfg(feature = "console")]
mod logins;
mod messages;
mod options;
mod places;
mod tail;
mod to_users;

use common::{field, in_time, socket_path, Client, Host, CONTROL, LINGER_PAUSE};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

/// Sends a request and reads the answer, to the end of the connection: its status and body.
fn ask(host: &Host, method: &str, path: &str, lines: &str, body: &[u8]) -> (u16, String) {
    let mut client = Client::over(TcpStream::connect(&host.server.addresses()[1]).unwrap());
    let key = if lines.to_ascii_lowercase().contains("authorization:") {
        String::new()
    } else {
        format!("Authorization: Bearer {}\r\n", CONTROL[1].1)
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{key}{lines}");
    client.send(&[format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat());
    let head = client.head();
    (head[9..12].parse().unwrap(), client.rest())
}

fn post(host: &Host, path: &str, body: &str) -> (u16, String) {
    ask(host, "POST", path, "", body.as_bytes())
}

fn published(host: &Host) -> u64 {
    field(&ask(host, "GET", "/v1/stats", "", b"").1, "published").parse().unwrap()
}

#[test]
fn a_client_that_is_refused_while_it_sends_gets_the_answer() {
    let path = socket_path();
    let control = format!("127.0.0.1:0, unix:{path}");
    let host = Host::start(&[("control", &control), CONTROL[1], ("max_message", "1KB")]);
    let address = host.server.addresses()[1].clone();
    let good = format!("Authorization: Bearer {}\r\n", CONTROL[1].1);
    for (path_of_request, lines, status) in [
        ("/v1/publish?channel=a", "", "401"),
        ("/v1/publish?channel=a&nonsense=1", &*good, "400"),
        ("/v1/nothing", &good, "404"),
        ("/v1/stats", &good, "405"),
        ("/v1/publish?channel=a", &good, "413"),
        ("/v1/disconnect?user=u", &good, "413"),
    ] {
        let request = format!("POST {path_of_request} HTTP/1.1\r\nHost: localhost\r\n{lines}");
        for framing in ["Content-Length: 2000000", "Transfer-Encoding: chunked"] {
            let request = format!("{request}{framing}\r\n\r\n");
            let chunked = framing.starts_with('T');
            in_time(LINGER_PAUSE, || {
                let tcp = TcpStream::connect(&address).unwrap();
                refused_in_parts(tcp.try_clone().unwrap(), tcp, &request, chunked, status)
            });
            in_time(LINGER_PAUSE, || {
                let unix = UnixStream::connect(&path).unwrap();
                refused_in_parts(unix.try_clone().unwrap(), unix, &request, chunked, status)
            });
        }
    }
    host.stop();
}

/// The answer comes after the head or the first part. The client goes on sending before it reads the answer.
fn refused_in_parts(
    mut sends: impl Write,
    mut reads: impl Read,
    request: &str,
    chunked: bool,
    status: &str,
) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{error}: {request}");
    let part = [b'x'; 20_000];
    let part = if chunked { [b"4e20\r\n", &part[..], b"\r\n"].concat() } else { part.to_vec() };
    sends.write_all(request.as_bytes()).map_err(told)?;
    sends.write_all(&part).map_err(told)?;
    let mut answer = vec![0; 13];
    reads.read_exact(&mut answer).map_err(told)?;
    for count in 1..100 {
        sends.write_all(&part).map_err(|error| format!("part {count}: {error}: {request}"))?;
    }
    if chunked {
        sends.write_all(b"0\r\n\r\n").map_err(told)?;
    }
    reads.read_to_end(&mut answer).map_err(told)?;
    let answer = String::from_utf8_lossy(&answer);
    let is_whole = answer.contains("\r\n\r\n") && answer.ends_with("}}\n");
    match answer.starts_with(&format!("HTTP/1.1 {status} ")) && is_whole {
        true => Ok(()),
        false => Err(format!("{answer}: {request}")),
    }
}

#[test]
fn a_client_that_ends_its_side_after_the_request_gets_the_answer() {
    let path = socket_path();
    let control = format!("127.0.0.1:0, unix:{path}");
    let host = Host::start(&[("control", &control), CONTROL[1]]);
    let client = host.websocket("channel=a", false);
    let key = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", CONTROL[1].1);
    for (request, status) in [
        (format!("GET /v1/users?channel=a HTTP/1.1\r\n{key}\r\n"), "200"),
        (format!("POST /v1/publish?channel=a HTTP/1.1\r\n{key}Content-Length: 1\r\n\r\nx"), "200"),
        (format!("GET /v1/users HTTP/1.1\r\n{key}\r\n"), "400"),
        ("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "401"),
    ] {
        let mut tcp = TcpStream::connect(&host.server.addresses()[1]).unwrap();
        tcp.write_all(request.as_bytes()).unwrap();
        tcp.shutdown(Shutdown::Write).unwrap();
        let mut unix = UnixStream::connect(&path).unwrap();
        unix.write_all(request.as_bytes()).unwrap();
        unix.shutdown(Shutdown::Write).unwrap();
        let (mut over_tcp, mut over_unix) = (String::new(), String::new());
        tcp.read_to_string(&mut over_tcp).unwrap();
        unix.read_to_string(&mut over_unix).unwrap();
        for answer in [over_tcp, over_unix] {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer:?}");
            assert!(answer.ends_with('\n'), "{answer}");
        }
    }
    drop(client);
    host.stop();
}

#[test]
fn a_parameter_that_a_request_does_not_have_is_refused_by_name() {
    let host = Host::start(&CONTROL);
    for (method, path, allowed) in [
        ("POST", "/v1/publish?channel=a", "channel, user, event, key"),
        ("POST", "/v1/publish?", "channel, user, event, key"),
        ("POST", "/v1/broadcast?", "channel, event, key"),
        ("POST", "/v1/disconnect?user=a", "user, all, code, reason"),
        ("POST", "/v1/revoke?user=a&channel=b", "user, channel, reason"),
        ("GET", "/v1/channels?prefix=a", "prefix, limit"),
        ("GET", "/v1/users?channel=a", "channel, after, limit"),
        ("GET", "/v1/connections?", "user, channel, address, slow, after, limit"),
        ("POST", "/v1/close?connection=1", "connection, code, reason"),
        ("GET", "/v1/channels/a/messages?", "since, last, limit"),
        ("GET", "/v1/channels/a?", "none"),
        ("DELETE", "/v1/channels/a?", "none"),
        ("GET", "/v1/stats?", "cluster"),
        ("GET", "/v1/config?", "none"),
        ("GET", "/v1/hosts?", "none"),
        ("GET", "/v1/tail?channel=a", "channel, pattern"),
        ("GET", "/metrics?", "none"),
        ("GET", "/healthz?", "none"),
    ] {
        let (status, body) = ask(&host, method, &format!("{path}&evnt=x"), "", b"");
        let told = format!("unknown parameter evnt; allowed: {allowed}");
        assert!(status == 400 && body.contains(&told), "{path}: {status} {body}");
    }
    for (method, path) in [
        ("POST", "/v1/publish?channel=a&channel=a"),
        ("POST", "/v1/publish?user=a&user=a"),
        ("POST", "/v1/publish?channel=a&event=x&event=y"),
        ("POST", "/v1/publish?channel=a&key=x&key=x"),
        ("POST", "/v1/disconnect?user=a&code=4000&code=4001"),
        ("POST", "/v1/revoke?user=a&user=a&channel=b"),
        ("GET", "/v1/channels?limit=1&limit=2"),
        ("GET", "/v1/users?channel=a&channel=b"),
        ("GET", "/v1/connections?user=a&user=b"),
        ("GET", "/v1/connections?after=1&after=1"),
        ("POST", "/v1/close?connection=1&connection=2"),
        ("GET", "/v1/channels/a/messages?last=1&last=2"),
    ] {
        let (status, body) = ask(&host, method, path, "", b"");
        assert!(status == 400 && body.contains(r#""code":"twice""#), "{path}: {status} {body}");
    }
    assert_eq!(published(&host), 0);
    host.stop();
}

#[test]
fn a_message_may_go_to_several_channels_at_once() {
    let host = Host::start(&CONTROL);
    let mut clients = ["a", "b"].map(|channel| host.websocket(&format!("channel={channel}"), true));
    for (client, channel) in clients.iter_mut().zip(["a", "b"]) {
        assert_eq!(field(&client.text(), "channel"), channel);
    }
    let (status, body) = post(&host, "/v1/publish?channel=a&channel=b&event=tick&key=once", "hello");
    assert_eq!(status, 200, "{body}");
    let places: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
    for ((client, place), channel) in clients.iter_mut().zip(&places).zip(["a", "b"]) {
        let message = client.text();
        assert_eq!(
            [field(&message, "channel"), field(&message, "data"), field(&message, "event")],
            [channel, "hello", "tick"]
        );
        assert_eq!(
            (field(&message, "id"), place["subscribers"].as_u64()),
            (place["id"].as_str().unwrap().into(), Some(1))
        );
    }
    // With the same key the answer has the first positions, and nobody gets the messages again.
    let again = post(&host, "/v1/publish?channel=a&channel=b", "").1;
    let (_, once) = ask(&host, "POST", "/v1/publish?channel=a&channel=b", "Push-Key: once\r\n", b"again");
    let once: Vec<serde_json::Value> = serde_json::from_str(&once).unwrap();
    assert_eq!((&once[0]["id"], &once[1]["id"]), (&places[0]["id"], &places[1]["id"]));
    assert!(again.starts_with('['));
    // All are published or none.
    assert_eq!(post(&host, "/v1/publish?channel=a&channel=", "x").0, 400);
    assert_eq!(published(&host), 4);
    host.stop();
}

#[test]
fn several_users_are_disconnected_with_a_code_and_a_reason() {
    let host = Host::start(&[&CONTROL[..], &[("auth", "jwt"), ("jwt_secret", SECRET)]].concat());
    let mut clients =
        ["ada", "bob", "eve"].map(|user| host.websocket(&format!("channel=a&token={}", token(user)), false));
    for wrong in
        ["user=ada&user=&code=4000", "user=ada&code=1006", "user=ada&code=x", "user=ada&code=70000", "code=4000"]
    {
        assert_eq!(post(&host, &format!("/v1/disconnect?{wrong}"), "").0, 400, "{wrong}");
    }
    let long = format!("/v1/disconnect?user=ada&reason={}", "x".repeat(124));
    assert_eq!(post(&host, &long, "").0, 400);
    // The answer has the number of connections, of all these users.
    let mut second = host.websocket(&format!("channel=b&token={}", token("bob")), false);
    let gone = post(&host, "/v1/disconnect?user=nobody", "");
    assert_eq!((gone.0, &*gone.1), (200, "{\"closed\":0}\n"));
    let (status, body) = post(&host, "/v1/disconnect?user=ada&user=bob&user=nobody&code=4000&reason=bye", "");
    assert_eq!((status, &*body), (200, "{\"closed\":3}\n"));
    assert_eq!(second.end(), (4000, "bye".into()));
    for client in &mut clients[..2] {
        assert_eq!(client.end(), (4000, "bye".into()));
    }
    assert_eq!(post(&host, "/v1/disconnect?user=eve", "").0, 200);
    assert_eq!(clients[2].end(), (4403, "disconnected".into()));
    host.stop();
}

#[test]
fn several_channels_are_revoked_from_several_users() {
    let host = Host::start(&[&CONTROL[..], &[("auth", "jwt"), ("jwt_secret", SECRET)]].concat());
    let mut clients = ["ada", "bob"]
        .map(|user| host.websocket(&format!("channel=a&channel=b&channel=c&token={}", token(user)), true));
    assert_eq!(post(&host, "/v1/revoke?user=ada&user=bob&channel=a&channel=", "").0, 400);
    assert_eq!(post(&host, "/v1/revoke?user=ada&user=bob&channel=a&channel=b&reason=over", "").0, 200);
    for client in &mut clients {
        let mut lost = Vec::new();
        while lost.len() < 2 {
            let text = client.text();
            if field(&text, "type") == "unsubscribed" {
                assert_eq!(field(&text, "reason"), "over");
                lost.push(field(&text, "channel"));
            }
        }
        assert_eq!(lost, ["a", "b"]);
    }
    host.stop();
}

/// A client may choose a name with a `*` in it, and a token may grant it. A prefix still ends in its only `*`.
#[test]
fn a_channel_with_a_star_in_its_name_is_revoked() {
    let host = Host::start(&[&CONTROL[..], &[("auth", "jwt"), ("jwt_secret", SECRET)]].concat());
    for granted in ["room.*", "room.a*b"] {
        let token = token_for("eve", &[granted]);
        let mut client = host.websocket(&format!("channel=room.a*b&token={token}"), true);
        assert_eq!(field(&client.text(), "type"), "subscribed");
        assert_eq!(post(&host, "/v1/revoke?user=eve&channel=room.a*b*", "").0, 400);
        assert_eq!(post(&host, "/v1/revoke?user=eve&channel=room.a*b&reason=over", "").0, 200);
        let told = client.text();
        assert_eq!(
            (field(&told, "type"), field(&told, "channel")),
            ("unsubscribed".into(), "room.a*b".into()),
            "{told}"
        );
    }
    host.stop();
}

#[test]
fn headers_and_members_of_a_publish_count_once_or_are_refused() {
    let host = Host::start(&CONTROL);
    let one = r#"[{"channel":"a","data":"x"}]"#;
    for (path, lines, body, told) in [
        ("/v1/publish?channel=a&event=x", "Push-Event: x\r\n", "x", "event: a message has at most one"),
        ("/v1/publish?channel=a", "Push-Key: x\r\nPush-Key: x\r\n", "x", "key: a message has at most one"),
        (
            "/v1/publish?channel=a",
            "Push-Evnt: x\r\n",
            "x",
            "unknown header push-evnt; allowed are Push-Event, Push-Key and Push-Except",
        ),
        ("/v1/publish", "Push-Event: x\r\n", one, "without ?channel= or ?user= the body is a batch"),
        ("/v1/publish?key=x", "", one, "without ?channel= or ?user= the body is a batch"),
        ("/v1/publish", "Push-Except: x\r\n", one, "except must be a UUID: 32 hexadecimal digits, as in"),
        ("/v1/publish?channel=a&except=x", "", "x", "except must be a UUID: 32 hexadecimal digits, as in"),
        ("/v1/broadcast?except=", "", "x", "except must be a UUID: 32 hexadecimal digits, as in"),
        ("/v1/begin?channel=a&except=x", "", "", "unknown parameter except"),
        (
            "/v1/publish",
            "",
            r#"[{"channel":"a","data":"x","except":"x"}]"#,
            "message 1: except must be a UUID: 32 hexadecimal digits, as in",
        ),
        (
            "/v1/publish",
            "",
            r#"[{"channel":"a","data":"x","evnt":"y"}]"#,
            "message 1: unknown member evnt; allowed are channel, user, data, event, key, base64, except",
        ),
        ("/v1/publish", "", r#"[{"channel":"a","data":1}]"#, "message 1: data must be a text"),
        ("/v1/publish", "", r#"[{"channel":"a","data":"!","base64":true}]"#, "message 1: data is not base64"),
        ("/v1/publish", "", r#"{"channel":"a","data":"x"}"#, "an array of objects is expected"),
        ("/v1/publish", "", "hello", "not valid JSON"),
    ] {
        let (status, answer) = ask(&host, "POST", path, lines, body.as_bytes());
        assert!(status == 400 && answer.contains(told), "{told}: {status} {answer}");
    }
    for path in ["/v1/publish?channel=a", "/v1/publish", "/v1/broadcast"] {
        let (status, answer) = ask(&host, "POST", path, "Content-Encoding: gzip\r\n", b"\x1f\x8b");
        assert_eq!((status, field(&answer, "error").contains("content_encoding")), (415, true), "{answer}");
    }
    assert_eq!(ask(&host, "POST", "/v1/publish?channel=a", "Content-Encoding: identity\r\n", b"x").0, 200);
    // These requests have no body.
    for (method, path) in [
        ("POST", "/v1/disconnect?user=a"),
        ("POST", "/v1/close?connection=1"),
        ("GET", "/v1/connections"),
        ("GET", "/v1/stats"),
        ("DELETE", "/v1/channels/a"),
    ] {
        assert_eq!(ask(&host, method, path, "", br#"{"user":"b"}"#).0, 413, "{path}");
    }
    assert_eq!(published(&host), 1);
    host.stop();
}

#[test]
fn a_wrong_method_is_answered_with_the_allowed_ones() {
    let host = Host::start(&CONTROL);
    for (method, path, allow) in [
        ("GET", "/v1/publish", "POST"),
        ("GET", "/v1/close", "POST"),
        ("PUT", "/v1/stats", "GET"),
        ("DELETE", "/v1/connections", "GET"),
        ("POST", "/v1/channels/a", "GET, DELETE"),
        ("DELETE", "/v1/channels/a/messages", "GET"),
    ] {
        let mut client = Client::over(TcpStream::connect(&host.server.addresses()[1]).unwrap());
        let key = format!("Authorization: Bearer {}\r\n", CONTROL[1].1);
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n").as_bytes());
        let head = client.head().to_ascii_lowercase();
        assert!(
            head.starts_with("http/1.1 405 ") && head.contains(&format!("allow: {allow}").to_ascii_lowercase()),
            "{head}"
        );
    }
    host.stop();
}

#[test]
fn bearer_may_be_in_any_case_with_any_number_of_spaces() {
    let host = Host::start(&CONTROL);
    let key = CONTROL[1].1;
    for good in ["Bearer ", "bearer ", "BEARER ", "Bearer  ", "bearer     "] {
        let line = format!("Authorization: {good}{key}\r\n");
        assert_eq!(ask(&host, "GET", "/v1/stats", &line, b"").0, 200, "{good:?}");
    }
    for bad in ["", "Bearer", "Basic ", "Bearer x ", "Bearer:", "Bearer\t"] {
        let line = format!("Authorization: {bad}{key}\r\n");
        assert_eq!(ask(&host, "GET", "/v1/stats", &line, b"").0, 401, "{bad:?}");
    }
    let twice = format!("Authorization: Bearer {key}\r\n").repeat(2);
    assert_eq!(ask(&host, "GET", "/v1/stats", &twice, b"").0, 400);
    host.stop();
    let host = Host::start(&[("auth", "jwt"), ("jwt_secret", SECRET)]);
    for scheme in ["Bearer ", "bearer   "] {
        let line = format!("Authorization: {scheme}{}\r\n", token("ada"));
        assert!(host.get("channel=a&wait=0", &line).head().starts_with("HTTP/1.1 200 "), "{scheme:?}");
    }
    host.stop();
}

/// The answer to a request that is good, as JSON.
fn got(host: &Host, path: &str) -> serde_json::Value {
    let (status, body) = ask(host, "GET", path, "", b"");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token(user: &str) -> String {
    token_for(user, &["*"])
}

fn token_for(user: &str, channels: &[&str]) -> String {
    let claims = serde_json::json!({"sub": user, "exp": 4_000_000_000_u64, "push": {"subscribe": channels}});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}
