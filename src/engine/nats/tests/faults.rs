//! Servers that are killed, stand still, or lose the log.

use super::servers::{Cluster, Server};
use super::{ended, refused, Place};
use crate::engine::contract::{Answer, Ask, Placed, Tailed};
use crate::engine::envelope;
use crate::engine::shared::contract_tests::{heartbeat, message, run, run_again, Hub, Log, PATIENCE};
use std::time::{Duration, Instant};
use tokio::time::sleep;

pub(super) fn alone() -> Place<Server> {
    let server = Server::alone("");
    let url = server.url();
    Place::new(server, &url)
}

/// A client beside libpush.
pub(super) async fn stranger(url: &str) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new().connection_timeout(PATIENCE).request_timeout(Some(PATIENCE));
    options.connect(url).await.unwrap()
}

pub(super) async fn api(client: &async_nats::Client, subject: String, body: &str) -> serde_json::Value {
    let answer = client.request(format!("$JS.API.{subject}"), body.to_owned().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// All entries of the log, as (hub, counter).
async fn all(log: &dyn Log, last: u64) -> Vec<(u64, u64)> {
    let mut reader = Hub::connect(log, 99).await;
    reader.ask(Ask::Tail { after: 0 }).await;
    reader.tailed_to(last).await.into_iter().map(|(_, id)| (id.hub, id.counter)).collect()
}

#[test]
fn a_server_that_is_killed_and_started_again_is_another_log_with_the_same_entries() {
    run(async {
        let mut log = alone();
        let mut hub = Hub::connect(&log, 1).await;
        hub.append(hub.heartbeats(1..=5)).await;
        let (_, fence) = hub.fence(0, "before").await;
        let before = hub.identify(5).await;
        let mut entry = hub.entry(6, &message(b"keyed"));
        entry.key = "k".into();
        hub.append(vec![entry.clone()]).await;

        log.servers.kill();
        let why = ended(hub.connection).await;
        assert!(why.contains("127.0.0.1") && why.contains("lost"), "{why}");
        assert!(refused(&log.settings).await.contains("can't be reached"));
        log.servers.start();

        let mut hub = Hub::connect(&log, 1).await;
        let after = hub.identify(5).await;
        assert_ne!(after.log, before.log, "its end may be lost");
        assert_eq!((after.end, after.entry), (7, before.entry));
        assert_eq!(after.fence, Some((6, fence)));
        // What it remembers outlives the server, too.
        entry.id.counter = 7;
        assert_eq!(hub.append(vec![entry]).await, [Placed::Known(7)]);
        assert_eq!(hub.append(hub.heartbeats([6, 8])).await, [Placed::Repeated, Placed::At(8)]);
    });
}

#[test]
fn a_server_that_stands_still_is_noticed_in_time() {
    run(async {
        let limit = Duration::from_secs(6);
        let log = alone().timeout(limit);
        let quiet = Hub::connect(&log, 1).await;
        quiet.ask(Ask::Tail { after: 0 }).await;
        let mut asking = Hub::connect(&log, 2).await;
        asking.append_one(1, &heartbeat()).await;
        log.servers.pause();
        let start = Instant::now();
        asking.ask_append(asking.heartbeats([2])).await;
        for hub in [quiet, asking] {
            let why = ended(hub.connection).await;
            assert!(why.contains("did not answer within 6s") || why.contains("has sent nothing"), "{why}");
        }
        let why = refused(&log.settings).await;
        assert!(why.contains("did not answer"), "{why}");
        // The reasons above name the limit. Without it these would take minutes.
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        log.servers.resume();
        // The entry that was sent while the server was paused is in the log, once.
        let mut hub = Hub::connect(&log, 2).await;
        let placed = hub.append(hub.heartbeats([2, 3])).await;
        assert!(matches!(placed[..], [Placed::Repeated | Placed::At(_), Placed::At(3)]), "{placed:?}");
        assert_eq!(all(&log, 3).await, [(2, 1), (2, 2), (2, 3)]);
    });
}

#[test]
fn a_server_that_is_killed_again_and_again_has_each_entry_once_and_in_order() {
    const ENTRIES: u64 = 2500;
    run(async {
        let mut log = alone();
        let settings = log.settings.clone();
        let publishing = tokio::task::spawn_local(async move {
            let (mut next, mut attempts) = (1, 0);
            while next <= ENTRIES {
                attempts += 1;
                next = publish_from(&mut Hub::connect(&settings, 1).await, next, ENTRIES).await;
            }
            attempts
        });
        for _ in 0..10 {
            sleep(Duration::from_millis(150)).await;
            log.servers.kill();
            log.servers.start();
        }
        let attempts = publishing.await.unwrap();
        assert!(attempts > 1, "no kill met it");
        let read = all(&log, ENTRIES).await;
        assert!(read.into_iter().eq((1..=ENTRIES).map(|counter| (1, counter))));
    });
}

/// Publishes on, until all is there or the connection ends. Returns the first entry that is not acknowledged.
pub(super) async fn publish_from(hub: &mut Hub, mut next: u64, last: u64) -> u64 {
    while next <= last {
        let until = (next + 1 + next % 7).min(last + 1);
        let after = std::mem::replace(&mut hub.after, until - 1);
        let entries = hub.heartbeats(next..until);
        if hub.connection.asks.send(Ask::Append { after, entries }).await.is_err() {
            break;
        }
        match hub.connection.answers.recv().await {
            Some(Answer::Appended(_)) => next = until,
            Some(Answer::Busy) => {
                hub.after = after;
                sleep(Duration::from_millis(10)).await;
            }
            None => break,
            other => panic!("{other:?}"),
        }
    }
    next
}

/// What is still under way from an earlier connection of a hub arrives before, or after, what its next one appends.
async fn append_over_two_connections(log: &dyn Log) {
    let mut old = Hub::connect(log, 1).await;
    old.append(old.heartbeats(1..=3)).await;
    let mut new = Hub::connect(log, 1).await;
    // Before: one entry, and a batch.
    assert_eq!(old.append(old.heartbeats([4])).await, [Placed::At(4)]);
    assert_eq!(new.append(new.heartbeats([4])).await, [Placed::Repeated]);
    assert_eq!(old.append(old.heartbeats(5..=7)).await, [5, 6, 7].map(Placed::At));
    let repeated = [Placed::Repeated; 3].into_iter().chain([Placed::At(8), Placed::At(9)]);
    assert!(new.append(new.heartbeats(5..=9)).await.into_iter().eq(repeated));
    // After.
    assert_eq!(old.append(old.heartbeats([8])).await, [Placed::Repeated]);
    assert_eq!(new.append(new.heartbeats(10..=12)).await, [10, 11, 12].map(Placed::At));
    assert_eq!(old.append(old.heartbeats(9..=11)).await, [Placed::Repeated; 3]);
    assert_eq!(new.identify(0).await.end, 12);
    // An entry that goes again, and was not appended for its key, is told which number has it.
    let mut other = Hub::connect(log, 2).await;
    let mut keyed = other.entry(1, &message(b"first"));
    keyed.key = "k".into();
    assert_eq!(other.append(vec![keyed.clone()]).await, [Placed::At(13)]);
    keyed.id = new.entry(13, &heartbeat()).id;
    assert_eq!(new.append(vec![keyed.clone()]).await, [Placed::Known(13)]);
    assert_eq!(new.append(new.heartbeats([14])).await, [Placed::At(14)]);
    let mut next = Hub::connect(log, 1).await;
    assert_eq!(next.append(vec![keyed, next.entry(14, &heartbeat())]).await, [Placed::Known(13), Placed::Repeated]);
    assert_eq!(next.identify(0).await.end, 14);
}

#[test]
fn what_is_still_under_way_from_an_earlier_connection_is_appended_once() {
    run(append_over_two_connections(&alone()));
}

#[test]
fn what_is_still_under_way_from_an_earlier_connection_to_a_cluster_is_appended_once() {
    let cluster = Cluster::shared();
    let url = cluster.url();
    run_again(3, || async { append_over_two_connections(&Place::new(cluster.clone(), &url)).await });
}

#[test]
fn a_stream_that_is_deleted_and_made_anew_is_another_log() {
    run(async {
        let log = alone();
        let mut hub = Hub::connect(&log, 1).await;
        hub.append(hub.heartbeats(1..=5)).await;
        hub.fence(0, "gone").await;
        let before = hub.identify(1).await;
        hub.ask(Ask::Tail { after: 0 }).await;
        hub.tailed(6).await;
        let client = stranger(&log.servers.url()).await;
        let deleted = api(&client, format!("STREAM.DELETE.{}", log.stream()), "").await;
        assert_eq!(deleted["success"], true, "{deleted}");
        let why = ended(hub.connection).await;
        assert!(why.contains(&log.stream()), "{why}");

        let mut hub = Hub::connect(&log, 1).await;
        let after = hub.identify(1).await;
        assert_ne!(after.log, before.log);
        assert_eq!((after.first, after.end, after.entry, after.fence), (1, 0, None, None));
        assert_eq!(hub.append(hub.heartbeats([6])).await, [Placed::At(1)]);
    });
}

#[test]
fn a_stream_that_is_made_anew_at_once_ends_the_connections_to_the_one_before() {
    run(async {
        let log = alone();
        let client = stranger(&log.servers.url()).await;
        for round in 1.. {
            let quiet = Hub::connect(&log, 1).await;
            api(&client, format!("STREAM.DELETE.{}", log.stream()), "").await;
            let _other = Hub::connect(&log, 2).await;
            let why = ended(quiet.connection).await;
            // It may have looked just while there was no stream.
            if round == 20 || !why.contains("(10059)") {
                return assert!(why.contains("replaced by another one"), "{why}");
            }
        }
    });
}

#[test]
fn a_stream_that_is_full_says_so_and_heals_when_it_is_trimmed() {
    run(async {
        let server = Server::alone("");
        let url = format!("{}?max_bytes=1048576", server.url());
        let log = Place::new(server, &url);
        let mut hub = Hub::connect(&log, 1).await;
        let (_, fence) = hub.fence(0, "kept").await;
        let data = vec![7; 50_000];
        let mut counter = 0;
        let why = loop {
            counter += 1;
            assert!(counter < 100, "it is never full");
            let entry = hub.entry(counter, &message(&data));
            hub.ask_append(vec![entry]).await;
            if hub.connection.answers.recv().await.is_none() {
                break ended(hub.connection).await;
            }
        };
        assert!(why.contains("is full: maximum bytes exceeded"), "{why}");

        let mut hub = Hub::connect(&log, 1).await;
        let end = hub.identify(0).await.end;
        assert_eq!(end, counter, "the fence, and what was acknowledged");
        hub.ask(Ask::Trim { before: end - 2 }).await;
        let identity = hub.identify(0).await;
        assert_eq!((identity.first, identity.fence), (end - 2, Some((1, fence))));
        let entry = hub.entry(counter, &message(&data));
        assert_eq!(hub.append(vec![entry]).await, [Placed::At(end + 2)], "after the copy of the fence");
    });
}

#[test]
fn a_copy_of_a_fence_takes_a_number_and_says_nothing() {
    run(async {
        let log = alone();
        let mut hub = Hub::connect(&log, 1).await;
        let (_, fence) = hub.fence(0, "kept").await;
        hub.append(hub.heartbeats(1..=10)).await;
        hub.ask(Ask::Trim { before: 6 }).await;
        hub.append(hub.heartbeats(11..=12)).await;
        hub.ask(Ask::Trim { before: 13 }).await;
        let identity = hub.identify(12).await;
        assert_eq!((identity.first, identity.end), (13, 15), "a copy at 12, and another one at 15");
        assert_eq!(identity.fence, Some((1, fence)));
        hub.ask(Ask::Tail { after: 12 }).await;
        let items = hub.tailed(3).await;
        assert!(items.iter().all(|item| matches!(item, Tailed::Entry { .. })), "no fence that hubs do not know");
        let Tailed::Entry { number: 15, bytes } = &items[2] else { panic!("{items:?}") };
        let id = envelope::read(bytes).unwrap().0;
        assert_eq!(hub.identify(15).await.entry, Some(id));
    });
}

#[test]
fn entries_of_strangers_and_of_newer_versions_are_shown_to_the_hub() {
    run(async {
        let log = alone();
        let mut hub = Hub::connect(&log, 1).await;
        hub.append(hub.heartbeats([1])).await;
        let client = stranger(&log.servers.url()).await;
        let subject = format!("push.{}.hub.x", log.settings.options.namespace);
        for bytes in [&b"\0hello"[..], b"\xff newer"] {
            client.request(subject.clone(), bytes.into()).await.unwrap();
        }
        assert_eq!(hub.identify(2).await.entry, None);
        hub.ask(Ask::Tail { after: 0 }).await;
        let items = hub.tailed(3).await;
        let read = |at: usize| match &items[at] {
            Tailed::Entry { bytes, .. } => envelope::read(bytes),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(1), Err(envelope::Unreadable::Malformed));
        assert_eq!(read(2), Err(envelope::Unreadable::Newer(255)));
        // On the hub's own subject, and on that of fences, nobody could go on.
        for subject in [format!("push.{}.hub.{:016x}", log.settings.options.namespace, 1), log.fences()] {
            client.request(subject.clone(), "\0hello".into()).await.unwrap();
            let why = match super::connect(&log.settings, 1).await {
                Err(why) => why.0,
                Ok(connection) => {
                    connection.asks.send(Ask::Identify { number: 0 }).await.unwrap();
                    ended(connection).await
                }
            };
            assert!(why.contains(&subject), "{why}");
            let deleted =
                api(&client, format!("STREAM.PURGE.{}", log.stream()), &format!("{{\"filter\":\"{subject}\"}}")).await;
            assert_eq!(deleted["success"], true, "{deleted}");
        }
    });
}
