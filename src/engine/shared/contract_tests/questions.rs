//! Identity, fences, trimming, and the order of the answers.

use super::hub::{heartbeat, Hub};
use super::{Fresh, PATIENCE};
use crate::engine::contract::{Answer, Ask, EntryId, Placed};
use std::time::Duration;
use tokio::time::{sleep, timeout};

pub(crate) async fn questions_are_answered_in_their_order(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let end = hub.identify(0).await.end;
    let mut accepted = 0;
    for _ in 0..20 {
        for batch in 0..3 {
            let from = accepted + 1 + batch * 3;
            hub.ask_append(hub.heartbeats(from..from + 3)).await;
            hub.ask(Ask::Identify { number: 0 }).await;
        }
        for _ in 0..3 {
            match hub.answer().await {
                Answer::Appended(placed) => {
                    assert_eq!(placed, [1, 2, 3].map(|at| Placed::At(end + accepted + at)));
                    accepted += 3;
                }
                Answer::Busy => {}
                other => panic!("{other:?} for an append"),
            }
            match hub.answer().await {
                Answer::Identity(identity) => assert_eq!(identity.end, end + accepted),
                other => panic!("{other:?} for an identity"),
            }
        }
        hub.after = accepted;
    }
    assert!(accepted > 0, "it was always busy");
}

pub(crate) async fn an_append_after_one_that_was_not_accepted_is_refused(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    hub.append_one(1, &heartbeat()).await;
    let end = hub.identify(0).await.end;
    // The entries up to 4 were not accepted over this connection.
    hub.after = 4;
    hub.ask_append(hub.heartbeats(5..=6)).await;
    assert_eq!(hub.answer().await, Answer::Busy);
    hub.ask_append(hub.heartbeats(7..=8)).await;
    assert_eq!(hub.answer().await, Answer::Busy, "nor is what follows");
    assert_eq!(hub.identify(0).await.end, end);
    hub.after = 1;
    hub.append(hub.heartbeats(2..=6)).await;
    assert_eq!(hub.identify(0).await.end, end + 5);
    // What another connection had accepted does not count.
    let mut hub = hub.reconnect(&*log).await;
    hub.after = 6;
    hub.ask_append(hub.heartbeats([7])).await;
    assert_eq!(hub.answer().await, Answer::Busy);
}

pub(crate) async fn the_identity_is_the_same_for_all_hubs(fresh: Fresh) {
    let log = fresh();
    let (mut hub, mut other) = (Hub::connect(&*log, 1).await, Hub::connect(&*log, 2).await);
    let identity = hub.identify(0).await;
    assert_eq!(other.identify(0).await, identity);
    hub.append_one(1, &heartbeat()).await;
    let mut hub = hub.reconnect(&*log).await;
    let later = hub.identify(0).await;
    assert_eq!((later.log, later.end), (identity.log, identity.end + 1));
    assert_eq!(other.identify(0).await, later);
    let another = fresh();
    let elsewhere = Hub::connect(&*another, 1).await.identify(0).await;
    assert_eq!((elsewhere.fence, elsewhere.entry), (None, None));
}

pub(crate) async fn an_entry_is_named_by_its_number(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, u64::MAX - 1).await;
    let first = hub.append_one(1, &heartbeat()).await;
    hub.append_one(2, &heartbeat()).await;
    let name = |counter| Some(EntryId { hub: u64::MAX - 1, counter, attempt: 1 });
    assert_eq!(hub.identify(first).await.entry, name(1));
    assert_eq!(hub.identify(first + 1).await.entry, name(2));
    for missing in [0, first + 2, 1 << 40, u64::MAX] {
        assert_eq!(hub.identify(missing).await.entry, None, "{missing}");
    }
    let (_, fence) = hub.fence(0, "epoch").await;
    assert_eq!(hub.identify(first + 2).await.entry, Some(fence.id()));
}

pub(crate) async fn a_fence_is_a_compare_and_set(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    hub.append_one(1, &heartbeat()).await;
    assert_eq!(hub.identify(0).await.fence, None);
    assert!(!hub.fence(1, "early").await.0, "there is no fence yet, and 1 is none");
    let (done, first) = hub.fence(0, "first").await;
    assert!(done);
    let identity = hub.identify(0).await;
    let number = identity.end;
    assert_eq!(identity.fence, Some((number, first)));
    hub.append_one(2, &heartbeat()).await;
    assert!(!hub.fence(0, "late").await.0);
    assert!(!hub.fence(number + 1, "wrong").await.0);
    let identity = hub.identify(0).await;
    assert_eq!((identity.end, identity.fence.as_ref().unwrap().0), (number + 1, number), "nothing was appended");
    let (done, second) = hub.fence(number, "second").await;
    assert!(done);
    assert_eq!(hub.identify(0).await.fence, Some((number + 2, second)));
}

pub(crate) async fn of_two_hubs_that_write_a_fence_one_does(fresh: Fresh) {
    let log = fresh();
    let mut hubs = Vec::new();
    for name in 1..=4 {
        hubs.push(Hub::connect(&*log, name).await);
    }
    let mut expected = 0;
    for round in 0..10 {
        let before = hubs[0].identify(0).await;
        let texts: Vec<String> = (0..hubs.len()).map(|at| format!("e{round}x{at}")).collect();
        let asked = hubs.iter_mut().zip(&texts).map(|(hub, text)| hub.fence(expected, text));
        let results = futures_util::future::join_all(asked).await;
        let mut won = results.into_iter().filter_map(|(done, fence)| done.then_some(fence));
        let fence = won.next().expect("no fence was appended");
        assert_eq!(won.next(), None, "two were");
        let after = hubs[0].identify(0).await;
        assert_eq!(after.end, before.end + 1);
        assert_eq!(after.fence, Some((after.end, fence)));
        expected = after.end;
    }
}

pub(crate) async fn the_last_fence_is_not_trimmed(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let (done, fence) = hub.fence(0, "kept").await;
    assert!(done);
    let number = hub.identify(0).await.end;
    for counter in 1..=20 {
        hub.append_one(counter, &heartbeat()).await;
    }
    let end = hub.identify(0).await.end;
    hub.ask(Ask::Trim { before: end + 1 }).await;
    assert_eq!(hub.identify(0).await.fence, Some((number, fence.clone())));
    let mut hub = hub.reconnect(&*log).await;
    assert_eq!(hub.identify(0).await.fence, Some((number, fence)));
    assert!(!hub.fence(0, "no").await.0, "it still counts");
    assert!(hub.fence(number, "next").await.0);
}

pub(crate) async fn numbers_go_on_when_all_is_trimmed(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    let mut end = 0;
    for counter in 1..=10 {
        end = hub.append_one(counter, &heartbeat()).await;
    }
    hub.ask(Ask::Trim { before: end + 1 }).await;
    let identity = hub.identify(end).await;
    assert_eq!(identity.end, end);
    assert!(identity.first <= end + 1);
    assert_eq!(identity.entry.is_some(), identity.first <= end);
    // More than there is may be named, and 0.
    hub.ask(Ask::Trim { before: 0 }).await;
    hub.ask(Ask::Trim { before: end + 100 }).await;
    assert_eq!(hub.identify(0).await.end, end);
    assert_eq!(hub.append(hub.heartbeats(9..=11)).await, [Placed::Repeated, Placed::Repeated, Placed::At(end + 1)]);
    let mut other = Hub::connect(&*log, 2).await;
    assert_eq!(other.append_one(1, &heartbeat()).await, end + 2);
    assert_eq!(other.identify(0).await.end, end + 2);
}

pub(crate) async fn a_hub_that_hangs_up_gets_no_more_answers(fresh: Fresh) {
    let log = fresh();
    let mut hub = Hub::connect(&*log, 1).await;
    hub.identify(0).await;
    hub.ask(Ask::HangUp).await;
    let ended = async {
        while let Some(answer) = hub.connection.answers.recv().await {
            assert_eq!(answer, Answer::Lost);
        }
    };
    timeout(PATIENCE, ended).await.expect("the connection does not end");
    sleep(Duration::from_millis(1)).await;
    let mut hub = hub.reconnect(&*log).await;
    hub.append_one(1, &heartbeat()).await;
}
