//! Histograms of durations. One thread writes a histogram, and any thread reads it.

use super::Count;

/// The upper bounds of the buckets, in microseconds. One more bucket has the durations beyond the last bound.
pub const BOUNDS_US: [u64; 15] =
    [10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// The histogram of one thread.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; BOUNDS_US.len() + 1],
    sum_us: Count,
}

/// The sum of several threads' histograms at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Distribution {
    /// The number of durations in each bucket, not cumulated.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// The sum of all durations, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Adds a duration. Only the thread that owns the histogram may call this.
    pub(crate) fn record(&self, us: u64) {
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].add(1);
        self.sum_us.add(us);
    }
}

impl Distribution {
    /// Adds a thread's histogram.
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (all, one) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *all += one.get();
        }
        self.sum_us += histogram.sum_us.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for us in [0, 10, 11, 1_000_000, 1_000_001, u64::from(u32::MAX)] {
            histogram.record(us);
        }
        let mut all = Distribution::default();
        all.add(&histogram);
        all.add(&histogram);
        assert_eq!((all.buckets[0], all.buckets[1], all.buckets[14], all.buckets[15]), (4, 2, 2, 4));
        assert_eq!(all.buckets.iter().sum::<u64>(), 12);
        assert_eq!(all.sum_us, 2 * (10 + 11 + 1_000_000 + 1_000_001 + u64::from(u32::MAX)));
    }
}
