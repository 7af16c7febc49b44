//! Publishing for attached hosts. Where there is a log, whose a message is goes into it, too: what a host sends again to
//! the next hub is recognised.

use super::{outgoing, Api};
use crate::error::Error;
use crate::hub::{Origin, Placed, Publication};
use crate::sys::clock;

impl Api {
    /// As [`Api::publish`], for a message of another process.
    pub(crate) fn publish_of(&self, origin: Origin, publication: &Publication<'_>) -> Result<Placed, Error> {
        publication.check(self.max_message(), false)?;
        self.context.hub.publish_of(origin, outgoing(publication), clock::monotonic_ms()).map(Placed::from)
    }

    /// As [`Api::broadcast`], for a message of another process.
    pub(crate) fn broadcast_of(&self, origin: Origin, publication: &Publication<'_>) -> Result<Placed, Error> {
        publication.check(self.max_message(), true)?;
        let publication = Publication { channel: "", ..*publication };
        self.context.hub.publish_of(origin, outgoing(&publication), clock::monotonic_ms()).map(Placed::from)
    }

    /// As [`Api::publish_batch`], for messages of another process.
    pub(crate) fn publish_batch_of(
        &self,
        origin: Origin,
        publications: &[Publication<'_>],
    ) -> Result<Vec<Placed>, Error> {
        let batch = self.checked_batch(publications)?;
        let published = self.context.hub.publish_batch_of(origin, batch, clock::monotonic_ms())?;
        Ok(published.into_iter().map(Placed::from).collect())
    }
}
