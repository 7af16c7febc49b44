//! The queue of one server's events. It is bounded by backpressure: while it is full, the shards do not read from the
//! sockets of clients that send, so nothing is lost. One read may still exceed the bound.

use super::behind::{Behind, Hosts, OVERFLOW};
use super::event::{Event, EventKind, EventKinds};
use crate::error::{Error, Kind};
use crate::sys::eventfd::EventFd;
use crossbeam::channel::Sender;
use crossbeam::queue::SegQueue;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The events that were added by [`Events::add`], and for which nobody was woken yet.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub(crate) struct Unannounced {
    count: usize,
    /// Whether one of them came into an empty queue.
    first: bool,
}

impl Unannounced {
    /// Adds events that came later.
    pub(crate) fn and(self, later: Unannounced) -> Unannounced {
        Unannounced { count: self.count + later.count, first: self.first || later.first }
    }
}

/// The queue of one server.
pub struct Events {
    queue: SegQueue<Event>,
    waiting: AtomicUsize,
    bound: usize,
    /// Whether anybody wants events. Nothing is queued before the host asks for the first time: events that nobody
    /// takes would pile up.
    wanted: AtomicBool,
    /// The kinds that are wanted: an [`EventKinds`].
    kinds: AtomicU16,
    closed: AtomicBool,
    /// Whether a shard stopped reading because the queue was full, and waits for `resume`.
    stalled: AtomicBool,
    /// Attached hosts that are behind. The shards do not read from their clients.
    hosts: Hosts,
    /// Clients' messages for attached hosts that came when no such host was attached any more.
    dropped: AtomicU64,
    resume: Box<dyn Fn() + Send + Sync>,
    /// Readable while events wait.
    ready: EventFd,
    /// Whether `ready` may be readable. It is set before each signal, and saves a system call when the queue is found
    /// empty again.
    signalled: AtomicBool,
    /// The number of threads that wait in `next`. Looking at the queue and going to sleep is one step under this lock.
    sleepers: Mutex<usize>,
    arrived: Condvar,
    /// Wakes the callback thread, which also waits for other things.
    notify: Option<Sender<()>>,
}

partial_debug!(Events { waiting });

impl Events {
    /// A queue of about `bound` events of these kinds. It calls `resume` when the shards may read again. With `notify`,
    /// events are wanted from the start, and `notify` gets a message when events arrive.
    pub fn new(
        bound: usize,
        kinds: EventKinds,
        notify: Option<Sender<()>>,
        resume: Box<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<Self> {
        Ok(Events {
            queue: SegQueue::new(),
            waiting: AtomicUsize::new(0),
            bound,
            wanted: AtomicBool::new(notify.is_some()),
            kinds: AtomicU16::new(kinds.bits()),
            closed: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            hosts: Hosts::default(),
            dropped: AtomicU64::new(0),
            resume,
            ready: EventFd::new()?,
            signalled: AtomicBool::new(false),
            sleepers: Mutex::new(0),
            arrived: Condvar::new(),
            notify,
        })
    }

    /// Whether events go to a callback.
    pub fn called_back(&self) -> bool {
        self.notify.is_some()
    }

    /// Whether anybody wants events.
    pub fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Whether anybody wants events of a kind.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.wanted() && EventKinds::from_bits(self.kinds.load(Ordering::Relaxed)).has(kind)
    }

    /// Changes the kinds that are wanted. The shards then look again at the clients that they do not read from:
    /// messages may no longer be wanted, and then these clients need not wait.
    pub(crate) fn set_kinds(&self, kinds: EventKinds) {
        if self.kinds.swap(kinds.bits(), Ordering::SeqCst) != kinds.bits() {
            (self.resume)();
        }
    }

    /// Notes that somebody wants events.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Notes whether anybody wants events. Attached hosts come and go, so this can change back.
    pub(crate) fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Adds an event.
    pub fn push(&self, event: Event) {
        let added = self.add(event);
        self.announce(added);
    }

    /// Adds an event without waking anybody. A caller that adds several events announces all of them at once, by
    /// [`Self::announce`]. Otherwise the first event would wake the host, and it would go to sleep and be woken again
    /// for each of the others.
    pub(crate) fn add(&self, event: Event) -> Unannounced {
        // The event is counted before it is in the queue, so that the count is never less than the events to take.
        let first = self.waiting.fetch_add(1, Ordering::SeqCst) == 0;
        self.queue.push(event);
        Unannounced { count: 1, first }
    }

    /// Wakes the threads that wait for events.
    pub(crate) fn announce(&self, added: Unannounced) {
        if added.count == 0 {
            return;
        }
        // Another thread may have taken all the events already, before it could see the signal.
        if added.first && self.waiting.load(Ordering::SeqCst) > 0 {
            self.signal();
            if self.waiting.load(Ordering::SeqCst) == 0 {
                self.clear();
            }
        }
        if let Some(notify) = &self.notify {
            // If the channel is full, the thread will look anyhow.
            let _ = notify.try_send(());
            return;
        }
        match (*self.lock(), added.count) {
            (0, _) => {}
            (_, 1) => self.arrived.notify_one(),
            _ => self.arrived.notify_all(),
        }
    }

    /// Whether clients' messages must wait. If so, `resume` is called when there is room again.
    pub fn full(&self) -> bool {
        if self.waiting.load(Ordering::SeqCst) < self.bound {
            return false;
        }
        self.stalled.store(true, Ordering::SeqCst);
        // Another thread may have emptied the queue before the mark was set. It did not see the mark, so look again.
        self.waiting.load(Ordering::SeqCst) >= self.bound
    }

    /// Whether so many events wait, in all or for this attached host, that the host may not get new clients.
    pub(crate) fn overflowing_for(&self, host: u64) -> bool {
        let all = self.wanted() && self.waiting.load(Ordering::SeqCst) >= OVERFLOW * self.bound;
        all || self.hosts.behind(host) == Some(Behind::Overflowing)
    }

    /// Whether clients' messages for an attached host must wait: because the host is behind, or as in [`Self::full`].
    pub(crate) fn full_for(&self, host: u64) -> bool {
        self.hosts.behind(host).is_some() || self.full()
    }

    /// Notes whether an attached host is behind, and how far. When it has caught up, the shards may read again.
    pub(crate) fn set_behind(&self, host: u64, behind: Option<Behind>) {
        if self.hosts.set(host, behind) {
            (self.resume)();
        }
    }

    /// Counts a client's message for which there was no host.
    pub(crate) fn drop_message(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of clients' messages for which there was no host.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The number of events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Asks for `resume` at the next event that is taken while the queue is at most half full.
    pub(crate) fn resume_at_half(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    /// Takes the next event. It waits for ever if the timeout is `None`, or too long for the clock.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Event, Error> {
        self.want();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::new(Kind::Closed, "the server was stopped"));
            }
            if let Some(event) = self.take() {
                return Ok(event);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Error::new(Kind::Timeout, "no event within the time given"));
            }
            self.sleep(left);
        }
    }

    /// Closes the queue, and wakes all threads that wait for an event.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.signal();
        let _guard = self.lock();
        self.arrived.notify_all();
    }

    /// Takes an event if there is one. Unlike [`Self::next`], it does not note that events are wanted.
    pub(crate) fn take(&self) -> Option<Event> {
        let Some(event) = self.queue.pop() else {
            self.quiet();
            return None;
        };
        let before = self.waiting.fetch_sub(1, Ordering::SeqCst);
        if before == 1 {
            self.quiet();
        }
        if before - 1 <= self.bound / 2 && self.stalled.swap(false, Ordering::SeqCst) {
            (self.resume)();
        }
        Some(event)
    }

    fn signal(&self) {
        // The mark is set first: a thread that the descriptor wakes takes the event, and must see that it has to clear
        // the descriptor.
        self.signalled.store(true, Ordering::SeqCst);
        self.ready.signal();
        // A thread that was not woken by this may have taken the event, and the mark, before the descriptor was written.
        // Without a mark nobody would clear the descriptor, and a host that polls it would not sleep.
        self.signalled.store(true, Ordering::SeqCst);
    }

    /// Makes the descriptor unreadable, if it may be readable.
    fn quiet(&self) {
        if self.signalled.swap(false, Ordering::SeqCst) {
            self.clear();
        }
    }

    fn clear(&self) {
        self.ready.clear();
        // An event, or the end, may have come just before the descriptor was cleared. It needs its signal: a host that polls
        // would wait for ever.
        if self.waiting.load(Ordering::SeqCst) > 0 || self.closed.load(Ordering::SeqCst) {
            self.signal();
        }
    }

    fn sleep(&self, left: Option<Duration>) {
        let mut sleepers = self.lock();
        if !self.queue.is_empty() || self.closed.load(Ordering::SeqCst) {
            return;
        }
        *sleepers += 1;
        let mut sleepers = match left {
            Some(left) => self.arrived.wait_timeout(sleepers, left).unwrap_or_else(PoisonError::into_inner).0,
            None => self.arrived.wait(sleepers).unwrap_or_else(PoisonError::into_inner),
        };
        *sleepers -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        // It guards a number, and a panic can't leave that in a wrong state.
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.ready.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::epoll::{self, Epoll, Watch};
    use std::sync::Arc;

    fn every_kind() -> EventKinds {
        EventKinds::read("open,message,close").unwrap()
    }

    fn event(code: u16) -> Event {
        Event { connection: 1, code, ..Event::new(EventKind::Close) }
    }

    #[test]
    fn events_come_in_order_and_then_none() {
        let events = Events::new(16, every_kind(), None, Box::new(|| {})).unwrap();
        assert!(!events.wanted());
        events.push(event(1));
        events.push(event(2));
        assert_eq!(events.next(None).unwrap().code, 1);
        assert!(events.wanted(), "asking for an event says that events are wanted");
        assert_eq!(events.next(Some(Duration::MAX)).unwrap().code, 2);
        assert_eq!(events.next(Some(Duration::ZERO)).unwrap_err().kind(), Kind::Timeout);
    }

    #[test]
    fn a_full_queue_resumes_reading_once_when_it_has_room_again() {
        let resumed = Arc::new(AtomicUsize::new(0));
        let count = resumed.clone();
        let events = Events::new(
            16,
            every_kind(),
            None,
            Box::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        )
        .unwrap();
        (0..16).for_each(|code| events.push(event(code)));
        assert!(events.full());
        (0..16).for_each(|_| drop(events.next(None)));
        assert_eq!(resumed.load(Ordering::SeqCst), 1);
        assert!(!events.full());
    }

    #[test]
    #[cfg_attr(miri, ignore = "epoll")]
    fn the_descriptor_of_a_closed_queue_stays_readable() {
        let events = Events::new(16, every_kind(), None, Box::new(|| {})).unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(events.as_raw_fd(), 1, Watch::EdgeRead).unwrap();
        events.close();
        // A thread that found the queue open before the close clears the descriptor after it.
        assert!(events.take().is_none());
        assert_eq!(
            epoll.wait(&mut [epoll::Event { events: 0, u64: 0 }; 2], Some(0)).unwrap(),
            1,
            "a thread that polls it wakes, and sees the end"
        );
    }

    #[test]
    fn closing_ends_the_wait() {
        let events = Arc::new(Events::new(16, every_kind(), None, Box::new(|| {})).unwrap());
        let waiting = events.clone();
        let thread = std::thread::spawn(move || waiting.next(None).map(|event| event.code));
        events.close();
        assert_eq!(thread.join().unwrap().unwrap_err().kind(), Kind::Closed);
    }
}
