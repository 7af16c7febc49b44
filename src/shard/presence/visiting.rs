//! Connections enter channels, and leave them.

use super::visits::Place;
use crate::context::presence::{has_members, is_used, visitor};
use crate::grant::Grant;
use crate::http::request::Subscribe;
use crate::log::Level;
#[cfg(test)]
use crate::presence::planted;
use crate::presence::Visit;
use crate::shard::connection::conn::Phase;
use crate::shard::Shard;
use std::sync::Arc;

impl Shard {
    /// A connection has opened: its user enters the channels that it names, and it follows these if it has asked for
    /// that. A poll that is answered at once enters as well, and leaves with the answer: so its user is there until it
    /// polls again.
    pub(in crate::shard) fn begin_presence(&mut self, index: u32, subscribe: &Subscribe<'_>) {
        if is_used(&self.config) {
            // They are noted in this order: each comes behind the others, and thousands are not moved for each other.
            let mut names: Vec<&str> = subscribe.channels.iter().map(|name| &**name).collect();
            names.sort_unstable();
            names.into_iter().for_each(|name| self.enter_channel(index, name));
        }
        if subscribe.follows.is_some() {
            self.begin_following(index, subscribe);
        }
    }

    /// A connection has a channel by name. If it has a user and the channel has presence, the user is there.
    pub(in crate::shard) fn enter_channel(&mut self, index: u32, name: &str) {
        if self.side.visits.has(index, name) || !has_members(&self.config, name) {
            return;
        }
        let grant = self.conns.get(index as usize).and_then(|conn| conn.grant.clone());
        if let Some(grant) = grant {
            self.enter_as(index, name, &grant);
        }
    }

    fn enter_as(&mut self, index: u32, name: &str, grant: &Grant) {
        let (Some(user), now) = (visitor(grant), self.turn.now) else { return };
        let known = self.context.presence.enter(Visit { channel: name, user, info: grant.info() }, now);
        let is_member = known.is_some();
        if !is_member && !self.side.visits.has(index, name) {
            let text = format_args!(
                "there is no room to show that one more user is on a channel (option presence_total); it is tried again"
            );
            self.context.log.limited(Level::Warn, "presence_total", text);
        }
        let channel = known.unwrap_or_else(|| Arc::from(name));
        self.side.visits.note(index, user, Place { channel, is_member }, now);
    }

    /// A connection has a channel no more: it leaves it, and follows it no more.
    pub(in crate::shard) fn leave_channel(&mut self, index: u32, name: &str) {
        self.unfollow(index, name);
        self.leave_one_place(index, name);
    }

    pub(super) fn leave_one_place(&mut self, index: u32, name: &str) {
        if let Some((user, place)) = self.side.visits.take(index, name) {
            self.leave_place(&user, &place);
            self.side.visits.settle(index);
        }
    }

    /// A connection has no channels any more.
    pub(in crate::shard) fn end_presence(&mut self, index: u32) {
        self.unfollow_all(index);
        self.leave_all_places(index);
    }

    fn leave_all_places(&mut self, index: u32) {
        #[cfg(test)]
        if planted::is(planted::Mistake::NobodyLeaves) {
            return;
        }
        let Some(visitor) = self.side.visits.take_all(index) else { return };
        visitor.places.iter().for_each(|place| self.leave_place(&visitor.user, place));
    }

    fn leave_place(&mut self, user: &str, place: &Place) {
        if place.is_member {
            let end = self.context.presence.leave(&place.channel, user, self.turn.now);
            self.side.visits.await_end(end);
        }
    }

    /// A connection has another grant than `before`, and has lost the channels that this one does not give. Its user
    /// enters those that are left, if it is another one or something else is told of it. A connection that had no user
    /// has entered nothing.
    pub(in crate::shard) fn renew_presence(&mut self, index: u32, before: Option<&Grant>) {
        let Some(conn) = self.conns.get(index as usize).filter(|conn| matches!(conn.phase, Phase::Open(_))) else {
            return;
        };
        let grant = conn.grant.clone();
        let user = grant.as_ref().and_then(|grant| grant.user());
        if self.side.visits.of(index).is_some_and(|visitor| Some(&visitor.user) != user) {
            self.leave_all_places(index);
        } else if grant.as_ref().and_then(|grant| grant.info()) != before.and_then(|before| before.info()) {
            self.enter_anew(index, grant.as_deref());
        }
        self.enter_all(index);
    }

    /// Something else is told of a connection's user. It enters before it leaves, so that it is there all the time.
    fn enter_anew(&mut self, index: u32, grant: Option<&Grant>) {
        let places = self.side.visits.of(index).map(|visitor| visitor.places.clone()).unwrap_or_default();
        for place in places {
            if let Some(grant) = grant {
                self.enter_as(index, &place.channel, grant);
            }
            if let Some(user) = grant.and_then(|grant| grant.user()).cloned() {
                self.leave_place(&user, &place);
            }
        }
    }

    /// A connection's user enters all channels with presence that it has by name, unless it has done so.
    pub(super) fn enter_all(&mut self, index: u32) {
        if !is_used(&self.config) {
            return;
        }
        let mut names = self.names_of(index);
        names.sort_unstable();
        names.iter().for_each(|name| self.enter_channel(index, name));
    }

    /// The channels and patterns that a connection has, those included that it has not caught up with.
    pub(super) fn names_of(&self, index: u32) -> Vec<Arc<str>> {
        let Some(conn) = self.conns.get(index as usize) else { return Vec::new() };
        let mut names = self.subscriptions.channels.names(conn);
        names.extend(conn.awaited().iter().map(|name| Arc::from(&**name)));
        names
    }

    /// Tries again to enter channels for which there was no room.
    pub(super) fn enter_again(&mut self) {
        for index in self.side.visits.next_again(self.turn.now) {
            let grant = self.conns.get(index as usize).and_then(|conn| conn.grant.clone());
            let Some((grant, visitor)) = grant.zip(self.side.visits.of(index)) else { continue };
            let refused: Vec<Place> = visitor.places.iter().filter(|place| !place.is_member).cloned().collect();
            refused.iter().for_each(|place| self.enter_as(index, &place.channel, &grant));
            self.side.visits.settle(index);
        }
    }

    /// Has members leave whose time is over.
    pub(super) fn end_graces(&mut self) {
        let now = self.turn.now;
        if self.side.visits.ends_at.is_none_or(|at| at > now) {
            return;
        }
        let next = self.context.presence.expire(now);
        let until = self.side.visits.ends_until;
        self.side.visits.ends_at = next.filter(|at| *at <= until);
    }
}
