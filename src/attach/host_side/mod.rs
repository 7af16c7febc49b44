//! The host's side: what a server does whose hub is another process.
//!
//! Calls leave frames in a queue and, where the socket takes them at once, send them from the caller's thread. One
//! thread, `push-attached`, reads answers and events, sends what is left, and attaches again when the hub was away.

mod connect;
mod queue;
mod thread;

use super::wire::FromHost;
use crate::api::{check_head, check_send, checked_close, checked_refusal, checked_revocation, MAX_BATCH};
use crate::callbacks;
use crate::config::{Builder, Config, Reloadable, Reloaded};
use crate::error::{Error, Kind};
use crate::events::Events;
use crate::grant::Grant;
use crate::hub::{check_text, Epoch, Publication};
use crate::log::{Level, Log};
use crate::metrics::Stats;
use crate::runtime::{self, Work};
use crate::server::Placed;
use crate::sys::eventfd::EventFd;
use crate::sys::passing::MAX_PASSED;
use crate::users::{self, Users};
use connect::Failure;
use queue::{Answer, Content, Queue, Waiter, AWAY};
use socket2::SockAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An attached server.
#[derive(Debug)]
pub(crate) struct Attached {
    link: Arc<Link>,
    thread: JoinHandle<()>,
    callback: Option<callbacks::Running>,
}

/// What callers and the thread share.
#[derive(Debug)]
struct Link {
    config: Reloadable,
    /// Absolute, where that is not too long for a socket: the host may change its directory before the hub comes back.
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
    /// Wakes the thread.
    wake: Arc<EventFd>,
    stop: AtomicBool,
    /// By when to be done, set before `stop`; `None`: whenever.
    stop_at: Mutex<Option<Instant>>,
    /// The hub's bounds, so that what breaks them is told at once.
    max_message: AtomicUsize,
    max_send: AtomicUsize,
}

/// How many events the hub may send before it is given more room.
#[derive(Debug, Default)]
struct Credit {
    outstanding: usize,
    asked: bool,
}

impl Link {
    /// Tells the hub how many events there is room for, in large steps. The first time says that they are wanted.
    fn give_credit(&self) {
        if !self.events.wanted() {
            return;
        }
        let bound = self.event_bound;
        if self.events.waiting() > bound / 2 {
            // When the host has taken half of them, it wakes the thread; it may have done so just now.
            self.events.resume_at_half();
        }
        let mut credit = self.credit();
        let used = credit.outstanding + self.events.waiting();
        if credit.asked && used > bound / 2 {
            return;
        }
        let more = bound.saturating_sub(used);
        credit.outstanding += more;
        credit.asked = true;
        let mut frame = Vec::new();
        FromHost::Credit { events: more as u32 }.write(&mut frame);
        self.queue().add_first(frame);
    }

    /// The hub's bounds.
    fn set_limits(&self, max_message: u64, max_send: u64) {
        self.max_message.store(max_message as usize, Ordering::Relaxed);
        self.max_send.store(max_send as usize, Ordering::Relaxed);
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.config.get().attach_timeout_ms)
    }

    fn credit(&self) -> MutexGuard<'_, Credit> {
        self.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock can panic half-way through a change that matters.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attached {
    /// Attaches. A hub that is not there may come later; one that refuses us is an error now.
    pub(crate) fn start(builder: &Builder, path: PathBuf) -> Result<Self, Error> {
        let config = builder.config().clone();
        let failed = |error: std::io::Error| Error::system("a wake-up can't be made", &error);
        let wake = Arc::new(EventFd::new().map_err(failed)?);
        let (inputs, outputs) = callbacks::channels(builder).unzip();
        let log = Log::new(outputs.as_ref().and_then(|outputs| outputs.lines.clone()), config.log_level);
        let resume = wake.clone();
        let notify = outputs.as_ref().and_then(|outputs| outputs.notify.clone());
        let events = Events::new(config.event_queue, config.events, notify, Box::new(move || resume.signal()))
            .map_err(failed)?;
        let mut session = [0; 16];
        getrandom::fill(&mut session)
            .map_err(|error| Error::system("no random numbers", &std::io::Error::other(error)))?;
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
            wake,
            stop: AtomicBool::new(false),
            stop_at: Mutex::new(None),
            max_message: AtomicUsize::new(64 << 20),
            max_send: AtomicUsize::new(64 << 20),
            config: Reloadable::new(config),
        });
        // A host starts as usual though its hub hangs: what a call may wait is all that this one may.
        let patience = link.timeout().min(connect::PATIENCE);
        let first = match connect::attach(&link, patience) {
            Ok(attached) => Some(attached),
            Err(Failure::Refused(text) | Failure::Version(text)) => {
                return Err(Error::new(Kind::System, format!("option attach: the hub refuses: {text}")));
            }
            Err(Failure::Away(text)) => {
                let path = link.path.display();
                link.log.line(Level::Warn, format_args!("unix:{path}: {text}; trying again until a hub is there"));
                // Away from now on: the first calls may wait for it as those later may.
                link.queue().detach();
                None
            }
        };
        let run = link.clone();
        let mut work: Vec<(String, Work)> = vec![("push-attached".into(), Box::new(move || thread::run(&run, first)))];
        let stop_callback = outputs.map(|outputs| outputs.stop);
        if let Some(inputs) = inputs {
            let (builder, link) = (builder.clone(), link.clone());
            work.push(("push-callback".into(), Box::new(move || callbacks::run(&inputs, &builder, &link.events))));
        }
        let (threads, started) = runtime::spawn(work);
        let mut threads = threads.into_iter();
        let thread = threads.next();
        let callback = stop_callback.and_then(|stop| Some(callbacks::Running { stop, thread: threads.next()? }));
        match (thread, started) {
            (Some(thread), Ok(())) => Ok(Attached { link, thread, callback }),
            (thread, started) => {
                if let Some(thread) = thread {
                    Attached { link, thread, callback }.stop(Duration::ZERO);
                }
                started.and(Err(Error::new(Kind::System, "no thread was started")))
            }
        }
    }

    /// Publishes, and waits for the position.
    pub(crate) fn publish(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        self.check(publication, false)?;
        placed(self.ask(|number| FromHost::Publish { number, publication: *publication })?)
    }

    /// Publishes, and does not wait.
    pub(crate) fn post(&self, publication: &Publication<'_>) -> Result<(), Error> {
        self.check(publication, false)?;
        self.leave(|number| FromHost::Publish { number, publication: *publication })
    }

    pub(crate) fn broadcast(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        self.check(publication, true)?;
        let publication = Publication { channel: "", ..*publication };
        placed(self.ask(|number| FromHost::Broadcast { number, publication })?)
    }

    pub(crate) fn post_broadcast(&self, publication: &Publication<'_>) -> Result<(), Error> {
        self.check(publication, true)?;
        let publication = Publication { channel: "", ..*publication };
        self.leave(|number| FromHost::Broadcast { number, publication })
    }

    pub(crate) fn publish_batch(&self, publications: &[Publication<'_>]) -> Result<Vec<Placed>, Error> {
        self.check_batch(publications)?;
        match self.ask(|number| FromHost::Batch { number, publications: publications.to_vec() })? {
            Answer::Batched(seqs, life) => {
                Ok(seqs.into_iter().map(|seq| Placed { seq, subscribers: 0, life }).collect())
            }
            other => placed(other).map(|placed| vec![placed]),
        }
    }

    pub(crate) fn post_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        self.check_batch(publications)?;
        self.leave(|number| FromHost::Batch { number, publications: publications.to_vec() })
    }

    pub(crate) fn adopt(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>) -> Result<(), (Error, OwnedFd)> {
        self.add_adopt(fd, head, grant)?;
        self.flush();
        Ok(())
    }

    /// Leaves it to be sent with those that follow at once.
    pub(crate) fn adopt_more(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>) -> Result<(), (Error, OwnedFd)> {
        if self.add_adopt(fd, head, grant)? >= MAX_PASSED {
            self.flush();
        }
        Ok(())
    }

    /// Says how many wait now.
    fn add_adopt(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>) -> Result<usize, (Error, OwnedFd)> {
        if let Err(error) = check_head(head) {
            return Err((error, fd));
        }
        let mut frame = Vec::with_capacity(head.len() + 64);
        FromHost::Adopt { grant, head }.write(&mut frame);
        let timeout = self.link.timeout();
        self.link.queue().add_adopt(frame, fd, timeout)
    }

    pub(crate) fn send(&self, connection: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        check_send(data, binary, self.link.max_send.load(Ordering::Relaxed))?;
        self.tell(Content::OfThisLife, &FromHost::Send { connection, binary, data })
    }

    pub(crate) fn close(&self, connection: u64, code: u16, reason: &str) -> Result<(), Error> {
        checked_close(code, reason)?;
        self.tell(Content::OfThisLife, &FromHost::Close { connection, code, reason })
    }

    pub(crate) fn allow(&self, request: u64, grant: Grant) -> Result<(), Error> {
        self.tell(Content::OfThisLife, &FromHost::Allow { request, grant })
    }

    pub(crate) fn deny(&self, request: u64, status: u16, reason: &str) -> Result<(), Error> {
        checked_refusal(status, reason)?;
        self.tell(Content::OfThisLife, &FromHost::Deny { request, status, reason })
    }

    pub(crate) fn disconnect_user(&self, user: &str, code: u16, reason: &str) -> Result<(), Error> {
        check_text("user", user, 255)?;
        checked_close(code, reason)?;
        self.command(&FromHost::Disconnect { user, code, reason })
    }

    pub(crate) fn revoke_channel(&self, user: &str, channel: &str, reason: &str) -> Result<(), Error> {
        checked_revocation(user, channel, reason)?;
        self.command(&FromHost::Revoke { user, channel, reason })
    }

    pub(crate) fn renew(&self, connection: u64, grant: Grant) -> Result<(), Error> {
        self.tell(Content::OfThisLife, &FromHost::Renew { connection, grant })
    }

    pub(crate) fn stats(&self) -> Result<Stats, Error> {
        match self.look(&|number| FromHost::Stats { number })? {
            Answer::Stats(mut stats) => {
                stats.logs_dropped = self.link.log.dropped();
                Ok(*stats)
            }
            other => placed(other).map(|_| Stats::default()),
        }
    }

    pub(crate) fn users(&self, channel: &str, after: &str, limit: usize) -> Result<Users, Error> {
        users::check(channel, after, limit)?;
        match self.look(&|number| FromHost::Users { number, channel, after, limit: limit as u32 })? {
            Answer::Users(users) if users.page.len() <= limit && users.page.iter().all(|user| *user.name > *after) => {
                Ok(users)
            }
            _ => Err(not_understood()),
        }
    }

    /// The position of a message as clients see it.
    pub(crate) fn position(&self, placed: &Placed) -> String {
        self.link.queue().life(placed.life).map_or_else(String::new, |epoch: &Epoch| epoch.position(placed.seq))
    }

    /// The position of a number in the hub's present life.
    pub(crate) fn position_now(&self, seq: u64) -> String {
        self.link.queue().present_life().map_or_else(String::new, |epoch| epoch.position(seq))
    }

    /// Takes those of the options that can change now; most are the hub's, and change nothing here.
    pub(crate) fn reload(&self, wanted: &Config) -> Result<Reloaded, Error> {
        // Held to the end: one reload after the other.
        let mut queue = self.link.queue();
        let (config, reloaded) = self.link.config.get().reloaded(wanted)?;
        queue.set_bound(config.attach_buffer);
        self.link.log.set_level(config.log_level);
        self.link.events.set_kinds(config.events);
        self.link.config.set(Arc::new(config));
        Ok(reloaded)
    }

    pub(crate) fn log(&self) -> &Log {
        &self.link.log
    }

    pub(crate) fn events(&self) -> &Events {
        &self.link.events
    }

    /// The hub is told at the first wish, before anything that is asked of it later. One that is away is told when it
    /// comes.
    pub(crate) fn want_events(&self) {
        if !self.link.events.wanted() {
            self.link.events.want();
            if self.link.queue().is_attached() {
                self.link.give_credit();
                self.flush();
            }
        }
    }

    /// Lets the hub go, after what waits for it was sent and answered, or `drain` is over.
    pub(crate) fn stop(self, drain: Duration) {
        *self.link.stop_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now().checked_add(drain);
        self.link.stop.store(true, Ordering::Release);
        self.link.wake.signal();
        let _ = self.thread.join();
        self.link.log.line(Level::Info, format_args!("stopped"));
        if let Some(callback) = self.callback {
            callback.end();
        }
    }

    fn check(&self, publication: &Publication<'_>, broadcast: bool) -> Result<(), Error> {
        publication.check(self.link.max_message.load(Ordering::Relaxed), broadcast)
    }

    fn check_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        if publications.len() > MAX_BATCH {
            return Err(Error::invalid(format!("a batch has at most {MAX_BATCH} messages")));
        }
        publications.iter().try_for_each(|publication| self.check(publication, false))
    }

    /// Leaves a request whose answer nobody waits for. While others are under way it goes when they are answered, so
    /// that many small ones share a system call on both sides.
    fn leave<'a>(&self, request: impl FnOnce(u64) -> FromHost<'a>) -> Result<(), Error> {
        let mut queue = self.link.queue();
        queue.add_request(request, None)?;
        if queue.nothing_in_flight() && queue.flush() {
            self.link.wake.signal();
        }
        Ok(())
    }

    /// Leaves a request, and waits for the answer.
    fn ask<'a>(&self, request: impl FnOnce(u64) -> FromHost<'a>) -> Result<Answer, Error> {
        let waiter = Arc::new(Waiter::default());
        let timeout = self.link.timeout();
        let number = {
            let mut queue = self.link.queue();
            if queue.is_away(timeout) {
                return Err(Error::new(Kind::Busy, AWAY));
            }
            queue.add_request(request, Some(waiter.clone()))?
        };
        self.flush();
        match waiter.wait(timeout) {
            Some(answer) => answer,
            // It may have come just now.
            None => self.link.queue().give_up(number, &waiter),
        }
    }

    /// As [`Self::ask`], for requests that only ask: they share one copy of the code.
    fn look<'a>(&self, request: &dyn Fn(u64) -> FromHost<'a>) -> Result<Answer, Error> {
        self.ask(request)
    }

    fn tell(&self, content: Content, frame: &FromHost<'_>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        self.link.queue().add(bytes, content)?;
        self.flush();
        Ok(())
    }

    fn command(&self, command: &FromHost<'_>) -> Result<(), Error> {
        self.link.queue().add_command(command)?;
        self.flush();
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&self) {
        if self.link.queue().flush() {
            // The socket is full, or broken: the thread sees to it.
            self.link.wake.signal();
        }
    }
}

fn placed(answer: Answer) -> Result<Placed, Error> {
    match answer {
        Answer::Published(placed) => Ok(placed),
        Answer::Batched(..) | Answer::Stats(_) | Answer::Users(_) => Err(not_understood()),
    }
}

/// The hub answers each request with its own kind of answer, or is not one.
fn not_understood() -> Error {
    Error::new(Kind::System, "the hub's answer is not understood")
}
