//! Decides what positions of earlier epochs mean in this one.
//!
//! A log that outlives its hubs has several epochs, one after the other. If nobody can know whether clients have seen
//! numbers that the log does not have, a new epoch begins with a fence. The fence takes the number after the last one
//! in the log. A position of an earlier epoch up to that last number is exact: the log still has that message and what
//! came after it. A higher position is about a message that is lost. Its client has seen everything up to the last
//! number, and is told of a gap at the fence.

use super::position::{Epoch, Position};

/// The number of earlier epochs that are remembered. A position of an older one is answered with a gap.
pub(crate) const MAX_LINKS: usize = 64;

/// An epoch that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) epoch: Epoch,
    /// The last number of this epoch in the log.
    pub(crate) last: u64,
    /// True if messages may have been lost at its end. Their channels are not known.
    pub(crate) lossy: bool,
    /// True if acts may have been lost at its end.
    pub(crate) acts: bool,
}

impl Link {
    /// The number of the fence after it.
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

    /// The number up to which a client with a position of an earlier epoch has seen everything. `None` if that is not
    /// known.
    pub(super) fn place(&self, position: Position<'_>) -> Option<u64> {
        let link = self.0.iter().rev().find(|link| link.epoch.as_str() == position.epoch)?;
        // If nothing can have been lost, no higher position was ever given out: this one is from elsewhere.
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
        let link = |text, last, lossy| Link { epoch: epoch(text), last, lossy, acts: false };
        let lineage = Lineage::new(vec![link("a", 10, true), link("b", 20, false)]);
        let place = |epoch, seq| lineage.place(Position { epoch, seq });
        assert_eq!((place("a", 10), place("a", 11), place("a", 0)), (Some(10), Some(10), Some(0)));
        assert_eq!((place("b", 5), place("b", 20), place("b", 21), place("c", 1)), (Some(5), Some(20), None, None));
        assert_eq!(lineage.losses_after(10).collect::<Vec<_>>(), [11]);
        assert_eq!(lineage.losses_after(11).count(), 0);
    }
}
