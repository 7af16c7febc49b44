//! Hubs that start when the log has forgotten what came into quiet channels.

use super::{message, start, until, Model, Running};
use crate::engine::envelope;
use crate::hub::{Cut, Item, Join, Outgoing, Position, Publication, Replay, Request, Settled, Start};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const KEPT: (Duration, u64) = (Duration::from_secs(8), 1 << 30);

/// Starts a hub that has the log keep little, and waits until it serves clients.
async fn ready(model: &Model, name: u64) -> Running {
    let hub = start(model, name, 1000, 1 << 20);
    hub.shared.status.set_kept(KEPT);
    until("it has caught up", || hub.hub.has_caught_up()).await;
    hub
}

async fn publish(hub: &Running, channel: &str) -> u64 {
    let (tell, told) = tokio::sync::oneshot::channel();
    let outgoing = Outgoing::new(channel, None, message(&Publication::new(channel, b"x")));
    hub.hub.submit(vec![outgoing], None, 0, Some(Box::new(move |settled: Settled| drop(tell.send(settled))))).unwrap();
    timeout(Duration::from_secs(60), told).await.unwrap().unwrap().places[0].seq
}

/// The gaps of which a client is told.
fn gaps(hub: &Running, channel: &str, position: &str) -> Vec<u64> {
    let request = Request {
        shard: 0,
        names: &[channel],
        start: Start::Since(Position::parse(position).unwrap()),
        limit: usize::MAX,
        broadcasts: false,
        cut: Cut::Tail,
        join: Join::Never,
    };
    let mut replay = Replay::default();
    hub.hub.subscribe(&request, &mut replay, &mut Vec::new());
    assert!(!replay.wait);
    let gap = |item: &Item| match item {
        Item::Gap(_, seq) | Item::Loss(_, seq) => Some(*seq),
        Item::Message(_) => None,
    };
    replay.items.iter().filter_map(gap).collect()
}

/// How many entries with last numbers the log has had.
fn written(model: &Model) -> usize {
    let (log, _) = model.log();
    log.all.iter().filter(|entry| envelope::is_ends(&entry.bytes)).count()
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_starts_late_tells_clients_of_quiet_channels_of_a_gap_only_if_something_is_missing() {
    let model = Model::new(21);
    let early = ready(&model, 1).await;
    let before = publish(&early, "other").await;
    let quiet = publish(&early, "quiet").await;
    let epoch = early.hub.present_epoch();
    for _ in 0..40 {
        sleep(Duration::from_millis(500)).await;
        publish(&early, "busy").await;
    }
    assert!(model.log().0.first() > quiet + 10, "the log has forgotten it");
    let late = ready(&model, 2).await;
    for hub in [&early, &late] {
        assert_eq!(gaps(hub, "quiet", &epoch.position(quiet)), [0; 0]);
        assert_eq!(gaps(hub, "never", &epoch.position(before)), [0; 0]);
        assert_eq!(gaps(hub, "other", &epoch.position(before)), [0; 0]);
    }
    assert_eq!(gaps(&late, "quiet", &epoch.position(before)), [quiet]);
    assert_eq!(gaps(&late, "busy", &epoch.position(quiet)).len(), 1);
    early.end().await;
    late.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_soon_has_its_own_last_numbers() {
    let model = Model::new(22);
    let early = ready(&model, 1).await;
    let quiet = publish(&early, "quiet").await;
    sleep(Duration::from_secs(1)).await;
    let before = early.hub.present_epoch();
    model.fail_over(0);
    until("it has another epoch", || early.hub.present_epoch() != before).await;
    let (fence, many) = (model.end(), written(&model));
    until("they are written again", || written(&model) > many).await;
    model.log().0.forget(fence + 1);
    let late = ready(&model, 2).await;
    assert_eq!(gaps(&late, "quiet", &before.position(quiet)), [0; 0]);
    early.end().await;
    late.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_hubs_write_hardly_more_than_one() {
    let model = Model::new(23);
    let mut hubs = Vec::new();
    for name in 1..=4 {
        hubs.push(ready(&model, name).await);
    }
    hubs.iter().for_each(|hub| hub.shared.status.set_kept((Duration::from_secs(40), 1 << 30)));
    let before = written(&model);
    sleep(Duration::from_secs(60)).await;
    // One hub writes some 12 to 24 in this time.
    assert!((12..=36).contains(&(written(&model) - before)), "{}", written(&model) - before);
    for hub in hubs {
        hub.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn much_in_a_small_log_is_written_down_before_it_is_forgotten() {
    let model = Model::new(24);
    let early = start(&model, 1, 1000, 1 << 20);
    early.shared.status.set_kept((Duration::from_secs(36_000), 100_000));
    until("the first are written", || written(&model) == 1).await;
    let quiet = publish(&early, "quiet").await;
    let epoch = early.hub.present_epoch();
    for _ in 0..400 {
        let data = [b'x'; 1000];
        let outgoing = Outgoing::new("busy", None, message(&Publication::new("busy", &data)));
        early.hub.submit(vec![outgoing], None, 0, None).unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    until("the log has forgotten it", || model.log().0.first() > quiet).await;
    let late = ready(&model, 2).await;
    assert_eq!(gaps(&late, "quiet", &epoch.position(quiet)), [0; 0]);
    early.end().await;
    late.end().await;
}
