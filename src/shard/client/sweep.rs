//! Closing all connections, for an operator. Each shard closes those that it has at that moment, some in each turn, so
//! that the others are served meanwhile.

use crate::framing::close::Close;
use crate::shard::connection::conn::{Conn, Phase, Token};
use crate::shard::Shard;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections one turn closes. Each takes some system calls, and the others wait for that long.
const AT_ONCE: usize = if cfg!(test) { 2 } else { 32 };

/// Called with the number of connections that were closed.
pub(crate) type Tell = Box<dyn FnOnce(u64) + Send>;

/// Counts connections that are closed. The asker is told when the last shard drops it. A shard that has panicked or ended
/// drops it, too.
pub(crate) struct Tally {
    closed: AtomicU64,
    tell: Mutex<Option<Tell>>,
}

impl Tally {
    pub(crate) fn new(tell: Tell) -> Arc<Self> {
        Arc::new(Tally { closed: AtomicU64::new(0), tell: Mutex::new(Some(tell)) })
    }

    pub(in crate::shard) fn add(&self, closed: usize) {
        self.closed.fetch_add(closed as u64, Ordering::Relaxed);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            tell(*self.closed.get_mut());
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// A closing of all connections under way on one shard.
#[derive(Debug)]
pub(in crate::shard) struct Sweep {
    left: Vec<Token>,
    close: Close,
    tally: Arc<Tally>,
}

impl Shard {
    /// Begins to close all connections that are there now.
    pub(in crate::shard) fn begin_sweep(&mut self, close: Close, tally: Arc<Tally>) {
        // Nothing of those that are meant is published any more, nor of those that have ended already.
        self.forget_left_checks(false);
        let token = |(index, conn): (usize, &Conn)| Token { index: index as u32, generation: conn.generation };
        let left = self.conns.iter().filter(|(_, conn)| conn.phase != Phase::Closing).map(token).collect();
        self.scans.sweeps.push_back(Sweep { left, close, tally });
    }

    /// Closes some connections. Returns true if there are more.
    pub(in crate::shard) fn go_on_sweeping(&mut self) -> bool {
        let Some(mut sweep) = self.scans.sweeps.pop_front() else { return false };
        for token in sweep.left.split_off(sweep.left.len().saturating_sub(AT_ONCE)) {
            self.forget_checks(token);
            let Some(index) = self.find(token).filter(|index| self.is_there(*index)) else { continue };
            sweep.tally.add(1);
            self.close(index, sweep.close.clone());
        }
        if !sweep.left.is_empty() {
            self.scans.sweeps.push_front(sweep);
        }
        !self.scans.sweeps.is_empty()
    }

    /// True if a connection is not ending already.
    pub(in crate::shard) fn is_there(&self, index: u32) -> bool {
        self.conns.get(index as usize).is_some_and(|conn| conn.phase != Phase::Closing)
    }
}
