//! What a log that hubs share has in its place among the messages: breaks, which are another epoch and perhaps a loss,
//! and acts on users, which other hubs have asked for.
//!
//! Only hubs that follow a log have these, so other hubs deliver by code that does not look for them.

use crate::framing::close::Close;
use crate::framing::poll::Note;
use crate::framing::Transport;
use crate::hub::{Act, ChannelPattern, Delivery, Epoch, GapPosition, Item};
use crate::shard::connection::conn::{Flags, Phase, Subs};
use crate::shard::connection::rights::ToClose;
use crate::shard::delivery::delivering::Delivering;
use crate::shard::delivery::fan_out::{deliver_taken, BATCH, BATCHES};
use crate::shard::delivery::outbox::Piece;
use crate::shard::Shard;
use std::sync::Arc;

/// Acts that are done at once. One search serves all users that are disconnected in a row.
const ACTS: usize = 1024;

/// What is done with that which is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shard) enum Markers {
    /// All of it, in its turn.
    All,
    /// Acts are done. A break stops the delivery.
    Acts,
    /// Breaks are met. Acts, and what a break means for users, are put off: the caller has a connection under way that
    /// they may end.
    Breaks,
}

impl Delivering {
    /// Takes a batch from the mailbox, up to a marker or a message and not beyond.
    fn take_to_break(&mut self, next: impl Fn() -> Option<Delivery>, position: u64) -> Vec<Delivery> {
        let mut batch = self.take_list();
        while batch.len() < BATCH {
            let Some(delivery) = self.held.take().or_else(&next) else { break };
            if delivery.message.seq() > position || delivery.is_marker() {
                self.held = Some(delivery);
                break;
            }
            batch.push(delivery);
        }
        batch
    }
}

impl Shard {
    /// Delivers the mailbox, with its breaks. Returns true if there may be more.
    pub(in crate::shard) fn deliver_with_breaks(&mut self) -> bool {
        self.do_put_off();
        (0..BATCHES).all(|_| self.deliver_some(u64::MAX, Markers::All))
    }

    /// Delivers a batch of the mailbox up to a message and not beyond, or else meets the markers that come next, if it
    /// may. Returns true if there may be more.
    pub(in crate::shard) fn deliver_some(&mut self, position: u64, markers: Markers) -> bool {
        let mailbox = &self.handle.mailbox;
        let batch = self.delivery.take_to_break(|| mailbox.pop(), position);
        if !batch.is_empty() {
            return deliver_taken(self, batch) || self.delivery.held.as_ref().is_some_and(Delivery::is_marker);
        }
        self.delivery.recycle(batch);
        if self.delivery.held.as_ref().is_some_and(|held| held.is_act() && held.message.seq() <= position) {
            self.take_acts(position);
            if markers != Markers::Breaks {
                self.do_put_off();
            }
            return true;
        }
        let breaks = markers != Markers::Acts;
        let Some((epoch, gap)) = self.delivery.held.as_ref().filter(|_| breaks).and_then(Delivery::as_break) else {
            return false;
        };
        if let Some(held) = self.delivery.held.take().filter(Delivery::may_lack_acts) {
            self.delivery.put_off.push(held);
            if markers != Markers::Breaks {
                self.do_put_off();
            }
        }
        self.meet_break(epoch, gap);
        true
    }

    /// Delivers what the mailbox has, before a connection begins: acts that stand there are older, and do not mean it. A
    /// user who is sent away by one shard may come back before another one has done the same act.
    pub(in crate::shard) fn do_acts_first(&mut self) {
        if self.context.engine.is_shared() && self.deliver_with_breaks() {
            // The rest comes with the next turn.
            self.handle.mailbox.wake();
        }
    }

    /// Takes acts from the mailbox, up to a message and not beyond.
    fn take_acts(&mut self, position: u64) {
        let (delivery, mailbox) = (&mut self.delivery, &self.handle.mailbox);
        for _ in 0..ACTS {
            let Some(next) = delivery.held.take().or_else(|| mailbox.pop()) else { return };
            if !next.is_act() || next.message.seq() > position {
                delivery.held = Some(next);
                return;
            }
            delivery.put_off.push(next);
        }
    }

    /// Does the acts that were taken, and what breaks mean for users, in their order.
    pub(in crate::shard) fn do_put_off(&mut self) {
        let mut users = Vec::new();
        for act in std::mem::take(&mut self.delivery.put_off) {
            if act.may_lack_acts() {
                self.close_users(std::mem::take(&mut users));
                self.close_users_anew();
            }
            match act.as_act() {
                Some(Act::Disconnect { user, code, reason }) => {
                    let close = Close::new(code, reason.to_owned());
                    users.push(ToClose { user: user.into(), close, tally: None });
                }
                Some(Act::Revoke { user, channels, reason }) => {
                    self.close_users(std::mem::take(&mut users));
                    let Ok(channels) = ChannelPattern::written(channels) else { continue };
                    self.revoke(user, &channels, reason);
                }
                Some(Act::Later(_)) | None => {}
            }
        }
        self.close_users(users);
    }

    /// Delivers the mailbox up to the break behind which the hub has read a replay: its positions are of the epoch
    /// there. Returns true if that was ahead.
    pub(in crate::shard) fn reach_replay(&mut self) -> bool {
        let Some((_, breaks)) = self.subscriptions.replay.life else { return false };
        if breaks == self.delivery.breaks {
            return false;
        }
        let aside = self.subscriptions.set_aside();
        while self.delivery.breaks != breaks && self.deliver_some(u64::MAX, Markers::Breaks) {}
        self.subscriptions.put_back(aside);
        self.subscriptions.reclaim();
        true
    }

    /// The log goes on in another epoch. `gap`: and something is lost; subscribers of this moment get everything after
    /// that number.
    fn meet_break(&mut self, epoch: Epoch, gap: Option<u64>) {
        if gap.is_some() {
            self.close_those_behind();
        }
        self.encoder = Arc::new(self.encoder.of_epoch(epoch));
        self.delivery.breaks = self.delivery.breaks.wrapping_add(1);
        let Some(gap) = gap else { return };
        self.delivery.delivered = gap;
        self.delivery.settled = self.delivery.settled.min(gap);
        self.subscriptions.channels.go_back_to(gap);
        let live = self.conns.iter().filter(|(_, conn)| conn.is(Flags::LIVE)).map(|(index, _)| index as u32);
        for index in live.collect::<Vec<_>>() {
            self.tell_loss(index, gap);
        }
    }

    /// The log has lost entries that this hub has not read. Some may have been acts on users, so all users come back, and
    /// get what their grants say then. What they have published and waits for the host is not published: the rights for
    /// it may be gone.
    fn close_users_anew(&mut self) {
        self.forget_left_checks(true);
        let theirs =
            self.conns.iter().filter(|(_, conn)| conn.grant.as_ref().is_some_and(|grant| grant.user().is_some()));
        for index in theirs.map(|(index, _)| index as u32).collect::<Vec<_>>() {
            self.forget_checks(self.token(index));
            self.close(index, Close::LOST);
        }
    }

    /// Clients for which something still waits may not get it under the next epoch: there its numbers are those of other
    /// messages. They come back with what they really have.
    fn close_those_behind(&mut self) {
        let behind = self.conns.iter().filter(|(_, conn)| {
            conn.outbox.is_some() && matches!(conn.phase, Phase::Open(transport) if transport != Transport::Poll)
        });
        for index in behind.map(|(index, _)| index as u32).collect::<Vec<_>>() {
            self.close_slow(index, Close::LOST);
        }
    }

    /// Tells a subscriber that messages are lost in each of its channels.
    fn tell_loss(&mut self, index: u32, gap: u64) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.joined = conn.joined.min(gap);
        if let Subs::Many(subs) = &mut conn.subs {
            subs.iter_mut().for_each(|sub| sub.joined = sub.joined.min(gap));
        }
        let (conn, epoch) = (&self.conns[index as usize], self.encoder.epoch());
        let names = self.subscriptions.channels.names(conn);
        if conn.phase == Phase::Open(Transport::Poll) {
            let items: Vec<Item> = names.into_iter().map(|name| Item::Loss(name, gap)).collect();
            self.handle.metrics.gaps.add(items.len() as u64);
            let of_last = |at: usize| if at == items.len() { GapPosition::Behind(gap) } else { GapPosition::Elsewhere };
            let positions: Vec<GapPosition> = (1..=items.len()).map(of_last).collect();
            self.answer_alone(index, (&items, &positions, &[]), gap, Note::None);
            return;
        }
        if !conn.format.tells_gaps() {
            return self.close(index, Close::LOST);
        }
        self.handle.metrics.gaps.add(names.len() as u64);
        let (chunks, last) = (conn.is(Flags::CHUNKS), names.len());
        let gap_in = |(place, name): (usize, &Arc<str>)| {
            // A client that is cut off between two of them comes back from nowhere, and is then told of all of them.
            let position = if place + 1 == last { GapPosition::Behind(gap) } else { GapPosition::Elsewhere };
            let position = position.text(epoch);
            Piece::Bytes(conn.format.gap(Some(name), &position, chunks).into())
        };
        let pieces: Vec<Piece> = names.iter().enumerate().map(gap_in).collect();
        if !pieces.is_empty() {
            self.transmit(index, &pieces);
        }
    }
}
