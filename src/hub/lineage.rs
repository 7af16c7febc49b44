//! Which positions of earlier lives of the history mean something in this one.
//!
//! A log that outlives its hubs has an epoch after the other. Where nobody can know whether numbers were seen that the
//! log does not have, a new epoch begins: a fence. It takes a number of its own, the one after the last that the log
//! has. A position of an earlier epoch up to that last one is exact: the log still has it and what came after. One
//! beyond means a message that is not there any more. Its holder has seen all up to the last one, and is told of a gap
//! at the fence.

use super::position::{Epoch, Position};

/// How many earlier epochs are remembered. Positions of older ones are answered with a gap.
pub(crate) const MAX_LINKS: usize = 64;

/// An epoch that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) epoch: Epoch,
    /// The last number that the log has of it.
    pub(crate) last: u64,
    /// Whether messages may have been lost at its end, of which nobody knows in which channels.
    pub(crate) lossy: bool,
}

impl Link {
    /// The number of the fence behind it.
    pub(crate) fn fence(&self) -> u64 {
        self.last + 1
    }
}

/// The epochs before the present one, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lineage(Vec<Link>);

impl Lineage {
    pub(super) fn new(links: Vec<Link>) -> Self {
        Lineage(links)
    }

    /// The number up to which the holder of an earlier epoch's position has seen everything; `None`: nobody knows.
    pub(super) fn place(&self, position: Position<'_>) -> Option<u64> {
        let link = self.0.iter().rev().find(|link| link.epoch.as_str() == position.epoch)?;
        // Where nothing can have been lost there is nothing beyond: the position is from elsewhere.
        (position.seq <= link.last || link.lossy).then_some(position.seq.min(link.last))
    }

    /// The fences after a number at which messages of any channel may have been lost.
    pub(super) fn losses_after(&self, seq: u64) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().filter(|link| link.lossy).map(Link::fence).filter(move |fence| *fence > seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_earlier_epochs_are_exact_up_to_their_end_and_no_further() {
        let epoch = |text| Epoch::from_text(text).unwrap();
        let link = |text, last, lossy| Link { epoch: epoch(text), last, lossy };
        let lineage = Lineage::new(vec![link("a", 10, true), link("b", 20, false)]);
        let place = |epoch, seq| lineage.place(Position { epoch, seq });
        assert_eq!((place("a", 10), place("a", 11), place("a", 0)), (Some(10), Some(10), Some(0)));
        assert_eq!((place("b", 5), place("b", 20), place("b", 21), place("c", 1)), (Some(5), Some(20), None, None));
        assert_eq!(lineage.losses_after(10).collect::<Vec<_>>(), [11]);
        assert_eq!(lineage.losses_after(11).count(), 0);
    }
}
