//! The bounds of what a hub keeps: by count, age and bytes, for each channel and for all together.

use super::tests::{bench, bench_with, message, settings, shown};
use super::*;

#[test]
fn history_is_bounded_by_count_age_and_bytes() {
    let weight = message("1").weight();
    let by_bytes = Retention { count: 10, age_ms: 10_000, bytes: 2 * weight };
    let pattern = ChannelPattern::parse("small.*").unwrap();
    let b = bench_with(Retention { count: 10, age_ms: 100, bytes: 1 << 20 }, &[(pattern, by_bytes)], 3 * weight);
    b.publish_numbers("small.x", 1..=3);
    assert_eq!(shown(&b.subscribe(&["small.x"], b.since(0)).0), ["small.x!1", "2", "3"]);
    b.publish_at("a", "4", 5);
    b.expire(104);
    assert_eq!(b.hub.channel("a").unwrap().messages, 1);
    b.expire(105);
    assert_eq!(b.hub.channel("a"), None);
    b.publish_numbers("a", 5..=6);
    let stats = b.hub.stats();
    assert_eq!((stats.history_messages, stats.history_bytes), (3, 3 * weight as u64), "the oldest of all goes first");
    assert_eq!(shown(&b.subscribe(&["small.x"], b.since(0)).0), ["small.x!2", "3"]);
}

#[test]
fn what_has_outlived_its_age_goes_little_by_little() {
    let b = bench(10_000);
    b.publish_numbers("a", 1..=2000);
    let mut kept = 2000;
    loop {
        let more = b.hub.expire(10_000);
        let left = b.hub.stats().history_messages;
        assert!(kept - left <= 256, "{kept} to {left} under one lock");
        kept = left;
        if !more {
            break;
        }
        // Other threads get the lock, and their messages stay.
        assert_eq!(b.publish_at("b", "x", 10_000), b.hub.seq());
        kept += 1;
    }
    assert_eq!(b.hub.channel("a"), None);
    assert_eq!(kept as usize, b.hub.channel("b").unwrap().messages);
}

#[test]
fn stale_entries_do_not_pile_up() {
    let b = bench(1);
    b.publish_numbers("a", 1..=10_000);
    assert_eq!(b.hub.stats().history_messages, 1);
    b.expire(10_000);
    let stats = b.hub.stats();
    assert_eq!((stats.history_messages, stats.history_bytes, stats.channels), (0, 0, 0));
    for _ in 0..10_000 {
        b.publish_at("a", "x", 10_000);
        b.hub.clear("a");
    }
    assert!(b.hub.state.lock().remembered() < 4096, "{}", b.hub.state.lock().remembered());
}

#[test]
fn other_bounds_count_at_once_for_what_is_kept() {
    let bench = bench(10);
    for n in 0..10 {
        bench.publish(if n % 2 == 0 { "a.even" } else { "a.odd" }, &n.to_string());
    }
    let bounds = |count, age_ms| Retention { count, age_ms, bytes: 1 << 20 };
    let reconfigure = |patterns: &[(ChannelPattern, Retention)], general, total_bytes, now| {
        bench.hub.reconfigure(&settings(general, patterns, total_bytes), now);
        bench.hub.stats().history_messages
    };
    let even = [(ChannelPattern::parse("a.even").unwrap(), bounds(2, 10_000))];
    assert_eq!(reconfigure(&even, bounds(10, 10_000), 1 << 20, 1), 7);
    // A message that was moved to another rule expires by that rule.
    let odd = [(ChannelPattern::parse("a.odd").unwrap(), bounds(10, 50))];
    assert_eq!(reconfigure(&odd, bounds(10, 10_000), 1 << 20, 1), 7);
    bench.expire(100);
    assert_eq!(bench.hub.stats().history_messages, 2);
    assert_eq!(bench.hub.channels("a.", 10).len(), 1, "an idle channel without history is gone");
    // The message is still among the hub's oldest.
    assert_eq!(reconfigure(&[], bounds(10, 10_000), 0, 100), 0);
    assert_eq!(bench.hub.stats().history_bytes, 0);
}

#[test]
fn a_burst_of_channels_gives_its_room_back() {
    let b = bench(1);
    for n in 0..20_000 {
        b.publish(&n.to_string(), "x");
    }
    assert!(b.hub.state.lock().channels.capacity() >= 20_000 / 8);
    b.expire(10_000);
    assert_eq!(b.hub.stats().channels, 0);
    assert!(b.hub.state.lock().channels.capacity() <= 1024, "{}", b.hub.state.lock().channels.capacity());
}
