//! The context that all parts of a server share if its hub is in this process: options, hub, metrics, log and events.

pub(crate) mod attached;
pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod presence;

use crate::auth::Authority;
use crate::config::{Config, Reloadable};
use crate::dialect::Encoder;
use crate::events::Events;
use crate::hub::Hub;
use crate::limits::{Inboxes, Limits};
use crate::log::{Level, Log};
use crate::metrics::{CommonMetrics, Reason};
use crate::presence::Presence;
#[cfg(feature = "tls")]
use crate::tls::Tls;
use attached::Hosts;
use client::Client;
use engine::Engine;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// The context of one server.
#[derive(Debug)]
pub(crate) struct Context {
    /// Each shard has a copy of its own, which `Command::Reconfigure` renews. So the path of a message takes no lock.
    pub(crate) config: Reloadable,
    pub(crate) hub: Hub,
    pub(crate) engine: Engine,
    /// With the epoch in which the hub began. A shard of a hub that follows a log goes on with one of its own.
    pub(crate) encoder: Arc<Encoder>,
    pub(crate) events: Events,
    /// It is replaced as a whole when keys are read again.
    authority: RwLock<Arc<Authority>>,
    /// The certificates, if the server listens with TLS.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) log: Log,
    /// Who is on the channels.
    pub(crate) presence: Presence,
    /// The progress of a drain.
    pub(crate) drained: Drained,
    /// The attached hosts of other processes.
    pub(crate) hosts: Hosts,
    pub(crate) limits: Limits,
    /// The bytes of unfinished messages and requests that all shards keep.
    pub(crate) inboxes: Inboxes,
    pub(crate) metrics: CommonMetrics,
    /// The number of shards.
    pub(crate) shards: usize,
}

impl Context {
    pub(crate) fn new(config: Config, hub: Hub, events: Events, authority: Authority, log: Log, shards: usize) -> Self {
        Context {
            presence: Presence::new(presence::bounds(&config), shards, Box::new(|_| {})),
            config: Reloadable::new(config),
            encoder: Arc::new(Encoder::new(hub.epoch().clone())),
            hub,
            engine: Engine::default(),
            events,
            authority: RwLock::new(Arc::new(authority)),
            #[cfg(feature = "tls")]
            tls: None,
            log,
            drained: Drained::new(shards),
            hosts: Hosts::default(),
            limits: Limits::default(),
            inboxes: Inboxes::new(shards, Box::new(|_| {})),
            metrics: CommonMetrics::default(),
            shards,
        }
    }

    /// Counts and logs a refusal that is made outside of a shard. The line names the client.
    pub(crate) fn note_refusal_of(&self, client: Client<'_>, level: Level, reason: Reason, text: fmt::Arguments<'_>) {
        self.metrics.refusal(reason);
        client.log(&self.log, level, reason.word(), text);
    }

    /// Counts and logs a refusal that is about no client.
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

impl AsRef<Events> for Context {
    fn as_ref(&self) -> &Events {
        &self.events
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

    /// Notes that a drain begins. Returns true the first time.
    pub(crate) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::SeqCst)
    }

    /// Whether a drain has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Waits until all shards have drained, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        let left = self.left();
        drop(self.all.wait_timeout_while(left, timeout, |left| *left > 0).unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes that a shard has drained. The last shard calls `tell`, which tells the host, before it wakes the threads
    /// in [`Self::wait`]: they may end the threads that carry the event to the host.
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
