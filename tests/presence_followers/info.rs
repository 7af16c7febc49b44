//! What a grant or a token says of its user.

use super::common::{field, Client};
use super::followers::{enter, grant, Follower, Poller, FOLLOWING};
use super::{start, subscriptions, AT_ONCE, NEVER};
use push::error::Kind;
use push::grant::{Grant, Terms};
use serde_json::{json, Value};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const BY_TOKEN: [(&str, &str); 2] = [("auth", "jwt"), ("jwt_secret", SECRET)];

/// A token of ada with these claims beside.
fn token(more: Value) -> String {
    use jsonwebtoken::{encode, EncodingKey, Header};
    let mut claims = json!({"sub": "ada", "exp": 4_000_000_000_u64, "push": {"subscribe": ["*"]}});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

#[test]
fn a_host_is_told_what_is_wrong_with_it() {
    let of = |user, info: &str| Grant::of(&Terms { user, info: Some(info), ..Terms::default() });
    let (longest, long) = ("\u{fc}".repeat(512), "x".repeat(1025));
    assert_eq!(of(Some("ada"), &longest).unwrap().info(), Some(&*longest));
    assert_eq!(grant(Some("ada"), None).info(), None);
    for (user, info, why) in [
        (Some("ada"), &*long, "1024"),
        (Some("ada"), "a\0b", "info"),
        (Some("ada"), "a\nb", "info"),
        (Some("ada"), "", "info"),
        (None, "of nobody", "user"),
    ] {
        let error = of(user, info).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains(why), "{info:?}: {error}");
    }
}

#[test]
fn the_newest_connection_says_what_is_told_and_a_join_comes_again() {
    let host = start(&[AT_ONCE]);
    let mut followers = FOLLOWING.map(|transport| Follower::new(&host, transport, None, ""));
    let mut poll = Poller::new(&host, None, "");
    let bob = enter(&host, "stream", "bob", None);
    let mut tabs: Vec<Client> = Vec::new();
    let longest = "\u{1f600}".repeat(256);
    for (info, shown) in [
        (None, "ada bob".to_owned()),
        (Some("one"), "ada=one bob".to_owned()),
        (Some("two"), "ada=two bob".to_owned()),
        (Some(&*longest), format!("ada={longest} bob")),
        (None, "ada bob".to_owned()),
        (Some("last"), "ada=last bob".to_owned()),
    ] {
        tabs.push(enter(&host, "sse", "ada", info));
        for follower in &mut followers {
            follower.until(&shown);
            assert_eq!(follower.rooms.count("room"), Some(2));
        }
        poll.until(&shown);
    }
    // The same again is no news, and neither is the end of another tab.
    tabs.push(enter(&host, "stream", "ada", Some("last")));
    let before = followers.each_ref().map(|follower| follower.rooms.told_of("join", "ada"));
    drop(tabs.remove(0));
    subscriptions(&host, 4 + 1 + 6);
    let _zoe = enter(&host, "stream", "zoe", None);
    for (follower, joins) in followers.iter_mut().zip(before) {
        follower.until("ada=last bob zoe");
        assert_eq!(follower.rooms.told_of("join", "ada"), joins, "{:?}", follower.rooms.told);
        assert_eq!(follower.rooms.told_of("leave", "ada"), 0);
    }
    drop((tabs, bob));
    followers[0].until("zoe");
    host.stop();
}

#[test]
fn who_comes_back_with_another_info_is_told_so() {
    let host = start(&[NEVER]);
    let mut follower = Follower::new(&host, "ws", None, "");
    for info in [Some("one"), Some("two"), None, Some("three")] {
        let ada = enter(&host, "stream", "ada", info);
        follower.until(&info.map_or("ada".to_owned(), |info| format!("ada={info}")));
        drop(ada);
        subscriptions(&host, 1);
    }
    assert_eq!(follower.rooms.told_of("leave", "ada"), 0);
    host.stop();
}

#[test]
fn a_token_says_it() {
    let host = start(&[&BY_TOKEN[..], &[NEVER]].concat());
    let odd = "{\"name\":\"Ada \u{1f600}\"}";
    let query =
        |info: Value| format!("channel=room&presence=1&transport=stream&token={}", token(json!({"push.info": info})));
    let mut follower = Follower::of(host.get(&query(odd.into()), ""), "stream");
    follower.until(&format!("ada={odd}"));
    let longest = "x".repeat(1024);
    let _tab = host.get(&query(longest.clone().into()), "");
    follower.until(&format!("ada={longest}"));
    let _bob = host.get(&format!("channel=room&transport=sse&token={}", token(json!({"sub": "bob"}))), "");
    follower.until(&format!("ada={longest} bob"));
    for (wrong, why) in [
        (json!({"push.info": "x".repeat(1025)}), "1024"),
        (json!({"push.info": ""}), "info"),
        (json!({"push.info": "a\u{0}b"}), "info"),
        (json!({"push.info": 7}), "info"),
        (json!({"push.info": true}), "info"),
        (json!({"push.info": ["x"]}), "info"),
        (json!({"push.info": {"name": "ada"}}), "info"),
        (json!({"push.info": "x", "sub": null}), "user"),
    ] {
        for query in ["channel=room&presence=1", "channel=room"] {
            let (head, body) = host.get(&format!("{query}&token={}", token(wrong.clone())), "").response();
            assert!(head.starts_with("HTTP/1.1 401 "), "{wrong}: {head}{body}");
            assert!(body.contains(why), "{wrong}: {body}");
        }
    }
    host.stop();
}

#[test]
fn a_new_token_on_a_live_connection_says_it_anew() {
    let host = start(&[&BY_TOKEN[..], &[NEVER]].concat());
    let with = |info: &str| token(json!({"push.info": info}));
    let mut tab = host.websocket(&format!("channel=room&token={}", with("one")), true);
    assert_eq!(field(&tab.text(), "type"), "subscribed");
    let observer = token(json!({"sub": null}));
    let client = host.get(&format!("channel=room&presence=1&transport=stream&token={observer}"), "");
    let mut follower = Follower::of(client, "stream");
    follower.until("ada=one");
    for info in ["two", "three"] {
        tab.say(&format!(r#"{{"type":"token","token":"{}"}}"#, with(info)));
        assert_eq!(field(&tab.text(), "type"), "token");
        follower.until(&format!("ada={info}"));
    }
    // One that is refused changes nothing, and the connection goes on.
    tab.say(&format!(r#"{{"type":"token","token":"{}"}}"#, with(&"x".repeat(1025))));
    assert_eq!(field(&tab.text(), "type"), "error");
    let _bob = host.get(&format!("channel=room&transport=sse&token={}", token(json!({"sub": "bob"}))), "");
    follower.until("ada=three bob");
    host.stop();
}
