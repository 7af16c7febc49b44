//! Reads missed messages and subscribes in one step, however much there is to read.

use super::patterns::ReadFrom;
#[cfg(test)]
use super::planted;
use super::replay::{Cut, Join, Replay, Request, Start};
use super::state::{parted, AT_ONCE};
use super::{ChannelId, Epoch, Hub, Leave};
use std::collections::HashSet;
use std::sync::Arc;

impl Hub {
    /// Reads the messages that a subscriber missed into `replay`, and subscribes the shard.
    ///
    /// If everything fits (`replay.complete`) and the request subscribes, `ids` has the channels' numbers and names.
    /// Messages after `replay.position` then come through the shard's mailbox. Messages in the mailbox up to that
    /// number are in the replay already. If the replay was cut, nothing is subscribed and `ids` is empty: ask again
    /// with [`Start::After`] `replay.position`.
    ///
    /// Mostly this takes the lock once, for some microseconds. A larger request takes the lock several times, each time
    /// for some hundred channels or messages.
    pub fn subscribe<S: AsRef<str>>(
        &self,
        request: &Request<'_, S>,
        replay: &mut Replay,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) {
        replay.clear();
        // Even if nothing is subscribed: an earlier client's numbers must not be taken for this one's.
        ids.clear();
        if request.has_patterns() {
            return self.subscribe_with_patterns(request, &[], replay, ids);
        }
        let few = request.names.len() <= AT_ONCE;
        if few && self.state.lock().subscribe(request, self.epoch.as_str(), replay, ids) {
            return;
        }
        let begun = self.read_in_steps(request, replay);
        // An end is something to send at once.
        let is_new_poll = request.start == Start::New && request.join == Join::IfEmpty;
        if is_new_poll || !replay.joins(request.join) {
            for names in request.names.chunks(AT_ONCE) {
                self.state.lock_for_step().note_ends(names.iter().map(AsRef::as_ref), replay);
            }
            if request.start == Start::New {
                replay.tell_ends();
            }
        }
        if replay.joins(request.join) {
            replay.ends.clear();
            for names in request.names.chunks(AT_ONCE) {
                self.state.lock_for_step().join_some(names.iter().map(AsRef::as_ref), request.shard, ids);
            }
            self.state.lock_for_step().read_rest(request, ids, &begun, replay);
            replay.sort();
        }
        replay.all_ended = replay.ends.len() == request.names.len();
        self.put_off_if_broken(replay);
    }

    /// The same for a subscriber that has some channels by their names already. Patterns of the request read nothing of
    /// these.
    pub(crate) fn subscribe_beside<S: AsRef<str>>(
        &self,
        request: &Request<'_, S>,
        others: &[Arc<str>],
        replay: &mut Replay,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) {
        if !request.has_patterns() {
            return self.subscribe(request, replay, ids);
        }
        replay.clear();
        ids.clear();
        self.subscribe_with_patterns(request, others, replay, ids);
    }

    /// The steps before a break and those after it read two histories.
    fn put_off_if_broken(&self, replay: &mut Replay) {
        let broken = |(_, breaks): &(Epoch, u32)| self.state.lock().life().is_none_or(|(_, now)| now != *breaks);
        if replay.life.as_ref().is_some_and(broken) {
            replay.put_off();
        }
    }

    /// The same for a request with patterns. A channel that a pattern fits may come at any time, so the shard joins first.
    /// Then the subscriber is given what was published up to there, and the mailbox has everything behind it. It has
    /// joined also if there is something to send to a poll at once.
    fn subscribe_with_patterns<S: AsRef<str>>(
        &self,
        request: &Request<'_, S>,
        others: &[Arc<str>],
        replay: &mut Replay,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) {
        debug_assert!(!matches!(request.start, Start::After(_) | Start::BeginningAfter(_)), "{:?}", request.start);
        debug_assert!(request.cut == Cut::Head);
        let (patterns, names) = parted(request.names);
        // A poll that does not wait is only read: its next request goes on at the number up to which it was read.
        let joins = request.join != Join::Never;
        {
            let mut state = self.state.lock();
            replay.life = state.life();
            if !state.has_reached(request.start) {
                return replay.put_off();
            }
            if joins && !state.join_patterns(&patterns, request.shard, ids) {
                replay.put_off();
                replay.is_full = true;
                return;
            }
        }
        for names in names.chunks(AT_ONCE).filter(|_| joins) {
            self.state.lock_for_step().join_some(names.iter().copied(), request.shard, ids);
        }
        let mut reading = self.state.lock_for_step().begin_joined(request, self.epoch.as_str());
        (replay.position, replay.since, replay.has) = (reading.until(), reading.since(request), reading.has(request));
        for names in names.chunks(AT_ONCE) {
            self.state.lock_for_step().note_ends(names.iter().copied(), replay);
        }
        if request.start == Start::New {
            replay.tell_ends();
        } else if !reading.is_up_to_date() {
            let named: Vec<&str> = names.iter().copied().chain(others.iter().map(|name| &**name)).collect();
            let mut search = self.state.lock_for_step().begin_search(&patterns, &named, &reading);
            for names in names.chunks(AT_ONCE) {
                self.state.lock_for_step().find_first(names.iter().copied(), &mut reading, replay);
            }
            if request.wants_broadcasts() {
                self.state.lock_for_step().find_first([""].into_iter(), &mut reading, replay);
            }
            while self.state.lock_for_step().find_fitting(&mut search, &mut reading) {}
            while self.state.lock_for_step().find_gone(&mut search, &reading) {}
            while self.state.lock_for_step().take_some(&mut reading, replay) {}
            self.state.lock_for_step().end_search(&mut search, &reading, replay);
            reading.tell_left(replay);
            replay.sort();
            replay.cut_head(request.limit);
            search.tell(replay);
        }
        replay.read_from = ReadFrom::of(replay);
        #[cfg(test)]
        if !joins && planted::is(planted::Mistake::ReadIsAhead) {
            replay.position = self.seq();
        }
        self.put_off_if_broken(replay);
    }

    /// Reads without subscribing. Returns the channels of which something was read.
    fn read_in_steps<S: AsRef<str>>(&self, request: &Request<'_, S>, replay: &mut Replay) -> HashSet<Arc<str>> {
        let mut reading = {
            let state = self.state.lock_for_step();
            replay.life = state.life();
            if !state.has_reached(request.start) {
                replay.put_off();
                return HashSet::new();
            }
            state.begin_reading(request, self.epoch.as_str())
        };
        (replay.position, replay.since, replay.has) = (reading.until(), reading.since(request), reading.has(request));
        if request.start == Start::New {
            return HashSet::new();
        }
        for names in request.names.chunks(AT_ONCE) {
            self.state.lock_for_step().find_first(names.iter().map(AsRef::as_ref), &mut reading, replay);
        }
        if request.wants_broadcasts() {
            self.state.lock_for_step().find_first([""].into_iter(), &mut reading, replay);
        }
        while self.state.lock_for_step().take_some(&mut reading, replay) {}
        reading.tell_left(replay);
        replay.sort();
        if request.newest_first() {
            replay.cut_head(request.limit);
        } else {
            replay.cut_tail(request.limit);
            if self.state.lock_for_step().has_log() {
                replay.tell_later_gaps();
            }
        }
        reading.begun()
    }

    /// Ends subscriptions of a shard.
    pub fn leave(&self, shard: usize, leaves: &[Leave]) {
        let mut parts = leaves.chunks(AT_ONCE);
        // Mostly there is only one part, and then this thread has not just had the lock: there is nobody to give way to.
        if let Some(first) = parts.next() {
            self.state.lock().leave(shard, first);
        }
        for part in parts {
            self.state.lock_for_step().leave(shard, part);
        }
    }
}
