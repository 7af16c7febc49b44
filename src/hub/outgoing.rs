//! What is published, on its way into the hub, and the begin of its span.

use super::{Hub, Key, Message, Publication};
use crate::trace::{Span, Tracer};
use std::sync::Arc;

/// One message to publish: its channel and key, and the rest as built by [`Message::new`].
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The channel. Empty for a broadcast.
    pub channel: &'a str,
    /// The idempotency key.
    pub key: Option<Key<'a>>,
    /// The message.
    pub message: Arc<Message>,
    /// Its span, if it has one.
    pub(crate) span: Option<Span>,
}

impl<'a> Outgoing<'a> {
    /// A message without a span.
    pub fn new(channel: &'a str, key: Option<Key<'a>>, message: Arc<Message>) -> Self {
        Outgoing { channel, key, message, span: None }
    }
}

impl Hub {
    /// Has spans begin for messages.
    #[cfg_attr(not(feature = "trace"), allow(dead_code))]
    pub(crate) fn trace_with(&mut self, tracer: Arc<Tracer>) {
        self.tracer = Some(tracer);
    }

    /// What begins the spans of messages, if any are traced.
    pub(crate) fn tracer(&self) -> Option<&Arc<Tracer>> {
        self.tracer.as_ref()
    }

    /// Begins the span of a publication, if it is to have one. The beginnings and ends of streams have none.
    /// Inlined: a hub that traces nothing only looks whether it does.
    #[inline(always)]
    pub(crate) fn begin_span(&self, publication: &Publication<'_>) -> Option<Span> {
        match &self.tracer {
            None => None,
            Some(tracer) => begin(tracer, publication),
        }
    }
}

#[inline(never)]
fn begin(tracer: &Arc<Tracer>, publication: &Publication<'_>) -> Option<Span> {
    if publication.mark.is_some() {
        return None;
    }
    tracer.begin(publication.trace.as_ref(), publication.channel, publication.data.len())
}
