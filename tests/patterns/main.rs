//! Subscriptions by pattern (`pattern=news.*`): live and by position, over each transport that has them; what is refused;
//! bounds; grants, and what they lose; messages that leave a client out.

mod beginnings;
#[path = "../common/mod.rs"]
mod common;
mod except;
mod live;
mod polls;
mod rights;

use common::{builder, until, Client, Host, CONTROL, PATIENCE, UPGRADE};
use push::hub::{Mark, Publication};

const ON: (&str, &str) = ("max_patterns", "3");
const JSON: &str = "Sec-WebSocket-Protocol: push.v1.json\r\n";
const GAP: &str = r#""type":"gap""#;
/// `raw` is a WebSocket without a subprotocol.
const TRANSPORTS: [&str; 4] = ["ws", "raw", "sse", "stream"];

fn head(transport: &str, query: &str) -> String {
    let (name, lines) = match transport {
        "ws" => ("ws", format!("{UPGRADE}{JSON}")),
        "raw" => ("ws", UPGRADE.to_owned()),
        other => (other, String::new()),
    };
    format!("GET /push?transport={name}&format=json&{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// A client of one of the transports, which has sent its request.
fn open(host: &Host, transport: &str, query: &str) -> Client {
    let mut client = host.connect();
    client.send(head(transport, query).as_bytes());
    client
}

fn subscriptions(host: &Host, count: u64) {
    until("they did not come", || host.server.stats().unwrap().subscriptions == count);
}

/// How often each of these texts stands in another one.
fn counted(text: &str, all: &[&str]) -> Vec<usize> {
    all.iter().map(|one| text.matches(one).count()).collect()
}

#[test]
fn each_message_comes_once_whatever_names_and_patterns_fit_it() {
    let host = Host::start(&[ON, ("threads", "2"), ("channel.news.unkept.history_count", "0")]);
    host.publish("news.old", "before");
    for query in [
        "pattern=news.*",
        "pattern=news.*&pattern=news.o*&pattern=*",
        "channel=news.old&pattern=news.*",
        "channel=news.old&channel=other&pattern=n*&pattern=news.*",
        "pattern=news.%2A",
    ] {
        let mut clients = TRANSPORTS.map(|transport| open(&host, transport, query));
        let mut witness = open(&host, "stream", "channel=news.old");
        let each = query.matches("channel=").count() + query.matches("pattern=").count();
        subscriptions(&host, 4 * each as u64 + 1);
        let new = format!("news.{}", host.server.stats().unwrap().seq);
        for (channel, data) in [
            ("news.old", "<1>"),
            (&*new, "<2>"),
            ("news.unkept", "<3>"),
            ("news", "<no>"),
            ("user:ada", "<never>"),
            ("news.old", "<4>"),
        ] {
            host.publish(channel, data);
        }
        host.server.broadcast(&Publication::new("", b"<end>")).unwrap();
        for (client, transport) in clients.iter_mut().zip(TRANSPORTS) {
            let got = client.until("<end>");
            let more = usize::from(query.contains("pattern=*") || query.contains("pattern=n*"));
            let expected = [1, 1, 1, more, 0, 1, 0];
            let all = ["<1>", "<2>", "<3>", "<no>", "<never>", "<4>", "before"];
            assert_eq!(counted(&got, &all), expected, "{transport} {query}: {got}");
            let place = |text: &str| got.find(text).unwrap();
            assert!(place("<1>") < place("<2>") && place("<2>") < place("<3>") && place("<3>") < place("<4>"), "{got}");
            // The message says which channel it is of.
            assert_eq!(got.contains(&format!(r#""channel":"{new}""#)), transport != "raw", "{got}");
        }
        assert!(!witness.until("<end>").contains("<2>"));
        drop((clients, witness));
        subscriptions(&host, 0);
        until("patterns stay", || host.server.stats().unwrap().patterns == 0);
    }
    host.stop();
}

#[test]
fn a_client_goes_on_from_its_position_and_gets_what_each_channel_had_once() {
    let host = Host::start(&[ON, ("threads", "2")]);
    let start = host.publish("news.a", "seen");
    for transport in TRANSPORTS {
        let since = host.server.position(host.server.stats().unwrap().seq);
        for (channel, data) in
            [("news.a", "<1>"), ("news.new", "<2>"), ("other", "<no>"), ("news.a", "<3>"), ("user:x", "<no>")]
        {
            host.publish(channel, data);
        }
        host.server.broadcast(&Publication::new("", b"<4>")).unwrap();
        let query = format!("channel=news.new&pattern=news.*&pattern=news.n*&since={since}");
        let mut client = open(&host, transport, &query);
        let mut got = client.until("<4>");
        subscriptions(&host, 3);
        host.publish("news.later", "<5>");
        got += &client.until("<5>");
        assert_eq!(counted(&got, &["<1>", "<2>", "<3>", "<no>", "seen", GAP]), [1, 1, 1, 0, 0, 0], "{transport} {got}");
        let place = |text: &str| got.find(text).unwrap();
        assert!(place("<1>") < place("<2>") && place("<2>") < place("<3>"), "{transport}: {got}");
        assert_eq!(got.matches(r#""type":"subscribed""#).count(), if transport == "ws" { 3 } else { 0 });
        drop(client);
        subscriptions(&host, 0);
    }
    // An EventSource comes back with its last id, which counts before the URL's since.
    let last = host.publish("news.a", "<last>");
    let lines = format!("Last-Event-ID: {last}\r\n");
    let mut source = host.get(&format!("transport=sse&pattern=news.*&since={start}"), &lines);
    subscriptions(&host, 1);
    host.publish("news.b", "<live>");
    assert_eq!(counted(&source.until("<live>"), &["<last>", "push-gap"]), [0, 0]);
    host.stop();
}

#[test]
fn what_may_be_missing_is_a_gap_of_the_pattern_and_comes_first() {
    let host =
        Host::start(&[ON, ("history_count", "2"), ("channel.other.unkept.history_count", "0"), ("outbox", "16KB")]);
    let gap = |pattern: &str| format!(r#"{{"type":"gap","channel":"{pattern}","id":""#);
    let first = host.publish("news.a", "<0>");
    let lost = |query: &str, since: &str, last: &str| {
        let mut raw = open(&host, "raw", &format!("{query}&since={since}"));
        let is_told = raw.head().contains("\r\nPush-Gap: 1");
        let got = open(&host, "stream", &format!("{query}&since={since}")).until(last);
        assert_eq!(is_told, got.contains(GAP), "{got}");
        got
    };
    // It is trimmed.
    (1..=3).for_each(|n| drop(host.publish("news.a", &format!("<{n}>"))));
    let got = lost("pattern=news.*&pattern=news.a*&pattern=other.*", &first, "<3>");
    assert_eq!(counted(&got, &[&gap("news.*"), GAP, "<1>", "<2>"]), [1, 1, 0, 1], "{got}");
    assert!(got.find(GAP) < got.find("<2>"), "{got}");
    // It is gone, or was never kept. One whose name does not fit does not matter.
    let since = host.publish("other.x", "<x>");
    host.publish("other.unkept", "<u>");
    host.publish("news.a", "<4>");
    let got = lost("pattern=other.*&pattern=news.*", &since, "<4>");
    assert_eq!(counted(&got, &[&gap("other.*"), GAP]), [1, 1], "{got}");
    let got = lost("pattern=news.*", &since, "<4>");
    assert_eq!(counted(&got, &[GAP, "<u>"]), [0, 0], "{got}");
    // Another life of the server: all that is kept.
    let got = lost("pattern=news.*", "0-0", "<4>");
    assert_eq!(counted(&got, &[&gap("news.*"), "<2>", "<3>"]), [1, 0, 1], "{got}");
    // More than an outbox: the newest.
    let (since, large) = (host.publish("news.a", "<5>"), "x".repeat(7000));
    (0..4).for_each(|n| drop(host.publish(&format!("news.{n}"), &format!("{large}<l{n}>"))));
    let got = lost("pattern=news.*", &since, "<l3>");
    assert_eq!(counted(&got, &[&gap("news.*"), GAP, "<l0>", "<l1>", "<l2>"]), [1, 1, 0, 0, 0], "{got}");
    host.stop();
}

#[test]
fn patterns_that_can_not_be_served_are_refused_with_what_is_allowed() {
    let (host, off) = (Host::start(&[ON, ("user_channel", "true")]), Host::start(&[]));
    for (query, code, why) in [
        ("pattern=news.*&pattern=a*&pattern=b*&pattern=c*", "patterns", "more than 3 patterns (option max_patterns)"),
        ("pattern=news", "pattern", "it ends in *, as news.* does; one channel is named by channel"),
        ("pattern=", "pattern", "it ends in *"),
        ("pattern=a*b*", "pattern", "* may stand at the end only"),
        ("pattern=a%0A*", "pattern", "control characters are not allowed"),
        ("pattern=%ff*", "pattern", "not UTF-8"),
        (&*format!("pattern={}*", "x".repeat(65)), "pattern", "66 bytes; at most 64 and the * are allowed"),
        ("channel=news.*", "channel", "pattern= in the URL"),
        ("pattern=user:*", "channel", "no pattern fits names that begin with user:"),
        ("pattern=user:a*", "channel", "no pattern fits names that begin with user:"),
    ] {
        for transport in TRANSPORTS {
            let told = open(&host, transport, query).rest();
            let status = if query.contains("user:") { "HTTP/1.1 403 " } else { "HTTP/1.1 400 " };
            assert!(told.starts_with(status) && told.contains(why), "{transport} {query}: {told}");
            assert!(told.contains(&format!(r#""code":"{code}""#)), "{told}");
        }
    }
    for transport in TRANSPORTS {
        let told = open(&off, transport, "channel=a&pattern=news.*").rest();
        assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("(option max_patterns)"), "{told}");
    }
    // The same pattern twice is one, and channels do not count.
    let names: String = (0..10).map(|n| format!("channel=c{n}&")).collect();
    let mut client = open(&host, "stream", &format!("{names}pattern=a*&pattern=a*&pattern=b*&pattern=c*"));
    subscriptions(&host, 13);
    host.publish("c1", "<once>");
    host.publish("c2", "<end>");
    assert_eq!(counted(&client.until("<end>"), &["<once>"]), [1]);
    host.stop();
    off.stop();
}

#[test]
fn ends_of_channels_come_and_a_pattern_has_none() {
    let host = Host::start(&[ON]);
    let end = |channel: &str| host.server.publish(&Publication::mark(channel, Mark::End)).unwrap();
    let before = host.publish("answer.1", "text");
    let mut clients = ["ws", "sse", "stream"].map(|transport| open(&host, transport, "pattern=answer.*"));
    let mut raw = open(&host, "raw", "pattern=answer.*");
    // One has the only channel by its name as well.
    let mut both = open(&host, "stream", "channel=answer.1&pattern=answer.*");
    subscriptions(&host, 6);
    end("answer.1");
    host.publish("answer.2", "<more>");
    for client in clients.iter_mut().chain([&mut both]) {
        let got = client.until("<more>");
        assert_eq!(counted(&got, &[r#"{"type":"end","channel":"answer.1""#, "\"ended\""]), [1, 0], "{got}");
    }
    assert!(!raw.until("<more>").contains("\"end\""));
    // One that comes back gets the end in its place, and is not sent away, also if all channels that it fits have ended.
    end("answer.2");
    for transport in ["ws", "sse", "stream"] {
        let mut client = open(&host, transport, &format!("pattern=answer.*&since={before}"));
        let got = client.until(r#"{"type":"end","channel":"answer.2""#);
        assert_eq!(counted(&got, &[r#"{"type":"end","channel":"answer.1""#, "<more>"]), [1, 1], "{transport}: {got}");
    }
    let last = host.server.position(host.server.stats().unwrap().seq);
    let mut source = host.get(&format!("transport=sse&pattern=answer.*&since={last}"), "");
    assert!(source.head().starts_with("HTTP/1.1 200 "));
    host.publish("answer.2", "anew");
    source.until("anew");
    host.stop();
}

#[test]
fn bounds_change_with_a_reload_and_one_of_all_clients_sends_new_patterns_away_for_a_while() {
    let host = Host::start(&[&CONTROL[..], &[ON, ("patterns_total", "2")]].concat());
    let mut first = open(&host, "stream", "pattern=a*&pattern=b*");
    subscriptions(&host, 2);
    let mut same = open(&host, "stream", "pattern=b*");
    subscriptions(&host, 3);
    assert_eq!(host.server.stats().unwrap().patterns, 2);
    let told = open(&host, "stream", "pattern=b*&pattern=c*").rest();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("Retry-After: "), "{told}");
    assert!(told.contains(r#""code":"patterns_total""#) && told.contains("(option patterns_total)"), "{told}");
    // An EventSource comes back.
    let told = open(&host, "sse", "pattern=c*").rest();
    assert!(told.starts_with("HTTP/1.1 200 ") && told.contains("\nretry: ") && told.contains("push-close"), "{told}");
    assert_eq!(host.server.stats().unwrap().subscriptions, 3, "nothing stays of those");
    let sent = host.server.publish(&Publication::new("b1", b"<b1>")).unwrap();
    assert_eq!(sent.subscribers, 2);
    assert_eq!(host.server.publish(&Publication::new("c1", b"<c1>")).unwrap().subscribers, 0);
    assert!(host.control("/v1/users?channel=b1").contains(r#""anonymous":0"#), "who has a pattern is not listed");
    let reload = |options: &[(&str, &str)]| {
        host.server.reload(&builder(&[&CONTROL[..], options].concat())).unwrap();
    };
    reload(&[ON, ("patterns_total", "3")]);
    let mut third = open(&host, "stream", "pattern=c*");
    subscriptions(&host, 4);
    // Off: those who are there stay.
    reload(&[]);
    until("it is off", || open(&host, "stream", "pattern=b*&channel=x").head().starts_with("HTTP/1.1 400 "));
    for channel in ["a2", "b2", "c2"] {
        host.publish(channel, &format!("<{channel}>"));
    }
    for (client, last) in [(&mut first, "<b2>"), (&mut same, "<b2>"), (&mut third, "<c2>")] {
        client.until(last);
    }
    reload(&[ON, ("patterns_total", "1")]);
    drop((first, same, third));
    subscriptions(&host, 0);
    until("they are gone", || host.server.stats().unwrap().patterns == 0);
    until("it is on", || open(&host, "stream", "pattern=b*").head().starts_with("HTTP/1.1 200 "));
    host.stop();
}

#[test]
fn a_log_brings_what_a_client_missed_before_a_restart() {
    let place = std::env::temp_dir().join(format!("push-patterns-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&place);
    let engine = format!("file:{}", place.display());
    let host = Host::start(&[ON, ("engine", &engine)]);
    let since = host.publish("news.a", "seen");
    host.publish("news.b", "<1>");
    host.publish("other", "<no>");
    host.server.stop(PATIENCE);
    let host = Host::start(&[ON, ("engine", &engine)]);
    host.publish("news.c", "<2>");
    let got = open(&host, "stream", &format!("pattern=news.*&since={since}")).until("<2>");
    assert_eq!(counted(&got, &["<1>", "<no>", "seen", GAP]), [1, 0, 0, 0], "{got}");
    host.stop();
    let _ = std::fs::remove_dir_all(&place);
}
