//! Calls: a client of `push.v1.json` asks the host something, and gets the host's answer.

use super::push_v1::Answer;
use crate::dialect::push::replies;
use crate::dialect::push::requests::{self, Refused};
use crate::events::{Event, EventKind, NOBODY_ANSWERS};
use crate::http::refusal::Refusal;
use crate::shard::connection::conn::{RequestId, Token};
use crate::shard::Shard;
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// How many calls are given up in one turn.
const AT_ONCE: usize = 256;

/// The calls of a shard's clients that wait for the host.
#[derive(Debug, Default)]
pub(in crate::shard) struct Calls {
    /// By their count, which the host has as a part of the request's number.
    open: FxHashMap<u64, Call>,
    /// When each is given up, and its count.
    ends: BTreeSet<(u64, u64)>,
    /// The counts of each connection's calls, by slot.
    of: FxHashMap<u32, Vec<u64>>,
}

/// A call that waits.
#[derive(Debug)]
struct Call {
    of: Token,
    /// The client's number of its request.
    reference: u64,
    ends_at: u64,
}

impl Calls {
    fn add(&mut self, count: u64, call: Call) {
        self.ends.insert((call.ends_at, count));
        self.of.entry(call.of.index).or_default().push(count);
        self.open.insert(count, call);
    }

    /// Takes a call out, once.
    fn take(&mut self, count: u64) -> Option<Call> {
        let call = self.open.remove(&count)?;
        self.ends.remove(&(call.ends_at, count));
        if let Some(counts) = self.of.get_mut(&call.of.index) {
            counts.retain(|other| *other != count);
            if counts.is_empty() {
                self.of.remove(&call.of.index);
            }
        }
        Some(call)
    }

    /// How many calls of a connection wait.
    pub(super) fn of_connection(&self, index: u32) -> usize {
        self.of.get(&index).map_or(0, Vec::len)
    }

    /// The counts of a connection's calls.
    fn all_of(&self, index: u32) -> Vec<u64> {
        self.of.get(&index).cloned().unwrap_or_default()
    }

    /// A call that has waited long enough.
    fn overdue(&self, now: u64) -> Option<u64> {
        self.ends.first().filter(|(ends_at, _)| *ends_at <= now).map(|(_, count)| *count)
    }

    /// Milliseconds until the next one has waited long enough.
    pub(in crate::shard) fn due_in(&self, now: u64) -> Option<u64> {
        self.ends.first().map(|(ends_at, _)| ends_at.saturating_sub(now).max(1))
    }
}

impl Shard {
    /// A client calls. The answer comes later.
    pub(in crate::shard) fn call_live(
        &mut self,
        index: u32,
        reference: Option<u64>,
        data: &str,
        base64: bool,
    ) -> Answer {
        if !self.context.events.wanted() {
            let (status, message) = NOBODY_ANSWERS;
            self.reply(index, reference, replies::refused(status, message, None));
            return Ok(None);
        }
        if !self.context.events.wants(EventKind::Call) {
            return Err(Refused::new("unsupported", "the host takes no calls (option events)"));
        }
        self.check_room_for_question(index)?;
        let data = requests::payload(data, base64)?;
        self.questions.last += 1;
        let count = self.questions.last;
        let (of, ends_at) = (self.token(index), self.turn.now + self.config().call_timeout_ms);
        // It was read with a number.
        self.questions.calls.add(count, Call { of, reference: reference.unwrap_or(0), ends_at });
        self.handle.metrics.calls.add(1);
        self.handle.metrics.calls_waiting.add(1);
        self.tell(Event {
            request: RequestId { shard: self.handle.number, count }.to_number(),
            data: Bytes::copy_from_slice(&data),
            binary: base64,
            ..self.event(index, EventKind::Call)
        });
        Ok(None)
    }

    /// Refuses what would wait for the host if the connection has as much waiting as it may have.
    pub(super) fn check_room_for_question(&self, index: u32) -> Result<(), Refused> {
        let (max, questions) = (self.config().max_calls, &self.questions);
        if questions.calls.of_connection(index) + questions.checks.of_connection(self.token(index)) < max {
            return Ok(());
        }
        let message = format!("{max} messages and calls of this connection wait for the host (option max_calls)");
        Err(Refused::new("calls", message))
    }

    /// The host answers a call.
    pub(in crate::shard) fn answer_call(&mut self, request: u64, data: &[u8], binary: bool) {
        self.end_call(request, |_| replies::called(data, binary));
    }

    /// The host refuses a call.
    pub(in crate::shard) fn refuse_call(&mut self, request: u64, refusal: &Refusal) {
        self.end_call(request, |_| replies::refused(refusal.status, &refusal.message, None));
    }

    /// Ends calls that the host has not answered in time. Those beyond the bound follow in the next turn.
    pub(in crate::shard) fn give_up_calls(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(count) = self.questions.calls.overdue(self.turn.now) else { return };
            self.end_call(count, |shard| {
                shard.handle.metrics.calls_given_up.add(1);
                replies::error("timeout", "the host has not answered in time (option call_timeout)", None)
            });
        }
    }

    /// Forgets the calls of a connection that ends.
    pub(in crate::shard) fn forget_calls(&mut self, index: u32) {
        for count in self.questions.calls.all_of(index) {
            self.take_call(count);
        }
    }

    /// A connection is another user's from now on. The answers are for the user before, who has lost the connection.
    pub(in crate::shard) fn end_calls_of_user_before(&mut self, index: u32) {
        let text = "the connection has another user now; the host may have done what was asked";
        for count in self.questions.calls.all_of(index) {
            self.end_call(count, |_| replies::error("lost", text, None));
        }
    }

    /// Forgets all calls. After a panic their tables may not agree.
    pub(in crate::shard) fn forget_all_calls(&mut self) {
        let waiting = &self.handle.metrics.calls_waiting;
        waiting.sub(waiting.get());
        self.questions.calls = Calls::default();
    }

    fn take_call(&mut self, count: u64) -> Option<Call> {
        let call = self.questions.calls.take(count)?;
        self.handle.metrics.calls_waiting.sub(1);
        Some(call)
    }

    /// Tells the client how its call has ended, if it is still there. Each call ends once.
    fn end_call(&mut self, count: u64, answer: impl FnOnce(&Self) -> Vec<u8>) {
        let Some(call) = self.take_call(count) else { return };
        let Some(index) = self.open_websocket(call.of) else { return };
        let answer = answer(self);
        self.reply(index, Some(call.reference), answer);
        self.hold_to_bound(call.of);
    }
}
