//! The channel that the library gives to a connection because of its user (option `user_channel`). It is one more channel
//! of the connection's request, so everything else treats it as any other. No client names such channels: the names in a
//! URL are checked as it is read (`http/query.rs`), those of requests on a live connection here.

use crate::dialect::push::replies;
use crate::dialect::push::requests::{ClientRequest, Refused};
use crate::framing::close::Close;
use crate::framing::ws_frames;
use crate::http::request::Subscribe;
use crate::hub::{channel_of_user, user_of, Start, OF_THE_LIBRARY};
use crate::shard::connection::conn::{Flags, Phase};
use crate::shard::Shard;
use std::borrow::Cow;

impl Shard {
    /// Adds the channel of the connection's user to those of its request. It does not count for `max_channels`.
    pub(in crate::shard) fn add_user_channel(&self, index: u32, subscribe: &mut Subscribe<'_>) {
        let Some(name) = self.user_channel(index) else { return };
        let grant = self.conns[index as usize].grant.as_ref();
        // If it was revoked and there is no other, the client is told that it may not have it.
        if subscribe.channels.is_empty() || grant.is_some_and(|grant| grant.gives(&name, true)) {
            subscribe.channels.push(Cow::Owned(name));
        }
    }

    /// The name of the channel of a connection's user. A user whose name no channel can have has none: publishing to it
    /// is refused with that reason, so nothing is lost in silence.
    fn user_channel(&self, index: u32) -> Option<String> {
        if !self.config.user_channel {
            return None;
        }
        channel_of_user(self.conns[index as usize].grant.as_ref()?.user()?).ok()
    }

    /// How many channels of a live connection the library has given to it: one or none.
    pub(in crate::shard) fn given_channels(&self, index: u32) -> usize {
        let id = self.user_channel(index).and_then(|name| self.context.hub.channel_id(&name));
        let conn = &self.conns[index as usize];
        id.is_some_and(|id| self.subscriptions.channels.is_on(conn, index, id)).into()
    }

    /// Refuses a request that names the channel of a user.
    pub(in crate::shard) fn check_not_of_user(&self, request: &ClientRequest<'_>) -> Result<(), Refused> {
        if !self.config.user_channel || request.channel().and_then(user_of).is_none() {
            return Ok(());
        }
        // The answer has the name, which nobody has checked yet.
        let code = if matches!(request, ClientRequest::Publish(_)) { "publish" } else { "channel" };
        Err(Refused::new(code, OF_THE_LIBRARY))
    }

    /// A connection has another grant: it gets the channel of the user that the grant names, if it does not have it yet.
    pub(in crate::shard) fn follow_user(&mut self, index: u32) {
        let Some(name) = self.user_channel(index) else { return };
        let conn = &mut self.conns[index as usize];
        let gives = conn.grant.as_ref().is_some_and(|grant| grant.gives(&name, true));
        // The next request of a connection that is not open names its channels anew.
        if !gives || !matches!(conn.phase, Phase::Open(_)) {
            return;
        }
        if let Some(catch_up) = conn.outbox.as_mut().and_then(|outbox| outbox.catch_up.as_mut()) {
            if catch_up.names.iter().all(|known| **known != *name) {
                catch_up.names.push(name.into());
            }
            return;
        }
        let tells = conn.format.takes_requests();
        if !conn.is(Flags::LIVE) || self.given_channels(index) > 0 {
            return;
        }
        match self.join_live(index, &name, Start::New) {
            Ok(Some(position)) if tells => {
                let position = self.encoder.epoch().position(position);
                self.transmit_bytes(index, ws_frames::text(&replies::subscribed(&name, &position)));
            }
            Ok(_) => {}
            // The log has broken a moment ago. The client comes back, and has the channel then.
            Err(_) => {
                let close = Close::going_away(self.advised_delay());
                self.close(index, close);
            }
        }
    }
}
