//! A replica, asked and answered by hand.

use super::queue::Step;
use super::*;
use crate::engine::entry::Logged;
use crate::hub::{Act, Break, Link, Message, Noted, Publication};
use std::sync::Arc;

const ONE: LogId = LogId([1; 16]);
const OTHER: LogId = LogId([2; 16]);

fn make(publication: &Publication<'_>) -> Arc<Message> {
    Message::new(publication, publication.binary, b"")
}

fn replica() -> Replica {
    let mut bits = 0;
    let random = Box::new(move || {
        bits += 1;
        bits
    });
    Replica::new(Environment { hub: 7, random, make, buffer: 1 << 20 })
}

fn identity(log: LogId, end: u64, entry: Option<EntryId>, fence: Option<(u64, Fence)>) -> Answer {
    Answer::Identity(Identity { log, first: 1, end, entry, fence })
}

fn asked_fence(replica: &mut Replica) -> Fence {
    match replica.ask() {
        Some(Ask::Fence { fence, .. }) => fence,
        other => panic!("{other:?}"),
    }
}

/// A replica that has read the only entry of a log, its fence. The log has said of an entry with a key that
/// the fifth entry has that key, which the replica has not read.
fn with_a_known_key() -> (Replica, Fence) {
    let mut replica = replica();
    replica.connected();
    assert_eq!(replica.ask(), Some(Ask::Identify { number: 0 }));
    replica.answer(identity(ONE, 0, None, None));
    let fence = asked_fence(&mut replica);
    replica.answer(Answer::Fenced(true));
    assert_eq!(replica.ask(), Some(Ask::Identify { number: 0 }));
    replica.answer(identity(ONE, 1, None, Some((1, fence.clone()))));
    assert_eq!(replica.ask(), Some(Ask::Tail { after: 0 }));
    replica.answer(Answer::Tail(vec![Tailed::Fence { number: 1, id: fence.id() }]));
    assert_eq!(replica.publish("key", &Body::Heartbeat(None)), Some(1));
    assert!(matches!(replica.ask(), Some(Ask::Append { .. })));
    replica.answer(Answer::Appended(vec![Placed::Known(5)]));
    replica.answer(Answer::Lost);
    replica.connected();
    assert_eq!(replica.ask(), Some(Ask::Identify { number: 1 }));
    (replica, fence)
}

#[test]
fn a_known_key_is_asked_for_again_if_its_message_may_be_lost() {
    let (mut replica, fence) = with_a_known_key();
    replica.answer(identity(OTHER, 1, Some(fence.id()), Some((1, fence.clone()))));
    let next = asked_fence(&mut replica);
    replica.answer(Answer::Fenced(true));
    assert_eq!(replica.ask(), Some(Ask::Identify { number: 1 }));
    replica.answer(identity(OTHER, 2, Some(fence.id()), Some((2, next))));
    assert_eq!(replica.ask(), Some(Ask::Tail { after: 1 }));
    match replica.ask() {
        Some(Ask::Append { entries, .. }) => assert_eq!(entries[0].id.counter, 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_known_key_of_the_same_log_stays_known() {
    let (mut replica, fence) = with_a_known_key();
    replica.answer(identity(ONE, 5, Some(fence.id()), Some((1, fence))));
    assert_eq!(replica.ask(), Some(Ask::Tail { after: 1 }));
    assert_eq!(replica.ask(), None);
}

/// A replica that has read the fence of a log, and perhaps an entry of another hub behind it. Then its connection is
/// lost, and it asks for the last entry that it has read.
fn follower(entry: Option<&Body<'_>>) -> (Replica, Fence) {
    let mut replica = replica();
    replica.connected();
    replica.ask();
    replica.answer(identity(ONE, 0, None, None));
    let fence = asked_fence(&mut replica);
    replica.answer(Answer::Fenced(true));
    replica.ask();
    replica.answer(identity(ONE, 1, None, Some((1, fence.clone()))));
    assert_eq!(replica.ask(), Some(Ask::Tail { after: 0 }));
    replica.answer(Answer::Tail(vec![Tailed::Fence { number: 1, id: fence.id() }]));
    if let Some(body) = entry {
        let bytes = envelope::write(EntryId { hub: 9, counter: 1, attempt: 1 }, body);
        replica.answer(Answer::Tail(vec![Tailed::Entry { number: 2, bytes }]));
    }
    replica.answer(Answer::Lost);
    replica.connected();
    assert_eq!(replica.ask(), Some(Ask::Identify { number: 1 + u64::from(entry.is_some()) }));
    (replica, fence)
}

#[test]
fn acts_that_the_log_has_lost_are_told_to_the_hubs_that_have_not_read_them() {
    let (channel, data) = ("news", b"x");
    let noted = Noted { channel, event: None, key: None, binary: false, mark: None, origin: None, except: None, data };
    let message = Body::Entry(Entry::Message(Logged { time_ms: 1, more: false, noted }));
    let act = Body::Act(Act::Disconnect { user: "ada", code: 4403, reason: "" });
    for (entry, lossy, acts) in [(&message, true, false), (&act, false, true), (&Body::Heartbeat(None), false, false)] {
        let (mut one, fence) = follower(Some(entry));
        // The hub that has appended the entry is dead, and the log has lost it.
        one.answer(identity(OTHER, 1, None, Some((1, fence.clone()))));
        let next = asked_fence(&mut one);
        let link = Link { epoch: fence.epoch.clone(), last: 1, lossy, acts };
        assert_eq!(next.chain, [link]);
        // The other one has nothing that the log lacks.
        let (mut other, _) = follower(None);
        other.answer(identity(OTHER, 2, Some(fence.id()), Some((2, next))));
        let Some(Step::Break(Break { loss, .. })) = other.queue.iter().last() else { panic!("no break") };
        assert_eq!(loss.map(|loss| loss.unread), (lossy || acts).then_some(acts));
    }
}
