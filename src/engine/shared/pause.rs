//! Pauses before something is tried again. They are random: when a server of the log comes back, the hubs of a cluster
//! must not all come to it at the same moment, and again and again at the same moments.

use std::time::Duration;

/// Half of a time, up to the whole.
pub(in crate::engine) fn about(whole: Duration) -> Duration {
    // Without random numbers it is the longest one.
    part(whole, getrandom::u32().unwrap_or(u32::MAX))
}

fn part(whole: Duration, random: u32) -> Duration {
    whole.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log_model::Random;

    #[test]
    fn hubs_that_pause_together_do_not_go_on_together() {
        let whole = Duration::from_secs(1);
        assert_eq!((part(whole, 0), part(whole, u32::MAX)), (whole / 2, whole));
        let mut random = Random(1);
        // A hundred hubs, each in the twentieth of the time in which it goes on.
        let mut at = [0; 20];
        for _ in 0..100 {
            let pause = part(whole, random.next() as u32);
            at[((pause - whole / 2).as_millis() / 25).min(19) as usize] += 1;
        }
        assert!(at.iter().all(|count| (1..=15).contains(count)), "{at:?}");
        let pauses: std::collections::BTreeSet<Duration> = (0..10).map(|_| about(whole)).collect();
        assert!(pauses.len() > 1 && pauses.iter().all(|pause| (whole / 2..=whole).contains(pause)), "{pauses:?}");
    }
}
