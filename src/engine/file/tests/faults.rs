//! A disk that is full, that fails, or that loses its power.

use super::*;

#[test]
fn a_full_disk_takes_nothing_and_heals_when_there_is_room() {
    for room in 0..60 {
        let disk = Memory::default();
        let mut log = begin(&disk, KEPT);
        log.publish("one").unwrap();
        disk.set_room(Some(room));
        if log.publish("two").is_err() {
            assert_eq!(log.publish("two").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
            assert_eq!(read(&disk).unwrap().0, ["1 c one"]);
            disk.set_room(None);
            log.publish("two").unwrap();
        }
        disk.set_room(None);
        log.publish("three").unwrap();
        log.close();
        assert_eq!(read(&disk).unwrap().0, ["1 c one", "2 c two", "3 c three"], "{room}");
    }
}

/// A log with a synced message and with another one that is written. The sync of that one failed, for this once.
fn with_a_failed_sync(disk: &Memory) -> Written {
    let mut log = begin(disk, KEPT);
    log.publish("one").unwrap();
    log.appender.sync(true).unwrap();
    // The entry that says how far the log is synced came after the sync. It is not on the disk yet.
    log.publish("two").unwrap();
    disk.fail_syncs(true, false);
    assert!(log.appender.sync(true).is_err());
    disk.fail_syncs(false, false);
    log
}

#[test]
fn what_could_not_be_synced_is_written_again_or_the_log_stays_closed_to_writers() {
    let disk = Memory::default();
    let mut log = with_a_failed_sync(&disk);
    disk.fail_syncs(true, false);
    assert!(log.publish("three").is_err());
    disk.fail_syncs(false, false);
    log.publish("three").unwrap();
    log.appender.sync(true).unwrap();
    disk.power_loss(&mut |_| 0);
    assert_eq!(read(&disk).unwrap().0, ["1 c one", "2 c two", "3 c three"]);
    // The kernel has dropped the pages that it could not write, so they can't be written again.
    log.publish("four").unwrap();
    disk.fail_syncs(true, true);
    assert!(log.appender.sync(true).is_err());
    disk.fail_syncs(false, false);
    for _ in 0..3 {
        assert!(log.publish("five").unwrap_err().to_string().contains("restart the hub"));
    }
    assert_eq!(read(&disk).unwrap().0.len(), 3);
}

#[test]
fn a_sync_that_fails_after_a_mark_leaves_no_hole() {
    let disk = Memory::default();
    let mut log = with_a_failed_sync(&disk);
    log.publish("three").unwrap();
    log.close();
    disk.power_loss(&mut |_| 0);
    assert_eq!(read(&disk).unwrap().0, ["1 c one", "2 c two", "3 c three"]);
}

#[test]
fn a_hub_that_is_killed_after_a_failed_sync_leaves_nothing_that_the_next_one_takes_for_synced() {
    let disk = Memory::default();
    with_a_failed_sync(&disk);
    // The hub is killed. The next one reads all messages, and numbers its own after them.
    let mut log = begin(&disk, KEPT);
    log.publish("three").unwrap();
    log.appender.sync(true).unwrap();
    disk.power_loss(&mut |_| 0);
    assert_eq!(read(&disk).unwrap().0, ["1 c one", "2 c two", "4 c three"]);
}

/// A generator with a fixed seed.
fn chances(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) as usize) % below.max(1)
    }
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_synced_and_leaves_nothing_in_disorder_also_after_syncs_that_failed() {
    for seed in 0..2000 {
        let mut chance = chances(seed);
        let disk = Memory::default();
        // Eight segments; after a second a new one begins.
        let kept = Kept { age_ms: 8000, ..KEPT };
        let (mut all, mut synced, mut now_ms) = (Shown::new(), 0, 1000);
        for _ in 0..1 + chance(3) {
            let (before, first) = unwritten(&disk, BOOT_ONE);
            assert!(before.len() >= synced && all.starts_with(&before), "seed {seed}: {before:?} of {all:?}, {synced}");
            all = before;
            let mut log = first.begin(kept, false, &Ends::unknown, 1000).unwrap();
            synced = all.len();
            for _ in 0..chance(12) {
                let text = "x".repeat(chance(300));
                let batch: Vec<&str> = (0..1 + chance(3)).map(|_| &*text).collect();
                let first = log.appender.last() + 1;
                now_ms += if chance(3) == 0 { 1500 } else { 0 };
                log.publish_at(now_ms, &batch).unwrap();
                all.extend((first..).zip(&batch).map(|(number, data)| format!("{number} c {data}")));
                if chance(3) == 0 {
                    let fails = chance(4) == 0;
                    disk.fail_syncs(fails, false);
                    assert_eq!(log.appender.sync(chance(2) == 0).is_err(), fails && !log.appender.is_synced());
                    disk.fail_syncs(false, false);
                    synced = if fails { synced } else { all.len() };
                }
            }
            if chance(4) == 0 {
                log.close();
                synced = all.len();
            }
            // Or only the hub is killed.
            if chance(3) > 0 {
                disk.power_loss(&mut chance);
            }
        }
        let (last, _) = read(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(last.len() >= synced && all.starts_with(&last), "seed {seed}");
    }
}
