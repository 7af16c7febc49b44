//! What a replica takes over that finds only the later entries in its log.

use crate::hub::tests::message;
use crate::hub::*;
use std::collections::VecDeque;

/// Nothing is in the log up to this number.
const GONE: u64 = 100;

fn epoch(text: &str) -> Epoch {
    Epoch::from_text(text).unwrap()
}

fn hub() -> Hub {
    let settings = Settings::keeping(Retention { count: 100, age_ms: 10_000, bytes: 1 << 20 });
    let hub = Hub::replica(&settings, vec![Arc::new(Mailbox::new(64, Box::new(|| {})))]);
    let loss = Some(Loss { from: GONE, agreed: GONE, unread: false });
    assert!(hub.break_off(&Break { epoch: epoch("a"), chain: vec![], end: GONE, loss }));
    hub
}

fn apply(hub: &Hub, number: u64, change: Change<'_>) {
    let mut changes: VecDeque<_> = [(number, change)].into();
    hub.apply(&mut changes, 0);
    assert!(changes.is_empty());
}

fn publish(hub: &Hub, number: u64, channel: &str) {
    apply(hub, number, Change::Message { outgoing: Outgoing::new(channel, None, message("x")), since: 0 });
}

fn ends(until: u64, floor: u64, channels: &[(u64, &'static str)]) -> Change<'static> {
    Change::Ends { epoch: epoch("a"), until, floor, channels: channels.to_vec() }
}

/// What a client of a channel is told that comes with a position.
fn told(hub: &Hub, channel: &str, position: u64) -> String {
    ask(hub, channel, position, Join::Never)
}

fn ask(hub: &Hub, channel: &str, position: u64, join: Join) -> String {
    let (names, text) = ([channel], epoch("a").position(position));
    let request = Request {
        shard: 0,
        names: if channel.is_empty() { &[] } else { &names },
        start: Start::Since(Position::parse(&text).unwrap()),
        limit: usize::MAX,
        broadcasts: channel.is_empty(),
        cut: Cut::Tail,
        join,
    };
    let mut replay = Replay::default();
    hub.subscribe(&request, &mut replay, &mut Vec::new());
    assert!(!replay.wait);
    let show = |item: &Item| match item {
        Item::Gap(_, seq) | Item::Loss(_, seq) => format!("!{seq}"),
        Item::Message(message) => message.seq().to_string(),
    };
    replay.items.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn clients_of_quiet_channels_are_told_of_a_gap_only_if_something_is_missing() {
    let hub = hub();
    assert_eq!((told(&hub, "quiet", 99), told(&hub, "quiet", 100)), ("!100".into(), "".into()));
    apply(&hub, 101, ends(100, 20, &[(50, "quiet"), (70, "other")]));
    assert_eq!((told(&hub, "quiet", 49), told(&hub, "quiet", 50)), ("!50".into(), "".into()));
    assert_eq!((told(&hub, "other", 69), told(&hub, "other", 70)), ("!70".into(), "".into()));
    assert_eq!((told(&hub, "unlisted", 19), told(&hub, "unlisted", 20)), ("!20".into(), "".into()));
    // It tells the next hub the same.
    let Ends { mut channels, floor } = hub.ends(102);
    channels.sort();
    let channels: Vec<(u64, &str)> = channels.iter().map(|(number, name)| (*number, &**name)).collect();
    assert_eq!((floor, &channels[..]), (20, &[(50, "quiet"), (70, "other"), (100, "")][..]));
}

#[test]
fn what_the_hub_has_read_itself_counts() {
    let hub = hub();
    publish(&hub, 101, "busy");
    publish(&hub, 102, "listed");
    publish(&hub, 103, "later");
    // The last number up to 100 of these is not told. It may be 100.
    apply(&hub, 104, ends(102, 20, &[(101, "busy"), (102, "listed"), (60, "later")]));
    assert_eq!((told(&hub, "busy", 99), told(&hub, "busy", 100)), ("!100 101".into(), "101".into()));
    assert_eq!((told(&hub, "listed", 99), told(&hub, "listed", 101)), ("!100 102".into(), "102".into()));
    // This one came after the listing, so what is listed is the one before it.
    assert_eq!((told(&hub, "later", 59), told(&hub, "later", 60)), ("!60 103".into(), "103".into()));
}

#[test]
fn channels_with_subscribers_learn_it_too() {
    let hub = hub();
    for channel in ["quiet", "unlisted", "above"] {
        assert_eq!(ask(&hub, channel, 100, Join::Always), "");
    }
    apply(&hub, 101, ends(150, 20, &[(50, "quiet"), (150, "above")]));
    assert_eq!((told(&hub, "quiet", 49), told(&hub, "quiet", 50)), ("!50".into(), "".into()));
    assert_eq!((told(&hub, "unlisted", 19), told(&hub, "unlisted", 20)), ("!20".into(), "".into()));
    assert_eq!((told(&hub, "above", 99), told(&hub, "above", 100)), ("!100".into(), "".into()));
}

#[test]
fn a_number_or_a_floor_above_what_is_gone_says_nothing() {
    let hub = hub();
    apply(&hub, 101, ends(150, 120, &[(130, "above"), (50, "quiet")]));
    assert_eq!((told(&hub, "above", 99), told(&hub, "above", 100)), ("!100".into(), "".into()));
    assert_eq!((told(&hub, "unlisted", 99), told(&hub, "unlisted", 100)), ("!100".into(), "".into()));
    assert_eq!((told(&hub, "quiet", 49), told(&hub, "quiet", 50)), ("!50".into(), "".into()));
}

#[test]
fn last_numbers_from_before_the_end_of_what_is_gone_are_not_taken() {
    let hub = hub();
    apply(&hub, 101, ends(99, 20, &[(50, "quiet")]));
    assert_eq!((told(&hub, "quiet", 99), told(&hub, "unlisted", 99)), ("!100".into(), "!100".into()));
    // Later ones are.
    apply(&hub, 102, ends(100, 20, &[(60, "quiet")]));
    assert_eq!((told(&hub, "quiet", 60), told(&hub, "unlisted", 20)), ("".into(), "".into()));
}

#[test]
fn last_numbers_of_another_epoch_are_not_taken() {
    let hub = hub();
    let channels = vec![(50, "quiet")];
    apply(&hub, 101, Change::Ends { epoch: epoch("b"), until: 100, floor: 20, channels });
    assert_eq!((told(&hub, "quiet", 99), told(&hub, "unlisted", 99)), ("!100".into(), "!100".into()));
    assert_eq!(hub.seq(), 101);
}

#[test]
fn last_numbers_count_once_until_the_log_is_read_anew() {
    let hub = hub();
    apply(&hub, 101, ends(100, 20, &[(50, "quiet")]));
    publish(&hub, 102, "quiet");
    apply(&hub, 103, ends(101, 10, &[(40, "quiet")]));
    assert_eq!((told(&hub, "quiet", 49), told(&hub, "unlisted", 19)), ("!50 102".into(), "!20".into()));
    let loss = Some(Loss { from: 200, agreed: 200, unread: true });
    assert!(hub.break_off(&Break { epoch: epoch("a"), chain: vec![], end: 200, loss }));
    assert_eq!((told(&hub, "quiet", 199), told(&hub, "unlisted", 199)), ("!200".into(), "!200".into()));
    apply(&hub, 201, ends(200, 150, &[(180, "quiet")]));
    assert_eq!((told(&hub, "quiet", 180), told(&hub, "unlisted", 149)), ("".into(), "!150".into()));
}

#[test]
fn broadcasts_have_no_floor() {
    let (listed, other) = (hub(), hub());
    apply(&listed, 101, ends(100, 20, &[(50, "")]));
    assert_eq!((told(&listed, "", 49), told(&listed, "", 50)), ("!50".into(), "".into()));
    apply(&other, 101, ends(100, 20, &[(50, "quiet")]));
    assert_eq!((told(&other, "", 99), told(&other, "", 100)), ("!100".into(), "".into()));
}

#[test]
fn of_more_ends_than_fit_the_lowest_are_left_out_and_raise_the_floor() {
    let name = |at: u64| format!("channel-{:03}", at % 1000);
    // They come in no order.
    let numbers = || (0..1000).map(|at| 1 + at * 7 % 1000);
    let mut channels: Vec<(u64, Arc<str>)> = numbers().map(|at| (at, name(at).into())).collect();
    channels.push((3, "".into()));
    let all = Ends { channels, floor: 2 };
    for (room, fit) in [(0, 0), (9 + 19, 0), (9 + 20, 1), (9 + 20 * 10 + 19, 10), (9 + 20 * 900, 900)] {
        let Ends { channels, floor } = all.clone().fitting(room);
        let found: Vec<(u64, String)> = channels.iter().map(|(at, name)| (*at, name.to_string())).collect();
        let broadcasts = (room > 0).then(|| (3, String::new()));
        let expected: Vec<_> =
            broadcasts.into_iter().chain((1001 - fit..=1000).rev().map(|at| (at, name(at)))).collect();
        assert_eq!((found, floor), (expected, 1000 - fit), "{room} bytes");
    }
    let Ends { channels, floor } = all.fitting(1 << 20);
    assert_eq!((channels.len(), floor), (1000, 2), "all fit, and the floor says as much of one of them");
}
