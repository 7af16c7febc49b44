//! A question to all shards, each of which adds its part of the answer.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// An answer that is put together from the parts of the shards.
pub(crate) trait Gather: Default {
    fn add(&mut self, part: Self);
}

/// Called with what all shards have found.
pub(crate) type Tell<Found> = Box<dyn FnOnce(Found) + Send>;

/// A question to all shards. The asker is told when the last shard drops it. A shard that has panicked or ended drops
/// it, too, and has no connections any more.
pub(crate) struct Query<Wanted, Found: Gather> {
    wanted: Wanted,
    found: Mutex<Found>,
    tell: Mutex<Option<Tell<Found>>>,
}

impl<Wanted, Found: Gather> Query<Wanted, Found> {
    pub(crate) fn new(wanted: Wanted, tell: Tell<Found>) -> Self {
        Query { wanted, found: Mutex::default(), tell: Mutex::new(Some(tell)) }
    }

    pub(in crate::shard) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    pub(in crate::shard) fn add(&self, part: Found) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).add(part);
    }
}

impl<Wanted, Found: Gather> Drop for Query<Wanted, Found> {
    fn drop(&mut self) {
        let found = std::mem::take(self.found.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(tell) = self.tell.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            tell(found);
        }
    }
}

impl<Wanted: fmt::Debug, Found: Gather> fmt::Debug for Query<Wanted, Found> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}
