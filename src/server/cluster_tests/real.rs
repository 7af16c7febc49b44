//! The same over a real Redis and a real NATS, and what happens to whole hubs when these fail.

use super::acts::{control, each_hub_does_it};
use super::questions::{each_hub_answers, NAMES, SOON};
use super::{
    each_client_is_served_by_each_hub, each_hub_leaves_it_out, each_hub_shows_the_end, each_message_comes_once,
    position, start_with, until, Client,
};
use crate::engine::nats::tests::servers::Server as Nats;
use crate::engine::redis::tests::process::{Process, Program};
use crate::hub::Publication;
use crate::server::Server;
use std::time::Duration;

/// Two hubs, with a time limit that no slow machine reaches.
fn two(url: &str) -> [Server; 2] {
    let options = [("engine_timeout", "1m"), ("history_count", "1000")];
    [start_with(url, &options), start_with(url, &options)]
}

#[test]
fn each_client_is_served_by_each_hub_over_redis() {
    each_client_is_served_by_each_hub(two(&Process::start(Program::Redis, &[]).url()));
}

#[test]
fn each_client_is_served_by_each_hub_over_nats() {
    each_client_is_served_by_each_hub(two(&Nats::alone("").url()));
}

#[test]
fn each_hub_shows_the_end_of_a_stream_over_redis() {
    each_hub_shows_the_end(two(&Process::start(Program::Redis, &[]).url()));
}

#[test]
fn each_hub_shows_the_end_of_a_stream_over_nats() {
    each_hub_shows_the_end(two(&Nats::alone("").url()));
}

#[test]
fn each_hub_leaves_a_client_out_over_redis() {
    each_hub_leaves_it_out(two(&Process::start(Program::Redis, &[]).url()));
}

#[test]
fn each_hub_leaves_a_client_out_over_nats() {
    each_hub_leaves_it_out(two(&Nats::alone("").url()));
}

#[test]
fn each_hub_does_what_one_is_told_over_redis() {
    each_hub_does_it(two(&Process::start(Program::Redis, &[]).url()));
}

#[test]
fn each_hub_does_what_one_is_told_over_nats() {
    each_hub_does_it(two(&Nats::alone("").url()));
}

/// Three hubs with names, of which the first has a control API, and its path.
fn three(name: &str, url: &str) -> ([Server; 3], std::path::PathBuf) {
    let (path, option) = control(name);
    let named = |at: usize| ("hub_name", NAMES[at]);
    let first = start_with(url, &[SOON, ("control", &option), named(0)]);
    ([first, start_with(url, &[SOON, named(1)]), start_with(url, &[SOON, named(2)])], path)
}

#[test]
fn all_hubs_are_asked_over_redis() {
    let redis = Process::start(Program::Redis, &[]);
    let (hubs, path) = three("asked-redis", &redis.url());
    each_hub_answers(hubs, &path);
}

#[test]
fn all_hubs_are_asked_over_valkey() {
    let valkey = Process::start(Program::Valkey, &[]);
    let (hubs, path) = three("asked-valkey", &valkey.url());
    each_hub_answers(hubs, &path);
}

#[test]
fn all_hubs_are_asked_over_nats() {
    let nats = Nats::alone("");
    let (hubs, path) = three("asked-nats", &nats.url());
    each_hub_answers(hubs, &path);
}

#[test]
fn each_message_comes_once_over_redis() {
    each_message_comes_once(two(&Process::start(Program::Redis, &[]).url()));
}

#[test]
fn each_message_comes_once_over_nats() {
    each_message_comes_once(two(&Nats::alone("").url()));
}

#[test]
fn the_largest_message_of_a_hub_with_defaults_goes_through_a_nats_with_defaults() {
    let nats = Nats::alone("");
    let hub = start_with(&nats.url(), &[("engine_timeout", "1m"), ("outbox", "4MB")]);
    let (channel, key) = ("c".repeat(255), "k".repeat(128));
    let mut client = Client::sse(&hub, &format!("channel={channel}"));
    client.has("id: ");
    let most = (1 << 20) - 4096;
    for (len, fits) in [(most, true), (most + 1, false)] {
        let data = "x".repeat(len);
        let publication = Publication { key: Some(&key), ..Publication::new(&channel, data.as_bytes()) };
        assert_eq!(hub.publish(&publication).is_ok(), fits, "{len}");
    }
    client.has(&"x".repeat(most));
    hub.stop(Duration::ZERO);
}

#[test]
fn a_redis_that_comes_back_empty_is_told_as_a_gap_and_gets_what_waited() {
    let mut redis = Process::start(Program::Redis, &[]);
    let hubs = two(&redis.url());
    let mut client = Client::sse(&hubs[1], "channel=a");
    client.has("id: ");
    position(&hubs[0], "<before>");
    client.has("<before>");
    redis.kill();
    // It waits for the log, and the client stays.
    hubs[0].post(&Publication::new("a", b"<meanwhile>")).unwrap();
    redis.restart();
    client.has(r#""type":"gap","channel":"a""#).has("<meanwhile>");
    position(&hubs[1], "<after>");
    client.has("<after>");
    let gap = client.got.find("push-gap").unwrap();
    assert!(client.got.find("<before>").unwrap() < gap, "{}", client.got);
    assert!(client.got.find("<meanwhile>").unwrap() > gap, "{}", client.got);
    // Both hubs are of one mind about what comes next.
    let epoch = |hub: &Server| hub.position(1).split('-').next().unwrap().to_owned();
    until("both follow the new log", || epoch(&hubs[0]) == epoch(&hubs[1]));
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn a_nats_that_is_killed_and_started_again_loses_nothing_that_it_has_written() {
    let mut nats = Nats::alone("");
    let hubs = two(&nats.url());
    let mut client = Client::sse(&hubs[1], "channel=a");
    client.has("id: ");
    let before = position(&hubs[0], "<before>");
    client.has("<before>");
    nats.kill();
    hubs[0].post(&Publication::new("a", b"<meanwhile>")).unwrap();
    nats.start();
    client.has("<meanwhile>");
    position(&hubs[1], "<after>");
    client.has("<after>");
    assert!(!client.got.contains("push-gap"), "a process that is killed leaves its files: {}", client.got);
    assert_eq!(client.got.matches("<before>").count(), 1, "{}", client.got);
    // The position is of an earlier epoch, and still exact.
    let mut moved = Client::sse(&hubs[0], &format!("channel=a&since={before}"));
    moved.has("<meanwhile>").has("<after>");
    assert!(!moved.got.contains("<before>") && !moved.got.contains("push-gap"), "{}", moved.got);
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn the_clients_of_a_hub_that_ends_go_to_another_and_miss_nothing() {
    let redis = Process::start(Program::Redis, &[]);
    let [first, second] = two(&redis.url());
    let mut client = Client::sse(&first, "channel=a");
    client.has("id: ");
    let seen = position(&first, "<1>");
    client.has("<1>");
    first.stop(Duration::ZERO);
    for at in 2..50 {
        second.post(&Publication::new("a", format!("<{at}>").as_bytes())).unwrap();
    }
    let mut moved = Client::sse(&second, &format!("channel=a&since={seen}"));
    moved.has("<49>");
    let places: Vec<_> = (2..50).map(|at| moved.got.find(&format!("<{at}>"))).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{}", moved.got);
    assert!(!moved.got.contains("<1>") && !moved.got.contains("gap"), "{}", moved.got);
    second.stop(Duration::ZERO);
}
