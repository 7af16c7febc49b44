//! Requests that can't be served, and options that can't be.

use super::common::{builder, field, UPGRADE};
use super::followers::{ask, Follower, Poller};
use super::{start, NEVER, ON};
use push::error::Kind;
use push::Server;

#[test]
fn a_value_that_is_not_understood_is_refused() {
    let host = start(&[NEVER]);
    let long = format!("a-{}", "1".repeat(39));
    for value in ["2", "true", "on", "", "A-B", "a_b-1", "a-", "-1", "a-1-2", "%00", "%C3%BC-1", &*long] {
        for transport in ["ws", "raw", "sse", "stream", "poll"] {
            let query = format!("channel=room&presence={value}");
            let (head, body) = ask(&host, transport, None, &query).response();
            assert!(head.starts_with("HTTP/1.1 400 "), "{transport} {value}: {head}{body}");
            let said = body.strip_prefix(r#"{"error":{"code":"presence","message":""#);
            let said = said.unwrap_or_else(|| panic!("{transport} {value}: {body}"));
            assert!(said.contains("presence") && said.contains('1'), "what is allowed is missing: {said}");
        }
    }
    assert_eq!(host.server.stats().unwrap().subscriptions, 0);
    host.stop();
}

#[test]
fn a_websocket_without_objects_can_not_follow() {
    let host = start(&[NEVER]);
    for query in ["channel=room&presence=1", "presence=1&channel=other"] {
        let (head, body) = ask(&host, "raw", Some("ada"), query).response();
        assert!(head.starts_with("HTTP/1.1 400 ") && body.contains(r#""code":"presence""#), "{head}{body}");
        assert!(body.contains("push.v1.json"), "{body}");
    }
    let mut client = host.get("channel=room&presence=0", UPGRADE);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    host.publish("room", "hello");
    assert_eq!(client.text(), "hello");
    host.stop();
}

#[test]
fn the_version_of_a_poll_is_a_wish_to_follow_elsewhere() {
    let host = start(&[NEVER]);
    let mut poll = Poller::new(&host, Some("ada"), "");
    poll.poll("");
    for transport in ["ws", "sse", "stream"] {
        for version in [&*poll.version, "another-1"] {
            let client = ask(&host, transport, None, &format!("channel=room&presence={version}"));
            Follower::of(client, transport).until("ada");
        }
    }
    host.stop();
}

#[test]
fn bounds_of_options_are_checked() {
    let mut all = builder(&[]);
    for (name, value) in [
        ("channel.room.presence", "yes"),
        ("presence_grace", "61m"),
        ("presence_grace", "-1s"),
        ("presence_detail", "10001"),
        ("presence_detail", "x"),
    ] {
        let error = all.set(name, value).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{name}={value}");
        assert!(error.to_string().contains(name), "{name}={value}: {error}");
    }
    for (name, value) in
        [("presence_grace", "0s"), ("presence_grace", "1h"), ("presence_detail", "0"), ("presence_detail", "10000")]
    {
        all.set(name, value).unwrap();
    }
}

/// Presence is of one hub. Nobody need answer at these addresses.
#[test]
fn a_log_that_hubs_share_and_presence_exclude_each_other() {
    let mut urls: Vec<&str> = Vec::new();
    if cfg!(feature = "redis") {
        urls.extend(["redis://127.0.0.1:1"]);
    }
    if cfg!(feature = "nats") {
        urls.extend(["nats://127.0.0.1:1"]);
    }
    for url in urls {
        for (option, on) in [("channel.room.presence", "true"), ("channel.*.presence", "true")] {
            let error = Server::start(builder(&[("engine", url), (option, on)])).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{error}");
            let text = error.to_string();
            assert!(text.contains("presence") && text.contains("engine"), "{text}");
        }
        // Off is fine, and a reload does not turn it on.
        let off = [("engine", url), ("channel.room.presence", "false")];
        let host = super::Host::start(&off);
        let error = host.server.reload(&builder(&[("engine", url), ON])).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.to_string().contains("presence"), "{error}");
        assert!(host.server.reload(&builder(&off)).is_ok());
        host.stop();
    }
}

#[test]
fn numbers_of_presence_are_among_the_metrics() {
    let host = start(&[&super::common::CONTROL[..], &[NEVER]].concat());
    let mut follower = Follower::new(&host, "stream", Some("ada"), "");
    follower.until("ada");
    super::members(&host, 1);
    let metrics = host.control("/metrics");
    assert!(metrics.contains("\npush_presence_members 1\n"), "{metrics}");
    assert!(metrics.contains("# TYPE push_presence_refused_total counter\n"), "{metrics}");
    assert!(metrics.contains("\npush_presence_refused_total 0\n"), "{metrics}");
    let bytes: u64 = field(&host.control("/v1/stats"), "presence_bytes").parse().unwrap();
    assert!((3..10_000).contains(&bytes), "{bytes}");
    drop(follower);
    host.stop();
}
