//! A log on three servers, of which another one leads.

use super::faults::publish_from;
use super::servers::Cluster;
use super::Place;
use crate::engine::contract::{Answer, Ask, EntryId, Fence, Identity};
use crate::engine::shared::contract_tests::{run, Hub, PATIENCE};
use crate::hub::Epoch;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::time::sleep;

#[test]
fn a_leader_that_is_killed_loses_nothing_and_the_log_is_another_one() {
    run(async {
        const ENTRIES: u64 = 2000;
        let cluster = Cluster::new();
        let url = cluster.url();
        let mut log = Place::new(cluster, &url).timeout(Duration::from_secs(3));
        let mut before = fenced(&log).await.log;
        let settings = log.settings.clone();
        let publishing = tokio::task::spawn_local(async move {
            let mut next = 1;
            while next <= ENTRIES {
                next = publish_from(&mut Hub::connect(&settings, 1).await, next, ENTRIES).await;
                sleep(Duration::from_millis(10)).await;
            }
        });
        for _ in 0..3 {
            let leader = leader(&log).await;
            log.servers.0[leader].kill();
            let after = identity(&log).await;
            assert_ne!(after.log, before, "another server leads");
            before = after.log;
            log.servers.0[leader].start();
            whole(&log).await;
        }
        publishing.await.unwrap();
        let read = within_patience(|| read_to(&log, ENTRIES + 1)).await;
        let own: Vec<u64> = read.into_iter().filter(|(_, id)| id.hub == 1).map(|(_, id)| id.counter).collect();
        assert!(own.into_iter().eq(1..=ENTRIES));
    });
}

/// Tries until there is a result. On a busy machine three servers may choose another leader at any time, and then every
/// connection to the log ends.
async fn within_patience<T, F: Future<Output = Option<T>>>(attempt: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Some(result) => return result,
            None => assert!(Instant::now() < deadline, "each connection ends before there is a result"),
        }
    }
}

async fn identity(log: &Place<Cluster>) -> Identity {
    within_patience(|| async { identify(&mut Hub::connect(log, 2).await).await }).await
}

async fn identify(hub: &mut Hub) -> Option<Identity> {
    hub.connection.asks.send(Ask::Identify { number: 0 }).await.ok()?;
    match hub.answer_if_connected().await? {
        Answer::Identity(identity) => Some(identity),
        other => panic!("{other:?}"),
    }
}

/// Appends the first entry, a fence, if it is not there yet.
async fn fenced(log: &Place<Cluster>) -> Identity {
    within_patience(|| async {
        let mut hub = Hub::connect(log, 2).await;
        let identity = identify(&mut hub).await?;
        if identity.fence.is_none() {
            let epoch = Epoch::from_text("first").unwrap();
            let fence = Fence { epoch, log: identity.log, chain: Vec::new() };
            hub.connection.asks.send(Ask::Fence { expected: 0, fence }).await.ok()?;
            hub.answer_if_connected().await?;
        }
        Some(identity)
    })
    .await
}

/// The numbers and names of all entries up to this one.
async fn read_to(log: &Place<Cluster>, last: u64) -> Option<Vec<(u64, EntryId)>> {
    let mut reader = Hub::connect(log, 99).await;
    reader.connection.asks.send(Ask::Tail { after: 0 }).await.ok()?;
    reader.tailed_to_if_connected(last).await
}

async fn info(log: &Place<Cluster>) -> Option<serde_json::Value> {
    for server in &log.servers.0 {
        let Ok(client) = async_nats::connect(server.url()).await else { continue };
        let asked = client.request(format!("$JS.API.STREAM.INFO.{}", log.stream()), "".into()).await;
        if let Ok(answer) = asked {
            return serde_json::from_slice(&answer.payload).ok();
        }
    }
    None
}

/// Which server leads. Waits until one does.
async fn leader(log: &Place<Cluster>) -> usize {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let info = info(log).await.unwrap_or_default();
        match info["cluster"]["leader"].as_str().and_then(|name| name.strip_prefix('n')?.parse().ok()) {
            Some(leader) => return leader,
            None => sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("nobody leads");
}

/// Waits until each server has all of the log.
async fn whole(log: &Place<Cluster>) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let info = info(log).await.unwrap_or_default();
        let replicas = info["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
        if replicas.len() == 2 && replicas.iter().all(|replica| replica["current"] == true) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("a server does not catch up");
}
