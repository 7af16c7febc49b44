//! A turn of a shard: one round of everything.

use crate::log::Level;
use crate::panics;
use crate::shard::connection::conn::{ConnectionId, Token};
use crate::shard::turn::command::Command;
use crate::shard::Shard;
use crate::sys::clock;
use crate::sys::epoll::{Event, Readiness};
use crate::transport::inflate::Inflater;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;

/// Tokens that are no connections: their generation is 0.
pub(in crate::shard) const WAKE: u64 = u32::MAX as u64;
/// Listener number n is `LISTENER + n`.
pub(in crate::shard) const LISTENER: u64 = 0;

/// How many events one turn takes.
pub(in crate::shard) const EVENTS: usize = 512;
/// How many commands one turn takes.
const COMMANDS: usize = 1024;
/// How often history is looked through for what is too old. Not in each turn: it takes the hub's lock.
pub(in crate::shard) const EXPIRE_MS: u64 = 1000;

/// What to do after a turn.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::shard) enum Next {
    /// There is more to do.
    Again,
    /// Nothing to do until woken.
    Sleep,
    /// The server has stopped and all is done.
    End,
}

impl Shard {
    /// One round of everything. Reads come before the mailbox, so that who subscribes and publishes in one go gets its
    /// own.
    pub(in crate::shard) fn turn(&mut self, events: &[Event]) -> Next {
        self.now = clock::monotonic_ms();
        let mut more = self.take_commands();
        let mut reads = self.take_events(events);
        self.resume_senders();
        reads |= self.read_unfinished();
        // What clients sent does not wait for the fan-out.
        self.announce_events();
        more |= self.deliver();
        self.settle_fates();
        self.run_timers();
        // A poll that a timer ends may have a request behind it that takes messages from the mailbox up to its own
        // place, and finds one that is newer.
        more |= self.delivery.held.is_some();
        self.tell_leaves();
        self.go_on_draining(more);
        if self.ending {
            self.drop_all();
            return Next::End;
        }
        let expires = self.number == 0 && self.timers.expires_at <= self.now;
        if more || reads || expires || self.has_unfinished() {
            Next::Again
        } else {
            Next::Sleep
        }
    }

    /// Makes what compressing takes, before any client can agree to it: it takes stack that only a thread of our own is
    /// sure to have, and who compresses later may be a host's.
    pub(in crate::shard) fn prepare_compression(&mut self) {
        if self.config.compression && self.reading.inflater.is_none() {
            self.reading.inflater = Some(Inflater::default());
            self.context.encoder.deflater().prepare();
        }
    }

    /// Whether this turn is measured: every 16th, since reading a clock exactly is not free.
    pub(in crate::shard) fn measures_turn(&mut self) -> bool {
        self.turn = self.turn.wrapping_add(1);
        self.turn.is_multiple_of(16)
    }

    fn take_commands(&mut self) -> bool {
        // Whose connections are to be closed: of users who come one after the other they are looked for at once.
        let mut users = Vec::new();
        for _ in 0..COMMANDS {
            let command = self.handle.next_command();
            if !matches!(command, Some(Command::CloseUser { .. })) {
                self.close_users(std::mem::take(&mut users));
            }
            let Some(command) = command else { return false };
            match command {
                Command::Adopt(adopted) => self.adopt(adopted),
                Command::Send { to, data, binary } => self.send_direct(to, &data, binary),
                Command::Close { to, close } => {
                    if let Some(index) = self.find(to) {
                        self.close(index, close);
                    }
                }
                Command::CloseUser { user, close } => users.push((user, close)),
                Command::Present(census) => self.present(&census),
                Command::Revoke { user, channels, reason } => self.revoke(&user, &channels, &reason),
                Command::Renew { of, grant } => {
                    if let Some(index) = self.find(of) {
                        self.renew(index, *grant);
                    }
                }
                Command::Allow { request, grant } => self.allowed(request, grant),
                Command::Deny { request, refusal } => self.denied(request, &refusal),
                Command::Reconfigure(config) => {
                    let before = std::mem::replace(&mut self.config, config);
                    self.count_those_there(&before);
                    self.probe_listeners();
                    self.prepare_compression();
                }
                Command::Resume => self.resume_paused(),
                Command::Drain { until_ms } => self.begin_drain(until_ms),
                Command::End => self.ending = true,
            }
        }
        self.close_users(users);
        true
    }

    /// True when there were as many as could be told at once, and so perhaps more.
    fn take_events(&mut self, events: &[Event]) -> bool {
        for event in events {
            let token = Token::from_bits(event.u64);
            if event.u64 == WAKE {
                continue;
            }
            if token.generation == 0 {
                self.accept_from((event.u64 - LISTENER) as usize);
                continue;
            }
            // Someone else may have the slot by now.
            let Some(index) = self.find(token) else { continue };
            if event.writable() {
                self.writable(index);
            }
            if event.readable() {
                if let Some(index) = self.find(token) {
                    self.readable(index, event.ended());
                }
            }
        }
        events.len() == EVENTS
    }

    /// Milliseconds until a timer is due.
    pub(in crate::shard) fn wake_in(&mut self) -> Option<u64> {
        // One shard keeps the hub's clock.
        let expire = (self.number == 0).then(|| self.timers.expires_at.saturating_sub(self.now).max(1));
        let paused_listener = self.listener_resumes_in();
        let (timer, sender) = (self.timers.wheel.next_in(self.now), self.limits.senders.next_in(self.now));
        // A number that means never, not an array of options: what the compiler makes of that looks at the number of an
        // absent one before it looks whether it is absent, which memcheck rightly asks about.
        let waits = [timer, expire, paused_listener, sender, self.drain_in()].map(|wait| wait.unwrap_or(u64::MAX));
        waits.into_iter().min().filter(|wait| *wait != u64::MAX)
    }

    pub(in crate::shard) fn tell_leaves(&mut self) {
        let number = self.number;
        let leaves = self.channels.take_leaves();
        self.context.hub.leave(number, leaves);
    }

    /// After a panic: nothing in memory is trusted but the mailbox. All connections end; clients come back and recover.
    pub(in crate::shard) fn recover(&mut self) {
        self.context.metrics.panics.fetch_add(1, Ordering::Relaxed);
        self.log_error(format_args!(
            "shard {}: {}; it was caught, and its connections are closed",
            self.number,
            panics::said()
        ));
        self.delivery.staging = Default::default();
        self.delivery.fates.clear();
        self.reading.unfinished.clear();
        self.reading.paused.clear();
        if self.reading.scratch.is_empty() {
            self.reading.scratch = vec![0; crate::shard::SCRATCH].into();
        }
        let left: Vec<u32> = self.conns.iter().map(|(index, _)| index as u32).collect();
        for index in left {
            let dropped = catch_unwind(AssertUnwindSafe(|| self.drop_conn(index))).is_ok();
            if dropped {
                continue;
            }
            if let Some(conn) = self.conns.try_remove(index as usize) {
                self.uncount(index);
                self.uncount_removed(index, &conn);
            }
        }
        // A fan-out that did not end may have borrowed lists of them. Nobody is on any now.
        self.channels.forget_all();
    }

    pub(in crate::shard) fn log_error(&self, text: std::fmt::Arguments<'_>) {
        self.context.log.line(Level::Error, text);
    }

    /// The number by which the host knows a connection.
    pub(in crate::shard) fn number_of(&self, index: u32) -> u64 {
        ConnectionId { shard: self.number, token: self.token(index) }.to_number()
    }
}
