//! Publishing for attached hosts. If there is a log, it records the host's session and request number with each
//! message. So the next hub recognises requests that a host sends again.

use super::Api;
use crate::error::Error;
use crate::hub::{Key, Mark, OnSettled, Origin, Outgoing, Placed, Placing, Publication};
use crate::sys::clock;

impl Api {
    /// Like [`Api::publish`], for a message of an attached host.
    pub(crate) fn publish_of(&self, origin: Origin, publication: &Publication<'_>) -> Result<Placed, Error> {
        self.check(publication)?;
        self.context.hub.publish_of(origin, self.outgoing(publication), clock::monotonic_ms()).map(Placed::from)
    }

    /// Like [`Api::broadcast`], for a message of an attached host.
    pub(crate) fn broadcast_of(&self, origin: Origin, publication: &Publication<'_>) -> Result<Placed, Error> {
        publication.check(self.max_message(), true)?;
        let publication = Publication { channel: "", ..*publication };
        self.context.hub.publish_of(origin, self.outgoing(&publication), clock::monotonic_ms()).map(Placed::from)
    }

    /// Like [`Api::publish_batch`], for messages of an attached host.
    pub(crate) fn publish_batch_of(
        &self,
        origin: Origin,
        publications: &[Publication<'_>],
    ) -> Result<Vec<Placed>, Error> {
        let batch = self.checked_batch(publications)?;
        let published = self.context.hub.publish_batch_of(origin, batch, clock::monotonic_ms())?;
        Ok(published.into_iter().map(Placed::from).collect())
    }

    /// The numbers of those that were published before, by their keys.
    pub(crate) fn known(&self, publications: &[Publication<'_>]) -> Vec<Option<u64>> {
        let now = clock::monotonic_ms();
        let known = |publication: &Publication<'_>| match publication.mark {
            Some(Mark::End) => self.context.hub.end_of(publication.channel),
            _ => self.context.hub.known((publication.channel, Key::Host(publication.key?)), now),
        };
        publications.iter().map(known).collect()
    }

    /// True if messages are published only after a sync, so that the result comes later.
    pub(crate) fn lasts_first(&self) -> bool {
        self.context.hub.lasts_first()
    }

    /// Like [`Api::publish_batch_of`], for a hub that publishes only after a sync. A broadcast comes alone.
    pub(crate) fn submit_of(
        &self,
        origin: Origin,
        publications: &[Publication<'_>],
        broadcast: bool,
        on_settled: OnSettled,
    ) -> Result<Placing, Error> {
        let batch = if broadcast { self.checked_broadcasts(publications)? } else { self.checked_batch(publications)? };
        self.context.hub.submit(batch, Some(origin), clock::monotonic_ms(), Some(on_settled))
    }

    fn checked_broadcasts<'p>(&self, publications: &[Publication<'p>]) -> Result<Vec<Outgoing<'p>>, Error> {
        let everybody = |publication: &Publication<'p>| {
            publication.check(self.max_message(), true)?;
            Ok(self.outgoing(&Publication { channel: "", ..*publication }))
        };
        publications.iter().map(everybody).collect()
    }
}
