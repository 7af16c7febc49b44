//! TLS for the control API.

use crate::client::{answer_to, config, Client, VERSIONS};
use crate::common::{in_time, until, Host, Lines, LINGER_PAUSE};
use crate::{logged, Pair};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

const KEY: &str = "0123456789abcdef";

fn start(pair: &Pair, options: &[(&str, &str)]) -> (Host, Lines, String) {
    let mut all = vec![("control", "tls:127.0.0.1:0"), ("control_key", KEY)];
    all.extend(pair.options());
    all.extend(options);
    let (host, lines) = Host::logged(&all);
    let address = host.server.addresses().iter().find_map(|address| address.strip_prefix("tls:")).unwrap().to_owned();
    (host, lines, address)
}

fn publish(client: &mut Client, data: &str) -> std::io::Result<()> {
    let head = format!("POST /v1/publish?channel=a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n");
    client.tls.write_all(format!("{head}Content-Length: {}\r\n\r\n{data}", data.len()).as_bytes())
}

#[test]
fn requests_of_any_size_are_answered_over_both_versions() {
    let pair = Pair::new(&["localhost"]);
    let (host, _, address) = start(&pair, &[("max_message", "4MB")]);
    let mut subscriber = host.websocket("channel=a", false);
    for version in VERSIONS {
        let config = Arc::new(config(&pair, None, &[version]));
        let mut client = Client::connect(&address, "localhost", &config);
        for size in [1, 16_384, 3_000_000] {
            let data = "z".repeat(size);
            publish(&mut client, &data).unwrap();
            assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
            client.until("\n");
            assert_eq!(subscriber.text(), data);
        }
    }
    host.stop();
}

#[cfg(feature = "console")]
#[test]
fn the_cookie_of_the_console_is_for_tls_and_this_host_only() {
    let pair = Pair::new(&["localhost"]);
    let (host, _, address) = start(&pair, &[("console", "true")]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let mut client = Client::connect(&address, "localhost", &config);
    let own = format!("Host: {address}\r\nX-Push-Console: 1\r\n");
    let login = format!("POST /console/login HTTP/1.1\r\n{own}Content-Length: {}\r\n\r\n{KEY}", KEY.len());
    client.tls.write_all(login.as_bytes()).unwrap();
    let head = client.until("\r\n\r\n");
    let body = client.until("\n");
    let own = format!("Host: {address}\r\nX-Push-Console: {}\r\n", body.split('"').nth(3).unwrap());
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let (cookie, attributes) = cookie.split_once("; ").unwrap();
    let port = address.rsplit(':').next().unwrap();
    assert!(cookie.starts_with(&format!("__Host-push_console_{port}=")), "{cookie}");
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure");
    for (cookie, status) in [(cookie, "200"), (cookie.strip_prefix("__Host-").unwrap(), "401")] {
        let mut client = Client::connect(&address, "localhost", &config);
        client.tls.write_all(format!("GET /v1/stats HTTP/1.1\r\n{own}Cookie: {cookie}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(client.until("\r\n\r\n")[9..12], *status, "{cookie}");
    }
    host.stop();
}

#[test]
fn a_client_that_is_refused_while_it_sends_gets_the_answer() {
    let pair = Pair::new(&["localhost"]);
    let (host, _, address) = start(&pair, &[("max_message", "1KB")]);
    let good = format!("Authorization: Bearer {KEY}\r\n");
    for version in VERSIONS {
        let config = Arc::new(config(&pair, None, &[version]));
        for (path, lines, status) in [
            ("/v1/publish?channel=a", "", "401"),
            ("/v1/nothing", &*good, "404"),
            ("/v1/stats", &good, "405"),
            ("/v1/publish?channel=a", &good, "413"),
        ] {
            for framing in ["Content-Length: 2000000", "Transfer-Encoding: chunked"] {
                let request = format!("POST {path} HTTP/1.1\r\nHost: h\r\n{lines}{framing}\r\n\r\n");
                in_time(LINGER_PAUSE, || {
                    let client = Client::connect(&address, "localhost", &config);
                    refused_in_parts(client, framing.starts_with('T'), status, &request)
                });
            }
        }
    }
    host.stop();
}

/// The answer comes after the head or the first part. The client goes on sending before it reads the answer's rest.
fn refused_in_parts(mut client: Client, chunked: bool, status: &str, request: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{error}: {request}");
    let part = [b'x'; 20_000];
    let part = if chunked { [b"4e20\r\n", &part[..], b"\r\n"].concat() } else { part.to_vec() };
    client.tls.write_all(request.as_bytes()).map_err(told)?;
    client.tls.write_all(&part).map_err(told)?;
    let mut first = [0; 13];
    client.tls.read_exact(&mut first).map_err(told)?;
    for count in 1..100 {
        client.tls.write_all(&part).map_err(|error| format!("part {count}: {error}: {request}"))?;
    }
    if chunked {
        client.tls.write_all(b"0\r\n\r\n").map_err(told)?;
    }
    let rest = client.rest().map_err(|error| format!("{error}: {request}"))?;
    let is_whole = rest.contains("\r\n\r\n") && rest.ends_with("}}\n");
    match first.starts_with(format!("HTTP/1.1 {status} ").as_bytes()) && is_whole {
        true => Ok(()),
        false => Err(format!("{}{rest}: {request}", String::from_utf8_lossy(&first))),
    }
}

#[test]
fn a_goodbye_with_bytes_behind_it_ends_one_client_and_nothing_else() {
    let pair = Pair::new(&["localhost"]);
    let (host, _, address) = start(&pair, &[]);
    for version in VERSIONS {
        let config = Arc::new(config(&pair, None, &[version]));
        let mut hostile = Client::connect(&address, "localhost", &config);
        hostile.tls.conn.complete_io(&mut hostile.tls.sock).unwrap();
        hostile.tls.conn.send_close_notify();
        let mut bytes = Vec::new();
        hostile.tls.conn.write_tls(&mut bytes).unwrap();
        // It is more than is taken at once.
        bytes.resize(bytes.len() + 10_000, b'x');
        hostile.tls.sock.write_all(&bytes).unwrap();
        assert_eq!(hostile.rest(), Ok(String::new()), "the end is told");
        let mut client = Client::connect(&address, "localhost", &config);
        publish(&mut client, "x").unwrap();
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
    host.stop();
}

#[test]
fn records_that_come_faster_than_they_are_read_are_all_taken() {
    const PART: usize = 16_384;
    let pair = Pair::new(&["localhost"]);
    let (host, _, address) = start(&pair, &[("max_message", "4MB")]);
    let mut subscriber = host.websocket("channel=a", false);
    for version in VERSIONS {
        let config = Arc::new(config(&pair, None, &[version]));
        let mut client = Client::connect(&address, "localhost", &config);
        client.tls.conn.complete_io(&mut client.tls.sock).unwrap();
        client.tls.conn.set_buffer_limit(None);
        let head = format!("POST /v1/publish?channel=a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n");
        let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n{PART:x}\r\n");
        let part = "z".repeat(PART);
        // OpenSSL makes a record of each piece that a program writes: here large ones and tiny ones in turn.
        let mut pieces = vec![head];
        pieces.extend((0..50).flat_map(|_| [part.clone(), format!("\r\n{PART:x}\r\n")]));
        pieces.extend([part.clone(), "\r\n0\r\n\r\n".to_owned()]);
        let mut bytes = Vec::new();
        for piece in pieces {
            client.tls.conn.writer().write_all(piece.as_bytes()).unwrap();
            while client.tls.conn.wants_write() {
                client.tls.conn.write_tls(&mut bytes).unwrap();
            }
        }
        client.tls.sock.write_all(&bytes).unwrap();
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
        assert!(subscriber.text() == "z".repeat(51 * PART));
    }
    host.stop();
}

#[test]
fn clients_need_a_certificate_of_the_authority() {
    let (pair, own, strange) = (Pair::new(&["localhost"]), Pair::new(&["client"]), Pair::new(&["client"]));
    let (host, lines, address) = start(&pair, &[("tls_client_ca", &own.certificate)]);
    for version in VERSIONS {
        let served = |own: Option<&Pair>| {
            let config = Arc::new(config(&pair, own, &[version]));
            let mut client = Client::connect(&address, "localhost", &config);
            publish(&mut client, "x").is_ok() && client.rest_is_answered()
        };
        assert!(served(Some(&own)));
        assert!(!served(None));
        assert!(!served(Some(&strange)));
    }
    until("it is logged", || logged(&lines, "control API: TLS: "));
    // The authority is another one after a reload, also for clients that would resume, and for those that are there.
    let known = Arc::new(config(&pair, Some(&own), &VERSIONS));
    let again = || {
        let mut client = Client::connect(&address, "localhost", &known);
        publish(&mut client, "x").is_ok() && client.rest_is_answered()
    };
    assert!(again() && again());
    let connect = || Client::connect(&address, "localhost", &known);
    let (mut idle, mut silent) = (connect(), connect());
    publish(&mut idle, "x").unwrap();
    assert!(idle.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
    idle.until("\n");
    silent.tls.conn.complete_io(&mut silent.tls.sock).unwrap();
    let mut options =
        vec![("control", "tls:127.0.0.1:0"), ("control_key", KEY), ("tls_client_ca", &strange.certificate)];
    options.extend(pair.options());
    host.server.reload(&crate::common::builder(&options)).unwrap();
    assert!(!again());
    idle.rest().expect("the end is told");
    // It has sent nothing yet, and is not served either.
    let _ = publish(&mut silent, "x");
    assert!(!silent.rest_is_answered());
    host.stop();
}

#[test]
fn a_client_with_a_certificate_is_verified_each_time() {
    let (pair, own) = (Pair::new(&["localhost"]), Pair::new(&["client"]));
    let (host, _, address) = start(&pair, &[("tls_client_ca", &own.certificate)]);
    for version in VERSIONS {
        let config = Arc::new(config(&pair, Some(&own), &[version]));
        for _ in 0..2 {
            let mut client = Client::connect(&address, "localhost", &config);
            publish(&mut client, "x").unwrap();
            assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
            assert_eq!(client.tls.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }
    host.stop();
}

#[test]
fn authorities_of_clients_need_an_address_where_they_are_asked_for() {
    let (pair, own) = (Pair::new(&["localhost"]), Pair::new(&["client"]));
    let path = crate::common::socket_path();
    let with_unix = format!("tls:127.0.0.1:0, unix:{path}");
    for (control, fits) in [
        ("none", false),
        (&*format!("unix:{path}"), false),
        ("127.0.0.1:0", false),
        ("127.0.0.1:0, tls:127.0.0.1:0", false),
        ("tls:127.0.0.1:0", true),
        (&*with_unix, true),
    ] {
        let mut options = vec![("control", control), ("control_key", KEY), ("tls_client_ca", &own.certificate)];
        options.extend(pair.options());
        match push::Server::start(crate::common::builder(&options)) {
            Ok(server) => {
                assert!(fits, "{control}");
                server.stop(std::time::Duration::from_secs(5));
            }
            Err(error) => assert!(!fits && error.to_string().contains("tls_client_ca"), "{control}: {error}"),
        }
    }
}

#[test]
fn plain_http_is_told_so_and_garbage_is_not() {
    let pair = Pair::new(&["localhost"]);
    let (host, lines, address) = start(&pair, &[]);
    let answer = answer_to(&address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks HTTPS"), "{answer}");
    assert_eq!(answer_to(&address, &[0; 100]), b"");
    until("both are logged", || logged(&lines, "speaks plain HTTP") && logged(&lines, "speaks something else"));
    host.stop();
}

#[test]
fn a_name_that_nobody_has_gets_its_own_alert() {
    let pair = Pair::new(&["localhost"]);
    let path = crate::common::socket_path();
    let control = format!("tls:127.0.0.1:0, unix:{path}");
    let (host, lines, address) = start(&pair, &[("control", &control)]);
    for version in VERSIONS {
        let config = Arc::new(config(&pair, None, &[version]));
        let mut client = Client::connect(&address, "nobody.example", &config);
        let error = client.tls.conn.complete_io(&mut client.tls.sock).unwrap_err().to_string();
        assert!(error.contains("UnrecognisedName"), "{error}");
    }
    until("it is logged", || logged(&lines, "control API: TLS: there is no certificate for the name"));
    let refusals = || crate::common::counted(&crate::common::metrics_with_key(&path, KEY), "push_refusals_total");
    until("both are counted", || refusals() == [("tls_name".to_owned(), 2)]);
    host.stop();
}

/// A client that has sent a part of a request, or of its handshake.
fn silent(address: &str, sends: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(sends).unwrap();
    stream
}

#[test]
fn clients_without_a_key_keep_nobody_out() {
    let pair = Pair::new(&["localhost"]);
    let hello = crate::hostile::hello(&pair);
    let get = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    // Nothing; a part of the handshake; and behind it a request that needs no key.
    for sends in [&b""[..], &hello[..50], get] {
        let path = crate::common::socket_path();
        let control = format!("tls:127.0.0.1:0, unix:{path}");
        let (host, lines, address) = start(&pair, &[("control", &control), ("head_timeout", "10m")]);
        let config = Arc::new(config(&pair, None, &VERSIONS));
        let mut publisher = Client::connect(&address, "localhost", &config);
        let publishes = |client: &mut Client| {
            publish(client, "x").unwrap();
            assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
            client.until("\n");
        };
        publishes(&mut publisher);
        let crowd: Vec<_> = (0..300)
            .map(|_| match sends == get {
                false => silent(&address, sends),
                true => {
                    let mut client = Client::connect(&address, "localhost", &config);
                    client.send(sends);
                    client.until("\r\n\r\n");
                    client.tls.sock
                }
            })
            .collect();
        // A new one has a place at once, and the one that has shown the key keeps its own.
        publishes(&mut Client::connect(&address, "localhost", &config));
        publishes(&mut publisher);
        let refusals = crate::common::counted(&crate::common::metrics_with_key(&path, KEY), "push_refusals_total");
        assert!(refusals.len() == 1 && refusals[0].0 == "busy" && refusals[0].1 >= 44, "{refusals:?}");
        until("it is logged", || logged(&lines, "control API: 256 connections were open"));
        drop(crowd);
        host.stop();
    }
}

#[test]
fn a_crowd_at_one_address_ends_no_client_of_another() {
    let pair = Pair::new(&["localhost"]);
    let (host, _, address) = start(&pair, &[("head_timeout", "10m")]);
    let from = |source: &str| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let source: std::net::SocketAddr = format!("{source}:0").parse().unwrap();
        socket.bind(&source.into()).unwrap();
        socket.connect(&address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        TcpStream::from(socket)
    };
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let slow = from("127.0.0.2");
    let crowd: Vec<_> = (0..600).map(|_| from("127.0.0.3")).collect();
    // The crowd has only the last places.
    let mut client = Client::connect(&address, "localhost", &config);
    publish(&mut client, "x").unwrap();
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
    let mut slow = Client::over(slow, "localhost", &config);
    publish(&mut slow, "x").unwrap();
    assert!(slow.until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
    drop(crowd);
    host.stop();
}

#[test]
fn a_request_has_the_time_of_head_timeout_from_the_handshake_on() {
    let pair = Pair::new(&["localhost"]);
    let hello = crate::hostile::hello(&pair);
    for whole in [false, true] {
        let path = crate::common::socket_path();
        let control = format!("tls:127.0.0.1:0, unix:{path}");
        let (host, lines, address) = start(&pair, &[("control", &control), ("head_timeout", "5s")]);
        let stream = if whole {
            let mut client = Client::connect(&address, "localhost", &Arc::new(config(&pair, None, &VERSIONS)));
            // On a slow machine the handshake alone may last too long.
            let _ = client.tls.write_all(b"POST /v1/publish?channel=a HTTP/1.1\r\nHost: h\r\n");
            client.tls.sock
        } else {
            silent(&address, &hello[..50])
        };
        until("it is ended", || logged(&lines, "control API: no request came within head_timeout"));
        let refusals = crate::common::counted(&crate::common::metrics_with_key(&path, KEY), "push_refusals_total");
        assert_eq!(refusals, [("timeout".to_owned(), 1)]);
        drop(stream);
        host.stop();
    }
}
