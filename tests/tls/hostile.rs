//! Clients that do not keep to the rules of TLS. Each is ended, counted under its reason, and logged.

use crate::client::{address, answer_to, config, Client, VERSIONS};
use crate::common::{counted, metrics, socket_path, until, Host, Lines, PATIENCE, UPGRADE};
use crate::kernel::IN_LIBRARY;
use crate::{logged, start, start_with, Pair};
use rustls::pki_types::ServerName;
use rustls::ClientConnection;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first message of a client.
pub fn hello(pair: &Pair) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config(pair, None, &VERSIONS)), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// Waits until a line was logged, and checks that this was counted under its reason and no other.
pub fn refused(path: &str, lines: &Lines, reason: &str, line: &str) {
    until(&format!("{line:?} is logged"), || logged(lines, line));
    let refusals = counted(&metrics(path), "push_refusals_total");
    assert!(refusals.len() == 1 && refusals[0].0 == reason, "{line}: {refusals:?}");
}

/// Checks that a client is served, whatever became of another.
fn goes_on(host: &Host, client: &mut Client) {
    host.publish("a", "for all");
    client.until("for all");
}

/// Waits until the WebSocket client is ended, and checks that it was for its records.
pub fn ended(host: &Host, path: &str, lines: &Lines, line: &str) {
    until("it is ended", || host.server.stats().unwrap().websockets == 0);
    refused(path, lines, "tls", line);
}

/// A server whose metrics can be read.
pub fn counting(options: &[(&str, &str)]) -> (Host, Lines, Pair, String) {
    let path = socket_path();
    let control = format!("unix:{path}");
    let mut all = vec![("control", control.as_str())];
    all.extend(options);
    let (host, lines, pair) = start(&all);
    (host, lines, pair, path)
}

#[test]
fn plain_http_at_an_address_for_tls_is_told_so() {
    let (host, lines, _, path) = counting(&[]);
    for request in ["GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /x HTTP/1.0\r\n\r\n"] {
        let answer = String::from_utf8(answer_to(&address(&host), request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks HTTPS"), "{answer}");
    }
    refused(&path, &lines, "not_tls", "the client speaks plain HTTP at an address for TLS");
    host.stop();
}

#[test]
fn what_is_no_tls_at_all_is_closed_without_a_word() {
    let (host, lines, _, path) = counting(&[]);
    for bytes in [&b"\0\0\0\0"[..], &[0xff; 100_000], b"\x80\x2e\x01\x03\x01", b"\r\n\r\n"] {
        assert_eq!(answer_to(&address(&host), bytes), b"");
    }
    refused(&path, &lines, "not_tls", "the client speaks something else at an address for TLS");
    host.stop();
}

#[test]
fn tls_at_a_plain_address_is_closed_and_logged() {
    let path = socket_path();
    let pair = Pair::new(&["localhost"]);
    let (host, lines) = Host::logged(&[("control", &format!("unix:{path}"))]);
    assert_eq!(answer_to(host.address(), &hello(&pair)), b"");
    assert_eq!(answer_to(host.address(), b"\x16"), b"", "and one that has sent a byte of it");
    refused(&path, &lines, "not_plain", "the client speaks TLS, and this address of listen is not one for TLS");
    host.stop();
}

#[test]
fn sockets_of_a_service_manager_are_not_served_in_plain_in_place_of_tls() {
    let pair = Pair::new(&["localhost"]);
    let mut options = vec![("listen", "127.0.0.1:0, tls:127.0.0.1:0")];
    options.extend(pair.options());
    let mut builder = crate::common::builder(&options);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    builder.listen_sockets.push(Arc::new(socket.into()));
    let error = push::Server::start(builder).expect_err("it would speak plain HTTP").to_string();
    assert!(error.contains("option listen: tls:127.0.0.1:0"), "{error}");
}

#[test]
fn a_hello_in_pieces_is_served_and_one_that_never_ends_has_its_time() {
    let (host, lines, pair, path) = counting(&[("head_timeout", "1s")]);
    let mut connection = {
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::new(config(&pair, None, &VERSIONS)), name).unwrap()
    };
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    until("it is not served", || {
        let mut stream = TcpStream::connect(address(&host)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // On a slow machine the time may be over before the last byte.
        let sent = bytes.iter().all(|byte| stream.write_all(&[*byte]).is_ok());
        sent && stream.read(&mut [0; 100]).is_ok_and(|len| len > 0)
    });
    let began = Instant::now();
    assert_eq!(answer_to(&address(&host), &bytes[..bytes.len() - 1]), b"");
    assert_eq!(answer_to(&address(&host), b""), b"");
    // The two timers count whole milliseconds.
    assert!(began.elapsed() >= Duration::from_millis(1990), "each has its second");
    refused(&path, &lines, "timeout", "its TLS handshake was ended: it was not done within head_timeout");
    host.stop();
}

#[test]
fn a_handshake_that_is_wrong_gets_an_alert() {
    let (host, lines, pair, path) = counting(&[]);
    let mut cut = hello(&pair);
    cut.truncate(60);
    let len = (cut.len() - 5) as u16;
    cut[3..5].copy_from_slice(&len.to_be_bytes());
    // The message says that it is as long as the record, and ends in the middle of its fields.
    cut[6..9].copy_from_slice(&[0, 0, (len - 4) as u8]);
    // A record that is too long; a client that is done before it has begun.
    let first = |rest: &[u8]| [&b"\x16\x03\x01"[..], rest].concat();
    for bytes in [cut, first(b"\xff\xff"), first(b"\0\x04\x14\0\0\0")] {
        let answer = answer_to(&address(&host), &bytes);
        assert!(matches!(answer[..], [21, 3, _, 0, 2, 2, _]), "{bytes:?}: {answer:?}");
    }
    refused(&path, &lines, "tls", "the TLS handshake failed: ");
    host.stop();
}

#[test]
fn a_hello_without_end_is_cut_off() {
    let (host, lines, _, path) = counting(&[]);
    // The message says that it has 16 MB, and comes in records of 1 KB.
    let mut bytes = b"\x16\x03\x01\0\x04\x01\xff\xff\xff".to_vec();
    for _ in 0..100 {
        bytes.extend_from_slice(b"\x16\x03\x01\x04\0");
        bytes.extend_from_slice(&[0; 1024]);
    }
    assert_eq!(answer_to(&address(&host), &bytes), b"");
    refused(&path, &lines, "tls", "the TLS handshake failed: ");
    host.stop();
}

#[test]
fn a_name_that_nobody_has_gets_the_alert_for_it() {
    let (host, lines, pair, path) = counting(&[]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let mut client = Client::connect(&address(&host), "other.example", &config);
    let error = client.tls.conn.complete_io(&mut client.tls.sock).unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    refused(&path, &lines, "tls_name", "there is no certificate for the name that the client asked for");
    host.stop();
}

#[test]
fn records_without_content_end_a_client_when_there_are_too_many() {
    let (host, lines, pair, path) = counting(&[IN_LIBRARY]);
    let config = Arc::new(config(&pair, None, &[&rustls::version::TLS13]));
    let mut ws = Client::websocket(&host, &config);
    // Each is a message about keys, without any content.
    for _ in 0..10_000 {
        ws.tls.conn.refresh_traffic_keys().unwrap();
        if ws.tls.conn.write_tls(&mut ws.tls.sock).is_err() {
            break;
        }
    }
    ended(&host, &path, &lines, "TLS: ");
    host.stop();
}

#[test]
fn a_client_that_breaks_a_record_is_ended_and_others_are_not() {
    let (host, lines, pair, path) = counting(&[]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let (mut good, mut bad) = (Client::websocket(&host, &config), Client::websocket(&host, &config));
    bad.tls.sock.write_all(b"\x17\x03\x03\0\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    let error = bad.rest().expect_err("an alert");
    assert!(matches!(error, ErrorKind::InvalidData | ErrorKind::UnexpectedEof), "{error:?}");
    refused(&path, &lines, "tls", "TLS: cannot decrypt peer's message");
    goes_on(&host, &mut good);
    host.stop();
}

#[test]
fn a_client_that_only_goes_away_is_no_refusal() {
    let (host, _, pair, path) = counting(&[]);
    let bytes = hello(&pair);
    for len in [0, 1, bytes.len()] {
        let mut stream = TcpStream::connect(address(&host)).unwrap();
        stream.write_all(&bytes[..len]).unwrap();
    }
    // One says goodbye in its handshake.
    answer_to(&address(&host), &[&bytes[..], b"\x15\x03\x03\0\x02\x01\0"].concat());
    // Nor is one that ends without a goodbye.
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let ws = Client::websocket(&host, &config);
    until("it is there", || host.server.stats().unwrap().websockets == 1);
    drop(ws);
    until("all are gone", || host.server.stats().unwrap().connections == 0);
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), []);
    host.stop();
}

#[test]
fn limits_hold_for_clients_of_tls() {
    let pair = Pair::new(&["localhost"]);
    for (option, status) in [("max_per_address", "429"), ("max_connections", "503")] {
        let (host, _) = start_with(&pair, &[(option, "1")]);
        let config = Arc::new(config(&pair, None, &VERSIONS));
        let connect = || Client::connect(&address(&host), "localhost", &config).get("channel=a", UPGRADE);
        let mut first = connect();
        assert!(first.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        let told = connect().rest().expect("the end is told");
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        drop(first);
        until("there is room again", || connect().until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        host.stop();
    }
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let pair = Pair::new(&["localhost"]);
    let options = [("proxy_protocol", "true"), ("trusted_proxies", "127.0.0.1"), ("max_per_address", "1")];
    let (host, lines) = start_with(&pair, &options);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let connect = |client: &str| {
        let mut connecting = Client::connect(&address(&host), "localhost", &config);
        let header = format!("PROXY TCP4 {client} 192.0.2.99 1 2\r\n");
        connecting.tls.sock.write_all(header.as_bytes()).unwrap();
        let mut connected = connecting.get("channel=a", UPGRADE);
        let head = connected.until("\r\n\r\n");
        (head, connected)
    };
    let (head, _one) = connect("192.0.2.1");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (head, _again) = connect("192.0.2.1");
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    let (head, _other) = connect("192.0.2.2");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    until("the log names the client", || logged(&lines, "address 192.0.2.1"));
    assert_eq!(answer_to(&address(&host), &hello(&pair)), b"", "the header is missing");
    host.stop();
}

#[test]
fn an_address_with_too_many_connections_is_closed_before_its_handshake() {
    let (host, lines, pair, path) = counting(&[("max_per_address", "1")]);
    // The first ones beyond it are told why. These have not begun their handshakes, and count all the same.
    let _there: Vec<_> = (0..9).map(|_| TcpStream::connect(address(&host)).unwrap()).collect();
    assert_eq!(answer_to(&address(&host), &hello(&pair)), b"");
    let line = "closed before its TLS handshake: its address has too many connections (option max_per_address)";
    refused(&path, &lines, "max_per_address", line);
    host.stop();
}

#[test]
fn an_address_that_connects_too_often_is_closed_before_its_handshake() {
    let (host, lines, pair, path) = counting(&[("connect_rate_per_address", "1")]);
    // More than a second of them may come at once on a slow machine.
    until("one is closed", || {
        let stream = TcpStream::connect(address(&host)).unwrap();
        let mut client = Client::over(stream, "localhost", &Arc::new(config(&pair, None, &VERSIONS)));
        client.tls.conn.complete_io(&mut client.tls.sock).is_err()
    });
    let line = "closed before its TLS handshake: too many new connections of its address";
    refused(&path, &lines, "connect_rate_per_address", line);
    host.stop();
}

#[test]
fn one_address_does_not_take_the_places_of_others_in_the_handshakes() {
    if descriptors() < 12_000 {
        // The unit test of the crowd has the rule.
        return println!("skipped: it needs 12,000 descriptors (ulimit -n)");
    }
    let (host, _, pair, path) = counting(&[("max_connections", "0"), ("head_timeout", "10m")]);
    let port = address(&host).rsplit_once(':').unwrap().1.parse().unwrap();
    // It has come first, and is slow.
    let slow = connected_from([127, 0, 0, 2], port);
    // More than may be under way.
    let many: Vec<_> = (0..5000).map(|_| TcpStream::connect(address(&host)).unwrap()).collect();
    until("some have given way", || {
        counted(&metrics(&path), "push_refusals_total").iter().any(|(_, count)| *count >= 900)
    });
    let mut client = Client::over(slow, "localhost", &Arc::new(config(&pair, None, &VERSIONS)));
    client = client.get("channel=a", UPGRADE);
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    drop(many);
    host.stop();
}

/// How many descriptors this process may have (proc(5)).
fn descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    limit.and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}

/// A connection from an address of the loopback.
fn connected_from(address: [u8; 4], port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.into()
}

#[test]
fn behind_a_proxy_header_in_a_segment_of_its_own_mistakes_are_told_and_logged_for_the_client() {
    let pair = Pair::new(&["localhost"]);
    let (host, lines) = start_with(&pair, &[("proxy_protocol", "true"), ("trusted_proxies", "127.0.0.1")]);
    let mut stream = TcpStream::connect(address(&host)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.99 1 2\r\n").unwrap();
    // So the header is read before the next bytes come, or the test checks less.
    std::thread::sleep(Duration::from_millis(100));
    stream.write_all(b"GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks HTTPS"), "{answer}");
    let line = "the client speaks plain HTTP at an address for TLS (address 192.0.2.7)";
    until("it is logged", || logged(&lines, line));
    host.stop();
}

#[test]
fn the_kernel_probes_clients_that_are_silent() {
    let (host, _, pair) = start(&[]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let mut client = Client::connect(&address(&host), "localhost", &config).get("channel=a", "");
    until("the poll waits", || host.server.stats().unwrap().polls == 1);
    // The columns of /proc/net/tcp (proc(5)): the server's end has the listener's port, and the timer 2 is keepalive's.
    let ports: [u16; 2] = [client.tls.sock.peer_addr(), client.tls.sock.local_addr()].map(|at| at.unwrap().port());
    let ends = ports.map(|port| format!("0100007F:{port:04X}")).join(" ");
    until("its timer runs", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // A line may be left out while other connections come and go.
        let line = table.lines().find(|line| line.contains(&ends));
        line.is_some_and(|line| line.split_whitespace().nth(5).unwrap().starts_with("02:"))
    });
    host.publish("a", "x");
    client.until("\"data\":\"x\"");
    host.stop();
}

#[test]
fn a_record_that_does_not_end_has_the_time_of_a_message() {
    let (host, lines, pair, path) = counting(&[("message_timeout", "1s"), IN_LIBRARY]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let connect = || Client::connect(&address(&host), "localhost", &config);
    let mut sse = connect().get("channel=a", "Accept: text/event-stream\r\n");
    sse.until("event: push-open");
    let mut good = connect().get("channel=a", "Accept: text/event-stream\r\n");
    good.until("event: push-open");
    sse.tls.sock.write_all(b"\x17\x03\x03\x40\0aaaa").unwrap();
    assert!(sse.rest().expect("the end is told").contains("a message did not come in time (option message_timeout)"));
    refused(&path, &lines, "message_timeout", "a message did not come in time");
    goes_on(&host, &mut good);
    host.stop();
}

#[test]
fn records_that_do_not_end_count_among_unfinished_messages() {
    let (host, lines, pair, path) = counting(&[("inbox_total", "1MB"), IN_LIBRARY]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let record = [&b"\x17\x03\x03\x40\0"[..], &[b'a'; 16_000]].concat();
    let mut clients = Vec::new();
    until("one gives way", || {
        let mut ws = Client::websocket(&host, &config);
        ws.tls.sock.write_all(&record).unwrap();
        clients.push(ws);
        !counted(&metrics(&path), "push_refusals_total").is_empty()
    });
    assert!(clients.len() > 50, "{}", clients.len());
    refused(
        &path,
        &lines,
        "inbox_total",
        "all clients together have sent too many bytes of unfinished messages and requests",
    );
    host.stop();
}
