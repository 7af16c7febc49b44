//! What other hubs of the log have published for hosts. A host whose hub has ended sends its requests again to another
//! hub, or to the next one at the same place. That hub finds here what it need not do again, however long ago it was:
//! the log itself recognises requests only for as long as keys (option `key_window`).

use super::sessions::SessionId;
use crate::attach::MAX_IN_FLIGHT;
use crate::hub::Origin;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of requests, of all sessions together, that are remembered.
const MAX_REQUESTS: usize = 1 << 17;
/// The number of sessions.
const MAX_SESSIONS: usize = 8192;

/// The requests of one session that an earlier hub has done, as its log says. Each has its number, and the numbers of
/// its messages. Nothing is left of other requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Recalled(VecDeque<(u64, Vec<u64>)>);

impl Recalled {
    /// Notes a message of a request. Returns by how many requests it has grown.
    pub(super) fn note(&mut self, number: u64, seq: u64) -> usize {
        match self.0.back_mut() {
            Some((last, seqs)) if *last == number => seqs.push(seq),
            // Once the log has forgotten its key, a message may come again. The first one counts.
            Some((last, _)) if *last > number => return 0,
            _ => {
                self.0.push_back((number, vec![seq]));
                // A host can't lack the answers of more requests.
                if self.0.len() <= MAX_IN_FLIGHT {
                    return 1;
                }
                self.0.pop_front();
            }
        }
        0
    }

    /// The numbers of the messages of a request.
    pub(super) fn find(&self, number: u64) -> Option<&[u64]> {
        let found = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.0[found].1)
    }

    /// The number of the newest message.
    pub(super) fn newest(&self) -> u64 {
        self.0.back().and_then(|(_, seqs)| seqs.last()).copied().unwrap_or(0)
    }
}

/// See the module. The thread of the engine notes what it reads, and the thread of the attach socket asks.
#[derive(Debug, Default)]
pub(crate) struct Recollection(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// The sessions, each with the user that it belongs to.
    sessions: HashMap<SessionId, (u32, Recalled)>,
    requests: usize,
}

impl Recollection {
    /// Notes a message that another hub has published, in the order of the log.
    pub(crate) fn note(&self, origin: Origin, seq: u64) {
        let mut noted = self.lock();
        let is_new = !noted.sessions.contains_key(&origin.session);
        if noted.requests >= MAX_REQUESTS || (is_new && noted.sessions.len() >= MAX_SESSIONS) {
            noted.make_room();
        }
        let (_, recalled) = noted.sessions.entry(origin.session).or_insert((origin.uid, Recalled::default()));
        noted.requests += recalled.note(origin.number, seq);
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
        self.requests = self.sessions.values().map(|(_, recalled)| recalled.0.len()).sum();
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

    #[test]
    fn requests_are_found_with_their_messages_and_one_that_comes_late_again_changes_nothing() {
        let recollection = Recollection::default();
        for (number, seq) in [(4, 10), (5, 11), (5, 12), (8, 20), (5, 30)] {
            recollection.note(origin(1, number), seq);
        }
        let (uid, recalled) = recollection.of(&origin(1, 0).session).unwrap();
        let found: Vec<_> = (3..=8).map(|number| recalled.find(number).map(<[u64]>::to_vec)).collect();
        assert_eq!((uid, found), (7, vec![None, Some(vec![10]), Some(vec![11, 12]), None, None, Some(vec![20])]));
        recollection.forget();
        assert!(recollection.of(&origin(1, 0).session).is_none());
    }

    #[test]
    fn memory_is_bounded_and_the_newest_is_kept() {
        let recollection = Recollection::default();
        for number in 1..=2 * MAX_IN_FLIGHT as u64 {
            recollection.note(origin(0, number), number);
        }
        assert_eq!(recollection.lock().requests, MAX_IN_FLIGHT);
        for n in 0..3 * MAX_SESSIONS as u32 {
            recollection.note(origin(1 + n, 1), 100_000 + u64::from(n));
        }
        for session in 0..40 {
            for number in 0..8000 {
                recollection.note(origin(session, number), 1_000_000 + u64::from(session) * 8000 + number);
            }
        }
        let noted = recollection.lock();
        assert!(noted.sessions.len() <= MAX_SESSIONS && noted.requests <= MAX_REQUESTS);
        assert_eq!(noted.requests, noted.sessions.values().map(|(_, recalled)| recalled.0.len()).sum::<usize>());
        assert!(noted.sessions.contains_key(&origin(39, 0).session));
    }
}
