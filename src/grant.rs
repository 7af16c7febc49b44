//! What a host allows a connection that it hands over: the host's login has already decided.

use crate::error::Error;
use crate::hub::{check_text, ChannelPattern};
use std::sync::Arc;

/// How many channels a grant may name.
pub const MAX_CHANNELS: usize = 1000;

/// Who a client is and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    user: Option<Arc<str>>,
    /// Empty: every channel.
    channels: Vec<ChannelPattern>,
    /// Seconds since 1970; 0: never.
    expires_at: i64,
    publish: bool,
    keep_alive: bool,
}

impl Grant {
    /// Checks and takes what a host says. `channels` are names, or prefixes ending in `*`; none means all.
    pub fn new(
        user: Option<&str>,
        channels: Vec<String>,
        expires_at: i64,
        publish: bool,
        keep_alive: bool,
    ) -> Result<Self, Error> {
        if channels.len() > MAX_CHANNELS {
            return Err(Error::invalid(format!("a grant has at most {MAX_CHANNELS} channels")));
        }
        if let Some(user) = user {
            check_text("user", user, 255)?;
        }
        if expires_at < 0 {
            return Err(Error::invalid("expires_at is seconds since 1970, or 0"));
        }
        let channels = channels
            .iter()
            .map(|channel| ChannelPattern::parse(channel).map_err(Error::invalid))
            .collect::<Result<_, _>>()?;
        Ok(Grant { user: user.map(Arc::from), channels, expires_at, publish, keep_alive })
    }

    /// Who the client is.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    /// Whether the client may subscribe to a channel.
    pub fn allows(&self, channel: &str) -> bool {
        self.channels.is_empty() || self.channels.iter().any(|pattern| pattern.matches(channel))
    }

    /// Whether the client may publish to a channel.
    pub fn allows_publish(&self, channel: &str) -> bool {
        self.publish && self.allows(channel)
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
