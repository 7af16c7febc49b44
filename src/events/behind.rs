//! Attached hosts that do not take their events. Only their own clients wait for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far an attached host is behind with its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// The shards do not read from its clients.
    Stalled,
    /// So many events wait for it that it gets no new clients.
    Overflowing,
}

impl Behind {
    /// How far a host is behind if `waiting` events wait and `bound` is the bound of its queue. `None`: not at all.
    pub(crate) fn by(waiting: usize, bound: usize) -> Option<Self> {
        match waiting {
            _ if waiting >= OVERFLOW * bound => Some(Behind::Overflowing),
            _ if waiting >= bound => Some(Behind::Stalled),
            _ => None,
        }
    }
}

/// A host is overflowing when this many times the bound wait. At the bound, the shards stop reading from its clients,
/// so their messages do not come in. But events still tell of clients that come and go, so that the number still grows.
pub(super) const OVERFLOW: usize = 4;

/// The attached hosts that are behind.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    behind: Mutex<HashMap<u64, Behind>>,
    /// True if `behind` has hosts. If not, its lock need not be taken.
    any: AtomicBool,
}

impl Hosts {
    /// How far a host is behind.
    pub(super) fn behind(&self, host: u64) -> Option<Behind> {
        let any = self.any.load(Ordering::SeqCst);
        any.then(|| self.lock().get(&host).copied()).flatten()
    }

    /// Notes whether a host is behind, and how far. Returns true if it was behind and has caught up.
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
        // A panic can't leave the map in a wrong state.
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
