//! What becomes of clients' messages that wait for the host: its answers, and the ends without one.

use super::checks::{ClientMessage, Instead, Waiting};
use super::publishing::{refused, BUSY, DRAINING, NO_ROOM, SYSTEM};
use crate::dialect::push::replies;
use crate::dialect::push::requests::Refused;
use crate::framing::Transport;
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::hub::ChannelPattern;
use crate::log::Level;
use crate::shard::connection::conn::{Phase, Token};
use crate::shard::Shard;

/// How many messages are given up, or tried again, in one turn.
const AT_ONCE: usize = 256;
/// When a message is tried again for which the hub had no room.
pub(in crate::shard) const AGAIN_MS: u64 = 10;

impl Shard {
    /// The host allows a message.
    pub(in crate::shard) fn allow_publish(&mut self, count: u64, instead: Option<Instead>) {
        let grows = instead.as_ref().is_some_and(|instead| self.questions.checks.would_grow(count, instead));
        if grows && self.context.inboxes.waiting() >= self.config().inbox_total {
            let Some((of, waiting)) = self.questions.checks.take(count) else { return };
            self.count_checks();
            self.tell_not_published(of, &waiting, Refused::new(BUSY, NO_ROOM));
            return self.publish_due(of);
        }
        if let Some(of) = self.questions.checks.allow(count, instead) {
            self.count_checks();
            self.publish_due(of);
        }
    }

    /// The host refuses a message. False: the question was not about one, or it has its answer.
    pub(in crate::shard) fn deny_publish(&mut self, count: u64, refusal: &Refusal) -> bool {
        let answer =
            |message: &ClientMessage| replies::refused(refusal.status, &refusal.message, Some(&message.channel));
        self.end_check(count, answer)
    }

    /// Ends messages that the host has not answered in time. Those beyond the bound follow in the next turn.
    pub(in crate::shard) fn give_up_checks(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(count) = self.questions.checks.overdue(self.turn.now) else { return };
            self.handle.metrics.publish_checks_given_up.add(1);
            let text = "the host has not answered in time (option call_timeout); the message is not published";
            self.end_check(count, |message| replies::error("unanswered", text, Some(&message.channel)));
        }
    }

    /// Tries messages again for which the hub had no room. Those beyond the bound follow in the next turn.
    pub(in crate::shard) fn publish_again(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(of) = self.questions.checks.next_again(self.turn.now) else { return };
            self.publish_due(of);
        }
    }

    /// Ends a message that the host has not allowed. Those behind it may be due.
    fn end_check(&mut self, count: u64, answer: impl FnOnce(&ClientMessage) -> Vec<u8>) -> bool {
        let Some((of, waiting)) = self.questions.checks.take(count) else { return false };
        self.count_checks();
        self.answer_publish(of, waiting.reference, answer(&waiting.message));
        self.publish_due(of);
        true
    }

    /// Publishes what waits for no answer any more. What the client may do is looked at again: that may have changed since
    /// the host was asked. The host may have kept a message that it has allowed, so a hub that is busy is tried again.
    fn publish_due(&mut self, of: Token) {
        while let Some((waiting, left)) = self.questions.checks.next_due(of) {
            let now = || self.find(of).and_then(|index| self.conns[index as usize].grant.clone());
            let grant = left.clone().unwrap_or_else(now);
            let publication = waiting.message.publication();
            let answer = self
                .check_publish(grant.as_deref(), &waiting.message.channel)
                .and_then(|()| publication.check(self.config().max_message, false).map_err(refused))
                .and_then(|()| {
                    let user = self.user(grant.as_deref());
                    self.publish_now(of, waiting.reference, &publication, user.as_deref())
                });
            match answer {
                Err(refused) if may_pass(&refused) && self.turn.now < waiting.ends_at => {
                    let again_at = self.turn.now + AGAIN_MS;
                    self.questions.checks.put_back(of, waiting, left, again_at);
                    return self.count_checks();
                }
                Err(refused) => {
                    self.count_checks();
                    self.tell_not_published(of, &waiting, refused);
                }
                Ok(answer) => {
                    self.count_checks();
                    if let Some(answer) = answer {
                        self.answer_publish(of, waiting.reference, answer);
                    }
                }
            }
        }
    }

    /// Tells a client that its message is not published. If nobody is there to be told, or if the host has allowed the
    /// message and nobody has taken that back, the log says so.
    fn tell_not_published(&mut self, of: Token, waiting: &Waiting, refused: Refused) {
        let (index, channel) = (self.open_websocket(of), &*waiting.message.channel);
        let is_lost = waiting.is_checked && (may_pass(&refused) || refused.code == DRAINING);
        if index.is_none() || is_lost {
            let gone = if index.is_none() { " that has gone" } else { "" };
            let though = if waiting.is_checked { ", though the host has allowed it" } else { "" };
            let (code, why) = (refused.code, &refused.message);
            let text =
                format_args!("a message of a client{gone} is not published to {channel:?}{though}: {code}: {why}");
            let level = if is_lost { Level::Warn } else { Level::Info };
            let kind =
                if is_lost { "a message that the host has allowed" } else { "a message of a client that has gone" };
            self.context.log.limited(level, kind, text);
        }
        if let Some(index) = index {
            self.reply_error(index, waiting.reference, Some(channel), refused);
            self.hold_to_bound(of);
        }
    }

    /// Answers a client, if it is still there.
    fn answer_publish(&mut self, to: Token, reference: Option<u64>, answer: Vec<u8>) {
        if let Some(index) = self.open_websocket(to) {
            self.reply(index, reference, answer);
            self.hold_to_bound(to);
        }
    }

    /// The place of a connection that can be answered.
    pub(super) fn open_websocket(&self, of: Token) -> Option<u32> {
        let is_open = |index: &u32| self.conns[*index as usize].phase == Phase::Open(Transport::WebSocket);
        self.find(of).filter(is_open)
    }
}

/// The ends of connections, and changes of what they may do.
impl Shard {
    /// A connection ends. What it has published is still published if the host allows it: the host may have kept it
    /// already. Whoever takes the client's rights away has called [`Self::forget_checks`] before. The close code says
    /// nothing about that, since a client chooses its own.
    pub(in crate::shard) fn leave_checks(&mut self, index: u32) {
        let (of, conns) = (self.token(index), &self.conns);
        self.questions.checks.leave(of, || conns.get(index as usize).and_then(|conn| conn.grant.clone()));
    }

    /// Publishes nothing of a connection any more: the host ends it, or its grant has ended.
    pub(in crate::shard) fn forget_checks(&mut self, of: Token) {
        self.questions.checks.forget(of);
        self.count_checks();
    }

    /// Publishes nothing any more of a user's connections that have ended: the host disconnects the user.
    pub(in crate::shard) fn forget_left_checks_of(&mut self, user: &str) {
        self.questions.checks.forget_left_by(user);
        self.count_checks();
    }

    /// Publishes nothing any more of connections that have ended: of those that had a user, or of all.
    pub(in crate::shard) fn forget_left_checks(&mut self, only_of_users: bool) {
        self.questions.checks.forget_left(only_of_users);
        self.count_checks();
    }

    /// Takes channels from a user's connections that have ended.
    pub(in crate::shard) fn revoke_checks(&mut self, user: &str, channels: &ChannelPattern) {
        self.questions.checks.revoke(user, channels);
    }

    /// The host gives a connection another grant, which may have ended.
    pub(in crate::shard) fn renew_left_checks(&mut self, of: Token, grant: &Grant) {
        self.questions.checks.renew_left(of, grant);
        self.count_checks();
    }

    /// A connection is another user's from now on. What waits was the user's before, who has lost the connection.
    pub(in crate::shard) fn end_checks_of_user_before(&mut self, of: Token) {
        let waiting = self.questions.checks.forget(of);
        self.count_checks();
        for Waiting { reference, message, .. } in waiting {
            let Some(index) = self.open_websocket(of) else { return };
            let refused = Refused::new("publish", "the connection has another user now");
            self.reply_error(index, reference, Some(&message.channel), refused);
            self.hold_to_bound(of);
        }
    }

    /// Forgets all messages. After a panic their tables may not agree.
    pub(in crate::shard) fn forget_all_checks(&mut self) {
        self.questions.checks = Default::default();
        self.count_checks();
    }

    /// Notes how much waits.
    pub(super) fn count_checks(&mut self) {
        let (checks, metrics) = (&self.questions.checks, &self.handle.metrics);
        let (questions, bytes) = (checks.questions() as u64, checks.bytes());
        metrics.publish_checks_waiting.set(questions);
        self.context.inboxes.set_waiting(std::mem::replace(&mut self.questions.check_bytes, bytes), bytes);
    }
}

/// Whether the hub may have room for the message later.
fn may_pass(refused: &Refused) -> bool {
    [BUSY, SYSTEM].contains(&refused.code)
}
