//! A Unix socket without a key: programs may ask there. Pages in browsers, which may come through a tunnel, may not.

use super::common::{field, socket_path, Host};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// A request that is complete, and the status and body of its answer.
fn exchange(path: &str, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request}: {answer}"));
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[test]
fn programs_may_ask_without_a_key_and_pages_may_not() {
    let path = socket_path();
    let host = Host::start(&[("control", &format!("unix:{path}")), ("allowed_hosts", "hub.example")]);
    let client = host.websocket("channel=a", false);
    let ask = |method: &str, target: &str, lines: &str| {
        exchange(&path, &format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n{lines}Content-Length: 0\r\n\r\n"))
    };
    // As pushctl, curl, Go, httpx and others address a Unix socket, and as one addresses the end of a tunnel.
    for name in
        ["pushd", "unix", "localhost", "control", "my_hub-1", "", "localhost:9099", "127.0.0.1:9099", "[::1]:9099"]
    {
        assert_eq!(ask("GET", "/v1/stats", &format!("Host: {name}\r\n")).0, 200, "{name}");
    }
    assert_eq!(ask("GET", "/v1/stats", "Host: hub.example:9099\r\n").0, 200, "the option allows it");
    assert_eq!(ask("GET", "/v1/stats", "Host: localhost:9099\r\nSec-Fetch-Site: none\r\n").0, 200, "it was typed");
    assert_eq!(exchange(&path, "GET /v1/stats HTTP/1.0\r\n\r\n").0, 200);

    let own = "Host: localhost:9099\r\n";
    let mut pages: Vec<(String, &str)> = Vec::new();
    for origin in ["http://evil.example", "http://localhost:3000", "http://localhost:9099", "null", ""] {
        pages.push((format!("{own}Origin: {origin}\r\n"), "origin"));
    }
    for site in ["cross-site", "same-site", "same-origin", "", "none\r\nSec-Fetch-Site: none"] {
        pages.push((format!("{own}Sec-Fetch-Site: {site}\r\n"), "origin"));
    }
    for name in
        ["evil.example", "evil.example:9099", "evil:9099", "evil.", "127.0.0.1.evil.example", "[2001:db8::1]", "a@b"]
    {
        pages.push((format!("Host: {name}\r\n"), "host"));
    }
    pages.push((format!("{own}{own}"), "host"));
    for (lines, code) in &pages {
        for (method, target) in [
            ("GET", "/v1/stats"),
            ("GET", "/metrics"),
            ("GET", "/v1/tail?pattern=*"),
            ("POST", "/v1/publish?channel=a"),
            ("POST", "/v1/disconnect?all=1"),
            ("DELETE", "/v1/channels/a"),
            ("GET", "/v1/nothing"),
        ] {
            let (status, body) = ask(method, target, lines);
            assert!(
                status == 403 && body.contains(&format!("\"code\":\"{code}\"")),
                "{target} {lines}: {status} {body}"
            );
        }
        // It says nothing but that the hub is there.
        assert_eq!(ask("GET", "/healthz", lines).0, 200, "{lines}");
    }
    // The name in the target counts, and not the line.
    let (status, body) = ask("GET", "http://evil.example/v1/stats", "Host: localhost\r\n");
    assert!(status == 403 && body.contains("may not be addressed as evil.example"), "{body}");
    let stats = ask("GET", "/v1/stats", "Host: pushd\r\n").1;
    assert_eq!((field(&stats, "published"), field(&stats, "connections")), ("0".to_owned(), "1".to_owned()));
    drop(client);
    host.stop();
}
