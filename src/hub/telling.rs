//! The order in which a replay is told to a client that may be cut off at any place of it.
//!
//! Such a client comes back with the position that it has read last, perhaps to another hub of the same log, or to the
//! same one after a restart. That hub may have dropped less. It goes on behind the position, so everything that is
//! missing up to there must have been told before.

use super::replay::{Has, Item, Replay};
use rustc_hash::FxHashMap;

impl Replay {
    /// Puts the gaps of what this hub has dropped before everything else: in the place where they end, they would stand
    /// behind messages of other channels that are newer than what is missing. Returns the position that each gap, in its
    /// order, has for the client. `None` stands for a position of which no hub knows anything.
    pub(crate) fn tell_gaps_first(&mut self) -> Vec<Option<u64>> {
        let (mut first, after) = (0, self.start());
        if self.has != Has::Any {
            first = self.move_gaps();
        }
        let next = self.items.get(first).map_or(self.position, before);
        let greatest = self.items[..first].iter().map(Item::seq).max().unwrap_or(0);
        // Other gaps, and all messages, are still to come. A position before the client's own would repeat messages.
        let last = greatest.min(next).max(after.unwrap_or(0));
        let of_first = (0..first).map(|place| if place + 1 == first { Some(last) } else { after });
        let others = self.items.iter().enumerate().skip(first).filter(|(_, item)| item.is_gap());
        let of_others = others.map(|(place, item)| {
            // Several channels may have a gap there. A client that is cut off between them comes back for all of them.
            let is_last = self.items.get(place + 1).is_none_or(|next| next.seq() != item.seq());
            if is_last {
                Some(item.seq())
            } else {
                item.seq().checked_sub(1)
            }
        });
        of_first.chain(of_others).collect()
    }

    /// The position of a client that has got nothing of the replay. `None` if no hub knows anything of it.
    pub(crate) fn start(&self) -> Option<u64> {
        match self.has {
            Has::Nothing => None,
            Has::UpTo(number) if self.items.iter().any(is_dropped) => Some(number),
            _ => Some(self.items.first().map_or(self.position, before)),
        }
    }

    /// Returns how many gaps are in front then.
    fn move_gaps(&mut self) -> usize {
        if self.items.iter().skip_while(|item| is_dropped(item)).any(is_dropped) {
            let (mut gaps, mut rest): (Vec<Item>, Vec<Item>) = self.items.drain(..).partition(is_dropped);
            let mut ends: FxHashMap<&str, u64> = FxHashMap::default();
            for gap in &gaps {
                let end = ends.entry(channel(gap)).or_default();
                *end = (*end).max(gap.seq());
            }
            // While it was read in steps, the history may have lost more. What was read before counts as lost as well: a
            // gap has no place among its channel's messages any more.
            rest.retain(|item| ends.get(channel(item)).is_none_or(|end| *end < item.seq()));
            // Those of one channel are one gap.
            let is_greatest =
                |gap: &Item| ends.get(channel(gap)) == Some(&gap.seq()) && ends.remove(channel(gap)).is_some();
            let greatest: Vec<bool> = gaps.iter().map(is_greatest).collect();
            let mut greatest = greatest.into_iter();
            gaps.retain(|_| greatest.next() == Some(true));
            gaps.append(&mut rest);
            self.items = gaps;
        }
        self.items.iter().take_while(|item| is_dropped(item)).count()
    }
}

/// The empty name stands for the broadcasts.
fn channel(item: &Item) -> &str {
    item.channel().unwrap_or("")
}

fn is_dropped(item: &Item) -> bool {
    matches!(item, Item::Gap(..))
}

/// The last number before an item.
fn before(item: &Item) -> u64 {
    item.seq().saturating_sub(1)
}
