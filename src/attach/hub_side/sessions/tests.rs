use super::*;
use crate::attach::wire::FromHost;
use crate::attach::wire::FromHub;
use crate::error::Kind;
use crate::hub::Publication;

/// An attachment ends, and no message is lost.
fn leave(sessions: &mut Sessions, id: SessionId, attachment: u64, now: u64) {
    assert_eq!(sessions.leave(&id, attachment, now), Lost::default());
}

/// A request that publishes messages of that many bytes together, as it waits.
fn batch(messages: usize, bytes: usize) -> Vec<u8> {
    let data = vec![0; bytes / messages];
    let publications = vec![Publication::new("a", &data); messages];
    let mut frame = Vec::new();
    FromHost::Batch { number: 1, publications }.write(&mut frame);
    frame.split_off(4)
}

#[test]
fn a_resumed_session_gets_the_answers_that_it_lacks() {
    let mut sessions = Sessions::default();
    let (session, before) = sessions.enter([1; 16], 0, 10).unwrap();
    assert_eq!((session.done, before), (0, None));
    for number in 1..=3 {
        session.keep(number, Outcome::Published { seq: number * 10, subscribers: 0 });
    }
    assert!(sessions.enter([1; 16], 5, 11).is_none(), "another user's");
    let (session, before) = sessions.enter([1; 16], 0, 11).unwrap();
    assert_eq!((session.done, before), (3, Some(10)), "the hub has not seen the old one end");
    let (mut repeated, mut expected) = (Vec::new(), Vec::new());
    session.repeat(2, &mut repeated);
    FromHub::Published { number: 3, seq: 30, subscribers: 0 }.write(&mut expected);
    assert_eq!(repeated, expected);
    leave(&mut sessions, [1; 16], 10, 0);
    assert!(sessions.get(&[1; 16]).unwrap().at.is_ok(), "the new one is there");
    leave(&mut sessions, [1; 16], 11, 0);
    leave(&mut sessions, [9; 16], 9, KEPT_MS);
    assert!(sessions.get(&[1; 16]).is_none());
}

#[test]
fn requests_that_an_earlier_hub_has_done_are_recalled() {
    let mut sessions = Sessions::default();
    let origin = |session, number| Origin { session: [session; 16], uid: 7, number };
    for (number, seq, more) in [(4, 10, false), (5, 11, true), (5, 12, false), (8, 20, false)] {
        sessions.recall(origin(1, number), seq, more, 0);
    }
    assert!(sessions.enter([1; 16], 8, 1).is_none(), "another user's");
    let (session, _) = sessions.enter([1; 16], 7, 1).unwrap();
    assert_eq!(session.done, 0, "the host must send again the requests without an answer");
    let recalled: Vec<_> =
        (3..=8).map(|number| session.recall(number).map(|request| request.seqs().collect())).collect();
    assert_eq!(recalled, [None, Some(vec![10]), Some(vec![11, 12]), None, None, Some(vec![20])]);
    for n in 0..100_000u32 {
        let mut session = [0; 16];
        session[..4].copy_from_slice(&n.to_le_bytes());
        sessions.recall(Origin { session, uid: 7, number: 1 }, 100 + u64::from(n), false, 0);
    }
    assert!(sessions.all.len() <= 2 * MAX_AWAY, "{}", sessions.all.len());
}

#[test]
fn memory_is_bounded() {
    let mut sessions = Sessions::default();
    let (session, _) = sessions.enter([1; 16], 0, 1).unwrap();
    for number in 1..=2 * MAX_IN_FLIGHT as u64 {
        session.keep(number, Outcome::Published { seq: number, subscribers: 0 });
    }
    assert_eq!(session.answers.len(), MAX_IN_FLIGHT);
    for n in 0..2 * MAX_AWAY as u64 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        sessions.enter(id, 0, n).unwrap();
        leave(&mut sessions, id, n, 1);
    }
    assert!(sessions.all.len() <= MAX_AWAY + 2);
}

#[test]
fn messages_that_wait_outlast_a_crowd_of_hosts_that_have_gone() {
    let mut sessions = Sessions::default();
    sessions.enter([1; 16], 0, 1).unwrap();
    assert!(sessions.wait(&[1; 16], &[7]));
    leave(&mut sessions, [1; 16], 1, 1);
    for n in 0..MAX_AWAY as u64 + 9 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        sessions.enter(id, 0, n + 2).unwrap();
        leave(&mut sessions, id, n + 2, 2);
    }
    assert!(sessions.all.len() <= MAX_AWAY + 2);
    assert_eq!(sessions.take_waiting(&[1; 16]).as_deref(), Some(&[7][..]));
}

#[test]
fn large_answers_are_bounded_too() {
    let batch = || Outcome::batched((0..8192).map(|n| n * 2).collect());
    let mut sessions = Sessions::default();
    for n in 0..16 {
        let (session, _) = sessions.enter([n; 16], 0, n.into()).unwrap();
        for number in 1..=MAX_IN_FLIGHT as u64 / 4 {
            session.keep(number, batch());
        }
        assert!(session.kept <= MAX_KEPT);
        assert_eq!(session.kept, session.answers.iter().map(|(_, answer)| answer.weight()).sum::<usize>());
        assert_eq!(session.answers.back().unwrap().0, MAX_IN_FLIGHT as u64 / 4, "the newest is there");
        leave(&mut sessions, [n; 16], n.into(), n.into());
    }
    let kept: usize = sessions.all.values().map(|session| session.kept).sum();
    assert!(kept <= MAX_KEPT_AWAY && sessions.get(&[15; 16]).is_some() && sessions.get(&[0; 16]).is_none());
}

#[test]
fn answers_of_another_epoch_are_repeated_without_their_numbers() {
    let mut sessions = Sessions::default();
    let (session, _) = sessions.enter([1; 16], 0, 10).unwrap();
    session.keep(1, Outcome::Published { seq: 10, subscribers: 0 });
    session.take(2, Shape::Message);
    session.answer(3, Outcome::Published { seq: 12, subscribers: 0 }, None);
    session.take(4, Shape::Message);
    let lost = || Outcome::Failed(Kind::Timeout, "lost".into());
    sessions.go_on_in_another_epoch(lost);
    let session = sessions.get(&[1; 16]).unwrap();
    let placed = |seq| move |_: Shape| Outcome::Published { seq, subscribers: 0 };
    session.settled(2, |_| lost(), None);
    session.settled(4, placed(20), None);
    let (mut repeated, mut expected) = (Vec::new(), Vec::new());
    session.repeat(0, &mut repeated);
    for number in 1..=3 {
        lost().write(number, &mut expected);
    }
    FromHub::Published { number: 4, seq: 20, subscribers: 0 }.write(&mut expected);
    assert_eq!(repeated, expected);
    assert_eq!(session.kept, 3 * "lost".len());
}

#[test]
fn requests_that_wait_are_kept_within_bounds_and_dropped_when_their_host_sends_them_again() {
    let mut sessions = Sessions::default();
    let frame = batch(3, crate::attach::MAX_IN_FLIGHT_BYTES / 2);
    let mut lost = Lost::default();
    for n in 0..40 {
        sessions.enter([n; 16], 0, n.into()).unwrap();
        assert!(sessions.wait(&[n; 16], &frame));
        lost.add(sessions.leave(&[n; 16], n.into(), n.into()));
    }
    let gone = 40 - sessions.all.len();
    assert!(gone > 0);
    assert_eq!(lost, Lost { messages: 3 * gone as u64, hosts: gone }, "each is counted once");
    // Longer than answers are kept, and again a host leaves.
    sessions.enter([100; 16], 0, 100).unwrap();
    leave(&mut sessions, [100; 16], 100, 2 * KEPT_MS);
    let kept: usize = sessions.all.values().map(Session::weight).sum();
    assert!(kept <= MAX_KEPT_AWAY && kept > MAX_KEPT_AWAY / 2, "{kept}");
    assert!(sessions.get(&[0; 16]).is_none() && sessions.take_waiting(&[0; 16]).is_none());
    assert_eq!(sessions.take_waiting(&[39; 16]).as_deref(), Some(&*frame));
    sessions.wait_again(&[39; 16], frame.clone().into());
    assert!(sessions.waiting().contains(&[39; 16]));
    assert_eq!(sessions.forget_waiting(&[38; 16]), Lost { messages: 3, hosts: 1 });
    sessions.enter([39; 16], 0, 200).unwrap();
    assert!(sessions.take_waiting(&[39; 16]).is_none() && !sessions.waiting().contains(&[39; 16]));
    assert!(sessions.wait(&[39; 16], &frame));
    assert_eq!(sessions.forget_waiting(&[39; 16]), Lost::default(), "its host sends them again");
}
