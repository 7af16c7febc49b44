//! The forms of each transport, byte by byte; the place of the first list; who comes after the last change.

use super::common::{field, until, PATIENCE};
use super::followers::{ask, enter, Follower, Poller, FOLLOWING};
use super::{members, reload, start, subscriptions, AT_ONCE, NEVER};
use std::time::Instant;

/// A user's name and an info that need escapes, and what they look like in JSON.
const ODD: (&str, &str) = ("b\u{fc}b \"x\"", "{\"mood\":\"\u{1f600} \\\"}");
const ODD_JSON: &str = r#""user":"büb \"x\"","info":"{\"mood\":\"😀 \\\"}""#;

#[test]
fn each_transport_has_its_form() {
    let host = start(&[NEVER]);
    let _odd = enter(&host, "sse", ODD.0, Some(ODD.1));
    let _ada = enter(&host, "raw", "ada", None);
    members(&host, 2);
    let list = format!(r#"{{"type":"presence","channel":"room","users":[{{"user":"ada"}},{{{ODD_JSON}}}],"count":2}}"#);
    let open = |transport: &str| {
        let mut client = ask(&host, transport, None, "channel=room&presence=1");
        client.head();
        client
    };
    let mut ws = open("ws");
    assert_eq!((field(&ws.text(), "type"), ws.text()), ("subscribed".into(), list.clone()));
    open("stream").until(&format!("{list}\n"));
    for transport in ["sse", "sse-raw"] {
        let before = open(transport).until(&format!("event: push-presence\ndata: {list}\n\n"));
        // The line before belongs to the chunk, or is the end of another event. None has an id for this one.
        assert!(before.ends_with("\r\n") || before.ends_with("\n\n"), "{transport}: {before}");
    }
    let mut poll = Poller::new(&host, None, "");
    poll.send("");
    let (_, body) = poll.client.response();
    assert!(body.contains(&format!(r#","messages":[{list}],"presence":""#)), "{body}");
    host.stop();
}

/// Several of these may be told as one list, so it is tried until they came one by one.
#[test]
fn each_transport_is_told_of_one_who_joins_and_of_one_who_leaves() {
    let host = start(&[AT_ONCE]);
    // Where they are many, a list is longer than a change.
    let names: Vec<String> = (0..20).map(|n| format!("member-{n:02}")).collect();
    let _others: Vec<_> = names.iter().map(|name| enter(&host, "stream", name, None)).collect();
    members(&host, 20);
    let without = names.join(" ");
    let with = format!("{}={} {without}", ODD.0, ODD.1);
    let join = format!(r#"{{"type":"join","channel":"room",{ODD_JSON},"count":21}}"#);
    let leave = r#"{"type":"leave","channel":"room","user":"büb \"x\"","count":20}"#.to_owned();
    for transport in FOLLOWING {
        let mut follower = Follower::new(&host, transport, None, "");
        follower.until(&without);
        let began = Instant::now();
        while !follower.rooms.told.contains(&join) || !follower.rooms.told.contains(&leave) {
            assert!(began.elapsed() < PATIENCE, "{transport}: {:?}", follower.rooms.told);
            let odd = enter(&host, "stream", ODD.0, Some(ODD.1));
            follower.until(&with);
            drop(odd);
            follower.until(&without);
        }
    }
    host.stop();
}

#[test]
fn the_first_list_comes_behind_what_was_missed() {
    let host = start(&[NEVER]);
    let _ada = enter(&host, "ws", "ada", None);
    members(&host, 1);
    (0..50).for_each(|n| drop(host.publish("room", &format!("<{n}>"))));
    for transport in FOLLOWING {
        for query in ["since=start", "last=50"] {
            let mut follower = Follower::new(&host, transport, None, query);
            let before = follower.until_text(r#"{"type":"presence""#);
            let messages = before.iter().filter(|text| text.contains('<')).count();
            assert_eq!((messages, &*follower.rooms.shown("room")), (50, "ada"), "{transport}: {before:?}");
            let is_confirmed = before.iter().any(|text| text.starts_with(r#"{"type":"subscribed""#));
            assert_eq!(is_confirmed, transport == "ws", "{before:?}");
        }
    }
    // A poll that has missed something is answered with both at once.
    let mut poll = Poller::new(&host, None, "last=2");
    assert_eq!((poll.poll(""), poll.rooms.shown("room")), (vec!["<48>".into(), "<49>".into()], "ada".into()));
    host.stop();
}

/// Nothing changes any more, and nothing is published: what it is told it is told because it has come.
#[test]
fn a_follower_that_comes_after_the_last_change_gets_the_whole_list() {
    let host = start(&[NEVER]);
    let _there = ["carl", "ada", "bob"].map(|user| enter(&host, "stream", user, None));
    let mut first = Follower::new(&host, "ws", None, "");
    first.until("ada bob carl");
    for transport in FOLLOWING {
        for _ in 0..2 {
            Follower::new(&host, transport, None, "").until("ada bob carl");
        }
    }
    let mut poll = Poller::new(&host, None, "");
    poll.poll("");
    assert_eq!(poll.rooms.shown("room"), "ada bob carl");
    // A channel in which there was never anybody, and one of which only a number is told.
    reload(&host, &[NEVER, ("channel.*.presence", "true")]);
    let is_empty = |transport: &str| {
        until("the option is on", || {
            let mut client = ask(&host, transport, None, "channel=empty&presence=1");
            client.head();
            client.until(r#"{"type":"presence","channel":"empty","#);
            client.until("\n") == r#""users":[],"count":0}"#
        });
    };
    is_empty("stream");
    is_empty("sse");
    reload(&host, &[NEVER, ("presence_detail", "2")]);
    first.until("#3");
    for transport in FOLLOWING {
        Follower::new(&host, transport, None, "").until("#3");
    }
    let mut poll = Poller::new(&host, None, "");
    poll.until("#3");
    host.stop();
}

#[test]
fn a_connection_is_told_of_each_of_its_channels() {
    let host = start(&[AT_ONCE, ("channel.other.presence", "true")]);
    for transport in FOLLOWING {
        let mut follower = Follower::new(&host, transport, Some("ada"), "channel=other&channel=quiet");
        follower.until("ada");
        follower.until_in("other", "ada");
        follower.until_in("quiet", "off");
        let bob = ask(&host, "stream", Some("bob"), "channel=other");
        follower.until_in("other", "ada bob");
        let carl = enter(&host, "stream", "carl", None);
        follower.until("ada carl");
        drop((bob, carl));
        follower.until_in("other", "ada");
        follower.until("ada");
        drop(follower);
        subscriptions(&host, 0);
        members(&host, 0);
    }
    host.stop();
}

#[test]
fn a_channel_without_presence_is_served_and_a_reload_turns_it_on_and_off() {
    let host = start(&[NEVER]);
    let off = [("channel.room.presence", "false"), NEVER];
    reload(&host, &off);
    let mut followers = FOLLOWING.map(|transport| Follower::new(&host, transport, None, ""));
    followers.iter_mut().for_each(|follower| follower.until("off"));
    let mut poll = Poller::new(&host, None, "");
    poll.until("off");
    assert!(followers[1].rooms.told.contains(&r#"{"type":"presence","channel":"room","off":true}"#.to_owned()));
    // Who is there before is a member when it is on.
    let _ada = enter(&host, "stream", "ada", None);
    host.publish("room", "<served>");
    for follower in &mut followers {
        follower.until_text("<served>");
    }
    let mut messages = Vec::new();
    for _ in 0..2 {
        poll.send("");
        reload(&host, &[NEVER]);
        followers.iter_mut().for_each(|follower| follower.until("ada"));
        while poll.rooms.shown("room") != "ada" {
            messages.extend(poll.answer());
            poll.send("");
        }
        reload(&host, &off);
        followers.iter_mut().for_each(|follower| follower.until("off"));
        while poll.rooms.shown("room") != "off" {
            messages.extend(poll.answer());
            if poll.rooms.shown("room") != "off" {
                poll.send("");
            }
        }
    }
    assert!(messages.len() <= 1, "{messages:?}");
    host.stop();
}

#[test]
fn who_does_not_ask_is_told_nothing() {
    let host = start(&[AT_ONCE]);
    let mut quiet = ["ws", "stream", "sse"]
        .map(|transport| ["channel=room", "channel=room&presence=0"].map(|query| ask(&host, transport, None, query)));
    let mut follower = Follower::new(&host, "stream", None, "");
    subscriptions(&host, 7);
    let ada = enter(&host, "stream", "ada", None);
    follower.until("ada");
    drop(ada);
    follower.until("");
    host.publish("room", "<end>");
    for client in quiet.iter_mut().flatten() {
        let got = client.until("<end>");
        assert!(!got.contains("presence") && !got.contains("join") && !got.contains("leave"), "{got}");
    }
    // Nor is a poll, or a version told.
    let position = host.server.position(0);
    for query in ["", "&presence=0"] {
        let mut poll = ask(&host, "poll", None, &format!("channel=room&since={position}{query}"));
        let (_, body) = poll.response();
        assert!(body.contains("<end>") && !body.contains("presence"), "{body}");
    }
    host.stop();
}
