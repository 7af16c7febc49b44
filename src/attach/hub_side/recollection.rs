//! What other hubs of the log have published for hosts. A host whose hub has ended sends its requests again to another
//! hub, or to the next one at the same place. That hub finds here what it need not do again, however long ago it was:
//! the log itself recognises requests only for as long as keys (option `key_window`).

use super::sessions::SessionId;
use crate::attach::MAX_IN_FLIGHT;
use crate::hub::Origin;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of runs of numbers, of all sessions together, that are remembered.
const MAX_RUNS: usize = 1 << 17;
/// The same of one session. The messages of most requests are one run.
const MAX_RUNS_OF_ONE: usize = 2 * MAX_IN_FLIGHT;
/// The number of sessions.
const MAX_SESSIONS: usize = 8192;

/// A request that an earlier hub has done, or has begun to do.
#[derive(Debug, Clone)]
pub(super) struct Request {
    number: u64,
    /// The numbers of its messages as runs: the first number, and how many. Hardly any request has more than one run.
    run: (u64, u32),
    more_runs: Vec<(u64, u32)>,
    /// Its last message is in the log. A hub that is killed may have appended only the begin of a batch.
    pub(super) is_whole: bool,
}

impl Request {
    /// Notes one more message. Returns true if that is a new run.
    fn note(&mut self, seq: u64) -> bool {
        let (first, count) = self.more_runs.last_mut().unwrap_or(&mut self.run);
        if *first + u64::from(*count) == seq && *count < u32::MAX {
            *count += 1;
            return false;
        }
        self.more_runs.push((seq, 1));
        true
    }

    /// The numbers of its messages, in the order of the log.
    pub(super) fn seqs(&self) -> impl Iterator<Item = u64> + '_ {
        let runs = std::iter::once(&self.run).chain(&self.more_runs);
        runs.flat_map(|(first, count)| *first..*first + u64::from(*count))
    }

    fn newest(&self) -> u64 {
        let (first, count) = self.more_runs.last().unwrap_or(&self.run);
        first + u64::from(*count) - 1
    }
}

/// The requests of one session that earlier hubs have done, as their log says. Nothing is left of other requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Recalled {
    requests: VecDeque<Request>,
    runs: usize,
}

impl Recalled {
    /// Notes a message of a request, and whether more of the request follow.
    pub(super) fn note(&mut self, number: u64, seq: u64, more: bool) {
        match self.requests.back_mut() {
            // Once the log has forgotten its key, a message may come again. The first one counts.
            Some(last) if last.number > number || (last.number == number && last.is_whole) => return,
            Some(last) if last.number == number => {
                self.runs += usize::from(last.note(seq));
                last.is_whole = !more;
            }
            _ => {
                self.requests.push_back(Request { number, run: (seq, 1), more_runs: Vec::new(), is_whole: !more });
                self.runs += 1;
            }
        }
        // A host can't lack the answers of more requests.
        while self.requests.len() > MAX_IN_FLIGHT || (self.runs > MAX_RUNS_OF_ONE && self.requests.len() > 1) {
            self.runs -= self.requests.pop_front().map_or(0, |oldest| 1 + oldest.more_runs.len());
        }
    }

    pub(super) fn find(&self, number: u64) -> Option<&Request> {
        let found = self.requests.binary_search_by_key(&number, |request| request.number).ok()?;
        Some(&self.requests[found])
    }

    /// The number of the newest message.
    pub(super) fn newest(&self) -> u64 {
        self.requests.back().map_or(0, Request::newest)
    }
}

/// See the module. The thread of the engine notes what it reads, and the thread of the attach socket asks.
#[derive(Debug, Default)]
pub(crate) struct Recollection(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// The sessions, each with the user that it belongs to.
    sessions: HashMap<SessionId, (u32, Recalled)>,
    runs: usize,
}

impl Recollection {
    /// Notes a message that another hub has published, in the order of the log.
    pub(crate) fn note(&self, origin: Origin, seq: u64, more: bool) {
        let mut noted = self.lock();
        let is_new = !noted.sessions.contains_key(&origin.session);
        if noted.runs >= MAX_RUNS || (is_new && noted.sessions.len() >= MAX_SESSIONS) {
            noted.make_room();
        }
        let (_, recalled) = noted.sessions.entry(origin.session).or_insert((origin.uid, Recalled::default()));
        let before = recalled.runs;
        recalled.note(origin.number, seq, more);
        let after = recalled.runs;
        noted.runs = noted.runs + after - before;
    }

    /// The log has lost some of it, and is read again.
    pub(crate) fn forget(&self) {
        *self.lock() = Noted::default();
    }

    /// What was published for a session, and the user that it belongs to.
    pub(super) fn of(&self, session: &SessionId) -> Option<(u32, Recalled)> {
        self.lock().sessions.get(session).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    /// Forgets the half of the sessions that have published nothing for longest.
    fn make_room(&mut self) {
        let mut newest: Vec<u64> = self.sessions.values().map(|(_, recalled)| recalled.newest()).collect();
        newest.sort_unstable();
        let median = newest.get(newest.len() / 2).copied().unwrap_or(0);
        self.sessions.retain(|_, (_, recalled)| recalled.newest() > median);
        self.runs = self.sessions.values().map(|(_, recalled)| recalled.runs).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(session: u32, number: u64) -> Origin {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&session.to_le_bytes());
        Origin { session: id, uid: 7, number }
    }

    fn seqs(found: Option<&Request>) -> Option<(Vec<u64>, bool)> {
        found.map(|request| (request.seqs().collect(), request.is_whole))
    }

    #[test]
    fn requests_are_found_with_their_messages_and_one_that_comes_late_again_changes_nothing() {
        let recollection = Recollection::default();
        let noted = [
            (4, 10, false),
            (5, 11, true),
            (5, 12, true),
            (5, 14, false),
            (5, 15, false),
            (8, 20, true),
            (8, 21, true),
            (5, 30, false),
        ];
        for (number, seq, more) in noted {
            recollection.note(origin(1, number), seq, more);
        }
        let (uid, recalled) = recollection.of(&origin(1, 0).session).unwrap();
        let found: Vec<_> = [3, 4, 5, 7, 8, 9].into_iter().map(|number| seqs(recalled.find(number))).collect();
        let expected =
            [None, Some((vec![10], true)), Some((vec![11, 12, 14], true)), None, Some((vec![20, 21], false)), None];
        assert_eq!((uid, found), (7, expected.to_vec()));
        assert_eq!(recalled.newest(), 21);
        recollection.forget();
        assert!(recollection.of(&origin(1, 0).session).is_none());
    }

    #[test]
    fn memory_is_bounded_and_the_newest_is_kept() {
        let recollection = Recollection::default();
        for number in 1..=2 * MAX_IN_FLIGHT as u64 {
            recollection.note(origin(0, number), number, false);
        }
        assert_eq!(recollection.lock().runs, MAX_IN_FLIGHT);
        // A large batch takes no more than a message. One with a hole after each message takes many runs.
        for seq in 0..100_000 {
            recollection.note(origin(0, 100_000), 50_000 + seq, true);
        }
        assert_eq!(recollection.lock().runs, MAX_IN_FLIGHT);
        for seq in 0..100_000 {
            recollection.note(origin(0, 200_000), 200_000 + 2 * seq, true);
        }
        assert_eq!(
            recollection.lock().sessions.values().map(|(_, recalled)| recalled.requests.len()).sum::<usize>(),
            1
        );
        for n in 0..3 * MAX_SESSIONS as u32 {
            recollection.note(origin(1 + n, 1), 1_000_000 + u64::from(n), false);
        }
        for session in 0..40 {
            for number in 0..8000 {
                recollection.note(
                    origin(session, 1_000_000 + number),
                    10_000_000 + u64::from(session) * 8000 + number,
                    false,
                );
            }
        }
        let noted = recollection.lock();
        assert!(noted.sessions.len() <= MAX_SESSIONS && noted.runs <= MAX_RUNS);
        assert_eq!(noted.runs, noted.sessions.values().map(|(_, recalled)| recalled.runs).sum::<usize>());
        assert!(noted.sessions.contains_key(&origin(39, 0).session));
    }
}
