//! The order in which a replay is told to a client that may be cut off, and come back to another hub.

use super::tests::{bench, Bench};
use super::*;

/// Reads the channels "many" and "few" after a number, with the dropped first: the items, and the positions of the first
/// gaps.
fn told(bench: &Bench, start: Start<'_>) -> (Vec<String>, Vec<Option<u64>>) {
    let names = ["many", "few", "none"];
    let (mut replay, mut ids) = Default::default();
    let (cut, join) = (Cut::Tail, Join::Never);
    let request = Request { shard: 0, names: &names[..], start, limit: usize::MAX, broadcasts: true, cut, join };
    bench.hub.subscribe(&request, &mut replay, &mut ids);
    let first = replay.tell_dropped_first();
    let positions = replay.positions_of_first(first).collect();
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
        (["many!4", "1", "3", "5", "6"].map(str::to_owned).into(), vec![Some(0)])
    );
    assert_eq!(told(&bench, Start::After(1)), (["many!4", "3", "5", "6"].map(str::to_owned).into(), vec![Some(2)]));
    assert_eq!(told(&bench, Start::After(3)), (["many!4", "5", "6"].map(str::to_owned).into(), vec![Some(4)]));
    assert_eq!(told(&bench, Start::After(4)), (["5", "6"].map(str::to_owned).into(), vec![]));
}

#[test]
fn a_client_that_is_cut_off_between_gaps_comes_back_for_all_of_them() {
    let bench = bench(1);
    for channel in ["few", "few", "many", "many", "many"] {
        bench.publish(channel, channel);
    }
    let (items, positions) = told(&bench, Start::After(0));
    assert_eq!(items, ["few!1", "many!4", "few", "many"]);
    assert_eq!(positions, [Some(0), Some(1)]);
    // With a position of another epoch it has nothing to come back to.
    let elsewhere = Position { epoch: "another", seq: 3 };
    let (items, positions) = told(&bench, Start::Since(elsewhere));
    assert_eq!(items, ["none!0", "few!1", "many!4", "few", "many"]);
    assert_eq!(positions, [None, None, Some(1)]);
}
