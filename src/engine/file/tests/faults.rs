//! A disk that is full, that fails, or that loses its power.

use super::*;

/// After a second a new segment begins.
const SHORT: Kept = Kept { age_ms: 8000, ..KEPT };

#[test]
fn a_full_disk_takes_nothing_and_heals_when_there_is_room() {
    for (room, cuts_fail) in (0..60).flat_map(|room| [(room, false), (room, true)]) {
        let disk = Memory::default();
        let mut log = begin(&disk, KEPT);
        log.publish("one").unwrap();
        disk.set_room(Some(room));
        disk.fail_cuts(cuts_fail);
        if log.publish("two").is_err() {
            let why = if cuts_fail { libc::EIO } else { libc::ENOSPC };
            assert_eq!(log.publish("two").unwrap_err().raw_os_error(), Some(why));
            assert_eq!(read(&disk).unwrap().0, ["1 c one"]);
            disk.set_room(None);
            assert_eq!(log.publish("two").is_err(), cuts_fail);
            disk.fail_cuts(false);
            if cuts_fail {
                log.publish("two").unwrap();
            }
        }
        disk.set_room(None);
        log.publish("three").unwrap();
        log.close();
        assert_eq!(read(&disk).unwrap().0, ["1 c one", "2 c two", "3 c three"], "{room}");
    }
}

#[test]
fn nothing_is_written_behind_what_a_failed_write_has_left_before_that_is_cut_off() {
    // A part of the first record of a batch, all of it, or a part of the second one as well.
    for part in [0, 1, 16, 31, 60] {
        let disk = Memory::default();
        let mut log = begin(&disk, SHORT);
        log.publish("one").unwrap();
        disk.fail_writes_after(Some(part));
        disk.fail_cuts(true);
        assert!(log.publish_batch(&["two", "three"]).is_err());
        disk.fail_writes_after(None);
        // At the later time the next segment is due.
        for now_ms in [1000, 3000] {
            assert!(log.publish_at(now_ms, &["two", "three"]).is_err(), "{part}");
            assert_eq!(disk.segments().len(), 1);
        }
        let killed = disk.copy();
        disk.fail_cuts(false);
        log.publish_at(3000, &["two", "three"]).unwrap();
        log.close();
        assert_eq!(disk.segments().len(), 2);
        assert_eq!(read(&disk).unwrap().0, ["1 c one", "2 c two", "3 c three"], "{part}");
        // A hub that is killed before the cut leaves it to the next one, which does not start without it.
        killed.fail_cuts(true);
        let start = || unwritten(&killed, BOOT_ONE).1.begin(SHORT, false, &Ends::unknown, 1000);
        assert_eq!((start().is_err(), killed.segments().len() == 1), (part > 0, part > 0), "{part}");
        killed.fail_cuts(false);
        let mut next = start().unwrap();
        next.publish("next").unwrap();
        next.close();
        let (shown, found) = read(&killed).unwrap();
        assert!(shown.len() == 2 && shown[1].ends_with("c next") && found.torn.is_none(), "{part}: {shown:?}");
    }
}

#[test]
fn a_mark_that_was_written_in_part_is_cut_off_before_a_shorter_entry_takes_its_place() {
    let disk = Memory::default();
    let mut log = begin(&disk, SHORT);
    log.publish("one").unwrap();
    disk.fail_writes_after(Some(record::HEAD + 8));
    disk.fail_cuts(true);
    // The log does not need the mark.
    log.appender.sync(true).unwrap();
    disk.fail_writes_after(None);
    let mut cleared = Vec::new();
    record::append(&mut cleared, 1, |into| Entry::Cleared { channel: "c" }.write(into));
    assert!(log.append(&mut cleared, 1).is_err());
    disk.fail_cuts(false);
    log.append(&mut cleared, 1).unwrap();
    log.publish_at(3000, &["two"]).unwrap();
    assert_eq!(disk.segments().len(), 2);
    assert_eq!(read(&disk).unwrap().0, ["1 c one", "1 cleared c", "2 c two"]);
}

#[test]
fn a_segment_whose_creation_has_failed_is_begun_again_also_if_a_reload_makes_segments_larger() {
    let disk = Memory::default();
    let mut log = begin(&disk, SHORT);
    log.publish("one").unwrap();
    disk.fail_creations(true);
    assert!(log.publish_at(3000, &["two"]).is_err());
    assert_eq!(disk.segments().len(), 2, "its file is there");
    disk.fail_creations(false);
    log.appender.set_kept(KEPT);
    log.publish_at(3000, &["two"]).unwrap();
    log.close();
    assert_eq!(read(&disk).unwrap().0, ["1 c one", "2 c two"]);
}

#[test]
fn nothing_at_all_comes_into_a_segment_behind_which_another_may_have_been_created() {
    let disk = Memory::default();
    let mut log = begin(&disk, SHORT);
    log.publish("one").unwrap();
    log.appender.sync(false).unwrap();
    let name = disk.segments().remove(0);
    let bytes = disk.read(&name).unwrap();
    disk.fail_creations(true);
    assert!(log.publish_at(3000, &["two"]).is_err());
    disk.fail_creations(false);
    log.appender.mark();
    log.close();
    assert_eq!(disk.read(&name).unwrap(), bytes);
    assert_eq!(read(&disk).unwrap().0, ["1 c one"]);
    assert_eq!(unwritten(&disk, BOOT_TWO).1.lineage().1, []);
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
    for (seed, always) in (0..4000).zip([false, true].into_iter().cycle()) {
        let mut chance = chances(seed);
        let disk = Memory::default();
        let (mut all, mut synced, mut now_ms) = (Shown::new(), 0, 1000);
        for _ in 0..1 + chance(3) {
            let (before, first) = unwritten(&disk, BOOT_ONE);
            assert!(before.len() >= synced && all.starts_with(&before), "seed {seed}: {before:?} of {all:?}, {synced}");
            all = before;
            let mut log = first.begin(SHORT, always, &Ends::unknown, 1000).unwrap();
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

/// Makes calls on the disk fail at random.
fn fail_some(disk: &Memory, chance: &mut dyn FnMut(usize) -> usize) {
    let writes = (chance(3) == 0).then(|| chance(600));
    disk.fail_writes_after(writes);
    disk.fail_cuts(chance(3) == 0);
    disk.fail_creations(chance(3) == 0);
    disk.fail_syncs(chance(6) == 0, false);
}

/// A hub over a disk that fails. As the thread of the log does, it tries to write a batch until that succeeds. Adds
/// what it may have written to `all`. True: it was killed before it could write the last of that. Nothing after
/// `synced` is sure to last.
fn live(
    (log, disk): (&mut Written, &Memory),
    chance: &mut dyn FnMut(usize) -> usize,
    now_ms: &mut u64,
    (all, synced): (&mut Shown, &mut usize),
) -> bool {
    for _ in 0..chance(12) {
        let text = "x".repeat(chance(300));
        let batch: Vec<&str> = (0..1 + chance(3)).map(|_| &*text).collect();
        let first = log.appender.last() + 1;
        *now_ms += if chance(3) == 0 { 1500 } else { 0 };
        all.extend((first..).zip(&batch).map(|(number, data)| format!("{number} c {data}")));
        fail_some(disk, chance);
        while log.publish_at(*now_ms, &batch).is_err() {
            match chance(8) {
                0 => return true,
                1 => log.appender.set_kept(if chance(2) == 0 { SHORT } else { KEPT }),
                _ => {}
            }
            fail_some(disk, chance);
        }
        if chance(3) == 0 {
            fail_some(disk, chance);
            if log.appender.sync(chance(2) == 0).is_ok() {
                *synced = all.len();
            }
        }
    }
    false
}

#[test]
fn whatever_fails_the_next_hub_starts_and_has_all_that_was_synced_and_nothing_else() {
    let mut failed = 0;
    for (seed, always) in (0..4000).zip([false, true].into_iter().cycle()) {
        let mut chance = chances(seed);
        let disk = Memory::default();
        let (mut all, mut synced, mut now_ms) = (Shown::new(), 0, 1000);
        for _ in 0..2 + chance(3) {
            let (before, _) = read(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(before.len() >= synced && all.starts_with(&before), "seed {seed}: {before:?} of {all:?}, {synced}");
            all = before;
            let mut log = begin_with(&disk, SHORT, always);
            synced = all.len();
            let was_killed = live((&mut log, &disk), &mut chance, &mut now_ms, (&mut all, &mut synced));
            failed += usize::from(was_killed);
            disk.heal();
            if !was_killed && chance(4) == 0 {
                log.close();
                synced = all.len();
            }
            if chance(3) > 0 {
                disk.power_loss(&mut chance);
            }
        }
    }
    assert!(failed > 200, "hubs were killed while their disk failed: {failed}");
}
