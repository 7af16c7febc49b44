//! The hub's lock. Under load, one thread keeps it for several messages in a row.
//!
//! The data that it protects fills some cache lines. Moving these from one CPU to another takes longer than a publish.
//! Two threads that take turns at each message publish a third of what one thread alone does. So a thread that finds
//! the lock taken waits for some time before it tries again, and the holder goes on with the cache lines at hand. The
//! more callers find the lock taken, the longer they wait, up to a limit.
//!
//! A thread that takes the lock again and again, for one step after the other, is an exception: it lets those that
//! sleep have the lock in between. The mutex alone would not do that. It wakes a sleeper, but is taken again before the
//! sleeper runs.

use crossbeam::utils::CachePadded;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long the first thread that finds the lock taken waits, in nanoseconds.
const SHORTEST: u32 = 250;
/// The longest wait, if the lock is often taken.
const LONGEST: u32 = 16_000;
/// How often a thread tries the lock before it sleeps. The holder may not run, or may have much to do.
const LOOKS: u32 = 6;
/// How long a thread that works in steps waits between two of them for those that sleep.
const GIVE_WAY: Duration = Duration::from_micros(200);

/// A mutex for short work of many threads.
#[derive(Debug)]
pub(super) struct Lock<T> {
    /// In its own cache lines, since the fields beside it are read without the lock.
    place: CachePadded<Mutex<T>>,
    /// The present wait in nanoseconds.
    wait: CachePadded<AtomicU32>,
    /// The number of threads that sleep until the lock is free.
    asleep: CachePadded<AtomicU32>,
    /// How often to try before sleeping. With one CPU it is 0: the holder does not run while another thread tries.
    looks: u32,
}

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        let alone = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
        Lock {
            place: CachePadded::new(Mutex::new(value)),
            wait: CachePadded::new(AtomicU32::new(SHORTEST)),
            asleep: CachePadded::new(AtomicU32::new(0)),
            looks: if alone { 0 } else { LOOKS },
        }
    }

    /// A panic under the lock can leave counts slightly wrong. Refusing to publish ever again would be worse.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(test)]
        others::have_their_turn();
        for look in 0..=self.looks {
            match self.place.try_lock() {
                Ok(value) => return value,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if look < self.looks => self.wait(look == 0),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.asleep.fetch_add(1, Ordering::Relaxed);
        let value = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_sub(1, Ordering::Relaxed);
        value
    }

    /// Takes the lock for one step of many, after all threads that sleep have had it, if that takes no longer than
    /// [`GIVE_WAY`].
    pub(super) fn lock_for_step(&self) -> MutexGuard<'_, T> {
        if self.asleep.load(Ordering::Relaxed) > 0 {
            self.give_way();
        }
        self.lock()
    }

    #[cold]
    fn give_way(&self) {
        let began = Instant::now();
        while self.asleep.load(Ordering::Relaxed) > 0 && began.elapsed() < GIVE_WAY {
            std::thread::yield_now();
        }
    }

    /// Resets the wait to the shortest one. Called about once a second.
    pub(super) fn calm(&self) {
        self.wait.store(SHORTEST, Ordering::Relaxed);
    }

    /// Waits. If `grows` is true, the next wait is longer.
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

/// The work of other threads, in a test, before a thread takes a lock. So an interleaving can be repeated.
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

    /// On a busy machine the sleeper may not run in time. On an idle one a mutex alone lets it in at no try.
    #[test]
    #[cfg_attr(miri, ignore = "it looks at times")]
    fn a_thread_that_sleeps_has_it_between_two_steps_of_another() {
        const TRIES: usize = 50;
        let is_first = || {
            let lock = Lock::new("nobody");
            std::thread::scope(|scope| {
                let held = lock.lock();
                scope.spawn(|| *lock.lock() = "the sleeper");
                while lock.asleep.load(Ordering::Relaxed) == 0 {
                    std::thread::yield_now();
                }
                let began = Instant::now();
                // By then it sleeps. A pause of this thread would help it.
                while began.elapsed() < Duration::from_micros(500) {
                    spin_loop();
                }
                drop(held);
                *lock.lock_for_step() == "the sleeper"
            })
        };
        let mut rounds = (0..20).map(|_| (0..TRIES).filter(|_| is_first()).count());
        assert!(rounds.any(|first| first >= TRIES / 10), "it hardly ever comes in");
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
