//! Subscriptions by pattern, beside a model. Other threads publish between the steps of the search. The replay and the
//! mailbox together have each message of each channel that is named or fitted once and in order, and a gap where one is
//! gone.

use super::lock::others;
use super::patterns::{fits, UNNAMED};
use super::planted::{with, Mistake};
use super::tests::{bench_with, message, shown, Bench};
use super::*;
use crate::fuzzing::random;
use crate::trace::Tracer;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;

const NAMES: [&str; 7] = ["a", "ab", "ab.1", "b", "b.1", "user:a", ""];
const PATTERNS: [&str; 5] = ["*", "a*", "ab*", "b.*", "u*"];

fn bench(count: usize) -> Bench {
    let unkept = [(ChannelPattern::parse("b.1").unwrap(), keeping(0))];
    let bench = bench_with(keeping(count), &unkept, 1 << 20);
    let settings = Settings { patterns: &unkept, client_patterns: 3, ..Settings::keeping(keeping(count)) };
    bench.hub.reconfigure(&settings, 0);
    bench
}

fn keeping(count: usize) -> Retention {
    Retention { count, age_ms: 10, bytes: 1 << 20 }
}

#[derive(Clone)]
struct Published {
    name: &'static str,
    ends: bool,
    /// Something followed the end, which takes it back.
    turned: bool,
}

#[derive(Clone)]
struct World {
    bench: Rc<Bench>,
    random: Rc<RefCell<random::Random>>,
    published: Rc<RefCell<BTreeMap<u64, Published>>>,
    now: Rc<RefCell<u64>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = random::Random(seed);
        let bench = Rc::new(bench(random.below(6)));
        World { bench, random: Rc::new(RefCell::new(random)), published: Rc::default(), now: Rc::default() }
    }

    fn below(&self, bound: usize) -> usize {
        self.random.borrow_mut().below(bound)
    }

    fn publish(&self, most: usize) {
        for _ in 0..self.below(most) {
            let channel = NAMES[self.below(NAMES.len())];
            let (now, ends) = (*self.now.borrow(), !channel.is_empty() && self.below(5) == 0);
            let end = || Message::new(&Publication::mark("", Mark::End), false, b"");
            let message = if ends { end() } else { message("x") };
            if let Ok(placed) = self.bench.hub.publish(Outgoing::new(channel, None, message), now) {
                self.note(placed.seq, channel, ends);
            }
            match self.below(30) {
                0 => {
                    self.bench.hub.clear(NAMES[self.below(6)]);
                }
                1..4 => *self.now.borrow_mut() += 4,
                _ => {}
            }
            self.bench.expire(*self.now.borrow());
        }
    }

    fn note(&self, seq: u64, name: &'static str, ends: bool) {
        let mut published = self.published.borrow_mut();
        if published.contains_key(&seq) {
            return;
        }
        let before = published.values_mut().rev().find(|one| one.name == name);
        before.into_iter().for_each(|one| one.turned = one.ends);
        published.insert(seq, Published { name, ends, turned: false });
    }

    fn some(&self, of: &[&'static str]) -> Vec<&'static str> {
        of.iter().copied().filter(|_| self.below(3) == 0).collect()
    }

    /// A client comes back, reads everything, and goes.
    fn come(&self) {
        self.publish(30);
        let from = self.below(self.bench.hub.seq() as usize + 1) as u64;
        let limit = [usize::MAX, usize::MAX, 0, 500][self.below(4)];
        let (named, mut patterns) = (self.some(&NAMES[..5]), self.some(&PATTERNS));
        patterns.truncate(3);
        if patterns.is_empty() {
            return;
        }
        let names: Vec<&str> = named.iter().chain(&patterns).copied().collect();
        let disturbed = self.below(2) == 0;
        let theirs = self.clone();
        if disturbed {
            others::do_this(move || theirs.publish(3));
        }
        // The whole of it begins like a position before everything, but for the broadcasts.
        let how = self.below(6);
        let (from, cut) = (if how < 2 { 0 } else { from }, Cut::Head);
        let start = match how {
            0 => Start::Beginning,
            1 => Start::Last(1 + self.below(4)),
            _ => self.bench.since(from),
        };
        let join = [Join::Always, Join::Always, Join::IfEmpty, Join::Never][self.below(4)];
        let (mut replay, mut ids) = Default::default();
        let request = Request { shard: 0, names: &names[..], start, limit, broadcasts: true, cut, join };
        self.bench.hub.subscribe(&request, &mut replay, &mut ids);
        others::are_done();
        let joined = if join == Join::Never { 0 } else { names.len() };
        assert!(replay.complete && ids.len() == joined, "{replay:?}");
        // The gaps by the name or pattern that they are told in. A pattern that another one covers has none of its own.
        let gaps = replay.items.iter().filter(|item| item.is_gap());
        let gaps: Vec<(String, u64)> = gaps.map(|gap| (gap.channel().unwrap_or("").to_owned(), gap.seq())).collect();
        let told = |name: &str, seq: u64| {
            let covers = |gap: &str| gap == name || (gap.ends_with('*') && fits(gap, name) && !named.contains(&name));
            gaps.iter().any(|(gap, end)| covers(gap) && seq <= *end)
        };
        let got: Vec<u64> = replay.items.iter().filter_map(Item::message).map(|message| message.seq()).collect();
        assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
        assert!(gaps.iter().all(|(_, end)| *end <= replay.position), "{gaps:?} beyond {}", replay.position);
        let published = self.published.borrow().clone();
        let is_wanted =
            |name: &str| name.is_empty() || named.contains(&name) || patterns.iter().any(|one| fits(one, name));
        let is_missed = |seq: &u64| {
            let name = published[seq].name;
            *seq > from && *seq <= replay.position && is_wanted(name) && (how > 1 || !name.is_empty())
        };
        assert!(got.iter().all(is_missed), "{got:?} after {from} of {names:?}");
        let may_be_told = |gap: &str| gap.is_empty() || names.contains(&gap);
        assert!(gaps.iter().all(|(gap, _)| may_be_told(gap)), "{gaps:?} of {names:?}");
        let mut lost = BTreeSet::new();
        for seq in published.keys().filter(|seq| is_missed(seq) && !got.contains(seq)) {
            let Published { name, turned, .. } = published[seq];
            if let Start::Last(count) = start {
                // It has as many newer ones, or none are kept that old. An end counts beside them.
                let newer = got.iter().filter(|newer| **newer > *seq && published[*newer].name == name).count();
                let older = got.iter().any(|older| older < seq && published[older].name == name);
                assert!(newer <= count + 1 && (turned || !older || told(name, *seq)), "{seq} of {name}: {replay:?}");
                lost.insert(name);
                continue;
            }
            assert!(turned || told(name, *seq), "{seq} of {name} is lost after {from}: {replay:?}");
            lost.insert(name);
        }
        if !disturbed {
            let is_of = |gap: &str| lost.iter().any(|name| gap == *name || (gap.ends_with('*') && fits(gap, name)));
            assert!(gaps.iter().all(|(gap, _)| is_of(gap)), "nothing is lost: {gaps:?}, {lost:?}");
        }
        self.publish(10);
        if join == Join::Never {
            self.bench.mailboxes.iter().for_each(|mailbox| while mailbox.pop().is_some() {});
        } else {
            self.read_mailbox(replay.position, &ids, is_wanted);
        }
        let leaves: Vec<_> = ids.iter().map(|(channel, _)| Leave { channel: *channel, count: 1, last: true }).collect();
        self.bench.hub.leave(0, &leaves);
        let stats = self.bench.hub.stats();
        assert_eq!((stats.subscriptions, stats.patterns), (0, 0));
    }

    fn read_mailbox(&self, position: u64, ids: &[(ChannelId, Arc<str>)], is_wanted: impl Fn(&str) -> bool) {
        let mut got = Vec::new();
        while let Some(delivery) = self.bench.mailboxes[0].pop() {
            let (seq, name) = (delivery.message.seq(), delivery.message.channel().unwrap_or(""));
            if seq <= position {
                continue;
            }
            got.push(seq);
            let named = ids.iter().find(|(_, known)| **known == *name).map(|(id, _)| *id);
            let number = if name.is_empty() { BROADCAST } else { named.unwrap_or(UNNAMED) };
            assert_eq!(delivery.channel, number, "{name}");
        }
        while self.bench.mailboxes[1].pop().is_some() {}
        let published = self.published.borrow();
        let expected = published.range(position + 1..).filter(|(_, one)| is_wanted(one.name)).map(|(seq, _)| *seq);
        assert_eq!(got, expected.collect::<Vec<_>>());
    }
}

fn run(seed: u64) -> bool {
    let held = catch_unwind(AssertUnwindSafe(|| {
        let world = World::new(seed * 0x9e37_79b9);
        (0..8).for_each(|_| world.come());
    }));
    others::are_done();
    held.is_ok()
}

#[test]
#[cfg_attr(miri, ignore = "it takes long")]
fn nothing_is_lost_or_comes_twice_whatever_is_published_meanwhile() {
    for seed in 1..=300 {
        assert!(run(seed), "seed {seed}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "it takes long")]
fn the_model_finds_planted_mistakes() {
    for mistake in [Mistake::ReachStays, Mistake::GoneIsNotTold, Mistake::ReadIsAhead, Mistake::GapNamesChannel] {
        assert!((1..=300).any(|seed| !with(mistake, || run(seed))), "{mistake:?} is not found");
    }
}

fn by_pattern(bench: &Bench, names: &[&str], start: Start<'_>) -> (Replay, Vec<(ChannelId, Arc<str>)>) {
    let (mut replay, mut ids) = Default::default();
    let (limit, cut, join) = (usize::MAX, Cut::Head, Join::Always);
    let request = Request { shard: 1, names, start, limit, broadcasts: true, cut, join };
    bench.hub.subscribe(&request, &mut replay, &mut ids);
    (replay, ids)
}

#[test]
fn all_patterns_of_a_request_join_or_none_and_each_counts_once() {
    let b = bench(10);
    let (_, first) = by_pattern(&b, &["a*", "x"], Start::New);
    let (_, same) = by_pattern(&b, &["a*", "b*"], Start::New);
    assert_eq!((b.hub.stats().patterns, b.hub.stats().subscriptions), (2, 4));
    let (refused, none) = by_pattern(&b, &["a*", "c*", "d*"], Start::New);
    assert!(refused.is_full && refused.wait && none.is_empty());
    assert_eq!(b.hub.stats().subscriptions, 4);
    let publish = |channel| b.hub.publish(Outgoing::new(channel, None, message("1")), 0).unwrap().subscribers;
    let (_, both) = by_pattern(&b, &["ab*", "ab"], Start::New);
    assert_eq!(["ab", "ac", "b", "c", "user:a", ""].map(publish), [4, 2, 1, 0, 0, 0]);
    // A lower bound takes nothing away, and what is there already can be had.
    b.hub.reconfigure(&Settings { client_patterns: 1, ..Settings::keeping(keeping(10)) }, 0);
    let (_, again) = by_pattern(&b, &["a*"], Start::New);
    assert_eq!(again.len(), 1);
    for ids in [first, same, both, again] {
        let leave = |(channel, _): &(ChannelId, Arc<str>)| Leave { channel: *channel, count: 1, last: false };
        b.hub.leave(1, &ids.iter().map(leave).collect::<Vec<_>>());
    }
    assert_eq!((b.hub.stats().subscriptions, publish("ab")), (0, 0));
}

#[test]
fn a_search_has_an_end_and_others_have_the_lock_meanwhile() {
    let b = bench(10);
    let names: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    for name in &names {
        b.publish(name, "x");
    }
    let turns = Rc::new(RefCell::new(0));
    let counted = turns.clone();
    others::do_this(move || *counted.borrow_mut() += 1);
    let (replay, _) = by_pattern(&b, &["c*"], b.since(0));
    others::are_done();
    assert_eq!(shown(&replay).last().map(String::as_str), Some("c*!40"), "after a dozen it gives up");
    assert!(*turns.borrow() > 12 / state::AT_ONCE, "{turns:?}");
    // A few are no search at all, and one that has everything is none.
    let (replay, _) = by_pattern(&b, &["c1*"], b.since(30));
    assert!(shown(&replay).is_empty() && replay.position == 40, "{replay:?}");
    let (replay, _) = by_pattern(&b, &["c3*", "c39"], b.since(30));
    assert_eq!(shown(&replay), ["x"; 10]);
    let (replay, _) = by_pattern(&b, &["c*"], b.since(40));
    assert!(shown(&replay).is_empty());
    // Another epoch: a gap, and everything that is kept.
    let (replay, _) = by_pattern(&b, &["c3*"], Start::Since(Position { epoch: "other", seq: 3 }));
    assert_eq!(shown(&replay).len(), 12, "{replay:?}");
    assert_eq!(shown(&replay)[0], "c3*!0");
}

#[test]
fn a_hub_that_had_no_patterns_before_can_not_know_what_is_gone() {
    let b = bench_with(keeping(10), &[], 1 << 20);
    b.publish("gone", "1");
    b.expire(20);
    b.publish_at("a", "2", 20);
    b.hub.reconfigure(&Settings { client_patterns: 10, ..Settings::keeping(keeping(10)) }, 20);
    let (replay, _) = by_pattern(&b, &["a*"], b.since(0));
    assert_eq!(shown(&replay), ["a*!1", "2"], "it may have been one that fits");
    b.publish_at("gone", "3", 20);
    b.expire(40);
    b.publish_at("a", "4", 40);
    let (replay, _) = by_pattern(&b, &["a*"], b.since(2));
    assert_eq!(shown(&replay), ["4"], "by now its name is known");
    let (replay, _) = by_pattern(&b, &["g*"], b.since(2));
    assert_eq!(shown(&replay), ["g*!3"]);
}

#[test]
fn spans_count_subscribers_by_pattern_and_their_shards() {
    let mut b = bench(10);
    let tracer = Arc::new(Tracer::new(1, 100, Box::new(|seq| format!("e-{seq}"))));
    b.hub.trace_with(tracer.clone());
    by_pattern(&b, &["a*", "ab"], Start::New);
    by_pattern(&b, &["b*"], Start::New);
    // The last one is not kept.
    for channel in ["ab", "b", "c", "b.1"] {
        let span = b.hub.begin_span(&Publication::new(channel, b"x"));
        b.hub.publish(Outgoing { span, ..Outgoing::new(channel, None, message("x")) }, 0).unwrap();
        while let Some(delivery) = b.mailboxes[1].pop() {
            tracer.handed(delivery.ticket, 1, 1);
        }
    }
    let ended: Vec<_> =
        tracer.take_ended().into_iter().map(|(channel, _, count, shards)| (channel, count, shards)).collect();
    let expected = [("ab", 2, 1), ("b", 1, 1), ("c", 0, 0), ("b.1", 1, 1)];
    assert_eq!(ended, expected.map(|(channel, count, shards)| (channel.to_owned(), count, shards)));
}

/// What another hub knows may come between any two steps of a search: it lowers the floor, and brings back ends below
/// those that were looked at.
#[test]
fn the_ends_of_another_hub_hide_nothing_whenever_they_come() {
    let epoch = || Epoch::from_text("a").unwrap();
    for turn in 0..16 {
        let settings = Settings { client_patterns: 3, ..Settings::keeping(keeping(10)) };
        let hub = Rc::new(Hub::replica(&settings, vec![Arc::new(Mailbox::new(64, Box::new(|| {})))]));
        let loss = Some(Loss { from: 100, agreed: 100, unread: false });
        assert!(hub.break_off(&Break { epoch: epoch(), chain: vec![], end: 100, loss }));
        let (theirs, mut turns) = (hub.clone(), 0);
        others::do_this(move || {
            turns += 1;
            if turns == turn {
                let channels = vec![(80, "news.x"), (30, "news.old")];
                let change = Change::Ends { epoch: epoch(), until: 100, floor: 20, channels };
                theirs.apply(&mut [(101, change)].into(), 0);
            }
        });
        let (mut replay, mut ids) = Default::default();
        let text = epoch().position(50);
        let start = Start::Since(Position::parse(&text).unwrap());
        let (names, limit, cut, join) = (&["news.*"], usize::MAX, Cut::Head, Join::Always);
        let request = Request { shard: 0, names, start, limit, broadcasts: false, cut, join };
        hub.subscribe(&request, &mut replay, &mut ids);
        others::are_done();
        assert_eq!(shown(&replay).len(), 1, "{turn}: {replay:?}");
        assert!(matches!(shown(&replay)[0].as_str(), "news.*!80" | "news.*!100"), "{turn}: {replay:?}");
    }
}
