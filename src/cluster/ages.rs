//! How old the questions of other hubs are.
//!
//! Clocks of different machines do not agree, and a question may have waited anywhere: at the server that passes words
//! on, or in the buffers of a hub that was stopped for a while. So a question says when it was sent on the clock of its
//! hub, which never goes back. For each hub the smallest difference between the clocks at an arrival is kept. A question
//! of that hub with a larger difference has been under way for so much longer.
//!
//! Or the clock of its hub has stood still: a virtual machine was paused. Then all later questions have the larger
//! difference, and that stays. Questions that have waited somewhere come faster than they were asked, so their
//! differences become smaller. So if all questions of a hub are late for a while, and equally late, its difference is
//! learned anew.

use std::collections::BTreeMap;

/// The number of hubs that are remembered.
const MAX_HUBS: usize = 4096;
/// Differences are kept for one to two times as long, in milliseconds. So a clock that drifts counts anew.
const KEPT_MS: u64 = 30_000;
/// If all questions of a hub are equally late for so long, its clock has stood still. No hub waits longer than half of it.
const LATE_MS: u64 = 4000;

/// When a question was sent, on the clock of its hub, and how long its hub waits, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) at: u64,
    pub(crate) patience: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    hubs: BTreeMap<u64, Differences>,
    #[cfg(test)]
    pub(super) mistakes: super::ages_tests::Mistakes,
}

/// The smallest difference of the time before, and of the present one.
#[derive(Debug, Clone, Copy)]
struct Differences {
    before: i64,
    present: i64,
    since: u64,
    late: Option<Late>,
}

/// Questions of a hub that are late, by more than half of the time that it waits, and about equally so, with no other
/// between them. One for which the hub waits longer is among them if it is as late.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    /// When the first one has come, and when it was sent on the clock of its hub.
    pub(super) since: u64,
    pub(super) at: u64,
    /// The smallest difference.
    least: i64,
    /// The shortest time that the hub waits for one of them.
    patience: u32,
}

impl Late {
    /// These with one more.
    fn with(self, difference: i64, sent: Sent, now: u64) -> Self {
        let patience = self.patience.min(sent.patience);
        let is_equal = i128::from(difference) + i128::from(patience) >= i128::from(self.least);
        match is_equal {
            true => Late { least: self.least.min(difference), patience, ..self },
            false => Late { since: now, at: sent.at, least: difference, patience },
        }
    }

    /// True if they have come, and were sent, over such a time.
    fn is_for_long(&self, sent: Sent, now: u64) -> bool {
        now.saturating_sub(self.since) >= LATE_MS && sent.at.wrapping_sub(self.at) as i64 >= LATE_MS as i64
    }
}

impl Differences {
    fn fresh(difference: i64, now: u64) -> Self {
        Differences { before: i64::MAX, present: difference, since: now, late: None }
    }

    /// How long a question has been under way that has this difference.
    fn age(&self, difference: i64) -> i128 {
        i128::from(difference) - i128::from(self.before.min(self.present))
    }

    /// The same with one more question.
    fn with(self, difference: i64, sent: Sent, now: u64) -> Self {
        let first = Late { since: now, at: sent.at, least: difference, patience: sent.patience };
        let patience = self.late.map_or(sent.patience, |late| late.patience.min(sent.patience));
        let is_late = self.age(difference) > i128::from(patience / 2);
        let late = is_late.then(|| self.late.map_or(first, |late| late.with(difference, sent, now)));
        if let Some(Late { least, .. }) = late.filter(|late| late.is_for_long(sent, now)) {
            return Differences::fresh(least, now);
        }
        match now.saturating_sub(self.since) {
            0..KEPT_MS => Differences { present: self.present.min(difference), late, ..self },
            time if time < 2 * KEPT_MS => {
                Differences { before: self.present, late, ..Differences::fresh(difference, now) }
            }
            _ => Differences::fresh(difference, now),
        }
    }
}

impl Ages {
    /// A question of a hub has come at `now`.
    pub(crate) fn note(&mut self, hub: u64, sent: Sent, now: u64) {
        let difference = now.wrapping_sub(sent.at) as i64;
        if self.hubs.len() >= MAX_HUBS && !self.hubs.contains_key(&hub) {
            self.hubs.retain(|_, known| now.saturating_sub(known.since) < 2 * KEPT_MS);
            if self.hubs.len() >= MAX_HUBS {
                return;
            }
        }
        let known = self.hubs.entry(hub).or_insert_with(|| Differences::fresh(difference, now));
        *known = known.with(difference, sent, now);
        #[cfg(test)]
        self.mistakes.after(&mut known.late);
    }

    /// True if the hub that has asked does not wait any more: its answer would be for nobody.
    pub(crate) fn is_over(&self, hub: u64, sent: Sent, now: u64) -> bool {
        let difference = now.wrapping_sub(sent.at) as i64;
        self.hubs.get(&hub).is_some_and(|known| known.age(difference) > i128::from(sent.patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: u32 = 1000;

    fn sent(at: u64) -> Sent {
        Sent { at, patience: PATIENCE }
    }

    #[test]
    fn a_question_is_over_when_its_hub_has_stopped_waiting_whatever_its_clock_says() {
        for clock in [0, 5, 1 << 40, u64::MAX - 50_000] {
            let mut ages = Ages::default();
            let now = 1_000_000;
            let at = |ms: u64| sent(clock.wrapping_add(ms));
            assert!(!ages.is_over(1, at(0), now), "nothing is known yet");
            ages.note(1, at(0), now);
            // One that comes in time, and one that has waited for ten seconds.
            for (under_way, over) in [(0, false), (999, false), (1000, false), (1001, true), (10_000, true)] {
                let arrives = now + 15_000 + under_way;
                ages.note(1, at(15_000), arrives);
                assert_eq!(ages.is_over(1, at(15_000), arrives), over, "{clock} {under_way}");
            }
            // One that waits here.
            assert!(!ages.is_over(1, at(20_000), now + 20_500) && ages.is_over(1, at(20_000), now + 21_500));
            assert!(!ages.is_over(2, at(0), now + 60_000), "another hub has another clock");
        }
    }

    #[test]
    fn of_a_backlog_only_the_newest_count_also_if_its_hub_was_not_known() {
        let mut ages = Ages::default();
        // This hub was stopped for a minute. Then all of that minute comes at once.
        (0..60).for_each(|second| ages.note(1, sent(second * 1000), 500_000));
        let over: Vec<u64> = (0..60).filter(|second| !ages.is_over(1, sent(second * 1000), 500_001)).collect();
        assert_eq!(over, [59]);
    }

    #[test]
    fn a_clock_that_has_stood_still_counts_anew_after_a_moment() {
        // Its machine was suspended for so many seconds.
        for suspended in [2, 10, 59, 61, 3600] {
            let mut ages = Ages::default();
            let mut ask = |at: u64, now: u64| {
                ages.note(1, sent(at * 1000), now * 1000);
                !ages.is_over(1, sent(at * 1000), now * 1000)
            };
            (0..100).for_each(|second| assert!(ask(second, second)));
            let refused = (100..300).filter(|second| !ask(*second, *second + suspended)).count();
            assert!(refused as u64 <= LATE_MS / 1000, "suspended for {suspended} s: {refused}");
            // And one that is far ahead after that.
            assert!(ask(1_000_000, 300 + suspended));
        }
    }

    #[test]
    fn a_clock_that_has_stood_still_counts_anew_also_if_its_hub_waits_longer_for_some_answers() {
        for suspended in [1, 3, 7, 30] {
            let mut ages = Ages::default();
            // Every second question is for somebody who waits for ten seconds.
            let mut ask = |at: u64, now: u64| {
                let sent = Sent { at: at * 1000, patience: if at.is_multiple_of(2) { 1000 } else { 10_000 } };
                ages.note(1, sent, now * 1000);
                !ages.is_over(1, sent, now * 1000)
            };
            (0..10).for_each(|second| assert!(ask(second, second)));
            let refused = (10..60).filter(|second| !ask(*second, *second + suspended)).count();
            assert!(refused as u64 <= LATE_MS / 1000, "suspended for {suspended} s: {refused}");
        }
    }

    #[test]
    fn a_backlog_that_comes_slowly_is_over_for_as_long_as_it_is_old() {
        let mut ages = Ages::default();
        (0..10).for_each(|second| ages.note(1, sent(second * 1000), second * 1000));
        // This hub was stopped for half a minute. What has waited comes within three seconds, with the clock.
        for second in 10..40 {
            let now = 40_000 + (second - 10) * 100;
            ages.note(1, sent(second * 1000), now);
            assert!(ages.is_over(1, sent(second * 1000), now), "nobody waits for the answer: {second}");
        }
        ages.note(1, sent(43_500), 43_500);
        assert!(!ages.is_over(1, sent(43_500), 43_500));
    }

    #[test]
    fn the_hubs_that_are_remembered_are_bounded() {
        let mut ages = Ages::default();
        (0..2 * MAX_HUBS as u64).for_each(|hub| ages.note(hub, sent(0), 0));
        assert_eq!(ages.hubs.len(), MAX_HUBS);
        ages.note(1 << 40, sent(0), 3 * KEPT_MS);
        assert_eq!(ages.hubs.len(), 1);
    }
}
