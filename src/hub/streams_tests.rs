//! Streams with a beginning and an end, one promise after the other. `src/fuzzing/hub` has them in any order.

use super::tests::{bench, bench_with, Bench};
use super::*;

impl Bench {
    fn mark(&self, channel: &str, mark: Mark) -> u64 {
        self.mark_at(channel, mark, 0)
    }

    fn mark_at(&self, channel: &str, mark: Mark, now: u64) -> u64 {
        let message = Message::new(&Publication::mark("", mark), false, b"");
        self.hub.publish(Outgoing::new(channel, None, message), now).unwrap().seq
    }

    /// What a subscriber gets: `name!seq` for a gap, `begin` and `end` for marks, `data` for a message.
    fn told(&self, names: &[&str], start: Start<'_>) -> Vec<String> {
        let show = |item: &Item| match item {
            Item::Gap(..) | Item::Loss(..) => format!("{}!{}", item.channel().unwrap_or("*"), item.seq()),
            Item::Message(message) => match message.mark() {
                Some(mark) => mark.word().to_owned(),
                None => String::from_utf8_lossy(message.data()).into_owned(),
            },
        };
        self.subscribe(names, start).0.items.iter().map(show).collect()
    }

    fn all_ended(&self, names: &[&str]) -> Option<u64> {
        let (_, ids) = self.subscribe(names, Start::New);
        self.hub.all_ended(ids.iter().map(|(id, _)| *id))
    }
}

#[test]
fn from_the_start_comes_everything_that_is_kept_and_a_gap_where_the_beginning_is_gone() {
    let b = bench(3);
    assert!(b.told(&["a"], Start::Beginning).is_empty());
    b.publish_numbers("a", 1..=3);
    assert_eq!(b.told(&["a"], Start::Beginning), ["1", "2", "3"]);
    b.publish("", "to all");
    assert_eq!(b.told(&["a"], Start::Beginning), ["1", "2", "3"], "a broadcast belongs to no stream");
    b.publish("a", "4");
    assert_eq!(b.told(&["a"], Start::Beginning), ["a!1", "2", "3", "4"]);
    // Nothing is kept any more, and the channel is gone.
    b.expire(1_000_000);
    assert_eq!(b.hub.channel("b"), None);
    assert_eq!(b.told(&["a", "b"], Start::Beginning), ["a!5"]);
}

#[test]
fn a_stream_that_was_begun_has_its_beginning_though_the_channel_is_older() {
    let b = bench(4);
    b.publish_numbers("a", 1..=9);
    let begun = b.mark("a", Mark::Begin);
    b.publish_numbers("a", 1..=3);
    assert_eq!(b.told(&["a"], Start::Beginning), ["begin", "1", "2", "3"]);
    assert_eq!(b.told(&["a"], b.since(9)), ["begin", "1", "2", "3"], "it had everything of before");
    assert_eq!(b.told(&["a"], b.since(3)), ["a!9", "begin", "1", "2", "3"]);
    b.publish("a", "4");
    assert_eq!(b.told(&["a"], Start::Beginning), ["1", "2", "3", "4"], "a mark that is gone is no loss");
    b.publish("a", "5");
    assert_eq!(
        b.told(&["a"], Start::Beginning),
        [format!("a!{}", begun + 1), "2".into(), "3".into(), "4".into(), "5".into()]
    );
}

#[test]
fn an_end_has_its_place_is_kept_and_is_told_to_everybody() {
    let b = bench(10);
    let live = b.subscribe(&["a"], Start::New).1;
    b.publish("a", "1");
    let end = b.mark("a", Mark::End);
    assert_eq!((b.hub.stats().ended, b.hub.all_ended(live.iter().map(|(id, _)| *id))), (1, Some(end)));
    let marks: Vec<_> = std::iter::from_fn(|| b.mailboxes[0].pop()).map(|delivery| delivery.message.mark()).collect();
    assert_eq!(marks, [None, Some(Mark::End)]);
    for (start, told) in [
        (Start::Beginning, &["1", "end"][..]),
        (b.since(1), &["end"]),
        (b.since(end), &[]),
        (Start::Last(1), &["1", "end"]),
        (Start::New, &["end"]),
    ] {
        assert_eq!(b.told(&["a"], start), told, "{start:?}");
    }
    // Who wants new messages only is told at its own position: else it would get older ones when it comes back.
    let newest = b.publish("b", "2");
    let (replay, _) = b.subscribe(&["a", "b"], Start::New);
    assert_eq!(replay.items.iter().map(Item::seq).collect::<Vec<_>>(), [newest]);
    assert_eq!((b.all_ended(&["a", "b"]), b.all_ended(&["a"]), b.all_ended(&["c"])), (None, Some(end), None));
    assert_eq!(b.hub.all_ended(std::iter::empty()), None);
}

#[test]
fn an_end_is_told_to_many_channels_at_once_in_steps() {
    let b = bench(10);
    let names: Vec<String> = (0..9).map(|n| format!("c{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.iter().for_each(|name| _ = b.mark(name, Mark::End));
    assert_eq!(b.told(&names, Start::New), ["end"; 9]);
    assert_eq!(b.told(&names, Start::Beginning), ["end"; 9]);
    b.publish("c3", "x");
    assert_eq!(b.told(&names, Start::New), ["end"; 8]);
    assert_eq!((b.all_ended(&names), b.hub.stats().ended), (None, 8));
}

#[test]
fn of_several_ends_at_one_position_only_the_last_has_it() {
    let b = bench(10);
    ["a", "b", "c", "d", "e"].iter().for_each(|name| _ = b.mark(name, Mark::End));
    for names in [&["a", "b", "c"][..], &["a", "b", "c", "d", "e"]] {
        let items = b.subscribe(names, Start::New).0.items;
        let positions: Vec<u64> = items.iter().map(Item::seq).collect();
        let (last, others) = positions.split_last().unwrap();
        assert!(*last == 5 && others.iter().all(|seq| *seq == 0), "{positions:?}");
        assert!(items.iter().all(|item| matches!(item, Item::Message(end) if end.has_position() == (end.seq() == 5))));
    }
}

#[test]
fn what_had_ended_before_a_subscribers_position_is_told_there() {
    let b = bench(10);
    let end = b.mark("a", Mark::End);
    let since = b.publish("b", "x");
    for names in [&["a", "b"][..], &["a", "b", "c", "d", "e"]] {
        let (mut replay, _) = b.subscribe(names, b.since(since));
        assert!(replay.items.is_empty());
        replay.tell_passed_ends();
        assert_eq!(replay.items.iter().map(Item::seq).collect::<Vec<_>>(), [since]);
        // With the end itself among the items it is not told twice, and a position of elsewhere passes nothing.
        for start in [b.since(end - 1), Start::After(since), Start::Beginning, Start::Last(1), Start::New] {
            let (mut replay, _) = b.subscribe(names, start);
            let before = replay.items.len();
            replay.tell_passed_ends();
            assert_eq!(replay.items.len(), before, "{start:?}");
        }
    }
}

#[test]
fn an_end_that_was_read_is_not_told_once_something_follows_it() {
    for start in [Start::Beginning, Start::New] {
        let b = std::rc::Rc::new(bench(10));
        let names = ["a", "b", "c", "d", "e"];
        names.iter().for_each(|name| _ = b.mark(name, Mark::End));
        let theirs = b.clone();
        let mut turns = 0;
        lock::others::do_this(move || {
            turns += 1;
            // All ends are read, and the shard has not joined the channels.
            if turns == 4 {
                theirs.publish("a", "more");
            }
        });
        let (replay, _) = b.subscribe(&names, start);
        lock::others::are_done();
        let told = |item: &&Item| item.channel() == Some("a");
        let ends = |item: &&Item| matches!(item, Item::Message(message) if message.mark().is_some());
        assert_eq!(replay.items.iter().filter(told).filter(ends).count(), 0, "{start:?}: {replay:?}");
        assert_eq!((replay.items.iter().filter(ends).count(), replay.ends.len(), replay.is_the_end()), (4, 4, false));
    }
}

#[test]
fn a_stream_that_begins_anew_while_it_is_read_from_the_start_has_no_gap() {
    for others in [&[][..], &["b", "c", "d"]] {
        let b = bench(10);
        let names: Vec<&str> = ["a"].iter().chain(others).copied().collect();
        let part = |start| {
            let (mut replay, mut ids) = (Replay::default(), Vec::new());
            let (names, cut, join) = (&names[..], Cut::Tail, Join::Always);
            let request = Request { shard: 0, names, start, limit: 200, broadcasts: true, cut, join };
            b.hub.subscribe(&request, &mut replay, &mut ids);
            replay
        };
        b.publish_numbers("a", 1..=4);
        let first = part(Start::Beginning);
        assert!(!first.complete);
        b.mark("a", Mark::Begin);
        b.publish("a", "new");
        let gaps = |replay: Replay| replay.items.iter().filter(|item| item.is_gap()).count();
        assert_eq!(gaps(part(Start::After(first.position))), 1);
        assert_eq!(gaps(part(Start::BeginningAfter(first.position))), 0);
        // What was lost without a new beginning is lost.
        b.publish_numbers("a", 1..=20);
        assert_eq!(gaps(part(Start::BeginningAfter(first.position))), 1);
    }
}

#[test]
fn to_end_what_has_ended_changes_nothing() {
    let b = bench(10);
    let end = b.mark("a", Mark::End);
    b.publish("b", "x");
    assert_eq!((b.mark("a", Mark::End), b.hub.stats().seq), (end, 2));
}

#[test]
fn a_message_takes_the_end_back_and_a_beginning_clears_what_was() {
    let b = bench(10);
    b.publish("a", "1");
    let end = b.mark("a", Mark::End);
    b.publish("a", "2");
    assert_eq!((b.hub.stats().ended, b.all_ended(&["a"])), (0, None));
    // Who has the end gets what is new. Who comes later is told of no end, since there is none.
    assert_eq!(b.told(&["a"], b.since(end)), ["2"]);
    assert_eq!(b.told(&["a"], Start::Beginning), ["1", "2"]);
    assert_eq!(b.told(&["a"], Start::New), [""; 0]);
    let end = b.mark("a", Mark::End);
    b.mark("a", Mark::Begin);
    b.publish("a", "3");
    assert_eq!(b.told(&["a"], b.since(end)), ["begin", "3"], "it has all of the stream before");
    assert_eq!(b.told(&["a"], b.since(1)), [&format!("a!{end}"), "begin", "3"]);
    assert_eq!(b.told(&["a"], Start::Beginning), ["begin", "3"]);
    assert_eq!(b.hub.stats().ended, 0);
}

#[test]
fn an_end_is_kept_as_long_as_messages_are_and_counted() {
    let b = bench(10);
    b.publish_at("a", "1", 0);
    b.mark_at("a", Mark::End, 5_000);
    b.expire(12_000);
    let (gone, ended) = (b.told(&["a"], Start::Beginning), b.hub.stats().ended);
    assert_eq!((gone, ended), (vec!["a!1".to_owned(), "end".into()], 1));
    b.expire(15_000);
    assert_eq!((b.hub.stats().ended, b.hub.stats().history_messages), (0, 0));
    // A common bound, a clear and a reload end it, too.
    let b = bench_with(Retention { count: 9, age_ms: 10, bytes: 1 << 20 }, &[], 500);
    (0..9).for_each(|n| _ = b.mark(&format!("c{n}"), Mark::End));
    assert_eq!(b.hub.stats().ended, b.hub.stats().history_messages);
    assert!(b.hub.stats().ended < 9);
    b.hub.clear("c8");
    assert_eq!(b.all_ended(&["c8"]), None);
    let none = Retention { count: 0, age_ms: 10, bytes: 1 };
    b.hub.reconfigure(&tests::settings(none, &[], 500), 0);
    assert_eq!((b.hub.stats().ended, b.hub.check_mark("a").is_err()), (0, true));
}

#[test]
fn ends_that_come_and_go_do_not_pile_up() {
    let b = bench(3);
    b.publish("a", "stays");
    for _ in 0..10_000 {
        b.mark("b", Mark::End);
        b.publish("b", "x");
        b.mark("c", Mark::Begin);
    }
    let kept = b.hub.stats().history_messages;
    assert!(b.hub.state.lock().remembered() < 64 + 4 * kept as usize, "{}", b.hub.state.lock().remembered());
}
