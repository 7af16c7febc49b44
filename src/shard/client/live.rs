//! Requests of `push.v1.json` that change the channels and patterns of a live connection.
//!
//! A channel that is named and that patterns fit is had once. So a replay leaves out what the connection has already: a
//! new pattern begins nothing anew that is had by name, and what came by a pattern does not come again by name.

use super::push_v1::Answer;
use crate::dialect::push::replies;
use crate::dialect::push::requests::{self, ClientSubscription, Refused};
use crate::events::EventKind;
#[cfg(test)]
use crate::hub::planted;
use crate::hub::{check_channel, check_pattern, is_pattern, pattern_fits, ChannelId, Cut, Join, Request, Start};
use crate::shard::connection::conn::{Conn, Flags};
use crate::shard::presence::follows::Known;
use crate::shard::Shard;
use std::sync::Arc;

impl Shard {
    /// Subscribes to a channel, or to a pattern (`by_pattern`).
    pub(in crate::shard) fn subscribe_live(&mut self, index: u32, subscription: &ClientSubscription<'_>) -> Answer {
        let ClientSubscription { name, by_pattern, since, last, follows } = subscription;
        let (name, by_pattern, follows) = (&**name, *by_pattern, *follows);
        self.check_name(name, by_pattern)?;
        if by_pattern && follows {
            let message = "presence is of a channel and not of a pattern: leave it out, or name the channel";
            return Err(Refused::new("presence", message));
        }
        let conn = &self.conns[index as usize];
        if !conn.is(Flags::LIVE) {
            return Err(Refused::new("catching_up", "missed messages of this connection are still being sent"));
        }
        self.check_given(conn, name)?;
        let start = requests::start(since.as_deref(), *last)?;
        if self.live_id(name).is_some_and(|id| self.subscriptions.channels.is_on(conn, index, id)) {
            return Err(Refused::new("subscribed", "subscribed already; unsubscribe first to begin elsewhere"));
        }
        self.check_number(index, by_pattern)?;
        self.read_live(index, name, start);
        #[cfg(test)]
        if let Some(meanwhile) = self.subscriptions.meanwhile.take() {
            meanwhile(&self.context.hub);
        }
        let token = self.token(index);
        self.reach_replay();
        let is_there = self.find(token).is_some_and(|index| self.conns[index as usize].is(Flags::LIVE));
        if !is_there || self.subscriptions.replay.wait {
            self.subscriptions.abandon();
            return if is_there { Err(self.put_off_live()) } else { Ok(None) };
        }
        if !self.subscriptions.replay.complete {
            let message = "more is kept of this channel than fits into a live connection (option outbox); open a \
                           connection whose URL has this channel and since=start";
            return Err(Refused::new("since", message));
        }
        let joined = self.subscriptions.replay.position;
        // First come messages of the other channels up to there: the position below counts for all channels.
        let aside = self.subscriptions.set_aside();
        self.deliver_until(joined);
        self.subscriptions.put_back(aside);
        if self.find(token).is_none_or(|index| !self.conns[index as usize].is(Flags::LIVE)) {
            return Ok(None);
        }
        // Acts stand among those messages, and may have taken the channel away. It was not listed yet, so nothing else
        // has ended this subscription.
        self.check_given(&self.conns[index as usize], name)?;
        self.subscriptions.reclaim();
        self.leave_out_known(index, name, start);
        self.count_gaps();
        self.subscriptions.join(&mut self.conns, index);
        self.tell_of_channel(index, EventKind::Subscribe, || Arc::from(name));
        self.enter_channel(index, name);
        if follows {
            self.follow(index, name, Known::Nothing);
        }
        let mut pieces = Vec::new();
        self.add_replay(index, &mut pieces);
        self.transmit(index, &pieces);
        // This comes after the replay: a client that stores the position has everything before it.
        Ok(Some(replies::subscribed(name, &self.encoder.epoch().position(joined))))
    }

    pub(in crate::shard) fn unsubscribe_live(&mut self, index: u32, name: &str, by_pattern: bool) -> Answer {
        let known = self.live_id(name).filter(|_| is_pattern(name) == by_pattern);
        if !known.is_some_and(|id| self.subscriptions.channels.leave_one(&mut self.conns, index, id)) {
            return Err(Refused::new("not_subscribed", "not subscribed"));
        }
        if !by_pattern {
            // A pattern that fits it may have begun without it.
            self.subscriptions.channels.forget_read(&self.conns[index as usize], index, name);
            self.leave_channel(index, name);
        }
        self.tell_of_channel(index, EventKind::Unsubscribe, || Arc::from(name));
        Ok(Some(replies::unsubscribed(name)))
    }

    /// Whether a client may write this where it does.
    fn check_name(&self, name: &str, by_pattern: bool) -> Result<(), Refused> {
        if !by_pattern {
            return check_channel(name).map_err(|error| Refused::new("channel", error.to_string()));
        }
        if self.config().max_patterns == 0 {
            let message = "nobody may subscribe to patterns here (option max_patterns); name channels";
            return Err(Refused::new("pattern", message));
        }
        check_pattern(name).map_err(|(code, message)| Refused::new(code, message))
    }

    /// Whether a connection's grant gives it a channel, or covers a pattern.
    fn check_given(&self, conn: &Conn, name: &str) -> Result<(), Refused> {
        let gives = conn.grant.as_ref().is_none_or(|grant| grant.gives(name, self.config.user_channel));
        match gives {
            true => Ok(()),
            false if is_pattern(name) => {
                Err(Refused::new("channel", "not allowed; the grant needs a pattern that covers it"))
            }
            false => Err(Refused::new("channel", "not allowed")),
        }
    }

    /// Whether a connection may have one more.
    fn check_number(&self, index: u32, by_pattern: bool) -> Result<(), Refused> {
        let (conn, config) = (&self.conns[index as usize], self.config());
        let patterns = || self.subscriptions.channels.patterns_of(conn);
        if by_pattern && patterns() >= config.max_patterns {
            let message = format!("more than {} patterns (option max_patterns)", config.max_patterns);
            return Err(Refused::new("patterns", message));
        }
        let (count, max) = (conn.subs.len(), config.max_channels);
        if !by_pattern && count >= max && count - self.given_channels(index) - patterns() >= max {
            return Err(Refused::new("channels", format!("more than {max} channels (option max_channels)")));
        }
        Ok(())
    }

    /// The number under which connections of this shard may have a channel or pattern.
    fn live_id(&self, name: &str) -> Option<ChannelId> {
        match is_pattern(name) {
            true => self.subscriptions.channels.id_of_pattern(name),
            false => self.context.hub.channel_id(name),
        }
    }

    /// Reads what was missed, and subscribes at the hub.
    fn read_live(&mut self, index: u32, name: &str, start: Start<'_>) {
        let by_pattern = is_pattern(name);
        let request = Request {
            shard: self.handle.number,
            names: &[name],
            start,
            limit: if by_pattern { self.replay_limit() / 2 } else { self.config.outbox },
            broadcasts: false,
            // The connection is live on other channels: it can't be held back for this one. Of a stream nothing is cut.
            cut: if start == Start::Beginning && !by_pattern { Cut::Tail } else { Cut::Head },
            join: Join::Always,
        };
        let others = match by_pattern {
            true => self.subscriptions.channels.names_fitted(&self.conns[index as usize], name),
            false => Vec::new(),
        };
        self.subscriptions.subscribe_beside(&self.context.hub, &request, &others);
    }

    /// The reason why the hub has given nothing.
    fn put_off_live(&self) -> Refused {
        if self.subscriptions.replay.is_full {
            let message = "no room for one more pattern (option patterns_total); try again later";
            return Refused::new("patterns_total", message);
        }
        Refused::new("behind", "the server has not reached that position yet; try again")
    }

    /// Takes out of the replay what the connection has got by its patterns up to now, and tells the ends of channels.
    fn leave_out_known(&mut self, index: u32, name: &str, start: Start<'_>) {
        let theirs = self.subscriptions.channels.patterns_read(&self.conns[index as usize], index);
        let has_after = |channel: &str| {
            let fitting = theirs.iter().filter(|(pattern, _)| pattern_fits(pattern, channel));
            fitting.map(|(_, after)| *after).min()
        };
        #[cfg(test)]
        let has_after = |channel: &str| has_after(channel).filter(|_| !planted::is(planted::Mistake::KnownComesAgain));
        let replay = &mut self.subscriptions.replay;
        // Without a position there are only ends in it.
        if start != Start::New && !theirs.is_empty() {
            replay.leave_out(|channel| has_after(channel).unwrap_or(u64::MAX));
        }
        replay.tell_passed_ends();
        #[cfg(test)]
        if planted::is(planted::Mistake::KnownEndIsNotTold) {
            return;
        }
        if start != Start::New && !is_pattern(name) && has_after(name).is_some() {
            replay.tell_known_ends();
        }
    }
}
