//! Compares the hub with a simple model of its promises.

use super::*;
use std::sync::atomic::AtomicU32;

struct CountedWake(Arc<AtomicU32>);

impl Wake for CountedWake {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) struct Bench {
    pub(super) hub: Hub,
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    wakes: Arc<AtomicU32>,
}

const ROOM: usize = 64;

pub(super) fn settings(
    retention: Retention,
    patterns: &[(ChannelPattern, Retention)],
    total_bytes: usize,
) -> Settings<'_> {
    Settings { patterns, total_bytes, key_window_ms: 1000, ..Settings::keeping(retention) }
}

pub(super) fn bench_with(retention: Retention, patterns: &[(ChannelPattern, Retention)], total_bytes: usize) -> Bench {
    let wakes = Arc::new(AtomicU32::new(0));
    let mailboxes: Vec<_> =
        (0..2).map(|_| Arc::new(Mailbox::new(ROOM, Box::new(CountedWake(wakes.clone()))))).collect();
    let settings = settings(retention, patterns, total_bytes);
    Bench { hub: Hub::new(Epoch::from_random(1), &settings, mailboxes.clone()), mailboxes, wakes }
}

pub(super) fn bench(count: usize) -> Bench {
    bench_with(Retention { count, age_ms: 10_000, bytes: 1 << 20 }, &[], 1 << 20)
}

pub(super) fn message(data: &str) -> Arc<Message> {
    Message::new(&Publication::new("", data.as_bytes()), false, b"")
}

/// The content of a replay, as text: `name!seq` for a gap, `data` for a message.
pub(super) fn shown(replay: &Replay) -> Vec<String> {
    let show = |item: &Item| match item {
        Item::Gap(..) | Item::Loss(..) => format!("{}!{}", item.channel().unwrap_or("*"), item.seq()),
        Item::Message(message) => String::from_utf8(message.data().to_vec()).unwrap(),
    };
    replay.items.iter().map(show).collect()
}

impl Bench {
    pub(super) fn expire(&self, now: u64) {
        while self.hub.expire(now) {}
    }

    pub(super) fn publish(&self, channel: &str, data: &str) -> u64 {
        self.publish_at(channel, data, 0)
    }

    pub(super) fn publish_numbers(&self, channel: &str, numbers: std::ops::RangeInclusive<usize>) {
        for n in numbers {
            self.publish(channel, &n.to_string());
        }
    }

    pub(super) fn publish_at(&self, channel: &str, data: &str, now: u64) -> u64 {
        self.hub.publish(Outgoing::new(channel, None, message(data)), now).unwrap().seq
    }

    pub(super) fn subscribe(&self, names: &[&str], start: Start<'_>) -> (Replay, Vec<(ChannelId, Arc<str>)>) {
        self.subscribe_with(names, start, usize::MAX, Cut::Tail)
    }

    fn subscribe_with(
        &self,
        names: &[&str],
        start: Start<'_>,
        limit: usize,
        cut: Cut,
    ) -> (Replay, Vec<(ChannelId, Arc<str>)>) {
        let (mut replay, mut ids) = (Replay::default(), Vec::new());
        let request = Request { shard: 0, names, start, limit, broadcasts: true, cut, join: Join::Always };
        self.hub.subscribe(&request, &mut replay, &mut ids);
        (replay, ids)
    }

    /// The messages in shard 0's mailbox.
    fn delivered(&self) -> Vec<String> {
        std::iter::from_fn(|| self.mailboxes[0].pop())
            .map(|delivery| String::from_utf8(delivery.message.data().to_vec()).unwrap())
            .collect()
    }

    pub(super) fn since(&self, seq: u64) -> Start<'_> {
        Start::Since(Position { epoch: self.hub.epoch().as_str(), seq })
    }
}

#[test]
fn a_subscriber_gets_what_it_missed_then_what_comes() {
    let b = bench(10);
    b.publish("a", "1");
    b.publish("b", "2");
    b.publish("a", "3");
    let (replay, ids) = b.subscribe(&["a"], b.since(1));
    assert_eq!((shown(&replay), replay.position, replay.complete), (vec!["3".to_string()], 3, true));
    assert_eq!(ids.len(), 1);
    b.publish("b", "4");
    b.publish("a", "5");
    assert_eq!(b.delivered(), ["5"]);
    assert!(b.mailboxes[1].pop().is_none(), "a shard without subscribers gets nothing");
}

#[test]
fn channels_are_merged_in_the_order_of_the_sequence() {
    let b = bench(10);
    for (channel, data) in [("a", "1"), ("b", "2"), ("c", "x"), ("a", "3"), ("", "4"), ("b", "5")] {
        b.publish(channel, data);
    }
    let (replay, _) = b.subscribe(&["b", "a"], b.since(0));
    assert_eq!(shown(&replay), ["1", "2", "3", "4", "5"], "broadcasts are among them");
}

#[test]
fn what_was_trimmed_is_a_gap_where_it_is() {
    let b = bench(2);
    b.publish_numbers("a", 1..=4);
    let (replay, _) = b.subscribe(&["a"], b.since(1));
    assert_eq!(shown(&replay), ["a!2", "3", "4"]);
    let (replay, _) = b.subscribe(&["a"], b.since(2));
    assert_eq!(shown(&replay), ["3", "4"], "nothing was missed");
    // The gap of one channel is between the messages of another, so that no position skips it.
    let b = bench(2);
    for (channel, data) in [("b", "1"), ("a", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
        b.publish(channel, data);
    }
    let (replay, _) = b.subscribe(&["a", "b"], b.since(0));
    assert_eq!(shown(&replay), ["1", "a!2", "3", "4", "5"]);
}

#[test]
fn another_life_is_a_gap_and_then_what_there_is() {
    let b = bench(10);
    b.publish("a", "1");
    for start in [Start::Since(Position { epoch: "other", seq: 0 }), b.since(99)] {
        let (replay, _) = b.subscribe(&["a", "new"], start);
        assert_eq!(shown(&replay), ["a!0", "new!0", "1"]);
    }
}

#[test]
fn a_channel_that_disappeared_is_remembered() {
    let b = bench(10);
    let before = b.publish("a", "1");
    b.expire(10_000);
    assert_eq!(b.hub.channel("a"), None, "without subscribers and history a channel goes");
    let (replay, _) = b.subscribe(&["a"], b.since(before - 1));
    assert_eq!(shown(&replay), ["a!1"]);
    let (replay, _) = b.subscribe(&["a", "never"], b.since(before));
    assert_eq!(shown(&replay), [""; 0]);
}

#[test]
fn without_history_every_message_missed_is_a_gap() {
    let b = bench(0);
    b.publish("a", "1");
    let (replay, _) = b.subscribe(&["a"], b.since(0));
    assert_eq!(shown(&replay), ["a!1"]);
    b.publish("a", "2");
    assert_eq!(b.delivered(), ["2"]);
    let (replay, _) = b.subscribe(&["a"], b.since(1));
    assert_eq!(shown(&replay), ["a!2"]);
}

#[test]
fn last_gives_the_newest_of_each_channel() {
    let b = bench(10);
    for (channel, data) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")] {
        b.publish(channel, data);
    }
    let (replay, _) = b.subscribe(&["a", "b", "c"], Start::Last(2));
    assert_eq!(shown(&replay), ["2", "3", "4"]);
    let one = message("1").weight();
    let (replay, _) = b.subscribe_with(&["a", "b"], Start::Last(2), one, Cut::Tail);
    assert_eq!(shown(&replay), ["b!2", "a!3", "4"], "what does not fit is a gap");
}

#[test]
fn a_gap_before_a_message_that_is_larger_than_the_limit_is_told() {
    let b = bench(1);
    b.publish_numbers("a", 1..=3);
    let (replay, _) = b.subscribe_with(&["a"], b.since(1), 1, Cut::Head);
    assert_eq!(shown(&replay), ["a!2", "3"]);
}

#[test]
fn of_a_long_history_no_more_is_read_than_may_be_given() {
    let b = bench_with(Retention { count: 10_000, age_ms: 10_000, bytes: 1 << 30 }, &[], 1 << 30);
    b.publish_numbers("a", 1001..=5000);
    let limit = 3 * message("1001").weight();
    for (start, cut, expected) in [
        (b.since(0), Cut::Head, &["a!3997", "4998", "4999", "5000"]),
        (Start::Last(4000), Cut::Tail, &["a!3997", "4998", "4999", "5000"]),
    ] {
        let (replay, _) = b.subscribe_with(&["a"], start, limit, cut);
        assert_eq!(shown(&replay), expected);
        assert!(replay.items.capacity() < 20, "{cut:?}: {}", replay.items.capacity());
    }
    let (replay, _) = b.subscribe_with(&["a"], b.since(0), limit, Cut::Tail);
    assert_eq!(shown(&replay), ["1001", "1002", "1003"]);
    assert!(replay.items.capacity() < 20, "{}", replay.items.capacity());
}

#[test]
fn nor_of_many_channels_together() {
    let b = bench_with(Retention { count: 100, age_ms: 10_000, bytes: 1 << 30 }, &[], 1 << 30);
    let names: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for n in 1000..5000 {
        b.publish(names[n % 100], &n.to_string());
    }
    let limit = 3 * message("1000").weight();
    let (replay, _) = b.subscribe_with(&names, b.since(0), limit, Cut::Tail);
    assert_eq!(shown(&replay), ["1000", "1001", "1002"]);
    assert!(!replay.complete && replay.items.capacity() < 20, "{}", replay.items.capacity());
    // A gap for each channel, and the newest message of all.
    let (replay, _) = b.subscribe_with(&names, Start::Last(40), limit, Cut::Tail);
    assert_eq!(shown(&replay)[99..], ["c96!3997", "4997", "4998", "4999"]);
    assert!(replay.items.capacity() < 300, "{}", replay.items.capacity());
}

#[test]
fn a_long_replay_comes_in_parts_and_loses_nothing() {
    let b = bench(100);
    for n in 1..=20 {
        b.publish(if n % 3 == 0 { "b" } else { "a" }, &n.to_string());
    }
    for limit in [1, message("1").weight(), 3 * message("1").weight(), usize::MAX] {
        a_replay_in_parts_of(&b, limit);
    }
}

fn a_replay_in_parts_of(b: &Bench, limit: usize) {
    let mut seen = Vec::new();
    let mut start = b.since(0);
    loop {
        let (replay, ids) = b.subscribe_with(&["a", "b"], start, limit, Cut::Tail);
        seen.extend(shown(&replay));
        if replay.complete {
            assert_eq!(ids.len(), 2);
            let leaves = ids.iter().map(|(channel, _)| Leave { channel: *channel, count: 1, last: true });
            b.hub.leave(0, &leaves.collect::<Vec<_>>());
            break;
        }
        assert_eq!(b.hub.stats().subscriptions, 0, "not subscribed while catching up");
        start = Start::After(replay.position);
    }
    assert_eq!(seen, (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn channels_are_listed_wherever_they_are() {
    let b = bench(1);
    let name = |n: usize| format!("{}.{n}", if n.is_multiple_of(2) { "even" } else { "odd" });
    for n in 0..3000 {
        b.publish(&name(n), "x");
    }
    // Every third one stays.
    (0..3000usize).filter(|n| !n.is_multiple_of(3)).for_each(|n| assert!(b.hub.clear(&name(n))));
    let names = |prefix: &str, limit| {
        let mut names: Vec<_> = b.hub.channels(prefix, limit).into_iter().map(|info| info.name).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(names("", 5000).len(), 1000);
    let even = names("even.", 5000);
    assert!(even.len() == 500 && even.iter().all(|name| name.starts_with("even.")));
    assert_eq!((names("odd.2997", 10).len(), names("even.", 499).len(), names("e", 0).len()), (1, 499, 0));
    assert!(names("none", 10).is_empty());
    let first = |prefix: &str, limit| {
        b.hub.first_channels(prefix, limit).into_iter().map(|info| info.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(first("", 5), ["even.0", "even.1002", "even.1008", "even.1014", "even.102"]);
    assert_eq!((first("odd.", 5000).len(), first("odd.", 499).len(), first("none", 5).len()), (500, 499, 0));
}

#[test]
fn a_key_publishes_once_within_its_window() {
    let b = bench(10);
    let publish = |channel, now| {
        let outgoing = Outgoing::new(channel, Some(Key::Host("k")), message("x"));
        b.hub.publish(outgoing, now).unwrap().seq
    };
    assert_eq!((publish("a", 0), publish("a", 999), publish("b", 999)), (1, 1, 2));
    assert_eq!(publish("a", 1000), 3, "the window is over");
    assert_eq!(b.hub.stats().duplicates, 1);
}

#[test]
fn a_full_mailbox_refuses_and_does_nothing() {
    let b = bench(1000);
    b.subscribe(&["a"], Start::New);
    b.publish_numbers("a", 1..=ROOM);
    let refused = b.hub.publish(Outgoing::new("a", Some(Key::Host("k")), message("x")), 0);
    assert_eq!(refused.unwrap_err().kind(), Kind::Busy);
    let batch = || vec![("free", "1"), ("a", "2")].into_iter();
    let outgoing = |(channel, data)| Outgoing::new(channel, None, message(data));
    assert_eq!(b.hub.publish_batch(batch().map(outgoing).collect(), 0).unwrap_err().kind(), Kind::Busy);
    let stats = b.hub.stats();
    assert_eq!((stats.seq, stats.busy, stats.history_messages), (ROOM as u64, 2, ROOM as u64));
    assert_eq!(b.delivered().len(), ROOM);
    assert!(b.hub.publish_batch(batch().map(outgoing).collect(), 0).is_ok());
    assert_eq!(b.delivered(), ["2"]);
}

#[test]
fn leaving_ends_delivery_and_idle_channels() {
    let b = bench(0);
    let (_, ids) = b.subscribe(&["a"], Start::New);
    b.subscribe(&["a"], Start::New);
    let channel = ids[0].0;
    b.hub.leave(0, &[Leave { channel, count: 1, last: false }]);
    assert_eq!(b.hub.channel("a").unwrap().subscribers, 1);
    b.hub.leave(0, &[Leave { channel, count: 1, last: true }]);
    assert_eq!(b.hub.channel("a"), None);
    b.publish("a", "1");
    assert_eq!(b.delivered(), [""; 0]);
}

#[test]
fn only_who_sleeps_is_woken() {
    let b = bench(10);
    b.subscribe(&["a"], Start::New);
    b.publish("a", "1");
    assert_eq!(b.wakes.load(Ordering::Relaxed), 0);
    assert!(!b.mailboxes[0].park(|| false), "something is there");
    b.delivered();
    assert!(b.mailboxes[0].park(|| false));
    b.publish("a", "2");
    b.publish("a", "3");
    assert_eq!(b.wakes.load(Ordering::Relaxed), 1);
}

#[test]
fn subscribing_while_others_publish_neither_misses_nor_repeats() {
    const EACH: usize = if cfg!(miri) { 20 } else { 2000 };
    let b = bench_with(Retention { count: 10_000, age_ms: 10_000, bytes: 64 << 20 }, &[], 64 << 20);
    let seen = std::thread::scope(|scope| {
        for thread in 0..4 {
            let b = &b;
            scope.spawn(move || {
                for n in 0..EACH {
                    let data = format!("{thread}:{n}");
                    let outgoing = || Outgoing::new("a", None, message(&data));
                    while b.hub.publish(outgoing(), 0).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        // A client comes and goes: it gets a replay and a part of the mailbox, and comes back with the last message
        // that it has seen.
        let (mut seen, mut last) = (Vec::new(), 0);
        while seen.len() < 4 * EACH {
            let (replay, ids) = b.subscribe(&["a"], b.since(last));
            let joined = replay.position;
            let news = std::iter::from_fn(|| b.mailboxes[0].pop()).take(50).map(|delivery| delivery.message);
            let replayed = replay.items.iter().map(|item| match item {
                Item::Message(message) => message.clone(),
                gap => panic!("{gap:?}"),
            });
            let messages: Vec<_> = replayed.chain(news.filter(|message| message.seq() > joined)).collect();
            for message in messages {
                assert!(message.seq() > last, "{} after {last}", message.seq());
                last = message.seq();
                seen.push(String::from_utf8(message.data().to_vec()).unwrap());
            }
            b.hub.leave(0, &[Leave { channel: ids[0].0, count: 1, last: true }]);
            // The rest of the mailbox was for a subscriber that is gone.
            while b.mailboxes[0].pop().is_some() {}
        }
        seen
    });
    for thread in 0..4 {
        let prefix = format!("{thread}:");
        let mine: Vec<_> = seen.iter().filter_map(|data| data.strip_prefix(&prefix)?.parse::<usize>().ok()).collect();
        assert_eq!(mine, (0..EACH).collect::<Vec<_>>(), "thread {thread}: all, once, in order");
    }
}
