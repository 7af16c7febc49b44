//! The channel that each user has (option `user_channel`): over all transports, with history and positions; the names that
//! no client and no grant may have; users with odd names; grants that change.

mod common;

use common::folder::Folder;
use common::{eventually, field, Client, Host, CONTROL, PATIENCE, UPGRADE};
use push::error::Kind;
use push::events::EventKind;
use push::grant::{Grant, Terms};
use push::hub::{Mark, Publication};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

const ON: (&str, &str) = ("user_channel", "true");
const JSON: &str = "Sec-WebSocket-Protocol: push.v1.json\r\n";
const TRANSPORTS: [&str; 5] = ["ws", "raw", "sse", "stream", "poll"];
/// What a client or a host is told that names a user's channel.
const NOT_YOURS: &str = "names that begin with user: belong to the library (option user_channel)";

/// A client of one of the transports, which has sent its request. `raw`: a WebSocket without a subprotocol.
fn open(host: &Host, transport: &str, grant: Grant, query: &str) -> Client {
    let lines = match transport {
        "ws" => format!("{UPGRADE}{JSON}"),
        "raw" => UPGRADE.to_owned(),
        _ => String::new(),
    };
    let name = if transport == "raw" { "ws" } else { transport };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let head = format!("GET /push?transport={name}&format=json&{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    host.server.adopt(theirs.into(), head.as_bytes(), Some(grant)).unwrap();
    Client::over(OwnedFd::from(ours).into())
}

/// An open WebSocket of push.v1.json, behind all confirmations.
fn json(host: &Host, grant: Grant, query: &str, channels: &[&str]) -> Client {
    let mut client = open(host, "ws", grant, query);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for channel in channels {
        let told = client.text();
        assert_eq!((field(&told, "type"), field(&told, "channel")), ("subscribed".into(), channel.to_string()));
    }
    client
}

/// A grant of a user with these names and patterns, to which the client may publish as well.
fn grant(user: Option<&str>, channels: &[&str]) -> Grant {
    let channels: Vec<String> = channels.iter().map(|text| text.to_string()).collect();
    Grant::new(user, &[], &channels, 0, true, false).unwrap()
}

fn to_user(host: &Host, user: &str, data: &str) -> String {
    let placed = host.server.publish_user(user, &Publication::new("", data.as_bytes())).unwrap();
    host.server.position_of(&placed)
}

/// Publishes to ada, whose client gets it.
fn ada_gets(host: &Host, client: &mut Client, data: &str) {
    to_user(host, "ada", data);
    assert_eq!(field(&client.text(), "data"), data);
}

fn subscriptions(host: &Host, count: u64) {
    eventually(|| host.server.stats().unwrap().subscriptions == count);
}

#[test]
fn all_connections_of_a_user_get_it_beside_their_channels_and_without_any() {
    let host = Host::start(&[ON, ("threads", "2")]);
    for (query, channels) in [("", 0), ("channel=news&channel=more", 2)] {
        let hers = || grant(Some("ada"), &["news", "more"]);
        let mut clients = TRANSPORTS.map(|transport| open(&host, transport, hers(), query));
        let mut other = open(&host, "stream", grant(Some("bob"), &[]), "");
        subscriptions(&host, 5 * (channels + 1) + 1);
        let position = to_user(&host, "ada", "hello");
        for (client, transport) in clients.iter_mut().zip(TRANSPORTS) {
            let before = client.until("hello");
            let is_named = before.contains(&format!(r#""channel":"user:ada","id":"{position}","data":""#));
            assert_eq!(is_named, transport != "raw", "{transport}: {before}");
        }
        to_user(&host, "bob", "not hers");
        assert!(!other.until("not hers").contains("hello"));
        drop((clients, other));
        subscriptions(&host, 0);
    }
    host.stop();
}

#[test]
fn a_client_goes_on_from_its_position_without_naming_the_channel() {
    let host = Host::start(&[&[ON, ("channel.user:tiny.history_count", "1")][..], &CONTROL].concat());
    let start = host.publish("news", "before");
    to_user(&host, "ada", "one");
    host.publish("news", "two");
    to_user(&host, "bob", "not hers");
    for transport in TRANSPORTS {
        let last = to_user(&host, "ada", "three");
        let get = |query: &str| open(&host, transport, grant(Some("ada"), &["news"]), query);
        let mut both = get(&format!("channel=news&since={start}"));
        let got = both.until("three");
        assert!(got.contains("one") && got.contains("two") && !got.contains("not hers"), "{transport}: {got}");
        assert!(!got.contains("before"), "{transport}: {got}");
        let got = get(&format!("since={start}")).until("three");
        assert!(got.contains("one") && !got.contains("two"), "{transport}: {got}");
        let got = get("last=1").until("three");
        assert!(!got.contains("one"), "{transport}: {got}");
        let got = get("since=start").until("three");
        assert!(got.contains("one") && !got.contains("two"), "{transport}: {got}");
        // One that has everything waits for what comes.
        drop(both);
        subscriptions(&host, 0);
        let mut late = get(&format!("since={last}"));
        subscriptions(&host, 1);
        to_user(&host, "ada", "four");
        let got = late.until("four");
        assert!(!got.contains("three"), "{transport}: {got}");
        drop(late);
        subscriptions(&host, 0);
    }
    // What is no longer kept is a gap.
    let first = to_user(&host, "tiny", "1");
    (2..4).for_each(|n| drop(to_user(&host, "tiny", &n.to_string())));
    let mut poll = open(&host, "poll", grant(Some("tiny"), &[]), &format!("since={first}"));
    let (_, answer) = poll.response();
    assert!(answer.contains(r#"{"type":"gap","channel":"user:tiny""#) && answer.contains(r#""data":"3""#), "{answer}");
    assert!(host.control("/v1/channels").contains(r#""channel":"user:tiny""#));
    host.stop();
}

#[test]
fn no_client_names_the_channel_of_a_user() {
    let host = Host::start(&[ON, ("client_publish", "true")]);
    to_user(&host, "bob", "secret");
    for name in ["user:bob", "user:ada", "user:", "user%3Abob", "%75ser:bob", "user:*x"] {
        for transport in TRANSPORTS {
            for more in ["", "&channel=news", "&last=1"] {
                for user in [Some("ada"), None] {
                    let query = format!("channel={name}{more}");
                    let mut client = open(&host, transport, grant(user, &["*", "u*"]), &query);
                    let answer = client.rest();
                    assert!(answer.starts_with("HTTP/1.1 403 "), "{transport} {query}: {answer}");
                    assert!(answer.contains(NOT_YOURS) && !answer.contains("secret"), "{transport} {query}: {answer}");
                }
            }
        }
        // Nor does a client whose grant nobody has asked for.
        assert!(host.get(&format!("channel={name}&last=1"), "").rest().starts_with("HTTP/1.1 403 "), "{name}");
    }
    let mut client = json(&host, grant(Some("ada"), &["*", "u*"]), "channel=news", &["news", "user:ada"]);
    for channel in ["user:bob", "user:ada", "user:", "user:b*", "user:\u{e9}"] {
        for (request, code) in [
            (format!(r#"{{"type":"subscribe","channel":"{channel}","last":1}}"#), "channel"),
            (format!(r#"{{"type":"unsubscribe","channel":"{channel}"}}"#), "channel"),
            (format!(r#"{{"type":"publish","channel":"{channel}","data":"forged"}}"#), "publish"),
        ] {
            client.say(&request);
            let told = client.text();
            assert_eq!(
                (field(&told, "type"), field(&told, "code")),
                ("error".into(), code.into()),
                "{request}: {told}"
            );
            assert_eq!(field(&told, "channel"), channel);
            assert!(told.contains(NOT_YOURS), "{told}");
        }
    }
    // It still has its own, and everything else.
    client.say(r#"{"type":"subscribe","channel":"users"}"#);
    assert_eq!(field(&client.text(), "type"), "subscribed");
    ada_gets(&host, &mut client, "hers");
    host.stop();
}

#[test]
fn no_grant_and_no_token_names_the_channel_of_a_user() {
    let host = Host::start(&[ON, ("auth", "host")]);
    host.server.event_fd().unwrap();
    let names = ["user:bob".to_owned()];
    for terms in [
        Terms { user: Some("ada"), subscribe: &names, ..Terms::default() },
        Terms { channels: &names, ..Terms::default() },
        Terms { publish_channels: &names, ..Terms::default() },
    ] {
        let bad = || Grant::of(&terms).unwrap();
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let (error, _) = host.server.adopt(theirs.into(), b"", Some(bad())).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains(NOT_YOURS), "{error}");
        let _client = host.get("channel=a", "");
        let asked = || host.server.next_event(Some(PATIENCE)).unwrap();
        let question = std::iter::repeat_with(asked).find(|event| event.kind == EventKind::Request).unwrap();
        assert_eq!(host.server.allow(question.request, bad()).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(host.server.renew(1 << 40, bad()).unwrap_err().kind(), Kind::Invalid);
        // The question is open still.
        host.server.deny(question.request, 403, "").unwrap();
    }
    host.stop();
}

#[test]
fn the_user_of_a_token_has_its_channel_and_the_token_can_not_name_another() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let token = |user: &str, subscribe: &[&str], publish: &[&str]| {
        use jsonwebtoken::{encode, EncodingKey, Header};
        let claims = serde_json::json!({
            "sub": user, "exp": 4_000_000_000_u64, "push": {"subscribe": subscribe, "publish": publish}
        });
        encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    };
    let host = Host::start(&[ON, ("auth", "jwt"), ("jwt_secret", SECRET)]);
    let good = token("ada", &["*"], &["*"]);
    to_user(&host, "ada", "hers");
    for query in ["", "channel=news&", "transport=sse&", "transport=stream&channel=news&"] {
        host.get(&format!("{query}last=1&token={good}"), "").until("hers");
    }
    assert!(host.get(&format!("channel=user:bob&token={good}"), "").head().starts_with("HTTP/1.1 403 "));
    // Without a token nobody is told more than that one is needed.
    assert!(host.get("last=1", "").head().starts_with("HTTP/1.1 401 "));
    for (subscribe, publish) in [("user:ada", "news"), ("user:*", "news"), ("news", "user:bob")] {
        let bad = token("ada", &["news", subscribe], &[publish]);
        let (head, body) = host.get(&format!("channel=news&token={bad}"), "").response();
        assert!(head.starts_with("HTTP/1.1 401 ") && body.contains(NOT_YOURS), "{subscribe} {publish}: {head}{body}");
    }
    // A new token of the same user changes nothing. One of another user, or one that names the channel, is refused.
    let mut client = host.websocket(&format!("token={good}"), true);
    assert_eq!(field(&client.text(), "channel"), "user:ada");
    let renew = |client: &mut Client, token: &str| {
        client.say(&format!(r#"{{"type":"token","token":"{token}"}}"#));
        client.text()
    };
    assert_eq!(field(&renew(&mut client, &token("ada", &["news"], &[])), "type"), "token");
    assert_eq!(field(&renew(&mut client, &token("bob", &["news"], &[])), "code"), "user");
    assert_eq!(field(&renew(&mut client, &token("ada", &["user:bob"], &[])), "code"), "token");
    to_user(&host, "bob", "not hers");
    ada_gets(&host, &mut client, "still hers");
    // What was revoked does not come back with a token.
    host.server.revoke_channel("ada", "user:ada", "").unwrap();
    assert_eq!(field(&client.text(), "type"), "unsubscribed");
    assert_eq!(field(&renew(&mut client, &good), "type"), "token");
    subscriptions(&host, 0);
    host.stop();
}

#[test]
fn users_with_odd_names_get_their_own_messages_and_no_others() {
    let host = Host::start(&[ON]);
    let odd = ["a*b", "a,b", "100%", "%2a", "user:ada", "a b", "\u{fc}\u{1f600}", "\"\\", "*x", &*"u".repeat(250)];
    let mut clients: Vec<(&str, Client)> =
        odd.iter().map(|user| (*user, open(&host, "stream", grant(Some(user), &[]), ""))).collect();
    subscriptions(&host, odd.len() as u64);
    for user in odd {
        to_user(&host, user, &format!("for {}", user.len()));
        to_user(&host, user, "done");
    }
    for (user, client) in &mut clients {
        let got = client.until("done");
        assert_eq!(got.matches(r#""data":"for "#).count(), 1, "{user}: {got}");
        assert!(got.contains(&format!(r#""data":"for {}""#, user.len())), "{user}: {got}");
    }
    // No channel has the name of these. Nobody publishes to them, they get no other user's messages, and a `*` makes no
    // pattern: neither of their own, nor where something is taken from them.
    let longest = "u".repeat(255);
    for user in ["ada*", "*", "a**", &longest] {
        let error = host.server.publish_user(user, &Publication::new("", b"x")).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        let mut client = open(&host, "poll", grant(Some(user), &["*"]), "");
        let (head, body) = client.response();
        assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("names no channel"), "{user}: {head}{body}");
        let mut client = json(&host, grant(Some(user), &["*"]), "channel=news", &["news"]);
        to_user(&host, "ada", "not theirs");
        host.publish("news", "theirs");
        assert_eq!(field(&client.text(), "data"), "theirs", "{user}");
    }
    let mut ada = json(&host, grant(Some("ada"), &[]), "", &["user:ada"]);
    host.server.revoke_channel("ada*", "user:ada", "").unwrap();
    host.server.revoke_channel("*", "user:ada", "").unwrap();
    ada_gets(&host, &mut ada, "still");
    host.stop();
}

#[test]
fn it_does_not_count_for_max_channels() {
    let host = Host::start(&[ON, ("max_channels", "2")]);
    let all = || grant(Some("ada"), &["*"]);
    let mut client = json(&host, all(), "channel=a&channel=b", &["a", "b", "user:ada"]);
    client.say(r#"{"type":"subscribe","channel":"c"}"#);
    assert_eq!(field(&client.text(), "code"), "channels");
    client.say(r#"{"type":"unsubscribe","channel":"a"}"#);
    assert_eq!(field(&client.text(), "type"), "unsubscribed");
    for answer in ["subscribed", "error"] {
        client.say(&format!(r#"{{"type":"subscribe","channel":"{answer}"}}"#));
        assert_eq!(field(&client.text(), "type"), answer);
    }
    let (head, _) = open(&host, "poll", all(), "channel=a&channel=b&channel=c").response();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let three: Vec<String> = ["a", "b"].map(String::from).into();
    let given = Grant::of(&Terms { user: Some("ada"), subscribe: &three, ..Terms::default() }).unwrap();
    json(&host, given, "channel=z", &["a", "b", "user:ada"]);
    host.stop();
}

/// Otherwise what is published to the one right after the call could still reach the other.
#[test]
fn a_connection_that_gets_another_user_ends_and_its_client_comes_back() {
    let host = Host::start(&[&[ON][..], &CONTROL].concat());
    host.server.event_fd().unwrap();
    for (transport, query, channels) in [
        ("ws", "", &[][..]),
        ("ws", "channel=news", &["news"]),
        ("raw", "", &[]),
        ("sse", "", &[]),
        ("sse", "channel=news", &["news"]),
        ("stream", "", &[]),
    ] {
        for next in [Some("bob"), None] {
            let mut client = open(&host, transport, grant(Some("ada"), channels), query);
            let mut events = std::iter::repeat_with(|| host.server.next_event(Some(PATIENCE)).unwrap());
            let opened = events.find(|event| event.kind == EventKind::Open).unwrap();
            assert_eq!(opened.channel.as_deref(), Some(*channels.first().unwrap_or(&"user:ada")), "{transport}");
            // The same user again changes nothing.
            host.server.renew(opened.connection, grant(Some("ada"), channels)).unwrap();
            to_user(&host, "ada", "for ada");
            client.until("for ada");
            host.server.renew(opened.connection, grant(next, channels)).unwrap();
            for user in ["ada", "bob"] {
                to_user(&host, user, "too late");
            }
            host.publish("news", "too late");
            let rest = client.rest();
            assert!(!rest.contains("too late") && rest.contains("another user"), "{transport}: {rest}");
            eventually(|| host.server.stats().unwrap().connections == 0);
        }
    }
    // A poll that waits.
    let keeps = |user: &str| Grant::new(Some(user), &[], &["news".into()], 0, false, true).unwrap();
    let mut poll = open(&host, "poll", keeps("ada"), "channel=news");
    subscriptions(&host, 2);
    let connections = host.control("/v1/connections");
    let id = serde_json::from_str::<serde_json::Value>(&connections).unwrap()["connections"][0]["id"].clone();
    host.server.renew(id.as_str().unwrap().parse().unwrap(), keeps("bob")).unwrap();
    to_user(&host, "ada", "too late");
    assert!(!poll.rest().contains("too late"));
    host.stop();
}

/// The end stands in a log that an earlier hub has written, or that one whose option is off writes.
#[test]
fn an_old_end_of_a_users_channel_sends_nobody_away() {
    let log = Folder::new("users");
    let before = Host::start(&[("engine", &log.engine())]);
    before.publish("user:ada", "first");
    let end = Publication::mark("user:ada", Mark::End);
    let ended = before.server.publish(&end).unwrap();
    let position = before.server.position(ended.seq);
    before.server.stop(PATIENCE);
    let host = Host::start(&[ON, ("engine", &log.engine())]);
    for transport in ["sse", "stream"] {
        let mut client = open(&host, transport, grant(Some("ada"), &[]), &format!("since={position}"));
        subscriptions(&host, 1);
        to_user(&host, "ada", "more");
        client.until("more");
        drop(client);
        subscriptions(&host, 0);
    }
    host.stop();
}

#[test]
fn what_is_wrong_is_said() {
    let host = Host::start(&[ON]);
    let to = Publication::new("", b"x");
    for mark in [Mark::Begin, Mark::End] {
        let error = host.server.publish(&Publication::mark("user:ada", mark)).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("no beginning and no end"), "{error}");
        assert_eq!(
            host.server.publish_user("ada", &Publication { mark: Some(mark), ..to }).unwrap_err().kind(),
            Kind::Invalid
        );
    }
    // Two for one user, and one key for each.
    let keyed = Publication { key: Some("k"), ..to };
    let first = host.server.publish_user("ada", &keyed).unwrap();
    assert_eq!(host.server.publish_user("ada", &keyed).unwrap().seq, first.seq);
    assert_ne!(host.server.publish_user("bob", &keyed).unwrap().seq, first.seq);
    host.server.post_user("ada", &to).unwrap();
    host.stop();
    let host = Host::start(&[]);
    for error in [host.server.publish_user("ada", &to).map(drop), host.server.post_user("ada", &to)] {
        let error = error.unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("option user_channel is off"), "{error}");
    }
    assert_eq!(host.server.stats().unwrap().seq, 0);
    // There such a channel is like any other.
    let mut client = json(&host, grant(Some("ada"), &["user:*"]), "channel=user:bob", &["user:bob"]);
    client.say(r#"{"type":"publish","channel":"user:bob","data":"x"}"#);
    client.until("\"published\"");
    assert!(open(&host, "poll", grant(Some("ada"), &["*"]), "").head().starts_with("HTTP/1.1 400 "));
    // A running hub keeps it as it is.
    let reloaded = host.server.reload(&common::builder(&[ON])).unwrap();
    assert!(reloaded.left.contains(&"user_channel"), "{reloaded:?}");
    assert!(host.server.publish_user("ada", &to).is_err());
    host.stop();
}
