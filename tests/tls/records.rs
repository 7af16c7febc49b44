//! Records and messages that no library for TLS sends: they are made by hand, with the keys of a real connection. Each
//! client is ended, counted under its reason and logged, and costs no more than its bound.

use crate::client::{address, answer_to, config, Client};
use crate::common::{counted, metrics, until, Host, UPGRADE};
use crate::hostile::{counting, ended, hello, refused};
use crate::kernel::IN_LIBRARY;
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305};
use rustls::version::TLS13;
use rustls::ConnectionTrafficSecrets;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

const HANDSHAKE: u8 = 22;
const CONTENT: u8 = 23;
/// A message about keys that wants an answer (RFC 8446, section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1];

/// A client of TLS 1.3 whose records are made here.
struct Maker {
    stream: TcpStream,
    key: LessSafeKey,
    iv: [u8; 12],
    seq: u64,
}

impl Maker {
    /// A client whose subscription stands.
    fn subscribed(address: &str, pair: &crate::Pair) -> Self {
        let mut config = config(pair, None, &[&TLS13]);
        config.enable_secret_extraction = true;
        let mut ws = Client::connect(address, "localhost", &Arc::new(config)).get("channel=a", UPGRADE);
        ws.until("\r\n\r\n");
        let secrets = ws.tls.conn.dangerous_extract_secrets().unwrap();
        let (algorithm, key, iv) = match secrets.tx.1 {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => panic!("a cipher that was not known"),
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
        Maker { stream: ws.tls.sock, key, iv: iv.as_ref().try_into().unwrap(), seq: secrets.tx.0 }
    }

    /// A record of this type (RFC 8446, section 5.2).
    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut inner = [content, &[kind]].concat();
        let header = [&[CONTENT, 3, 3][..], &((inner.len() + 16) as u16).to_be_bytes()].concat();
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(self.seq.to_be_bytes()).for_each(|(byte, seq)| *byte ^= seq);
        self.seq += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut inner).unwrap();
        [header, inner].concat()
    }

    /// Reads a record, if one comes in time.
    fn reads_record(&mut self) -> bool {
        let mut header = [0; 5];
        if self.stream.read(&mut header[..1]).is_err() {
            return false;
        }
        self.stream.read_exact(&mut header[1..]).unwrap();
        let mut rest = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        self.stream.read_exact(&mut rest).unwrap();
        true
    }

    /// Sends a record again and again, until the server ends the connection.
    fn flood(mut self, kind: u8, content: &[u8]) {
        let mut sent = 0;
        // It may have ended while more was on its way, so what it has read is less.
        while sent < 64 << 20 {
            let records: Vec<u8> = (0..100).flat_map(|_| self.record(kind, content)).collect();
            if self.stream.write_all(&records).is_err() {
                break;
            }
            sent += records.len();
        }
        assert!(sent < 64 << 20, "it is never ended");
    }
}

/// A ClientHello with more extensions. They come last, as that with the tickets has to (RFC 8446, section 4.2.11).
fn with_extensions(hello: &[u8], more: &[u8]) -> Vec<u8> {
    let mut bytes = [hello, more].concat();
    // Behind the record's header: type and length of the message, version, random, session, ciphers, compressions.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(bytes[at]);
    at += 2 + usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    at += 1 + usize::from(bytes[at]);
    for (place, before) in [(3, 5), (7, 9), (at, at + 2)] {
        let length = (bytes.len() - before) as u16;
        bytes[place..place + 2].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// The extension with this many tickets, which nobody has issued.
fn tickets(count: usize) -> Vec<u8> {
    let sized = |bytes: Vec<u8>| [(bytes.len() as u16).to_be_bytes().to_vec(), bytes].concat();
    let identities = (0..count).flat_map(|_| [0, 4, 1, 2, 3, 4, 0, 0, 0, 0]).collect();
    let binders = (0..count).flat_map(|_| [32].into_iter().chain([7; 32])).collect();
    [vec![0, 41], sized([sized(identities), sized(binders)].concat())].concat()
}

/// What a server answers to bytes. On a slow machine it may end the connection before it has read them. Then it answers
/// nothing, and they are sent again.
fn answer_in_time(host: &Host, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    until("it answers nothing", || {
        answer = answer_to(&address(host), bytes);
        !answer.is_empty()
    });
    answer
}

/// The type of the first record with which the server answers, or 0 if it only ends the connection.
fn first_of(answer: &[u8]) -> u8 {
    answer.first().copied().unwrap_or(0)
}

#[test]
fn records_without_content_have_a_bound() {
    let (host, lines, pair, path) = counting(&[IN_LIBRARY]);
    Maker::subscribed(&address(&host), &pair).flood(CONTENT, b"");
    ended(&host, &path, &lines, "TLS: peer misbehaved: TooManyEmptyFragments");
    host.stop();
}

#[test]
fn records_without_content_between_others_do_no_harm() {
    let (host, _, pair, path) = counting(&[]);
    let mut maker = Maker::subscribed(&address(&host), &pair);
    // The library for TLS allows 32 of them in a row.
    for count in [1, 2, 10, 30] {
        let mut records: Vec<u8> = (0..count).flat_map(|_| maker.record(CONTENT, b"")).collect();
        // A ping, with a mask of zeros, in two records with more of the empty ones between them.
        records.extend(maker.record(CONTENT, &[0x89, 0x80, 0]));
        records.extend((0..count).flat_map(|_| maker.record(CONTENT, b"")).collect::<Vec<_>>());
        records.extend(maker.record(CONTENT, &[0, 0, 0]));
        maker.stream.write_all(&records).unwrap();
        assert!(maker.reads_record(), "a pong");
    }
    assert_eq!(host.server.stats().unwrap().websockets, 1);
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), []);
    host.stop();
}

#[test]
fn a_message_about_the_connection_that_never_ends_has_a_bound() {
    let (host, lines, pair, path) = counting(&[]);
    let mut maker = Maker::subscribed(&address(&host), &pair);
    // It says that it has 16 MB.
    let begin = maker.record(HANDSHAKE, &[24, 0xff, 0xff, 0xff]);
    maker.stream.write_all(&begin).unwrap();
    maker.flood(HANDSHAKE, &[0; 1000]);
    ended(&host, &path, &lines, "TLS: ");
    host.stop();
}

#[test]
fn a_message_about_keys_in_pieces_is_understood() {
    let (host, _, pair, path) = counting(&[IN_LIBRARY]);
    let mut maker = Maker::subscribed(&address(&host), &pair);
    for byte in KEY_UPDATE {
        let piece = maker.record(HANDSHAKE, &[byte]);
        maker.stream.write_all(&piece).unwrap();
    }
    // Its answer comes with the next message: one record more than messages.
    maker.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut published, mut records) = (0, 0);
    until("it is answered", || {
        host.publish("a", "for it");
        published += 1;
        while maker.reads_record() {
            records += 1;
        }
        records > published
    });
    assert_eq!(host.server.stats().unwrap().websockets, 1);
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), []);
    host.stop();
}

#[test]
fn hundreds_of_tickets_that_nobody_has_issued_change_nothing() {
    let (host, lines, pair, path) = counting(&[("head_timeout", "1s")]);
    // Nothing is wrong with them: the handshake goes on without.
    let some = with_extensions(&hello(&pair), &tickets(300));
    assert_eq!(first_of(&answer_in_time(&host, &some)), HANDSHAKE);
    refused(&path, &lines, "timeout", "its TLS handshake was ended: it was not done within head_timeout");
    host.stop();
}

#[test]
fn early_data_is_refused_and_has_a_bound() {
    let (host, lines, pair, path) = counting(&[("head_timeout", "1s")]);
    // A client that may send early data has a ticket that says so, and no ticket here does (RFC 8446, section 4.2.10).
    let early = [&[0, 42, 0, 0][..], &tickets(1)].concat();
    let mut bytes = with_extensions(&hello(&pair), &early);
    // Its content is skipped, and is nobody's request.
    let record = [&[CONTENT, 3, 3, 4, 0][..], &[1; 1024]].concat();
    let answered = answer_in_time(&host, &[&bytes[..], &record].concat());
    assert_eq!(first_of(&answered), HANDSHAKE);
    for _ in 0..200 {
        bytes.extend_from_slice(&record);
    }
    // On a slow machine its time may be over before all is read.
    until("the second is logged", || {
        answer_to(&address(&host), &bytes);
        until("both are ended", || host.server.stats().unwrap().connections == 0);
        crate::logged(&lines, "the TLS handshake failed: ")
    });
    // The first one had its time.
    let reasons = counted(&metrics(&path), "push_refusals_total").into_iter().map(|(reason, _)| reason);
    assert_eq!(reasons.collect::<Vec<_>>(), ["timeout", "tls"]);
    host.stop();
}
