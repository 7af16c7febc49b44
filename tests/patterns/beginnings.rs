//! Patterns with `last=N` and `since=start`.

use super::common::{field, until, Host};
use super::{counted, open, GAP, ON, TRANSPORTS};
use push::hub::{Mark, Publication};

/// All transports, with polls.
fn transports() -> impl Iterator<Item = &'static str> {
    TRANSPORTS.into_iter().chain(["poll"])
}

/// What comes up to a text, which is a part of it.
fn got(host: &Host, transport: &str, query: &str, last: &str) -> String {
    let mut client = open(host, transport, query);
    client.until(last) + last
}

/// Where each of these stands in a text. They must stand there once.
fn places(text: &str, all: &[&str]) -> Vec<usize> {
    assert_eq!(counted(text, all), vec![1; all.len()], "{all:?}: {text}");
    all.iter().filter_map(|one| text.find(one)).collect()
}

#[test]
fn the_newest_of_each_channel_come_once_and_in_order() {
    let host = Host::start(&[ON, ("threads", "2")]);
    for (channel, data) in [
        ("news.a", "<a1>"),
        ("news.b", "<b1>"),
        ("other", "<no>"),
        ("news.a", "<a2>"),
        ("news.c", "<c1>"),
        ("news.a", "<a3>"),
        ("user:ada", "<never>"),
        ("news.b", "<b2>"),
    ] {
        host.publish(channel, data);
    }
    host.server.broadcast(&Publication::new("", b"<all>")).unwrap();
    for transport in transports() {
        for query in
            ["pattern=news.*", "pattern=news.*&pattern=n*", "channel=news.a&pattern=news.*", "channel=news.x&pattern=*"]
        {
            let text = got(&host, transport, &format!("{query}&last=2"), "<b2>");
            assert!(
                places(&text, &["<b1>", "<a2>", "<c1>", "<a3>", "<b2>"]).is_sorted(),
                "{transport} {query}: {text}"
            );
            let other = usize::from(query.ends_with("pattern=*"));
            assert_eq!(
                counted(&text, &["<a1>", "<no>", "<never>", "<all>", GAP]),
                [0, other, 0, 0, 0],
                "{query}: {text}"
            );
        }
    }
    // Then what comes.
    let mut client = open(&host, "stream", "pattern=news.*&last=1");
    client.until("<b2>");
    until("it did not come", || host.server.stats().unwrap().subscriptions == 1);
    host.publish("news.d", "<d1>");
    client.until("<d1>");
    host.stop();
}

#[test]
fn more_of_the_newest_than_fits_is_a_gap_of_the_pattern_and_names_no_other_channel() {
    let host = Host::start(&[ON, ("outbox", "16KB")]);
    let large = "x".repeat(3500);
    for n in 0..8 {
        host.publish(&format!("news.{n}"), &format!("{large}<{n}>"));
    }
    for transport in ["ws", "sse", "stream"] {
        for (query, gap) in [("pattern=news.*", "news.*"), ("channel=news.0&pattern=n*", "n*")] {
            let text = got(&host, transport, &format!("{query}&last=3"), "<7>");
            let gap = format!(r#"{{"type":"gap","channel":"{gap}""#);
            assert_eq!(counted(&text, &[&gap, "<0>", "<5>"]), [1, 0, 0], "{transport} {query}: {text}");
            assert!(!text.contains(r#""type":"gap","channel":"news.1""#), "{text}");
        }
    }
    // One that is too large alone comes, behind the gap for the others.
    host.publish("news.9", &format!("{}<9>", "y".repeat(15_000)));
    let text = got(&host, "stream", "pattern=news.*&last=1", "<9>");
    assert_eq!(counted(&text, &[GAP, "<7>"]), [1, 0], "{}", text.len());
    assert!(text.find(GAP) < text.find("yyy"), "the gap comes first");
    host.stop();
}

#[test]
fn everything_that_is_kept_comes_from_the_start_and_a_gap_first_where_the_beginning_is_gone() {
    let host = Host::start(&[ON, ("history_count", "3")]);
    let mark = |channel: &str, mark| {
        host.server.publish(&Publication::mark(channel, mark)).unwrap();
    };
    mark("answer.1", Mark::Begin);
    host.publish("answer.1", "<1>");
    host.publish("other.1", "<no>");
    host.publish("answer.2", "<2>");
    mark("answer.1", Mark::End);
    host.server.broadcast(&Publication::new("", b"<all>")).unwrap();
    host.publish("answer.3", "<3>");
    let query = "pattern=answer.*&since=start";
    for transport in transports().filter(|transport| *transport != "raw") {
        let text = got(&host, transport, query, "<3>");
        let end = r#"{"type":"end","channel":"answer.1""#;
        let all = [r#"{"type":"begin","channel":"answer.1""#, "<1>", "<2>", end, "<3>"];
        assert!(places(&text, &all).is_sorted(), "{transport}: {text}");
        assert_eq!(counted(&text, &["<no>", "<all>", GAP]), [0, 0, 0], "{transport}: {text}");
    }
    // A stream that begins anew is whole, whatever it had before.
    (0..5).for_each(|_| drop(host.publish("answer.2", "<old>")));
    assert_eq!(counted(&got(&host, "stream", query, "<3>"), &[GAP]), [1]);
    mark("answer.2", Mark::Begin);
    host.publish("answer.2", "<new>");
    let text = got(&host, "stream", query, "<new>");
    assert_eq!(counted(&text, &["<old>", GAP]), [0, 0], "{text}");
    host.stop();
}

#[test]
fn a_live_connection_asks_for_the_newest_and_for_everything() {
    let host = Host::start(&[ON]);
    for (channel, data) in [("news.a", "1"), ("news.a", "2"), ("news.b", "3"), ("news.a", "4")] {
        host.publish(channel, data);
    }
    for (from, expected) in [(r#""last":1"#, &["3", "4"][..]), (r#""since":"start""#, &["1", "2", "3", "4"])] {
        let mut client = open(&host, "ws", "x=1");
        client.head();
        client.say(&format!(r#"{{"type":"subscribe","pattern":"news.*",{from}}}"#));
        for data in expected {
            assert_eq!(field(&client.text(), "data"), **data);
        }
        assert_eq!(field(&client.text(), "type"), "subscribed");
    }
    host.stop();
}
