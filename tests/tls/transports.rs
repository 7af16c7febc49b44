//! Clients of both versions of TLS, over all transports.

use crate::client::{address, config, Client, VERSIONS};
use crate::common::{read_frame, until, UPGRADE};
use crate::kernel::IN_LIBRARY;
use crate::start;
use rustls::HandshakeKind;
use std::sync::Arc;
use std::time::Duration;

/// The text in the next frame, which has no mask.
fn frame(client: &mut Client) -> (u8, Vec<u8>) {
    read_frame(|count| client.bytes(count))
}

#[test]
fn every_transport_gets_messages_of_any_size_over_both_versions() {
    let (host, _, pair) = start(&[("max_message", "1MB"), ("outbox", "4MB"), ("history_bytes", "16MB")]);
    let address = address(&host);
    for version in VERSIONS {
        let config = Arc::new(config(&pair, None, &[version]));
        let connect = || Client::connect(&address, "localhost", &config);
        let mut ws = connect().get("channel=a", UPGRADE);
        assert!(ws.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        let mut sse = connect().get("channel=a", "Accept: text/event-stream\r\n");
        sse.until("event: push-open");
        let mut stream = connect().get("channel=a", "Accept: application/x-ndjson\r\n");
        stream.until("\r\n\r\n");
        let mut poll = connect().get("channel=a", "");
        let waiting = || host.server.stats().unwrap().polls == 1;
        until("the poll waits", waiting);
        for size in [1, 1000, 16_383, 16_384, 16_385, 100_000, 700_000] {
            let data = format!("{}.", "x".repeat(size));
            host.publish("a", &data);
            assert_eq!(frame(&mut ws).1, data.as_bytes());
            sse.until(&format!("data: {data}\n"));
            stream.until(&format!("\"data\":\"{data}\""));
        }
        assert!(poll.until("\"data\":\"x.\"").starts_with("HTTP/1.1 200 "));
        let position = host.publish("a", "missed");
        let mut again = connect().get(&format!("channel=a&since={position}"), "Accept: text/event-stream\r\n");
        again.until("event: push-open");
        host.publish("a", "newest");
        again.until("data: newest\n");
    }
    host.stop();
}

#[test]
fn a_client_goes_on_over_tls_where_it_was_without_and_back() {
    let pair = crate::Pair::new(&["localhost"]);
    let (host, _) = crate::start_with(&pair, &[("listen", "127.0.0.1:0, tls:127.0.0.1:0")]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let mut since = host.publish("a", "0");
    for number in 1..20 {
        host.publish("a", &format!("missed {number}"));
        let query = format!("channel=a&since={since}");
        for lines in ["Accept: text/event-stream\r\n", "Accept: application/x-ndjson\r\n", ""] {
            let told = format!("missed {number}");
            if number % 2 == 0 {
                Client::connect(&address(&host), "localhost", &config).get(&query, lines).until(&told);
            } else {
                host.get(&query, lines).until(&told);
            }
        }
        since = host.publish("a", "next");
    }
    host.stop();
}

#[test]
fn a_client_resumes_with_a_ticket_even_after_a_reload() {
    let (host, _, pair) = start(&[]);
    for version in VERSIONS {
        let config = Arc::new(config(&pair, None, &[version]));
        let shake = || {
            let mut client = Client::connect(&address(&host), "localhost", &config);
            client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let told = client.rest().expect("the end is told");
            assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
            client.tls.conn.handshake_kind().unwrap()
        };
        assert_eq!(shake(), HandshakeKind::Full);
        assert_eq!(shake(), HandshakeKind::Resumed);
        let mut options = vec![("listen", "tls:127.0.0.1:0")];
        options.extend(pair.options());
        host.server.reload(&crate::common::builder(&options)).unwrap();
        assert_eq!(shake(), HandshakeKind::Resumed);
    }
    host.stop();
}

#[test]
fn a_stop_says_goodbye_over_the_transport_and_over_tls() {
    let (host, _, pair) = start(&[]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let mut ws = Client::websocket(&host, &config);
    let mut sse =
        Client::connect(&address(&host), "localhost", &config).get("channel=a", "Accept: text/event-stream\r\n");
    sse.until("event: push-open");
    let stopping = std::thread::spawn(move || host.server.stop(Duration::from_secs(30)));
    let (first, payload) = frame(&mut ws);
    assert_eq!((first, u16::from_be_bytes([payload[0], payload[1]])), (0x88, 1001));
    assert!(sse.rest().expect("the end is told").contains("event: push-close"));
    assert_eq!(ws.rest(), Ok(String::new()));
    drop((ws, sse));
    stopping.join().unwrap();
}

#[test]
fn a_client_that_reads_slowly_gets_everything_in_order() {
    let (host, _, pair) = start(&[("outbox", "16MB"), ("history_bytes", "32MB"), ("history_count", "2000")]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let mut stream =
        Client::connect(&address(&host), "localhost", &config).get("channel=a", "Accept: application/x-ndjson\r\n");
    stream.until("\r\n\r\n");
    // More than the sockets take.
    let filler = "y".repeat(20_000);
    for number in 0..400 {
        host.publish("a", &format!("{number}:{filler}"));
    }
    for number in 0..400 {
        stream.until(&format!("\"data\":\"{number}:{filler}\""));
    }
    host.stop();
}

#[test]
fn a_client_renews_its_keys_and_the_server_answers() {
    let (host, _, pair) = start(&[IN_LIBRARY]);
    let config = Arc::new(config(&pair, None, &[&rustls::version::TLS13]));
    let mut ws = Client::websocket(&host, &config);
    for number in 0..20 {
        ws.tls.conn.refresh_traffic_keys().unwrap();
        // A ping, with a mask of zeros.
        ws.send(&[0x89, 0x80, 0, 0, 0, 0]);
        assert_eq!(frame(&mut ws), (0x8a, vec![]));
        host.publish("a", &format!("{number}"));
        assert_eq!(frame(&mut ws).1, number.to_string().as_bytes());
    }
    host.stop();
}
