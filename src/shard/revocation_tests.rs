//! What is revoked at another hub of the log while a client is about to get it.

use super::inbox_tests::read;
use super::order_tests::client;
use super::pipelining_tests::{turn, UPGRADE};
use super::Shard;
use crate::auth::Authority;
use crate::config::Builder;
use crate::context::engine::Engine;
use crate::context::Context;
use crate::engine::shared::model::Model;
use crate::engine::shared::{Driver, Parts, Settings};
use crate::events::Events;
use crate::framing::message;
use crate::hub::{Act, Break, Change, ChannelPattern, Epoch, Hub, Link, Loss};
use crate::log::{Level, Log};
use crate::shard::connection::conn::Phase;
use crate::shard::turn::command::{Command, ShardHandle};
use jsonwebtoken::{encode, EncodingKey, Header};
use serde_json::json;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A shard of a hub that follows a log. The test plays the log, which had `end` entries when the hub began.
fn shard(options: &[(&str, &str)], end: u64) -> Shard {
    let config = Builder::with(options).with_secrets().unwrap().config().clone();
    let handle = Arc::new(ShardHandle::new(0, 8192).unwrap());
    let hub = Hub::replica(&config.hub_settings(), vec![handle.mailbox.clone()]);
    let loss = Some(Loss { from: 0, agreed: 0, unread: false });
    assert!(hub.break_off(&Break { epoch: Epoch::from_random(1), chain: Vec::new(), end, loss }));
    let events = Events::new(16, config.events, None, Box::new(|| {})).unwrap();
    let authority = Authority::new(&config).unwrap();
    let log = Log::new(None, Level::Error);
    let parts = Parts {
        settings: Settings::Model(Model::new(1)),
        name: "hub".into(),
        place: String::new(),
        timeout: Duration::from_secs(60),
        kept: (Duration::from_secs(60), 1 << 20),
        buffer: 1 << 20,
        make: message,
        log: log.clone(),
    };
    let mut context = Context::new(config, hub, events, authority, log, 1);
    context.engine = Engine::Shared(Driver::new(parts, 1, || 1).1);
    Shard::new(Arc::new(context), handle, Vec::new()).unwrap()
}

/// An entry of the log comes to the hub, and from there into the shard's mailbox.
fn apply(shard: &Shard, number: u64, change: Change<'_>) {
    let mut changes = VecDeque::from([(number, change)]);
    shard.context.hub.apply(&mut changes, 0);
    assert!(changes.is_empty());
}

fn websocket(shard: &mut Shard, user: &str) -> UnixStream {
    let (adopted, mut theirs) = client(Some(user), UPGRADE.replace("/push ", "/push?channel=a ").as_bytes());
    shard.adopt(adopted);
    assert!(read(&mut theirs).contains(r#""type":"subscribed","channel":"a""#));
    theirs
}

/// Has a client ask for a channel while an act stands before its shard, and perhaps a break behind that. Returns the
/// answers, and the number of subscribers that the channel has then.
fn subscribed_behind(act: Act<'_>, breaks: bool) -> (String, u32) {
    let mut shard = shard(&[], 0);
    turn(&mut shard);
    let mut theirs = websocket(&mut shard, "ada");
    apply(&shard, 1, Change::Act(act));
    if breaks {
        let before = Link { epoch: Epoch::from_random(1), last: 1, lossy: false, acts: false };
        let at = Break { epoch: Epoch::from_random(2), chain: vec![before], end: 1, loss: None };
        assert!(shard.context.hub.break_off(&at));
    }
    shard.push_v1(0, br#"{"type":"subscribe","channel":"c","ref":7}"#);
    turn(&mut shard);
    let subscribers = shard.context.hub.first_channels("c", 9).iter().map(|info| info.subscribers).sum();
    let listed = shard.conns.get(0).map_or(0, |conn| conn.subs.len());
    let ends = shard.conns.get(0).is_none_or(|conn| conn.phase == Phase::Closing);
    let told = read(&mut theirs);
    assert_eq!(usize::from(told.contains(r#""type":"subscribed","channel":"c""#)), subscribers as usize, "{told}");
    assert!(ends || listed >= subscribers as usize, "{told}");
    (told, subscribers)
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_channel_that_is_revoked_while_a_client_subscribes_to_it_is_refused() {
    let refused = r#"{"type":"error","code":"channel","message":"not allowed","channel":"c","ref":7}"#;
    for breaks in [false, true] {
        let subscribed = |act| subscribed_behind(act, breaks);
        let (told, subscribers) = subscribed(Act::Revoke { user: "ada", channels: "c", reason: "moved" });
        assert!(told.contains(refused) && !told.contains("unsubscribed") && subscribers == 0, "{breaks}: {told}");
        let (told, subscribers) = subscribed(Act::Revoke { user: "ada", channels: "*", reason: "moved" });
        let taken = r#"{"type":"unsubscribed","channel":"a","code":4403,"reason":"moved"}"#;
        assert!(told.contains(taken) && told.contains(refused) && subscribers == 0, "{breaks}: {told}");
        let (told, subscribers) = subscribed(Act::Disconnect { user: "ada", code: 4403, reason: "logged out" });
        assert!(told.contains("logged out") && !told.contains(r#""channel":"c""#), "{breaks}: {told}");
        assert_eq!(subscribers, 0, "{breaks}: {told}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_subscribes_beside_an_act_that_is_about_something_else() {
    for act in [
        Act::Revoke { user: "ada", channels: "b", reason: "" },
        Act::Revoke { user: "bob", channels: "*", reason: "" },
        Act::Disconnect { user: "bob", code: 4403, reason: "" },
    ] {
        for breaks in [false, true] {
            let (told, subscribers) = subscribed_behind(act, breaks);
            assert!(subscribers == 1 && !told.contains("unsubscribed"), "{act:?}, {breaks}: {told}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_channel_that_is_revoked_while_a_request_with_a_token_waits_for_the_hub_is_refused() {
    for (revoked, expected) in [("a", "HTTP/1.1 403 "), ("b", "HTTP/1.1 200 ")] {
        // The request waits for the hub as long as it may.
        let mut shard = shard(&[("auth", "jwt"), ("jwt_secret", SECRET), ("engine_timeout", "1m")], 1);
        turn(&mut shard);
        let claims = json!({"sub": "ada", "exp": 4_000_000_000_i64, "push": {"subscribe": ["a", "b"]}});
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        shard.accepted(ours.into());
        let head = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n";
        theirs.write_all(format!("{head}Authorization: Bearer {token}\r\n\r\n").as_bytes()).unwrap();
        turn(&mut shard);
        let phases: Vec<Phase> = shard.conns.iter().map(|(_, conn)| conn.phase).collect();
        assert_eq!(phases, [Phase::Asked], "the hub has not read its log");
        let channels = Arc::new(ChannelPattern::written(revoked).unwrap());
        shard.handle.tell(Command::Revoke { user: "ada".into(), channels, reason: "moved".into() });
        apply(&shard, 1, Change::Nothing);
        // It looks some milliseconds after the first time.
        let mut told = String::new();
        for _ in 0..1000 {
            turn(&mut shard);
            told = read(&mut theirs);
            if !told.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(told.starts_with(expected), "{revoked}: {told}");
    }
}
