//! A server that is stopped and started again. Its clients go on as if nothing had happened.

use super::pushd::Pushd;
use super::{segments, stop, Place};
use crate::common::{field, until, Client, Host, UPGRADE};
use push::hub::{Mark, Publication};
use push::Kind;
use std::net::TcpStream;

/// Each transport: the query and the header lines of its request, without the position.
const TRANSPORTS: [(&str, &str, &str); 4] = [
    ("WebSocket", "", UPGRADE),
    ("SSE", "&transport=sse&format=json", ""),
    ("stream", "&transport=stream", ""),
    ("poll", "&transport=poll", ""),
];

fn start(place: &Place, more: &[(&str, &str)]) -> Host {
    // The time limit is one that no slow disk reaches.
    let usual = [("engine", &*place.engine()), ("threads", "2"), ("engine_timeout", "1m")];
    Host::start(&[&usual[..], more].concat())
}

/// The bytes that a client gets that comes back with a position, up to a message.
fn since(host: &Host, (_, query, lines): (&str, &str, &str), position: &str, last: &str) -> String {
    let protocol = if lines.is_empty() { "" } else { "Sec-WebSocket-Protocol: push.v1.json\r\n" };
    let mut client: Client = host.get(&format!("channel=a&since={position}{query}"), &format!("{lines}{protocol}"));
    client.until(&format!("\"data\":\"{last}\"")) + last
}

/// The messages in a text, in their order. They are words that begin with `m`.
fn messages(text: &str) -> Vec<String> {
    let datas = text.split("\"data\":\"").skip(1);
    let mut found: Vec<String> = datas.map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    // The last message was read already, so it is added at the end.
    found.push(text.rsplit([',', '"']).next().unwrap().to_owned());
    found
}

#[test]
fn clients_of_every_transport_recover_exactly_and_without_a_gap() {
    let place = Place::new();
    let mut positions = vec![String::new(); TRANSPORTS.len()];
    let mut last_seen = 0;
    let mut published = 0;
    for life in 0..5 {
        let host = start(&place, &[]);
        if life == 0 {
            positions.fill(host.publish("a", "m0"));
        } else {
            for (transport, position) in TRANSPORTS.iter().zip(&mut positions) {
                let text = since(&host, *transport, position, &format!("m{published}"));
                assert!(!text.contains("gap"), "{}: {text}", transport.0);
                let expected: Vec<String> = (last_seen + 1..=published).map(|n| format!("m{n}")).collect();
                assert_eq!(messages(&text), expected, "{}", transport.0);
            }
        }
        last_seen = published;
        let mut position = String::new();
        for n in published + 1..=published + 10 {
            position = host.publish(if n % 3 == 0 { "b" } else { "a" }, &format!("m{n}"));
            if n % 3 == 0 {
                host.publish("a", &format!("m{n}"));
            }
        }
        // The clients have seen all messages of this life, and miss those that come while they are away.
        last_seen += 10;
        positions.fill(if position.is_empty() {
            String::new()
        } else {
            host.server.position(host.server.stats().unwrap().seq)
        });
        for n in published + 11..=published + 15 {
            host.publish("a", &format!("m{n}"));
        }
        published += 15;
        stop(host);
    }
}

#[test]
fn a_client_of_a_channel_that_was_quiet_for_longer_than_the_log_is_kept_is_not_told_of_a_gap() {
    let place = Place::new();
    let options = [("engine_retention_bytes", "1MB"), ("history_count", "5")];
    let host = start(&place, &options);
    let mut quiet = host.get("channel=quiet", "Accept: application/x-ndjson\r\n");
    quiet.head();
    let position = host.publish("quiet", "m1");
    quiet.until("m1");
    let text = "x".repeat(10_000);
    // What is written at once goes into one segment. So that takes some time, and more where the disk is slow.
    until("the beginning of the log stays", || {
        (0..20).for_each(|_| _ = host.publish("loud", &text));
        segments(&place.log()).first().is_some_and(|first| !first.ends_with("00000000000000000001.log"))
    });
    drop(quiet);
    stop(host);
    let first = segments(&place.log()).remove(0);
    assert!(!first.ends_with("00000000000000000001.log"), "the beginning of the log is gone: {first:?}");
    let host = start(&place, &options);
    host.publish("quiet", "m2");
    let mut client = host.get(&format!("channel=quiet&since={position}&transport=stream"), "");
    let text = client.until("m2");
    assert!(!text.contains("gap"), "{text}");
    stop(host);
}

#[test]
fn a_stream_that_has_ended_is_whole_and_ended_after_a_restart() {
    for sync in ["interval", "always"] {
        let place = Place::new();
        let host = start(&place, &[("engine_sync", sync)]);
        host.publish("a", "m0 of the stream before");
        host.place(&Publication::mark("a", Mark::Begin));
        for n in 1..=3 {
            host.publish("a", &format!("m{n}"));
        }
        let end = host.place(&Publication::mark("a", Mark::End));
        let end = host.server.position_of(&end);
        host.place(&Publication::mark("b", Mark::End));
        host.publish("b", "m1");
        stop(host);
        let host = start(&place, &[("engine_sync", sync)]);
        assert_eq!(host.server.stats().unwrap().ended_channels, 1, "{sync}");
        let whole = host.get("channel=a&since=start&transport=stream", "").rest();
        let told: Vec<&str> = whole.split("{\"type\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(told, ["begin", "message", "message", "message", "end", "close"], "{sync}: {whole}");
        assert!(whole.contains(&end), "{sync}: {whole}");
        let seen = format!("Accept: text/event-stream\r\nLast-Event-ID: {end}\r\n");
        assert!(host.get("channel=a", &seen).rest().starts_with("HTTP/1.1 204 "), "{sync}");
        stop(host);
    }
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let place = Place::new();
    let host = start(&place, &[]);
    let mut builder = crate::common::builder(&[("engine", &place.engine())]);
    builder.set("threads", "1").unwrap();
    let error = push::Server::start(builder).unwrap_err();
    assert!(error.kind() == Kind::System && error.to_string().contains("another hub uses this directory"), "{error}");
    assert_eq!(host.place(&Publication::new("a", b"x")).seq, 1);
    stop(host);
}

/// The gaps in a text, each as its channel and position.
fn gaps(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| line.contains("\"gap\""));
    lines.map(|line| (field(line, "channel"), field(line, "id"))).collect()
}

#[test]
fn a_client_that_is_cut_off_between_two_gaps_is_told_of_the_second_one_when_it_comes_back() {
    let place = Place::new();
    let mut pushd = Pushd::start(&place);
    let first = field(&pushd.publish("a", "one"), "id");
    pushd.publish("b", "two");
    // Without this file, the next hub can't know whether messages are missing, even if this one was quiet when it was
    // killed.
    pushd.restart_after("KILL", || std::fs::remove_file(place.log().join("state")).unwrap());
    pushd.publish("b", "three");
    // A position of another hub, and one of the life before. Both give gaps in all channels, with the same number.
    for position in ["0000000000000-7", &*first] {
        let told = |position: &str| {
            let mut client = Client::over(TcpStream::connect(("127.0.0.1", pushd.port)).unwrap());
            let query = format!("channel=a&channel=b&channel=never&since={position}&transport=stream");
            client.send(format!("GET /push?{query} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes());
            gaps(&client.until("three"))
        };
        let all = told(position);
        assert!(all.len() >= 3, "{all:?}");
        for cut in 1..all.len() {
            let seen = &all[..cut];
            let rest = told(&seen[cut - 1].1);
            for (channel, _) in &all[cut..] {
                assert!(rest.iter().any(|(told, _)| told == channel), "{channel}: {seen:?}, then {rest:?}");
            }
        }
    }
}
