//! Publishing where the log comes first: `engine_sync=always`, or a log that hubs share. A message is delivered only when
//! the log has acknowledged it. A caller waits for its position, or gets it in a callback.

use super::Api;
use crate::error::{Error, Kind};
use crate::hub::{OnSettled, Outgoing, Placed, Placing, Publication, Published, Settled};
use crate::sys::clock;
use std::time::Duration;

impl Api {
    /// Like [`Api::publish`], for a caller that can't wait. `on_settled` is dropped if the message is published at
    /// once.
    pub(crate) fn submit(&self, publication: &Publication<'_>, on_settled: OnSettled) -> Result<Placing, Error> {
        self.check(publication)?;
        self.context.hub.submit(vec![self.outgoing(publication)], None, clock::monotonic_ms(), Some(on_settled))
    }

    /// Like [`Api::broadcast`], for a caller that can't wait.
    pub(crate) fn submit_broadcast(
        &self,
        publication: &Publication<'_>,
        on_settled: OnSettled,
    ) -> Result<Placing, Error> {
        publication.check(self.max_message(), true)?;
        let publication = Publication { channel: "", ..*publication };
        self.context.hub.submit(vec![self.outgoing(&publication)], None, clock::monotonic_ms(), Some(on_settled))
    }

    /// Like [`Api::publish_batch`], for a caller that can't wait.
    pub(crate) fn submit_batch(
        &self,
        publications: &[Publication<'_>],
        on_settled: OnSettled,
    ) -> Result<Placing, Error> {
        let batch = self.checked_batch(publications)?;
        self.context.hub.submit(batch, None, clock::monotonic_ms(), Some(on_settled))
    }

    /// Clears a channel's history. Its subscribers stay.
    pub(crate) fn submit_clear(&self, channel: &str, on_settled: OnSettled) -> Result<Placing, Error> {
        self.context.hub.submit_clear(channel, Some(on_settled))
    }

    /// How long a caller waits until the log has acknowledged its message.
    pub(crate) fn engine_timeout(&self) -> Duration {
        Duration::from_millis(self.context.config.get().engine_timeout_ms)
    }

    /// Submits messages, and does not wait for the log.
    pub(super) fn leave(&self, batch: Vec<Outgoing<'_>>) -> Result<(), Error> {
        self.context.hub.submit(batch, None, clock::monotonic_ms(), None).map(drop)
    }

    pub(super) fn wait_for_one(&self, outgoing: Outgoing<'_>) -> Result<Placed, Error> {
        let places = self.wait_for(vec![outgoing])?;
        // `wait_for` returns one position for each message.
        places.into_iter().next().ok_or_else(not_in_time)
    }

    /// Submits messages, and waits for the log.
    pub(super) fn wait_for(&self, batch: Vec<Outgoing<'_>>) -> Result<Vec<Placed>, Error> {
        let settled = self.context.hub.submit_and_wait(batch, clock::monotonic_ms(), self.engine_timeout())?;
        places(settled.ok_or_else(not_in_time)?)
    }
}

/// The positions of a request's messages, in the form that callers of the API get. An error: nobody knows what became
/// of one of them.
pub(crate) fn places(settled: Settled) -> Result<Vec<Placed>, Error> {
    if settled.unknown {
        return Err(not_in_time());
    }
    let epoch_index = settled.epoch;
    let place = |published: Published| Placed { epoch_index, ..published.into() };
    Ok(settled.places.into_iter().map(place).collect())
}

/// The error of a caller that has waited long enough.
pub(crate) fn not_in_time() -> Error {
    let text =
        "the log was not synced, or has not answered, in time (option engine_timeout); the message may have been published, or may be published later; \
         with a key it is safe to call again";
    Error::new(Kind::Timeout, text)
}
