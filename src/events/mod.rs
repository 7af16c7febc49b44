//! Events for the host: a queue from which the host takes them, or from which its callback gets them.

mod behind;
mod event;
mod queue;

pub(crate) use behind::Behind;
pub(crate) use event::EVERY_HOST;
pub use event::{Event, EventKind, EventKinds};
pub use queue::Events;
pub(crate) use queue::Unannounced;

/// The host's function for events. It runs on the callback thread.
pub type EventSink = dyn Fn(Event) + Send + Sync;
