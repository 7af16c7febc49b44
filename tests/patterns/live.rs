//! Patterns that a client of `push.v1.json` subscribes to and unsubscribes from on a live connection.

use super::common::{adopted, field, until, Client, Host, CONTROL, PATIENCE, UPGRADE};
use super::{counted, open, subscriptions, GAP, JSON, ON};
use push::events::EventKind;
use push::grant::Grant;
use push::hub::{Mark, Publication};

/// A connection that is live on what its URL names.
fn connect(host: &Host, query: &str) -> Client {
    let mut client = open(host, "ws", query);
    client.head();
    for _ in 0..query.matches("channel=").count() + query.matches("pattern=").count() {
        assert_eq!(field(&client.text(), "type"), "subscribed");
    }
    client
}

/// Everything up to the answer to a request, and with it.
fn ask(client: &mut Client, request: &str) -> Vec<String> {
    client.say(request);
    let mut told = vec![client.text()];
    while !["subscribed", "unsubscribed", "error"].contains(&&*field(&told[told.len() - 1], "type")) {
        told.push(client.text());
    }
    told
}

/// The same for a request that is done: what came before the answer, shown in short.
fn done(client: &mut Client, kind: &str, request: &str) -> Vec<String> {
    let mut told = ask(client, &format!(r#"{{"type":"{kind}",{request}}}"#));
    let answer = told.pop().unwrap();
    assert_eq!(field(&answer, "type"), format!("{kind}d"), "{request}: {answer}");
    told.iter().map(|frame| short(frame)).collect()
}

fn short(frame: &str) -> String {
    match &*field(frame, "type") {
        "message" => field(frame, "data"),
        kind => format!("{kind} {}", field(frame, "channel")),
    }
}

fn next(client: &mut Client) -> String {
    short(&client.text())
}

#[test]
fn a_pattern_is_subscribed_to_and_unsubscribed_from() {
    let host = Host::start(&[ON, ("threads", "2"), ("channel.news.unkept.history_count", "0")]);
    let mut client = connect(&host, "x=1");
    let at = host.publish("news.a", "<before>");
    let told = ask(&mut client, r#"{"type":"subscribe","pattern":"news.*","ref":7}"#);
    assert_eq!(told, [format!(r#"{{"type":"subscribed","channel":"news.*","id":"{at}","ref":7}}"#)]);
    assert_eq!(host.server.stats().unwrap().patterns, 1);
    for channel in ["news.a", "other", "news.new", "news.unkept", "user:ada", "news.a"] {
        host.publish(channel, &format!("<{channel}>"));
    }
    for expected in ["<news.a>", "<news.new>", "<news.unkept>", "<news.a>"] {
        assert_eq!(next(&mut client), expected);
    }
    let told = ask(&mut client, r#"{"type":"unsubscribe","pattern":"news.*","ref":8}"#);
    assert_eq!(told, [r#"{"type":"unsubscribed","channel":"news.*","ref":8}"#]);
    host.publish("news.a", "<after>");
    // It can be had again, also from where the client was.
    let told = done(&mut client, "subscribe", &format!(r#""pattern":"news.*","since":"{at}""#));
    // Of the channel that keeps nothing there is a gap.
    assert_eq!(told, ["gap news.*", "<news.a>", "<news.new>", "<news.a>", "<after>"]);
    drop(client);
    subscriptions(&host, 0);
    until("patterns stay", || host.server.stats().unwrap().patterns == 0);
    // Those of the URL can be given up as well.
    let mut client = connect(&host, "pattern=news.*&channel=a");
    assert_eq!(done(&mut client, "unsubscribe", r#""pattern":"news.*""#), [""; 0]);
    subscriptions(&host, 1);
    host.stop();
}

#[test]
fn who_has_a_channel_by_name_and_by_pattern_gets_each_message_once_and_may_give_up_either() {
    let host = Host::start(&[ON, ("threads", "2")]);
    for (first, second) in [
        (r#""pattern":"news.*""#, r#""channel":"news.a""#),
        (r#""channel":"news.a""#, r#""pattern":"news.*""#),
        (r#""pattern":"news.*""#, r#""pattern":"news.a*""#),
        (r#""pattern":"news.a*""#, r#""pattern":"*""#),
    ] {
        for since in [false, true] {
            for given_up in [first, second] {
                let at = host.publish("news.a", "<0>");
                host.publish("news.a", "<1>");
                let mut client = connect(&host, "x=1");
                let from = if since { format!(r#","since":"{at}""#) } else { String::new() };
                let told = done(&mut client, "subscribe", &format!("{first}{from}"));
                assert_eq!(told, if since { vec!["<1>"] } else { vec![] }, "{first}");
                host.publish("news.a", "<2>");
                // What was missed has come by the first, and <2> comes once, before the answer or behind it.
                let mut told = done(&mut client, "subscribe", &format!("{second}{from}"));
                host.publish("news.a", "<3>");
                while told.last().is_none_or(|last| last != "<3>") {
                    told.push(next(&mut client));
                }
                assert_eq!(told, ["<2>", "<3>"], "{first} {second} {since}");
                assert_eq!(done(&mut client, "unsubscribe", given_up), [""; 0]);
                host.publish("news.a", "<4>");
                assert_eq!(next(&mut client), "<4>", "{first} {second} without {given_up}");
                let rest = if given_up == first { second } else { first };
                assert_eq!(done(&mut client, "unsubscribe", rest), [""; 0]);
                host.publish("news.a", "<no>");
                client.say(r#"{"type":"ping"}"#);
                assert_eq!(field(&client.text(), "type"), "pong");
                drop(client);
                subscriptions(&host, 0);
            }
        }
    }
    host.stop();
}

#[test]
fn a_name_brings_what_its_pattern_has_not_brought() {
    let host = Host::start(&[ON]);
    let positions: Vec<String> = (0..6).map(|n| host.publish("news.a", &format!("<{n}>"))).collect();
    host.publish("news.b", "<b>");
    let all = ["<0>", "<1>", "<2>", "<3>", "<4>", "<5>"];
    for (query, request, expected) in [
        // Without a position the pattern has brought nothing.
        ("pattern=news.*".to_owned(), r#""last":2"#.to_owned(), &all[4..]),
        ("pattern=news.*".to_owned(), r#""since":"start""#.to_owned(), &all[..]),
        ("pattern=news.*".to_owned(), format!(r#""since":"{}""#, positions[2]), &all[3..]),
    ] {
        let mut client = connect(&host, &query);
        assert_eq!(done(&mut client, "subscribe", &format!(r#""channel":"news.a",{request}"#)), expected, "{request}");
    }
    for (request, expected) in [
        (r#""last":5"#.to_owned(), &all[1..3]),
        (r#""last":2"#.to_owned(), &all[..0]),
        (r#""since":"start""#.to_owned(), &all[..3]),
        (format!(r#""since":"{}""#, positions[0]), &all[1..3]),
        (format!(r#""since":"{}""#, positions[4]), &all[..0]),
    ] {
        // By the URL it has what follows <2>, and by a later pattern it would have more.
        let mut client = open(&host, "ws", &format!("pattern=news.*&since={}", positions[2]));
        client.head();
        (0..5).for_each(|_| drop(client.text()));
        let told = done(&mut client, "subscribe", r#""pattern":"news.a*""#);
        assert_eq!(told, [""; 0]);
        let told = done(&mut client, "subscribe", &format!(r#""channel":"news.a",{request}"#));
        assert_eq!(told, expected, "{request}");
        // A pattern reads nothing anew that is had by name, until the name is given up.
        assert_eq!(done(&mut client, "subscribe", &format!(r#""pattern":"n*","since":"{}""#, positions[0])), [""; 0]);
        for pattern in ["news.*", "news.a*", "n*"] {
            assert_eq!(done(&mut client, "unsubscribe", &format!(r#""pattern":"{pattern}""#)), [""; 0]);
        }
        let told = done(&mut client, "subscribe", &format!(r#""pattern":"n*","since":"{}""#, positions[0]));
        assert_eq!(told, ["<b>"]);
        assert_eq!(done(&mut client, "unsubscribe", r#""channel":"news.a""#), [""; 0]);
        let told = done(&mut client, "subscribe", &format!(r#""channel":"news.a","since":"{}""#, positions[0]));
        assert_eq!(told, all[1..]);
    }
    host.stop();
}

#[test]
fn a_gap_is_told_for_the_pattern_before_what_is_still_kept() {
    let host = Host::start(&[ON, ("history_count", "2"), ("outbox", "16KB")]);
    let first = host.publish("news.a", "<0>");
    (1..5).for_each(|n| drop(host.publish("news.a", &format!("<{n}>"))));
    let mut client = connect(&host, "x=1");
    let request = format!(r#""pattern":"news.*","since":"{first}""#);
    assert_eq!(done(&mut client, "subscribe", &request), ["gap news.*", "<3>", "<4>"]);
    // What may not have come by the pattern comes by the name.
    let told = done(&mut client, "subscribe", &format!(r#""channel":"news.a","since":"{first}""#));
    assert_eq!(told, ["gap news.a"]);
    // More than fits: the newest.
    let (since, large) = (host.publish("more.a", "<0>"), "x".repeat(3500));
    (1..5).for_each(|n| drop(host.publish(&format!("more.{n}"), &format!("<{n}>{large}"))));
    let told = done(&mut client, "subscribe", &format!(r#""pattern":"more.*","since":"{since}""#));
    let told = told.concat();
    assert_eq!(counted(&told, &["gap more.*", "<1>", "<2>", "<4>"]), [1, 0, 0, 1], "{told}");
    host.stop();
}

#[test]
fn a_channel_that_has_ended_is_told_to_who_names_it_also_if_the_end_has_come_by_a_pattern() {
    let host = Host::start(&[ON]);
    let at = host.publish("answer.1", "<text>");
    let end = host.server.publish(&Publication::mark("answer.1", Mark::End)).unwrap();
    let end = host.server.position_of(&end);
    let ended = "end answer.1";
    // Without a position the pattern tells of no end. With one, the end is among what was missed.
    for (pattern, by_pattern) in [
        (r#""pattern":"answer.*""#.to_owned(), vec![]),
        (format!(r#""pattern":"answer.*","since":"{at}""#), vec![ended]),
        (format!(r#""pattern":"answer.*","since":"{end}""#), vec![]),
    ] {
        for from in [
            String::new(),
            format!(r#","since":"{at}""#),
            format!(r#","since":"{end}""#),
            r#","since":"start""#.to_owned(),
            r#","last":1"#.to_owned(),
        ] {
            let mut client = connect(&host, "x=1");
            assert_eq!(done(&mut client, "subscribe", &pattern), by_pattern);
            let told = done(&mut client, "subscribe", &format!(r#""channel":"answer.1"{from}"#));
            assert_eq!(counted(&told.concat(), &[ended]), [1], "{pattern}{from}: {told:?}");
            assert_eq!(told.last().map(|last| &**last), Some(ended), "{pattern}{from}: {told:?}");
        }
    }
    host.stop();
}

#[test]
fn what_can_not_be_served_is_refused_with_a_code_and_the_connection_goes_on() {
    let options = [ON, ("patterns_total", "4"), ("user_channel", "true"), ("max_channels", "2")];
    let host = Host::start(&[&CONTROL[..], &options].concat());
    let off = Host::start(&[]);
    let mut client = connect(&host, "channel=a&pattern=news.*");
    let mut refused = |request: &str, code: &str, why: &str| {
        let told = ask(&mut client, request).concat();
        assert_eq!(field(&told, "code"), code, "{request}: {told}");
        assert!(told.contains(why), "{request}: {told}");
        told
    };
    refused(r#"{"type":"subscribe","channel":"a","pattern":"b*"}"#, "malformed", "a request has one of them");
    refused(r#"{"type":"subscribe","channel":"b*"}"#, "channel", "can't end in *");
    for (pattern, code, why) in [
        ("more", "pattern", "it ends in *"),
        ("", "pattern", "it ends in *"),
        ("a*b*", "pattern", "* may stand at the end only"),
        ("a\\n*", "pattern", "control characters"),
        (&*format!("{}*", "x".repeat(65)), "pattern", "at most 64 and the * are allowed"),
        ("user:*", "channel", "user:"),
        ("news.*", "subscribed", "subscribed already"),
    ] {
        refused(&format!(r#"{{"type":"subscribe","pattern":"{pattern}"}}"#), code, why);
    }
    refused(r#"{"type":"subscribe","pattern":"b*","last":0}"#, "last", "last must be a number");
    refused(r#"{"type":"subscribe","pattern":"b*","since":"x"}"#, "position", "since must be a position");
    let told = refused(r#"{"type":"unsubscribe","pattern":"b*","ref":3}"#, "not_subscribed", "not subscribed");
    assert!(told.contains(r#""channel":"b*","ref":3}"#), "{told}");
    for request in [r#""channel":"news.*""#, r#""pattern":"a""#, r#""channel":"news.x""#] {
        refused(&format!(r#"{{"type":"unsubscribe",{request}}}"#), "not_subscribed", "not subscribed");
    }
    // Patterns and channels count apart.
    for request in [r#""pattern":"b*""#, r#""pattern":"c*""#, r#""channel":"c""#] {
        assert_eq!(done(&mut client, "subscribe", request), [""; 0]);
    }
    let refused = |client: &mut Client, request: &str| {
        let told = ask(client, &format!(r#"{{"type":"subscribe",{request}}}"#)).concat();
        field(&told, "code")
    };
    assert_eq!(refused(&mut client, r#""pattern":"d*""#), "patterns");
    assert_eq!(refused(&mut client, r#""channel":"d""#), "channels");
    let mut other = connect(&host, "pattern=e*");
    assert_eq!(refused(&mut other, r#""pattern":"f*""#), "patterns_total");
    assert_eq!(done(&mut other, "subscribe", r#""pattern":"b*""#), [""; 0]);
    assert_eq!(host.server.stats().unwrap().patterns, 4);
    assert_eq!(refused(&mut connect(&off, "channel=a"), r#""pattern":"b*""#), "pattern");
    for (channel, expected) in [("e1", "<e1>"), ("b1", "<b1>")] {
        host.publish(channel, expected);
        assert_eq!(next(&mut other), expected);
    }
    let metrics = host.control("/metrics");
    for reason in ["max_patterns", "patterns_total", "max_channels"] {
        assert!(metrics.contains(&format!("push_refusals_total{{reason=\"{reason}\"}} 1\n")), "{reason}: {metrics}");
    }
    host.stop();
    off.stop();
}

#[test]
fn the_grant_must_cover_the_pattern_and_the_host_is_told_of_each() {
    let host = Host::start(&[ON, ("threads", "1"), ("events", "subscribe,unsubscribe")]);
    host.server.event_fd().unwrap();
    let event = || {
        let event = host.server.next_event(Some(PATIENCE)).unwrap();
        (event.kind, event.channel.as_deref().unwrap_or("").to_owned())
    };
    let head = format!("GET /push?channel=news.a HTTP/1.1\r\nHost: h\r\n{UPGRADE}{JSON}\r\n");
    let grant = Grant::new(Some("ada"), &[], &["news.*".into(), "x".into()], 0, true, false).unwrap();
    let mut client = adopted(&host.server, &head, Some(grant));
    client.head();
    assert_eq!(field(&client.text(), "type"), "subscribed");
    assert_eq!(event(), (EventKind::Subscribe, "news.a".into()));
    for pattern in ["*", "n*", "x*", "y*"] {
        let told = ask(&mut client, &format!(r#"{{"type":"subscribe","pattern":"{pattern}"}}"#)).concat();
        assert_eq!(field(&told, "code"), "channel", "{told}");
    }
    for pattern in ["news.*", "news.s*"] {
        assert_eq!(done(&mut client, "subscribe", &format!(r#""pattern":"{pattern}""#)), [""; 0]);
        assert_eq!(event(), (EventKind::Subscribe, pattern.into()));
    }
    assert_eq!(done(&mut client, "unsubscribe", r#""pattern":"news.s*""#), [""; 0]);
    assert_eq!(event(), (EventKind::Unsubscribe, "news.s*".into()));
    // It is lost with the first channel that is taken away, and the name stays.
    host.server.revoke_channel("ada", "news.sport", "moved").unwrap();
    client.until(r#"{"type":"unsubscribed","channel":"news.*","code":4403,"reason":"moved"}"#);
    assert_eq!(event(), (EventKind::Unsubscribe, "news.*".into()));
    let told = ask(&mut client, r#"{"type":"subscribe","pattern":"news.*"}"#).concat();
    assert_eq!(field(&told, "code"), "channel", "{told}");
    host.publish("news.b", "<no>");
    host.publish("news.a", "<a>");
    let got = client.until("<a>");
    assert_eq!(counted(&got, &["<no>", GAP]), [0, 0], "{got}");
    host.stop();
}
