//! The sessions of hosts. A session is one run of a host. The hub remembers what it has done for each, so that a
//! repeated request or command is not done again.

use super::outcome::{Outcome, Shape};
use super::recollection::{Recalled, Recollection, Request};
use super::waiting::Waiting;
use crate::attach::MAX_IN_FLIGHT;
use crate::hub::Origin;
use foldhash::quality::RandomState;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Names a session.
pub(super) type SessionId = [u8; 16];

/// How long a session is kept after its host has ended or lost its connection.
const KEPT_MS: u64 = 10 * 60 * 1000;
/// The number of sessions that are kept for hosts that are not attached.
const MAX_AWAY: usize = 4096;
/// The bytes of answers that are kept for a host, without the fixed size of their entries. It is far more than can be
/// on the way to the host: what the hub has not sent yet (`attachment::MAX_WAITING`), the socket's buffer, and one more
/// answer.
const MAX_KEPT: usize = 16 << 20;
/// The same for all hosts that are not attached, together, with their requests that wait.
const MAX_KEPT_AWAY: usize = 64 << 20;
/// Why messages of hosts that have gone are dropped, for the log.
pub(super) const KEPT_AWAY: &str =
    "the log does not take them, and at most 64 MB are kept, for at most 4096 hosts that have gone";

/// A session of a host.
#[derive(Debug)]
pub(super) struct Session {
    /// The user that it belongs to. No other user can resume it.
    uid: u32,
    /// The last request that is done, or accepted and about to be done.
    pub(super) done: u64,
    /// The last command that is done. A host sends them in the order of their numbers.
    commanded: u64,
    /// Requests that can't be done yet. They are of a later number.
    pub(super) waiting: Waiting,
    /// Requests that are accepted and not answered yet, and the answers that wait for earlier ones.
    unanswered: VecDeque<(u64, Unanswered)>,
    /// The latest answers, as many as the host can lack.
    answers: VecDeque<(u64, Outcome)>,
    /// The bytes of those outcomes.
    kept: usize,
    /// `Ok` is the attachment that has the session; `Err` is the time since when none has.
    at: Result<u64, u64>,
    /// The requests that an earlier hub did for it.
    recalled: Recalled,
    /// True if what other hubs of a log did for it is among these.
    has_recollected: bool,
}

/// A request whose answer is not written yet.
#[derive(Debug)]
enum Unanswered {
    /// It is done when its messages are synced.
    Waits(Shape),
    Ready(Outcome),
}

impl Session {
    fn fresh(uid: u32, at: Result<u64, u64>) -> Self {
        Session {
            uid,
            done: 0,
            commanded: 0,
            waiting: Waiting::default(),
            unanswered: VecDeque::new(),
            answers: VecDeque::new(),
            kept: 0,
            at,
            recalled: Recalled::default(),
            has_recollected: false,
        }
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// The bytes of what is kept for it, without the fixed size of entries.
    fn weight(&self) -> usize {
        self.kept + self.waiting.bytes()
    }

    /// A request that an earlier hub has done, or has begun to do.
    pub(super) fn recall(&self, number: u64) -> Option<&Request> {
        self.recalled.find(number)
    }

    /// The number of requests that are accepted and not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Accepts a request, which is done when its messages are synced.
    pub(super) fn take(&mut self, number: u64, shape: Shape) {
        self.done = number;
        self.unanswered.push_back((number, Unanswered::Waits(shape)));
    }

    /// Takes the answer to a request. It is written after the answers before it.
    pub(super) fn answer(&mut self, number: u64, answer: Outcome, into: Option<&mut Vec<u8>>) {
        if self.unanswered.is_empty() {
            into.into_iter().for_each(|into| answer.write(number, into));
            self.keep(number, answer);
        } else {
            self.done = number;
            self.unanswered.push_back((number, Unanswered::Ready(answer)));
        }
    }

    /// An accepted request is done. Writes the answers that can be given now if the host is there (`into`). A host that
    /// is not attached gets them when it comes back.
    pub(super) fn settled(&mut self, number: u64, answer: impl Fn(Shape) -> Outcome, mut into: Option<&mut Vec<u8>>) {
        if let Ok(at) = self.unanswered.binary_search_by_key(&number, |(number, _)| *number) {
            if let Unanswered::Waits(shape) = self.unanswered[at].1 {
                self.unanswered[at].1 = Unanswered::Ready(answer(shape));
            }
        }
        while let Some((number, Unanswered::Ready(_))) = self.unanswered.front() {
            let number = *number;
            let Some((_, Unanswered::Ready(answer))) = self.unanswered.pop_front() else { return };
            if let Some(into) = &mut into {
                answer.write(number, into);
            }
            self.keep(number, answer);
        }
    }

    /// The attachment that goes on with it.
    pub(super) fn attachment(&self) -> Option<u64> {
        self.at.ok()
    }

    /// Remembers an answer.
    fn keep(&mut self, number: u64, answer: Outcome) {
        self.kept += answer.weight();
        while self.answers.len() >= MAX_IN_FLIGHT || self.kept > MAX_KEPT {
            let Some((_, oldest)) = self.answers.pop_front() else { break };
            self.kept -= oldest.weight();
        }
        self.done = self.done.max(number);
        self.answers.push_back((number, answer));
    }

    /// The log has another epoch: these numbers are those of other messages there. A host that still lacks one of these
    /// answers is told that nobody knows it any more.
    fn go_on_in_another_epoch(&mut self, answer: impl Fn() -> Outcome) {
        let ready = self.unanswered.iter_mut().filter_map(|(_, unanswered)| match unanswered {
            Unanswered::Ready(outcome) => Some(outcome),
            Unanswered::Waits(_) => None,
        });
        let kept = self.answers.iter_mut().map(|(_, outcome)| outcome);
        kept.chain(ready).filter(|outcome| !matches!(outcome, Outcome::Failed(..))).for_each(|old| *old = answer());
        self.kept = self.answers.iter().map(|(_, outcome)| outcome.weight()).sum();
    }

    /// Writes the outcomes of the requests after `answered`.
    pub(super) fn repeat(&self, answered: u64, into: &mut Vec<u8>) {
        for (number, answer) in &self.answers {
            if *number > answered {
                answer.write(*number, into);
            }
        }
    }
}

/// Messages that waited for hosts that have gone, and were dropped. Nobody sends them again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Lost {
    pub(super) messages: u64,
    /// The number of these hosts.
    pub(super) hosts: usize,
}

impl Lost {
    /// Those of one session.
    fn of(session: &Session) -> Self {
        let messages = session.waiting.messages();
        Lost { messages, hosts: usize::from(messages > 0) }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.hosts += other.hosts;
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Each message of a host asks for its session. A host could choose the name of its session, so the hash is keyed.
    all: HashMap<SessionId, Session, RandomState>,
    /// Those with requests that wait.
    with_waiting: BTreeSet<SessionId>,
    /// What other hubs do for hosts, if this hub shares a log with them.
    recollection: Option<Arc<Recollection>>,
}

impl Sessions {
    /// Resumes a session, or begins one. The second result is the attachment that had it, if the hub has not seen the
    /// end of that. `None` if the session is another user's.
    pub(super) fn enter(&mut self, id: SessionId, uid: u32, attachment: u64) -> Option<(&mut Session, Option<u64>)> {
        let fresh = || Session::fresh(uid, Ok(attachment));
        let session = self.all.entry(id).or_insert_with(fresh);
        if session.uid != uid {
            return None;
        }
        session.has_recollected = false;
        // The host sends again all that are not done.
        session.waiting = Waiting::default();
        self.with_waiting.remove(&id);
        let before = std::mem::replace(&mut session.at, Ok(attachment)).ok();
        Some((session, before.filter(|before| *before != attachment)))
    }

    /// Notes a message that an earlier hub has published, in the order of its log, and whether more of the same request
    /// follow. The host may send it again, since it
    /// may not have got the answer.
    pub(crate) fn recall(&mut self, origin: Origin, seq: u64, more: bool, now: u64) {
        if self.all.len() >= 2 * MAX_AWAY && !self.all.contains_key(&origin.session) {
            let mut newest: Vec<u64> = self.all.values().map(|session| session.recalled.newest()).collect();
            newest.sort_unstable();
            let median = newest[newest.len() / 2];
            self.all.retain(|_, session| session.recalled.newest() >= median);
        }
        let session = self.all.entry(origin.session).or_insert_with(|| Session::fresh(origin.uid, Err(now)));
        session.recalled.note(origin.number, seq, more);
    }

    /// The log that the hub follows has another epoch. `answer` stands for the answers whose numbers are of the one before.
    pub(super) fn go_on_in_another_epoch(&mut self, answer: impl Fn() -> Outcome) {
        self.all.values_mut().for_each(|session| session.go_on_in_another_epoch(&answer));
    }

    /// Has sessions recall what this says.
    pub(crate) fn recall_from(&mut self, recollection: Option<Arc<Recollection>>) {
        self.recollection = recollection;
    }

    /// True if it is not known yet what other hubs did for a session.
    pub(super) fn has_to_recollect(&self, id: &SessionId) -> bool {
        self.recollection.is_some() && self.all.get(id).is_some_and(|session| !session.has_recollected)
    }

    /// Lets a session know what other hubs did for it, as far as this hub has read. False if it is another user's.
    pub(super) fn recollect(&mut self, id: &SessionId) -> bool {
        let found = self.recollection.as_ref().and_then(|recollection| recollection.of(id));
        let Some(session) = self.all.get_mut(id) else { return true };
        session.has_recollected = true;
        match found {
            Some((uid, _)) if uid != session.uid => return false,
            Some((_, recalled)) => session.recalled = recalled,
            None => {}
        }
        true
    }

    /// The log may have lost what was recalled.
    pub(super) fn forget_recalled(&mut self) {
        for session in self.all.values_mut().filter(|session| session.has_recollected) {
            (session.recalled, session.has_recollected) = (Recalled::default(), false);
        }
    }

    /// True if a request is accepted and not answered.
    pub(super) fn any_unanswered(&self) -> bool {
        self.all.values().any(|session| session.unanswered() > 0)
    }

    /// Lets a request wait. False if there is no room.
    pub(super) fn wait(&mut self, id: &SessionId, frame: &[u8]) -> bool {
        let waits = self.all.get_mut(id).is_some_and(|session| session.waiting.add(frame));
        if waits {
            self.with_waiting.insert(*id);
        }
        waits
    }

    /// The sessions with requests that wait.
    pub(super) fn waiting(&self) -> Vec<SessionId> {
        self.with_waiting.iter().copied().collect()
    }

    /// True if requests of a session wait.
    pub(super) fn has_waiting(&self, id: &SessionId) -> bool {
        self.with_waiting.contains(id)
    }

    pub(super) fn any_waits(&self) -> bool {
        !self.with_waiting.is_empty()
    }

    /// Takes the request of a session that waits longest.
    pub(super) fn take_waiting(&mut self, id: &SessionId) -> Option<Box<[u8]>> {
        let frame = self.all.get_mut(id).and_then(|session| session.waiting.take());
        if frame.is_none() {
            self.with_waiting.remove(id);
        }
        frame
    }

    /// The request that was taken could not be done.
    pub(super) fn wait_again(&mut self, id: &SessionId, frame: Box<[u8]>) {
        if let Some(session) = self.all.get_mut(id) {
            session.waiting.put_back(frame);
        }
    }

    /// Drops the requests of a session that wait. A host that is attached sends them again.
    pub(super) fn forget_waiting(&mut self, id: &SessionId) -> Lost {
        self.with_waiting.remove(id);
        let Some(session) = self.all.get_mut(id) else { return Lost::default() };
        let lost = if session.at.is_ok() { Lost::default() } else { Lost::of(session) };
        session.waiting = Waiting::default();
        lost
    }

    /// True if a command of a session was done before.
    pub(super) fn has_done_command(&self, id: &SessionId, number: u64) -> bool {
        self.all.get(id).is_some_and(|session| number <= session.commanded)
    }

    /// A command of a session is done.
    pub(super) fn note_command(&mut self, id: &SessionId, number: u64) {
        self.all.get_mut(id).into_iter().for_each(|session| session.commanded = session.commanded.max(number));
    }

    pub(super) fn get(&mut self, id: &SessionId) -> Option<&mut Session> {
        self.all.get_mut(id)
    }

    /// An attachment has ended. The session may have moved to another one already. Returns what is dropped of those that
    /// went before.
    pub(super) fn leave(&mut self, id: &SessionId, attachment: u64, now: u64) -> Lost {
        if let Some(session) = self.all.get_mut(id) {
            if session.at == Ok(attachment) {
                session.at = Err(now);
            }
        }
        self.forget_old(now)
    }

    fn forget_old(&mut self, now: u64) -> Lost {
        // Messages that wait are published, however long the log is away.
        let is_kept = |session: &Session| match session.at {
            Err(since) => now.saturating_sub(since) < KEPT_MS || !session.waiting.is_empty(),
            Ok(_) => true,
        };
        self.all.retain(|_, session| is_kept(session));
        // Answers that nobody may come back for go before messages that nobody has yet.
        let entry = |(id, session): (&SessionId, &Session)| {
            Some((!session.waiting.is_empty(), session.at.err()?, *id, session.weight()))
        };
        let mut away: Vec<(bool, u64, SessionId, usize)> = self.all.iter().filter_map(entry).collect();
        let (mut count, mut kept) = (away.len(), away.iter().map(|(.., kept)| kept).sum::<usize>());
        let mut lost = Lost::default();
        if count <= MAX_AWAY && kept <= MAX_KEPT_AWAY {
            return lost;
        }
        away.sort_unstable();
        for (.., id, weight) in away {
            if count <= MAX_AWAY && kept <= MAX_KEPT_AWAY {
                break;
            }
            self.with_waiting.remove(&id);
            self.all.remove(&id).iter().for_each(|session| lost.add(Lost::of(session)));
            (count, kept) = (count - 1, kept - weight);
        }
        lost
    }
}

#[cfg(test)]
mod tests;
