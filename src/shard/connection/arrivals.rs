//! When the connections of a shard came. A connection's entry has no time of its own: the generations are given in the
//! order of their coming, so a few pairs of generation and time tell it for all of them.

/// The marks that are kept before some are left out.
const MARKS: usize = if cfg!(test) { 200 } else { 4096 };
/// The shortest time between two marks, in milliseconds.
const STEP: u64 = 1000;
/// The part of a connection's age by which the time that is told may be wrong, beyond a second.
const PART: u64 = if cfg!(test) { 10 } else { 100 };

/// Times of some generations, in their order.
#[derive(Debug, Default)]
pub(in crate::shard) struct Arrivals {
    marks: Vec<Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The first generation of this time.
    generation: u32,
    at: u64,
}

impl Arrivals {
    /// A connection of this generation, which is greater than those before, comes now.
    pub(in crate::shard) fn note(&mut self, generation: u32, now: u64) {
        match self.marks.last() {
            // The numbers have begun anew, after four thousand million connections. Those that are still there from
            // before are taken for new ones.
            Some(last) if generation < last.generation => self.marks.clear(),
            Some(last) if now < last.at + STEP => return,
            _ => {}
        }
        if self.marks.len() >= MARKS {
            self.thin_out(now);
        }
        self.marks.push(Mark { generation, at: now });
    }

    /// When the connection of a generation came: at this time or up to a second later, or by a hundredth of its age.
    pub(in crate::shard) fn time_of(&self, generation: u32) -> Option<u64> {
        let after = self.marks.partition_point(|mark| mark.generation <= generation);
        after.checked_sub(1).map(|index| self.marks[index].at)
    }

    /// Leaves out marks that are close to the one before, for their age.
    fn thin_out(&mut self, now: u64) {
        let mut kept: Vec<Mark> = Vec::with_capacity(MARKS);
        for (index, mark) in self.marks.iter().enumerate() {
            let Some(next) = self.marks.get(index + 1) else { break };
            let is_close = |last: &Mark| next.at - last.at <= (now - next.at) / PART;
            if !kept.last().is_some_and(is_close) {
                kept.push(*mark);
            }
        }
        kept.extend(self.marks.last());
        self.marks = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_each_is_told_with_few_marks() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.time_of(1), None);
        let mut came = Vec::new();
        let mut now = 5_000;
        for generation in 1..=100_000_u32 {
            now += u64::from(generation.wrapping_mul(2_654_435_761) >> 22); // 0 to 1023
            arrivals.note(generation, now);
            came.push(now);
            assert!(arrivals.marks.len() <= MARKS);
        }
        for (index, at) in came.iter().enumerate() {
            let told = arrivals.time_of(index as u32 + 1).unwrap();
            let error = at.checked_sub(told).expect("not later than it came");
            assert!(error <= STEP + (now - at) / PART, "{index}: {error} of {}", now - at);
        }
        // The marks are few because of their age, not because all are left out.
        assert!(arrivals.marks.len() > 20, "{}", arrivals.marks.len());
    }

    #[test]
    fn numbers_that_begin_anew_have_times_again() {
        let mut arrivals = Arrivals::default();
        arrivals.note(u32::MAX, 1_000);
        arrivals.note(1, 9_000);
        assert_eq!((arrivals.time_of(1), arrivals.time_of(2)), (Some(9_000), Some(9_000)));
    }
}
