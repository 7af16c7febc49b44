//! A stream that has a bound, and one that is made anew.

use super::ended;
use super::faults::{alone, api, stranger};
use super::servers::Server;
use super::Place;
use crate::engine::contract::Ask;
use crate::engine::shared::contract_tests::{message, run, Hub, PATIENCE};
use std::time::{Duration, Instant};
use tokio::time::sleep;

#[test]
fn a_stream_with_a_bound_does_not_become_full_while_hubs_follow_it() {
    run(async {
        let server = Server::alone("");
        let url = format!("{}?max_bytes=1048576", server.url());
        let log = Place::new(server, &url);
        let mut hub = Hub::connect(&log, 1).await;
        let (_, fence) = hub.fence(0, "kept").await;
        hub.ask(Ask::Tail { after: 0 }).await;
        let client = stranger(&log.servers.url()).await;
        let data = vec![7; 50_000];
        for counter in 1..=80 {
            hub.append_one(counter, &message(&data)).await;
            hub.tailed(1).await;
            if counter % 8 > 0 {
                continue;
            }
            let began = Instant::now();
            loop {
                let info = api(&client, format!("STREAM.INFO.{}", log.stream()), "").await;
                if info["state"]["bytes"].as_u64().unwrap() <= 600_000 {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "it is not trimmed: {}", info["state"]);
                sleep(Duration::from_millis(50)).await;
            }
        }
        let identity = hub.identify(0).await;
        assert!(identity.first > 60 && identity.fence == Some((1, fence)), "{identity:?}");
    });
}

#[test]
fn an_append_never_goes_into_another_life_of_the_stream() {
    run(async {
        let log = alone();
        let client = stranger(&log.servers.url()).await;
        for round in 1.. {
            let mut hub = Hub::connect(&log, 1).await;
            hub.append(hub.heartbeats(1..=5)).await;
            api(&client, format!("STREAM.DELETE.{}", log.stream()), "").await;
            let mut other = Hub::connect(&log, 2).await;
            // Its answer is none: the connection ends.
            let _ = hub.connection.asks.send(Ask::Append { after: 5, entries: hub.heartbeats([6]) }).await;
            let why = ended(hub.connection).await;
            assert_eq!(other.identify(0).await.end, 0, "nothing has come into the new one");
            // It may have looked just while there was no stream.
            if round == 20 || !why.contains("(10059)") {
                return assert!(why.contains("replaced by another one"), "{why}");
            }
        }
    });
}
