//! Long-polls with patterns: what answers one that waits, positions, and what takes it away.

use super::common::{field, until, Client, Host};
use super::{counted, subscriptions, GAP, ON};
use push::events::EventKind;
use push::grant::Grant;
use push::hub::{ClientId, Mark, Publication};
use serde_json::Value;

const OWN: &str = "0a1b2c3d-0000-4000-8000-00000000000a";

/// A poll, and the next ones over the same connection.
struct Poll {
    client: Client,
    query: String,
    position: String,
}

impl Poll {
    /// Its first request does not wait, and so gives it a position.
    fn new(host: &Host, query: &str) -> Self {
        let mut poll = Poll { client: host.connect(), query: query.into(), position: String::new() };
        let answer = poll.ask("&wait=0");
        assert_eq!(messages(&answer), [""; 0], "{answer}");
        poll
    }

    /// Asks for what comes after its position.
    fn send(&mut self, more: &str) {
        let since = if self.position.is_empty() { String::new() } else { format!("&since={}", self.position) };
        let request =
            format!("GET /push?transport=poll&{}{since}{more} HTTP/1.1\r\nHost: localhost\r\n\r\n", self.query);
        self.client.send(request.as_bytes());
    }

    /// The body of the answer. Its position is where the next one begins.
    fn answer(&mut self) -> String {
        let (head, body) = self.client.response();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head} {body}");
        self.position = field(&body, "position");
        assert!(head.contains(&format!("\r\nPush-Position: {}\r\n", self.position)), "{head} {body}");
        body
    }

    fn ask(&mut self, more: &str) -> String {
        self.send(more);
        self.answer()
    }
}

/// The payloads of an answer's messages.
fn messages(answer: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let list = answer["messages"].as_array().unwrap();
    list.iter().filter_map(|one| one["data"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_poll_waits_for_the_first_message_that_a_pattern_fits_and_goes_on_behind_it() {
    let host = Host::start(&[ON, ("threads", "2"), ("channel.news.unkept.history_count", "0")]);
    host.publish("news.old", "before");
    for query in [
        "pattern=news.*",
        "pattern=news.*&pattern=news.u*&pattern=new*",
        "channel=news.old&pattern=news.*",
        "channel=news.old&channel=other2&pattern=n*",
    ] {
        let mut poll = Poll::new(&host, query);
        assert_eq!(host.server.stats().unwrap().patterns, 0, "one that does not wait has none");
        for channel in ["news.old", "news.unkept", &*format!("news.{}", host.server.stats().unwrap().seq)] {
            poll.send("");
            let each = query.matches("channel=").count() + query.matches("pattern=").count();
            subscriptions(&host, each as u64);
            host.publish("other", "<no>");
            host.publish("user:ada", "<never>");
            let at = host.publish(channel, "<1>");
            let answer = poll.answer();
            assert_eq!((messages(&answer), &poll.position), (vec!["<1>".into()], &at), "{query} {channel}: {answer}");
            assert!(answer.contains(&format!(r#""channel":"{channel}""#)), "{answer}");
            // Between two polls.
            subscriptions(&host, 0);
            host.publish("news.old", "<2>");
            host.publish("other", "<no>");
            host.publish("news.b", "<3>");
            assert_eq!(messages(&poll.ask("")), ["<2>", "<3>"], "{query}");
            assert_eq!(messages(&poll.ask("&wait=0")), [""; 0], "{query}");
        }
        poll.send("");
        subscriptions(&host, query.matches('=').count() as u64);
        host.server.broadcast(&Publication::new("", b"<all>")).unwrap();
        assert_eq!(messages(&poll.answer()), ["<all>"]);
        subscriptions(&host, 0);
        until("patterns stay", || host.server.stats().unwrap().patterns == 0);
    }
    host.stop();
}

#[test]
fn an_answer_without_messages_has_a_position_up_to_which_there_was_nothing() {
    let host = Host::start(&[ON, ("threads", "2"), ("poll_timeout", "100ms")]);
    let mut poll = Poll::new(&host, "pattern=news.*");
    for round in 0..5 {
        host.publish("other", "<no>");
        poll.send("");
        host.publish("other", "<no>");
        let answer = poll.answer();
        assert_eq!(messages(&answer), [""; 0], "{answer}");
        host.publish("news.a", &round.to_string());
        assert_eq!(messages(&poll.ask("")), [round.to_string()]);
    }
    host.stop();
}

#[test]
fn what_may_be_missing_is_told_once_and_the_poll_goes_on_behind_it() {
    let host = Host::start(&[ON, ("history_count", "2"), ("outbox", "16KB")]);
    let gap = r#"{"type":"gap","channel":"news.*","id":""#;
    let mut poll = Poll::new(&host, "pattern=news.*&pattern=news.a*&channel=news.c");
    (0..4).for_each(|n| drop(host.publish("news.a", &format!("<{n}>"))));
    let answer = poll.ask("");
    assert_eq!(counted(&answer, &[gap, GAP]), [1, 1], "{answer}");
    assert_eq!(messages(&answer), ["<2>", "<3>"]);
    assert_eq!(counted(&poll.ask("&wait=0"), &[GAP, "\"more\""]), [0, 0]);
    // Of a channel that it has by name, the gap is told by name.
    (0..4).for_each(|n| drop(host.publish("news.c", &format!("<{n}>"))));
    let answer = poll.ask("");
    assert_eq!(counted(&answer, &[r#"{"type":"gap","channel":"news.c","id":""#, GAP]), [1, 1], "{answer}");
    // More than an answer holds: the newest, and the next poll waits.
    let large = "x".repeat(7000);
    (0..4).for_each(|n| drop(host.publish(&format!("news.{n}"), &format!("{large}<l{n}>"))));
    let answer = poll.ask("");
    assert_eq!(counted(&answer, &[gap, GAP, "\"more\"", "<l0>", "<l3>"]), [1, 1, 0, 0, 1], "{answer}");
    poll.send("");
    subscriptions(&host, 3);
    host.publish("news.z", "<z>");
    assert_eq!(messages(&poll.answer()), ["<z>"]);
    // Another life of the server: all that is kept.
    poll.position = "0-0".into();
    let answer = poll.ask("");
    assert!(answer.contains(gap) && answer.contains("<z>"), "{answer}");
    host.stop();
}

#[test]
fn ends_of_channels_answer_a_poll_and_a_pattern_has_none() {
    let host = Host::start(&[ON]);
    let end = |channel: &str| host.server.publish(&Publication::mark(channel, Mark::End)).unwrap();
    host.publish("answer.1", "text");
    for query in ["pattern=answer.*", "channel=answer.1&pattern=answer.*"] {
        host.publish("answer.1", "text");
        let mut poll = Poll::new(&host, query);
        poll.send("");
        subscriptions(&host, query.matches('=').count() as u64);
        end("answer.1");
        let answer = poll.answer();
        assert_eq!(counted(&answer, &[r#"{"type":"end","channel":"answer.1""#, "\"ended\""]), [1, 0], "{answer}");
        // It waits again, for what is to come.
        poll.send("");
        subscriptions(&host, query.matches('=').count() as u64);
        host.publish("answer.1", "<anew>");
        assert_eq!(messages(&poll.answer()), ["<anew>"]);
    }
    host.stop();
}

#[test]
fn a_poll_that_a_message_leaves_out_is_answered_with_the_position_behind_it() {
    let host = Host::start(&[ON, ("threads", "2")]);
    let except = |channel| Publication { channel, except: ClientId::parse(OWN), ..Publication::new("", b"<own>") };
    let publish = |channel| host.server.position_of(&host.server.publish(&except(channel)).unwrap());
    let mut own = Poll::new(&host, &format!("pattern=news.*&client={OWN}"));
    let mut other = Poll::new(&host, "pattern=news.*");
    own.send("");
    other.send("");
    subscriptions(&host, 2);
    let at = publish("news.a");
    assert_eq!((messages(&own.answer()), &own.position), (vec![], &at));
    assert_eq!((messages(&other.answer()), &other.position), (vec!["<own>".into()], &at));
    let at = publish("news.b");
    assert_eq!((messages(&own.ask("")), &own.position), (vec![], &at));
    assert_eq!(messages(&other.ask("")), ["<own>"]);
    host.stop();
}

#[test]
fn a_poll_ends_with_its_last_pattern_and_its_host_is_told_of_none() {
    let host = Host::start(&[ON, ("threads", "1"), ("events", "open,subscribe,unsubscribe,close")]);
    host.server.event_fd().unwrap();
    let granted = |query: &str| {
        let grant = Grant::new(Some("ada"), &[], &["*".into()], 0, false, false).unwrap();
        let head = format!("GET /push?transport=poll&{query} HTTP/1.1\r\nHost: h\r\n\r\n");
        super::common::adopted(&host.server, &head, Some(grant))
    };
    let mut both = granted("pattern=news.*&pattern=more.*");
    let mut only = granted("pattern=news.*");
    subscriptions(&host, 3);
    host.server.revoke_channel("ada", "news.sport", "moved").unwrap();
    let told = only.rest();
    assert!(told.starts_with("HTTP/1.1 403 ") && told.contains("moved"), "{told}");
    host.publish("news.sport", "<gone>");
    host.publish("more.a", "<more>");
    let told = both.rest();
    assert_eq!(counted(&told, &["<gone>", "<more>"]), [0, 1], "{told}");
    // A stream is the first that the host is told of.
    let grant = Grant::new(None, &[], &["*".into()], 0, false, false).unwrap();
    let head = "GET /push?transport=stream&pattern=a* HTTP/1.1\r\nHost: h\r\n\r\n";
    let _stream = super::common::adopted(&host.server, head, Some(grant));
    let event = host.server.next_event(Some(super::common::PATIENCE)).unwrap();
    assert_eq!((event.kind, event.channel.as_deref()), (EventKind::Open, Some("a*")));
    host.stop();
}

#[test]
fn polls_that_wait_count_for_the_patterns_of_all_connections() {
    let host = Host::start(&[ON, ("patterns_total", "1")]);
    let mut first = Poll::new(&host, "pattern=a*");
    first.send("");
    subscriptions(&host, 1);
    let mut second = Poll::new(&host, "pattern=b*");
    second.send("");
    let (head, body) = second.client.response();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: "), "{head}");
    assert!(body.contains(r#""code":"patterns_total""#), "{body}");
    host.publish("a1", "<a>");
    assert_eq!(messages(&first.answer()), ["<a>"]);
    subscriptions(&host, 0);
    until("the pattern stays", || host.server.stats().unwrap().patterns == 0);
    let mut third = Poll::new(&host, "pattern=b*");
    third.send("");
    subscriptions(&host, 1);
    host.publish("b1", "<b>");
    assert_eq!(messages(&third.answer()), ["<b>"]);
    host.stop();
}
