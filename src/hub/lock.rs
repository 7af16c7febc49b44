//! The hub's lock. Under load it stays where it is for a while, instead of going round.
//!
//! What it protects fills some cache lines, and to bring them from one CPU to another takes longer than to publish. Two
//! threads that take turns at each message publish a third of what one alone does. So who finds the lock taken looks
//! again only after some time, in which its holder goes on with the lines at hand: longer the more callers found it
//! taken, and not long after all.

use crossbeam::utils::CachePadded;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long the first that finds the lock taken waits, in nanoseconds.
const SHORTEST: u32 = 250;
/// How long others wait, where it is often so.
const LONGEST: u32 = 16_000;
/// How often to look before sleeping: the holder may not run, or has much to do.
const LOOKS: u32 = 6;

/// A mutex for short work of many threads.
#[derive(Debug)]
pub(super) struct Lock<T> {
    /// In cache lines of its own: what stands beside it is read without the lock.
    place: CachePadded<Mutex<T>>,
    /// Nanoseconds after which to look again.
    wait: CachePadded<AtomicU32>,
    /// How often to look before sleeping. Where there is one CPU the holder does not run while another looks.
    looks: u32,
}

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        let alone = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
        Lock {
            place: CachePadded::new(Mutex::new(value)),
            wait: CachePadded::new(AtomicU32::new(SHORTEST)),
            looks: if alone { 0 } else { LOOKS },
        }
    }

    /// A panic under the lock leaves counts slightly off at worst; refusing to publish ever again would be worse.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(test)]
        others::have_their_turn();
        for look in 0..self.looks {
            match self.place.try_lock() {
                Ok(value) => return value,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => self.wait(look == 0),
            }
        }
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets how contended it was. To be called once a second or so.
    pub(super) fn calm(&self) {
        self.wait.store(SHORTEST, Ordering::Relaxed);
    }

    /// Waits; `grows`: the next one longer.
    #[cold]
    fn wait(&self, grows: bool) {
        let wait = self.wait.load(Ordering::Relaxed);
        if grows && wait < LONGEST {
            self.wait.store((wait * 2).min(LONGEST), Ordering::Relaxed);
        }
        let (began, wait) = (Instant::now(), Duration::from_nanos(wait.into()));
        while began.elapsed() < wait {
            (0..8).for_each(|_| spin_loop());
        }
    }
}

/// What others do, in a test, before a thread takes a lock: an interleaving that can be repeated.
#[cfg(test)]
pub(super) mod others {
    use std::cell::RefCell;

    type Work = Box<dyn FnMut()>;

    thread_local! {
        static WORK: RefCell<Option<Work>> = const { RefCell::new(None) };
    }

    pub(in crate::hub) fn do_this(work: impl FnMut() + 'static) {
        WORK.set(Some(Box::new(work)));
    }

    pub(in crate::hub) fn are_done() {
        WORK.set(None);
    }

    /// Not while they have it already.
    pub(super) fn have_their_turn() {
        if let Some(mut work) = WORK.take() {
            work();
            WORK.set(Some(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{catch_unwind, AssertUnwindSafe};

    #[test]
    fn one_at_a_time_however_many_ask() {
        const THREADS: u64 = 4;
        const TIMES: u64 = if cfg!(miri) { 20 } else { 20_000 };
        let lock = Lock::new((0u64, 0u64));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..TIMES {
                        let mut pair = lock.lock();
                        assert_eq!(pair.0, pair.1);
                        pair.0 += 1;
                        pair.1 += 1;
                    }
                });
            }
        });
        assert_eq!(lock.lock().0, THREADS * TIMES);
    }

    #[test]
    fn waits_grow_and_are_forgotten() {
        let lock = Lock::new(());
        let waits: Vec<u32> = (0..8)
            .map(|_| {
                lock.wait(true);
                lock.wait.load(Ordering::Relaxed)
            })
            .collect();
        lock.wait(false);
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000]);
        lock.calm();
        assert_eq!(lock.wait.load(Ordering::Relaxed), SHORTEST);
    }

    #[test]
    fn a_panic_does_not_close_it() {
        let lock = Lock::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = lock.lock();
            panic!("planted");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 1);
    }
}
