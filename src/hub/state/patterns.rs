//! The patterns that are subscribed to, and the messages for their subscribers.
//!
//! A channel notes which patterns fit it, so a publish looks nothing up. What it has noted holds until a subscription by
//! pattern begins or ends. A channel that is not kept, and has no subscribers by name, exists nowhere and notes nothing.

#[cfg(test)]
use super::streams::planted;
use super::{shards_in, State};
use crate::hub::mailbox::{Delivery, Mailbox};
use crate::hub::message::{Message, Place};
use crate::hub::patterns::{Prefixes, PATTERNS, UNNAMED};
use crate::hub::tap::Tap;
use crate::hub::{ChannelId, Leave, Published};
use crate::trace::{Span, Ticket};
use slab::Slab;
use std::sync::Arc;

/// Those who get messages of more than one channel.
pub(in crate::hub) struct Beyond {
    pub(in crate::hub) patterns: Patterns,
    /// Those who look on at what is published.
    pub(super) taps: Vec<Arc<Tap>>,
}

/// The patterns that have subscribers. A pattern without any is gone.
pub(in crate::hub) struct Patterns {
    known: Slab<Pattern>,
    prefixes: Prefixes,
    /// Counts the changes.
    generation: u64,
    /// How many there may be.
    limit: usize,
}

struct Pattern {
    text: Arc<str>,
    /// One bit for each shard that has subscribers.
    shards: u64,
    subscribers: u32,
}

/// The subscribers of all patterns that fit a channel.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reach {
    pub(super) shards: u64,
    pub(super) subscribers: u32,
    /// The generation of the patterns for which it holds.
    generation: u64,
}

impl Beyond {
    pub(super) fn new(limit: usize) -> Self {
        let patterns = Patterns { known: Slab::new(), prefixes: Prefixes::default(), generation: 0, limit };
        Beyond { patterns, taps: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.taps.is_empty()
    }
}

impl Patterns {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(in crate::hub) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Subscribes a shard to all of these, or to none if there would be too many.
    fn join(&mut self, texts: &[&str], shard: usize, ids: &mut Vec<(ChannelId, Arc<str>)>) -> bool {
        let new = texts.iter().filter(|text| self.prefixes.get(text).is_none()).count();
        if new > 0 && self.known.len() + new > self.limit {
            return false;
        }
        self.generation += 1;
        for text in texts {
            let id = self.prefixes.get(text).unwrap_or_else(|| {
                let pattern = Pattern { text: (*text).into(), shards: 0, subscribers: 0 };
                let id = PATTERNS | self.known.insert(pattern) as ChannelId;
                self.prefixes.insert(text, id);
                id
            });
            let pattern = &mut self.known[place(id)];
            pattern.shards |= 1 << shard;
            pattern.subscribers += 1;
            ids.push((id, pattern.text.clone()));
        }
        true
    }

    fn leave(&mut self, shard: usize, leave: &Leave) {
        let Some(pattern) = self.known.get_mut(place(leave.channel)) else { return };
        self.generation += 1;
        pattern.subscribers -= leave.count;
        if leave.last {
            pattern.shards &= !(1 << shard);
        }
        if pattern.subscribers == 0 && pattern.shards == 0 {
            let pattern = self.known.remove(place(leave.channel));
            self.prefixes.remove(&pattern.text);
        }
    }

    /// A burst of patterns must not keep its memory for ever.
    pub(super) fn give_back_room(&mut self) {
        if self.known.capacity() > 1024 && self.known.len() * 8 < self.known.capacity() {
            self.known.shrink_to_fit();
        }
    }

    fn reach(&self, channel: &str) -> Reach {
        let mut reach = Reach { generation: self.generation, ..Reach::default() };
        for pattern in self.prefixes.fitting(channel).map(|id| &self.known[place(id)]) {
            reach.shards |= pattern.shards;
            reach.subscribers += pattern.subscribers;
        }
        reach
    }
}

fn place(id: ChannelId) -> usize {
    (id & !PATTERNS) as usize
}

impl State {
    /// Subscribes a shard to all of these patterns, or to none if there would be too many.
    pub(in crate::hub) fn join_patterns(
        &mut self,
        texts: &[&str],
        shard: usize,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) -> bool {
        let joins = self.beyond.patterns.join(texts, shard, ids);
        self.subscriptions += if joins { texts.len() as u64 } else { 0 };
        joins
    }

    pub(super) fn leave_pattern(&mut self, shard: usize, leave: &Leave) {
        self.subscriptions -= u64::from(leave.count);
        self.beyond.patterns.leave(shard, leave);
    }

    /// The subscribers by pattern of a channel, which exists or not.
    #[inline(always)]
    pub(super) fn reach(&mut self, channel: &str, known: Option<ChannelId>) -> Reach {
        match known {
            _ if self.beyond.patterns.is_empty() => Reach::default(),
            Some(id) => self.reach_of(id),
            None => self.beyond.patterns.reach(channel),
        }
    }

    #[inline(never)]
    fn reach_of(&mut self, id: ChannelId) -> Reach {
        let (channel, patterns) = (&mut self.channels[id as usize], &self.beyond.patterns);
        let holds = channel.reach.generation == patterns.generation;
        #[cfg(test)]
        let holds = holds || (channel.reach.generation > 0 && planted::is(planted::Mistake::ReachStays));
        if !holds {
            channel.reach = patterns.reach(&channel.name);
        }
        channel.reach
    }

    /// Publishes a message that is not kept, of a channel that has no subscribers by name.
    #[cold]
    pub(super) fn pass_on(
        &mut self,
        (channel, seq): (&str, u64),
        (mut message, span): (Arc<Message>, Option<Span>),
        (since, now): (u64, u64),
        mailboxes: &[Arc<Mailbox>],
    ) -> Published {
        let Reach { shards, subscribers, .. } = self.reach(channel, None);
        let is_shown = !self.beyond.taps.is_empty() && !mailboxes.is_empty();
        if shards != 0 || is_shown {
            let stamp = if subscribers > 0 { self.sampler.stamp(seq, now) } else { 0 };
            let name = Arc::from(channel);
            let place = Place { seq, channel: Some(&name), slow: self.slow.of(channel), stamp };
            Message::place(&mut message, &place);
        }
        let ticket = match span {
            None => Ticket::default(),
            Some(span) => self.place_span(span, seq, subscribers, shards_in(shards, mailboxes).count()),
        };
        for (_, mailbox) in shards_in(shards, mailboxes) {
            let left = mailbox.push(Delivery { channel: UNNAMED, ticket, message: message.clone() });
            debug_assert!(left, "`find_room` or `check_room` came first");
        }
        if is_shown {
            self.show(&message, since);
        }
        Published { seq, shards, subscribers }
    }
}
