//! Events for the host: a queue from which the host takes them, or from which its callback gets them.

mod behind;
mod event;
mod queue;

pub(crate) use behind::Behind;
pub(crate) use event::EVERY_HOST;
pub use event::{Event, EventKind, EventKinds, Publishing};
pub use queue::Events;
pub(crate) use queue::Unannounced;

/// The answer to a client that calls, or publishes what the host checks, while no host is there, or none that takes such
/// events: the status, and a sentence.
pub(crate) const NOBODY_ANSWERS: (u16, &str) = (503, "no host is there to answer; try again later");

/// The host's function for events. It runs on the callback thread.
pub type EventSink = dyn Fn(Event) + Send + Sync;
