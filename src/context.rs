//! What all parts of a server share whose hub is in this process: its options, its hub, and where things are counted,
//! logged and told.

use crate::auth::Authority;
use crate::config::{Config, Reloadable};
use crate::events::Events;
use crate::hub::Hub;
use crate::limits::Limits;
use crate::log::{Level, Log};
use crate::metrics::losses::Losses;
use crate::metrics::{CommonMetrics, Reason};
use crate::transport::Encoder;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Context {
    /// Shards have their own view of it, which `Command::Reconfigure` renews: the path of a message takes no
    /// lock.
    pub(crate) config: Reloadable,
    pub(crate) hub: Hub,
    pub(crate) encoder: Encoder,
    pub(crate) events: Events,
    /// Replaced as a whole when keys are read again.
    authority: RwLock<Arc<Authority>>,
    pub(crate) log: Log,
    /// What slow clients cost, by channel.
    pub(crate) losses: Losses,
    /// Which shards have sent their clients away.
    pub(crate) drained: Drained,
    /// Hosts of other processes that are attached.
    pub(crate) hosts: AtomicUsize,
    /// Connections of all shards, for `max_connections`.
    pub(crate) connections: AtomicUsize,
    pub(crate) limits: Limits,
    pub(crate) metrics: CommonMetrics,
    /// How many shards there are.
    pub(crate) shards: usize,
}

impl Context {
    pub(crate) fn new(config: Config, hub: Hub, events: Events, authority: Authority, log: Log, shards: usize) -> Self {
        Context {
            config: Reloadable::new(config),
            encoder: Encoder::new(hub.epoch().clone()),
            hub,
            events,
            authority: RwLock::new(Arc::new(authority)),
            log,
            losses: Losses::default(),
            drained: Drained::new(shards),
            hosts: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            limits: Limits::default(),
            metrics: CommonMetrics::default(),
            shards,
        }
    }

    /// Counts and logs a refusal outside of a shard, or of nobody whom a shard knows.
    pub(crate) fn note_refusal(&self, level: Level, reason: Reason, text: fmt::Arguments<'_>) {
        self.metrics.refusal(reason);
        self.log.limited(level, reason.word(), text);
    }

    pub(crate) fn authority(&self) -> Arc<Authority> {
        self.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_authority(&self, authority: Authority) {
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(authority);
    }
}

/// Counts the shards that have drained.
#[derive(Debug)]
pub(crate) struct Drained {
    begun: AtomicBool,
    left: Mutex<usize>,
    all: Condvar,
}

impl Drained {
    pub(crate) fn new(shards: usize) -> Self {
        Drained { begun: AtomicBool::new(false), left: Mutex::new(shards), all: Condvar::new() }
    }

    /// Notes that a drain begins; true for the first time.
    pub(crate) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::SeqCst)
    }

    /// Whether one has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Waits until all have, or for this time.
    pub(crate) fn wait(&self, timeout: Duration) {
        let left = self.left();
        drop(self.all.wait_timeout_while(left, timeout, |left| *left > 0).unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes that one has. The last one tells the host first: who waits may end those that carry it there.
    pub(crate) fn one_more(&self, tell: impl FnOnce()) {
        let mut left = self.left();
        if *left == 1 {
            tell();
            self.all.notify_all();
        }
        *left = left.saturating_sub(1);
    }

    fn left(&self) -> MutexGuard<'_, usize> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
