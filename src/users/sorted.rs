//! Sorting in steps: there may be a million names, and others wait for the same thread.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::vec;

/// How many one step sorts, or passes on.
pub(crate) const AT_ONCE: usize = if cfg!(test) { 3 } else { 1024 };

/// First they are sorted, some in each step. Then the sorted parts are merged.
#[derive(Debug)]
pub(crate) struct Sorted<T> {
    unsorted: Vec<Vec<T>>,
    /// The sorted parts, without those in `next`.
    parts: Vec<vec::IntoIter<T>>,
    /// The next one of each part that has one, with the number of its part. The lowest is on top.
    next: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: Ord> Default for Sorted<T> {
    fn default() -> Self {
        Sorted { unsorted: Vec::new(), parts: Vec::new(), next: BinaryHeap::new() }
    }
}

impl<T: Ord> Sorted<T> {
    /// Adds some, before the first step.
    pub(crate) fn add(&mut self, some: Vec<T>) {
        if !some.is_empty() {
            self.unsorted.push(some);
        }
    }

    /// Goes on. `each` gets those whose turn it is, in their order. Returns true if there is more to do.
    pub(crate) fn step(&mut self, each: impl FnMut(T)) -> bool {
        if self.unsorted.is_empty() {
            std::iter::from_fn(|| self.next_one()).take(AT_ONCE).for_each(each);
            return !self.next.is_empty();
        }
        if let Some(some) = self.unsorted.last_mut() {
            let mut part = some.split_off(some.len().saturating_sub(AT_ONCE));
            if some.is_empty() {
                self.unsorted.pop();
            }
            part.sort_unstable();
            let mut part = part.into_iter();
            self.next.extend(part.next().map(|first| Reverse((first, self.parts.len()))));
            self.parts.push(part);
        }
        true
    }

    fn next_one(&mut self) -> Option<T> {
        let mut lowest = self.next.peek_mut()?;
        let Reverse((item, part)) = &mut *lowest;
        Some(match self.parts[*part].next() {
            Some(following) => std::mem::replace(item, following),
            None => PeekMut::pop(lowest).0 .0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_sorted_in_short_steps() {
        for sizes in [&[][..], &[1_u32], &[2, 0, 50], &[3, 3, 3], &[100, 7]] {
            let mut sorted = Sorted::default();
            let (mut all, mut number) = (Vec::new(), 0_u32);
            for size in sizes {
                let some: Vec<u32> = (0..*size).map(|at| (number + at) * 7919 % 60).collect();
                number += size;
                all.extend_from_slice(&some);
                sorted.add(some);
            }
            all.sort_unstable();
            let (mut given, mut steps, mut goes_on) = (Vec::new(), 0, true);
            while goes_on {
                let before = given.len();
                goes_on = sorted.step(|one| given.push(one));
                assert!(given.len() - before <= AT_ONCE);
                steps += 1;
            }
            assert_eq!(given, all);
            // Each is sorted once, and given once. The end of each list is a step, too.
            assert!(steps <= 2 * all.len() / AT_ONCE + sizes.len() + 2, "{steps} of {sizes:?}");
        }
    }
}
