//! The last numbers of channels at the beginning of a segment, when a sync before it has failed; and the end of a hub.

use super::super::disk::Disk;
use super::*;

#[test]
fn a_failed_sync_does_not_leave_its_messages_out_of_the_next_segments_ends() {
    let disk = Memory::default();
    let running = start(&disk);
    // Segments are small from now on.
    running.shared.set_kept(Kept { age_ms: 600_000, bytes: 512 << 10 });
    assert_eq!(seqs(&running.publish("one")), [1]);
    disk.fail_syncs(true, false);
    // After this message the segment is full.
    let (_, large) = running.submit(&[("b", None, &"x".repeat(100 << 10))]).unwrap();
    until("it does not say so", || running.shared.behind.failure().is_some());
    disk.fail_syncs(false, false);
    assert_eq!(seqs(&large), [2]);
    until("it does not heal", || running.shared.behind.failure().is_none());
    assert_eq!(seqs(&running.publish("three")), [3]);
    running.stop();
    // A log gives the ends of its oldest segment.
    let segments = disk.segments();
    assert_eq!(segments.len(), 2, "{segments:?}");
    disk.remove(&segments[0]).unwrap();
    let mut ends: Vec<(u64, String)> = Vec::new();
    reading::read(&disk, "log", &mut |step| {
        if let Step::Entry { entry: Entry::Ends { channels, .. }, .. } = step {
            ends.extend(channels.iter().map(|(number, channel)| (*number, (*channel).to_owned())));
        }
    })
    .unwrap();
    for end in [(1, "a".to_owned()), (2, "b".to_owned())] {
        assert!(ends.contains(&end), "{end:?} is not among {ends:?}");
    }
}

#[test]
fn a_stop_also_writes_what_was_accepted_while_a_mailbox_was_full() {
    let disk = Memory::default();
    let running = start_with(&disk, Sync::Always, 1, 1 << 20);
    running.subscribe("a");
    assert_eq!(seqs(&running.publish("0")), [1]);
    let before = disk.syncs();
    // It is synced and waits for room in the mailbox, so the thread of the log waits as well.
    running.publish("1");
    until("no sync", || disk.syncs() > before);
    std::thread::sleep(Duration::from_millis(20));
    for n in 2..20 {
        running.publish(&n.to_string());
    }
    running.stop();
    assert_eq!(logged(&disk).len(), 20);
}

#[test]
fn the_last_messages_before_an_end_in_disorder_are_known_to_have_been_synced() {
    let disk = Memory::default();
    let running = start(&disk);
    seqs(&running.publish("one"));
    // A mark says so a moment later, though no further message comes.
    let damaged = || {
        let copy = disk.copy();
        copy.edit(&disk.segments()[0], |bytes| {
            let at = bytes.windows(3).position(|text| text == b"one").unwrap();
            bytes[at] ^= 1;
        });
        crate::engine::file::reading::read(&copy, "log", &mut |_| {}).is_err()
    };
    until("it is taken for a torn end", damaged);
    running.stop();
}
