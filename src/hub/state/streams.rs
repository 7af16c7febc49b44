//! The marks in the channels' histories.

use super::{Channel, State};
use crate::hub::message::Message;
use crate::hub::replay::{Ended, Item, Replay};
use crate::hub::retention::Entry;
use crate::hub::{ChannelId, Mark, Outgoing};
use std::mem;
use std::sync::Arc;

impl State {
    /// The number of what was published before and need not be published again: the message with this key, or the end
    /// of a channel that has ended.
    #[inline(always)]
    pub(in crate::hub) fn find_before(&mut self, outgoing: &Outgoing<'_>, now: u64) -> Option<u64> {
        if outgoing.is_end() {
            return self.ended_at(outgoing.channel);
        }
        let found = self.find_key(outgoing.channel, outgoing.key, now)?;
        self.tell_found(outgoing, found);
        Some(found)
    }

    /// The span of a message that is published already.
    #[cold]
    #[inline(never)]
    fn tell_found(&mut self, outgoing: &Outgoing<'_>, seq: u64) {
        let Some(span) = &outgoing.span else { return };
        span.found(seq, self.position_of_replica(seq));
        self.kept.spans.push(span.clone());
    }

    /// Appends a mark, or what follows an end, to a history. An end counts only as long as it is the newest, so the old
    /// one goes: a client that comes later must not take the stream for ended.
    #[cold]
    pub(super) fn turn(&mut self, id: ChannelId, message: Arc<Message>, now: u64) {
        self.make_way(id, message.mark());
        let rule = self.rules.get(self.channels[id as usize].rule);
        rule.push(Entry { seq: message.seq(), since: now, channel: id, is_mark: message.mark().is_some() });
        self.kept.add(&message);
        self.channels[id as usize].history.push(message);
    }

    fn make_way(&mut self, id: ChannelId, mark: Option<Mark>) {
        if mark == Some(Mark::Begin) {
            self.empty(id);
            self.channels[id as usize].is_whole = true;
            return;
        }
        #[cfg(test)]
        if planted::is(planted::Mistake::OldEndStays) {
            self.kept.ended -= usize::from(mem::take(&mut self.channels[id as usize].is_ended));
        }
        if mem::take(&mut self.channels[id as usize].is_ended) {
            self.kept.ended -= 1;
            if let Some(end) = self.channels[id as usize].history.take_newest() {
                self.kept.remove(end);
                self.note_stale(id);
            }
        }
        if mark == Some(Mark::End) {
            self.channels[id as usize].is_ended = true;
            self.kept.ended += 1;
        }
    }

    /// The number after which a subscriber's replay of a channel begins, if it has the channel's stream from its
    /// beginning up to a number.
    pub(super) fn after_in(&self, name: &str, after: u64) -> u64 {
        self.lookup(name, self.hash(name)).map_or(after, |id| after.max(self.channels[id as usize].beginning()))
    }

    /// Whether a channel keeps a mark of so many bytes.
    pub(in crate::hub) fn keeps_mark(&mut self, channel: &str, bytes: usize) -> bool {
        let rule = self.rules.number_for(channel);
        let bounds = self.rules.get(rule).bounds;
        bounds.count > 0 && bounds.bytes.min(self.kept.limit) >= bytes
    }

    /// True if something was published in a channel after that number.
    pub(in crate::hub) fn is_followed(&self, channel: ChannelId, seq: u64) -> bool {
        !self.channels.contains(channel as usize) || self.newest_of(channel) > seq
    }

    /// Notes which of some channels have ended.
    pub(in crate::hub) fn note_ends<'n>(&self, names: impl Iterator<Item = &'n str>, replay: &mut Replay) {
        if self.kept.ended == 0 {
            return;
        }
        for channel in names.filter_map(|name| self.lookup(name, self.hash(name))) {
            let Channel { name, .. } = &self.channels[channel as usize];
            let ended = self.channels[channel as usize].end().map(|seq| Ended { channel, name: name.clone(), seq });
            replay.ends.extend(ended);
        }
    }

    /// Takes out the ends that hold no longer, since something was published there while the replay was read. One that is
    /// only gone stays: nobody else would tell of it.
    pub(super) fn drop_turned(&self, replay: &mut Replay) {
        replay.items.retain(|item| match item {
            Item::Message(message) if message.mark() == Some(Mark::End) => {
                let name = message.channel().unwrap_or_default();
                let hash = self.hash(name);
                let known = self.lookup(name, hash);
                let newest = known.map_or_else(|| self.forgotten.end(hash), |id| self.newest_of(id));
                newest <= message.seq()
            }
            _ => true,
        });
    }

    /// The number of the last message of a channel, kept or not.
    fn newest_of(&self, channel: ChannelId) -> u64 {
        let history = &self.channels[channel as usize].history;
        history.trimmed().max(history.newest().unwrap_or(0))
    }

    /// See [`crate::hub::Hub::all_ended`].
    #[cfg(any(test, fuzzing))]
    pub(in crate::hub) fn all_ended(&self, channels: impl Iterator<Item = ChannelId>) -> Option<u64> {
        if self.kept.ended == 0 {
            return None;
        }
        let mut newest = None;
        for id in channels {
            newest = newest.max(Some(self.channels.get(id as usize)?.end()?));
        }
        newest
    }

    pub(in crate::hub) fn ended_at(&self, channel: &str) -> Option<u64> {
        self.channels[self.lookup(channel, self.hash(channel))? as usize].end()
    }
}

impl Channel {
    /// The number of the end of its stream, if that has ended.
    pub(super) fn end(&self) -> Option<u64> {
        self.is_ended.then(|| self.history.newest()).flatten()
    }

    /// The number after which its stream begins, as far as that is known.
    pub(super) fn beginning(&self) -> u64 {
        let is_begin = |message: &&Arc<Message>| message.mark() == Some(Mark::Begin);
        let is_whole = self.is_whole;
        #[cfg(test)]
        let is_whole = is_whole || planted::is(planted::Mistake::AlwaysWhole);
        match self.history.first_message().filter(is_begin) {
            _ if !is_whole => 0,
            Some(begin) => begin.seq() - 1,
            None => self.history.trimmed(),
        }
    }

    /// How many of its newest messages a subscriber gets that asks for so many. The end comes beside them.
    pub(super) fn with_end(&self, count: usize) -> usize {
        count.saturating_add(usize::from(self.is_ended))
    }
}

/// Mistakes that the models of the hub, of a shard and of a cluster must find.
#[cfg(test)]
pub(crate) mod planted {
    use std::cell::Cell;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Mistake {
        /// An end stays in the history when something comes after it.
        OldEndStays,
        /// A stream of which the beginning is gone is taken for whole.
        AlwaysWhole,
        /// A connection is closed when one of its channels has ended.
        ClosesForOne,
        /// A client that a message leaves out gets it if it was away.
        ExceptsLiveOnly,
        /// A client that a message leaves out gets it if it is there.
        ExceptsInReplaysOnly,
        /// A client that a message leaves out is not told its position.
        KeepsPositions,
        /// What a channel has noted of the patterns that fit it holds for ever.
        ReachStays,
        /// Nobody is told of the channels that are gone.
        GoneIsNotTold,
        /// A connection gets a message for each of its subscriptions that fit.
        OnceForEach,
        /// A poll that does not wait is told a position behind what was searched for its patterns.
        ReadIsAhead,
        /// The answer to a poll that is cut at its bound has the position of what was cut off.
        AnswerIsAhead,
        /// A gap of a channel that a pattern fits has the channel's name, for which nobody has asked.
        GapNamesChannel,
        /// What a connection has got by a pattern comes again if it subscribes to the channel or to another pattern.
        KnownComesAgain,
        /// Nobody is told that a channel has ended if its end has come by a pattern.
        KnownEndIsNotTold,
    }

    thread_local! {
        static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    pub(crate) fn is(mistake: Mistake) -> bool {
        PLANTED.get() == Some(mistake)
    }

    /// Runs something with a mistake in this thread's hubs.
    pub(crate) fn with<T>(mistake: Mistake, run: impl FnOnce() -> T) -> T {
        PLANTED.set(Some(mistake));
        let done = run();
        PLANTED.set(None);
        done
    }
}
