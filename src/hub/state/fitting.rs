//! Finds what the patterns of a returning subscriber fit: the channels that have new messages, and what is missing.
//!
//! The shard has joined the patterns before, so the search ends at a number: later messages come through the mailbox. It
//! takes the lock in short steps, as [`super::steps`] does, and looks at a bounded number of channels. Channels that are
//! gone are looked at last: one that goes during the search was seen while it was there, or is found among these. If the
//! search can't know that nothing is missing, there is a gap. A pattern has at most one gap, before its messages.

use super::steps::{Reading, AT_ONCE};
#[cfg(test)]
use super::streams::planted;
use super::State;
use crate::hub::forgotten::Place;
use crate::hub::patterns::{fits, is_pattern, prefix};
use crate::hub::replay::{Item, Replay};
use std::collections::HashSet;
use std::sync::Arc;

/// How many channels are looked at for one subscriber, those included that are gone. It is small for the hub's model.
const LOOKS: usize = if cfg!(any(test, fuzzing)) { 12 } else { 8192 };

/// The progress of a search.
#[derive(Debug)]
pub(in crate::hub) struct Search<'r> {
    /// The patterns that no other one of the request covers, in order, so two of them never fit one channel. For each the
    /// end of its gap, if it has one.
    patterns: Vec<(&'r str, Option<u64>)>,
    /// The channels that the subscriber has by their names. Those of the request are read by them.
    names: HashSet<&'r str>,
    /// The pattern whose channels are looked at.
    at: usize,
    /// The last channel of it that was looked at.
    after: Option<Arc<str>>,
    /// The last end that was looked at, of the channels that are gone.
    gone: Place,
    looks: usize,
    /// Where the log may have lost messages.
    losses: Vec<u64>,
    /// Nothing after this number is looked for.
    until: u64,
    /// The highest end of channels of which nothing more is known, at the beginning or later. Another hub's ends may lower
    /// it meanwhile, and bring back channels that were looked for before.
    floor: u64,
}

impl<'r> Search<'r> {
    fn new(patterns: &[&'r str], names: &[&'r str], reading: &Reading, floor: u64) -> Self {
        let covers = |other: &str, text: &str| other != text && prefix(text).starts_with(prefix(other));
        let widest = patterns.iter().filter(|text| !patterns.iter().any(|other| covers(other, text)));
        let mut patterns: Vec<_> = widest.map(|text| (*text, None)).collect();
        patterns.sort_unstable_by_key(|(text, _)| prefix(text));
        Search {
            patterns,
            names: names.iter().copied().collect(),
            at: 0,
            after: None,
            gone: (reading.after(), u64::MAX),
            looks: LOOKS,
            losses: Vec::new(),
            until: reading.until(),
            floor,
        }
    }

    /// Notes that messages up to a number may be missing in all patterns.
    fn lose_all(&mut self, end: u64) {
        (0..self.patterns.len()).for_each(|at| self.lose(at, end));
    }

    fn lose(&mut self, at: usize, end: u64) {
        let gap = &mut self.patterns[at].1;
        *gap = (*gap).max(Some(end.min(self.until)));
    }

    /// The pattern that fits a channel that is not named.
    fn pattern_of(&self, name: &str) -> Option<usize> {
        if self.names.contains(name) {
            return None;
        }
        // What stands between a pattern and a name that it fits begins as the pattern does.
        let at = self.patterns.partition_point(|(pattern, _)| prefix(pattern) <= name).checked_sub(1)?;
        fits(self.patterns[at].0, name).then_some(at)
    }

    /// False if it has looked at as many channels as it may.
    fn may_look(&mut self) -> bool {
        self.looks = self.looks.saturating_sub(1);
        self.looks > 0
    }

    /// Tells the gaps of the patterns. Gaps in channels that are not named become gaps of their patterns.
    pub(in crate::hub) fn tell(mut self, replay: &mut Replay) {
        for item in std::mem::take(&mut replay.items) {
            let is_gap = item.is_gap();
            #[cfg(test)]
            let is_gap = is_gap && !planted::is(planted::Mistake::GapNamesChannel);
            match item.channel().filter(|_| is_gap).and_then(|name| self.pattern_of(name)) {
                Some(at) => self.lose(at, item.seq()),
                None => replay.items.push(item),
            }
        }
        for (pattern, gap) in &self.patterns {
            let pattern: Arc<str> = (*pattern).into();
            replay.items.extend(gap.map(|end| Item::Gap(Some(pattern.clone()), end)));
            let later = self.losses.iter().filter(|fence| Some(**fence) > *gap);
            replay.items.extend(later.map(|fence| Item::Loss(pattern.clone(), *fence)));
        }
        replay.sort();
    }
}

impl State {
    /// The first step. `reading` begins with the same one.
    pub(in crate::hub) fn begin_search<'r>(
        &self,
        patterns: &[&'r str],
        names: &[&'r str],
        reading: &Reading,
    ) -> Search<'r> {
        Search::new(patterns, names, reading, self.forgotten.floor())
    }

    /// Looks at some channels that the patterns fit. True if there may be more.
    pub(in crate::hub) fn find_fitting(&self, search: &mut Search<'_>, reading: &mut Reading) -> bool {
        let Some((pattern, _)) = search.patterns.get(search.at).copied() else { return false };
        let (at, until, after) = (search.at, search.until, search.after.take());
        let Some(channels) = self.names.beginning_with(prefix(pattern), after.as_deref()) else {
            // A reload has turned patterns off a moment ago.
            search.lose_all(until);
            return false;
        };
        for (looked, (name, id)) in channels.enumerate() {
            if !search.may_look() {
                search.lose_all(until);
                return false;
            }
            if !search.names.contains(&**name) {
                let after = self.after_in_fitted(id, reading);
                let trimmed = self.trimmed(id);
                if reading.lacks(after, trimmed) {
                    search.lose(at, trimmed);
                }
                if reading.is_last() || self.has_after(id, after) {
                    self.read_from(id, after, reading);
                }
            }
            if looked + 1 == AT_ONCE {
                search.after = Some(name.clone());
                return true;
            }
        }
        search.at += 1;
        search.at < search.patterns.len()
    }

    /// Looks at some channels that are gone, and that had messages which the subscriber has not seen. True if there may be
    /// more. One that wants the newest messages misses nothing there.
    pub(in crate::hub) fn find_gone(&self, search: &mut Search<'_>, reading: &Reading) -> bool {
        if reading.is_last() {
            return false;
        }
        #[cfg(test)]
        if planted::is(planted::Mistake::GoneIsNotTold) {
            return false;
        }
        let mut looked = 0;
        for (place, name) in self.forgotten.list_lost(search.gone).take(AT_ONCE) {
            if !search.may_look() {
                search.lose_all(search.until);
                return false;
            }
            looked += 1;
            search.gone = place;
            match name {
                None => search.lose_all(place.0),
                Some(name) => {
                    let at = search.pattern_of(name);
                    at.into_iter().for_each(|at| search.lose(at, place.0));
                }
            }
        }
        looked == AT_ONCE
    }

    /// The last step, after everything was read.
    pub(in crate::hub) fn end_search(&self, search: &mut Search<'_>, reading: &Reading, replay: &mut Replay) {
        self.drop_turned(replay);
        let floor = self.forgotten.floor().max(search.floor);
        if reading.lacks(reading.after(), floor) {
            search.lose_all(floor);
        }
        let until = search.until;
        // There are none for one that wants the newest messages: it begins at the hub's number.
        search.losses.extend(self.lineage.losses_after(reading.after()).filter(|fence| *fence <= until));
    }
}

/// Tells the patterns of a request from its names.
pub(in crate::hub) fn parted<S: AsRef<str>>(names: &[S]) -> (Vec<&str>, Vec<&str>) {
    names.iter().map(S::as_ref).partition(|name| is_pattern(name))
}
