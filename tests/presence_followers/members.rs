//! Who is a member, and until when.

use super::common::{adopted, field, Client, Host, PATIENCE};
use super::followers::{ask, enter, grant, head, is_served, Follower};
use super::{members, reload, start, subscriptions, AT_ONCE, NEVER};
use push::events::EventKind;
use push::grant::{Grant, Terms};

/// Lets others come one after the other, until the follower knows of each. What happened before has been told by then.
fn mark(host: &Host, follower: &mut Follower, before: &str, name: &str) -> Client {
    let marker = enter(host, "stream", name, None);
    follower.until(format!("{before} {name}").trim_start());
    marker
}

#[test]
fn a_user_is_a_member_over_any_transport() {
    let host = start(&[AT_ONCE]);
    let mut follower = Follower::new(&host, "stream", None, "");
    follower.until("");
    for transport in ["ws", "raw", "sse", "stream", "poll"] {
        for query in ["channel=room", "channel=x&channel=room", "channel=room&channel=x"] {
            let client = ask(&host, transport, Some("ada"), query);
            follower.until("ada");
            drop(client);
            follower.until("");
        }
    }
    members(&host, 0);
    host.stop();
}

#[test]
fn a_follower_is_in_its_own_list_if_it_has_a_user() {
    let host = start(&[NEVER]);
    for (user, transport) in [("ada", "ws"), ("bob", "stream"), ("carl", "sse"), ("dora", "sse-raw")] {
        let mut follower = Follower::new(&host, transport, Some(user), "");
        while !follower.rooms.shown("room").ends_with(user) {
            follower.object();
        }
        let first = &follower.rooms.told[0];
        assert!(first.contains(&format!(r#"{{"user":"{user}"}}],"count":"#)), "{transport}: {first}");
    }
    host.stop();
}

#[test]
fn connections_without_a_user_follow_and_are_no_members() {
    let host = start(&[AT_ONCE]);
    let mut followers = ["ws", "stream", "sse"].map(|transport| Follower::new(&host, transport, None, ""));
    subscriptions(&host, 3);
    let _ada = enter(&host, "stream", "ada", None);
    for follower in &mut followers {
        follower.until("ada");
    }
    members(&host, 1);
    host.stop();
}

/// The library's own subscribers (Go's `Subscribe`) have such names, and are no visitors.
#[test]
fn a_user_whose_name_ends_in_a_star_follows_and_is_no_member() {
    let host = start(&[AT_ONCE]);
    let mut follower = Follower::new(&host, "ws", Some("go:1234*"), "");
    let _service = enter(&host, "sse", "service*", None);
    let _ada = enter(&host, "stream", "ada", None);
    follower.until("ada");
    assert!(follower.rooms.told.iter().all(|text| !text.contains('*')), "{:?}", follower.rooms.told);
    members(&host, 1);
    host.stop();
}

#[test]
fn a_second_connection_is_no_join_and_its_end_is_no_leave() {
    let host = start(&[AT_ONCE]);
    let mut follower = Follower::new(&host, "ws", None, "");
    let first = enter(&host, "stream", "ada", None);
    follower.until("ada");
    let joins = follower.rooms.told_of("join", "ada");
    let mut others: Vec<Client> = Vec::new();
    for transport in ["ws", "raw", "sse", "stream"] {
        others.push(enter(&host, transport, "ada", None));
    }
    subscriptions(&host, 6);
    let zoe = mark(&host, &mut follower, "ada", "zoe");
    drop(others);
    subscriptions(&host, 3);
    let zora = mark(&host, &mut follower, "ada zoe", "zora");
    // The first one goes, and another one stays.
    let _last = enter(&host, "sse", "ada", None);
    drop(first);
    subscriptions(&host, 4);
    let _zuse = mark(&host, &mut follower, "ada zoe zora", "zuse");
    assert_eq!((follower.rooms.told_of("join", "ada"), follower.rooms.told_of("leave", "ada")), (joins, 0));
    drop((zoe, zora));
    follower.until("ada zuse");
    assert_eq!(follower.rooms.told_of("leave", "ada"), 0);
    host.stop();
}

#[test]
fn who_comes_back_in_time_has_not_left() {
    let host = start(&[NEVER]);
    let mut follower = Follower::new(&host, "stream", None, "");
    let mut ada = enter(&host, "ws", "ada", None);
    follower.until("ada");
    let mut known = "ada".to_owned();
    for (transport, name) in [("sse", "z1"), ("stream", "z2"), ("raw", "z3")] {
        drop(ada);
        subscriptions(&host, 1);
        members(&host, known.split(' ').count() as u64);
        ada = enter(&host, transport, "ada", None);
        drop(mark(&host, &mut follower, &known, name));
        known += &format!(" {name}");
        subscriptions(&host, 2);
    }
    assert_eq!((follower.rooms.told_of("leave", "ada"), follower.rooms.told.len() <= 5), (0, true));
    // A shorter time counts for those as well who have gone already.
    drop(ada);
    subscriptions(&host, 1);
    let _yan = enter(&host, "stream", "yan", None);
    follower.until("ada yan z1 z2 z3");
    reload(&host, &[AT_ONCE]);
    follower.until("yan");
    members(&host, 1);
    host.stop();
}

#[test]
fn who_does_not_come_back_leaves_after_the_time() {
    let host = start(&[("presence_grace", "100ms")]);
    let mut follower = Follower::new(&host, "sse", None, "");
    for transport in ["ws", "raw", "sse", "stream"] {
        let ada = enter(&host, transport, "ada", None);
        follower.until("ada");
        drop(ada);
        follower.until("");
    }
    host.stop();
}

#[test]
fn a_pattern_makes_no_member_and_follows_nothing() {
    let host = start(&[AT_ONCE, ("max_patterns", "3")]);
    let mut follower = Follower::new(&host, "ws", None, "");
    let mut by_pattern = Follower::of(ask(&host, "stream", Some("ada"), "pattern=ro*&presence=1"), "stream");
    let mut both = Follower::new(&host, "stream", Some("bob"), "pattern=ro*");
    follower.until("bob");
    let zoe = mark(&host, &mut follower, "bob", "zoe");
    both.until("bob zoe");
    drop(zoe);
    follower.until("bob");
    both.until("bob");
    assert!(follower.rooms.told.iter().all(|text| !text.contains("ada")), "{:?}", follower.rooms.told);
    host.publish("room", "<end>");
    by_pattern.until_text("<end>");
    assert_eq!(by_pattern.rooms.told, [""; 0]);
    host.stop();
}

#[test]
fn a_grant_that_subscribes_makes_a_member_and_follows() {
    let host = start(&[AT_ONCE]);
    let names = ["room".to_owned(), "other".to_owned()];
    let given = |user| Grant::of(&Terms { user: Some(user), subscribe: &names, ..Terms::default() }).unwrap();
    let adopt = |user, transport: &'static str, query: &str| {
        Follower::of(adopted(&host.server, &head(transport, query), Some(given(user))), transport)
    };
    for transport in ["ws", "stream", "sse"] {
        let mut ada = adopt("ada", transport, "presence=1");
        ada.until("ada");
        ada.until_in("other", "off");
        let bob = adopt("bob", "raw", "channel=ignored");
        ada.until("ada bob");
        drop(bob);
        ada.until("ada");
        drop(ada);
        members(&host, 0);
    }
    host.stop();
}

#[test]
fn what_takes_a_channel_away_ends_a_member() {
    let host = start(&[AT_ONCE]);
    let mut follower = Follower::new(&host, "ws", None, "");
    follower.until("");
    for transport in ["ws", "raw", "sse", "stream", "poll"] {
        for query in ["channel=room", "channel=room&channel=other"] {
            let _ada = ask(&host, transport, Some("ada"), query);
            follower.until("ada");
            host.server.revoke_channel("ada", "room", "moved").unwrap();
            follower.until("");
            let _bob = ask(&host, transport, Some("bob"), query);
            follower.until("bob");
            host.server.disconnect_user("bob", 4403, "out").unwrap();
            follower.until("");
        }
    }
    host.stop();
}

#[test]
fn what_is_taken_away_and_given_back_in_time_is_no_leave() {
    let host = start(&[NEVER]);
    let mut follower = Follower::new(&host, "ws", None, "");
    let mut ada = enter(&host, "ws", "ada", None);
    assert_eq!(field(&ada.text(), "type"), "subscribed");
    follower.until("ada");
    for kind in ["unsubscribe", "subscribe"] {
        ada.say(&format!(r#"{{"type":"{kind}","channel":"room"}}"#));
        assert_eq!(field(&ada.text(), "type"), format!("{kind}d"));
    }
    host.server.disconnect_user("ada", 4403, "").unwrap();
    subscriptions(&host, 1);
    let _ada = enter(&host, "ws", "ada", None);
    let _zoe = mark(&host, &mut follower, "ada", "zoe");
    assert_eq!((follower.rooms.told_of("leave", "ada"), follower.rooms.told_of("join", "ada") <= 1), (0, true));
    host.stop();
}

#[test]
fn a_renewed_grant_may_have_another_user() {
    let host = start(&[AT_ONCE]);
    let mut follower = Follower::new(&host, "stream", None, "");
    follower.until("");
    // From now on connections are told.
    host.server.event_fd().unwrap();
    for transport in ["ws", "raw", "sse", "stream"] {
        let mut client = adopted(&host.server, &head(transport, "channel=room"), Some(grant(None, None)));
        is_served(&mut client);
        let opened = loop {
            let event = host.server.next_event(Some(PATIENCE)).unwrap();
            if event.kind == EventKind::Open {
                break event.connection;
            }
        };
        for (user, info, shown) in [
            (Some("ada"), None, "ada"),
            (Some("bob"), None, "bob"),
            (Some("bob"), Some("away"), "bob=away"),
            (None, None, ""),
        ] {
            host.server.renew(opened, grant(user, info)).unwrap();
            follower.until(shown);
        }
    }
    host.stop();
}

#[test]
fn the_channel_of_a_user_has_no_presence() {
    let host = start(&[AT_ONCE, ("user_channel", "true"), ("channel.*.presence", "true")]);
    for transport in ["ws", "stream", "sse"] {
        let mut ada = Follower::new(&host, transport, Some("ada"), "");
        ada.until("ada");
        let again = enter(&host, "stream", "ada", None);
        let bob = enter(&host, "stream", "bob", None);
        ada.until("ada bob");
        drop((again, bob));
        ada.until("ada");
        assert!(["?", "off"].contains(&&*ada.rooms.shown("user:ada")), "{:?}", ada.rooms.told);
        assert!(ada.rooms.told.iter().all(|text| !text.contains(r#""channel":"user:ada","users""#)));
        members(&host, 1);
        drop(ada);
        members(&host, 0);
    }
    host.stop();
}
