//! Ends of logs, and the next hub: what is trusted, and what a new segment takes over.

use super::*;
use crate::engine::file::disk::Place;
use crate::engine::file::state::Whole;

fn chain(disk: &Memory) -> Vec<crate::hub::Link> {
    unwritten(disk, BOOT_TWO).1.lineage().1
}

fn begin_always(disk: &Memory, kept: Kept) -> Written {
    unwritten(disk, BOOT_ONE).1.begin(kept, true, &Ends::unknown, 1000).unwrap()
}

#[test]
fn a_channel_that_was_cleared_in_a_segment_without_messages_stays_cleared() {
    let (disk, mut all) = five(true);
    let mut log = begin(&disk, KEPT);
    log.clear("c");
    log.clear("d");
    log.close();
    all.extend(["5 cleared c", "5 cleared d"].map(String::from));
    // Each of these replaces the segment of the one before.
    for _ in 0..3 {
        assert_eq!(unwritten(&disk, BOOT_TWO).0, all);
        begin(&disk, KEPT).close();
        assert_eq!(disk.segments().len(), 2);
    }
    let mut log = begin(&disk, KEPT);
    log.publish("six").unwrap();
    log.clear("c");
    log.close();
    all.extend(["6 c six", "6 cleared c"].map(String::from));
    // These were cleared behind a message. The segment stays, and they are not noted again.
    begin(&disk, KEPT).close();
    assert_eq!(unwritten(&disk, BOOT_TWO).0, all);
}

#[test]
fn an_older_end_that_an_operator_leaves_is_not_trusted_though_it_was_clean() {
    let (disk, _) = five(true);
    assert!(chain(&disk).is_empty());
    let older = disk.backup();
    let mut log = begin(&disk, KEPT);
    log.publish("six").unwrap();
    log.close();
    assert!(chain(&disk).is_empty());
    // The last segment is moved away.
    let moved = disk.copy();
    moved.remove(&moved.segments()[1]).unwrap();
    assert!(matches!(&chain(&moved)[..], [link] if link.last == 5 && link.lossy));
    // The directory is replaced by a copy of an earlier day.
    assert!(matches!(&chain(&older)[..], [link] if link.last == 5 && link.lossy));
}

#[test]
fn a_start_that_fails_or_is_killed_at_any_step_leaves_no_gap_behind_a_clean_end() {
    for always in [false, true] {
        let (mut failed, mut begun) = (0, 0);
        for room in 0..2000 {
            let (disk, _) = five(true);
            // The disk is full at some step.
            disk.set_room(Some(room));
            match unwritten(&disk, BOOT_ONE).1.begin(KEPT, always, &Ends::unknown, 1000) {
                Ok(_) => begun += 1,
                Err(_) => failed += 1,
            }
            assert!(unwritten(&disk, BOOT_ONE).1.lineage().1.iter().all(|link| !link.lossy), "{always} {room}");
            disk.set_room(None);
            begin(&disk, KEPT);
            assert_eq!(unwritten(&disk, BOOT_ONE).1.lineage().1.iter().filter(|link| link.lossy).count(), 0, "{room}");
        }
        assert!(failed > 0 && begun > 0);
    }
}

#[test]
fn a_clean_end_on_a_full_disk_leaves_no_gap() {
    let (disk, _) = five(true);
    let mut log = begin(&disk, KEPT);
    log.publish("six").unwrap();
    disk.set_room(Some(0));
    log.close();
    disk.set_room(None);
    assert_eq!(chain(&disk), []);
}

#[test]
fn a_hub_that_delivers_nothing_before_a_sync_tells_no_gap_unless_a_segment_is_gone() {
    let kept = Kept { age_ms: 8000, ..KEPT };
    let disk = Memory::default();
    let mut log = begin_always(&disk, kept);
    for (number, now_ms) in [(1, 1000), (2, 3000), (3, 5000)] {
        log.publish_at(now_ms, &[&number.to_string()]).unwrap();
        log.appender.sync(false).unwrap();
        log.state.tell(Whole::Always(log.appender.first())).unwrap();
    }
    assert_eq!(disk.segments().len(), 3);
    assert!(matches!(&chain(&disk)[..], [link] if link.last == 3 && !link.lossy));
    let moved = disk.copy();
    moved.remove(&moved.segments()[2]).unwrap();
    assert!(matches!(&chain(&moved)[..], [link] if link.last == 2 && link.lossy));
    assert!(matches!(&chain(&disk.backup())[..], [link] if link.last == 3 && link.lossy));
    // A loss of power may leave what was said at the start.
    disk.power_loss(&mut |_| 0);
    assert!(matches!(&chain(&disk)[..], [link] if link.last == 3 && !link.lossy));
}

#[test]
fn a_mark_is_on_the_disk_before_the_next_segment_begins() {
    let kept = Kept { age_ms: 8000, ..KEPT };
    let disk = Memory::default();
    let mut log = begin(&disk, kept);
    log.publish("one").unwrap();
    log.appender.sync(true).unwrap();
    log.publish_at(3000, &["two"]).unwrap();
    log.appender.sync(false).unwrap();
    // The size of each file outlasts the loss of power, and of the bytes what was synced.
    disk.power_loss(&mut |below| if below > 2 { below - 1 } else { 0 });
    assert_eq!(read(&disk).unwrap().0, ["1 c one", "2 c two"]);
}

#[test]
fn what_is_too_old_goes_before_anything_is_written_and_the_last_segment_stays() {
    let kept = Kept { age_ms: 8000, ..KEPT };
    let disk = Memory::default();
    let mut log = begin(&disk, kept);
    for now_ms in [1000, 3000, 5000] {
        log.publish_at(now_ms, &["x"]).unwrap();
    }
    log.close();
    assert_eq!(disk.segments().len(), 3);
    disk.set_room(Some(0));
    let again = unwritten(&disk, BOOT_ONE).1.begin(kept, false, &Ends::unknown, 100_000);
    assert!(again.unwrap_err().to_string().contains("No space left"), "the disk is full");
    assert_eq!(disk.segments().len(), 1, "what retention allows is gone");
    disk.set_room(None);
    let (_, log) = unwritten(&disk, BOOT_ONE);
    assert_eq!((log.last(), log.lineage().1.len()), (3, 0), "the numbers and the epoch go on");
}

#[test]
fn a_reader_beside_a_running_hub_passes_over_segments_that_were_just_removed() {
    /// A disk that lists a segment which is gone by then.
    #[derive(Debug)]
    struct Late(Memory, String);

    impl Disk for Late {
        fn list(&self) -> std::io::Result<Vec<String>> {
            Ok(self.0.list()?.into_iter().chain([self.1.clone()]).collect())
        }
        fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
            self.0.read(name)
        }
        fn create(&self, name: &str, content: &dyn Fn(u64) -> Vec<u8>) -> std::io::Result<Box<dyn Place>> {
            self.0.create(name, content)
        }
        fn open(&self, name: &str) -> std::io::Result<Box<dyn Place>> {
            self.0.open(name)
        }
        fn remove(&self, name: &str) -> std::io::Result<()> {
            self.0.remove(name)
        }
        fn identity(&self, name: &str) -> std::io::Result<u64> {
            self.0.identity(name)
        }
    }

    let (disk, _) = five(true);
    let mut log = begin(&disk, KEPT);
    log.publish("six").unwrap();
    log.close();
    let [first, second] = &disk.segments()[..] else { panic!("two segments") };
    disk.remove(first).unwrap();
    let found = |gone: &String| reading::read(&Late(disk.clone(), gone.clone()), "log", &mut |_| {});
    assert_eq!(found(first).unwrap().last, 6);
    // Only the oldest segments are removed.
    let later = format!("{:020}.log", 99);
    assert_ne!(*second, later);
    assert!(found(&later).is_err());
}

#[test]
fn a_payload_that_looks_like_many_records_does_not_make_a_start_take_long() {
    let disk = Memory::default();
    let mut log = begin(&disk, KEPT);
    log.publish("one").unwrap();
    log.appender.sync(true).unwrap();
    log.publish("two").unwrap();
    let begins = log.appender.bytes() as usize;
    // Each of these could be the beginning of a record that covers most of the payload.
    let head = [&900_000u32.to_le_bytes()[..], &[0; 4], &3u64.to_le_bytes()].concat();
    let mut bytes = Vec::new();
    record::append(&mut bytes, 3, |into| write_message(1000, false, &noted("c", &head.repeat(1 << 16)), into));
    log.append(&mut bytes, 3).unwrap();
    // A bit of the second message is flipped. It was not synced, so the end is torn.
    let name = disk.segments().remove(0);
    disk.edit(&name, |bytes| bytes[begins - 1] ^= 1);
    let before = record::tests::SUMMED.get();
    let (shown, found) = read(&disk).unwrap();
    assert_eq!((shown, found.torn.is_some()), (vec!["1 c one".to_string()], true));
    let summed = record::tests::SUMMED.get() - before;
    assert!(summed < 4 * disk.read(&name).unwrap().len(), "{summed}");
}
