//! The host's side: a server whose hub is another process.
//!
//! A call puts a frame into a queue. If the socket takes it at once, the frame is sent from the caller's thread. One
//! thread, `push-attached`, reads answers and events, sends what is left, and attaches again when the connection was
//! lost.

mod calls;
mod connect;
mod queue;
mod refusing;
#[cfg(test)]
mod scripted_tests;
mod thread;

use super::wire::FromHost;
use crate::api::MAX_BATCH;
use crate::callbacks::{self, Leftover, Prepared};
use crate::config::{Builder, Config, Reloadable, Reloaded};
use crate::error::{Error, Kind};
use crate::events::Events;
use crate::log::{Level, Log};
use crate::runtime::{self, Work};
use crate::sys::eventfd::EventFd;
use crate::sys::output::Output;
use connect::Failure;
use queue::Queue;
use socket2::SockAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An attached server.
#[derive(Debug)]
pub(crate) struct Attached {
    link: Arc<Link>,
    thread: JoinHandle<()>,
    tellers: callbacks::Running,
}

/// What callers and the thread share.
#[derive(Debug)]
struct Link {
    config: Reloadable,
    /// Absolute, unless that is too long for a socket: the host may change its directory before the hub comes back.
    path: PathBuf,
    /// The option `attach_name`.
    name: String,
    /// The option `event_queue`.
    event_bound: usize,
    session: [u8; 16],
    log: Log,
    events: Events,
    queue: Mutex<Queue>,
    credit: Mutex<Credit>,
    lingering: Mutex<refusing::Lingering>,
    /// Wakes the thread.
    wake: Arc<EventFd>,
    stop: AtomicBool,
    /// The time by which to be done, set before `stop`. `None` means no limit.
    stop_at: Mutex<Option<Instant>>,
    limits: HubLimits,
}

/// The hub's limits. A call that exceeds them fails at once, without asking the hub.
#[derive(Debug)]
struct HubLimits {
    max_message: AtomicUsize,
    max_send: AtomicUsize,
    max_batch: AtomicUsize,
    /// The hub's option `user_channel`, if it has told it: one of [`UNKNOWN`], [`OFF`] and [`ON`].
    user_channel: AtomicU8,
}

const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

impl HubLimits {
    /// The limits before the first hub has told its own.
    fn new() -> Self {
        HubLimits {
            max_message: AtomicUsize::new(64 << 20),
            max_send: AtomicUsize::new(64 << 20),
            max_batch: AtomicUsize::new(MAX_BATCH),
            user_channel: AtomicU8::new(UNKNOWN),
        }
    }

    /// Stores what a hub says of its users' channels when it welcomes the host.
    fn set_user_channel(&self, is_on: Option<bool>) {
        self.user_channel.store(is_on.map_or(UNKNOWN, |is_on| if is_on { ON } else { OFF }), Ordering::Relaxed);
    }

    /// Stores those that the hub tells at any time.
    fn set(&self, max_message: u64, max_send: u64) {
        self.max_message.store(max_message as usize, Ordering::Relaxed);
        self.max_send.store(max_send as usize, Ordering::Relaxed);
    }
}

/// The events that the hub may send before it gets more credit.
#[derive(Debug, Default)]
struct Credit {
    outstanding: usize,
    asked: bool,
}

impl AsRef<Events> for Link {
    fn as_ref(&self) -> &Events {
        &self.events
    }
}

impl Link {
    /// Gives the hub credit for the events that there is room for, in large steps. The first credit also says that
    /// events are wanted.
    fn give_credit(&self) {
        if self.events.wanted() {
            self.give(&mut self.credit());
        }
    }

    fn give(&self, credit: &mut Credit) {
        if !self.events.wanted() {
            return;
        }
        let bound = self.event_bound;
        if self.events.waiting() > bound / 2 {
            // The host wakes the thread when it has taken half of the events. It may have done so just now.
            self.events.resume_at_half();
        }
        let used = credit.outstanding + self.events.waiting();
        if credit.asked && used > bound / 2 {
            return;
        }
        let more = bound.saturating_sub(used);
        credit.outstanding += more;
        credit.asked = true;
        let mut frame = Vec::new();
        FromHost::Credit { events: more as u32 }.write(&mut frame);
        self.queue().add_credit(frame);
    }

    /// Takes all credit back, since a new attachment begins without credit. Both steps are under one lock. Otherwise
    /// credit that is still queued would be sent beside the new credit, and the hub would send more events than there
    /// is room for.
    fn take_credit_back(&self) -> MutexGuard<'_, Credit> {
        let mut credit = self.credit();
        self.queue().drop_credit();
        *credit = Credit::default();
        credit
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.config.get().attach_timeout_ms)
    }

    fn credit(&self) -> MutexGuard<'_, Credit> {
        self.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No panic under this lock can leave the queue inconsistent.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attached {
    /// Attaches. If no hub is there, the host starts and tries again later. A hub that refuses this host is an error.
    /// `output` is the descriptor for the log, if one is set.
    pub(crate) fn start(builder: &Builder, path: PathBuf, output: Option<Output>) -> Result<Self, Error> {
        let config = builder.config().clone();
        let failed = |error: std::io::Error| Error::system("an event descriptor can't be made", &error);
        let wake = Arc::new(EventFd::new().map_err(failed)?);
        let Prepared { log, notify, tellers } = callbacks::prepare(builder, output)?;
        let resume = wake.clone();
        let events = Events::new(config.event_queue, config.events, notify, Box::new(move || resume.signal()))
            .map_err(failed)?;
        let mut session = [0; 16];
        getrandom::fill(&mut session)
            .map_err(|error| Error::system("the system has no random numbers", &std::io::Error::other(error)))?;
        let absolute = std::path::absolute(&path).ok().filter(|path| SockAddr::unix(path).is_ok());
        let link = Arc::new(Link {
            path: absolute.unwrap_or(path),
            name: config.attach_name.clone(),
            event_bound: config.event_queue,
            session,
            log,
            events,
            queue: Mutex::new(Queue::new(config.attach_buffer)),
            credit: Mutex::default(),
            lingering: Mutex::default(),
            wake,
            stop: AtomicBool::new(false),
            stop_at: Mutex::new(None),
            limits: HubLimits::new(),
            config: Reloadable::new(config),
        });
        // A host starts as usual although its hub hangs: the attempt takes no longer than a call may wait.
        let patience = link.timeout().min(connect::PATIENCE);
        let first = match connect::attach(&link, patience) {
            Ok(attached) => Some(attached),
            Err(Failure::Refused(text) | Failure::Version(text)) => {
                return Err(Error::new(Kind::System, format!("option attach: the hub refuses: {text}")));
            }
            Err(Failure::Away(text)) => {
                let path = link.path.display();
                link.log
                    .line(Level::Warn, format_args!("no hub at unix:{path}: {text}; trying again until a hub answers"));
                // The hub counts as one that can't be reached from now on. So the first calls wait for it as long as
                // later calls do.
                link.queue().detach();
                None
            }
        };
        let run = link.clone();
        let mut work: Vec<(String, Work)> = vec![("push-attached".into(), Box::new(move || thread::run(&run, first)))];
        let (tell, endings) = tellers.work(builder, &link);
        work.extend(tell);
        let (threads, started) = runtime::spawn(work);
        let mut threads = threads.into_iter();
        let thread = threads.next();
        let tellers = endings.running(&mut threads);
        match (thread, started) {
            (Some(thread), Ok(())) => Ok(Attached { link, thread, tellers }),
            (thread, started) => {
                if let Some(thread) = thread {
                    Attached { link, thread, tellers }.stop(Duration::ZERO);
                }
                started.and(Err(Error::new(Kind::System, "no thread was started")))
            }
        }
    }

    /// Applies the options that can change now. Most options are the hub's, and change nothing here.
    pub(crate) fn reload(&self, builder: &Builder) -> Result<Reloaded, Error> {
        // Held to the end, so that reloads do not overlap.
        let mut queue = self.link.queue();
        let (config, reloaded) = self.link.config.get().reloaded(builder.config())?;
        queue.set_bound(config.attach_buffer);
        self.link.log.set_level(config.log_level);
        self.link.log.set_names_addresses(config.log_addresses);
        self.link.events.set_kinds(config.events);
        self.link.config.set(Arc::new(config));
        Ok(reloaded)
    }

    /// The target of the calls that go to a hub.
    pub(crate) fn hub(&self) -> &Self {
        self
    }

    /// The present options of this side.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.link.config.get()
    }

    /// A host has no addresses: the hub listens.
    pub(crate) fn addresses(&self) -> &[String] {
        &[]
    }

    /// False: hosts attach to the hub, not to another host.
    pub(crate) fn serves_hosts(&self) -> bool {
        false
    }

    /// Not supported: the clients belong to the hub's process.
    pub(crate) fn drain(&self, _time: Duration) -> Result<(), Error> {
        Err(Error::new(Kind::Unsupported, "the clients are the hub's; they stay when this host goes"))
    }

    pub(crate) fn log(&self) -> &Log {
        &self.link.log
    }

    pub(crate) fn events(&self) -> &Events {
        &self.link.events
    }

    /// Tells the hub that events are wanted, before the first call that follows. A hub that can't be reached is told
    /// when it comes back.
    pub(crate) fn want_events(&self) {
        if !self.link.events.wanted() {
            self.link.events.want();
            // Under one lock: a hub that welcomes the host just now gets the credit here, or has got it there.
            let mut credit = self.link.credit();
            if self.link.queue().is_attached() {
                self.link.give(&mut credit);
                drop(credit);
                self.flush();
            }
        }
    }

    /// Sends what waits and gets its answers, for at most `drain`, then closes the attachment. Returns the threads
    /// that are left over because the host does not take what they tell it.
    pub(crate) fn stop(self, drain: Duration) -> Option<Leftover> {
        let until = Instant::now().checked_add(drain);
        *self.link.stop_at.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.link.stop.store(true, Ordering::Release);
        self.link.wake.signal();
        let _ = self.thread.join();
        self.link.log.line(Level::Info, format_args!("stopped"));
        self.tellers.end(until, None)
    }
}
