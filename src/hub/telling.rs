//! The order in which a replay is told to a client that may be cut off at any place of it.
//!
//! Such a client comes back with the position that it has read last, perhaps to another hub of the same log, or to the
//! same one after a restart. That hub may have dropped less. It goes on behind the position, so everything that is
//! missing up to there must have been told before.

use super::position::{Epoch, ELSEWHERE};
use super::replay::{Has, Item, Replay};
use rustc_hash::FxHashMap;

/// The position of a gap: where its client goes on if it is cut off right behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GapPosition {
    /// Behind a number.
    Behind(u64),
    /// At a position that no hub knows. The client is told of a gap in each channel, and gets all that is kept.
    Elsewhere,
    /// It has none. The client asks again as it did before.
    None,
}

impl GapPosition {
    /// Its text. Empty if it has none.
    pub(crate) fn text(self, epoch: &Epoch) -> String {
        match self {
            GapPosition::Behind(seq) => epoch.position(seq),
            GapPosition::Elsewhere => ELSEWHERE.into(),
            GapPosition::None => String::new(),
        }
    }
}

impl Replay {
    /// Puts the gaps of what this hub has dropped before everything else: in the place where they end, they would stand
    /// behind messages of other channels that are newer than what is missing. Returns the position that each gap, in its
    /// order, has for the client.
    pub(crate) fn tell_gaps_first(&mut self) -> Vec<GapPosition> {
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
        // If a client wants the newest messages, and they are too many, a gap stands for some that this hub still has.
        // So it must not come back behind one such gap before it is told of the next.
        let told_first = self.items.iter().take_while(|item| is_dropped(item)).count();
        let of_others = others.map(|(place, item)| {
            if place + 1 < told_first {
                return None;
            }
            // Several channels may have a gap there. A client that is cut off between them comes back for all of them.
            let is_last = self.items.get(place + 1).is_none_or(|next| next.seq() != item.seq());
            if is_last {
                Some(item.seq())
            } else {
                item.seq().checked_sub(1)
            }
        });
        // A client that wants the newest messages came with no position, and comes back as it came.
        let nowhere = if self.has == Has::Any { GapPosition::None } else { GapPosition::Elsewhere };
        of_first.chain(of_others).map(|seq| seq.map_or(nowhere, GapPosition::Behind)).collect()
    }

    /// The position of a client that has got nothing of the replay. `None` if no hub knows anything of it.
    pub(crate) fn start(&self) -> Option<u64> {
        match self.has {
            Has::Nothing => None,
            Has::UpTo(number) if self.items.iter().any(is_dropped) => Some(number),
            _ => Some(self.items.first().map_or(self.position, before)),
        }
    }

    /// Leaves out what the subscriber has got otherwise: `has_after` gives the number after which it has everything of a
    /// channel.
    pub(crate) fn leave_out(&mut self, has_after: impl Fn(&str) -> u64) {
        let after = match self.has {
            Has::UpTo(number) => Some(number),
            Has::Any | Has::Nothing => None,
        };
        self.items.retain_mut(|item| {
            let has_after = has_after(channel(item));
            if let Item::Gap(_, end) = item {
                *end = has_after.min(*end);
                return after.is_none_or(|after| after < *end);
            }
            item.seq() <= has_after
        });
        self.sort();
    }

    /// Whether a gap comes before all messages.
    pub(crate) fn begins_with_gap(&self) -> bool {
        self.items.first().is_some_and(Item::is_gap)
    }

    /// The position of a client that was told of the gaps before all messages, and has got no message.
    pub(crate) fn behind_first_gaps(&self) -> u64 {
        let gaps = self.items.iter().take_while(|item| item.is_gap());
        gaps.last().map_or(self.position, Item::seq)
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
