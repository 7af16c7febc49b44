//! Attached hosts that do not take their events: only their own clients are held up by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far an attached host is behind with its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Its clients are not read from.
    Stalled,
    /// So much waits for it that nothing new may be begun.
    Overflowing,
}

impl Behind {
    /// By how much waits where there is room for `bound`; `None`: not at all.
    pub(crate) fn by(waiting: usize, bound: usize) -> Option<Self> {
        match waiting {
            _ if waiting >= OVERFLOW * bound => Some(Behind::Overflowing),
            _ if waiting >= bound => Some(Behind::Stalled),
            _ => None,
        }
    }
}

/// How many times what there is room for may wait: clients that send are not read from then, but each that comes and
/// goes is told of.
pub(super) const OVERFLOW: usize = 4;

/// The attached hosts that are behind.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    behind: Mutex<HashMap<u64, Behind>>,
    /// Spares the lock while there are none.
    any: AtomicBool,
}

impl Hosts {
    /// How far a host is behind.
    pub(super) fn behind(&self, host: u64) -> Option<Behind> {
        let any = self.any.load(Ordering::SeqCst);
        any.then(|| self.lock().get(&host).copied()).flatten()
    }

    /// Says whether a host is behind, and how far. True: it was, and has caught up.
    pub(super) fn set(&self, host: u64, behind: Option<Behind>) -> bool {
        let mut hosts = self.lock();
        let before = match behind {
            Some(behind) => hosts.insert(host, behind),
            None => hosts.remove(&host),
        };
        self.any.store(!hosts.is_empty(), Ordering::SeqCst);
        before.is_some() && behind.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Behind>> {
        // A panic can't leave the map half done.
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
