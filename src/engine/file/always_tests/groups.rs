//! Callers that publish again as soon as they are answered, and the syncs that serve them.

use super::super::batch::{Batch, Gather};
use super::super::write_behind::Woken;
use super::*;
use crate::hub::Bell;

#[test]
fn the_next_group_is_everybody_who_is_answered_now_or_has_come_meanwhile() {
    let ms = Duration::from_millis;
    let gather = |took, served, came| {
        let Gather { time, awaited, .. } = Gather::NONE.after(ms(took), served, came);
        (time, awaited)
    };
    // One half of the callers came while the other half was synced.
    assert_eq!(gather(1, 32, 32), (Duration::from_micros(500), 64));
    assert_eq!(gather(1, 64, 0), (Duration::from_micros(500), 64));
    assert_eq!(gather(1000, 2, 0), (ms(2), 2), "it waits for no longer, however slow the disk is");
    assert_eq!(gather(1, 1, 0), (Duration::ZERO, 1), "one caller alone is not waited for");
}

#[test]
fn threads_that_wait_for_one_sync_all_get_their_numbers_and_one_that_waits_for_too_long_does_not() {
    let disk = Memory::default();
    // The hub has to settle the requests in several steps, since its mailbox is small.
    let running = start_with(&disk, Sync::Always, 3, 1 << 20);
    running.subscribe("a");
    let submit = |timeout| {
        let outgoing = Outgoing::new("a", None, make(&Publication::new("a", b"x")));
        running.hub.submit_and_wait(vec![outgoing], clock::monotonic_ms(), timeout).unwrap()
    };
    disk.hang(true);
    assert_eq!(submit(Duration::from_millis(20)), None);
    let began = Instant::now();
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let waiting = running.shared.behind.waiting();
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(|| submit(PATIENCE).unwrap().places[0].seq)).collect();
        until("they do not wait", || running.shared.behind.waiting() >= waiting * 13);
        disk.hang(false);
        let mut delivered = 0;
        until("it is not all delivered", || {
            delivered += running.delivered().len();
            delivered == 13
        });
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // A caller that nobody wakes finds its result in the end.
    assert!(began.elapsed() < PATIENCE / 2, "they were not woken");
    numbers.sort_unstable();
    assert_eq!(numbers, (2..14).collect::<Vec<_>>());
    running.stop();
}

/// A hub, the writer of its log, which does not run yet, and the bell at which the first callers wait.
fn prepared(disk: &Memory, mailbox: usize, buffer: usize) -> (Running, Writer, Arc<Bell>) {
    let (hub, mailbox, mut writer) = prepare(disk, Sync::Always, mailbox, buffer);
    writer.serve(Box::new(hub.clone()));
    let running = Running { hub, shared: writer.shared().clone(), mailbox, thread: std::thread::spawn(|| {}) };
    let mut empty = Batch::default();
    let bell = empty.bell.clone();
    running.shared.behind.take(&mut empty);
    (running, writer, bell)
}

#[test]
fn while_a_mailbox_is_full_callers_are_woken_for_results_alone_and_for_several_at_once() {
    let disk = Memory::default();
    let (running, mut writer, bell) = prepared(&disk, 1, 1 << 20);
    running.subscribe("a");
    std::thread::scope(|scope| {
        let submit = || {
            let outgoing = Outgoing::new("a", None, make(&Publication::new("a", b"x")));
            let settled = running.hub.submit_and_wait(vec![outgoing], clock::monotonic_ms(), PATIENCE).unwrap();
            settled.unwrap().places[0].seq
        };
        let one = running.publish("x");
        let waiting = running.shared.behind.waiting();
        let threads: Vec<_> = (1..40).map(|_| scope.spawn(submit)).collect();
        until("they do not wait", || running.shared.behind.waiting() >= waiting * 40);
        let began = Instant::now();
        let turn = scope.spawn(move || {
            assert!(!writer.turn());
            writer
        });
        assert_eq!(seqs(&one), [1]);
        // The shard stands still for a while. Then it takes one message after the other.
        std::thread::sleep(Duration::from_millis(100));
        assert!(bell.rings() <= 1, "{} rings without a result", bell.rings());
        let mut delivered = 0;
        until("it is not all delivered", || {
            delivered += running.delivered().len();
            delivered == 40
        });
        let writer = turn.join().unwrap();
        let most = began.elapsed().as_millis() as usize / 10 + 1;
        assert!(bell.rings() <= most, "{} rings instead of {most}", bell.rings());
        assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).max(), Some(40));
        drop(writer);
    });
}

#[test]
fn the_buffer_has_room_again_before_callers_are_woken() {
    let disk = Memory::default();
    // The message is larger than the buffer.
    let (running, mut writer, bell) = prepared(&disk, 64, 1000);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let outgoing = Outgoing::new("a", None, make(&Publication::new("a", &[b'x'; 2000])));
            running.hub.submit_and_wait(vec![outgoing], clock::monotonic_ms(), PATIENCE).unwrap()
        });
        until("it does not wait", || *bell.hold() == 1);
        let held = bell.hold();
        let turn = scope.spawn(move || {
            assert!(!writer.turn());
            writer
        });
        until("there is no room", || running.shared.behind.waiting() == 0);
        drop(held);
        assert!(caller.join().unwrap().is_some());
        drop(turn.join().unwrap());
    });
}

#[test]
fn callers_that_do_not_come_in_time_are_waited_for_again_only_later() {
    let after = |gather: Gather, served, came| gather.after(Duration::from_millis(1), served, came);
    let mut gather = after(Gather::NONE, 32, 32);
    assert_eq!(gather.awaited, 64);
    let mut waits = 0;
    for _ in 0..170 {
        // The writer never sees more than half of them.
        gather = after(gather, 32, 32);
        waits += usize::from(gather.awaited > 32);
    }
    assert_eq!(waits, 10, "of 17 syncs one waits for all");
    while gather.awaited < 64 {
        gather = after(gather, 32, 32);
    }
    for _ in 0..100 {
        gather = after(gather, 64, 0);
        assert_eq!(gather.awaited, 64, "as long as they come");
    }
}

#[test]
fn two_halves_that_take_turns_become_one_group() {
    let disk = Memory::default();
    let (hub, mailbox, mut writer) = prepare(&disk, Sync::Always, 64, 1 << 20);
    writer.serve(Box::new(hub.clone()));
    let shared = writer.shared().clone();
    let idle = std::thread::spawn(|| {});
    let running = Running { hub, shared, mailbox, thread: idle };
    let publish = |count: usize| -> Vec<_> { (0..count).map(|_| running.publish("x")).collect() };
    let first = publish(4);
    disk.hang(true);
    let before = disk.syncs();
    let turn = std::thread::spawn(move || {
        assert!(!writer.turn());
        writer
    });
    until("no sync begins", || disk.syncs() > before);
    let second = publish(4);
    disk.hang(false);
    let writer = turn.join().unwrap();
    assert_eq!(first.iter().flat_map(seqs).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(writer.gather().awaited, 8);
    // It waits until the first half has published again.
    let behind = running.shared.behind.clone();
    let next = std::thread::spawn(move || {
        let woken = behind.wait(PATIENCE, Gather::until(8));
        let mut batch = Batch::default();
        behind.take(&mut batch);
        (woken, batch.awaited)
    });
    let third = publish(4);
    assert_eq!(next.join().unwrap(), (Woken::Filled, 8));
    drop((second, third, writer));
}
