//! The replay for a subscriber: the messages that it missed, and gaps where messages are no longer in the history.

use super::message::Message;
use super::patterns::{is_pattern, ReadFrom};
use super::position::{Epoch, Position};
use super::ChannelId;
use std::sync::Arc;

/// The point where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// With the messages that come from now on.
    New,
    /// After the last message that the client has seen.
    Since(Position<'a>),
    /// After a number of this epoch: continues a replay that was cut.
    After(u64),
    /// The same for a replay that began with the first message of each channel's stream.
    BeginningAfter(u64),
    /// With the newest messages of each channel.
    Last(usize),
    /// With the first message of each channel's stream.
    Beginning,
}

/// A shard's request for a subscription.
#[derive(Debug)]
pub struct Request<'a, S> {
    /// The shard's number.
    pub shard: usize,
    /// The channels and patterns, each once.
    pub names: &'a [S],
    /// Where to begin.
    pub start: Start<'a>,
    /// About how many bytes of messages the replay may have.
    pub limit: usize,
    /// True if missed broadcasts are wanted as well.
    pub broadcasts: bool,
    /// What is cut at the limit: the newest messages, which are requested later, or the oldest, with a gap in their
    /// place.
    pub cut: Cut,
    /// Whether the request subscribes the shard.
    pub join: Join,
}

impl<S: AsRef<str>> Request<'_, S> {
    /// True if some of the names are patterns. Such a request is cut at the head, wherever it begins: it is not read in
    /// parts.
    pub(super) fn has_patterns(&self) -> bool {
        self.names.iter().any(|name| is_pattern(name.as_ref()))
    }
}

impl<S> Request<'_, S> {
    /// True if missed broadcasts are part of the replay. They belong to no stream.
    pub(super) fn wants_broadcasts(&self) -> bool {
        self.broadcasts && !matches!(self.start, Start::Last(_) | Start::Beginning)
    }

    /// True if each channel is read from the first message of its stream.
    pub(super) fn is_from_beginning(&self) -> bool {
        matches!(self.start, Start::Beginning | Start::BeginningAfter(_))
    }

    /// What the subscriber has, which begins after that number.
    pub(super) fn has(&self, after: u64, foreign: bool) -> Has {
        match self.start {
            Start::New | Start::Last(_) => Has::Any,
            _ if foreign => Has::Nothing,
            _ => Has::UpTo(after),
        }
    }

    /// The subscriber's position, if it came with one.
    pub(super) fn since(&self, after: u64, foreign: bool) -> Option<u64> {
        (matches!(self.start, Start::Since(_)) && !foreign).then_some(after)
    }

    /// True if the newest messages are read first, since the oldest are cut.
    pub(super) fn newest_first(&self) -> bool {
        matches!(self.start, Start::Last(_)) || self.cut == Cut::Head
    }
}

/// Whether a request subscribes the shard once the replay is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// It subscribes.
    Always,
    /// It subscribes if there is nothing to send at once: for a poll, which ends with the first answer. A message may
    /// come while the shard is being subscribed, and a request with patterns is subscribed first; then there are both.
    IfEmpty,
    /// It does not subscribe: for a poll that does not wait.
    Never,
}

/// The end at which a replay is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The newest messages are cut. The rest is requested from there.
    Tail,
    /// The oldest messages are cut, and a gap takes their place.
    Head,
}

/// One step of a replay, in the order of the sequence.
#[derive(Debug, Clone)]
pub enum Item {
    /// The hub has dropped the channel's messages up to this number, as far as the subscriber had not seen them. The
    /// channel is `None` for the broadcasts. Another hub of the same log may have them.
    Gap(Option<Arc<str>>, u64),
    /// The log has lost messages before this number. They may have been this channel's. All hubs of the log know of it.
    Loss(Arc<str>, u64),
    /// A message.
    Message(Arc<Message>),
}

impl Item {
    /// Its number in the sequence.
    pub fn seq(&self) -> u64 {
        match self {
            Item::Gap(_, seq) | Item::Loss(_, seq) => *seq,
            Item::Message(message) => message.seq(),
        }
    }

    /// Its channel. `None` for the broadcasts.
    pub fn channel(&self) -> Option<&str> {
        #[cfg(test)]
        looks::count();
        match self {
            Item::Gap(channel, _) => channel.as_deref(),
            Item::Loss(channel, _) => Some(channel),
            Item::Message(message) => message.channel(),
        }
    }

    /// The message, unless it says that some are missing.
    pub(crate) fn message(&self) -> Option<&Arc<Message>> {
        match self {
            Item::Gap(..) | Item::Loss(..) => None,
            Item::Message(message) => Some(message),
        }
    }

    /// True if it says that messages are missing.
    pub(crate) fn is_gap(&self) -> bool {
        self.message().is_none()
    }

    fn weight(&self) -> usize {
        self.message().map_or(0, |message| message.weight())
    }
}

/// How often the channel of an item was looked at, so that a test sees how the work of a cut grows.
#[cfg(test)]
pub(super) mod looks {
    use std::cell::Cell;

    thread_local! {
        static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        LOOKS.set(LOOKS.get() + 1);
    }

    /// Those since the last call.
    pub(in crate::hub) fn take() -> usize {
        LOOKS.take()
    }
}

/// A channel that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) channel: ChannelId,
    pub(crate) name: Arc<str>,
    /// The number of the end.
    pub(crate) seq: u64,
}

/// What a subscriber has that gets a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Has {
    /// It does not matter: it wants new messages, or the newest ones.
    #[default]
    Any,
    /// Everything up to this number.
    UpTo(u64),
    /// Nothing of this epoch.
    Nothing,
}

/// A replay. Its buffers are reused.
#[derive(Debug, Default)]
pub struct Replay {
    /// Gaps and messages, in the order of the sequence.
    pub items: Vec<Item>,
    /// The position after the last item or, if nothing was cut, the hub's position.
    pub position: u64,
    /// True if the subscriber is up to date and subscribed. Otherwise the replay was cut at its limit: send it, then
    /// ask again from `position`.
    pub complete: bool,
    /// True if a replica of a log has not come to where the subscriber begins, or if its log broke meanwhile. Nothing is
    /// given. End the subscriptions that there are nevertheless, and ask again later.
    pub(crate) wait: bool,
    /// True if there are as many patterns as there may be. Nothing is given, and nothing is subscribed to.
    pub(crate) is_full: bool,
    /// Of a replica: the epoch of all positions here, and how many breaks came before. Deliveries in the mailbox before
    /// the last of these breaks are in the replay already.
    pub(crate) life: Option<(Epoch, u32)>,
    /// The channels of the gaps that were cut off at the tail and come later. `None` for the broadcasts.
    pub later_gaps: Vec<Option<Arc<str>>>,
    /// Those among them of what this hub has dropped.
    later_dropped: Vec<Option<Arc<str>>>,
    /// The channels of the request that have ended, and the numbers of the ends.
    pub(crate) ends: Vec<Ended>,
    /// True if these are all channels of the request.
    pub(crate) all_ended: bool,
    /// The subscriber's position, if it came with one of this epoch.
    pub(crate) since: Option<u64>,
    /// What the subscriber has already.
    pub(super) has: Has,
    /// The same for the channels that patterns of the request fit, with this replay.
    pub(crate) read_from: ReadFrom,
}

impl Replay {
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.later_gaps.clear();
        self.ends.clear();
        self.later_dropped.clear();
        (self.all_ended, self.since, self.has) = (false, None, Has::Any);
        self.read_from = ReadFrom::default();
        self.complete = true;
        (self.wait, self.is_full) = (false, false);
    }

    /// Nothing can be given now.
    pub(super) fn put_off(&mut self) {
        self.clear();
        (self.complete, self.wait) = (false, true);
    }

    /// Tells the gaps of what this hub has dropped that were cut off, each up to where it was cut. The next part may come
    /// from another hub of the log, or from this one after a restart, which does not know of them: it may have what this
    /// hub has dropped.
    pub(super) fn tell_later_gaps(&mut self) {
        let position = self.position;
        self.items.extend(self.later_dropped.iter().map(|channel| Item::Gap(channel.clone(), position)));
        self.sort();
    }

    /// True if all channels of the request have ended, and its client has everything after this replay.
    pub(crate) fn is_the_end(&self) -> bool {
        self.complete && self.all_ended && self.ends.iter().all(|end| end.seq <= self.position)
    }

    /// True if the shard is subscribed after this replay.
    pub(super) fn joins(&self, join: Join) -> bool {
        self.complete
            && match join {
                Join::Always => true,
                Join::IfEmpty => self.items.is_empty(),
                Join::Never => false,
            }
    }

    /// Sorts the items of several channels. A gap comes before the message that follows it.
    pub(super) fn sort(&mut self) {
        self.items.sort_by_key(|item| (item.seq(), !item.is_gap()));
    }

    /// Cuts the tail beyond `limit` bytes, which comes later. At least one message stays.
    pub(super) fn cut_tail(&mut self, limit: usize) {
        let mut weight = 0;
        for index in 0..self.items.len() {
            weight += self.items[index].weight();
            // Items with the same number stay together: the next part begins after the last number of this one.
            let boundary = index > 0 && self.items[index].seq() != self.items[index - 1].seq();
            if weight > limit && boundary {
                for item in self.items.drain(index..) {
                    match item {
                        Item::Gap(channel, _) => {
                            self.later_gaps.push(channel.clone());
                            self.later_dropped.push(channel);
                        }
                        Item::Loss(channel, _) => self.later_gaps.push(Some(channel)),
                        Item::Message(_) => {}
                    }
                }
                self.position = self.items[index - 1].seq();
                self.complete = false;
                return;
            }
        }
    }
}

impl Replay {
    /// Drops the head beyond `limit` bytes, and puts gaps in its place. For subscribers that asked for the newest
    /// messages.
    pub(super) fn cut_head(&mut self, limit: usize) {
        let mut weight = 0;
        let kept = self.items.iter().rev().take_while(|item| {
            weight += item.weight();
            weight <= limit
        });
        let first = self.items.len() - kept.count().max(1).min(self.items.len());
        let mut dropped: Vec<Item> = self.items.drain(..first).collect();
        // A gap among the dropped items stays a gap, even if no message of its channel is dropped. There may be as many
        // channels as items, so they are sorted instead of searched one by one. The last dropped item of a channel is
        // the end of its gap.
        dropped.sort_by(|a, b| (a.channel(), a.seq()).cmp(&(b.channel(), b.seq())));
        for of_channel in dropped.chunk_by(|a, b| a.channel() == b.channel()) {
            let Some(last) = of_channel.last() else { continue };
            self.items.push(Item::Gap(last.channel().map(Arc::from), last.seq()));
        }
        self.sort();
    }
}
