//! What a subscriber gets first: what it missed, with gaps where something can't be had.

use super::message::Message;
use super::position::Position;
use std::sync::Arc;

/// Where a subscriber wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// With what comes from now on.
    New,
    /// After a position that it saw.
    Since(Position<'a>),
    /// After a number of this epoch: going on with a replay that was cut.
    After(u64),
    /// With the newest messages of each channel.
    Last(usize),
}

/// A subscription as a shard asks for it.
#[derive(Debug)]
pub struct Request<'a, S> {
    /// The shard's number.
    pub shard: usize,
    /// The channels, each once.
    pub names: &'a [S],
    /// Where to begin.
    pub start: Start<'a>,
    /// About how many bytes of messages may be given at once.
    pub limit: usize,
    /// Whether missed broadcasts are asked for as well.
    pub broadcasts: bool,
    /// What is dropped at the limit: the newest, to be asked for again; or the oldest, with a gap in their place.
    pub cut: Cut,
    /// Whether it subscribes.
    pub join: Join,
}

impl<S> Request<'_, S> {
    /// Whether missed broadcasts are given.
    pub(super) fn wants_broadcasts(&self) -> bool {
        self.broadcasts && !matches!(self.start, Start::Last(_))
    }

    /// Whether the newest are read first, as the oldest are what is cut.
    pub(super) fn newest_first(&self) -> bool {
        matches!(self.start, Start::Last(_)) || self.cut == Cut::Head
    }
}

/// Whether a request subscribes the shard, once all that was missed is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Yes.
    Always,
    /// Only if there is nothing to give at once: for a poll, which ends with the first answer. While it joins, something
    /// may come: then there are both.
    IfEmpty,
    /// No: for a poll that does not wait.
    Never,
}

/// Where a replay is cut at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The newest go; ask again from where it was cut.
    Tail,
    /// The oldest go, and a gap says so.
    Head,
}

/// One step of a replay, in the order of the sequence.
#[derive(Debug, Clone)]
pub enum Item {
    /// Everything of the channel up to this number that the subscriber had not seen is gone. `None`: of the broadcasts.
    Gap(Option<Arc<str>>, u64),
    /// A message.
    Message(Arc<Message>),
}

impl Item {
    /// Its place in the sequence.
    pub fn seq(&self) -> u64 {
        match self {
            Item::Gap(_, seq) => *seq,
            Item::Message(message) => message.seq(),
        }
    }

    /// Its channel; `None`: the broadcasts.
    pub fn channel(&self) -> Option<&str> {
        match self {
            Item::Gap(channel, _) => channel.as_deref(),
            Item::Message(message) => message.channel(),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Item::Gap(..) => 0,
            Item::Message(message) => message.weight(),
        }
    }
}

/// A replay, in a buffer that is used again and again.
#[derive(Debug, Default)]
pub struct Replay {
    /// Gaps and messages, in the order of the sequence.
    pub items: Vec<Item>,
    /// The position after the last item, or of the hub where nothing was cut.
    pub position: u64,
    /// Whether the subscriber is up to date and subscribed now. Otherwise the replay was cut at its bound: send it,
    /// then ask again, from `position`.
    pub complete: bool,
    /// The channels (`None`: the broadcasts) of gaps in what was cut off its tail: they come later.
    pub later_gaps: Vec<Option<Arc<str>>>,
}

impl Replay {
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.later_gaps.clear();
        self.complete = true;
    }

    /// Whether the shard is subscribed after this.
    pub(super) fn joins(&self, join: Join) -> bool {
        self.complete
            && match join {
                Join::Always => true,
                Join::IfEmpty => self.items.is_empty(),
                Join::Never => false,
            }
    }

    /// Brings items of several channels into one order. A gap comes before the message that follows it.
    pub(super) fn sort(&mut self) {
        self.items.sort_by_key(|item| (item.seq(), matches!(item, Item::Message(_))));
    }

    /// Cuts the tail that would exceed `limit` bytes, for later. At least one message stays.
    pub(super) fn cut_tail(&mut self, limit: usize) {
        let mut weight = 0;
        for index in 0..self.items.len() {
            weight += self.items[index].weight();
            // Items with equal numbers belong together: a later replay begins after this number.
            let boundary = index > 0 && self.items[index].seq() != self.items[index - 1].seq();
            if weight > limit && boundary {
                let later = self.items.drain(index..).filter_map(|item| match item {
                    Item::Gap(channel, _) => Some(channel),
                    Item::Message(_) => None,
                });
                self.later_gaps.extend(later);
                self.position = self.items[index - 1].seq();
                self.complete = false;
                return;
            }
        }
    }
}

impl Replay {
    /// Drops the head that would exceed `limit` bytes and says so by gaps: for those who asked for the newest.
    pub(super) fn cut_head(&mut self, limit: usize) {
        let mut weight = 0;
        let kept = self.items.iter().rev().take_while(|item| {
            weight += item.weight();
            weight <= limit
        });
        let first = self.items.len() - kept.count().max(1).min(self.items.len());
        let mut dropped: Vec<Item> = self.items.drain(..first).collect();
        // A gap among them stays one, also where nothing else of its channel is dropped. There may be as many channels
        // as items: they are sorted, not looked for one by one. The last one of each channel is its end.
        dropped.sort_by(|a, b| (a.channel(), a.seq()).cmp(&(b.channel(), b.seq())));
        for of_channel in dropped.chunk_by(|a, b| a.channel() == b.channel()) {
            let Some(last) = of_channel.last() else { continue };
            self.items.push(Item::Gap(last.channel().map(Arc::from), last.seq()));
        }
        self.sort();
    }
}
