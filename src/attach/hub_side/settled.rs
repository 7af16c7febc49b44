//! Requests of hosts whose messages the log has synced. The log's thread reports them here, and the hub's side answers
//! them.

use super::outcome::{Outcome, Shape};
use super::sessions::SessionId;
use super::{End, HubSide, Signals};
use crate::api::not_in_time;
use crate::attach::wire::{FromHub, TELLS_EPOCHS};
use crate::hub;
use crate::sys::clock;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the end of the hub waits for a sync of the hosts' messages.
const LAST_ANSWERS_MS: u64 = 1000;

/// A request of a session, by its number, and its result.
type Done = (SessionId, u64, hub::Settled);

/// See the module.
#[derive(Debug)]
pub(super) struct Settled {
    done: Mutex<Vec<Done>>,
    signals: Arc<Signals>,
}

impl Settled {
    pub(super) fn new(signals: Arc<Signals>) -> Self {
        Settled { done: Mutex::default(), signals }
    }

    /// Adds a result. The first one wakes the hub's side.
    pub(super) fn add(&self, session: SessionId, number: u64, settled: hub::Settled) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push((session, number, settled));
        if done.len() == 1 {
            self.signals.wake.signal();
        }
    }

    /// Takes all results, in order.
    pub(super) fn take(&self) -> Vec<Done> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HubSide {
    /// Answers the requests whose messages are synced.
    pub(super) fn answer_settled(&mut self) {
        let settled = self.settled.take();
        if !settled.is_empty() {
            self.again.now();
        }
        for (session, number, done) in settled {
            if done.epoch.wrapping_sub(self.epoch) as i32 > 0 {
                self.go_on_in(done.epoch);
            }
            // The host knows another epoch by now, in which the numbers would be those of other messages.
            let unknown = done.unknown || done.epoch != self.epoch;
            // The session of a host that was not attached for long is forgotten.
            let Some(session) = self.sessions.get(&session) else { continue };
            let attachment = session.attachment().and_then(|id| self.attached.get_mut(&id));
            let answer = |shape: Shape| match unknown {
                true => Outcome::failed(&not_in_time()),
                false => shape.answer(&done.places),
            };
            session.settled(number, answer, attachment.map(|attachment| attachment.out.tail()));
        }
    }

    /// The log that the hub follows has another epoch. Hosts are told. One that speaks an older version learns the epoch of
    /// its numbers only when it attaches, so it is to attach anew.
    pub(super) fn go_on_in(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.sessions.forget_recalled();
        self.flush_all();
        self.sessions.go_on_in_another_epoch(|| Outcome::failed(&not_in_time()));
        let epoch = self.context.hub.epoch_at(epoch);
        let mut older = Vec::new();
        for host in self.attached.values_mut().filter(|host| !host.half_open()) {
            if host.version >= TELLS_EPOCHS {
                FromHub::Epoch { epoch: epoch.as_str() }.write(host.out.tail());
            } else {
                older.push(host.id);
            }
        }
        older.iter().for_each(|id| self.end(*id, &End::Gone));
    }

    /// Waits a moment for a sync of the hosts' messages. Hosts send the requests that are not answered then to the next
    /// hub, which finds them in its log.
    pub(super) fn await_answers(&mut self) {
        let until = clock::monotonic_ms() + LAST_ANSWERS_MS;
        self.answer_settled();
        while self.sessions.any_unanswered() && clock::monotonic_ms() < until {
            // The epoll must not wake this thread: hosts that knock are not let in any more.
            std::thread::sleep(Duration::from_millis(5));
            self.now = clock::monotonic_ms();
            self.answer_settled();
            self.do_waiting();
        }
    }
}
