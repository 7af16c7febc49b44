//! Hubs that know of each other by their heartbeats.

use super::super::Settings;
use super::{start, start_with, until, Model, Running};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{sleep, Instant};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(6);

fn up(hub: &Running) -> (BTreeSet<u64>, bool) {
    hub.shared.up()
}

#[tokio::test(start_paused = true)]
async fn hubs_with_different_time_limits_know_each_other_also_after_a_reload() {
    let model = Model::new(1);
    let hubs = [start(&model, 1, 1000, 1 << 20), start_with(&model, 2, 1000, 1 << 20, LONG)];
    for hub in &hubs {
        until("it knows all", || up(hub) == ([1, 2].into(), true)).await;
    }
    let stays = async |what: &str| {
        for moment in 0..100 {
            for hub in &hubs {
                assert_eq!(up(hub), ([1, 2].into(), true), "{what}, {moment}");
            }
            sleep(SECOND / 10).await;
        }
    };
    stays("from the start on").await;
    for hub in &hubs {
        let names: Vec<_> = hub.shared.members().into_iter().map(|member| member.name.unwrap()).collect();
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["hub-1", "hub-2"]);
    }
    // The one gets the limit of the other.
    hubs[0].shared.inlet.reconnect(Settings::Model(model.clone()), LONG);
    sleep(SECOND).await;
    until("it knows all again", || up(&hubs[0]) == ([1, 2].into(), true)).await;
    stays("after a reload").await;
    // A hub that comes now has read that there are others that send heartbeats rarely.
    let third = start(&model, 3, 1000, 1 << 20);
    until("it knows all", || up(&third).1).await;
    assert_eq!(up(&third).0, [1, 2, 3].into());
    third.end().await;
    for hub in hubs {
        hub.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_ends_says_so_and_one_that_is_killed_is_missing_until_its_time_is_over() {
    let model = Model::new(1);
    let limited = |name| start_with(&model, name, 1000, 1 << 20, LONG);
    let [first, second, third] = [1, 2, 3].map(limited);
    until("they know each other", || up(&first).0.len() == 3).await;
    second.end().await;
    let began = Instant::now();
    until("it is forgotten", || up(&first).0 == [1, 3].into()).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    third.thread.abort();
    sleep(LONG / 2).await;
    assert_eq!(up(&first).0, [1, 3].into());
    until("it is forgotten, too", || up(&first).0 == [1].into()).await;
    first.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_ends_does_not_wait_long_for_a_log_that_does_not_answer() {
    let model = Model::new(1);
    let hub = start_with(&model, 1, 1000, 1 << 20, LONG);
    until("it is healthy", || hub.shared.status.failure().is_none()).await;
    model.hang(true);
    let began = Instant::now();
    hub.end().await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}
