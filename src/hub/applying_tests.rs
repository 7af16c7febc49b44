//! Replicas of a log: what their subscribers are told.

use super::tests::message;
use super::*;
use std::collections::VecDeque;

fn epoch(text: &str) -> Epoch {
    Epoch::from_text(text).unwrap()
}

/// A hub that has met a break, and the mailbox of its only shard, which is empty.
fn replica(room: usize, end: u64) -> (Hub, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::new(room, Box::new(|| {})));
    let settings =
        Settings { key_window_ms: 1000, ..Settings::keeping(Retention { count: 100, age_ms: 10_000, bytes: 1 << 20 }) };
    let hub = Hub::replica(&settings, vec![mailbox.clone()]);
    assert!(hub.break_off(&at_break("a", &[], end, Some((0, 0)))));
    mailbox.pop().unwrap();
    (hub, mailbox)
}

fn at_break(present: &str, chain: &[(&str, u64)], end: u64, loss: Option<(u64, u64)>) -> Break {
    let chain =
        chain.iter().map(|(text, last)| Link { epoch: epoch(text), last: *last, lossy: false, acts: false }).collect();
    Break { epoch: epoch(present), chain, end, loss: loss.map(|(from, agreed)| Loss { from, agreed, unread: false }) }
}

fn apply(hub: &Hub, numbers: std::ops::RangeInclusive<u64>) -> usize {
    let texts: Vec<String> = numbers.clone().map(|number| number.to_string()).collect();
    let outgoing = |text: &String| Outgoing::new("news", None, message(text));
    let changes = texts.iter().map(|text| Change::Message { outgoing: outgoing(text), since: 0 });
    let mut changes: VecDeque<_> = numbers.zip(changes).collect();
    hub.apply(&mut changes, 0);
    changes.len()
}

/// Subscribes to the channel. Returns the replay, and the number of channels that were joined.
fn subscribe(hub: &Hub, start: Start<'_>, join: Join) -> (Replay, usize) {
    let request =
        Request { shard: 0, names: &["news"], start, limit: usize::MAX, broadcasts: false, cut: Cut::Tail, join };
    let (mut replay, mut ids) = (Replay::default(), Vec::new());
    hub.subscribe(&request, &mut replay, &mut ids);
    (replay, ids.len())
}

/// The answer to a subscriber. `None`: the subscriber waits.
fn told(hub: &Hub, start: Start<'_>) -> Option<Vec<String>> {
    let (replay, _) = subscribe(hub, start, Join::Never);
    let show = |item: &Item| match item {
        Item::Gap(_, seq) | Item::Loss(_, seq) => format!("!{seq}"),
        Item::Message(message) => message.seq().to_string(),
    };
    (!replay.wait).then(|| replay.items.iter().map(show).collect())
}

fn since(hub: &Hub, text: &str) -> Option<String> {
    Some(told(hub, Start::Since(Position::parse(text).unwrap()))?.join(" "))
}

#[test]
fn positions_are_exact_where_they_can_be_and_else_a_gap() {
    let (hub, mailbox) = replica(64, 0);
    assert_eq!(apply(&hub, 1..=4), 0);
    assert_eq!(since(&hub, "a-2").as_deref(), Some("3 4"));
    assert_eq!(since(&hub, "x-2").as_deref(), Some("!0 1 2 3 4"), "of no epoch of this log");
    assert!(hub.break_off(&at_break("b", &[("a", 3)], 5, None)));
    assert_eq!(apply(&hub, 5..=6), 0);
    assert_eq!(since(&hub, "a-3").as_deref(), Some("4 5 6"), "up to the end of its epoch a position is exact");
    assert_eq!(since(&hub, "a-4").as_deref(), Some("!0 1 2 3 4 5 6"), "beyond it may be of another branch");
    assert_eq!(since(&hub, "b-5").as_deref(), Some("6"));
    drop(mailbox);
}

#[test]
fn a_subscriber_that_is_ahead_of_its_hub_waits() {
    let (hub, _mailbox) = replica(64, 3);
    assert_eq!(told(&hub, Start::New), None, "not all is read that the log had");
    apply(&hub, 1..=4);
    assert_eq!((since(&hub, "a-4").as_deref(), since(&hub, "a-5")), (Some(""), None));
    assert!(hub.break_off(&at_break("b", &[("a", 9)], 9, None)));
    assert_eq!(since(&hub, "a-9"), None, "also with a position of an epoch before");
    apply(&hub, 5..=9);
    assert_eq!(since(&hub, "a-9").as_deref(), Some(""));
}

#[test]
fn after_a_loss_all_is_read_again_and_live_subscribers_get_what_is_new() {
    let (hub, mailbox) = replica(64, 0);
    let (replay, joined) = subscribe(&hub, Start::New, Join::Always);
    assert_eq!((replay.life.unwrap().1, joined), (1, 1));
    apply(&hub, 1..=5);
    (1..=5).for_each(|seq| assert_eq!(mailbox.pop().unwrap().message.seq(), seq));
    assert!(hub.break_off(&at_break("b", &[("a", 3)], 4, Some((0, 3)))));
    assert_eq!(told(&hub, Start::New), None);
    apply(&hub, 1..=4);
    let delivery = mailbox.pop().unwrap();
    assert_eq!(delivery.as_break(), Some((epoch("b"), Some(3))));
    assert_eq!(mailbox.pop().map(|delivery| delivery.message.seq()), Some(4), "up to 3 they have had all");
    assert!(mailbox.pop().is_none());
    assert_eq!(told(&hub, Start::Last(9)).unwrap(), ["1", "2", "3", "4"]);
    assert_eq!(since(&hub, "a-5").as_deref(), Some("!0 1 2 3 4"));
    let stats = hub.stats();
    assert_eq!((stats.history_messages, stats.channels, stats.subscriptions), (4, 1, 1));
}

#[test]
fn a_full_mailbox_makes_the_log_wait() {
    let (hub, mailbox) = replica(3, 0);
    subscribe(&hub, Start::New, Join::Always);
    assert_eq!(apply(&hub, 1..=5), 2, "three fit");
    assert!(!hub.break_off(&at_break("b", &[], 5, None)));
    assert_eq!((hub.seq(), hub.breaks()), (3, 1));
    (1..=3).for_each(|seq| assert_eq!(mailbox.pop().unwrap().message.seq(), seq));
    assert_eq!(apply(&hub, 4..=5), 0);
    assert!(hub.break_off(&at_break("b", &[], 5, None)));
}

fn act(hub: &Hub, number: u64, user: &str) -> usize {
    let mut changes: VecDeque<_> = [(number, Change::Act(Act::Disconnect { user, code: 4403, reason: "" }))].into();
    hub.apply(&mut changes, 0);
    changes.len()
}

/// The users of the acts in a mailbox, and the numbers of its messages.
fn in_order(mailbox: &Mailbox) -> Vec<String> {
    let show = |delivery: Delivery| match delivery.as_act() {
        Some(Act::Disconnect { user, .. }) => user.to_owned(),
        _ => delivery.message.seq().to_string(),
    };
    std::iter::from_fn(|| mailbox.pop()).map(show).collect()
}

#[test]
fn an_act_has_its_place_among_the_messages_and_waits_for_room() {
    let (hub, mailbox) = replica(3, 0);
    subscribe(&hub, Start::New, Join::Always);
    assert_eq!(apply(&hub, 1..=2) + act(&hub, 3, "ada"), 0);
    assert_eq!((act(&hub, 4, "bob"), hub.seq()), (1, 3), "there is no room");
    assert_eq!(in_order(&mailbox), ["1", "2", "ada"]);
    assert_eq!(act(&hub, 4, "bob") + apply(&hub, 5..=5), 0);
    assert_eq!(in_order(&mailbox), ["bob", "5"]);
}

#[test]
fn acts_that_are_older_than_the_hub_are_not_done_and_later_ones_are() {
    let (hub, mailbox) = replica(64, 5);
    act(&hub, 3, "old");
    // The log breaks before the hub has read what there was when it began. Numbers are given again.
    assert!(hub.break_off(&at_break("b", &[("a", 2)], 4, Some((0, 0)))));
    assert_eq!(act(&hub, 1, "old") + act(&hub, 4, "old"), 0);
    assert!(hub.has_caught_up());
    act(&hub, 5, "new");
    assert_eq!(in_order(&mailbox)[1..], ["new"], "after the break");
    // Its subscribers have had everything up to 4, and may have been meant by what came then.
    assert!(hub.break_off(&at_break("c", &[("b", 4)], 9, Some((0, 4)))));
    for number in 1..=9 {
        act(&hub, number, &format!("u{number}"));
    }
    assert_eq!(in_order(&mailbox)[1..], ["u5", "u6", "u7", "u8", "u9"]);
}

#[test]
fn a_hub_that_has_not_read_all_of_the_log_says_that_acts_may_be_missing() {
    let (hub, mailbox) = replica(64, 0);
    apply(&hub, 1..=2);
    for (unread, agreed) in [(false, 2), (true, 9)] {
        let mut at = at_break("b", &[], 10, Some((9, agreed)));
        at.loss.as_mut().unwrap().unread = unread;
        assert!(hub.break_off(&at));
        let delivery = mailbox.pop().unwrap();
        assert_eq!(delivery.as_break(), Some((epoch("b"), Some(agreed))));
        assert_eq!(delivery.may_lack_acts(), unread);
    }
}
