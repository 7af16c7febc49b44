//! Hubs that ask, on machines whose clocks stand still at times, and a hub that was stopped at times and gets what has
//! waited at once. Planted mistakes are found.

use super::ages::{Ages, Late, Sent};
use crate::engine::log_model::Random;

/// Mistakes that are made on purpose.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Mistakes {
    /// That a clock has stood still is not learned before all differences have been forgotten.
    learns_nothing: bool,
    /// Questions that are late are enough for the clock of their hub to have stood still, however soon they come.
    learns_at_once: bool,
}

impl Mistakes {
    pub(super) fn after(self, late: &mut Option<Late>) {
        if self.learns_nothing {
            *late = None;
        }
        if let Some(late) = late.as_mut().filter(|_| self.learns_at_once) {
            late.since = 0;
            late.at = late.at.wrapping_sub(3600 * 1000);
        }
    }
}

const PATIENCE: u64 = 1000;
/// So long after a clock has stood still its questions may be dropped.
const LEARNED: u64 = 14_000;

/// What a run has met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Met {
    answered: u32,
    /// Questions that nobody waited for, and that were dropped.
    dropped: u32,
    /// Questions of the time after a clock has stood still, and those that were dropped of these.
    after: u32,
    dropped_after: u32,
}

/// Runs two hubs for ten minutes. The first fault, or what was met.
fn run(seed: u64, mistakes: Mistakes) -> Result<Met, &'static str> {
    let mut random = Random(seed);
    let mut ages = Ages::default();
    ages.mistakes = mistakes;
    let mut met = Met::default();
    // The clock of the hub that asks, and the time until which it stands still.
    let (mut clock, mut still_until, mut stood_still) = (random.next(), 0, None::<u64>);
    // The hub that answers is stopped until then.
    let mut stopped_until = 0;
    let mut coming: Vec<(u64, u64, Sent)> = Vec::new();
    for now in (0..600_000).step_by(10) {
        if now >= still_until {
            if random.one_in(6_000) && now > stopped_until {
                still_until = now + random.below(50_000) as u64;
                stood_still = Some(still_until);
                continue;
            }
            clock = clock.wrapping_add(10);
            if random.one_in(50) {
                let sent = Sent { at: clock, patience: PATIENCE as u32 };
                coming.push((now + random.below(40) as u64, now, sent));
            }
            // Only one thing is wrong at a time.
            let quiet = stood_still.is_none_or(|end| now > end + LEARNED + 10_000);
            if now > stopped_until + 5_000 && quiet && random.one_in(3_000) {
                stopped_until = now + random.below(25_000) as u64;
            }
        }
        if now < stopped_until {
            continue;
        }
        // A server gives only some of what has waited at once.
        let mut come = Vec::new();
        coming.retain(|word| {
            let comes = word.0 <= now && come.len() < 16;
            come.extend(comes.then_some(*word));
            !comes
        });
        come.iter().for_each(|(.., sent)| ages.note(1, *sent, now));
        for (_, asked, sent) in come {
            let is_over = ages.is_over(1, sent, now);
            let learns = stood_still.is_some_and(|end| now < end + LEARNED);
            match (now - asked > PATIENCE + 50, is_over) {
                (true, true) => met.dropped += 1,
                (true, false) => return Err("a question is answered although nobody waits"),
                // A clock that has stood still for less than half of the patience is not learned anew at once.
                (false, true) if !learns && now - asked < PATIENCE / 2 - 100 => {
                    return Err("a question is dropped although its hub waits")
                }
                _ => met.answered += 1,
            }
            if learns {
                met.after += 1;
                met.dropped_after += u32::from(is_over);
            }
        }
    }
    Ok(met)
}

#[test]
fn questions_are_dropped_when_their_hub_does_not_wait_and_only_then() {
    let mut all = Met::default();
    for seed in 1..=100 {
        let met = run(seed, Mistakes::default()).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        all.answered += met.answered;
        all.dropped += met.dropped;
        all.after += met.after;
        all.dropped_after += met.dropped_after;
    }
    assert!(all.answered > 10_000 && all.dropped > 1000, "{all:?}");
    assert!(all.dropped_after > 100 && all.dropped_after < all.after, "{all:?}");
}

#[test]
fn planted_mistakes_are_found() {
    let mistakes = [
        Mistakes { learns_nothing: true, ..Mistakes::default() },
        Mistakes { learns_at_once: true, ..Mistakes::default() },
    ];
    for mistakes in mistakes {
        let found = (1..=100).find_map(|seed| run(seed, mistakes).err());
        assert!(found.is_some(), "{mistakes:?}");
    }
}
