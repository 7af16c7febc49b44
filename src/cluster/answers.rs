//! The counters of all hubs together.

use super::table::Outcome;
use super::words::MAX_COUNT;
use crate::metrics::{Stats, TABLE};

/// The counters of one hub.
#[derive(Debug)]
pub(crate) struct HubStats {
    pub(crate) hub: u64,
    pub(crate) stats: Stats,
}

/// The answer of a hub.
pub(crate) fn stats(stats: &Stats) -> Vec<u8> {
    stats.json().into_bytes()
}

/// Figures of the history, which each hub has as a whole. Of these the largest counts.
const OF_THE_HISTORY: [&str; 5] = ["published", "channels", "history_messages", "history_bytes", "seq"];

/// The counters of all hubs that have answered, each with its name, added up, and those of each.
pub(crate) fn merge_stats(mut outcome: Outcome) -> (Vec<(&'static str, u64)>, Vec<HubStats>, Outcome) {
    let mut each = Vec::new();
    for (hub, bytes) in std::mem::take(&mut outcome.answers) {
        let read = serde_json::from_slice::<Stats>(&bytes).ok();
        match read.filter(|stats| TABLE.iter().all(|metric| (metric.get)(stats) <= MAX_COUNT)) {
            Some(stats) => each.push(HubStats { hub, stats }),
            None => outcome.hubs.not_readable(hub),
        }
    }
    let figure = |metric: &crate::metrics::Metric| {
        let figures = each.iter().map(|of| (metric.get)(&of.stats));
        let value = match OF_THE_HISTORY.contains(&metric.name) {
            true => figures.max().unwrap_or(0),
            false => figures.fold(0, u64::saturating_add),
        };
        (metric.name, value)
    };
    (TABLE.iter().map(figure).collect(), each, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up_and_the_history_counts_once() {
        assert!(OF_THE_HISTORY.iter().all(|name| TABLE.iter().any(|metric| metric.name == *name)));
        let one = Stats { seq: 9, published: 5, connections: 3, ..Stats::default() };
        let other = Stats { seq: 8, published: 6, connections: 4, deliveries: MAX_COUNT, ..one };
        let absurd = Stats { deliveries: MAX_COUNT + 1, ..one };
        let answers = vec![(1, stats(&one)), (2, stats(&other)), (3, b"?".to_vec()), (4, stats(&absurd))];
        let (sums, each, outcome) = merge_stats(Outcome { answers, ..Outcome::default() });
        let of = |name: &str| sums.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!((of("seq"), of("published"), of("connections"), of("deliveries")), (9, 6, 7, MAX_COUNT));
        assert_eq!((each.len(), each[1].stats, outcome.hubs.missing), (2, other, vec![3, 4]));
    }
}
