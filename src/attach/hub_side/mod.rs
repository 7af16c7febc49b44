//! The hub's side of the attach socket: one thread, `push-attach`, with an epoll of its own.
//!
//! A loop by hand and not tokio's tasks: attachments are few, each of their frames changes what all share (sessions,
//! the routing of events), and one owner without locks is the simplest thing that does that.

mod admission;
mod attachment;
#[cfg(test)]
mod older_tests;
#[cfg(test)]
mod panic_tests;
#[cfg(test)]
mod recall_tests;
mod requests;
mod router;
mod sessions;

use super::wire::{FromHub, RefusedBecause, OLDEST, VERSION};
use crate::api::Api;
use crate::context::client::Client;
use crate::context::Context;
use crate::error::Error;
use crate::events::{Events, EVERY_HOST};
use crate::grant::Grant;
use crate::log::Level;
use crate::metrics::Reason;
use crate::panics;
use crate::runtime::Work;
use crate::sys::epoll::{Epoll, Event, Readiness, Watch};
use crate::sys::eventfd::EventFd;
use crate::sys::{clock, socket};
use attachment::Attachment;
use router::Names;
pub(crate) use sessions::Sessions;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// How long the listener rests when the process is out of descriptors.
const REST_MS: u64 = 200;
/// How many connections one turn takes.
const ACCEPTS: usize = 64;

/// Tokens that are no attachments.
const LISTENER: u64 = 0;
const TOLD: u64 = 1;
const EVENTS: u64 = 2;
const FIRST_ID: u64 = 16;

/// A running attach socket, to be stopped.
#[derive(Debug)]
pub(crate) struct AttachListener {
    told: Arc<Told>,
}

/// What the thread is told.
#[derive(Debug)]
struct Told {
    stop: AtomicBool,
    reconfigure: AtomicBool,
    wake: EventFd,
}

impl AttachListener {
    /// Prepares it, where errors can be told; the thread's work is the second. `sessions`: what earlier hubs have done
    /// for hosts.
    pub(crate) fn new(
        api: Arc<Api>,
        context: Arc<Context>,
        listener: Arc<OwnedFd>,
        sessions: Sessions,
    ) -> Result<(Self, Work), Error> {
        let failed = |error: &io::Error| Error::system("the attach socket can't be watched", error);
        let wake = EventFd::new().map_err(|error| failed(&error))?;
        let told = Arc::new(Told { stop: AtomicBool::new(false), reconfigure: AtomicBool::new(false), wake });
        let hub_side = HubSide::new(api, context, listener, told.clone(), sessions);
        let mut hub_side = hub_side.map_err(|error| failed(&error))?;
        Ok((AttachListener { told }, Box::new(move || hub_side.run())))
    }

    /// Attaches nobody any more; what has come is done, and then hosts are let go.
    pub(crate) fn stop(&self) {
        self.told.stop.store(true, Ordering::Release);
        self.told.wake.signal();
    }

    /// Options have changed, of which hosts should hear.
    pub(crate) fn reconfigure(&self) {
        self.told.reconfigure.store(true, Ordering::Release);
        self.told.wake.signal();
    }
}

struct HubSide {
    api: Arc<Api>,
    context: Arc<Context>,
    epoll: Epoll,
    listener: Arc<OwnedFd>,
    /// Set while the listener rests: until when.
    rests_until: Option<u64>,
    told: Arc<Told>,
    /// Events that may be held for one host: the option `event_queue`.
    event_bound: usize,
    attached: BTreeMap<u64, Attachment>,
    next_id: u64,
    sessions: Sessions,
    names: Names,
    /// Too much is held for a host that stands in for others: events wait in the hub's queue.
    routing_paused: bool,
    now: u64,
}

/// Why an attachment ends.
#[derive(Debug)]
enum End {
    /// Its process has ended, or let go.
    Gone,
    /// It is not what it should be.
    Fault(String),
}

impl HubSide {
    fn new(
        api: Arc<Api>,
        context: Arc<Context>,
        listener: Arc<OwnedFd>,
        told: Arc<Told>,
        sessions: Sessions,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(listener.as_raw_fd(), LISTENER, Watch::SharedRead)?;
        epoll.add(told.wake.as_raw_fd(), TOLD, Watch::EdgeRead)?;
        epoll.add(context.events.as_raw_fd(), EVENTS, Watch::EdgeRead)?;
        let event_bound = context.config.get().event_queue;
        Ok(HubSide {
            api,
            context,
            epoll,
            listener,
            rests_until: None,
            told,
            event_bound,
            attached: BTreeMap::new(),
            next_id: FIRST_ID,
            sessions,
            names: Names::default(),
            routing_paused: false,
            now: clock::monotonic_ms(),
        })
    }

    /// Runs until stopped. A panic lets all hosts go, not the hub: they come back.
    fn run(&mut self) {
        while !self.told.stop.load(Ordering::Acquire) {
            if catch_unwind(AssertUnwindSafe(|| self.turn())).is_err() {
                self.context.metrics.panics.fetch_add(1, Ordering::Relaxed);
                self.log(
                    Level::Error,
                    format_args!("attach: {}; it was caught; hosts are let go and may come back", panics::said()),
                );
                self.let_all_go();
            }
        }
        // What hosts are to hear, and what they have published before they were let go.
        self.routing_paused = false;
        self.route();
        self.now = clock::monotonic_ms();
        self.attached.values_mut().for_each(|attachment| attachment.unread = true);
        self.serve_due();
        self.flush_all();
        self.let_all_go();
    }

    /// Ends all attachments at once, so that nobody is there to stand in for another.
    fn let_all_go(&mut self) {
        for (id, attachment) in std::mem::take(&mut self.attached) {
            self.sessions.leave(&attachment.session, id, self.now);
            attachment.held.iter().for_each(|event| router::count_loss(self.events(), event));
            self.events().set_behind(attachment.host, None);
        }
        self.note_wishes();
    }

    fn turn(&mut self) {
        let mut events = [Event { events: 0, u64: 0 }; 256];
        let count = self.epoll.wait(&mut events, self.wait_ms()).unwrap_or(0);
        self.now = clock::monotonic_ms();
        for event in &events[..count] {
            match event.u64 {
                LISTENER => self.accept(),
                TOLD | EVENTS => {}
                id => {
                    let Some(attachment) = self.attached.get_mut(&id) else { continue };
                    attachment.unread |= event.readable();
                }
            }
        }
        if self.told.reconfigure.swap(false, Ordering::AcqRel) {
            self.tell_limits();
        }
        self.serve_due();
        self.route();
        self.flush_all();
        self.run_timers();
    }

    fn wait_ms(&self) -> Option<u64> {
        if self.attached.values().any(|attachment| attachment.again_at.is_none() && attachment.due(self.now)) {
            return Some(0);
        }
        let again = self.attached.values().any(|attachment| attachment.again_at.is_some()).then_some(1);
        let timers = self.attached.values().any(Attachment::half_open).then_some(500);
        let rest = self.rests_until.map(|until| until.saturating_sub(self.now).max(1));
        [again, timers, rest].into_iter().flatten().min()
    }

    fn accept(&mut self) {
        let mut failures = 0;
        for _ in 0..ACCEPTS {
            match socket::accept(&self.listener) {
                Ok(fd) => self.accepted(fd),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if socket::out_of_resources(&error) => return self.rest(&error),
                // Whoever came was gone again; always, it is the system that does not let us accept (seccomp).
                Err(error) => {
                    failures += 1;
                    if failures == ACCEPTS {
                        self.rest(&error);
                    }
                }
            }
        }
    }

    fn rest(&mut self, error: &io::Error) {
        self.note_resources(format_args!("{error}; trying again in {REST_MS} ms"));
        let _ = self.epoll.remove(self.listener.as_raw_fd());
        self.rests_until = Some(self.now + REST_MS);
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

    fn flush_all(&mut self) {
        let mut gone = Vec::new();
        let context = self.context.clone();
        let (events, bound) = (&context.events, self.event_bound);
        for attachment in self.attached.values_mut().filter(|attachment| attachment.out.len() > 0) {
            // What was held because it did not read goes on when it does.
            loop {
                let flushed = attachment.out.flush(&attachment.socket);
                if flushed.is_err() {
                    gone.push(attachment.id);
                }
                if !flushed.is_ok_and(|all| all) || attachment.held.is_empty() {
                    break;
                }
                attachment.release(events, bound);
                if attachment.out.len() == 0 {
                    break;
                }
            }
        }
        gone.iter().for_each(|id| self.end(*id, &End::Gone));
    }

    /// Tells all hosts what they may send now.
    fn tell_limits(&mut self) {
        let client_publish = self.context.config.get().client_publish;
        let (max_message, max_send) = (self.api.max_message() as u64, self.api.max_send() as u64);
        for attachment in self.attached.values_mut().filter(|attachment| !attachment.half_open()) {
            attachment.open_grant = Arc::new(Grant::open(client_publish).of_host(attachment.host));
            FromHub::Limits { max_message, max_send }.write(attachment.out.tail());
        }
    }

    /// Takes the hub's events and leaves each to the host that it is for.
    fn route(&mut self) {
        let context = self.context.clone();
        let (events, bound) = (&context.events, self.event_bound);
        self.routing_paused &= self.attached.values().any(|attachment| attachment.held_for_others > bound / 2);
        while !self.routing_paused {
            let Some(event) = events.take() else { return };
            if event.host == EVERY_HOST {
                let wanting = self.attached.values_mut().filter(|attachment| attachment.credit.is_some());
                wanting.for_each(|attachment| attachment.tell(event.clone(), events, bound));
                continue;
            }
            match router::receiver(&self.attached, &event).and_then(|id| self.attached.get_mut(&id)) {
                Some(attachment) => {
                    attachment.tell(event, events, bound);
                    // Others' clients are not made to wait one by one: then all are.
                    self.routing_paused = attachment.held_for_others > bound;
                }
                None => router::count_loss(events, &event),
            }
        }
    }

    fn run_timers(&mut self) {
        self.end_silent();
        if self.rests_until.is_some_and(|until| self.now >= until) {
            let added = self.epoll.add(self.listener.as_raw_fd(), LISTENER, Watch::SharedRead);
            self.rests_until = added.is_err().then_some(self.now + REST_MS);
            if let Err(error) = added {
                self.note_resources(format_args!(
                    "the listener can't be watched: {error}; trying again in {REST_MS} ms"
                ));
            }
        }
    }

    /// An attachment ends. Its connections live on; what it was to be told of them goes to who stands in for it.
    fn end(&mut self, id: u64, end: &End) {
        let Some(attachment) = self.attached.remove(&id) else { return };
        let pid = attachment.peer.pid;
        match end {
            End::Fault(text) if attachment.half_open() => {
                self.note_refusal(format_args!("process {pid} is let go: {text}"));
            }
            End::Fault(text) => self.note_fault(format_args!("process {pid} is let go: {text}")),
            End::Gone if attachment.half_open() => {}
            End::Gone => self.log(Level::Info, format_args!("attach: process {pid} has gone")),
        }
        if attachment.half_open() {
            return;
        }
        self.sessions.leave(&attachment.session, id, self.now);
        self.note_wishes();
        let context = self.context.clone();
        let (events, bound) = (&context.events, self.event_bound);
        for event in attachment.held {
            match router::receiver(&self.attached, &event).and_then(|id| self.attached.get_mut(&id)) {
                Some(heir) => heir.tell(event, events, bound),
                None => router::count_loss(events, &event),
            }
        }
        events.set_behind(attachment.host, None);
    }

    /// Tells the shards whether anybody wants events.
    fn note_wishes(&self) {
        let hosts = self.attached.values().filter(|attachment| !attachment.half_open()).count();
        self.context.hosts.store(hosts, Ordering::Relaxed);
        let wanted = self.attached.values().any(|attachment| attachment.credit.is_some());
        self.events().set_wanted(wanted);
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

    /// The same about a client that it has handed over.
    fn note_bad_handover(&self, client: Client<'_>, text: fmt::Arguments<'_>) {
        self.context.metrics.refusal(Reason::Attach);
        client.log(&self.context.log, Level::Warn, "an attached host's fault", format_args!("attach: {text}"));
    }

    /// Counts and logs what an attached host did wrong; apart from the above, so that strangers can't drown it.
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

/// What both sides say of a mismatch.
fn version_text(theirs: u16) -> String {
    format!("the host speaks version {theirs} of the attach protocol, the hub speaks {OLDEST} to {VERSION}")
}
