//! What one hub is told to do to a user, all hubs do.

use super::{builder, start, until, Client, JSON};
use crate::engine::shared::model::Model;
use crate::error::Kind;
use crate::hub::Publication;
use crate::server::Server;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A time limit that no slow machine reaches.
const PATIENT: (&str, &str) = ("engine_timeout", "1m");

/// Publishes a message, and returns its position. A log that is late is waited for: with its key the message is one.
pub(super) fn position(server: &Server, data: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let key = format!("position-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let publication = Publication { key: Some(&key), ..Publication::new("a", data.as_bytes()) };
    let mut placed = Err(Kind::Timeout);
    until("it is in the log", || {
        placed = server.publish(&publication).map_err(|error| error.kind());
        !matches!(placed, Err(Kind::Timeout))
    });
    server.position_of(&placed.unwrap())
}

fn post(server: &Server, channel: &str, data: &str) {
    server.post(&Publication::new(channel, data.as_bytes())).unwrap();
}

#[test]
fn users_are_sent_away_and_lose_channels_at_all_hubs_in_the_order_of_the_messages() {
    each_hub_does_it([start("acts", &[PATIENT]), start("acts", &[PATIENT])]);
}

pub(super) fn each_hub_does_it(hubs: [Server; 2]) {
    let mut here = Client::granted(&hubs[0], "ada", "channel=a&transport=sse", "");
    let mut ada = [
        Client::granted(&hubs[1], "ada", "channel=a&transport=sse", ""),
        Client::granted(&hubs[1], "ada", "channel=a&transport=stream", ""),
        Client::granted_websocket(&hubs[1], "ada", "channel=a", ""),
    ];
    let mut bob = Client::granted(&hubs[1], "bob", "channel=a&transport=sse", "");
    let mut eve = Client::granted_websocket(&hubs[1], "eve", "channel=a&channel=b", JSON);
    let mut mel = Client::granted(&hubs[1], "mel", "channel=a&transport=sse", "");
    for client in [&mut here, &mut bob, &mut mel].into_iter().chain(&mut ada) {
        client.has("\r\n\r\n");
    }
    eve.has(r#""type":"subscribed","channel":"a""#).has(r#""type":"subscribed","channel":"b""#);
    until("all are there", || hubs[1].stats().unwrap().connections == 6);

    post(&hubs[0], "a", "<before>");
    hubs[0].disconnect_user("ada", 4403, "go away").unwrap();
    hubs[0].revoke_channel("eve", "a", "moved").unwrap();
    hubs[0].revoke_channel("mel", "a*", "moved").unwrap();
    post(&hubs[0], "a", "<after>");
    post(&hubs[0], "b", "<b>");
    assert!(here.ends().contains("4403"), "{}", here.got);
    for client in &mut ada {
        let got = client.ends();
        assert!(got.contains("<before>") && got.contains("go away") && !got.contains("<after>"), "{got}");
    }
    bob.has("<before>").has("<after>");
    eve.has("<before>").has("<b>");
    let taken = r#"{"type":"unsubscribed","channel":"a","code":4403,"reason":"moved"}"#;
    assert!(eve.got.contains(taken) && !eve.got.contains("<after>"), "{}", eve.got);
    let got = mel.ends();
    assert!(got.contains("<before>") && got.contains("moved") && !got.contains("<after>"), "{got}");
    // It is no ban, also at a hub that reads this in its history.
    let mut again = Client::granted(&hubs[1], "ada", "channel=a&transport=sse", "");
    again.has("push-open");
    position(&hubs[0], "<again>");
    again.has("<again>");
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn a_hub_that_starts_does_not_do_what_was_done_before() {
    let hub = start("old-acts", &[("history_count", "100"), PATIENT]);
    position(&hub, "<1>");
    hub.disconnect_user("ada", 4403, "").unwrap();
    hub.revoke_channel("ada", "*", "").unwrap();
    position(&hub, "<2>");
    let other = start("old-acts", &[("history_count", "100"), PATIENT]);
    // This one may come before the hub has read the log, and waits for that.
    let mut early = Client::granted(&other, "ada", "channel=a&last=9&transport=sse", "");
    early.has("<1>").has("<2>");
    position(&hub, "<3>");
    early.has("<3>");
    assert!(!early.got.contains("push-close"), "{}", early.got);
    hub.disconnect_user("ada", 4403, "now").unwrap();
    assert!(early.ends().contains("now"), "{}", early.got);
    hub.stop(Duration::ZERO);
    other.stop(Duration::ZERO);
}

#[test]
fn an_act_that_the_log_loses_and_gets_again_is_not_done_again() {
    let model = Model::named("lost-acts");
    let hubs = [start("lost-acts", &[PATIENT]), start("lost-acts", &[PATIENT])];
    let first = position(&hubs[0], "<1>");
    let mut ada = Client::granted(&hubs[1], "ada", "channel=a&transport=sse", "");
    ada.has("push-open");
    hubs[0].disconnect_user("ada", 4403, "once").unwrap();
    assert!(ada.ends().contains("once"), "{}", ada.got);
    let mut again = Client::granted(&hubs[1], "ada", "channel=a&transport=sse", "");
    again.has("push-open");
    position(&hubs[0], "<2>");
    again.has("<2>");
    model.fail_over(6);
    until("there is another epoch", || hubs[1].position(1).split('-').next() != first.split('-').next());
    // The hub has put its act and its message into the log again before this.
    position(&hubs[0], "<3>");
    again.has("<3>");
    assert!(!again.got.contains("push-close"), "{}", again.got);
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn while_the_log_is_away_this_hub_does_it_at_once_and_the_others_later() {
    let model = Model::named("acts-away");
    let options = [("engine_buffer", "64KB"), PATIENT];
    let hubs = [start("acts-away", &options), start("acts-away", &options)];
    let mut ada = hubs.each_ref().map(|hub| Client::granted(hub, "ada", "channel=a&transport=sse", ""));
    ada.iter_mut().for_each(|client| _ = client.has("push-open"));
    (model.log().0.away, _) = (u64::MAX, model.cut());
    let mut taken = 0;
    while hubs[0].post(&Publication::new("a", b"full")).is_ok() {
        taken += 1;
    }
    assert!(taken > 50);
    hubs[0].disconnect_user("ada", 4403, "").unwrap();
    assert!(ada[0].ends().contains("4403"));
    ada[1].read();
    assert!(!ada[1].got.contains("4403"), "{}", ada[1].got);
    // What waits is bounded also for acts. Then the error says what was done.
    let error = (0..20_000).find_map(|_| hubs[0].revoke_channel("bob", "b", "").err()).unwrap();
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.to_string().contains("this hub has done it"), "{error}");
    model.log().0.away = 0;
    assert!(ada[1].ends().contains("4403"));
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn the_control_api_says_what_the_others_do() {
    let (path, control) = control("acts");
    let hubs = [start("acts-control", &[("control", &control), PATIENT]), start("acts-control", &[PATIENT])];
    let mut ada = Client::granted(&hubs[1], "ada", "channel=a&channel=b&transport=sse", "");
    let mut bob = Client::granted_websocket(&hubs[1], "bob", "channel=a", JSON);
    ada.has("push-open");
    bob.has("subscribed");
    let ask = |request: &str| asked(&path, request);
    let answer = ask("POST /v1/revoke?user=bob&user=eve&channel=a&channel=b&reason=told");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"others\":\"will\"}\n"), "{answer}");
    bob.has(r#""code":4403,"reason":"told""#);
    let answer = ask("POST /v1/disconnect?user=bob&user=ada&reason=bye");
    assert!(answer.ends_with("{\"closed\":0,\"others\":\"will\"}\n"), "{answer}");
    assert!(ada.ends().contains("bye") && bob.ends().contains("bye"));
    let answer = ask("POST /v1/disconnect?user=ada&code=1");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // Everybody at one hub. Those of the others stay, and the answer says so.
    let mut own = Client::granted_websocket(&hubs[0], "joe", "channel=a", JSON);
    let mut other = Client::granted_websocket(&hubs[1], "joe", "channel=a", JSON);
    own.has("subscribed");
    other.has("subscribed");
    let answer = ask("POST /v1/disconnect?all=1&reason=out");
    assert!(answer.ends_with("{\"closed\":1,\"others\":\"stay\"}\n"), "{answer}");
    assert!(own.ends().contains("out"));
    position(&hubs[0], "still there");
    other.has("still there");
    // From now on the log may be late.
    let model = Model::named("acts-control");
    let short = builder("model://acts-control", &[("control", &control), ("engine_timeout", "2s")]);
    hubs[0].reload(&short).unwrap();
    model.hang(true);
    let answer = ask("POST /v1/disconnect?user=ada");
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("this hub has done it"), "{answer}");
    model.hang(false);
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

/// A path for the control API, and the option.
pub(super) fn control(name: &str) -> (PathBuf, String) {
    let path = std::env::temp_dir().join(format!("push-{name}-{}.sock", std::process::id()));
    let option = format!("unix:{}", path.display());
    (path, option)
}

/// Asks the control API.
pub(super) fn asked(path: &Path, request: &str) -> String {
    let mut socket = UnixStream::connect(path).unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn each_hub_knows_the_others_by_their_signs_of_life() {
    let (path, option) = control("hubs");
    let hub = start("hubs", &[("control", &option), ("hub_name", "web-1:9099")]);
    let others = [start("hubs", &[("hub_name", "web-2:9099")]), start("hubs", &[])];
    let count = |what: &str| asked(&path, "GET /v1/hubs").matches(what).count();
    until("three are up", || count(r#""up":true"#) == 3 && count(r#""here":true"#) == 1);
    assert_eq!(count(r#""name":"web-1:9099","here":true"#), 1);
    assert_eq!(count(r#""name":"web-2:9099","here":false"#), 1);
    // The third one has no name of its own, and no fixed port.
    assert_eq!(count(&format!("/{}\",\"here\":false", std::process::id())), 1, "{}", asked(&path, "GET /v1/hubs"));
    let [mut leaving, third] = others;
    // A hub that stops says so, if the log takes that within half a second. On a slow machine another one has to try.
    for number in 2.. {
        let row = format!("\"name\":\"web-{number}:9099\",\"here\":false");
        until("it is there", || count(&row) == 1);
        let began = Instant::now();
        leaving.stop(Duration::ZERO);
        if began.elapsed() < Duration::from_millis(500) {
            until("it is forgotten", || count(&row) == 0);
            break;
        }
        assert!(number < 20, "none has stopped in time");
        leaving = start("hubs", &[("hub_name", &format!("web-{}:9099", number + 1))]);
    }
    assert_eq!(count(r#""name":"web-1:9099","here":true"#), 1);
    third.stop(Duration::ZERO);
    let answer = asked(&path, "GET /v1/hubs?x=1");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    hub.stop(Duration::ZERO);
}
