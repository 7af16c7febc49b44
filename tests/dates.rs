//! The header `Date` of responses.

mod common;

use common::{Client, Host, UPGRADE};
use push::hub::{Mark, Publication};
use std::time::{Duration, SystemTime};

/// How far the time of a response may be from that of the test. The machine may be slow.
const MINUTES: u64 = 5 * 60;

/// Asserts that a head has one `Date`, and that it is the present time.
fn assert_present(head: &str) {
    let dates: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("Date: ")).collect();
    assert_eq!(dates.len(), 1, "{head}");
    let (now, told) = (SystemTime::now(), httpdate::parse_http_date(dates[0]).unwrap());
    let far = now.duration_since(told).or_else(|_| told.duration_since(now)).unwrap();
    // There are two older forms, which are longer and shorter.
    assert!(dates[0].len() == 29 && far < Duration::from_secs(MINUTES), "{head}");
}

#[test]
fn responses_say_what_time_it_is() {
    let host = Host::start(&[("health_path", "/up")]);
    let ask = |method: &str, target: &str, lines: &str| -> Client {
        let mut client = host.connect();
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").as_bytes());
        client
    };
    host.server.publish(&Publication::mark("ended", Mark::End)).unwrap();
    let since = format!("/push?channel=ended&since={}", host.publish("b", "x"));
    const SSE: &str = "Accept: text/event-stream\r\n";
    for (method, target, lines, status) in [
        ("GET", "/push?channel=a", SSE, "200"),
        ("GET", "/push?channel=a", "Accept: application/x-ndjson\r\n", "200"),
        ("GET", "/push?channel=a&wait=0", "", "200"),
        ("GET", "/push?channel=b&last=1", "", "200"),
        // Nothing more can come to this EventSource.
        ("GET", &since, SSE, "204"),
        ("GET", "/push", "", "400"),
        ("GET", "/push", SSE, "400"),
        ("GET", "/nothing", "", "404"),
        ("HEAD", "/nothing", "", "404"),
        ("HEAD", "/push?channel=a", "", "405"),
        ("GET", "/up", "", "200"),
        ("HEAD", "/up", "", "200"),
        ("OPTIONS", "/push", "Origin: http://localhost\r\nAccess-Control-Request-Method: GET\r\n", "204"),
    ] {
        let head = ask(method, target, lines).head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {target}: {head}");
        assert_present(&head);
    }
    // A poll that has waited.
    let mut poll = ask("GET", "/push?channel=c", "");
    common::eventually(|| host.server.stats().unwrap().polls == 1);
    host.publish("c", "x");
    assert_present(&poll.head());
    // It may be left out where nothing is kept by a cache.
    assert!(!ask("GET", "/push?channel=a", UPGRADE).head().contains("Date: "));
    host.stop();
}

#[test]
fn an_event_source_that_is_to_come_back_is_told_what_time_it_is() {
    let host = Host::start(&[("max_connections", "1")]);
    let mut first = host.get("channel=a", "Accept: text/event-stream\r\n");
    first.until("push-open");
    let mut refused = host.get("channel=a", "Accept: text/event-stream\r\n");
    let head = refused.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_present(&head);
    assert!(refused.rest().contains("push-close"));
    host.stop();
}
