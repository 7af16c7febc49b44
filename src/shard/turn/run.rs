//! A turn of a shard: one round of everything.

use crate::events::{Event, Events, Unannounced};
use crate::framing::inflate::Inflater;
use crate::framing::Transport;
use crate::log::Level;
use crate::panics;
use crate::shard::connection::conn::{ConnectionId, Phase, Token};
use crate::shard::connection::rights::ToClose;
use crate::shard::delivery::fan_out::Subscribers;
use crate::shard::turn::command::Command;
use crate::shard::Shard;
use crate::sys::clock;
use crate::sys::epoll::{self, Readiness};
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
/// How often old history is dropped. That takes the hub's lock, so it is not done in each turn.
pub(in crate::shard) const EXPIRE_MS: u64 = 1000;

/// The next step after a turn.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::shard) enum Next {
    /// There is more to do.
    Again,
    /// Nothing to do until woken.
    Sleep,
    /// The server has stopped and all is done.
    End,
}

/// The turn under way.
#[derive(Debug, Default)]
pub(in crate::shard) struct Turn {
    /// Monotonic milliseconds, read once a turn.
    pub(in crate::shard) now: u64,
    /// Until when the thread sleeps after it.
    wakes_at: u64,
    /// Counts turns.
    count: u8,
    /// Its events that the host was not woken for yet.
    unannounced: Unannounced,
}

impl Turn {
    /// The clock of a turn that begins.
    pub(in crate::shard) fn begin(&mut self) {
        self.now = clock::monotonic_ms();
    }

    /// Whether the next turn is measured: every 16th, since reading a clock exactly is not free.
    pub(in crate::shard) fn is_measured(&mut self) -> bool {
        self.count = self.count.wrapping_add(1);
        self.count.is_multiple_of(16)
    }

    /// Notes for how many milliseconds the thread sleeps. `None`: until it is woken.
    pub(in crate::shard) fn sleep(&mut self, timeout: Option<u64>) {
        self.wakes_at = timeout.map_or(u64::MAX, |timeout| self.now + timeout);
    }

    /// Whether the thread sleeps for longer than so many milliseconds.
    pub(in crate::shard) fn sleeps_beyond(&self, ms: u64) -> bool {
        self.now + ms < self.wakes_at
    }

    /// Queues an event. [`Self::announce`] wakes the host.
    pub(in crate::shard) fn tell(&mut self, events: &Events, event: Event) {
        self.unannounced = self.unannounced.and(events.add(event));
    }

    /// Wakes the host for new events.
    pub(in crate::shard) fn announce(&mut self, events: &Events) {
        events.announce(std::mem::take(&mut self.unannounced));
    }
}

impl Shard {
    /// One round of everything. Reads come before the mailbox, so that a client that subscribes and publishes in one go
    /// gets its own message.
    pub(in crate::shard) fn turn(&mut self, events: &[epoll::Event]) -> Next {
        self.turn.begin();
        self.do_acts_first();
        let mut more = self.take_commands();
        let mut reads = self.take_events(events);
        self.resume_senders();
        reads |= self.read_unfinished();
        // Events about clients' messages do not wait for the fan-out.
        self.announce_events();
        more |= self.deliver();
        self.settle_fates();
        self.run_timers();
        self.give_up_calls();
        self.give_up_checks();
        self.publish_again();
        // A drain does not wait for those who look on.
        let lists = self.go_on_listing() | self.go_on_with_rolls() | self.go_on_sweeping();
        self.serve_those_that_waited();
        self.go_on_with_presence();
        // A poll that a timer ends may have a request behind it that takes messages from the mailbox up to its own
        // place, and finds one that is newer.
        more |= self.delivery.held.is_some();
        self.tell_leaves();
        self.go_on_draining(more);
        if self.shutdown.ends {
            self.drop_all();
            return Next::End;
        }
        let expires = self.handle.number == 0 && self.timers.expires_at <= self.turn.now;
        if more || lists || reads || expires || self.has_unfinished() {
            Next::Again
        } else {
            Next::Sleep
        }
    }

    /// Makes the compressors before any client can agree to compression. Making one takes stack that only a thread of
    /// our own is sure to have, and a host's thread may be the one that compresses.
    pub(in crate::shard) fn prepare_compression(&mut self) {
        if self.config.compression && self.reading.inflater.is_none() {
            self.reading.inflater = Some(Inflater::default());
            self.encoder.deflater().prepare();
        }
    }

    /// Returns true if there may be more.
    pub(in crate::shard) fn take_commands(&mut self) -> bool {
        // Users with connections to close. One search serves several users in a row.
        let mut users = Vec::new();
        for _ in 0..COMMANDS {
            let command = self.handle.next_command();
            if !matches!(command, Some(Command::CloseUser { .. })) {
                self.close_users(std::mem::take(&mut users));
            }
            let Some(command) = command else { return false };
            match command {
                Command::Adopt(adopted) => self.adopt(adopted),
                #[cfg(feature = "tls")]
                Command::Secured(secured) => self.secured(secured),
                Command::Send { to, data, binary } => self.send_direct(to, &data, binary),
                Command::Close { to, close } => {
                    self.forget_checks(to);
                    if let Some(index) = self.find(to) {
                        self.close(index, close);
                    }
                }
                Command::CloseUser { user, close, tally } => users.push(ToClose { user, close, tally }),
                Command::CloseAll { close, tally } => self.begin_sweep(close, tally),
                Command::Published { to, reference, channel, place } => {
                    // Nothing may follow the last bytes of a client that is closed meanwhile.
                    let open = |index: &u32| self.conns[*index as usize].phase == Phase::Open(Transport::WebSocket);
                    if let Some(index) = self.find(to).filter(open) {
                        self.settle_publish(index, reference, &channel, place);
                        self.hold_to_bound(to);
                    }
                }
                Command::Present(query) => self.begin_roll(query),
                Command::List(query) => self.begin_listing(query),
                Command::Revoke { user, channels, reason } => self.revoke(&user, &channels, &reason),
                Command::Renew { of, grant } => {
                    self.renew_left_checks(of, &grant);
                    if let Some(index) = self.find(of) {
                        self.renew(index, *grant);
                    }
                }
                Command::Allow { request, grant } => self.allowed(request, grant),
                Command::Deny { request, refusal } => self.denied(request, &refusal),
                Command::Answer { request, data, binary } => self.answer_call(request, &data, binary),
                Command::AllowPublish { request, instead } => {
                    self.allow_publish(request, instead.map(|instead| *instead))
                }
                Command::Reconfigure(config) => {
                    let before = std::mem::replace(&mut self.config, config);
                    self.count_those_there(&before);
                    self.reconfigure_presence(&before);
                    self.probe_listeners();
                    self.prepare_compression();
                    self.make_room();
                }
                Command::Resume => self.resume_paused(),
                Command::MakeRoom => self.make_room(),
                Command::Drain { until_ms } => self.begin_drain(until_ms),
                Command::End => {
                    // The drain is over, though this turn may have begun before. Whoever is left gets the goodbye.
                    self.turn.begin();
                    self.shutdown.ends = true;
                }
            }
        }
        self.close_users(users);
        true
    }

    /// Returns true if there may be more events: as many came as fit at once.
    fn take_events(&mut self, events: &[epoll::Event]) -> bool {
        for event in events {
            let token = Token::from_bits(event.u64);
            if event.u64 == WAKE {
                continue;
            }
            if token.generation == 0 {
                self.accept_from((event.u64 - LISTENER) as usize);
                continue;
            }
            // Another connection may have the slot by now.
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
        let expire = (self.handle.number == 0).then(|| self.timers.expires_at.saturating_sub(self.turn.now).max(1));
        let paused_listener = self.listener_resumes_in();
        let (timer, sender) =
            (self.timers.wheel.next_in(self.turn.now), self.side.limits.senders.next_in(self.turn.now));
        // `u64::MAX` means never. With an array of options the compiled code reads the number of an absent one before
        // it checks that it is absent, and memcheck reports that.
        let message = self.side.limits.inbox.next_in(self.turn.now, self.config.message_timeout_ms);
        let (end, calls) = (self.shutdown.due_in(self.turn.now), self.questions.calls.due_in(self.turn.now));
        let checks = self.questions.checks.due_in(self.turn.now);
        let presence = self.presence_in();
        let waits = [timer, expire, paused_listener, sender, message, end, self.patience_in(), calls, checks, presence]
            .map(|wait| wait.unwrap_or(u64::MAX));
        waits.into_iter().min().filter(|wait| *wait != u64::MAX)
    }

    pub(in crate::shard) fn tell_leaves(&mut self) {
        let number = self.handle.number;
        let leaves = self.subscriptions.channels.take_leaves();
        self.context.hub.leave(number, leaves);
    }

    /// After a panic: nothing in memory is trusted but the mailbox. All connections end; clients come back and recover.
    pub(in crate::shard) fn recover(&mut self) {
        self.context.metrics.panics.fetch_add(1, Ordering::Relaxed);
        self.log_error(format_args!(
            "shard {}: a bug in the library was caught: {}; its connections are closed",
            self.handle.number,
            panics::said()
        ));
        self.delivery.merge = Default::default();
        self.delivery.fates.clear();
        self.delivery.excepting = false;
        self.scans.clear();
        self.forget_all_calls();
        self.forget_all_checks();
        self.side.follows = Default::default();
        self.context.presence.forget_shard(self.handle.number, self.turn.now);
        self.reading.unfinished.clear();
        self.reading.paused.clear();
        if self.reading.scratch.is_empty() {
            self.reading.scratch = vec![0; crate::shard::SCRATCH].into();
        }
        let left: Vec<u32> = self.conns.iter().map(|(index, _)| index as u32).collect();
        for index in left {
            if catch_unwind(AssertUnwindSafe(|| self.drop_conn(index))).is_err() {
                self.remove(index);
            }
        }
        // A fan-out that did not end may have borrowed lists of them. Nobody is on any now.
        self.subscriptions.channels.forget_all();
    }

    pub(in crate::shard) fn log_error(&self, text: std::fmt::Arguments<'_>) {
        self.context.log.line(Level::Error, text);
    }

    /// The number by which the host knows a connection.
    pub(in crate::shard) fn number_of(&self, index: u32) -> u64 {
        ConnectionId { shard: self.handle.number, token: self.token(index) }.to_number()
    }
}
