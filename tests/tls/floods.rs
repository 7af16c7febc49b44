//! Floods: much of the same, or garbage, at each stage of a connection. Each client is ended at its bound, counted once
//! under its reason and logged once, and nothing of it is left.

use crate::client::{address, answer_to, config, Client, VERSIONS};
use crate::common::{counted, metrics, until, Host, Lines, PATIENCE, UPGRADE};
use crate::hostile::{counting, hello};
use crate::kernel::IN_LIBRARY;
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_128_GCM, AES_256_GCM};
use aws_lc_rs::hkdf::{KeyType, Prk, HKDF_SHA256, HKDF_SHA384};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, KeyLog};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// A message about keys that wants no answer, and one that wants one (RFC 8446, section 4.6.3).
const KEY_UPDATES: [[u8; 5]; 2] = [[24, 0, 0, 1, 0], [24, 0, 0, 1, 1]];

/// Checks that so many clients were ended under a reason, and none under another, that each has at most one line, and
/// that nothing is left of them.
fn ended(host: &Host, path: &str, lines: &Lines, reason: &str, count: u64, line: &str) {
    let refusals = || counted(&metrics(path), "push_refusals_total");
    until("nothing of them is left", || {
        let stats = host.server.stats().unwrap();
        let left = (stats.connections, stats.outbox_bytes, stats.inbox_bytes);
        left == (0, 0, 0) && refusals().iter().map(|(_, number)| number).sum::<u64>() >= count
    });
    assert_eq!(refusals(), [(reason.to_owned(), count)]);
    until("it is logged", || crate::logged(lines, line));
    // When there are many, some are left out.
    let logged = lines.lock().unwrap().iter().filter(|text| text.contains(line)).count() as u64;
    assert!(logged <= count, "{logged} lines for {count}");
}

/// The first secret of a client's own records.
#[derive(Debug, Default)]
struct Secret(Mutex<Vec<u8>>);

impl KeyLog for Secret {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().unwrap() = secret.to_vec();
        }
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Makes the records of a client of TLS 1.3, and changes its keys.
struct Keys {
    secret: Vec<u8>,
    is_long: bool,
    key: LessSafeKey,
    iv: Vec<u8>,
    seq: u64,
}

impl Keys {
    fn new(secret: Vec<u8>, seq: u64) -> Self {
        // The server's first two ciphers are AES with SHA-384 and SHA-256.
        let is_long = secret.len() == 48;
        let (algorithm, len) = if is_long { (&AES_256_GCM, 32) } else { (&AES_128_GCM, 16) };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &expand(&secret, "key", len)).unwrap());
        Keys { is_long, key, iv: expand(&secret, "iv", 12), seq, secret }
    }

    fn next(&self) -> Self {
        let len = if self.is_long { 48 } else { 32 };
        Keys::new(expand(&self.secret, "traffic upd", len), 0)
    }

    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.padded(kind, content, 0)
    }

    /// A record with so many bytes of padding (RFC 8446, section 5.4).
    fn padded(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = [content, &[kind], &vec![0; padding]].concat();
        let header = [&[23, 3, 3][..], &((inner.len() + 16) as u16).to_be_bytes()].concat();
        let mut nonce: [u8; 12] = self.iv[..].try_into().unwrap();
        nonce[4..].iter_mut().zip(self.seq.to_be_bytes()).for_each(|(byte, seq)| *byte ^= seq);
        self.seq += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut inner).unwrap();
        [header, inner].concat()
    }
}

/// HKDF-Expand-Label (RFC 8446, section 7.1) without a context.
fn expand(secret: &[u8], label: &str, len: usize) -> Vec<u8> {
    let algorithm = if secret.len() == 48 { HKDF_SHA384 } else { HKDF_SHA256 };
    let label = format!("tls13 {label}");
    let info = [&(len as u16).to_be_bytes()[..], &[label.len() as u8], label.as_bytes(), &[0]].concat();
    let mut bytes = vec![0; len];
    let prk = Prk::new_less_safe(algorithm, secret);
    prk.expand(&[&info], Length(len)).unwrap().fill(&mut bytes).unwrap();
    bytes
}

/// Sends something again and again, until the server has ended the connection. The sockets may take much of it before
/// the server reads anything.
fn send_until_ended(stream: &mut TcpStream, mut send: impl FnMut(&mut TcpStream) -> std::io::Result<()>) {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let began = std::time::Instant::now();
    while send(stream).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it is never ended");
    }
}

/// A client that is subscribed by WebSocket, and the keys of its records.
fn subscribed(address: &str, pair: &crate::Pair) -> (TcpStream, Keys) {
    subscribed_by(address, pair, UPGRADE)
}

fn subscribed_by(address: &str, pair: &crate::Pair, lines: &str) -> (TcpStream, Keys) {
    let secret = Arc::new(Secret::default());
    let mut config = config(pair, None, &[&TLS13]);
    config.key_log = secret.clone();
    let mut ws = Client::connect(address, "localhost", &Arc::new(config)).get("channel=a", lines);
    ws.until("\r\n\r\n");
    let secret = secret.0.lock().unwrap().clone();
    // Its request was the first record.
    (ws.tls.sock, Keys::new(secret, 1))
}

#[test]
fn keys_that_change_without_end_end_a_client_in_whatever_pieces_the_messages_come() {
    for (message, piece) in [(0, 5), (1, 5), (0, 1), (1, 1), (1, 3)] {
        let (host, lines, pair, path) = counting(&[IN_LIBRARY]);
        let (mut stream, mut keys) = subscribed(&address(&host), &pair);
        stream.set_nodelay(true).unwrap();
        send_until_ended(&mut stream, |stream| {
            let records: Vec<u8> = KEY_UPDATES[message].chunks(piece).flat_map(|part| keys.record(22, part)).collect();
            keys = keys.next();
            stream.write_all(&records)
        });
        ended(&host, &path, &lines, "tls", 1, "TLS: ");
        crate::common::until("it is logged", || crate::logged(&lines, "TooManyKeyUpdateRequests"));
        host.stop();
    }
}

#[test]
fn a_flood_of_new_keys_one_byte_at_a_time_has_the_same_bound() {
    let (host, lines, pair, path) = counting(&[IN_LIBRARY]);
    let (mut stream, mut keys) = subscribed(&address(&host), &pair);
    stream.set_nodelay(true).unwrap();
    send_until_ended(&mut stream, |stream| {
        let record = keys.record(22, &KEY_UPDATES[1]);
        keys = keys.next();
        record.iter().try_for_each(|byte| stream.write_all(&[*byte]))
    });
    ended(&host, &path, &lines, "tls", 1, "TLS: ");
    host.stop();
}

/// The beginning of a message of 60,000 bytes (RFC 6455, section 5.2).
const BEGIN: [u8; 8] = [0x82, 0xfe, 0xea, 0x60, 0, 0, 0, 0];

#[test]
fn a_little_content_among_the_new_keys_does_not_help() {
    for transport in [UPGRADE, "Accept: text/event-stream\r\n"] {
        let (host, lines, pair, path) = counting(&[IN_LIBRARY]);
        let (mut stream, mut keys) = subscribed_by(&address(&host), &pair, transport);
        // With SSE nobody reads it.
        stream.write_all(&keys.record(23, &BEGIN)).unwrap();
        // As many as may come in a row, and a byte.
        for _ in 0..300 {
            let mut records = Vec::new();
            for _ in 0..32 {
                records.extend(keys.record(22, &KEY_UPDATES[0]));
                keys = keys.next();
            }
            records.extend(keys.record(23, b"x"));
            if stream.write_all(&records).is_err() {
                break;
            }
        }
        ended(&host, &path, &lines, "tls", 1, "TLS: 64KB came without content");
        host.stop();
    }
}

#[test]
fn small_records_padded_ones_and_a_few_new_keys_are_no_flood() {
    let (host, _, pair, path) = counting(&[IN_LIBRARY]);
    let (mut stream, mut keys) = subscribed(&address(&host), &pair);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&keys.record(23, &BEGIN)).unwrap();
    // Each kind alone has more than 64 KB that are no content.
    for _ in 0..4000 {
        stream.write_all(&keys.record(23, b"x")).unwrap();
    }
    for _ in 0..8 {
        stream.write_all(&keys.padded(23, b"x", 16_000)).unwrap();
    }
    for _ in 0..55 {
        stream.write_all(&keys.record(22, &KEY_UPDATES[0])).unwrap();
        keys = keys.next();
        stream.write_all(&keys.record(23, &[b'x'; 1000])).unwrap();
    }
    stream.write_all(&keys.record(23, &[b'x'; 60_000 - 4000 - 8 - 55_000])).unwrap();
    // It still understands a ping.
    stream.write_all(&keys.record(23, &[0x89, 0x80, 0, 0, 0, 0])).unwrap();
    assert!(stream.read(&mut [0; 100]).unwrap() > 0, "the server ended");
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), []);
    host.stop();
}

#[test]
fn clients_that_resume_again_and_again_are_served_and_leave_nothing() {
    for version in [&TLS12, &TLS13] {
        let (host, _, pair, path) = counting(&[]);
        let config = Arc::new(config(&pair, None, &[version]));
        for number in 0..300 {
            let client = Client::websocket(&host, &config);
            let kind = client.tls.conn.handshake_kind();
            assert!(number == 0 || kind == Some(HandshakeKind::Resumed), "{number}: {kind:?}");
        }
        until("all are gone", || host.server.stats().unwrap().connections == 0);
        assert_eq!(counted(&metrics(&path), "push_refusals_total"), []);
        host.stop();
    }
}

/// Reads until the server ends the connection.
fn read_to_the_end(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 4096];
    while matches!(stream.read(&mut bytes), Ok(1..)) {}
}

#[test]
fn garbage_at_each_stage_ends_a_client_once() {
    let garbage: [&[u8]; 5] = [
        &[0xff; 300],
        b"\x17\x03\x03\0\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\x16\x03\x03\0\x04\x01\0\0\0",
        b"\x14\x03\x03\0\x02\x01\x01",
        b"\x16\x03\x03\xff\xff",
    ];
    for version in VERSIONS {
        let (host, lines, pair, path) = counting(&[]);
        let options = Arc::new(config(&pair, None, &[version]));
        let mut count = 0;
        for bytes in garbage {
            // The kernel looks at a record of TLS 1.2 when 13 bytes have come.
            let bytes = &[bytes, &[0; 16]].concat()[..];
            // Behind the hello, together with it and after the answer.
            answer_to(&address(&host), &[&hello(&pair)[..], bytes].concat());
            let mut stream = TcpStream::connect(address(&host)).unwrap();
            stream.write_all(&hello(&pair)).unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.write_all(bytes).unwrap();
            read_to_the_end(&mut stream);
            // Before the request; behind a part of it; in the subscription of each transport.
            for lines in [None, Some("X: y"), Some(UPGRADE), Some("Accept: text/event-stream\r\n")] {
                let mut client = Client::connect(&address(&host), "localhost", &options);
                match lines {
                    None => {
                        client.tls.conn.complete_io(&mut client.tls.sock).unwrap();
                    }
                    Some("X: y") => client.send(b"GET /push?channel=a HTTP/1.1\r\nX: y"),
                    Some(lines) => {
                        client = client.get("channel=a", lines);
                        client.until("\r\n\r\n");
                    }
                }
                client.tls.sock.write_all(bytes).unwrap();
                read_to_the_end(&mut client.tls.sock);
            }
            count += 6;
        }
        ended(&host, &path, &lines, "tls", count, "TLS");
        host.stop();
    }
}

#[test]
fn names_that_nobody_has_are_refused_one_by_one() {
    let (host, lines, pair, path) = counting(&[]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    for number in 0..50 {
        let mut client = Client::connect(&address(&host), &format!("n{number}.example"), &config);
        assert!(client.tls.conn.complete_io(&mut client.tls.sock).is_err());
    }
    ended(&host, &path, &lines, "tls_name", 50, "there is no certificate for the name that the client asked for");
    host.stop();
}

#[test]
fn a_stop_does_not_wait_for_handshakes_of_either_listener() {
    let mut all = Vec::new();
    let (host, _, pair) = crate::start(&[
        ("control", "tls:127.0.0.1:0"),
        ("control_key", "0123456789abcdef0123456789abcdef"),
        ("head_timeout", "10m"),
    ]);
    let addresses: Vec<String> =
        host.server.addresses().iter().filter_map(|address| address.strip_prefix("tls:").map(str::to_owned)).collect();
    assert_eq!(addresses.len(), 2);
    for address in &addresses {
        let hello = hello(&pair);
        for len in [0, 1, hello.len() - 1, hello.len()] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&hello[..len]).unwrap();
            all.push(stream);
        }
        // And one that is connected, and asks for nothing.
        let mut client = Client::connect(address, "localhost", &Arc::new(config(&pair, None, &VERSIONS)));
        client.tls.conn.complete_io(&mut client.tls.sock).unwrap();
        all.push(client.tls.sock);
    }
    until("they are there", || host.server.stats().unwrap().connections >= 1);
    let began = std::time::Instant::now();
    host.server.stop(std::time::Duration::from_millis(500));
    // Far less than the time of a handshake.
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}
