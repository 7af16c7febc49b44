//! The end of a quiet time, with messages that are delivered before they are written.

use super::super::disk::Disk;
use super::*;

/// True if the file `state` says that the log is complete.
fn says_complete(disk: &Memory) -> bool {
    disk.read("state").unwrap()[52] == 1
}

/// True if the file `state` says that the log may lack messages. The hub may be quiet again by now: then the file was
/// written more often.
fn has_taken_back(disk: &Memory, writes: usize) -> bool {
    !says_complete(disk) || disk.writes("state") > writes
}

/// Publishes a message to the channel `a`. It is delivered at once.
fn publish(running: &Running, data: &str) -> Result<u64, Error> {
    let (placing, _) = running.submit(&[("a", None, data)])?;
    let Placing::Now(settled) = placing else { panic!("{placing:?}") };
    Ok(settled.places[0].seq)
}

/// A hub that has published one message, and is quiet. No sync of the message is due, which would interrupt that.
fn quiet(disk: &Memory) -> Running {
    let running = start_with(disk, Sync::Interval, 64, 1 << 20);
    running.subscribe("a");
    assert_eq!(publish(&running, "one").unwrap(), 1);
    until("it never becomes quiet", || disk.syncs() > 0 && says_complete(disk));
    running
}

#[test]
fn a_hub_that_is_killed_before_anybody_publishes_leaves_no_gap() {
    let disk = Memory::default();
    let prepared = prepare(&disk, Sync::Interval, 64, 1 << 20);
    assert!(says_complete(&disk));
    drop(prepared);
}

#[test]
fn a_publisher_that_wakes_the_writer_for_nothing_does_not_end_the_quiet_time_for_good() {
    let disk = Memory::default();
    let running = start_with(&disk, Sync::Interval, 64, 1 << 20);
    running.submit(&[("a", Some("key"), "one")]).unwrap();
    until("it is never synced", || disk.syncs() > 0 && says_complete(&disk));
    let writes = disk.writes("state");
    // This one was published already.
    running.submit(&[("a", Some("key"), "one")]).unwrap();
    until("it is not quiet again", || disk.writes("state") >= writes + 2 && says_complete(&disk));
    running.stop();
}

#[test]
fn the_first_message_after_a_quiet_time_is_delivered_when_the_file_no_longer_says_that_the_log_is_complete() {
    let disk = Memory::default();
    let running = quiet(&disk);
    for (n, more) in ["two", "three"].into_iter().enumerate() {
        let writes = disk.writes("state");
        assert_eq!(publish(&running, more).unwrap(), n as u64 + 2);
        assert!(has_taken_back(&disk, writes));
        until("it never becomes quiet again", || says_complete(&disk));
    }
    let writes = disk.writes("state");
    let (placing, _) = running.submit(&[("a", None, "four"), ("a", None, "five")]).unwrap();
    assert!(matches!(placing, Placing::Now(_)) && has_taken_back(&disk, writes), "a batch");
    until("it never becomes quiet again", || says_complete(&disk));
    let writes = disk.writes("state");
    running.hub.submit_clear("a", None).unwrap();
    assert!(has_taken_back(&disk, writes), "a history that is cleared");
    running.stop();
}

#[test]
fn if_the_disk_hangs_after_a_quiet_time_publishers_are_refused_in_time_and_hold_up_nobody() {
    let disk = Memory::default();
    let running = quiet(&disk);
    running.delivered();
    disk.hang_writes(true);
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..3).map(|_| scope.spawn(|| publish(&running, "two"))).collect();
        // The hub's lock is free meanwhile.
        running.subscribe("b");
        assert_eq!(running.hub.seq(), 1);
        for publisher in publishers {
            let error = publisher.join().unwrap().unwrap_err();
            assert!(error.kind() == Kind::Busy && error.to_string().contains("disk does not answer"), "{error}");
        }
    });
    assert_eq!(publish(&running, "two").unwrap_err().kind(), Kind::Busy, "at once");
    assert!(says_complete(&disk) && running.delivered().is_empty() && running.hub.seq() == 1, "nothing was done");
    let writes = disk.writes("state");
    disk.hang_writes(false);
    until("it does not go on", || publish(&running, "two").is_ok());
    assert!(has_taken_back(&disk, writes));
    assert_eq!(running.delivered(), ["two"]);
    running.stop();
    assert_eq!(logged(&disk), ["a one", "a two"]);
}

#[test]
fn if_the_disk_fails_after_a_quiet_time_publishing_is_refused_with_the_reason_until_it_heals() {
    let disk = Memory::default();
    let running = quiet(&disk);
    disk.fail_writes(true);
    let error = publish(&running, "two").unwrap_err();
    assert!(error.kind() == Kind::System && error.to_string().contains("Input/output error"), "{error}");
    assert!(running.shared.behind.failure().is_some(), "health says so, too");
    disk.fail_writes(false);
    until("it does not heal", || publish(&running, "two").is_ok());
    assert!(running.shared.behind.failure().is_none());
    running.stop();
    assert_eq!(logged(&disk), ["a one", "a two"]);
}

#[test]
fn a_sync_that_takes_long_in_a_quiet_time_holds_up_no_publisher() {
    let disk = Memory::default();
    let running = quiet(&disk);
    disk.hang(true);
    let before = disk.syncs();
    assert_eq!(publish(&running, "two").unwrap(), 2);
    until("no sync begins", || disk.syncs() > before);
    assert_eq!(publish(&running, "three").unwrap(), 3);
    assert!(!says_complete(&disk));
    disk.hang(false);
    until("it never becomes quiet again", || says_complete(&disk));
    running.stop();
    assert_eq!(logged(&disk), ["a one", "a two", "a three"]);
}

#[test]
fn messages_that_may_be_lost_with_a_failed_sync_are_named() {
    let disk = Memory::default();
    let running = quiet(&disk);
    let behind = running.shared.behind.clone();
    until("it is not synced", || disk.syncs() > 0);
    disk.fail_syncs(true, false);
    assert_eq!(publish(&running, "two").unwrap(), 2);
    until("it does not fail", || behind.failure().is_some());
    assert_eq!(behind.unwritten(), "the messages 2 to 2 may not be in the log");
    disk.fail_syncs(false, false);
    until("it does not heal", || behind.failure().is_none());
    until("they are not sure", || behind.unwritten().starts_with("all messages"));
    running.stop();
}
