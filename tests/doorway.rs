//! The listeners of `listen`: the names by which clients may address a server, and the answers to load balancers.

mod common;

use common::{adopted, builder, eventually, metrics, socket_path, Client, Host, UPGRADE};
use push::{Builder, Server};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The first line and the rest of a server's answer to a whole request.
fn ask(address: &str, request: &str) -> (String, String) {
    let mut client = Client::over(TcpStream::connect(address).unwrap());
    client.send(request.as_bytes());
    let head = client.head();
    let (line, _) = head.split_once("\r\n").unwrap();
    (line.to_owned(), client.rest())
}

/// The status of a poll that does not wait, with this `Host`.
fn status(address: &str, host: &str, lines: &str) -> String {
    let request = format!("GET /push?channel=a&wait=0 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
    ask(address, &request).0[9..12].to_owned()
}

#[test]
fn an_open_server_gives_nothing_to_a_page_that_names_the_loopback_otherwise() {
    let host = Host::start(&[]);
    names_are_checked(&host);
    host.stop();
    // The same without the option `auth`, as a host that sets no options has it.
    let mut builder = Builder::default();
    builder.set("listen", "127.0.0.1:0").unwrap();
    let host = Host { server: Server::start(builder).unwrap() };
    names_are_checked(&host);
    host.stop();
}

fn names_are_checked(host: &Host) {
    let address = host.address();
    let port = address.rsplit_once(':').unwrap().1;
    for rebound in ["rebound.attacker.example", "localhost.attacker.example", "192.0.2.1", "[2001:db8::1]"] {
        let host = format!("{rebound}:{port}");
        // The browser takes the attacker's page for the server's own.
        let origin = format!("Origin: http://{host}\r\n");
        assert_eq!(status(address, &host, &origin), "403", "{host}");
        for lines in [UPGRADE, "Accept: text/event-stream\r\n", "Accept: application/x-ndjson\r\n", ""] {
            let request = format!("GET /push?channel=a HTTP/1.1\r\nHost: {host}\r\n{origin}{lines}\r\n");
            let (line, body) = ask(address, &request);
            assert!(
                line.starts_with("HTTP/1.1 403 ") && body.contains("the option allowed_hosts"),
                "{lines}: {line} {body}"
            );
        }
        let preflight = format!("OPTIONS /push HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n");
        assert!(ask(address, &preflight).0.starts_with("HTTP/1.1 403 "));
    }
    for good in ["localhost", "LOCALHOST", "app.localhost", "127.0.0.1", "127.3.2.1", "[::1]"] {
        assert_eq!(status(address, &format!("{good}:{port}"), ""), "200", "{good}");
    }
    // This is no browser, since there is no `Host`.
    assert!(ask(address, "GET /push?channel=a&wait=0 HTTP/1.0\r\n\r\n").0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn only_an_open_server_on_the_loopback_checks_names() {
    // There, tokens or the host decide who may subscribe.
    let host = Host::start(&[("auth", "jwt"), ("jwt_secret", "0123456789abcdef0123456789abcdef")]);
    assert_eq!(status(host.address(), "rebound.example", ""), "401");
    host.stop();
    // An operator who listens on all addresses has decided to let anybody in.
    let host = Host::start(&[("listen", "0.0.0.0:0")]);
    let port = host.address().rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(status(&format!("127.0.0.1:{port}"), "push.example.org", ""), "200");
    host.stop();
    // No browser comes through a Unix socket.
    let path = socket_path();
    let host = Host::start(&[("listen", &format!("unix:{path}"))]);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"GET /push?channel=a&wait=0 HTTP/1.0\r\nHost: push.example.org\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    host.stop();
    // The host has routed connections that it hands over by its own rules.
    let host = Host::start(&[("allowed_hosts", "push.example.org")]);
    let head = "GET /push?channel=a&wait=0 HTTP/1.0\r\nHost: other.example\r\n\r\n";
    assert!(adopted(&host.server, head, None).head().starts_with("HTTP/1.1 200 "));
    host.stop();
}

#[test]
fn allowed_hosts_hold_for_every_listener_and_change_while_the_server_runs() {
    let names = [("allowed_hosts", "push.example.org, *.example.net")];
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        for auth in [&[][..], &[("auth", "jwt"), ("jwt_secret", "0123456789abcdef0123456789abcdef")]] {
            let options = [&[("listen", listen)][..], auth, &names].concat();
            let host = Host::start(&options);
            let address = host.address().replace("0.0.0.0", "127.0.0.1");
            let served = if auth.is_empty() { "200" } else { "401" };
            for good in ["push.example.org", "PUSH.EXAMPLE.ORG:80", "a.example.net", "localhost:1"] {
                assert_eq!(status(&address, good, ""), served, "{listen} {good}");
            }
            for bad in ["example.org", "example.net", "other.example", "192.0.2.1"] {
                assert_eq!(status(&address, bad, ""), "403", "{listen} {bad}");
            }
            host.server
                .reload(&builder(&[&[("listen", listen)][..], auth, &[("allowed_hosts", "*")]].concat()))
                .unwrap();
            eventually(|| status(&address, "other.example", "") == served);
            host.stop();
        }
    }
}

#[test]
fn a_load_balancer_gets_200_from_a_server_that_serves() {
    let host = Host::start(&[]);
    for (request, body) in [
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "ok\n"),
        ("GET /healthz?from=a HTTP/1.1\r\nHost: any.example\r\n\r\n", "ok\n"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "ok\n"),
        ("OPTIONS /healthz HTTP/1.0\r\n\r\n", "ok\n"),
        ("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", ""),
        ("HEAD /healthz HTTP/1.0\r\n\r\n", ""),
        // Nothing behind it is served.
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "ok\n"),
    ] {
        let (line, rest) = ask(host.address(), request);
        assert_eq!((&*line, &*rest), ("HTTP/1.1 200 OK", body), "{request}");
    }
    assert!(ask(host.address(), "POST /healthz HTTP/1.0\r\n\r\n").0.starts_with("HTTP/1.1 404 "));
    assert!(ask(host.address(), "GET / HTTP/1.0\r\n\r\n").0.starts_with("HTTP/1.1 404 "));
    host.server.reload(&builder(&[("health_path", "/up")])).unwrap();
    eventually(|| ask(host.address(), "GET /up HTTP/1.0\r\n\r\n").0 == "HTTP/1.1 200 OK");
    eventually(|| ask(host.address(), "GET /healthz HTTP/1.0\r\n\r\n").0.starts_with("HTTP/1.1 404 "));
    host.server.reload(&builder(&[("health_path", "")])).unwrap();
    eventually(|| ask(host.address(), "GET /up HTTP/1.0\r\n\r\n").0.starts_with("HTTP/1.1 404 "));
    let error = host.server.reload(&builder(&[("health_path", "/push")])).unwrap_err().to_string();
    assert_eq!(error, "options path and health_path: they must differ");
    host.stop();
}

#[test]
fn a_load_balancer_gets_503_from_a_server_that_goes_away() {
    let path = socket_path();
    let host = Host::start(&[("control", &format!("unix:{path}"))]);
    let keeps = host.websocket("channel=a", false);
    let mut begun = host.connect();
    begun.send(b"GET /healthz HTTP/1.1\r\n");
    eventually(|| metrics(&path).contains("push_connections{transport=\"none\"} 1"));
    // A client of which nothing was read yet would get no answer.
    eventually(|| host.server.stats().unwrap().inbox_bytes > 0);
    let healthy = |path: &str| {
        let mut control = UnixStream::connect(path).unwrap();
        control.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(healthy(&path).ends_with("\r\n\r\nok\n"));
    host.server.drain(Duration::from_secs(60)).unwrap();
    begun.send(b"Host: localhost\r\n\r\n");
    assert!(begun.head().starts_with("HTTP/1.1 503 "));
    assert!(healthy(&path).starts_with("HTTP/1.1 503 "));
    drop(keeps);
    host.stop();
}
