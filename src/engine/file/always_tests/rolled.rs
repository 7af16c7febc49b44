//! A log that has gone on in another segment, and a loss of power.

use super::super::disk::Disk;
use super::*;
use crate::hub::Link;

/// Publishes until the log has this many segments. Returns the last number.
fn fill(disk: &Memory, running: &Running, segments: usize) -> u64 {
    let data = "x".repeat(256 << 10);
    loop {
        let last = seqs(&running.publish(&data))[0];
        if disk.segments().len() >= segments {
            return last;
        }
    }
}

/// What a hub finds in the log after another boot.
fn chain(disk: &Memory) -> Vec<Link> {
    Unwritten::read(Arc::new(disk.clone()), None, "log".into(), [b'2'; BOOT], &mut |_| {}).unwrap().lineage().1
}

#[test]
fn no_loss_of_power_at_or_after_a_new_segment_is_told_as_a_gap() {
    let disk = Memory::default();
    let running = start_with(&disk, Sync::Always, 64, 1 << 20);
    let last = fill(&disk, &running, 3);
    for seed in 0..64_u64 {
        let after = disk.copy();
        let mut state = seed;
        after.power_loss(&mut |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as usize) % below.max(1)
        });
        let chain = chain(&after);
        assert!(chain.len() == 1 && !chain[0].lossy && chain[0].last == last, "seed {seed}: {chain:?}");
    }
    running.stop();
}

#[test]
fn a_last_segment_that_was_moved_away_is_told_as_a_gap() {
    let disk = Memory::default();
    let running = start_with(&disk, Sync::Always, 64, 1 << 20);
    fill(&disk, &running, 3);
    let killed = disk.copy();
    running.stop();
    let last = killed.segments().pop().unwrap();
    killed.remove(&last).unwrap();
    assert!(chain(&killed).last().unwrap().lossy);
}
