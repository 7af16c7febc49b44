//! Subscribes in steps while other threads publish between the steps. The replay and the mailbox together must have
//! every message once and in order, and a gap for each one that was dropped.

use super::lock::others;
use super::replay::looks;
use super::tests::{bench, message, Bench};
use super::*;
use crate::fuzzing::random;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// One generator for all parts of a test.
#[derive(Clone)]
struct Random(Rc<RefCell<random::Random>>);

impl Random {
    fn below(&self, bound: usize) -> usize {
        self.0.borrow_mut().below(bound)
    }
}

struct World {
    bench: Rc<Bench>,
    random: Random,
    names: Vec<String>,
    /// The channel of each message, by its number.
    published: Rc<RefCell<BTreeMap<u64, String>>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let random = Random(Rc::new(RefCell::new(random::Random(seed))));
        let names = (0..1 + random.below(9)).map(|n| format!("c{n}")).collect();
        let bench = Rc::new(bench(random.below(6)));
        World { bench, random, names, published: Rc::default() }
    }

    fn publish(&self, most: usize) {
        for _ in 0..self.random.below(most) {
            // One channel more than the client asks for, and the broadcasts.
            let channel = match self.random.below(self.names.len() + 2) {
                0 => String::new(),
                n => self.names.get(n - 1).cloned().unwrap_or("other".into()),
            };
            let outgoing = Outgoing::new(&channel, None, message("0123456789"));
            if let Ok(published) = self.bench.hub.publish(outgoing, 0) {
                self.published.borrow_mut().insert(published.seq, channel);
            }
            if self.random.below(40) == 0 {
                self.bench.hub.clear(&self.names[0]);
            }
        }
    }

    /// The messages of a channel between two numbers.
    fn between(&self, channel: &str, after: u64, until: u64) -> Vec<u64> {
        let published = self.published.borrow();
        let theirs = published.iter().filter(|(_, name)| *name == channel).map(|(seq, _)| *seq);
        theirs.filter(|seq| *seq > after && *seq <= until).collect()
    }

    fn subscribe(
        &self,
        start: Start<'_>,
        limit: usize,
        cut: Cut,
        others: bool,
    ) -> (Replay, Vec<(ChannelId, Arc<str>)>) {
        let (mut replay, mut ids) = Default::default();
        let names: &[String] = &self.names;
        let request = Request { shard: 0, names, start, limit, broadcasts: true, cut, join: Join::Always };
        let theirs = World {
            bench: self.bench.clone(),
            random: self.random.clone(),
            names: self.names.clone(),
            published: self.published.clone(),
        };
        if others {
            others::do_this(move || theirs.publish(4));
        }
        self.bench.hub.subscribe(&request, &mut replay, &mut ids);
        others::are_done();
        // As a shard tells it.
        let positions = replay.tell_gaps_first();
        assert_eq!(positions.len(), replay.items.iter().filter(|item| item.is_gap()).count());
        (replay, ids)
    }

    /// A client subscribes, with a position or for the newest messages.
    fn come(&self) {
        self.publish(40);
        let from = self.random.below(self.bench.hub.seq() as usize + 1) as u64;
        let limit = [usize::MAX, 0, 300, 1500][self.random.below(4)];
        let last = self.random.below(3) == 0;
        let cut = if self.random.below(3) == 0 { Cut::Head } else { Cut::Tail };
        let mut reached: BTreeMap<String, u64> = self.names.iter().map(|name| (name.clone(), from)).collect();
        reached.insert(String::new(), from);
        let mut start = if last { Start::Last(1 + self.random.below(5)) } else { Start::After(from) };
        let mut parts = 0;
        let (position, ids) = loop {
            parts += 1;
            // At some point the client must be faster than the publishers.
            let (replay, ids) = self.subscribe(start, limit, cut, parts < 20);
            let mut before = 0;
            if last {
                // The client has not asked for earlier messages.
                let mut first: BTreeMap<_, _> = self.names.iter().map(|name| (name.clone(), replay.position)).collect();
                first.insert(String::new(), replay.position);
                for item in replay.items.iter().rev() {
                    let channel = item.channel().unwrap_or("").to_owned();
                    let is_gap = item.is_gap();
                    first.insert(channel, item.seq() - u64::from(!is_gap));
                }
                reached = first;
            }
            for item in &replay.items {
                let is_in_order = !last && matches!(item, Item::Gap(..)) || item.seq() >= before;
                assert!(is_in_order && item.seq() <= replay.position, "{:?}", replay.items);
                before = if item.is_gap() && !last { before } else { item.seq() };
                let channel = item.channel().unwrap_or("");
                let known = reached.insert(channel.into(), item.seq()).unwrap();
                match item {
                    Item::Message(_) => {
                        assert_eq!(
                            self.between(channel, known, item.seq()),
                            [item.seq()],
                            "{channel} after {known}: {replay:?}"
                        )
                    }
                    Item::Gap(..) | Item::Loss(..) if last => {}
                    Item::Gap(..) | Item::Loss(..) => {
                        assert!(!self.between(channel, known, item.seq()).is_empty(), "nothing is gone")
                    }
                }
            }
            if replay.complete {
                for (channel, known) in &mut reached {
                    let missing = self.between(channel, *known, replay.position);
                    assert!(missing.is_empty(), "{channel}: {missing:?} are missing: {start:?}, {replay:?}");
                    *known = replay.position;
                }
                break (replay.position, ids);
            }
            // A gap may end later, at the newest message that is gone.
            assert!(ids.is_empty() && !replay.items.is_empty());
            start = Start::After(replay.position);
        };
        self.publish(10);
        self.read_mailbox(position, &ids, &mut reached);
        let leaves: Vec<_> = ids.iter().map(|(channel, _)| Leave { channel: *channel, count: 1, last: true }).collect();
        self.bench.hub.leave(0, &leaves);
        self.bench.mailboxes.iter().for_each(|mailbox| while mailbox.pop().is_some() {});
        assert_eq!(self.bench.hub.stats().subscriptions, 0);
    }

    /// The messages after the replay, up to the newest.
    fn read_mailbox(&self, position: u64, ids: &[(ChannelId, Arc<str>)], reached: &mut BTreeMap<String, u64>) {
        while let Some(delivery) = self.bench.mailboxes[0].pop() {
            let seq = delivery.message.seq();
            if seq <= position {
                continue;
            }
            let name = ids.iter().find(|(id, _)| *id == delivery.channel).map_or("", |(_, name)| name);
            let known = reached.insert(name.into(), seq).unwrap();
            assert_eq!(self.between(name, known, seq), [seq], "{name} after {known}");
        }
        for (channel, known) in reached {
            assert!(self.between(channel, *known, u64::MAX).is_empty(), "{channel}: something is missing");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "it takes long")]
fn nothing_is_lost_or_comes_twice_whatever_is_published_between_the_steps() {
    for seed in 1..=150u64 {
        let held = std::panic::catch_unwind(|| {
            let world = World::new(seed * 0x9e37_79b9);
            (0..5).for_each(|_| world.come());
        });
        others::are_done();
        assert!(held.is_ok(), "seed {seed}");
    }
}

#[test]
fn others_have_the_lock_while_much_is_asked_for() {
    let bench = bench(100);
    let names: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
    for name in names.iter().chain(&names).chain(&names) {
        bench.hub.publish(Outgoing::new(name, None, message("x")), 0).unwrap();
    }
    let turns = Rc::new(Cell::new(0));
    let counted = turns.clone();
    others::do_this(move || counted.set(counted.get() + 1));
    for start in [Start::Last(10), Start::After(0)] {
        turns.set(0);
        let (mut replay, mut ids) = Default::default();
        let (names, limit) = (&names[..], usize::MAX);
        let request = Request { shard: 0, names, start, limit, broadcasts: true, cut: Cut::Tail, join: Join::Always };
        bench.hub.subscribe(&request, &mut replay, &mut ids);
        assert_eq!((replay.items.len(), ids.len()), (90, 30));
        // Steps to look up 30 channels, to take 90 messages, and to join.
        let steps = 30 / state::AT_ONCE + 90 / state::AT_ONCE + 30 / state::AT_ONCE;
        assert!(turns.get() >= steps, "{start:?}: {}", turns.get());
    }
    others::are_done();
}

#[test]
fn a_cut_with_many_channels_tells_of_each_once() {
    let bench = bench(10);
    let names: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    for name in names.iter().chain(&names) {
        bench.hub.publish(Outgoing::new(name, None, message("x")), 0).unwrap();
    }
    let (mut replay, mut ids) = Default::default();
    let (start, limit, cut) = (Start::Last(10), 3 * message("x").weight(), Cut::Tail);
    let request = Request { shard: 0, names: &names[..], start, limit, broadcasts: true, cut, join: Join::Always };
    bench.hub.subscribe(&request, &mut replay, &mut ids);
    // For the channels whose newest message fits, the gap ends before that message.
    let gaps = replay.items.iter().filter(|item| item.is_gap()).map(Item::seq);
    assert_eq!(gaps.collect::<Vec<_>>(), (38..=77).collect::<Vec<_>>());
    assert_eq!(replay.items.len(), 43);
}

/// The lock turns of a request for the newest messages of so many channels, and how often it looks at an item. All but a
/// few messages are cut.
fn work_of_a_cut(channels: usize, start: Start<'_>) -> (usize, usize) {
    let bench = bench(10);
    let names: Vec<String> = (0..channels).map(|n| format!("c{n}")).collect();
    for name in names.iter().chain(&names) {
        bench.hub.publish(Outgoing::new(name, None, message("x")), 0).unwrap();
    }
    let turns = Rc::new(Cell::new(0));
    let counted = turns.clone();
    others::do_this(move || counted.set(counted.get() + 1));
    looks::take();
    let (mut replay, mut ids) = Default::default();
    let limit = 3 * message("x").weight();
    let request =
        Request { shard: 0, names: &names[..], start, limit, broadcasts: true, cut: Cut::Head, join: Join::Always };
    bench.hub.subscribe(&request, &mut replay, &mut ids);
    let work = (turns.get(), looks::take());
    others::are_done();
    assert_eq!((replay.items.len(), ids.len()), (channels + 3, channels), "a gap for each channel, and what fits");
    work
}

#[test]
#[cfg_attr(miri, ignore = "it takes long")]
fn a_cut_with_many_channels_takes_little_more_for_each_of_them() {
    const FEW: usize = 200;
    for start in [Start::Last(10), Start::After(0)] {
        let (few_turns, few_looks) = work_of_a_cut(FEW, start);
        let (many_turns, many_looks) = work_of_a_cut(4 * FEW, start);
        // There are as many channels and messages as before at once under the lock.
        assert!(few_turns >= FEW / state::AT_ONCE && many_turns > 3 * few_turns, "{few_turns}, {many_turns}");
        // With n log n it is 5 times as much. With the square of n it would be 16 times as much.
        assert!(many_looks < 7 * few_looks, "{start:?}: {few_looks}, {many_looks}");
    }
}
