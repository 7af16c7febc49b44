//! Long-polls that follow: versions, what answers one that waits, and what lies between two.

use super::common::{until, Host};
use super::followers::{ask, enter, Follower, Poller};
use super::{members, start, subscriptions, AT_ONCE, NEVER};

/// Waits until a poll waits.
fn waits(host: &Host) {
    until("the poll does not wait", || host.server.stats().unwrap().polls == 1);
}

/// Polls until there is nothing new, and it would wait.
fn settle(poll: &mut Poller) {
    until("there is always something new", || {
        let told = poll.rooms.told.len();
        poll.poll("&wait=0");
        poll.rooms.told.len() == told
    });
}

#[test]
fn the_first_answer_comes_at_once_and_each_change_answers_the_next() {
    let host = start(&[AT_ONCE]);
    let mut poll = Poller::new(&host, None, "");
    assert_eq!(poll.poll(""), [""; 0]);
    assert_eq!((poll.rooms.shown("room"), poll.rooms.told.len()), (String::new(), 1));
    poll.send("");
    waits(&host);
    let ada = enter(&host, "stream", "ada", None);
    assert_eq!(poll.answer(), [""; 0]);
    poll.until("ada");
    let bob = enter(&host, "ws", "bob", Some("x"));
    poll.until("ada bob=x");
    settle(&mut poll);
    poll.send("");
    waits(&host);
    drop(bob);
    poll.answer();
    poll.until("ada");
    drop(ada);
    poll.until("");
    host.stop();
}

#[test]
fn a_message_answers_as_well_and_nothing_is_told_twice() {
    let host = start(&[NEVER]);
    let mut poll = Poller::new(&host, Some("ada"), "");
    poll.until("ada");
    settle(&mut poll);
    let told = poll.rooms.told.len();
    for data in ["<1>", "<2>", "<3>"] {
        poll.send("");
        waits(&host);
        host.publish("room", data);
        assert_eq!(poll.answer(), [data]);
    }
    // It has the newest version, and so no answer had a list.
    assert_eq!(poll.rooms.told.len(), told, "{:?}", poll.rooms.told);
    let _bob = enter(&host, "stream", "bob", None);
    poll.until("ada bob");
    settle(&mut poll);
    host.publish("room", "<4>");
    assert_eq!(poll.poll(""), ["<4>"]);
    host.stop();
}

#[test]
fn what_changes_between_two_polls_answers_the_second_at_once() {
    let host = start(&[AT_ONCE]);
    let mut witness = Follower::new(&host, "stream", None, "");
    witness.until("");
    let mut poll = Poller::new(&host, None, "");
    poll.until("");
    let mut there = Vec::new();
    for name in ["ada", "bob", "carl"] {
        there.push(enter(&host, "stream", name, None));
        let all = witness.rooms.shown("room");
        witness.until(format!("{all} {name}").trim_start());
        // Nothing changes any more when it asks.
        poll.poll("");
        assert_eq!(poll.rooms.shown("room"), witness.rooms.shown("room"));
    }
    drop(there);
    witness.until("");
    poll.poll("");
    assert_eq!(poll.rooms.shown("room"), "");
    host.stop();
}

#[test]
fn a_poll_that_does_not_wait_is_told_what_has_changed() {
    let host = start(&[AT_ONCE]);
    let mut witness = Follower::new(&host, "stream", None, "");
    let ada = enter(&host, "stream", "ada", None);
    witness.until("ada");
    let mut poll = Poller::new(&host, None, "");
    poll.poll("&wait=0");
    assert_eq!((poll.rooms.shown("room"), poll.rooms.told.len()), ("ada".into(), 1));
    for _ in 0..3 {
        assert_eq!(poll.poll("&wait=0"), [""; 0]);
    }
    assert_eq!(poll.rooms.told.len(), 1, "nothing has changed");
    drop(ada);
    witness.until("");
    poll.poll("&wait=0");
    assert_eq!((poll.rooms.shown("room"), poll.rooms.told.len()), (String::new(), 2));
    host.stop();
}

#[test]
fn a_version_of_another_life_gets_the_list_at_once() {
    let (host, other) = (start(&[NEVER]), start(&[NEVER]));
    let _ada = enter(&host, "stream", "ada", None);
    let _there = ["bob", "carl"].map(|name| enter(&other, "stream", name, None));
    members(&other, 2);
    let mut of_other = Poller::new(&other, None, "");
    of_other.until("bob carl");
    let mut poll = Poller::new(&host, None, "");
    poll.until("ada");
    let life = poll.version.split_once('-').unwrap().0;
    // The last one is of this life, which has not come so far.
    let ahead = format!("{life}-{}", u64::MAX);
    for version in [of_other.version, "1".into(), "0-0".into(), format!("{}-1", "z".repeat(38)), ahead] {
        let told = poll.rooms.told.len();
        poll.version.clone_from(&version);
        poll.poll("");
        assert_eq!((poll.rooms.told.len(), &*poll.rooms.shown("room")), (told + 1, "ada"), "{version}");
        // It goes on with the version that it got.
        poll.poll("&wait=0");
        assert_eq!(poll.rooms.told.len(), told + 1, "{version}");
    }
    host.stop();
    other.stop();
}

#[test]
fn who_polls_is_a_member_between_two_polls_and_leaves_after_them() {
    let host = start(&[NEVER]);
    let mut follower = Follower::new(&host, "stream", None, "");
    let mut ada = Poller::new(&host, Some("ada"), "");
    ada.until("ada");
    follower.until("ada");
    let mut known = "ada".to_owned();
    for n in 0..5 {
        settle(&mut ada);
        ada.send("");
        waits(&host);
        host.publish("room", "answers it");
        ada.answer();
        subscriptions(&host, 1);
        // Between two polls somebody else joins, and then all before that was told.
        let marker = enter(&host, "stream", &format!("z{n}"), None);
        known += &format!(" z{n}");
        follower.until(&known);
        drop(marker);
        subscriptions(&host, 1);
        ada.until(&known);
    }
    assert_eq!((follower.rooms.told_of("leave", "ada"), follower.rooms.told_of("join", "ada") <= 1), (0, true));
    drop(ada);
    super::reload(&host, &[AT_ONCE]);
    follower.until("");
    host.stop();
}

#[test]
fn a_poll_that_is_answered_at_once_makes_a_member() {
    let host = start(&[NEVER]);
    let since = host.publish("room", "<0>");
    host.publish("room", "<1>");
    let mut follower = Follower::new(&host, "stream", None, "");
    let ask = |user, query: &str| {
        let (head, body) = ask(&host, "poll", Some(user), query).response();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body
    };
    assert!(ask("ada", &format!("channel=room&since={since}")).contains("<1>"));
    follower.until("ada");
    assert!(ask("bob", "channel=room&wait=0").contains(r#""messages":[]"#));
    follower.until("ada bob");
    // One that follows is in its own list.
    assert!(ask("carl", "channel=room&presence=1&wait=0").contains(r#"{"user":"carl"}],"count":3}"#));
    follower.until("ada bob carl");
    assert!(ask("dora", "channel=room&presence=1").contains(r#"{"user":"dora"}],"count":4}"#));
    follower.until("ada bob carl dora");
    host.stop();
}

#[test]
fn a_poll_follows_each_of_its_channels() {
    let host = start(&[AT_ONCE, ("channel.other.presence", "true")]);
    let mut poll = Poller::new(&host, None, "channel=other&channel=quiet");
    poll.poll("");
    assert_eq!(["room", "other", "quiet"].map(|channel| poll.rooms.shown(channel)), ["", "", "off"]);
    let _ada = ask(&host, "stream", Some("ada"), "channel=other&channel=room");
    while poll.rooms.shown("other") != "ada" || poll.rooms.shown("room") != "ada" {
        poll.poll("");
    }
    let off = poll.rooms.told.iter().filter(|text| text.contains("quiet")).count();
    assert_eq!(off, 1, "only what has changed is told: {:?}", poll.rooms.told);
    host.stop();
}

#[test]
fn a_poll_gets_a_number_where_there_are_many() {
    let host = start(&[AT_ONCE, ("presence_detail", "2")]);
    let mut poll = Poller::new(&host, None, "");
    let mut there = Vec::new();
    for (name, shown) in [("a", "a"), ("b", "a b"), ("c", "#3"), ("d", "#4")] {
        there.push(enter(&host, "stream", name, None));
        poll.until(shown);
    }
    for shown in ["#3", "a b", "a", ""] {
        drop(there.pop());
        poll.until(shown);
    }
    host.stop();
}
