//! The questions of this hub that are under way: who has answered, and when it is time to give up.

use super::words::MAX_ANSWER;
use crate::engine::Hubs;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// The most questions that may be under way.
const MAX_QUESTIONS: usize = 64;
/// The bytes of answers that are kept for all questions together.
const MAX_BYTES: usize = 64 << 20;
/// The most hubs of which answers are taken.
const MAX_HUBS: usize = 4096;

/// The outcome of a question.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The answers, each with its hub.
    pub(crate) answers: Vec<(u64, Vec<u8>)>,
    pub(crate) hubs: Hubs,
}

/// Called with the outcome.
pub(crate) type Tell = Box<dyn FnOnce(Outcome) + Send>;

/// A question to begin.
pub(crate) struct Asked {
    /// Random bits that name it.
    pub(crate) id: u64,
    /// The hubs that are to answer, this one among them.
    pub(crate) hubs: BTreeSet<u64>,
    /// There may be other hubs: the time is waited for, even if all of these answer before.
    pub(crate) may_be_more: bool,
    /// Why the answer is not whole, if that is known.
    pub(crate) why: Option<String>,
    /// When it is given up, in milliseconds.
    pub(crate) until: u64,
    pub(crate) tell: Tell,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table {
    under_way: HashMap<u64, UnderWay>,
    /// The bytes of all answers so far.
    bytes: usize,
    /// Parts of answers that nobody waits for any more, or that had come already.
    late: u64,
    #[cfg(test)]
    pub(super) mistakes: super::table_tests::Mistakes,
}

struct UnderWay {
    asked: Asked,
    answers: BTreeMap<u64, Answer>,
}

/// The parts of an answer. `None`: it has not come.
type Parts = Vec<Option<Vec<u8>>>;

/// The parts of a hub's answer that have come.
#[derive(Debug)]
struct Answer {
    parts: Parts,
    left: usize,
    bytes: usize,
}

impl Table {
    #[cfg(test)]
    pub(super) fn with(mistakes: super::table_tests::Mistakes) -> Self {
        Table { mistakes, ..Table::default() }
    }

    /// Begins a question. False: too many are under way.
    pub(crate) fn begin(&mut self, asked: Asked) -> bool {
        if self.under_way.len() >= MAX_QUESTIONS {
            return false;
        }
        self.under_way.insert(asked.id, UnderWay { asked, answers: BTreeMap::new() });
        true
    }

    /// True if somebody still waits for the outcome of a question.
    pub(crate) fn is_under_way(&self, id: u64) -> bool {
        self.under_way.contains_key(&id)
    }

    /// A part of an answer has come. Returns the question's outcome, if it was the last that was missing.
    #[must_use]
    pub(crate) fn heard(&mut self, id: u64, hub: u64, (at, of): (u16, u16), bytes: &[u8]) -> Option<Done> {
        #[cfg(test)]
        let id = self.mistakes.question(id, self.under_way.keys());
        #[cfg(test)]
        let hub = self.mistakes.hub(hub);
        let Some(question) = self.under_way.get_mut(&id) else {
            self.late += 1;
            return None;
        };
        let (at, of) = (usize::from(at), usize::from(of));
        let known = question.answers.len();
        if !question.answers.contains_key(&hub) && known >= MAX_HUBS || self.bytes + bytes.len() > MAX_BYTES {
            self.late += 1;
            return None;
        }
        let empty = || Answer { parts: vec![None; of], left: of, bytes: 0 };
        let answer = question.answers.entry(hub).or_insert_with(empty);
        let fits = answer.parts.len() == of && answer.bytes + bytes.len() <= MAX_ANSWER;
        let Some(part) = answer.parts.get_mut(at).filter(|part| part.is_none() && fits) else {
            self.late += 1;
            return None;
        };
        *part = Some(bytes.to_vec());
        answer.left -= 1;
        answer.bytes += bytes.len();
        self.bytes += bytes.len();
        let is_whole = |hub: &u64| question.answers.get(hub).is_some_and(|answer| answer.left == 0);
        let all = !question.asked.may_be_more && question.asked.hubs.iter().all(is_whole);
        if all {
            return self.finish(id);
        }
        None
    }

    /// A question whose time is over. There may be more.
    #[must_use]
    pub(crate) fn next_overdue(&mut self, now: u64) -> Option<Done> {
        let id = self.under_way.iter().find(|(_, question)| question.asked.until <= now).map(|(id, _)| *id)?;
        self.finish(id)
    }

    /// Ends all questions.
    #[must_use]
    pub(crate) fn end(&mut self) -> Vec<Done> {
        std::iter::from_fn(|| self.next_overdue(u64::MAX)).collect()
    }

    /// When the next question is to be given up.
    pub(crate) fn next(&self) -> Option<u64> {
        self.under_way.values().map(|question| question.asked.until).min()
    }

    /// Parts of answers that were dropped.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    fn finish(&mut self, id: u64) -> Option<Done> {
        let UnderWay { asked: Asked { mut hubs, why, tell, .. }, answers } = self.under_way.remove(&id)?;
        let (mut outcome, mut whole) = (Outcome::default(), Vec::new());
        // A hub that this one has not known yet counts, too.
        hubs.extend(answers.keys());
        outcome.hubs = Hubs { asked: hubs.len(), why, ..Hubs::default() };
        for (hub, answer) in answers {
            self.bytes -= answer.bytes;
            if answer.left == 0 {
                hubs.remove(&hub);
                whole.push((hub, answer.parts));
            }
        }
        outcome.hubs.answered = whole.len();
        outcome.hubs.missing = hubs.into_iter().collect();
        #[cfg(test)]
        self.mistakes.forget(&mut outcome.hubs);
        Some(Done { outcome, whole, tell })
    }
}

/// A question that has ended. Its asker is told outside of any lock, and the parts of large answers are put together
/// there: the thread of the log waits for the lock.
pub(crate) struct Done {
    outcome: Outcome,
    /// The hubs that have answered, each with its parts.
    whole: Vec<(u64, Parts)>,
    tell: Tell,
}

impl Done {
    pub(crate) fn tell(self) {
        let Done { mut outcome, whole, tell } = self;
        let whole = whole.into_iter();
        outcome.answers =
            whole.map(|(hub, parts)| (hub, parts.into_iter().flatten().collect::<Vec<_>>().concat())).collect();
        tell(outcome);
    }
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderWay").field("id", &self.asked.id).finish_non_exhaustive()
    }
}
