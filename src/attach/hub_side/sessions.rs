//! Lives of hosts, as the hub remembers them: what was done for them, so that a request that comes again is not done
//! again.

use crate::attach::wire::FromHub;
use crate::attach::MAX_IN_FLIGHT;
use crate::error::{Error, Kind};
use crate::hub::Origin;
use std::collections::{HashMap, VecDeque};

/// Names a life of a host.
pub(super) type SessionId = [u8; 16];

/// How long a host may be away until its life is forgotten.
const KEPT_MS: u64 = 10 * 60 * 1000;
/// How many that are away are remembered.
const MAX_AWAY: usize = 4096;
/// Bytes of answers that are kept for a host, beside a few for each. Far more than can be on their way: what the hub
/// has not sent yet (`attachment::MAX_WAITING`), the socket's buffer, and one answer more.
const MAX_KEPT: usize = 16 << 20;
/// The same for all hosts that are away.
const MAX_KEPT_AWAY: usize = 64 << 20;

/// The answer to a request.
#[derive(Debug)]
pub(super) enum Answer {
    Published {
        seq: u64,
        subscribers: u32,
    },
    /// Numbers in a row, as the messages of a batch have them: the first, and how many. Thousands of answers are kept.
    Row(u64, u32),
    /// Others: some messages were published before (by their keys).
    Batched(Box<[u64]>),
    Failed(Kind, Box<str>),
}

impl Answer {
    pub(super) fn failed(error: &Error) -> Self {
        Answer::Failed(error.kind(), error.to_string().into())
    }

    pub(super) fn batched(seqs: Vec<u64>) -> Self {
        match seqs[..] {
            [first, ..] if seqs.iter().zip(first..).all(|(seq, expected)| *seq == expected) => {
                Answer::Row(first, seqs.len() as u32)
            }
            _ => Answer::Batched(seqs.into()),
        }
    }

    /// Bytes that it takes beside its entry; no more than it has on the wire.
    fn weight(&self) -> usize {
        match self {
            Answer::Published { .. } | Answer::Row(..) => 0,
            Answer::Batched(seqs) => size_of_val::<[u64]>(seqs),
            Answer::Failed(_, text) => text.len(),
        }
    }

    pub(super) fn write(&self, number: u64, into: &mut Vec<u8>) {
        match self {
            Answer::Published { seq, subscribers } => {
                FromHub::Published { number, seq: *seq, subscribers: *subscribers }.write(into);
            }
            Answer::Row(first, count) => {
                let seqs = (*first..).take(*count as usize).collect();
                FromHub::Batched { number, seqs }.write(into);
            }
            Answer::Batched(seqs) => FromHub::Batched { number, seqs: seqs.to_vec() }.write(into),
            Answer::Failed(kind, text) => FromHub::Failed { number, kind: *kind, text }.write(into),
        }
    }
}

/// A life of a host.
#[derive(Debug)]
pub(super) struct Session {
    /// Whose it is; nobody else may go on with it.
    uid: u32,
    /// The last request done.
    pub(super) done: u64,
    /// The latest answers, as many as the host can lack.
    answers: VecDeque<(u64, Answer)>,
    /// Their weight.
    kept: usize,
    /// Which attachment goes on with it, or since when none does.
    at: Result<u64, u64>,
    /// What an earlier hub did for it.
    recalled: Recalled,
}

/// Requests of one life of a host that an earlier hub has done, as its log tells: the number, and the numbers of its
/// messages. Of others it did nothing that lasts.
#[derive(Debug, Default)]
struct Recalled(VecDeque<(u64, Vec<u64>)>);

impl Recalled {
    fn note(&mut self, number: u64, seq: u64) {
        match self.0.back_mut() {
            Some((last, seqs)) if *last == number => seqs.push(seq),
            _ => self.0.push_back((number, vec![seq])),
        }
        // A host lacks the answers of no more.
        if self.0.len() > MAX_IN_FLIGHT {
            self.0.pop_front();
        }
    }

    fn newest(&self) -> u64 {
        self.0.back().and_then(|(_, seqs)| seqs.last()).copied().unwrap_or(0)
    }
}

impl Session {
    fn fresh(uid: u32, at: Result<u64, u64>) -> Self {
        Session { uid, done: 0, answers: VecDeque::new(), kept: 0, at, recalled: Recalled::default() }
    }

    /// The numbers of the messages of a request, if an earlier hub has published it.
    pub(super) fn recall(&self, number: u64) -> Option<&[u64]> {
        let found = self.recalled.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.recalled.0[found].1)
    }

    /// Remembers an answer.
    pub(super) fn keep(&mut self, number: u64, answer: Answer) {
        self.kept += answer.weight();
        while self.answers.len() >= MAX_IN_FLIGHT || self.kept > MAX_KEPT {
            let Some((_, oldest)) = self.answers.pop_front() else { break };
            self.kept -= oldest.weight();
        }
        self.done = number;
        self.answers.push_back((number, answer));
    }

    /// Writes the answers after a number.
    pub(super) fn repeat(&self, answered: u64, into: &mut Vec<u8>) {
        for (number, answer) in &self.answers {
            if *number > answered {
                answer.write(*number, into);
            }
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: HashMap<SessionId, Session>,
}

impl Sessions {
    /// A host goes on with its life, or begins one. With it: the attachment that it had, if the hub has not seen its
    /// end. `None`: it is another user's.
    pub(super) fn enter(&mut self, id: SessionId, uid: u32, attachment: u64) -> Option<(&mut Session, Option<u64>)> {
        let fresh = || Session::fresh(uid, Ok(attachment));
        let session = self.all.entry(id).or_insert_with(fresh);
        if session.uid != uid {
            return None;
        }
        let before = std::mem::replace(&mut session.at, Ok(attachment)).ok();
        Some((session, before.filter(|before| *before != attachment)))
    }

    /// A message that an earlier hub has published, as its log tells, in the order of the log. What the host sends of
    /// that again it has not heard of.
    pub(crate) fn recall(&mut self, origin: Origin, seq: u64, now: u64) {
        if self.all.len() >= 2 * MAX_AWAY && !self.all.contains_key(&origin.session) {
            let mut newest: Vec<u64> = self.all.values().map(|session| session.recalled.newest()).collect();
            newest.sort_unstable();
            let median = newest[newest.len() / 2];
            self.all.retain(|_, session| session.recalled.newest() >= median);
        }
        let session = self.all.entry(origin.session).or_insert_with(|| Session::fresh(origin.uid, Err(now)));
        session.recalled.note(origin.number, seq);
    }

    pub(super) fn get(&mut self, id: &SessionId) -> Option<&mut Session> {
        self.all.get_mut(id)
    }

    /// An attachment has ended. The life may go on with another already.
    pub(super) fn leave(&mut self, id: &SessionId, attachment: u64, now: u64) {
        if let Some(session) = self.all.get_mut(id) {
            if session.at == Ok(attachment) {
                session.at = Err(now);
            }
        }
        self.forget_old(now);
    }

    fn forget_old(&mut self, now: u64) {
        self.all.retain(|_, session| session.at.map_or_else(|since| now.saturating_sub(since) < KEPT_MS, |_| true));
        let mut away: Vec<(u64, SessionId, usize)> =
            self.all.iter().filter_map(|(id, session)| Some((session.at.err()?, *id, session.kept))).collect();
        let (mut count, mut kept) = (away.len(), away.iter().map(|(.., kept)| kept).sum::<usize>());
        if count <= MAX_AWAY && kept <= MAX_KEPT_AWAY {
            return;
        }
        away.sort_unstable();
        for (_, id, weight) in away {
            if count <= MAX_AWAY && kept <= MAX_KEPT_AWAY {
                break;
            }
            self.all.remove(&id);
            (count, kept) = (count - 1, kept - weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_goes_on_with_what_it_lacks() {
        let mut sessions = Sessions::default();
        let (session, before) = sessions.enter([1; 16], 0, 10).unwrap();
        assert_eq!((session.done, before), (0, None));
        for number in 1..=3 {
            session.keep(number, Answer::Published { seq: number * 10, subscribers: 0 });
        }
        assert!(sessions.enter([1; 16], 5, 11).is_none(), "another user's");
        let (session, before) = sessions.enter([1; 16], 0, 11).unwrap();
        assert_eq!((session.done, before), (3, Some(10)), "the hub has not seen the old one end");
        let (mut repeated, mut expected) = (Vec::new(), Vec::new());
        session.repeat(2, &mut repeated);
        FromHub::Published { number: 3, seq: 30, subscribers: 0 }.write(&mut expected);
        assert_eq!(repeated, expected);
        sessions.leave(&[1; 16], 10, 0);
        assert!(sessions.get(&[1; 16]).unwrap().at.is_ok(), "the new one is there");
        sessions.leave(&[1; 16], 11, 0);
        sessions.leave(&[9; 16], 9, KEPT_MS);
        assert!(sessions.get(&[1; 16]).is_none());
    }

    #[test]
    fn what_an_earlier_hub_did_is_recalled() {
        let mut sessions = Sessions::default();
        let origin = |session, number| Origin { session: [session; 16], uid: 7, number };
        for (number, seq) in [(4, 10), (5, 11), (5, 12), (8, 20)] {
            sessions.recall(origin(1, number), seq, 0);
        }
        assert!(sessions.enter([1; 16], 8, 1).is_none(), "another user's");
        let (session, _) = sessions.enter([1; 16], 7, 1).unwrap();
        assert_eq!(session.done, 0, "the host is to send again what it has no answer to");
        let recalled: Vec<_> = (3..=8).map(|number| session.recall(number).map(<[u64]>::to_vec)).collect();
        assert_eq!(recalled, [None, Some(vec![10]), Some(vec![11, 12]), None, None, Some(vec![20])]);
        for n in 0..100_000u32 {
            let mut session = [0; 16];
            session[..4].copy_from_slice(&n.to_le_bytes());
            sessions.recall(Origin { session, uid: 7, number: 1 }, 100 + u64::from(n), 0);
        }
        assert!(sessions.all.len() <= 2 * MAX_AWAY, "{}", sessions.all.len());
    }

    #[test]
    fn a_batch_is_kept_by_its_first_number() {
        assert!(matches!(Answer::batched((7..8192).collect()), Answer::Row(7, 8185)));
        for seqs in [vec![], vec![5], vec![5, 6, 7], vec![5, 7], vec![5, 3, 6]] {
            let (mut written, mut expected) = (Vec::new(), Vec::new());
            Answer::batched(seqs.clone()).write(1, &mut written);
            FromHub::Batched { number: 1, seqs }.write(&mut expected);
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut sessions = Sessions::default();
        let (session, _) = sessions.enter([1; 16], 0, 1).unwrap();
        for number in 1..=2 * MAX_IN_FLIGHT as u64 {
            session.keep(number, Answer::Published { seq: number, subscribers: 0 });
        }
        assert_eq!(session.answers.len(), MAX_IN_FLIGHT);
        for n in 0..2 * MAX_AWAY as u64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            sessions.enter(id, 0, n).unwrap();
            sessions.leave(&id, n, 1);
        }
        assert!(sessions.all.len() <= MAX_AWAY + 2);
    }

    #[test]
    fn large_answers_are_bounded_too() {
        let batch = || Answer::batched((0..8192).map(|n| n * 2).collect());
        let mut sessions = Sessions::default();
        for n in 0..16 {
            let (session, _) = sessions.enter([n; 16], 0, n.into()).unwrap();
            for number in 1..=MAX_IN_FLIGHT as u64 / 4 {
                session.keep(number, batch());
            }
            assert!(session.kept <= MAX_KEPT);
            assert_eq!(session.kept, session.answers.iter().map(|(_, answer)| answer.weight()).sum::<usize>());
            assert_eq!(session.answers.back().unwrap().0, MAX_IN_FLIGHT as u64 / 4, "the newest is there");
            sessions.leave(&[n; 16], n.into(), n.into());
        }
        let kept: usize = sessions.all.values().map(|session| session.kept).sum();
        assert!(kept <= MAX_KEPT_AWAY && sessions.get(&[15; 16]).is_some() && sessions.get(&[0; 16]).is_none());
    }
}
