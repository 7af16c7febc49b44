//! What clients are told of their messages, and what subscribers get.

use super::*;

#[test]
fn the_host_allows_a_message_replaces_it_or_refuses_it() {
    let host = start(&[]);
    let (mut client, mut reader) = (host.websocket("", true), host.websocket("channel=chat.1", true));
    reader.text();
    client.say(r#"{"type":"publish","ref":1,"channel":"chat.1","data":"one","event":"said","key":"k1"}"#);
    let event = next(&host.server);
    assert_eq!((event.channel.as_deref(), &event.data[..], event.binary), (Some("chat.1"), &b"one"[..], false));
    let rest = Publishing { event: Some("said".into()), key: Some("k1".into()) };
    assert_eq!(event.publishing.as_deref(), Some(&rest));
    assert!(event.connection != 0 && event.request != 0);
    host.server.allow_publish(event.request, None).unwrap();
    let told = client.text();
    assert_eq!((&*field(&told, "type"), &*field(&told, "channel")), ("published", "chat.1"), "{told}");
    let got = reader.text();
    assert_eq!((field(&got, "data"), field(&got, "event")), ("one".into(), "said".into()));
    assert_eq!(field(&got, "id"), field(&told, "id"));
    // The event type stays unless it is replaced, too. A payload can be replaced by an empty one.
    for (instead, data, event, base64) in [
        (text(""), "", "said", "null"),
        (Replacement { event: Some("edited"), ..text("two") }, "two", "edited", "null"),
        (Replacement { data: &[0, 255], event: None, binary: false }, "AP8=", "said", "true"),
    ] {
        client.say(r#"{"type":"publish","ref":2,"channel":"chat.1","data":"AQI=","base64":true,"event":"said"}"#);
        let asked = next(&host.server);
        assert_eq!((&asked.data[..], asked.binary), (&[1, 2][..], true));
        host.server.allow_publish(asked.request, Some(&instead)).unwrap();
        expect(&mut client, "published", 2);
        let got = reader.text();
        assert_eq!([&*field(&got, "data"), &*field(&got, "event"), &*field(&got, "base64")], [data, event, base64]);
    }
    publish(&mut client, 3, "chat.1", "four");
    host.server.deny(next(&host.server).request, 403, "no such words").unwrap();
    let refused =
        r#"{"type":"error","code":"refused","message":"no such words","channel":"chat.1","status":403,"ref":3}"#;
    assert_eq!(client.text(), refused);
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.publish_checks, stats.publish_checks_given_up, stats.publish_checks_waiting), (5, 0, 0));
    assert_eq!((stats.published, stats.inbox_bytes), (4, 0));
    host.stop();
}

#[test]
fn a_replacement_is_checked_as_a_message_of_the_host() {
    let host = start(&[("max_message", "64")]);
    let mut client = host.websocket("", true);
    publish(&mut client, 1, "chat.1", "x");
    let request = next(&host.server).request;
    let long = "x".repeat(65);
    for (instead, kind) in [
        (text(&long), Kind::TooLarge),
        (Replacement { event: Some("push-x"), ..text("x") }, Kind::Invalid),
        (Replacement { event: Some("a\nb"), ..text("x") }, Kind::Invalid),
    ] {
        assert_eq!(host.server.allow_publish(request, Some(&instead)).unwrap_err().kind(), kind);
    }
    assert_eq!(host.server.allow_publish(0, None).unwrap_err().kind(), Kind::NotFound);
    // Nothing was answered by these.
    host.server.allow_publish(request, Some(&text(&long[1..]))).unwrap();
    expect(&mut client, "published", 1);
    host.stop();
}

#[test]
fn messages_keep_their_order_and_each_is_answered_once() {
    let host = start(&[("client_publish", "true"), ("threads", "1")]);
    let mut readers = ["chat.1", "open"].map(|channel| host.websocket(&format!("channel={channel}"), false));
    let (mut client, mut other) = (host.websocket("", true), host.websocket("", true));
    (1..=4).for_each(|reference| publish(&mut client, reference, "chat.1", &reference.to_string()));
    publish(&mut client, 5, "open", "behind those of the same connection");
    let asked = [(); 4].map(|()| next(&host.server));
    publish(&mut other, 1, "open", "waits for nobody");
    expect(&mut other, "published", 1);
    assert_eq!(readers[1].text(), "waits for nobody");
    host.server.allow_publish(asked[3].request, None).unwrap();
    host.server.allow_publish(asked[2].request, None).unwrap();
    host.server.deny(asked[1].request, 429, "").unwrap();
    expect(&mut client, "refused", 2);
    // Second answers, of any kind, change nothing.
    for event in &asked[1..] {
        host.server.deny(event.request, 403, "too late").unwrap();
        host.server.allow_publish(event.request, Some(&text("too late"))).unwrap();
        host.server.answer_call(event.request, b"wrong kind", false).unwrap();
    }
    client.say(r#"{"type":"ping","ref":6}"#);
    expect(&mut client, "pong", 6);
    assert_eq!(host.server.stats().unwrap().published, 1, "the first message holds up the others");
    host.server.allow_publish(asked[0].request, None).unwrap();
    [1, 3, 4, 5].into_iter().for_each(|reference| expect(&mut client, "published", reference));
    host.server.allow_publish(asked[0].request, None).unwrap();
    client.say(r#"{"type":"ping","ref":7}"#);
    expect(&mut client, "pong", 7);
    assert_eq!(all(&host, &mut readers[0], "chat.1"), ["1", "3", "4"]);
    assert_eq!(all(&host, &mut readers[1], "open"), ["behind those of the same connection"]);
    host.stop();
}

#[test]
fn an_unanswered_message_is_given_up_and_those_behind_it_go_on() {
    let host = start(&[("call_timeout", "200ms"), ("threads", "1")]);
    let (mut client, mut reader) = (host.websocket("", true), host.websocket("channel=chat.1", false));
    publish(&mut client, 1, "chat.1", "unanswered");
    let first = next(&host.server);
    // The first keeps its time, and the second has enough. It may have to wait for the first, and in any case comes after it.
    let patient = [EVENTS, ASKS, ("call_timeout", "10m"), ("threads", "1")];
    assert_eq!(host.server.reload(&common::builder(&patient)).unwrap().changed, ["call_timeout"]);
    done_before(&host);
    publish(&mut client, 2, "chat.1", "allowed");
    host.server.allow_publish(next(&host.server).request, None).unwrap();
    expect(&mut client, "unanswered", 1);
    expect(&mut client, "published", 2);
    host.server.allow_publish(first.request, None).unwrap();
    client.say(r#"{"type":"ping","ref":3}"#);
    expect(&mut client, "pong", 3);
    assert_eq!(all(&host, &mut reader, "chat.1"), ["allowed"]);
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.publish_checks_given_up, stats.publish_checks_waiting, stats.inbox_bytes), (1, 0, 0));
    host.stop();
}

#[test]
fn the_host_is_asked_only_about_what_the_client_may_publish() {
    let host = start(&[("user_channel", "true"), ("client_publish", "host"), ("max_message", "64")]);
    let mut client = adopted(&host.server, Some(grant("ann", &["chat.1"])));
    let mut stranger = host.websocket("", true);
    assert_eq!(field(&client.text(), "channel"), "user:ann");
    for (wrong, code) in [
        (r#"{"type":"publish","channel":"chat.2","data":"x"}"#.to_owned(), "publish"),
        (r#"{"type":"publish","channel":"user:bob","data":"x"}"#.to_owned(), "publish"),
        (r#"{"type":"publish","channel":"chat.1","data":"?","base64":true}"#.to_owned(), "base64"),
        (r#"{"type":"publish","channel":"chat.1","data":"x","event":"push-x"}"#.to_owned(), "malformed"),
        (r#"{"type":"publish","channel":"chat.1","data":"x","key":""}"#.to_owned(), "malformed"),
        (format!(r#"{{"type":"publish","channel":"chat.1","data":"{}"}}"#, "x".repeat(65)), "too_large"),
    ] {
        client.say(&wrong);
        assert_eq!(field(&client.text(), "code"), code, "{wrong}");
    }
    // A client without a grant may publish, if the host says so.
    publish(&mut stranger, 1, "any", "x");
    let event = next(&host.server);
    assert_eq!((event.user.as_deref(), event.channel.as_deref()), (None, Some("any")));
    host.server.allow_publish(event.request, None).unwrap();
    expect(&mut stranger, "published", 1);
    host.stop();
}

#[test]
fn a_reload_changes_which_messages_the_host_checks() {
    let host = start(&[]);
    let mut client = host.websocket("", true);
    publish(&mut client, 1, "chat.1", "x");
    let waits = next(&host.server);
    publish(&mut client, 2, "open", "x");
    expect(&mut client, "publish", 2);
    let reload = |options: &[(&str, &str)]| host.server.reload(&common::builder(options)).unwrap();
    let opened = ("channel.open.client_publish", "true");
    let changed = reload(&[EVENTS, ("channel.chat.*.client_publish", "false"), opened]).changed;
    assert_eq!(changed, ["call_timeout", "channel.*"]);
    host.server.allow_publish(waits.request, None).unwrap();
    expect(&mut client, "publish", 1);
    publish(&mut client, 3, "open", "x");
    expect(&mut client, "published", 3);
    publish(&mut client, 4, "chat.1", "x");
    expect(&mut client, "publish", 4);
    let error = host.server.reload(&common::builder(&[ASKS])).unwrap_err();
    assert!(error.to_string().contains("option events"), "{error}");
    host.stop();
}

/// With such a log a message is published when it is on the disk.
#[test]
fn with_a_log_that_is_synced_first_messages_keep_their_order() {
    let log = Folder::new("checks");
    let synced = [("engine_sync", "always"), ("engine_timeout", "1m"), ("client_publish", "true")];
    let host = start(&[&[("engine", &*log.engine())], &synced[..]].concat());
    let (mut client, mut reader) = (host.websocket("", true), host.websocket("channel=chat.1", false));
    (1..=8).for_each(|reference| publish(&mut client, reference, "chat.1", &reference.to_string()));
    let asked = [(); 8].map(|()| next(&host.server));
    asked.iter().rev().for_each(|event| host.server.allow_publish(event.request, None).unwrap());
    (1..=8).for_each(|reference| expect(&mut client, "published", reference));
    assert_eq!(all(&host, &mut reader, "chat.1"), ["1", "2", "3", "4", "5", "6", "7", "8"]);
    host.stop();
}
