//! A hub's own entries, without a log.

use super::*;

fn own(count: u64) -> Own {
    let mut own = Own::new(7, 1 << 20);
    (1..=count).for_each(|counter| assert_eq!(own.offer("", &envelope::Body::Heartbeat(None)), Some(counter)));
    own
}

fn asked(own: &mut Own) -> Option<(u64, Vec<u64>)> {
    let (after, batch) = own.batch(1)?;
    Some((after, batch.iter().map(|entry| entry.id.counter).collect()))
}

fn outcomes(own: &mut Own) -> Vec<(u64, Outcome)> {
    std::iter::from_fn(|| own.outcome()).collect()
}

#[test]
fn what_is_refused_is_asked_for_again_and_nothing_overtakes_it() {
    let mut own = own(9);
    assert_eq!(asked(&mut own), Some((0, vec![1, 2, 3, 4])));
    assert_eq!(asked(&mut own), Some((4, vec![5, 6, 7, 8])));
    assert_eq!(asked(&mut own), None, "enough is on the way");
    own.refused();
    assert_eq!(asked(&mut own), Some((0, vec![1, 2, 3, 4])));
    own.refused();
    assert_eq!(asked(&mut own), Some((4, vec![5, 6, 7, 8])));
    own.placed(&[Placed::At(1); 4]);
    own.placed(&[Placed::At(5); 4]);
    assert_eq!(asked(&mut own), Some((8, vec![9])));
    own.restart();
    (1..=3).for_each(|counter| own.returned(counter, counter));
    assert_eq!(asked(&mut own), Some((0, vec![4, 5, 6, 7])), "over the next connection what has not come back");
}

#[test]
fn an_outcome_is_told_once_also_if_the_log_loses_the_entry() {
    let mut own = own(2);
    own.batch(1);
    own.returned(1, 10);
    own.returned(2, 11);
    assert_eq!(outcomes(&mut own), [(1, Outcome::Published(10)), (2, Outcome::Published(11))]);
    assert_eq!(own.pending_bytes(), 0);
    own.restart();
    own.lost_after(10);
    assert_eq!(asked(&mut own), Some((0, vec![2])));
    own.returned(2, 14);
    assert_eq!((outcomes(&mut own), own.pending_bytes()), (vec![], 0));
}

#[test]
fn an_entry_with_a_known_key_does_not_come_back() {
    let mut own = own(4);
    own.batch(1);
    own.placed(&[Placed::Known(5), Placed::Repeated, Placed::Known(20), Placed::At(21)]);
    own.reached(4);
    assert_eq!(outcomes(&mut own), []);
    own.reached(5);
    assert_eq!(outcomes(&mut own), [(1, Outcome::Known(5))]);
    own.returned(4, 21);
    let expected = [(2, Outcome::Unknown), (3, Outcome::Known(20)), (4, Outcome::Published(21))];
    assert_eq!(outcomes(&mut own), expected, "one that is said to be there would have come before");
    assert_eq!(own.pending_bytes(), 0);
}

#[test]
fn what_is_lost_and_much_is_appended_again_in_order_and_soon() {
    const MANY: u64 = 100_000;
    let mut own = Own::new(7, 1 << 30);
    (1..=MANY).for_each(|counter| assert_eq!(own.offer("", &envelope::Body::Heartbeat(None)), Some(counter)));
    (1..=MANY).for_each(|counter| own.returned(counter, counter));
    outcomes(&mut own);
    // More waits behind it, so each would have to be moved in.
    (1..=MANY).for_each(|_| _ = own.offer("", &envelope::Body::Heartbeat(None)));
    own.restart();
    own.lost_after(1);
    assert!(own.pending.iter().map(|entry| entry.counter).eq(2..=2 * MANY));
    assert_eq!(asked(&mut own), Some((0, vec![2, 3, 4, 5])));
    assert_eq!(own.kept_bytes, own.pending_bytes() / (2 * MANY as usize - 1));
}

#[test]
fn what_the_log_has_trimmed_is_not_appended_again() {
    let mut own = own(6);
    own.batch(1);
    (1..=6).for_each(|counter| own.returned(counter, 10 + counter));
    let bytes = own.kept_bytes / 6;
    own.forget_before(14);
    assert_eq!(own.kept_bytes, 3 * bytes);
    own.restart();
    own.lost_after(0);
    assert_eq!(asked(&mut own), Some((0, vec![4, 5, 6])));
}

#[test]
fn an_append_is_bounded_in_bytes_and_a_large_entry_goes_alone() {
    let mut own = Own::new(7, 1 << 20);
    for bytes in [BATCH_BYTES / 2, BATCH_BYTES / 2, 1, 2 * BATCH_BYTES] {
        own.take("".into(), vec![0; bytes], None);
    }
    assert_eq!(asked(&mut own), Some((0, vec![1, 2])));
    assert_eq!(asked(&mut own), Some((2, vec![3])));
    own.placed(&[Placed::At(1), Placed::At(2)]);
    assert_eq!(asked(&mut own), Some((3, vec![4])));
}

#[test]
fn too_much_is_refused_but_one_entry_goes_alone() {
    let mut own = Own::new(7, 30);
    assert_eq!(own.offer("", &envelope::Body::Heartbeat(None)), Some(1));
    assert_eq!(own.offer("", &envelope::Body::Heartbeat(None)), None);
    own.batch(1);
    own.returned(1, 1);
    assert_eq!(own.offer("", &envelope::Body::Heartbeat(None)), Some(2));
    let mut own = Own::new(7, 1);
    assert_eq!(own.offer("", &envelope::Body::Heartbeat(None)), Some(1));
}
