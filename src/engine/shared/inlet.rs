//! The messages of this hub, on their way from the callers' threads to the thread of the engine.
//!
//! A call leaves encoded entries here and returns. Their bytes count until their results are known. So a log that
//! can't be reached or is slow fills the bound (`engine_buffer`), and then calls are refused before anything is done.

use super::super::contract::EntryId;
use super::super::entry::{Entry, Logged};
use super::super::envelope::{self, Body};
use super::words::Words;
use super::Settings;
use crate::error::{Error, Kind};
use crate::hub::{Act, Key, Noted, OnSettled, Outlet};
use crate::sys::clock;
use crate::trace::Span;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The memory that a waiting entry takes beside its bytes.
const ITEM: usize = 160;
/// The bytes of acts that are taken beyond the bound. Messages that wait must not keep a user from being sent away.
const ROOM_FOR_ACTS: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inlet {
    /// Names this life of the hub.
    pub(super) hub: u64,
    queue: Mutex<Queue>,
    /// Something was left here, or the engine is to end.
    pub(super) came: Notify,
    emptied: Condvar,
    bound: AtomicUsize,
    /// Settings that a reload has brought, and how long the log may take to answer.
    settings: Mutex<Option<(Settings, Duration)>>,
    pub(super) words: Words,
}

#[derive(Debug, Default)]
struct Queue {
    offered: VecDeque<Offered>,
    /// Bytes of the entries here, and of the entries that the engine has taken and that have no result yet.
    held: usize,
    /// The reason why nothing is taken any more.
    closed: Option<&'static str>,
    /// The time at which the engine ends at the latest. `None`: it goes on.
    ends_at: Option<Instant>,
}

/// One call.
pub(super) struct Offered {
    pub(super) entries: VecDeque<Encoded>,
    pub(super) on_settled: Option<OnSettled>,
    /// It clears a channel.
    pub(super) clears: bool,
}

/// An entry that waits.
#[derive(Debug)]
pub(super) struct Encoded {
    /// The text by which the log compares keys.
    pub(super) key: Box<str>,
    pub(super) bytes: Vec<u8>,
    /// Its channel, if somebody waits for the result.
    pub(super) channel: Option<Box<str>>,
    pub(super) weight: usize,
    pub(super) span: Option<Span>,
}

impl Inlet {
    pub(crate) fn new(hub: u64, bound: usize) -> Self {
        Inlet {
            hub,
            queue: Mutex::default(),
            came: Notify::new(),
            emptied: Condvar::new(),
            bound: AtomicUsize::new(bound),
            settings: Mutex::default(),
            words: Words::default(),
        }
    }

    /// Changes how the log is reached. If anything is new, secrets and certificates among it, the hub connects anew.
    pub(crate) fn reconnect(&self, settings: Settings, timeout: Duration) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some((settings, timeout));
        self.came.notify_one();
    }

    /// What a reload has brought since the last call.
    pub(super) fn take_settings(&self) -> Option<(Settings, Duration)> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Changes the bound. What waits already stays.
    pub(crate) fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
        self.came.notify_one();
    }

    pub(super) fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    /// Bytes that are on their way.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().held
    }

    /// Waits until all entries have a result, at most for `time`.
    pub(crate) fn await_empty(&self, time: Duration) {
        let waited = self.emptied.wait_timeout_while(self.lock(), time, |queue| queue.held > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes nothing any more. The engine ends when the log has everything, and at the latest at that time.
    pub(crate) fn end(&self, at: Instant) {
        let mut queue = self.lock();
        (queue.closed, queue.ends_at) = (Some("the hub ends"), Some(at));
        drop(queue);
        self.came.notify_one();
    }

    /// The latest time for the engine to end, if it is to end.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.lock().ends_at
    }

    /// Takes nothing any more, for that reason.
    pub(super) fn close(&self, why: &'static str) {
        self.lock().closed = Some(why);
    }

    /// The call that waits longest.
    pub(super) fn take(&self) -> Option<Offered> {
        self.lock().offered.pop_front()
    }

    /// Nothing waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().offered.is_empty()
    }

    /// That many bytes have a result.
    pub(super) fn release(&self, weight: usize) {
        let mut queue = self.lock();
        queue.held = queue.held.saturating_sub(weight);
        if queue.held == 0 {
            self.emptied.notify_all();
        }
    }

    fn leave(
        &self,
        entries: VecDeque<Encoded>,
        on_settled: Option<OnSettled>,
        clears: bool,
        beyond: usize,
    ) -> Result<(), Error> {
        let weight: usize = entries.iter().map(|entry| entry.weight).sum();
        let mut queue = self.lock();
        if let Some(why) = queue.closed {
            return Err(Error::new(Kind::Closed, format!("{why}; nothing was published")));
        }
        // A call that is larger than the bound goes alone.
        if queue.held > 0 && queue.held + weight > self.bound().saturating_add(beyond) {
            let text = "too much waits to be appended to the log (option engine_buffer); nothing was published";
            return Err(Error::new(Kind::Busy, text));
        }
        queue.held += weight;
        queue.offered.push_back(Offered { entries, on_settled, clears });
        drop(queue);
        self.came.notify_one();
        Ok(())
    }

    fn encoded(&self, key: String, body: &Body<'_>, channel: Option<&str>) -> Encoded {
        let bytes = envelope::write(EntryId { hub: self.hub, counter: 0, attempt: 0 }, body);
        let weight = bytes.len() + key.len() + ITEM;
        Encoded { key: key.into(), bytes, channel: channel.map(Box::from), weight, span: None }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for Inlet {
    fn offer(
        &self,
        batch: &[Noted<'_>],
        spans: Vec<(usize, Span)>,
        on_settled: Option<OnSettled>,
    ) -> Result<(), Error> {
        let time_ms = clock::unix_ms();
        let encode = |(place, noted): (usize, &Noted<'_>)| {
            let more = place + 1 < batch.len();
            let logged = Logged { time_ms, more, noted: *noted };
            let channel = on_settled.is_some().then_some(noted.channel);
            self.encoded(key(noted, place), &Body::Entry(Entry::Message(logged)), channel)
        };
        let mut entries: VecDeque<Encoded> = batch.iter().enumerate().map(encode).collect();
        spans.into_iter().for_each(|(place, span)| entries[place].span = Some(span));
        self.leave(entries, on_settled, false, 0)
    }

    fn offer_clear(&self, channel: &str, on_settled: Option<OnSettled>) -> Result<(), Error> {
        let entry = self.encoded(String::new(), &Body::Entry(Entry::Cleared { channel }), Some(channel));
        self.leave([entry].into(), on_settled, true, 0)
    }

    fn offer_acts(&self, acts: &[Act<'_>], on_settled: Option<OnSettled>) -> Result<(), Error> {
        let channel = on_settled.is_some().then_some("");
        let entries = acts.iter().map(|act| self.encoded(String::new(), &Body::Act(*act), channel)).collect();
        self.leave(entries, on_settled, false, ROOM_FOR_ACTS)
    }
}

/// The text by which the log compares messages: those with a key of their own, and those of attached hosts, which may
/// come again over another hub. Different messages never give the same text: each part that may contain anything has
/// its length before it.
fn key(noted: &Noted<'_>, place: usize) -> String {
    let channel = noted.channel;
    match (noted.key, noted.origin) {
        (Some(Key::Host(key)), _) => format!("h{}:{channel}:{key}", channel.len()),
        (Some(Key::Client(user, key)), _) => format!("c{}.{}:{channel}:{user}:{key}", channel.len(), user.len()),
        (None, Some(origin)) => {
            let session = u128::from_le_bytes(origin.session);
            format!("o{session:032x}.{}.{}.{place}", origin.uid, origin.number)
        }
        (None, None) => String::new(),
    }
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offered").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

/// The part of the engine that other threads see and use.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) inlet: Arc<Inlet>,
    pub(crate) status: Arc<super::status::Status>,
    pub(super) members: Arc<super::members::Members>,
}

impl Shared {
    /// Names this life of the hub.
    pub(crate) fn this(&self) -> u64 {
        self.inlet.hub
    }

    /// The hubs that are up, this one among them, and whether these are surely all.
    pub(crate) fn up(&self) -> (std::collections::BTreeSet<u64>, bool) {
        self.members.up(tokio::time::Instant::now())
    }

    /// The hubs that follow the log.
    pub(crate) fn members(&self) -> Vec<super::Member> {
        self.members.all(tokio::time::Instant::now())
    }

    /// The names of hubs that follow the log, for operators.
    pub(crate) fn names(&self) -> std::collections::BTreeMap<u64, Arc<str>> {
        self.members.names()
    }
}
