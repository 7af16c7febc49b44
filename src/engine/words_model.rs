//! A model of the words between hubs. It loses, repeats and delays them, unless it is calm.

use super::contract::Word;
use super::log_model::Random;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug)]
pub(crate) struct WordsModel {
    random: Random,
    /// The hubs that hear, each with the words that are on their way, and when they come.
    ears: BTreeMap<u64, VecDeque<(u64, Vec<u8>)>>,
    /// The longest delay, in milliseconds.
    pub(crate) delay: usize,
    pub(crate) calm: bool,
}

impl WordsModel {
    pub(crate) fn new(seed: u64) -> Self {
        WordsModel { random: Random(seed), ears: BTreeMap::new(), delay: 50, calm: false }
    }

    pub(crate) fn calm(seed: u64) -> Self {
        WordsModel { calm: true, ..WordsModel::new(seed) }
    }

    /// A hub hears from now on.
    pub(crate) fn listen(&mut self, hub: u64) {
        self.ears.entry(hub).or_default();
    }

    pub(crate) fn say(&mut self, word: &Word, now: u64) {
        for (hub, coming) in &mut self.ears {
            if word.to.is_some_and(|to| to != *hub) {
                continue;
            }
            let copies = match self.calm {
                true => 1,
                // Lost; once; twice.
                false => [0, 1, 1, 1, 1, 2][self.random.below(6)],
            };
            for _ in 0..copies {
                let delay = if self.calm { 0 } else { self.random.below(self.delay) as u64 };
                coming.push_back((now + delay, word.bytes.clone()));
            }
        }
    }

    /// The next word for a hub.
    pub(crate) fn hear(&mut self, hub: u64, now: u64) -> Option<Vec<u8>> {
        let coming = self.ears.get_mut(&hub)?;
        let place = coming.iter().position(|(due, _)| *due <= now)?;
        coming.remove(place).map(|(_, bytes)| bytes)
    }
}
