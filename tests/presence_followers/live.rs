//! Subscribing and unsubscribing on a live connection of push.v1.json.

use super::common::{field, Host};
use super::followers::{ask, enter, Follower};
use super::{members, start, AT_ONCE, NEVER};

/// A live connection that has no channel with presence.
fn connect(host: &Host, user: Option<&str>) -> Follower {
    let client = ask(host, "ws", user, "channel=other");
    let mut follower = Follower::of(client, "ws");
    follower.until_text("subscribed");
    follower
}

fn subscribe(follower: &mut Follower, more: &str) {
    follower.client.say(&format!(r#"{{"type":"subscribe","channel":"room"{more}}}"#));
    let told = follower.until_text(r#"{"type":"subscribed","#);
    assert!(told.last().unwrap().contains(r#""channel":"room""#), "{told:?}");
}

fn unsubscribe(follower: &mut Follower) {
    follower.client.say(r#"{"type":"unsubscribe","channel":"room"}"#);
    follower.until_text(r#"{"type":"unsubscribed","channel":"room""#);
}

#[test]
fn a_subscription_may_follow_and_makes_a_member_in_either_case() {
    let host = start(&[AT_ONCE]);
    host.publish("room", "<before>");
    let mut witness = Follower::new(&host, "stream", None, "");
    for more in ["", r#","presence":false"#, r#","presence":null"#, r#","presence":true,"since":"start""#] {
        let mut ada = connect(&host, Some("ada"));
        subscribe(&mut ada, more);
        witness.until("ada");
        let bob = enter(&host, "sse", "bob", None);
        witness.until("ada bob");
        if more.contains("true") {
            ada.until("ada bob");
        }
        drop(bob);
        witness.until("ada");
        if more.contains("true") {
            ada.until("ada");
        }
        unsubscribe(&mut ada);
        witness.until("");
        let carl = enter(&host, "sse", "carl", None);
        witness.until("carl");
        host.publish("other", "<end>");
        let told = ada.rooms.told.len();
        ada.until_text("<end>");
        assert_eq!(ada.rooms.told.len(), told, "who has left the channel is told no more: {:?}", ada.rooms.told);
        assert_eq!(told > 0, more.contains("true"), "{:?}", ada.rooms.told);
        drop(carl);
        witness.until("");
    }
    host.stop();
}

#[test]
fn the_first_list_comes_behind_subscribed_each_time() {
    let host = start(&[NEVER]);
    let ada = enter(&host, "stream", "ada", None);
    (0..20).for_each(|n| drop(host.publish("room", &format!("<{n}>"))));
    members(&host, 1);
    let mut follower = connect(&host, None);
    for more in ["", r#","since":"start""#, r#","last":3"#, ""] {
        subscribe(&mut follower, &format!(r#","presence":true{more}"#));
        assert_eq!(follower.rooms.told, [""; 0]);
        follower.until("ada");
        unsubscribe(&mut follower);
        follower.rooms = Default::default();
    }
    drop(ada);
    host.stop();
}

#[test]
fn what_a_request_may_not_say_is_refused_and_the_connection_goes_on() {
    let host = start(&[NEVER, ("max_patterns", "3")]);
    let mut client = connect(&host, Some("ada")).client;
    for (request, code, why) in [
        (r#""channel":"room","presence":1"#, "malformed", "presence must be true or false"),
        (r#""channel":"room","presence":"true""#, "malformed", "presence must be true or false"),
        (r#""channel":"room","presence":[]"#, "malformed", "presence must be true or false"),
        (r#""pattern":"ro*","presence":true"#, "presence", "presence"),
    ] {
        client.say(&format!(r#"{{"type":"subscribe",{request}}}"#));
        let told = client.text();
        assert_eq!((field(&told, "type"), field(&told, "code")), ("error".into(), code.into()), "{request}: {told}");
        assert!(field(&told, "message").contains(why), "{request}: {told}");
    }
    assert_eq!(host.server.stats().unwrap().patterns, 0);
    client.say(r#"{"type":"subscribe","pattern":"ro*","presence":false}"#);
    assert_eq!(field(&client.text(), "type"), "subscribed");
    client.say(r#"{"type":"subscribe","channel":"room","presence":true}"#);
    assert_eq!(field(&client.text(), "type"), "subscribed");
    assert_eq!(client.text(), r#"{"type":"presence","channel":"room","users":[{"user":"ada"}],"count":1}"#);
    host.stop();
}

#[test]
fn the_url_speaks_for_the_channels_that_it_names() {
    let host = start(&[AT_ONCE, ("channel.later.presence", "true")]);
    let mut follower = Follower::new(&host, "ws", None, "");
    follower.until("");
    follower.client.say(r#"{"type":"subscribe","channel":"later"}"#);
    follower.until_text(r#"{"type":"subscribed","channel":"later""#);
    let _ada = ask(&host, "stream", Some("ada"), "channel=later&channel=room");
    follower.until("ada");
    host.publish("later", "<end>");
    follower.until_text("<end>");
    assert_eq!(follower.rooms.shown("later"), "?");
    host.stop();
}
