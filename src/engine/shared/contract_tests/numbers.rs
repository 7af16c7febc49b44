//! Numbers, and what is appended once.

use super::hub::{bytes_of, heartbeat, message, Hub};
use super::Fresh;
use crate::engine::contract::{Answer, Ask, Placed, Tailed};

pub(crate) async fn each_number_is_one_more_than_the_one_before(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let before = hub.identify(0).await;
    assert_eq!(before.end, before.first - 1, "a fresh log has no entries");
    for counters in [1..4, 4..5, 5..9] {
        let entries = hub.heartbeats(counters);
        let expected: Vec<Placed> = entries.iter().map(|entry| Placed::At(before.end + entry.id.counter)).collect();
        assert_eq!(hub.append(entries).await, expected);
    }
    let after = hub.identify(0).await;
    assert_eq!((after.first, after.end), (before.first, before.end + 8));
}

pub(crate) async fn an_entry_is_appended_once(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let entries = hub.heartbeats(1..=3);
    let placed = hub.append(entries.clone()).await;
    assert!(matches!(placed[..], [Placed::At(_), Placed::At(_), Placed::At(_)]), "{placed:?}");
    assert_eq!(hub.append(entries).await, [Placed::Repeated; 3], "over the same connection");
    let end = hub.identify(0).await.end;

    let mut again = hub.reconnect(&*log).await;
    let mixed = again.append(again.heartbeats(2..=4)).await;
    assert_eq!(mixed, [Placed::Repeated, Placed::Repeated, Placed::At(end + 1)], "over another connection");

    let mut other = Hub::connect(&*log, 2).await;
    let placed = other.append(other.heartbeats(1..=2)).await;
    assert_eq!(placed, [Placed::At(end + 2), Placed::At(end + 3)], "another hub has a count of its own");
    assert_eq!(other.identify(0).await.end, end + 3);
}

pub(crate) async fn an_entry_behind_a_later_one_of_its_hub_is_not_appended(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let number = hub.append_one(5, &heartbeat()).await;
    let mut hub = hub.reconnect(&*log).await;
    assert_eq!(
        hub.append(hub.heartbeats([4, 5, 6])).await,
        [Placed::Repeated, Placed::Repeated, Placed::At(number + 1)]
    );
}

pub(crate) async fn a_key_is_known_to_all_hubs(fresh: Fresh) {
    let log = fresh();
    let (mut hub, mut other) = (Hub::connect(&*log, 1).await, Hub::connect(&*log, 2).await);
    let mut entry = hub.entry(1, &message(b"first"));
    entry.key = "news k\u{e9}y \n{x}".into();
    let key = entry.key.clone();
    let Placed::At(number) = hub.append(vec![entry]).await[0] else { panic!("not appended") };

    let mut same = other.entry(1, &message(b"second"));
    same.key = key.clone();
    let mut another = other.entry(2, &message(b"third"));
    another.key = "news another".into();
    let unkeyed = other.entry(3, &message(b"fourth"));
    let placed = other.append(vec![same, another, unkeyed]).await;
    assert_eq!(placed, [Placed::Known(number), Placed::At(number + 1), Placed::At(number + 2)]);

    let mut same = hub.entry(2, &message(b"fifth"));
    same.key = key;
    assert_eq!(hub.append(vec![same]).await, [Placed::Known(number)]);
    assert_eq!(hub.identify(0).await.end, number + 2);
}

pub(crate) async fn a_key_twice_in_one_batch_is_appended_once(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let mut entries = vec![hub.entry(1, &message(b"1")), hub.entry(2, &message(b"2")), hub.entry(3, &message(b"3"))];
    entries[0].key = "k".into();
    entries[1].key = "k".into();
    let placed = hub.append(entries).await;
    let Placed::At(number) = placed[0] else { panic!("{placed:?}") };
    assert_eq!(placed, [Placed::At(number), Placed::Known(number), Placed::At(number + 1)]);
}

pub(crate) async fn a_large_entry_comes_back_as_it_was(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    hub.ask(Ask::Tail { after: 0 }).await;
    // All bytes, also those that a protocol of lines would stumble over.
    let large: Vec<u8> = (0..512 * 1024).map(|at: u32| (at % 251) as u8 ^ (at >> 12) as u8).collect();
    for counter in 1..=12 {
        hub.append_one(counter, &message(&large)).await;
    }
    let mut counter = 0;
    while counter < 12 {
        for item in hub.tailed(1).await {
            let Tailed::Entry { number, bytes } = item else { panic!("{item:?}") };
            if number > counter {
                counter += 1;
                assert!(bytes_of(&bytes).starts_with(&large), "entry {number} is another one");
            }
        }
    }
}

pub(crate) async fn what_a_lost_connection_had_asked_for_is_appended_once_in_order(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let mut acknowledged = 0;
    for round in 0..20 {
        // More and more is asked for, and answered or not, when the connection is lost.
        for batch in 0..=round % 5 {
            let from = acknowledged + 1 + batch * 4;
            hub.ask_append(hub.heartbeats(from..from + 4)).await;
        }
        for _ in 0..round % 3 {
            if round % 5 >= 2 {
                match hub.answer().await {
                    Answer::Appended(_) => acknowledged += 4,
                    Answer::Busy => break,
                    other => panic!("{other:?}"),
                }
            }
        }
        hub = hub.reconnect(&*log).await;
        let from = acknowledged + 1;
        hub.append(hub.heartbeats(from..from + 24)).await;
        acknowledged = from + 23;
    }
    hub.ask(Ask::Tail { after: 0 }).await;
    let end = hub.identify(0).await.end;
    let counters: Vec<u64> = hub.tailed_to(end).await.iter().map(|(_, id)| id.counter).collect();
    assert_eq!(counters, (1..=acknowledged).collect::<Vec<u64>>());
}
