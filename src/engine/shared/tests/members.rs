//! Hubs that know of each other by their heartbeats.

use super::super::Settings;
use super::{start, start_with, until, Model, Running};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

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
