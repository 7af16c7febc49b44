//! What the host is told: a queue that it pulls from, or that a callback empties.

mod behind;
mod event;
mod queue;

pub(crate) use behind::Behind;
pub(crate) use event::EVERY_HOST;
pub use event::{Event, EventKind, EventKinds};
pub use queue::Events;
pub(crate) use queue::Left;

/// Gets events, on the callback thread.
pub type EventSink = dyn Fn(Event) + Send + Sync;
