//! The tail.

use super::hub::{heartbeat, message, name_of, Hub};
use super::{Fresh, PATIENCE};
use crate::engine::contract::{Ask, EntryId, Placed, Tailed};
use tokio::time::timeout;

pub(crate) async fn a_tail_begins_after_any_number(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let before = hub.identify(0).await.end;
    for counter in 1..=30 {
        hub.append_one(counter, &heartbeat()).await;
    }
    let end = before + 30;
    for after in [0, before, before + 1, before + 17, end - 1] {
        let mut reader = Hub::connect(&*log, 2).await;
        reader.ask(Ask::Tail { after }).await;
        let read = reader.tailed_to(end).await;
        let first = after.max(before) + 1;
        assert_eq!(read[0].0, first, "after {after}");
        let counters: Vec<u64> = read.iter().map(|(_, id)| id.counter).collect();
        assert_eq!(counters, (first - before..=30).collect::<Vec<u64>>());
    }
    let mut reader = Hub::connect(&*log, 2).await;
    reader.ask(Ask::Tail { after: end }).await;
    hub.append_one(31, &heartbeat()).await;
    assert_eq!(reader.tailed_to(end + 1).await, [(end + 1, EntryId { hub: 1, counter: 31, attempt: 1 })]);
}

pub(crate) async fn a_tail_that_has_all_says_so(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let mut last = hub.append_one(1, &heartbeat()).await;
    hub.ask(Ask::Tail { after: 0 }).await;
    for counter in 2..=4 {
        let idle = async {
            let mut came = 0;
            loop {
                for item in hub.connection.tail.recv().await.expect("the connection is lost") {
                    match item {
                        Tailed::Idle { end } if end == last => return assert_eq!(came.max(last), last),
                        Tailed::Idle { end } => assert!(end < last, "{end}"),
                        item => came = name_of(&item).0,
                    }
                }
            }
        };
        timeout(PATIENCE, idle).await.expect("the tail does not say that it has all");
        last = hub.append_one(counter, &heartbeat()).await;
    }
}

pub(crate) async fn a_tail_names_fences(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    hub.ask(Ask::Tail { after: 0 }).await;
    hub.append_one(1, &heartbeat()).await;
    let (done, fence) = hub.fence(0, "fence").await;
    assert!(done);
    let last = hub.append_one(2, &heartbeat()).await;
    let mut fences = Vec::new();
    let mut at = 0;
    while at < last {
        for item in hub.tailed(1).await {
            at = at.max(name_of(&item).0);
            match item {
                Tailed::Fence { number, id } if !fences.contains(&(number, id)) => fences.push((number, id)),
                _ => {}
            }
        }
    }
    assert_eq!(fences, [(last - 1, fence.id())]);
}

pub(crate) async fn hubs_that_race_read_the_same(fresh: Fresh) {
    const BATCHES: u64 = 60;
    let log = fresh();
    let mut hubs = Vec::new();
    for name in 1..=3 {
        hubs.push(Hub::connect(&*log, name).await);
    }
    let before = hubs[0].identify(0).await.end;
    let work = hubs.into_iter().map(|mut hub| async move {
        hub.ask(Ask::Tail { after: 0 }).await;
        let mut mine = Vec::new();
        for batch in 0..BATCHES {
            let from = batch * 5 + 1;
            let entries: Vec<_> =
                (from..from + 5).map(|counter| hub.entry(counter, &message(&counter.to_le_bytes()))).collect();
            let names: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
            let placed = hub.append(entries).await;
            mine.extend(placed.iter().zip(names).map(|(placed, id)| match placed {
                Placed::At(number) => (*number, id),
                other => panic!("{other:?}"),
            }));
        }
        let read = hub.tailed_to(before + 3 * 5 * BATCHES).await;
        for (number, id) in mine {
            let (at, name) = read[(number - before - 1) as usize];
            assert_eq!((at, name), (number, id), "an acknowledged entry has its number");
        }
        read
    });
    let all = futures_util::future::join_all(work).await;
    assert_eq!(all[0].len() as u64, 15 * BATCHES);
    assert!(all.iter().all(|read| *read == all[0]));
    for name in 1..=3 {
        let counters = all[0].iter().filter(|(_, id)| id.hub == name).map(|(_, id)| id.counter);
        assert!(counters.eq(1..=5 * BATCHES), "in the order in which hub {name} asked");
    }
}

pub(crate) async fn a_tail_of_a_trimmed_log_begins_with_the_first_entry_left(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let mut last = 0;
    for counter in 1..=40 {
        last = hub.append_one(counter, &heartbeat()).await;
    }
    hub.ask(Ask::Trim { before: last - 9 }).await;
    let first = hub.identify(0).await.first;
    assert!(first <= last - 9, "not more than was asked for");
    assert!(first > 0);
    let mut reader = Hub::connect(&*log, 2).await;
    reader.ask(Ask::Tail { after: 0 }).await;
    let read = reader.tailed_to(last).await;
    assert_eq!(read[0].0, first, "what is missing can be seen by the number");
    assert_eq!(read.last().unwrap().1.counter, 40);
}

pub(crate) async fn a_tail_that_is_not_taken_holds_nothing_else_up(fresh: Fresh) {
    const ENTRIES: u64 = 400;
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    hub.ask(Ask::Tail { after: 0 }).await;
    let data = vec![7; 20_000];
    let mut last = 0;
    for batch in 0..ENTRIES / 10 {
        let from = batch * 10 + 1;
        let entries = (from..from + 10).map(|counter| hub.entry(counter, &message(&data))).collect();
        let placed = hub.append(entries).await;
        let Placed::At(number) = placed[9] else { panic!("{placed:?}") };
        last = number;
        assert_eq!(hub.identify(0).await.end, last);
    }
    let read = hub.tailed_to(last).await;
    assert_eq!(read.len() as u64, ENTRIES);
}
