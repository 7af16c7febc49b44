//! The hub's side of the attach socket: one thread, `push-attach`, with its own epoll.
//!
//! It is a plain loop without tokio's tasks. Attachments are few, and each of their frames changes state that all of
//! them share: the sessions and the routing of events. One owner without locks is the simplest solution.

mod admission;
mod attachment;
#[cfg(test)]
mod command_tests;
mod hello;
mod listing;
#[cfg(test)]
mod lost_tests;
#[cfg(test)]
mod older_tests;
mod outcome;
#[cfg(test)]
mod panic_tests;
mod publishing;
mod questions;
#[cfg(test)]
mod recall_tests;
mod recollection;
mod requests;
mod router;
mod sessions;
mod settled;
mod waiting;
#[cfg(test)]
pub(crate) mod waiting_tests;

use super::wire::{FromHub, RefusedBecause, OLDEST, VERSION};
use crate::api::Api;
use crate::context::client::Client;
use crate::context::Context;
use crate::error::Error;
use crate::events::Events;
use crate::log::Level;
use crate::metrics::Reason;
use crate::panics;
use crate::runtime::Work;
use crate::sys::epoll::{Epoll, Event, Readiness, Watch};
use crate::sys::eventfd::EventFd;
use crate::sys::listener::Listener;
use crate::sys::{clock, socket};
use attachment::Attachment;
pub(crate) use recollection::Recollection;
use router::Router;
pub(crate) use sessions::Sessions;
use sessions::{Lost, KEPT_AWAY};
use settled::Settled;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use waiting::Again;

/// The epoll tokens that are not attachments.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const EVENTS: u64 = 2;
const FIRST_ID: u64 = 16;

/// A running attach socket. This handle stops it.
#[derive(Debug)]
pub(crate) struct AttachListener {
    signals: Arc<Signals>,
}

/// Words of other threads to the thread.
#[derive(Debug)]
struct Signals {
    stop: AtomicBool,
    reconfigure: AtomicBool,
    wake: EventFd,
}

impl AttachListener {
    /// Prepares the socket here, where errors can be reported. The second result is the work of its thread. `sessions`
    /// says what earlier hubs have done for hosts.
    pub(crate) fn new(
        api: Arc<Api>,
        context: Arc<Context>,
        listener: Arc<OwnedFd>,
        sessions: Sessions,
    ) -> Result<(Self, Work), Error> {
        let failed = |error: &io::Error| Error::system("the attach socket can't be watched", error);
        let wake = EventFd::new().map_err(|error| failed(&error))?;
        let signals = Arc::new(Signals { stop: AtomicBool::new(false), reconfigure: AtomicBool::new(false), wake });
        let hub_side = HubSide::new(api, context.clone(), listener, signals.clone(), sessions);
        let mut hub_side = hub_side.map_err(|error| failed(&error))?;
        let wakes = signals.clone();
        context.hosts.answered_by(Box::new(move || wakes.wake.signal()));
        Ok((AttachListener { signals }, Box::new(move || hub_side.run())))
    }

    /// Accepts no more hosts. Requests that have come are done, and then all hosts are let go.
    pub(crate) fn stop(&self) {
        self.signals.stop.store(true, Ordering::Release);
        self.signals.wake.signal();
    }

    /// Tells the hosts that options have changed.
    pub(crate) fn reconfigure(&self) {
        self.signals.reconfigure.store(true, Ordering::Release);
        self.signals.wake.signal();
    }
}

struct HubSide {
    api: Arc<Api>,
    context: Arc<Context>,
    epoll: Epoll,
    listener: Listener,
    signals: Arc<Signals>,
    attached: BTreeMap<u64, Attachment>,
    next_id: u64,
    sessions: Sessions,
    settled: Arc<Settled>,
    /// When requests that wait are tried again.
    again: Again,
    /// Random bits that name this life of the hub.
    life: u64,
    /// Until then, requests of hosts wait for a hub that has not read its log.
    patient_until: u64,
    /// The index of the epoch that the hosts know: how many breaks of a log came before.
    epoch: u32,
    router: Router,
    now: u64,
}

/// The reason why an attachment ends.
#[derive(Debug)]
enum End {
    /// The process has ended, or has closed the attachment.
    Gone,
    /// The process broke the protocol.
    Fault(String),
}

impl HubSide {
    fn new(
        api: Arc<Api>,
        context: Arc<Context>,
        listener: Arc<OwnedFd>,
        signals: Arc<Signals>,
        sessions: Sessions,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let listener = Listener::watch(listener, LISTENER, &epoll)?;
        epoll.add(signals.wake.as_raw_fd(), SIGNALS, Watch::EdgeRead)?;
        epoll.add(context.events.as_raw_fd(), EVENTS, Watch::EdgeRead)?;
        let router = Router::new(context.config.get().event_queue);
        let settled = Arc::new(Settled::new(signals.clone()));
        let patience = api.engine_timeout().as_millis() as u64;
        Ok(HubSide {
            api,
            context,
            epoll,
            listener,
            signals,
            attached: BTreeMap::new(),
            next_id: FIRST_ID,
            sessions,
            settled,
            again: Again::default(),
            life: getrandom::u64().map_err(io::Error::other)?,
            patient_until: clock::monotonic_ms().saturating_add(patience),
            epoch: 0,
            router,
            now: clock::monotonic_ms(),
        })
    }

    /// Runs until stopped. After a panic the hub goes on. All hosts are let go, and they come back.
    fn run(&mut self) {
        while !self.signals.stop.load(Ordering::Acquire) {
            if catch_unwind(AssertUnwindSafe(|| self.turn())).is_err() {
                self.context.metrics.panics.fetch_add(1, Ordering::Relaxed);
                self.log(
                    Level::Error,
                    format_args!(
                        "attach: a bug in the library was caught: {}; all hosts are disconnected, and attach again",
                        panics::said()
                    ),
                );
                self.let_all_go("a bug in the library was caught");
            }
        }
        // Hosts still get the last events, and the hub does what they had published before the stop.
        self.router.resume();
        self.route();
        self.now = clock::monotonic_ms();
        self.attached.values_mut().for_each(|attachment| attachment.unread = true);
        self.serve_due();
        self.again.now();
        self.do_waiting();
        self.await_answers();
        self.flush_all();
        self.let_all_go("the hub ends, and its log has not taken them");
    }

    /// Ends all attachments at once, so that no host stands in for another meanwhile. Requests that wait are sent again:
    /// one of them may be to blame. Those of hosts that have gone are lost: `why`.
    fn let_all_go(&mut self, why: &str) {
        let mut lost = Lost::default();
        self.sessions.waiting().iter().for_each(|session| lost.add(self.sessions.forget_waiting(session)));
        self.note_lost(lost, why);
        for (id, attachment) in std::mem::take(&mut self.attached) {
            let none = self.sessions.leave(&attachment.session, id, self.now);
            debug_assert_eq!(none, Lost::default());
            attachment.events.into_held().iter().for_each(|event| self.give_up(event));
            self.events().set_behind(attachment.host, None);
        }
        self.note_wants_events();
    }

    fn turn(&mut self) {
        let mut events = [Event { events: 0, u64: 0 }; 256];
        let count = self.epoll.wait(&mut events, self.wait_ms()).unwrap_or(0);
        self.now = clock::monotonic_ms();
        for event in &events[..count] {
            match event.u64 {
                LISTENER => self.accept(),
                SIGNALS | EVENTS => {}
                id => {
                    let Some(attachment) = self.attached.get_mut(&id) else { continue };
                    attachment.unread |= event.readable();
                }
            }
        }
        if self.signals.reconfigure.swap(false, Ordering::AcqRel) {
            self.tell_limits();
        }
        self.serve_due();
        self.answer_settled();
        self.do_waiting();
        self.answer_questions();
        self.route();
        self.flush_all();
        self.note_behind();
        self.list_hosts();
        self.run_timers();
    }

    fn wait_ms(&self) -> Option<u64> {
        let is_due = |attachment: &Attachment| attachment.again_at.is_none() && attachment.due(self.now);
        let goes_on = |attachment: &Attachment| is_due(attachment) || attachment.counts_users();
        if self.attached.values().any(goes_on) || self.may_route_again() {
            return Some(0);
        }
        let tries = |attachment: &Attachment| attachment.again_at.is_some() || attachment.awaits_answers();
        let again = self.attached.values().any(tries).then_some(1);
        let waiting = self.sessions.any_waits().then(|| self.again.in_ms(self.now));
        let timers = self.attached.values().any(Attachment::half_open).then_some(500);
        let rest = self.listener.rests_until().map(|until| until.saturating_sub(self.now).max(1));
        [again, waiting, timers, rest].into_iter().flatten().min()
    }

    fn serve_due(&mut self) {
        let due: Vec<u64> = self
            .attached
            .values()
            .filter(|attachment| attachment.due(self.now))
            .map(|attachment| attachment.id)
            .collect();
        for id in due {
            if let Err(end) = self.serve(id) {
                self.end(id, &end);
            }
        }
    }

    /// Sends all hosts what waits for them. The events of one that has gone go to its stand-in, which gets them at once.
    fn flush_all(&mut self) {
        while self.flush_each() {}
    }

    /// Sends each host what waits for it. True if one has gone.
    fn flush_each(&mut self) -> bool {
        let mut gone = Vec::new();
        let context = self.context.clone();
        let (events, bound) = (&context.events, self.router.bound);
        for attachment in self.attached.values_mut().filter(|attachment| attachment.out.len() > 0) {
            // Events that were held because the host did not read go out when it reads again.
            loop {
                let flushed = attachment.out.flush(&attachment.socket);
                if flushed.is_err() {
                    gone.push(attachment.id);
                }
                if !flushed.is_ok_and(|all| all) || attachment.events.is_empty() {
                    break;
                }
                attachment.release(events, bound);
                if attachment.out.len() == 0 {
                    break;
                }
            }
        }
        gone.iter().for_each(|id| self.end(*id, &End::Gone));
        !gone.is_empty()
    }

    /// Tells all hosts how large their messages may be now.
    fn tell_limits(&mut self) {
        let (max_message, max_send) = (self.api.max_message() as u64, self.api.max_send() as u64);
        for attachment in self.attached.values_mut().filter(|attachment| !attachment.half_open()) {
            FromHub::Limits { max_message, max_send }.write(attachment.out.tail());
        }
    }

    fn run_timers(&mut self) {
        self.end_half_open();
        self.resume_listener();
    }

    /// Ends an attachment. Its clients' connections live on. The host that stands in gets the events that were held.
    fn end(&mut self, id: u64, end: &End) {
        let Some(attachment) = self.attached.remove(&id) else { return };
        let pid = attachment.process.pid;
        match end {
            End::Fault(text) if attachment.half_open() => {
                self.note_refusal(format_args!("process {pid} is disconnected: {text}"));
            }
            End::Fault(text) => self.note_fault(format_args!("process {pid} is disconnected: {text}")),
            End::Gone if attachment.half_open() => {}
            End::Gone => self.log(Level::Info, format_args!("attach: process {pid} has gone")),
        }
        if attachment.half_open() {
            return;
        }
        let lost = self.sessions.leave(&attachment.session, id, self.now);
        self.note_lost(lost, KEPT_AWAY);
        self.note_wants_events();
        self.pass_on(attachment.events.into_held());
        self.events().set_behind(attachment.host, None);
    }

    fn events(&self) -> &Events {
        &self.context.events
    }

    /// Counts and logs that a process may not attach.
    fn note_refusal(&self, text: fmt::Arguments<'_>) {
        self.context.note_refusal(Level::Warn, Reason::Attach, format_args!("attach: {text}"));
    }

    /// Counts and logs what the system refuses to this process.
    fn note_resources(&self, text: fmt::Arguments<'_>) {
        self.context.note_refusal(Level::Warn, Reason::Resources, format_args!("attach: {text}"));
    }

    /// Counts and logs that an attached host has handed over a client wrongly.
    fn note_bad_handover(&self, client: Client<'_>, text: fmt::Arguments<'_>) {
        self.context.metrics.refusal(Reason::Attach);
        client.log(&self.context.log, Level::Warn, "an attached host's fault", format_args!("attach: {text}"));
    }

    /// Counts and logs that an attached host broke the protocol. These lines have their own rate limit, so processes
    /// that may not attach can't suppress them.
    fn note_fault(&self, text: fmt::Arguments<'_>) {
        self.context.metrics.refusal(Reason::Attach);
        self.context.log.limited(Level::Warn, "an attached host's fault", format_args!("attach: {text}"));
    }

    fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        self.context.log.line(level, text);
    }
}

fn refuse(fd: &OwnedFd, because: RefusedBecause, text: &str) {
    let mut frame = Vec::new();
    FromHub::Refused { because, text }.write(&mut frame);
    let _ = socket::send(fd, &frame);
}

/// The text that both sides give for a mismatch of versions.
fn version_text(theirs: u16) -> String {
    format!("the host speaks version {theirs} of the attach protocol, the hub speaks {OLDEST} to {VERSION}")
}
