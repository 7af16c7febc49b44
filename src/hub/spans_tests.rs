//! Spans of messages in a hub: each ends once, whatever becomes of its message.

use super::tests::{bench, message, Bench};
use super::{Delivery, Key, Mark, Message, Outgoing, Publication, Start};
use crate::error::Kind;
use crate::trace::{Ticket, Tracer};
use std::sync::Arc;

fn traced(bench: &mut Bench) -> Arc<Tracer> {
    let tracer = Arc::new(Tracer::new(1, 100, Box::new(|seq| format!("e-{seq}"))));
    bench.hub.trace_with(tracer.clone());
    tracer
}

fn outgoing<'a>(bench: &Bench, channel: &'a str, key: Option<&'a str>) -> Outgoing<'a> {
    let span = bench.hub.begin_span(&Publication::new(channel, b"x"));
    Outgoing { span, ..Outgoing::new(channel, key.map(Key::Host), message("x")) }
}

fn shown(ended: Vec<(String, String, u32, usize)>) -> Vec<String> {
    let one = |(channel, position, subscribers, shards)| format!("{channel} {position} {subscribers} {shards}");
    ended.into_iter().map(one).collect()
}

#[test]
fn a_message_costs_no_more_room_where_nothing_is_traced() {
    assert_eq!(size_of::<Message>(), 72);
    assert_eq!(size_of::<Delivery>(), 16, "a mailbox has 8,192 of them");
    let bench = bench(10);
    assert!(bench.hub.begin_span(&Publication::new("a", b"x")).is_none());
}

#[test]
fn a_message_without_subscribers_has_ended_with_its_publish() {
    let mut bench = bench(10);
    let tracer = traced(&mut bench);
    bench.hub.publish(outgoing(&bench, "a", None), 0).unwrap();
    assert_eq!(shown(tracer.take_ended()), ["a e-1 0 0"]);
    // A channel that keeps nothing and has nobody does not exist.
    let mut keeps_none = super::tests::bench(0);
    let tracer = traced(&mut keeps_none);
    keeps_none.hub.publish(outgoing(&keeps_none, "a", None), 0).unwrap();
    assert_eq!(shown(tracer.take_ended()), ["a e-1 0 0"]);
}

#[test]
fn no_span_ends_under_the_lock_of_the_hub() {
    let mut bench = bench(10);
    let tracer = traced(&mut bench);
    let (new, again) = (outgoing(&bench, "a", Some("k")), outgoing(&bench, "a", Some("k")));
    let mut state = bench.hub.state.lock();
    state.publish(new, 0, 0, &bench.mailboxes);
    assert_eq!(state.find_before(&again, 0), Some(1));
    drop(again);
    assert_eq!(shown(tracer.take_ended()), [""; 0]);
    drop(state);
    bench.hub.change(|_| ());
    assert_eq!(shown(tracer.take_ended()), ["a e-1 0 0", "a e-1 0 0"]);
}

#[test]
fn a_span_waits_for_each_shard_that_has_the_message() {
    let mut bench = bench(10);
    let tracer = traced(&mut bench);
    bench.subscribe(&["a"], Start::New);
    bench.hub.publish_batch(vec![outgoing(&bench, "a", None), outgoing(&bench, "b", None)], 0).unwrap();
    bench.hub.publish(outgoing(&bench, "", None), 0).unwrap();
    assert_eq!(shown(tracer.take_ended()), ["b e-2 0 0"]);
    let deliveries = |shard: usize| std::iter::from_fn(|| bench.mailboxes[shard].pop()).collect::<Vec<_>>();
    let (first, second) = (deliveries(0), deliveries(1));
    assert_eq!((first.len(), second.len()), (2, 1), "a broadcast is for both");
    first.iter().for_each(|delivery| tracer.handed(delivery.ticket, 0, 1));
    assert_eq!(shown(tracer.take_ended()), ["a e-1 1 1"]);
    tracer.handed(second[0].ticket, 1, 0);
    assert_eq!(shown(tracer.take_ended()), [" e-3 0 2"]);
    bench.publish("a", "without");
    assert!(deliveries(0).iter().all(|delivery| delivery.ticket == Ticket::default()));
}

#[test]
fn what_is_published_already_has_the_first_position_and_what_is_refused_has_no_span() {
    let mut bench = bench(10);
    let tracer = traced(&mut bench);
    bench.hub.publish(outgoing(&bench, "a", Some("k")), 0).unwrap();
    bench.hub.publish(outgoing(&bench, "a", Some("k")), 0).unwrap();
    assert_eq!(shown(tracer.take_ended()), ["a e-1 0 0", "a e-1 0 0"]);
    bench.subscribe(&["full"], Start::New);
    while bench.hub.publish(Outgoing::new("full", None, message("x")), 0).is_ok() {}
    // More often than spans may be open.
    for _ in 0..100 {
        let refused = bench.hub.publish(outgoing(&bench, "full", None), 0).unwrap_err();
        assert_eq!(refused.kind(), Kind::Busy);
        bench.hub.publish_batch(vec![outgoing(&bench, "a", None), outgoing(&bench, "full", None)], 0).unwrap_err();
    }
    assert_eq!(shown(tracer.take_ended()), [""; 0]);
    assert_eq!(tracer.outcomes()[2], ("dropped", 0));
}

#[test]
fn the_beginnings_and_ends_of_streams_have_no_span() {
    let mut bench = bench(10);
    traced(&mut bench);
    for mark in [Mark::Begin, Mark::End] {
        assert!(bench.hub.begin_span(&Publication::mark("a", mark)).is_none());
    }
}
