//! Hubs that ask each other over words that are lost, repeated and late. Planted mistakes are found.

use super::ages::Sent;
use super::table::{Asked, Outcome, Table};
use super::words::{parts, Question, Said};
use crate::engine::contract::Word;
use crate::engine::log_model::Random;
use crate::engine::words_model::WordsModel;
use crate::engine::Hubs;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Mistakes that a table makes on purpose.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Mistakes {
    /// An answer counts for any question that is under way.
    takes_late_answers: bool,
    /// An answer that comes again counts as one of another hub.
    counts_twice: bool,
    /// A hub that has not answered is not named.
    names_nobody: bool,
    count: u64,
}

impl Mistakes {
    pub(super) fn question<'a>(&self, id: u64, mut under_way: impl Iterator<Item = &'a u64>) -> u64 {
        match self.takes_late_answers {
            true => under_way.next().copied().unwrap_or(id),
            false => id,
        }
    }

    pub(super) fn hub(&mut self, hub: u64) -> u64 {
        self.count += 1;
        if self.counts_twice && self.count.is_multiple_of(3) {
            hub + 1000
        } else {
            hub
        }
    }

    pub(super) fn forget(&self, hubs: &mut Hubs) {
        if self.names_nobody {
            hubs.missing.clear();
        }
    }
}

const HUBS: u64 = 4;
const PATIENCE_MS: u64 = 60;

/// The answer of a hub: who it is, and what it was asked. It has one part, or many.
fn answer(hub: u64, id: u64) -> Vec<u8> {
    let mut bytes = format!("{hub} {id} ").into_bytes();
    bytes.resize(if id.is_multiple_of(4) { 100_000 } else { bytes.len() }, b'.');
    bytes
}

/// What is wrong with the outcome of a question to all hubs.
fn fault(id: u64, outcome: &Outcome) -> Option<&'static str> {
    let hubs = &outcome.hubs;
    if outcome.answers.iter().any(|(hub, bytes)| *bytes != answer(*hub, id)) {
        return Some("an answer is of another question or hub");
    }
    let answered: BTreeSet<u64> = outcome.answers.iter().map(|(hub, _)| *hub).collect();
    let missing: BTreeSet<u64> = hubs.missing.iter().copied().collect();
    let all: BTreeSet<u64> = answered.union(&missing).copied().collect();
    let told = (hubs.asked, hubs.answered) == (all.len(), outcome.answers.len());
    match all == (1..=HUBS).collect() && answered.is_disjoint(&missing) && told {
        true => (hubs.partial().is_none() != missing.is_empty()).then_some("it does not say that it is a part"),
        false => Some("a hub is neither among the answers nor missing, or counts twice"),
    }
}

/// Marks of what a run has met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Met {
    whole: u32,
    partial: u32,
    late: u64,
}

/// Runs hubs for a while. The first fault, or what was met.
fn run(seed: u64, calm: bool, mistakes: Mistakes) -> Result<Met, &'static str> {
    let mut random = Random(seed);
    let mut words = if calm { WordsModel::calm(seed) } else { WordsModel::new(seed) };
    words.delay = 45;
    (1..=HUBS).for_each(|hub| words.listen(hub));
    let mut tables: Vec<Table> = (0..HUBS).map(|_| Table::with(mistakes)).collect();
    let outcomes: Arc<Mutex<Vec<(u64, Outcome)>>> = Arc::default();
    let mut questions = 0;
    for now in 0..3000 {
        for hub in 1..=HUBS {
            let table = &mut tables[hub as usize - 1];
            if now < 2800 && random.one_in(40) {
                questions += 1;
                let (id, outcomes) = (questions, outcomes.clone());
                let tell = Box::new(move |outcome| outcomes.lock().unwrap().push((id, outcome)));
                let hubs = (1..=HUBS).collect();
                let until = now + PATIENCE_MS;
                assert!(table.begin(Asked { id, hubs, may_be_more: false, why: None, until, tell }));
                words.say(
                    &Word {
                        to: None,
                        bytes: Said::Question { id, asker: hub, sent: Sent::default(), question: Question::Stats }
                            .write(),
                    },
                    now,
                );
            }
            let mut done: Vec<_> = std::iter::from_fn(|| table.next_overdue(now)).collect();
            while let Some(bytes) = words.hear(hub, now) {
                match Said::read(&bytes).unwrap() {
                    Said::Question { id, asker, .. } => {
                        parts(id, hub, &answer(hub, id))
                            .into_iter()
                            .for_each(|bytes| words.say(&Word { to: Some(asker), bytes }, now));
                    }
                    Said::Part { id, hub, at, of, bytes } => done.extend(table.heard(id, hub, (at, of), bytes)),
                }
            }
            done.into_iter().for_each(super::table::Done::tell);
        }
    }
    let outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
    let mut met = Met { late: tables.iter().map(Table::late).sum(), ..Met::default() };
    for (id, outcome) in &outcomes {
        if let Some(fault) = fault(*id, outcome) {
            return Err(fault);
        }
        match outcome.hubs.partial() {
            Some(_) => met.partial += 1,
            None => met.whole += 1,
        }
    }
    let told: BTreeSet<u64> = outcomes.iter().map(|(id, _)| *id).collect();
    match told.len() == outcomes.len() && outcomes.len() as u64 == questions {
        true => Ok(met),
        false => Err("a question has no outcome, or two"),
    }
}

#[test]
fn over_words_that_are_lost_repeated_and_late_each_outcome_is_what_it_says() {
    let mut all = Met::default();
    for seed in 0..30 {
        let met = run(seed, false, Mistakes::default()).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        all = Met { whole: all.whole + met.whole, partial: all.partial + met.partial, late: all.late + met.late };
    }
    assert!(all.whole > 100 && all.partial > 100 && all.late > 100, "{all:?}");
}

#[test]
fn over_words_that_come_every_outcome_is_whole() {
    let met = run(1, true, Mistakes::default()).unwrap();
    assert!(met.whole > 100);
    assert_eq!((met.partial, met.late), (0, 0));
}

#[test]
fn planted_mistakes_are_found() {
    let plain = Mistakes::default();
    for mistakes in [
        Mistakes { takes_late_answers: true, ..plain },
        Mistakes { counts_twice: true, ..plain },
        Mistakes { names_nobody: true, ..plain },
    ] {
        assert!((0..30).any(|seed| run(seed, false, mistakes).is_err()), "{mistakes:?}");
    }
}

/// The outcome of a question, once it has one.
fn began(table: &mut Table, hubs: &[u64], may_be_more: bool) -> Arc<Mutex<Option<Outcome>>> {
    let told = Arc::new(Mutex::new(None));
    let tell = {
        let told = told.clone();
        Box::new(move |outcome| *told.lock().unwrap() = Some(outcome))
    };
    let hubs = hubs.iter().copied().collect();
    assert!(table.begin(Asked { id: 7, hubs, may_be_more, why: None, until: 100, tell }));
    told
}

#[test]
fn a_hub_that_was_not_known_counts_and_is_waited_for_while_there_may_be_some() {
    let mut table = Table::default();
    let told = began(&mut table, &[1], true);
    assert!(table.heard(7, 1, (0, 1), b"").is_none());
    assert!(table.heard(7, 9, (0, 1), b"x").is_none());
    assert!(table.heard(7, 5, (0, 2), b"x").is_none(), "a part is no answer");
    assert!(table.next_overdue(99).is_none() && table.next() == Some(100));
    table.next_overdue(100).unwrap().tell();
    assert!(table.next_overdue(100).is_none());
    let outcome = told.lock().unwrap().take().unwrap();
    assert_eq!((outcome.hubs.asked, outcome.hubs.answered, outcome.hubs.missing), (3, 2, vec![5]));
    assert_eq!(table.next(), None);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut table = Table::default();
    let _told = began(&mut table, &[1, 2], false);
    let part = vec![0; 48 << 10];
    for at in 0..11 {
        assert!(table.heard(7, 2, (at, 11), &part).is_none());
    }
    assert_eq!(table.late(), 1, "an answer is not larger than is allowed");
    for hub in 0..200 {
        (0..10).for_each(|at| assert!(table.heard(7, 100 + hub, (at, 11), &part).is_none()));
    }
    assert!(table.late() > 500, "{}", table.late());
    // As much room is there again afterwards.
    table.end().into_iter().for_each(super::table::Done::tell);
    let told = began(&mut table, &[1], false);
    assert!(table.heard(7, 1, (0, 2), b"x").is_none());
    assert!(table.heard(7, 1, (0, 3), b"x").is_none() && table.heard(7, 1, (0, 2), b"x").is_none());
    table.heard(7, 1, (1, 2), b"y").unwrap().tell();
    assert_eq!(told.lock().unwrap().take().unwrap().answers, [(1, b"xy".to_vec())]);
    let mut full = Table::default();
    let begin = |table: &mut Table, id| {
        table.begin(Asked { id, hubs: BTreeSet::new(), may_be_more: true, why: None, until: 1, tell: Box::new(|_| {}) })
    };
    assert_eq!((0..100).filter(|id| begin(&mut full, *id)).count(), 64);
}
