//! Callers whose threads wait for the results of their requests.
//!
//! Many of them wait for one sync, and publish again as soon as they are woken. A caller that is woken takes the CPU
//! from the thread that has the other results, and calls to the system for each caller take long. So all results are
//! left first. Then one call wakes all that wait at a bell.

use super::lasting::{Settled, Told};
use super::{Hub, Outgoing, Placing};
use crate::error::Error;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What wakes the callers of one group together.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// How many threads wait.
    waits: Mutex<usize>,
    rung: Condvar,
    #[cfg(test)]
    rings: std::sync::atomic::AtomicUsize,
}

impl Bell {
    /// Wakes all that wait for a result. It was left before for all who should have one.
    pub(crate) fn ring(&self) {
        #[cfg(test)]
        self.rings.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let waits = *self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if waits > 0 {
            self.rung.notify_all();
        }
    }

    /// As long as this is held, nobody is woken.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> std::sync::MutexGuard<'_, usize> {
        self.waits.lock().unwrap()
    }

    /// How often it was rung.
    #[cfg(test)]
    pub(crate) fn rings(&self) -> usize {
        self.rings.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A result for which one thread waits.
#[derive(Debug, Default)]
pub(crate) struct Awaited {
    settled: Mutex<Option<Settled>>,
    /// Where its caller waits. It is set before the caller does.
    bell: OnceLock<Arc<Bell>>,
}

impl Awaited {
    pub(super) fn wait_at(&self, bell: &Arc<Bell>) {
        let _ = self.bell.set(bell.clone());
    }

    /// Leaves the result. The caller finds it when the bell rings.
    pub(super) fn leave(&self, settled: Settled) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(settled);
    }

    /// Waits for the result, at most for `timeout`.
    fn wait(&self, timeout: Duration) -> Option<Settled> {
        if let Some(bell) = self.bell.get() {
            // A result that comes behind this look is followed by a ring, which needs this lock.
            let mut waits = bell.waits.lock().unwrap_or_else(PoisonError::into_inner);
            *waits += 1;
            let waited = bell.rung.wait_timeout_while(waits, timeout, |_| self.is_empty());
            *waited.unwrap_or_else(PoisonError::into_inner).0 -= 1;
        }
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_empty(&self) -> bool {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Hub {
    /// Like [`Hub::submit`], for a caller that waits for the result. `None`: it has not come within `timeout`.
    pub(crate) fn submit_and_wait(
        &self,
        batch: Vec<Outgoing<'_>>,
        now: u64,
        timeout: Duration,
    ) -> Result<Option<Settled>, Error> {
        let awaited = Arc::<Awaited>::default();
        let told = if self.lasts_in_journal() {
            Told::Caller(awaited.clone())
        } else {
            // The results of a log that hubs share come one by one.
            let (bell, left) = (Arc::<Bell>::default(), awaited.clone());
            awaited.wait_at(&bell);
            Told::Callback(Box::new(move |settled| {
                left.leave(settled);
                bell.ring();
            }))
        };
        Ok(match self.submit_told(batch, None, now, told)? {
            Placing::Now(settled) => Some(settled),
            Placing::Later => awaited.wait(timeout),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{channel, RecvTimeoutError};

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn results_wait_for_the_bell_which_wakes_all_that_have_one_and_nobody_else() {
        let bell = Arc::<Bell>::default();
        let (tell, told) = channel();
        let start = |name: u32| {
            let (awaited, tell) = (Arc::<Awaited>::default(), tell.clone());
            awaited.wait_at(&bell);
            let of_thread = awaited.clone();
            std::thread::spawn(move || {
                // If nobody wakes it, it finds its result only long after the test has given up.
                let settled = of_thread.wait(10 * PATIENCE).unwrap();
                tell.send((name, settled.epoch)).unwrap();
            });
            awaited
        };
        let all: Vec<_> = (0..9).map(start).collect();
        while *bell.waits.lock().unwrap() < 9 {
            std::thread::yield_now();
        }
        let result = |epoch| Settled { epoch, ..Settled::default() };
        all[..8].iter().for_each(|awaited| awaited.leave(result(7)));
        assert_eq!(told.recv_timeout(Duration::from_millis(30)), Err(RecvTimeoutError::Timeout));
        bell.ring();
        let mut woken: Vec<_> = (0..8).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
        woken.sort_unstable();
        assert_eq!(woken, (0..8).map(|name| (name, 7)).collect::<Vec<_>>());
        assert_eq!(told.recv_timeout(Duration::from_millis(30)), Err(RecvTimeoutError::Timeout));
        assert_eq!(*bell.waits.lock().unwrap(), 1);
        all[8].leave(result(8));
        bell.ring();
        assert_eq!(told.recv_timeout(PATIENCE), Ok((8, 8)));
    }

    #[test]
    fn a_result_that_is_there_is_taken_at_once_and_one_that_does_not_come_is_not_waited_for_longer() {
        let (bell, awaited) = (Arc::<Bell>::default(), Awaited::default());
        awaited.wait_at(&bell);
        assert_eq!(awaited.wait(Duration::from_millis(20)), None);
        awaited.leave(Settled::default());
        assert_eq!(awaited.wait(PATIENCE), Some(Settled::default()));
        assert_eq!(*bell.waits.lock().unwrap(), 0);
    }
}
