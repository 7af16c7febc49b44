//! The log of the server's hub.

use crate::engine::file::{self, Settings};
use crate::engine::shared;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(crate) enum Engine {
    /// The hub has none.
    #[default]
    Memory,
    /// The hub notes its messages in it.
    Disk(Arc<file::Shared>),
    /// The hub follows it, and shares it with other hubs.
    Shared(Arc<shared::Shared>),
}

impl Engine {
    pub(crate) fn disk(&self) -> Option<&Arc<file::Shared>> {
        match self {
            Engine::Disk(disk) => Some(disk),
            Engine::Memory | Engine::Shared(_) => None,
        }
    }

    pub(crate) fn shared(&self) -> Option<&Arc<shared::Shared>> {
        match self {
            Engine::Shared(shared) => Some(shared),
            Engine::Memory | Engine::Disk(_) => None,
        }
    }

    /// Whether the hub shares its log with others.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared().is_some()
    }

    /// The reason why it takes no messages at present.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        match self {
            Engine::Memory => None,
            Engine::Disk(disk) => disk.behind.failure(),
            Engine::Shared(shared) => shared.status.failure(),
        }
    }

    /// Waits until it has taken what was published, at most for `timeout`.
    pub(crate) fn await_settled(&self, timeout: Duration) {
        match self {
            Engine::Memory => {}
            Engine::Disk(disk) => disk.behind.await_settled(timeout),
            Engine::Shared(shared) => shared.inlet.await_empty(timeout),
        }
    }

    /// Applies options that have changed.
    pub(crate) fn reconfigure(&self, settings: &Settings) {
        match self {
            Engine::Memory => {}
            Engine::Disk(disk) => {
                disk.set_kept(settings.kept);
                disk.behind.set_bound(settings.buffer);
            }
            Engine::Shared(shared) => {
                shared.inlet.set_bound(settings.buffer);
                shared.status.set_kept((Duration::from_millis(settings.kept.age_ms), settings.kept.bytes));
            }
        }
    }
}
