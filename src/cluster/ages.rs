//! How old the questions of other hubs are.
//!
//! Clocks of different machines do not agree, and a question may have waited anywhere: at the server that passes words
//! on, or in the buffers of a hub that was stopped for a while. So a question says when it was sent on the clock of its
//! hub, which never goes back. For each hub the smallest difference between the clocks at an arrival is kept. A question
//! of that hub with a larger difference has been under way for so much longer.

use std::collections::BTreeMap;

/// The number of hubs that are remembered.
const MAX_HUBS: usize = 4096;
/// Differences are kept for one to two times as long, in milliseconds. So a clock that stood still, of a machine that was
/// suspended, or one that drifts, counts anew.
const KEPT_MS: u64 = 30_000;

/// When a question was sent, on the clock of its hub, and how long its hub waits, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) at: u64,
    pub(crate) patience: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ages(BTreeMap<u64, Differences>);

/// The smallest difference of the time before, and of the present one.
#[derive(Debug, Clone, Copy)]
struct Differences {
    before: i64,
    present: i64,
    since: u64,
}

impl Ages {
    /// A question of a hub has come at `now`.
    pub(crate) fn note(&mut self, hub: u64, sent: Sent, now: u64) {
        let difference = now.wrapping_sub(sent.at) as i64;
        if self.0.len() >= MAX_HUBS && !self.0.contains_key(&hub) {
            self.0.retain(|_, known| now.saturating_sub(known.since) < 2 * KEPT_MS);
            if self.0.len() >= MAX_HUBS {
                return;
            }
        }
        let fresh = Differences { before: i64::MAX, present: difference, since: now };
        let known = self.0.entry(hub).or_insert(fresh);
        *known = match now.saturating_sub(known.since) {
            0..KEPT_MS => Differences { present: known.present.min(difference), ..*known },
            time if time < 2 * KEPT_MS => Differences { before: known.present, ..fresh },
            _ => fresh,
        };
    }

    /// True if the hub that has asked does not wait any more: its answer would be for nobody.
    pub(crate) fn is_over(&self, hub: u64, sent: Sent, now: u64) -> bool {
        let Some(known) = self.0.get(&hub) else { return false };
        let age = i128::from(now.wrapping_sub(sent.at) as i64) - i128::from(known.before.min(known.present));
        age > i128::from(sent.patience)
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
    fn a_clock_that_has_stood_still_counts_anew_after_a_while() {
        let mut ages = Ages::default();
        let mut now = 0;
        let mut ask = |at: u64, ages: &mut Ages| {
            now += 1000;
            ages.note(1, sent(at), now);
            !ages.is_over(1, sent(at), now)
        };
        (0..100).for_each(|second| assert!(ask(second * 1000, &mut ages)));
        // Its machine was suspended for ten seconds.
        (0..10).for_each(|_| assert!(!ask(0, &mut ages)));
        let refused = (100..300).filter(|second| !ask(second * 1000, &mut ages)).count();
        assert!((1..=60).contains(&refused), "{refused}");
        assert!(ask(300_000, &mut ages));
        // And one that is far ahead after that.
        assert!(ask(1_000_000, &mut ages));
    }

    #[test]
    fn the_hubs_that_are_remembered_are_bounded() {
        let mut ages = Ages::default();
        (0..2 * MAX_HUBS as u64).for_each(|hub| ages.note(hub, sent(0), 0));
        assert_eq!(ages.0.len(), MAX_HUBS);
        ages.note(1 << 40, sent(0), 3 * KEPT_MS);
        assert_eq!(ages.0.len(), 1);
    }
}
