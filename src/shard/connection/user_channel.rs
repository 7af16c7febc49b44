//! The channel that the library gives to a connection because of its user (option `user_channel`). It is one more channel
//! of the connection's request, so everything else treats it as any other. No client names such channels: the names in a
//! URL are checked as it is read (`http/query.rs`), those of requests on a live connection here.

use crate::dialect::push::requests::{ClientRequest, Refused};
use crate::framing::close::Close;
use crate::http::request::Subscribe;
use crate::hub::{channel_of_user, user_of, OF_THE_LIBRARY};
use crate::shard::connection::conn::Phase;
use crate::shard::Shard;
use std::borrow::Cow;

impl Shard {
    /// Adds the channel of the connection's user to those of its request. It does not count for `max_channels`.
    pub(in crate::shard) fn add_user_channel(&self, index: u32, subscribe: &mut Subscribe<'_>) {
        let Some(name) = self.user_channel(index) else { return };
        let grant = self.conns[index as usize].grant.as_ref();
        // If it was revoked and the request needs a channel, the client is told that it may not have this one.
        if subscribe.check_channels().is_err() || grant.is_some_and(|grant| grant.gives(&name, true)) {
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

    /// Whether a request has the channel of its user.
    pub(in crate::shard) fn has_user_channel(&self, subscribe: &Subscribe<'_>) -> bool {
        self.config.user_channel && subscribe.channels.iter().any(|name| user_of(name).is_some())
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

    /// Closes an open connection if its user is another one than `before`. Its client comes back. A connection that went
    /// on could get messages of the user before, and miss some of the new one: both are already on their way to the shard.
    /// True: it is closed.
    pub(in crate::shard) fn close_if_user_changed(&mut self, index: u32, before: Option<&str>) -> bool {
        let Some(conn) = self.conns.get(index as usize) else { return true };
        let is_open = matches!(conn.phase, Phase::Open(_));
        if !self.config.user_channel || !is_open || self.user_of_connection(index) == before {
            return false;
        }
        let reason = "the connection has another user now".into();
        let close = Close { reason, ..Close::going_away(self.advised_delay()) };
        self.close(index, close);
        true
    }

    fn user_of_connection(&self, index: u32) -> Option<&str> {
        self.conns.get(index as usize)?.grant.as_ref()?.user().map(|user| &**user)
    }
}
