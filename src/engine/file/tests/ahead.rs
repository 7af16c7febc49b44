//! Zeros that a hub with `engine_sync=always` writes ahead.

use super::super::growing::FIRST;
use super::super::segment::STEP;
use super::*;

/// The length of a file.
fn len(disk: &Memory, name: &str) -> u64 {
    disk.read(name).unwrap().len() as u64
}

#[test]
fn over_zeros_a_sync_need_not_write_another_length() {
    let (disk, other) = (Memory::default(), Memory::default());
    for (disk, always) in [(&disk, true), (&other, false)] {
        let mut log = begin_with(disk, KEPT, always);
        for _ in 0..200 {
            log.publish("x").unwrap();
            log.appender.sync(false).unwrap();
            let (len, bytes) = (len(disk, &disk.segments()[0]), log.appender.bytes());
            assert!(len <= bytes + STEP.min(FIRST.max(bytes)), "{len} for {bytes}");
        }
        log.close();
        assert_eq!(len(disk, &disk.segments()[0]), log.appender.bytes(), "a clean end leaves none");
    }
    assert!(disk.longer() < 20 && other.longer() >= 200, "{} {}", disk.longer(), other.longer());
    assert_eq!(read(&disk).unwrap().0, read(&other).unwrap().0);
}

#[test]
fn zeros_end_the_log_of_a_killed_hub_and_the_next_one_cuts_them_off() {
    let disk = Memory::default();
    let mut log = begin_with(&disk, KEPT, true);
    log.publish("one").unwrap();
    let bytes = log.appender.bytes();
    let name = disk.segments().remove(0);
    assert_eq!(len(&disk, &name), bytes + FIRST);
    let (shown, found) = read(&disk).unwrap();
    assert_eq!((shown, found.torn, found.zeros as u64), (vec!["1 c one".into()], None, FIRST));
    assert_eq!(found.segments[0].bytes, bytes);
    // Before it begins the next segment: only the last one may have zeros.
    for always in [true, false] {
        let disk = disk.copy();
        let mut next = begin_with(&disk, KEPT, always);
        assert_eq!(len(&disk, &name), bytes);
        next.publish("next").unwrap();
        assert_eq!(read(&disk).unwrap().0, ["1 c one", "3 c next"]);
    }
    // If they can't be cut off, it does not start, and a later start does it.
    disk.fail_cuts(true);
    assert!(unwritten(&disk, BOOT_ONE).1.begin(KEPT, true, &Ends::unknown, 1000).is_err());
    assert_eq!(disk.segments().len(), 1);
    disk.fail_cuts(false);
    begin_with(&disk, KEPT, true).close();
    assert!(read(&disk).unwrap().1.segments.len() == 2);
}

#[test]
fn zeros_behind_a_clean_end_are_no_torn_end() {
    // The cut fails; or there is no room for the last entry, and the power takes the cut back.
    for full in [false, true] {
        let disk = Memory::default();
        let mut log = begin_with(&disk, KEPT, true);
        log.publish("one").unwrap();
        log.appender.sync(false).unwrap();
        disk.fail_cuts(!full);
        disk.fail_writes(full);
        log.appender.close(1000).unwrap();
        disk.heal();
        log.state.close(1).unwrap();
        let name = disk.segments().remove(0);
        if full {
            disk.power_loss(&mut |_| 0);
        }
        assert!(len(&disk, &name) > log.appender.bytes(), "{full}");
        let (shown, found) = read(&disk).unwrap();
        assert_eq!((shown, found.torn, found.closed), (vec!["1 c one".into()], None, !full));
        let (_, next) = unwritten(&disk, BOOT_TWO);
        assert_eq!(next.lineage().1, []);
        next.begin(KEPT, true, &Ends::unknown, 1000).unwrap();
        assert_eq!(len(&disk, &name), found.segments[0].bytes);
    }
}

#[test]
fn zeros_that_no_hub_has_written_ahead_are_a_torn_end() {
    let torn = |disk: &Memory| read(disk).unwrap().1.torn.is_some();
    let (ahead, behind) = (Memory::default(), Memory::default());
    begin_with(&ahead, KEPT, true).publish("one").unwrap();
    begin_with(&behind, KEPT, false).publish("one").unwrap();
    let name = ahead.segments().remove(0);
    assert!(!torn(&ahead) && !torn(&behind));
    behind.edit(&name, |bytes| bytes.push(0));
    assert!(torn(&behind), "its hub has written none");
    ahead.edit(&name, |bytes| bytes.resize(bytes.len() + (STEP - FIRST) as usize, 0));
    assert!(!torn(&ahead));
    ahead.edit(&name, |bytes| bytes.push(0));
    assert!(torn(&ahead), "there are more than a step");
    ahead.edit(&name, |bytes| {
        bytes.pop();
        *bytes.last_mut().unwrap() = 1;
    });
    assert!(torn(&ahead), "there is something else among them");
}

#[test]
fn zeros_do_not_count_among_the_bytes_of_a_torn_end() {
    use super::super::showing::Rest;
    let disk = Memory::default();
    let mut log = begin_with(&disk, KEPT, true);
    log.publish("one").unwrap();
    let (end, name) = (log.appender.bytes() as usize, disk.segments().remove(0));
    let torn = |disk: &Memory| read(disk).unwrap().1.torn.map(|(at, bytes)| (at, Rest(bytes).to_string()));
    // The copy of a log is not the one of which the file `state` tells.
    assert_eq!(torn(&disk.backup()), Some((end, "only zeros are".into())));
    for (bytes, text) in [(1, "1 byte is"), (20, "20 bytes are")] {
        disk.edit(&name, |content| content[end..end + bytes].fill(7));
        assert_eq!(torn(&disk), Some((end, text.into())));
    }
    begin_with(&disk, KEPT, true);
    assert_eq!(len(&disk, &name), end as u64);
}

#[test]
fn where_a_later_entry_says_that_a_place_was_synced_zeros_are_damage() {
    let disk = Memory::default();
    let mut log = begin_with(&disk, KEPT, true);
    let from = log.appender.bytes() as usize;
    log.publish("one").unwrap();
    let to = log.appender.bytes() as usize;
    log.appender.sync(true).unwrap();
    let name = disk.segments().remove(0);
    disk.edit(&name, |bytes| bytes[from..to].fill(0));
    let error = read(&disk).unwrap_err();
    assert!(error.contains(&format!("byte {from}: an entry is damaged")), "{error}");
}

#[test]
fn zeros_in_the_copy_of_a_log_in_use_are_a_torn_end_also_before_a_later_entry() {
    let disk = Memory::default();
    let mut log = begin_with(&disk, KEPT, true);
    log.publish("one").unwrap();
    let from = log.appender.bytes() as usize;
    log.publish("two").unwrap();
    let to = log.appender.bytes() as usize;
    log.appender.sync(true).unwrap();
    let name = disk.segments().remove(0);
    // The copy was read up to the place of "two" and further, into zeros, before that was written, and the rest later.
    let copy = disk.backup();
    copy.edit(&name, |bytes| bytes[from..to].fill(0));
    let (shown, found) = read(&copy).unwrap();
    assert_eq!((shown, found.torn.unwrap().0), (vec!["1 c one".into()], from));
    let mut next = begin_with(&copy, KEPT, true);
    next.publish("next").unwrap();
    next.close();
    assert_eq!(read(&copy).unwrap().0, ["1 c one", "3 c next"]);
    // Anything else is damage in a copy as well, and so are zeros if nothing tells that it is one.
    for (fill, state) in [(7, true), (0, false)] {
        let copy = disk.backup();
        copy.edit(&name, |bytes| bytes[from..to].fill(fill));
        if !state {
            copy.edit("state", |bytes| bytes[20] ^= 1);
        }
        assert!(read(&copy).unwrap_err().contains(&format!("byte {from}: an entry is damaged")), "{fill}");
    }
}

#[test]
fn a_log_in_use_that_looks_damaged_is_read_again_and_each_entry_is_shown_once() {
    let disk = Memory::default();
    let mut log = begin_with(&disk, KEPT, true);
    log.publish("one").unwrap();
    let from = log.appender.bytes() as usize;
    log.publish("two").unwrap();
    let place = from..log.appender.bytes() as usize;
    log.appender.sync(true).unwrap();
    log.publish("three").unwrap();
    let show = || {
        let mut out = Vec::new();
        super::super::showing::show(&disk, "log", true, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let expected = show().unwrap();
    let name = disk.segments().remove(0);
    disk.read_early(&name, place.clone());
    assert!(read(&disk).is_err());
    disk.read_early(&name, place.clone());
    assert_eq!(show().unwrap(), expected);
    disk.edit(&name, |bytes| bytes[place].fill(0));
    assert!(show().is_err());
}

#[test]
fn a_segment_has_no_zeros_when_the_next_one_begins() {
    let disk = Memory::default();
    // After a second the next segment begins.
    let mut log = begin_with(&disk, Kept { age_ms: 8000, ..KEPT }, true);
    let present = |disk: &Memory| len(disk, &disk.segments().pop().unwrap());
    for (now_ms, segments) in [(1000, 1), (3000, 2), (5000, 3)] {
        let before = log.appender.bytes();
        log.publish_at(now_ms, &["x"]).unwrap();
        log.appender.sync(false).unwrap();
        assert_eq!(disk.segments().len(), segments);
        assert!(present(&disk) > log.appender.bytes() - before, "it has zeros while it is the last");
    }
    // The cut was synced before that.
    disk.power_loss(&mut |_| 0);
    let (shown, found) = read(&disk).unwrap();
    assert_eq!(shown.len(), 3);
    for segment in &found.segments[..2] {
        assert_eq!(len(&disk, &segment.name), segment.bytes);
    }
    // And without it no segment begins.
    disk.fail_cuts(true);
    assert!(log.publish_at(7000, &["x"]).is_err());
    assert_eq!(disk.segments().len(), 3);
    disk.fail_cuts(false);
    log.publish_at(7000, &["last"]).unwrap();
    assert_eq!((disk.segments().len(), read(&disk).unwrap().0.len()), (4, 4));
}

#[test]
fn a_full_segment_has_no_more_zeros_than_it_needs() {
    let disk = Memory::default();
    // Segments of 64 KB.
    let mut log = begin_with(&disk, Kept { bytes: 1 << 16, ..KEPT }, true);
    let name = disk.segments().remove(0);
    for _ in 0..1200 {
        log.publish(&"x".repeat(40)).unwrap();
        assert!(len(&disk, &name) <= (1 << 16) + 100);
    }
    assert_eq!(disk.segments().len(), 2);
}

#[test]
fn a_disk_without_room_for_zeros_takes_records_as_long_as_it_can() {
    let disk = Memory::default();
    let mut log = begin_with(&disk, KEPT, true);
    log.publish("one").unwrap();
    let room = 3 * STEP as usize / 2;
    disk.set_room(Some(room));
    let (before, mut count) = (log.appender.bytes(), 1);
    while log.publish("x").is_ok() {
        log.appender.sync(false).unwrap();
        count += 1;
    }
    let taken = log.appender.bytes() - before;
    assert!(taken > (room as u64 + FIRST) - 60, "{taken} of {room}, and what was ahead");
    disk.set_room(None);
    log.publish("x").unwrap();
    log.close();
    assert_eq!(read(&disk).unwrap().0.len(), count + 1);
}

#[test]
fn large_appends_have_no_zeros_behind_them() {
    let disk = Memory::default();
    let mut log = begin_with(&disk, KEPT, true);
    log.publish(&"x".repeat(STEP as usize / 8)).unwrap();
    assert_eq!(len(&disk, &disk.segments()[0]), log.appender.bytes());
}
