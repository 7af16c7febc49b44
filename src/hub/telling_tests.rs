//! The order in which a replay is told to a client that may be cut off, and come back to another hub.

use super::telling::GapPosition::{self, Behind, Elsewhere};
use super::tests::{self, bench, Bench};
use super::*;

/// Reads some channels: the items, and the positions of the gaps.
fn told(bench: &Bench, start: Start<'_>) -> (Vec<String>, Vec<GapPosition>) {
    let names = ["many", "few", "none"];
    let (mut replay, mut ids) = Default::default();
    let (cut, join) = (Cut::Tail, Join::Never);
    let request = Request { shard: 0, names: &names[..], start, limit: usize::MAX, broadcasts: true, cut, join };
    bench.hub.subscribe(&request, &mut replay, &mut ids);
    let positions = replay.tell_gaps_first();
    (tests::shown(&replay), positions)
}

#[test]
fn a_gap_comes_before_the_messages_of_other_channels_that_are_older_than_its_end() {
    let bench = bench(2);
    for (channel, data) in [("few", "1"), ("many", "2"), ("few", "3"), ("many", "4"), ("many", "5"), ("many", "6")] {
        bench.publish(channel, data);
    }
    // A client that has the gap comes back for everything behind it, and one that has "1" for everything behind that.
    assert_eq!(
        told(&bench, Start::After(0)),
        (["many!4", "1", "3", "5", "6"].map(str::to_owned).into(), vec![Behind(0)])
    );
    assert_eq!(told(&bench, Start::After(1)), (["many!4", "3", "5", "6"].map(str::to_owned).into(), vec![Behind(2)]));
    assert_eq!(told(&bench, Start::After(3)), (["many!4", "5", "6"].map(str::to_owned).into(), vec![Behind(4)]));
    assert_eq!(told(&bench, Start::After(4)), (["5", "6"].map(str::to_owned).into(), vec![]));
}

#[test]
fn a_client_that_wants_the_newest_messages_is_told_of_gaps_in_their_places() {
    let bench = bench(10);
    for data in ["1", "2", "3", "4", "5", "6"] {
        bench.publish(if matches!(data, "2" | "4") { "few" } else { "many" }, data);
    }
    let names = ["many", "few"];
    let (mut replay, mut ids) = Default::default();
    let limit = 3 * tests::message("x").weight();
    let (start, cut, join) = (Start::Last(10), Cut::Tail, Join::Never);
    let request = Request { shard: 0, names: &names[..], start, limit, broadcasts: true, cut, join };
    bench.hub.subscribe(&request, &mut replay, &mut ids);
    // A client that has read only the first gap asks for the newest messages again: behind 2 it would not be told
    // that 1 is missing. One that has read both has a position before all messages that it has not got.
    assert_eq!(replay.tell_gaps_first(), [GapPosition::None, Behind(3)]);
    assert_eq!(tests::shown(&replay), ["few!2", "many!3", "4", "5", "6"]);
}

#[test]
fn what_has_come_otherwise_is_left_out_and_a_gap_ends_where_that_begins() {
    let bench = bench(2);
    bench.publish_numbers("a", 1..=6);
    let left = |has_after: u64| {
        let (mut replay, mut ids) = Default::default();
        let (names, start, cut, join) = (&["a"], bench.since(1), Cut::Tail, Join::Never);
        let request = Request { shard: 0, names, start, limit: usize::MAX, broadcasts: false, cut, join };
        bench.hub.subscribe(&request, &mut replay, &mut ids);
        replay.leave_out(|_| has_after);
        tests::shown(&replay)
    };
    assert_eq!(left(u64::MAX), ["a!4", "5", "6"]);
    assert_eq!(left(5), ["a!4", "5"]);
    assert_eq!(left(3), ["a!3"]);
    assert_eq!(left(1), [""; 0]);
}

#[test]
fn what_was_read_before_a_gap_of_its_channel_is_missing_as_well() {
    let (mut replay, item) = (Replay::default(), |channel: &str, seq| {
        let mut message = tests::message("x");
        let channel = &Arc::from(channel);
        Message::place(
            &mut message,
            &message::Place { seq, channel: Some(channel), slow: SlowPolicy::Disconnect, stamp: 0 },
        );
        Item::Message(message)
    });
    let gap = |channel: &str, seq| Item::Gap(Some(channel.into()), seq);
    replay.has = replay::Has::UpTo(0);
    replay.items = vec![item("a", 1), item("b", 2), gap("a", 2), item("b", 3), gap("a", 5), item("a", 6)];
    assert_eq!(replay.tell_gaps_first(), [Behind(1)]);
    let left: Vec<_> =
        replay.items.iter().map(|item| (item.channel().unwrap_or(""), item.seq(), item.is_gap())).collect();
    assert_eq!(left, [("a", 5, true), ("b", 2, false), ("b", 3, false), ("a", 6, false)]);
}

#[test]
fn a_client_that_is_cut_off_between_gaps_comes_back_for_all_of_them() {
    let bench = bench(1);
    for channel in ["few", "few", "many", "many", "many"] {
        bench.publish(channel, channel);
    }
    let (items, positions) = told(&bench, Start::After(0));
    assert_eq!(items, ["few!1", "many!4", "few", "many"]);
    assert_eq!(positions, [Behind(0), Behind(1)]);
    // With a position of another epoch it has nothing to come back to.
    let elsewhere = Position { epoch: "another", seq: 3 };
    let (items, positions) = told(&bench, Start::Since(elsewhere));
    assert_eq!(items, ["none!0", "few!1", "many!4", "few", "many"]);
    assert_eq!(positions, [Elsewhere, Elsewhere, Behind(1)]);
}
