//! Publishing: one message, a batch, a broadcast.

use super::{no_user_channels, Api, MAX_BATCH};
use crate::error::Error;
use crate::framing::message;
use crate::hub::{user_of, Key, Outgoing, Placed, Publication};
use crate::sys::clock;

impl Api {
    /// Publishes one message; see `push_publish_message`.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        self.check(publication)?;
        if self.context.hub.lasts_first() {
            return self.wait_for_one(self.outgoing(publication));
        }
        self.context.hub.publish(self.outgoing(publication), clock::monotonic_ms()).map(Placed::from)
    }

    /// Like [`Self::publish`], for a caller that does not need the position.
    pub(crate) fn post(&self, publication: &Publication<'_>) -> Result<(), Error> {
        if self.context.hub.lasts_first() {
            self.check(publication)?;
            return self.leave(vec![self.outgoing(publication)]);
        }
        self.publish(publication).map(drop)
    }

    /// Publishes to every connection.
    pub fn broadcast(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        publication.check(self.max_message(), true)?;
        let publication = Publication { channel: "", ..*publication };
        if self.context.hub.lasts_first() {
            return self.wait_for_one(self.outgoing(&publication));
        }
        self.context.hub.publish(self.outgoing(&publication), clock::monotonic_ms()).map(Placed::from)
    }

    /// Like [`Self::broadcast`], for a caller that does not need the position.
    pub(crate) fn post_broadcast(&self, publication: &Publication<'_>) -> Result<(), Error> {
        if self.context.hub.lasts_first() {
            publication.check(self.max_message(), true)?;
            return self.leave(vec![self.outgoing(&Publication { channel: "", ..*publication })]);
        }
        self.broadcast(publication).map(drop)
    }

    /// Publishes all messages or none, with no other message between them.
    pub fn publish_batch(&self, publications: &[Publication<'_>]) -> Result<Vec<Placed>, Error> {
        let batch = self.checked_batch(publications)?;
        if self.context.hub.lasts_first() {
            return self.wait_for(batch);
        }
        let published = self.context.hub.publish_batch(batch, clock::monotonic_ms())?;
        Ok(published.into_iter().map(Placed::from).collect())
    }

    /// Checks what is published to a channel.
    pub(super) fn check(&self, publication: &Publication<'_>) -> Result<(), Error> {
        publication.check(self.max_message(), false)?;
        if publication.to_user && !self.user_channel {
            return Err(no_user_channels());
        }
        match publication.mark {
            None => Ok(()),
            // A client would be told that nothing more can come, and an EventSource would stay away.
            Some(_) if self.user_channel && user_of(publication.channel).is_some() => Err(Error::invalid(format!(
                "channel {}: the channel of a user has no beginning and no end (option user_channel)",
                publication.channel
            ))),
            Some(_) => self.context.hub.check_mark(publication.channel),
        }
    }

    pub(super) fn checked_batch<'p>(&self, publications: &[Publication<'p>]) -> Result<Vec<Outgoing<'p>>, Error> {
        if publications.len() > MAX_BATCH {
            return Err(Error::invalid(format!("a batch has at most {MAX_BATCH} messages")));
        }
        for (index, publication) in publications.iter().enumerate() {
            self.check(publication).map_err(|error| error.of_message(index))?;
        }
        Ok(publications.iter().map(|publication| self.outgoing(publication)).collect())
    }

    /// Like [`Self::publish_batch`], for a caller that does not need the positions.
    pub(crate) fn post_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        if self.context.hub.lasts_first() {
            return self.leave(self.checked_batch(publications)?);
        }
        self.publish_batch(publications).map(drop)
    }

    /// Prepares a publication for the hub. Its span begins here.
    pub(super) fn outgoing<'p>(&self, publication: &Publication<'p>) -> Outgoing<'p> {
        Outgoing {
            channel: publication.channel,
            key: publication.key.map(Key::Host),
            message: message(publication),
            span: self.context.hub.begin_span(publication),
        }
    }
}
