//! The driver of a shard. Its own thread runs it. While that sleeps, a host's thread that hands a connection over runs
//! it.
//!
//! Waking a sleeping thread on another CPU costs its waker more than serving a connection does (`benches/README.md`),
//! and the client waits for both. So where a shard sleeps the caller of `push_adopt` serves the request itself, some
//! microseconds' work that never blocks; where it is awake the connection is a command for its next turn.

use crate::grant::Grant;
use crate::shard::delivery::fan_out::Subscribers;
use crate::shard::turn::command::{Adopted, Command, ShardHandle};
use crate::shard::turn::run::{Next, EVENTS};
use crate::shard::Shard;
use crate::sys::clock;
use crate::sys::epoll::{Epoll, Event};
use std::fmt;
use std::os::fd::OwnedFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// A shard and its lock. The thread that holds the lock runs the shard. The shard's own thread holds it while awake.
pub(crate) struct Driver {
    /// Nothing once the shard has ended.
    shard: Mutex<Option<Shard>>,
    handle: Arc<ShardHandle>,
    /// The thread sleeps on this, without the lock.
    epoll: Arc<Epoll>,
}

/// A connection that is handed back, with its grant.
pub(crate) type NotTaken = (OwnedFd, Option<Arc<Grant>>);

impl Driver {
    pub(crate) fn new(shard: Shard) -> Self {
        Driver { handle: shard.handle.clone(), epoll: shard.registry.epoll.clone(), shard: Mutex::new(Some(shard)) }
    }

    /// Runs the shard until its server stops. A panic ends the connections that it served, not the process: they come
    /// back and recover.
    pub(crate) fn run(&self) {
        if let Some(shard) = &mut *self.lock() {
            shard.prepare_compression();
        }
        let mut events = [Event { events: 0, u64: 0 }; EVENTS];
        let mut count = 0;
        while let Some(timeout) = self.turn(&events[..count]) {
            count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(error) => {
                    if let Some(shard) = &*self.lock() {
                        shard.log_error(format_args!("epoll_wait: {error}"));
                    }
                    0
                }
            };
            self.handle.mailbox.unpark();
        }
    }

    /// A turn; says how long to sleep then (`None` inside: until woken), or nothing when the shard has ended.
    fn turn(&self, events: &[Event]) -> Option<Option<u64>> {
        let mut place = self.lock();
        let shard = place.as_mut()?;
        let began = shard.turn.is_measured().then(clock::monotonic_us);
        let next = shard.guarded(|shard| shard.turn(events)).unwrap_or(Next::Again);
        shard.announce_events();
        if let Some(began) = began {
            self.handle.metrics.turns.record(clock::monotonic_us() - began);
        }
        if next == Next::End {
            *place = None;
            return None;
        }
        let more = || self.handle.has_commands() || shard.has_presence_news();
        let sleeps = next == Next::Sleep && self.handle.mailbox.park(more);
        let timeout = if sleeps { shard.wake_in() } else { Some(0) };
        shard.turn.sleep(timeout);
        Some(timeout)
    }

    /// Has a connection served: by this thread if the shard sleeps, else by the shard in its next turn. Handed back
    /// when too much waits for that.
    pub(crate) fn adopt(&self, adopted: Adopted<'_>) -> Result<(), NotTaken> {
        let mut place = match self.shard.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.leave(adopted),
        };
        match &mut *place {
            // Asleep, and nothing was left for it that would have to come first.
            Some(shard) if self.handle.mailbox.is_parked() && !shard.draining() => {
                shard.turn.begin();
                let done = shard.guarded(|shard| {
                    shard.adopt(adopted);
                    shard.settle_fates();
                    shard.tell_leaves();
                });
                shard.announce_events();
                // The thread has to look if work is left, above all after a panic, or if a timer is due earlier.
                let due = shard.wake_in().is_some_and(|ms| shard.turn.sleeps_beyond(ms));
                if done.is_none() || due || shard.has_unfinished() {
                    self.handle.mailbox.wake();
                }
                Ok(())
            }
            _ => {
                drop(place);
                self.leave(adopted)
            }
        }
    }

    fn leave(&self, Adopted { fd, head, grant, checked }: Adopted<'_>) -> Result<(), NotTaken> {
        let adopted = Adopted { fd, head: head.into_owned().into(), grant, checked };
        match self.handle.ask(Command::Adopt(adopted)) {
            Err(Command::Adopt(adopted)) => Err((adopted.fd, adopted.grant)),
            _ => Ok(()),
        }
    }

    /// A panic is caught inside, so the lock's mark says nothing.
    fn lock(&self) -> MutexGuard<'_, Option<Shard>> {
        self.shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Shard {
    /// Does something; a panic in it is caught, and ends all connections.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Shard) -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        if done.is_err() {
            self.recover();
        }
        done.ok()
    }
}
