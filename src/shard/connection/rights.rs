//! Changes of a live connection's rights. The host takes channels or everything from a user, or gives a connection a
//! new grant. The client sends a new token in time.

use crate::dialect::push::replies;
use crate::events::EventKind;
use crate::framing::close::Close;
use crate::framing::ws_frames;
use crate::framing::Transport;
use crate::grant::Grant;
use crate::hub::ChannelPattern;
use crate::shard::client::sweep::Tally;
use crate::shard::connection::conn::{Conn, Flags, Phase};
use crate::shard::connection::events::host;
use crate::shard::Shard;
use crate::sys::clock;
use std::collections::HashMap;
use std::sync::Arc;

/// A user who is to be disconnected.
#[derive(Debug)]
pub(in crate::shard) struct ToClose {
    pub(in crate::shard) user: Arc<str>,
    pub(in crate::shard) close: Close,
    /// Counts the connections, if somebody wants to know.
    pub(in crate::shard) tally: Option<Arc<Tally>>,
}

impl Shard {
    /// Closes all connections of some users, each as was said first.
    pub(in crate::shard) fn close_users(&mut self, users: Vec<ToClose>) {
        users.iter().for_each(|one| self.forget_left_checks_of(&one.user));
        if let [one] = &users[..] {
            let theirs = self.of_user(&one.user);
            return theirs.into_iter().for_each(|index| self.close_for(index, one));
        }
        if users.is_empty() {
            return;
        }
        let mut closes: HashMap<&str, &ToClose> = HashMap::with_capacity(users.len());
        for one in &users {
            closes.entry(&one.user).or_insert(one);
        }
        let of = |conn: &Conn| closes.get(&**conn.grant.as_ref()?.user()?).copied();
        let theirs = self.conns.iter().filter_map(|(index, conn)| Some((index as u32, of(conn)?)));
        let theirs: Vec<(u32, &ToClose)> = theirs.collect();
        theirs.into_iter().for_each(|(index, one)| self.close_for(index, one));
    }

    fn close_for(&mut self, index: u32, one: &ToClose) {
        if let Some(tally) = one.tally.as_ref().filter(|_| self.is_there(index)) {
            tally.add(1);
        }
        // Nothing of it is published any more.
        self.forget_checks(self.token(index));
        self.close(index, one.close.clone());
    }

    /// Takes channels from all connections of a user, for as long as those last.
    pub(in crate::shard) fn revoke(&mut self, user: &str, channels: &ChannelPattern, reason: &str) {
        self.revoke_checks(user, channels);
        for index in self.of_user(user) {
            let Some(Conn { grant: Some(grant), .. }) = self.conns.get_mut(index as usize) else { continue };
            *grant = Arc::new(grant.without(channels));
            self.lose_channels(index, reason);
        }
    }

    /// Gives a connection another grant: it may go on until that ends, on those of its channels that it names.
    pub(in crate::shard) fn renew(&mut self, index: u32, grant: Grant) {
        let Some(conn) = self.conns.get_mut(index as usize).filter(|conn| conn.phase != Phase::Closing) else { return };
        if !conn.is(Flags::ADOPTED) && !matches!(conn.phase, Phase::Open(_)) {
            // The grant is for a poll that has ended. The next poll may be another user's, and has its own grant.
            return;
        }
        // The host that gets the connection's events stays the same.
        let host = host(conn);
        let ended_at = conn.grant.as_ref().and_then(|grant| grant.expires_at());
        let before = conn.grant.clone();
        let user = before.as_ref().and_then(|grant| grant.user()).cloned();
        if user.as_ref() != grant.user() {
            // What waits for the host is the user's before. Published later, it would be the new user's.
            let of = self.token(index);
            self.end_calls_of_user_before(index);
            self.end_checks_of_user_before(of);
            if !self.is_there(index) {
                return;
            }
        }
        self.change_user(index, |shard| shard.conns[index as usize].grant = Some(Arc::new(grant.of_host(host))));
        if self.close_if_user_changed(index, user.as_deref()) {
            return;
        }
        self.lose_channels(index, "not in the new grant");
        self.renew_presence(index, before.as_deref());
        self.reschedule(index, ended_at);
    }

    /// Ends the subscriptions that the grant does not allow any more. A client without any channel left is closed. A
    /// client of the subprotocol is told instead, since it may ask for another channel.
    fn lose_channels(&mut self, index: u32, reason: &str) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let (Some(grant), Phase::Open(_)) = (conn.grant.clone(), conn.phase) else { return };
        let users_have_channels = self.config.user_channel;
        let is_lost = |name: &str| !grant.gives(name, users_have_channels);
        let mut awaited = Vec::new();
        let mut keeps_some = false;
        if let Some(catch_up) = conn.outbox.as_mut().and_then(|outbox| outbox.catch_up.as_mut()) {
            let (lost, kept) = std::mem::take(&mut catch_up.names).into_iter().partition(|name| is_lost(name));
            catch_up.names = kept;
            keeps_some = !catch_up.names.is_empty();
            awaited = lost;
        }
        let tells = conn.format.takes_requests();
        let mut lost = self.subscriptions.channels.leave_lost(&mut self.conns, index, is_lost);
        lost.extend(awaited.into_iter().map(Arc::from));
        if lost.is_empty() {
            return;
        }
        for name in &lost {
            self.leave_channel(index, name);
            self.tell_of_channel(index, EventKind::Unsubscribe, || name.clone());
        }
        if tells {
            let told = lost.iter().flat_map(|name| ws_frames::text(&replies::taken_away(name, reason)));
            self.transmit_bytes(index, told.collect::<Vec<u8>>());
        } else if !keeps_some && self.conns[index as usize].subs.len() == 0 {
            let reason = reason.to_owned().into();
            self.close(index, Close { reason, ..Close::NOT_ALLOWED });
        } else {
            // Those that are left may all have ended.
            self.close_if_ended(index);
        }
    }

    /// Sets a connection's timer anew, now that its grant ends at another time than `ended_at`. Other timers stay as
    /// they are: a client that is renewed again and again must still be pinged.
    fn reschedule(&mut self, index: u32, ended_at: Option<i64>) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if !matches!(conn.phase, Phase::Open(_)) {
            // It waits for something else first, and its grant is looked at then.
            return;
        }
        let (wait, beat) = (self.timers.wheel.ms_until(conn.timer.deadline, self.turn.now), self.heartbeat_ms());
        let conn = &self.conns[index as usize];
        let within = |at: i64, ms: u64| at - clock::unix_seconds() <= (ms / 1000) as i64 + 1;
        // Then its timer was set for the end of the old grant.
        let for_its_end = ended_at.is_some_and(|at| within(at, wait));
        let soon_again = conn.grant.as_ref().and_then(|grant| grant.expires_at()).is_some_and(|at| within(at, beat));
        let wait = match conn.phase {
            Phase::Open(Transport::Poll) if for_its_end => self.config().poll_timeout_ms,
            Phase::Open(_) if for_its_end && conn.is(Flags::UNANSWERED) => self.config().ping_timeout_ms,
            // One with short grants would never be pinged.
            Phase::Open(_) if for_its_end && !soon_again => beat,
            _ => wait,
        };
        self.schedule(index, wait);
    }

    fn of_user(&self, user: &str) -> Vec<u32> {
        let theirs =
            |conn: &Conn| conn.grant.as_ref().and_then(|grant| grant.user()).is_some_and(|name| **name == *user);
        self.conns.iter().filter(|(_, conn)| theirs(conn)).map(|(index, _)| index as u32).collect()
    }
}
