//! Reads missed messages and subscribes in one step, however much there is to read.

use super::replay::{Join, Replay, Request, Start};
use super::state::AT_ONCE;
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
        // The steps before a break and those after it read two histories.
        let broken = |(_, breaks): &(Epoch, u32)| self.state.lock().life().is_none_or(|(_, now)| now != *breaks);
        if replay.life.as_ref().is_some_and(broken) {
            replay.put_off();
        }
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
