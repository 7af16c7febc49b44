//! A disk that fails (`EIO`) while `pushd` runs, stops or starts. `ledger.c` makes the calls fail.

use super::chance::Chance;
use super::ledger::{clear_faults, environment, read_directory, set_faults, Files};
use super::load::{Load, CHANNELS};
use super::publisher::{subscribe, Publisher};
use super::pushd::Pushd;
use super::truth::{marked, Truth};
use super::Place;
use crate::common::until;
use std::time::Duration;

const REASON: &str = "Input/output error";
/// The calls that fail together. Without the last two, writing or syncing fails alone.
const FAULTS: [&[&str]; 5] = [
    &["write"],
    &["fdatasync"],
    &["write", "fdatasync"],
    &["write", "fdatasync", "ftruncate"],
    &["write", "fdatasync", "fsync", "open", "rename"],
];

/// A `pushd` whose disk can be made to fail.
fn start(place: &Place, sync: &str) -> Pushd {
    std::fs::create_dir(place.log()).unwrap();
    std::fs::write(place.0.join("boot"), "b".repeat(36)).unwrap();
    let environment = environment(place);
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    Pushd::start_with(place, &[("engine_sync", sync), ("engine_timeout", "1s")], &environment)
}

fn fails_and_heals(sync: &str) {
    let place = Place::new();
    let mut pushd = start(&place, sync);
    let mut chance = Chance::new(15);
    let mut publisher = Publisher::new(&pushd);
    let mut subscriber = subscribe(&pushd, &publisher.first);
    for round in 0..2 * FAULTS.len() {
        for _ in 0..5 {
            publisher.publish(&pushd);
        }
        // The fault comes before, during or after a sync, or when the hub is quiet.
        std::thread::sleep(Duration::from_millis(chance.below(1300) as u64));
        set_faults(&place, FAULTS[round % FAULTS.len()]);
        publisher.is_refused(&pushd, REASON, round);
        // The hub tries again meanwhile, or does not.
        std::thread::sleep(Duration::from_millis(chance.below(500) as u64));
        clear_faults(&place);
        publisher.is_accepted_again(&pushd);
    }
    publisher.check(&mut subscriber);
    drop(subscriber);
    pushd.restart("TERM");
    publisher.check(&mut subscribe(&pushd, &publisher.first));
    pushd.end("TERM");
    let truth = Truth::read(&place.log(), true);
    assert!(truth.closed && truth.fences().is_empty(), "{truth:?}");
}

#[test]
fn publishing_is_refused_with_the_reason_while_the_disk_fails_and_nothing_is_missing_after_that() {
    fails_and_heals("interval");
}

#[test]
fn the_same_while_every_message_is_synced() {
    fails_and_heals("always");
}

#[test]
fn a_stop_while_the_disk_fails_says_which_messages_may_be_missing_and_clients_are_told_of_a_gap_there() {
    for sync in ["interval", "always"] {
        let place = Place::new();
        let mut pushd = start(&place, sync);
        let load = Load::new(pushd.port, pushd.control);
        (1..=5).for_each(|n| load.publish_one(&format!("p{n}")));
        let mut n = 5;
        // With `interval` those messages are missing that were accepted after the disk had begun to fail. A hub that is
        // quiet by then accepts none. Then the disk heals, and this is tried again.
        until("nothing was accepted while the disk failed", || {
            clear_faults(&place);
            n += 1;
            load.publish_one(&format!("p{n}"));
            set_faults(&place, &["write", "fdatasync"]);
            let mut any_accepted = false;
            until("nothing was refused", || {
                n += 1;
                let mark = format!("p{n}");
                let accepted = load.publish("POST /v1/publish?channel=a", marked(&mark).as_bytes(), &[&mark]);
                any_accepted |= accepted;
                let (status, why) = pushd.request("GET /healthz", b"").unwrap();
                !accepted && status == 503 && why.contains(REASON)
            });
            any_accepted || sync == "always"
        });
        pushd.signal("TERM");
        until("it does not end", || pushd.child.try_wait().unwrap().is_some());
        let stderr = std::fs::read_to_string(&pushd.stderr).unwrap();
        let said = ["could not be closed cleanly", "may not be in the log"];
        assert!(said.iter().all(|text| stderr.contains(text)), "{stderr}");
        clear_faults(&place);
        pushd.start_again();
        load.end();
        let told = load.follow(&CHANNELS, &load.first);
        pushd.end("TERM");
        let truth = Truth::read(&place.log(), sync == "interval");
        load.judge(&truth, &[(&CHANNELS, told)]).unwrap();
        assert_eq!(truth.fences().len(), usize::from(sync == "interval"), "{sync}");
    }
}

#[test]
fn a_start_on_a_disk_that_fails_is_refused_with_the_reason_and_leaves_the_messages_as_they_are() {
    for sync in ["interval", "always"] {
        let place = Place::new();
        let mut pushd = start(&place, sync);
        let mut publisher = Publisher::new(&pushd);
        publisher.publish(&pushd);
        pushd.end("TERM");
        let segments = || -> Files {
            let files = read_directory(&place.log()).into_iter();
            files.filter(|(name, _)| name.ends_with(".log")).collect()
        };
        let before = segments();
        for (count, call) in ["open", "write", "fsync", "rename"].into_iter().enumerate() {
            set_faults(&place, &[call]);
            pushd.begin_again();
            assert!(!pushd.child.wait().unwrap().success());
            let stderr = std::fs::read_to_string(&pushd.stderr).unwrap();
            let directory = place.log().display().to_string();
            let lines = stderr.lines().filter(|line| line.contains(&directory) && line.contains(REASON));
            assert_eq!(lines.count(), count + 1, "{call}: {stderr}");
            assert_eq!(segments(), before, "{call}");
        }
        clear_faults(&place);
        pushd.start_again();
        publisher.check(&mut subscribe(&pushd, &publisher.first));
    }
}
