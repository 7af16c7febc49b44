//! What a client is allowed: as the host said when it handed the connection over, as a token says, or as the host answered.

use crate::error::Error;
use crate::hub::{check_text, ChannelPattern};
use std::sync::Arc;

/// How many channels a grant may name.
pub const MAX_CHANNELS: usize = 1000;

/// Who a client is and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    user: Option<Arc<str>>,
    subscribe: Channels,
    publish: Channels,
    /// Seconds since 1970; 0: never.
    expires_at: i64,
    keep_alive: bool,
}

/// Channels by name or prefix, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Channels {
    All,
    Only(Arc<[ChannelPattern]>),
}

impl Channels {
    fn read(names: &[String]) -> Result<Self, Error> {
        if names.len() > MAX_CHANNELS {
            return Err(Error::invalid(format!("a grant has at most {MAX_CHANNELS} channels")));
        }
        let patterns = names.iter().map(|name| ChannelPattern::parse(name).map_err(Error::invalid));
        Ok(Channels::Only(patterns.collect::<Result<_, _>>()?))
    }

    fn allow(&self, channel: &str) -> bool {
        match self {
            Channels::All => true,
            Channels::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(channel)),
        }
    }
}

impl Grant {
    /// A host's grant: `channels` are names, or prefixes ending in `*`; none means all. `publish`: to them, too.
    pub fn new(
        user: Option<&str>,
        channels: &[String],
        expires_at: i64,
        publish: bool,
        keep_alive: bool,
    ) -> Result<Self, Error> {
        let subscribe = if channels.is_empty() { Channels::All } else { Channels::read(channels)? };
        let publish = if publish { subscribe.clone() } else { Channels::Only(Arc::new([])) };
        Grant::checked(user, subscribe, publish, expires_at, keep_alive)
    }

    /// A token's grant: what its lists name and nothing else.
    pub fn from_lists(
        user: Option<&str>,
        subscribe: &[String],
        publish: &[String],
        expires_at: i64,
    ) -> Result<Self, Error> {
        Grant::checked(user, Channels::read(subscribe)?, Channels::read(publish)?, expires_at, true)
    }

    fn checked(
        user: Option<&str>,
        subscribe: Channels,
        publish: Channels,
        expires_at: i64,
        keep_alive: bool,
    ) -> Result<Self, Error> {
        if let Some(user) = user {
            check_text("user", user, 255)?;
        }
        if expires_at < 0 {
            return Err(Error::invalid("expires_at is seconds since 1970, or 0"));
        }
        Ok(Grant { user: user.map(Arc::from), subscribe, publish, expires_at, keep_alive })
    }

    /// Who the client is.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    /// Whether the client may subscribe to a channel.
    pub fn allows(&self, channel: &str) -> bool {
        self.subscribe.allow(channel)
    }

    /// Whether the client may publish to a channel.
    pub fn allows_publish(&self, channel: &str) -> bool {
        self.publish.allow(channel)
    }

    /// Whether further polls may come over the same connection.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Seconds since 1970 at which the grant ends.
    pub fn expires_at(&self) -> Option<i64> {
        (self.expires_at > 0).then_some(self.expires_at)
    }
}
