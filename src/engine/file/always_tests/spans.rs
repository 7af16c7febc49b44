//! Spans of messages that wait for their sync.

use super::*;
use crate::trace::Tracer;
use std::sync::{OnceLock, Weak};

/// A hub that traces all messages, and whether a span has ended while the hub's lock was held.
fn traced(disk: &Memory) -> (Running, Arc<Tracer>, Arc<Mutex<bool>>) {
    let (mut hub, mailbox, writer) = prepare(disk, Sync::Always, 64, 1 << 20);
    let (place, under_lock) = (Arc::<OnceLock<Weak<Hub>>>::default(), Arc::<Mutex<bool>>::default());
    let (of_hub, noted) = (place.clone(), under_lock.clone());
    // A position is made when a span ends. Meanwhile another thread has to get the lock.
    let position_of = move |seq| {
        let (tell, told) = channel();
        let hub = of_hub.get().and_then(Weak::upgrade).unwrap();
        std::thread::spawn(move || tell.send(hub.seq()));
        *noted.lock().unwrap() |= told.recv_timeout(PATIENCE).is_err();
        format!("e-{seq}")
    };
    let tracer = Arc::new(Tracer::new(1, 100, Box::new(position_of)));
    Arc::get_mut(&mut hub).unwrap().trace_with(tracer.clone());
    place.set(Arc::downgrade(&hub)).unwrap();
    let (shared, of_writer) = (writer.shared().clone(), hub.clone());
    let thread = std::thread::spawn(move || writer.run(Box::new(of_writer)));
    (Running { hub, shared, mailbox, thread }, tracer, under_lock)
}

#[test]
fn a_message_and_one_with_the_same_key_have_spans_that_end_without_the_lock() {
    let (running, tracer, under_lock) = traced(&Memory::default());
    let submit = || {
        let publication = Publication::new("a", b"x");
        let span = running.hub.begin_span(&publication);
        let outgoing = Outgoing { span, ..Outgoing::new("a", Some(Key::Host("k")), make(&publication)) };
        let (tell, settled) = channel();
        let on_settled: OnSettled = Box::new(move |settled| drop(tell.send(settled)));
        let placing = running.hub.submit(vec![outgoing], None, clock::monotonic_ms(), Some(on_settled)).unwrap();
        (placing, settled)
    };
    let (placing, settled) = submit();
    assert_eq!((placing, seqs(&settled)), (Placing::Later, vec![1]));
    let (placing, _) = submit();
    assert!(matches!(placing, Placing::Now(settled) if settled.places[0].seq == 1));
    let began = Instant::now();
    let mut positions = Vec::new();
    while positions.len() < 2 {
        assert!(began.elapsed() < PATIENCE, "{positions:?}");
        positions.extend(tracer.take_ended().into_iter().map(|(_, position, ..)| position));
        std::thread::yield_now();
    }
    assert_eq!(positions, ["e-1", "e-1"]);
    assert!(!*under_lock.lock().unwrap());
    running.stop();
}
