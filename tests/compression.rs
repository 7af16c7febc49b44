//! Compressed messages to and from WebSocket clients that offer compression (RFC 7692).

mod common;
#[allow(dead_code)]
#[path = "../src/fuzzing/random.rs"]
mod random;

use common::{builder, eventually, field, Client, Host, UPGRADE};
use push::events::EventKind;
use push::framing::inflate::Inflater;
use push::hub::Publication;
use random::Random;

const ON: [(&str, &str); 2] = [("compression", "true"), ("threads", "2")];
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
const PROTOCOL: &str = "Sec-WebSocket-Protocol: push.v1.json\r\n";
const ANSWER: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// A text that compresses well, and says which one it is.
fn text(number: usize) -> String {
    format!("{number}: {}", r#"{"price":10,"size":7},"#.repeat(20))
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    Random(1).bytes(len)
}

/// An open WebSocket of a client that sends these header lines, and the head of the answer.
fn open(host: &Host, query: &str, lines: &str) -> (Client, String) {
    let mut client = host.get(query, &format!("{UPGRADE}{lines}"));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (client, head)
}

/// A client that has agreed to compression.
fn compressing(host: &Host, query: &str, lines: &str) -> Client {
    let (client, head) = open(host, query, &format!("{OFFER}{lines}"));
    assert!(head.lines().any(|line| line == ANSWER), "{head}");
    client
}

/// The next message, decompressed, and whether it came compressed.
fn next(client: &mut Client) -> (bool, String) {
    let (first, payload) = client.next_frame();
    assert!(matches!(first, 0x81 | 0xc1), "{first:x} {payload:?}");
    let deflated = first & 0x40 != 0;
    let payload = match deflated {
        true => Inflater::default().message(&payload, 1 << 20).unwrap().to_vec(),
        false => payload,
    };
    (deflated, String::from_utf8(payload).unwrap())
}

#[test]
fn compression_is_off_unless_both_sides_ask_for_it() {
    let (off, on) = (Host::start(&[]), Host::start(&ON));
    let (mut client, head) = open(&off, "channel=a", OFFER);
    assert!(!head.contains("Sec-WebSocket-Extensions"), "{head}");
    off.publish("a", &text(1));
    assert_eq!(client.text(), text(1));
    for lines in ["", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n"] {
        let (mut client, head) = open(&on, "channel=a", lines);
        assert!(!head.contains("Sec-WebSocket-Extensions"), "{head}");
        on.publish("a", &text(1));
        assert_eq!(client.text(), text(1));
        // The client may not compress either.
        client.frame(0xc1, &[0x00]);
        assert_eq!(client.close_code(), 1002);
    }
    off.stop();
    on.stop();
}

#[test]
fn each_client_gets_what_it_agreed_to() {
    let host = Host::start(&ON);
    let mut deflating = compressing(&host, "channel=a", "");
    let mut plain = host.websocket("channel=a", false);
    let mut json = compressing(&host, "channel=a", PROTOCOL);
    let mut several = compressing(&host, "channel=a&channel=b", "");
    assert_eq!(field(&next(&mut json).1, "type"), "subscribed");
    for payload in [text(1), "short".into(), text(2)] {
        let id = host.publish("a", &payload);
        let long = payload.len() > 128;
        assert_eq!(next(&mut deflating), (long, payload.clone()));
        assert_eq!(next(&mut several), (long, payload.clone()));
        assert_eq!(plain.text(), payload);
        let (deflated, object) = next(&mut json);
        assert_eq!((deflated, field(&object, "id"), field(&object, "data")), (long, id, payload));
    }
    host.server.broadcast(&Publication::new("", text(3).as_bytes())).unwrap();
    for client in [&mut deflating, &mut several] {
        assert_eq!(next(client), (true, text(3)));
    }
    assert_eq!(field(&next(&mut json).1, "data"), text(3));
    // A message that would grow goes as it is.
    let noise = noise(1000);
    host.server.publish(&Publication { binary: true, ..Publication::new("a", &noise) }).unwrap();
    assert_eq!(deflating.next_frame(), (0x82, noise));
    host.stop();
}

#[test]
fn missed_messages_come_compressed_too() {
    let host = Host::start(&[ON[0], ON[1], ("outbox", "8KB"), ("history_count", "1000")]);
    let before = host.publish("a", "before");
    for number in 0..200 {
        host.publish("a", &text(number));
    }
    // This is larger than an outbox, so it comes in parts.
    for lines in ["", PROTOCOL] {
        let mut client = compressing(&host, &format!("channel=a&since={before}"), lines);
        for number in 0..200 {
            let (deflated, message) = next(&mut client);
            let data = if lines.is_empty() { message } else { field(&message, "data") };
            assert_eq!((deflated, data), (true, text(number)));
        }
    }
    host.stop();
}

#[test]
fn many_compressed_messages_at_once_are_whole_and_in_order() {
    let host = Host::start(&[ON[0], ("threads", "1"), ("outbox", "16MB")]);
    let mut clients = [compressing(&host, "channel=a", ""), compressing(&host, "channel=a&channel=b", "")];
    let texts: Vec<String> = (0..50).map(text).collect();
    let batch: Vec<_> = texts.iter().map(|text| Publication::new("a", text.as_bytes())).collect();
    for _ in 0..10 {
        host.server.publish_batch(&batch).unwrap();
    }
    for client in &mut clients {
        for number in 0..500 {
            assert_eq!(next(client), (true, text(number % 50)));
        }
    }
    let stats = host.server.stats().unwrap();
    assert_eq!(stats.deliveries, 1000);
    assert!(stats.bytes_sent < 1000 * text(0).len() as u64 / 3, "{} bytes", stats.bytes_sent);
    host.stop();
}

#[test]
fn a_gap_stands_where_messages_gave_way() {
    let options = [("threads", "1"), ("outbox", "256KB"), ("slow_policy", "drop-oldest"), ("heartbeat", "10m")];
    let host = Host::start(&[&ON[..1], &options].concat());
    let mut client = compressing(&host, "channel=a", PROTOCOL);
    assert_eq!(field(&next(&mut client).1, "type"), "subscribed");
    // Half of the messages shrink. In all they are more than the buffers of a socket hold.
    let letters = noise(60_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect::<String>();
    let payload = letters + &text(0).repeat(100);
    let ids: Vec<String> = (0..400).map(|_| host.publish("a", &payload)).collect();
    eventually(|| host.server.stats().unwrap().dropped > 0);
    let number = |id: &str| id.rsplit('-').next().unwrap().parse::<u64>().unwrap();
    let (mut seen, mut gaps) = (number(&ids[0]) - 1, 0);
    while seen < number(&ids[399]) {
        let (_, object) = next(&mut client);
        let id = number(&field(&object, "id"));
        match field(&object, "type").as_str() {
            "gap" => gaps += 1,
            _ => {
                assert_eq!(id, seen + 1, "nothing is missing without a gap");
                assert!(field(&object, "data") == payload);
            }
        }
        assert!(id > seen);
        seen = id;
    }
    assert!(gaps > 0);
    host.stop();
}

#[test]
fn messages_from_clients_may_be_compressed() {
    let host = Host::start(&[ON[0], ON[1], ("max_client_message", "1000")]);
    host.server.event_fd().unwrap();
    let message = |host: &Host| loop {
        let event = host.server.next_event(Some(common::PATIENCE)).unwrap();
        if event.kind == EventKind::Message {
            return (String::from_utf8(event.data.to_vec()).unwrap(), event.binary);
        }
    };
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut client = compressing(&host, "channel=a", "");
    client.frame(0xc1, &hello);
    client.frame(0x81, b"as it is");
    client.frame(0x42, &hello[..3]);
    client.frame(0x89, b"ping");
    client.frame(0x80, &hello[3..]);
    client.frame(0xc1, &[0x00]);
    let expected = [("Hello", false), ("as it is", false), ("Hello", true), ("", false)];
    for (data, binary) in expected {
        assert_eq!(message(&host), (data.to_owned(), binary));
    }
    assert_eq!(client.next_frame(), (0x8a, b"ping".to_vec()));
    // The answer is for this client alone, and goes as it is.
    let mut dialogue = compressing(&host, "", PROTOCOL);
    dialogue.frame(0xc1, &miniz_oxide::deflate::compress_to_vec(br#"{"type":"ping"}"#, 6));
    assert_eq!(next(&mut dialogue), (false, r#"{"type":"pong"}"#.to_owned()));
    host.stop();
}

#[test]
fn bad_compression_is_closed_and_costs_no_more_than_a_message() {
    let host = Host::start(&[ON[0], ON[1], ("max_client_message", "1000")]);
    let bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; 4 << 20], 6);
    let long = miniz_oxide::deflate::compress_to_vec(&[b'a'; 1001], 6);
    let no_text = miniz_oxide::deflate::compress_to_vec(&[0xff, 0xfe], 6);
    for (first, payload, code) in [
        (0xc1, &bomb[..1200], 1009),
        (0xc1, &long[..], 1009),
        (0xc1, &bomb[..], 1009),
        (0xc1, &no_text[..], 1007),
        (0xc1, &b"not compressed"[..], 1007),
        (0xc9, &b"x"[..], 1002),
        (0xe1, &[0x00][..], 1002),
    ] {
        let mut client = compressing(&host, "channel=a", "");
        client.frame(first, payload);
        assert_eq!(client.close_code(), code);
    }
    host.stop();
}

#[test]
fn compression_can_be_turned_on_and_off_while_the_server_runs() {
    let host = Host::start(&[("threads", "1")]);
    let mut before = host.websocket("channel=a", false);
    let agreed = |host: &Host| open(host, "channel=a", OFFER).1.contains("permessage-deflate");
    assert!(!agreed(&host));
    host.server.reload(&builder(&[("compression", "true")])).unwrap();
    eventually(|| agreed(&host));
    let mut client = compressing(&host, "channel=a", "");
    host.server.reload(&builder(&[])).unwrap();
    eventually(|| !agreed(&host));
    // A connection keeps what it has agreed to.
    host.publish("a", &text(1));
    assert_eq!(next(&mut client), (true, text(1)));
    assert_eq!(before.text(), text(1));
    host.stop();
}
