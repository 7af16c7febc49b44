//! Reading and joining as one, however much there is to read.

use super::replay::{Replay, Request, Start};
use super::state::AT_ONCE;
use super::{ChannelId, Hub, Leave};
use std::collections::HashSet;
use std::sync::Arc;

impl Hub {
    /// Reads what a subscriber missed into `replay` and subscribes the shard.
    ///
    /// When all fitted (`replay.complete`) and the request is to join, `ids` holds the channels' numbers and names, and
    /// messages after `replay.position` come through the shard's mailbox; what comes through it up to that number is in
    /// the replay already. When it was cut, nothing is subscribed and `ids` is empty: ask again with [`Start::After`]
    /// `replay.position`.
    ///
    /// Mostly that is done under one lock, in some microseconds. For those who ask for more the lock is taken again and
    /// again, each time for as long as some hundred channels or messages need.
    pub fn subscribe<S: AsRef<str>>(
        &self,
        request: &Request<'_, S>,
        replay: &mut Replay,
        ids: &mut Vec<(ChannelId, Arc<str>)>,
    ) {
        replay.clear();
        // Also where nothing is subscribed: an earlier client's numbers must not be taken for this one's.
        ids.clear();
        let few = request.names.len() <= AT_ONCE;
        if few && self.state.lock().subscribe(request, self.epoch.as_str(), replay, ids) {
            return;
        }
        let begun = self.read_in_steps(request, replay);
        if replay.joins(request.join) {
            for names in request.names.chunks(AT_ONCE) {
                self.state.lock().join_some(names.iter().map(AsRef::as_ref), request.shard, ids);
            }
            self.state.lock().read_rest(request, ids, &begun, replay);
            replay.sort();
        }
    }

    /// All but joining; says of which channels something was read.
    fn read_in_steps<S: AsRef<str>>(&self, request: &Request<'_, S>, replay: &mut Replay) -> HashSet<Arc<str>> {
        let mut reading = self.state.lock().begin_reading(request, self.epoch.as_str());
        replay.position = reading.until();
        if request.start == Start::New {
            return HashSet::new();
        }
        for names in request.names.chunks(AT_ONCE) {
            self.state.lock().find_first(names.iter().map(AsRef::as_ref), &mut reading, replay);
        }
        if request.wants_broadcasts() {
            self.state.lock().find_first([""].into_iter(), &mut reading, replay);
        }
        while self.state.lock().take_some(&mut reading, replay) {}
        replay.sort();
        if request.newest_first() {
            replay.cut_head(request.limit);
        } else {
            replay.cut_tail(request.limit);
        }
        reading.begun()
    }

    /// Takes back subscriptions of a shard.
    pub fn leave(&self, shard: usize, leaves: &[Leave]) {
        for some in leaves.chunks(AT_ONCE) {
            self.state.lock().leave(shard, some);
        }
    }
}
