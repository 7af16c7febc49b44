//! The rights of a client. The host gives them when it hands the connection over or when it is asked, or a token has
//! them.

mod channels;
#[cfg(test)]
mod tests;
mod who;

use crate::error::Error;
use crate::hub::{is_the_librarys, user_of, ChannelPattern};
use crate::sys::socket::Checked;
use channels::{listed, Channels};
use std::collections::HashSet;
use std::sync::Arc;
use who::Who;
pub use who::MAX_INFO;

/// The largest number of channels in a grant.
pub const MAX_CHANNELS: usize = 1000;

/// The identity and the rights of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    who: Who,
    subscribe: Channels,
    publish: Channels,
    /// Seconds since 1970; 0: never.
    expires_at: i64,
    keep_alive: bool,
    /// The number of names at the beginning of `subscribe` to which the client is subscribed at once. A second list
    /// would make each grant larger.
    at_once: u16,
    /// It was not given by anybody: the options say what its client may publish.
    open: bool,
    /// The attached host that gets the client's events. 0 if there is none. It is here and not in the connection, since
    /// every byte there counts, and most grants are shared or exist anyway.
    host: u64,
}

/// A connection that the host hands over, beside its descriptor.
#[derive(Debug)]
pub(crate) struct Handover<'a> {
    /// The bytes that the host has read of the request.
    pub(crate) head: &'a [u8],
    pub(crate) grant: Option<Grant>,
    /// What is known of the socket.
    pub(crate) checked: Checked,
    /// True if others follow at once. Then this one may wait for them, until `flush`.
    pub(crate) followed: bool,
}

/// The grant of the client that came last. The clients of one page have equal grants, which they can share.
#[derive(Debug, Default)]
pub(crate) struct Latest(Option<Arc<Grant>>);

impl Latest {
    /// Returns a shared grant if clients with equal grants come one after the other.
    pub(crate) fn share(&mut self, grant: Grant) -> Arc<Grant> {
        match &self.0 {
            Some(latest) if **latest == grant => latest.clone(),
            _ => self.0.insert(Arc::new(grant)).clone(),
        }
    }
}

/// The parts of a grant, for sending it to another process. A list that is `None` stands for all channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) info: Option<&'a str>,
    pub(crate) subscribe: Option<Vec<String>>,
    /// The number of these, from the first on, to which the client is subscribed at once. They are names.
    pub(crate) at_once: usize,
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) expires_at: i64,
    pub(crate) keep_alive: bool,
}

/// The rights that a host gives a client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// The client's user.
    pub user: Option<&'a str>,
    /// What those who follow the presence of a channel are told of the user: at most [`MAX_INFO`] bytes.
    pub info: Option<&'a str>,
    /// The channels to which the client is subscribed at once, whatever its request asks for. They are names, not
    /// patterns, and are granted by this.
    pub subscribe: &'a [String],
    /// The channels that the client may have. They are names, not patterns, so a host may make them from a client's
    /// text.
    pub channels: &'a [String],
    /// More channels that the client may have: names, or prefixes ending in `*`. `*` alone is all channels.
    pub patterns: &'a [String],
    /// Seconds since 1970; 0: never.
    pub expires_at: i64,
    /// True if the client may publish to all of these.
    pub publish: bool,
    /// The channels to which the client may publish, whether it may have them or not. They are names, not patterns.
    pub publish_channels: &'a [String],
    /// More channels to which it may publish: names, or prefixes ending in `*`.
    pub publish_patterns: &'a [String],
    /// Whether further polls may come over the same connection.
    pub keep_alive: bool,
}

impl Grant {
    /// A grant from a host.
    pub fn of(terms: &Terms<'_>) -> Result<Self, Error> {
        let mut seen = HashSet::new();
        let at_once: Vec<&String> = terms.subscribe.iter().filter(|name| seen.insert(*name)).collect();
        let names = || at_once.iter().copied().chain(terms.channels);
        let granted = || listed(names(), "patterns", terms.patterns);
        let published = || listed(terms.publish_channels.iter(), "publish_patterns", terms.publish_patterns);
        let subscribe = Channels::of(granted(), at_once.len())?;
        let publish = match terms.publish {
            // Mostly there is one list for both, which both share.
            true if terms.publish_channels.is_empty() && terms.publish_patterns.is_empty() => subscribe.clone(),
            true => Channels::of(granted().chain(published()), 0)?,
            false => Channels::of(published(), 0)?,
        };
        let who = Who::checked(terms.user, terms.info)?;
        let grant = Grant::checked(who, subscribe, publish, terms.expires_at, terms.keep_alive)?;
        Ok(Grant { at_once: at_once.len() as u16, ..grant })
    }

    /// The same for a client whose request names its channels.
    pub fn new(
        user: Option<&str>,
        channels: &[String],
        patterns: &[String],
        expires_at: i64,
        publish: bool,
        keep_alive: bool,
    ) -> Result<Self, Error> {
        Grant::of(&Terms { user, channels, patterns, expires_at, publish, keep_alive, ..Terms::default() })
    }

    /// A grant from a token: the channels in its lists. The lists may have patterns, since the token's issuer wrote
    /// them.
    pub fn from_lists(
        user: Option<&str>,
        info: Option<&str>,
        subscribe: &[String],
        publish: &[String],
        expires_at: i64,
    ) -> Result<Self, Error> {
        let read = |list: &[String]| Channels::of(list.iter().map(|text| ChannelPattern::written(text)), 0);
        Grant::checked(Who::checked(user, info)?, read(subscribe)?, read(publish)?, expires_at, true)
    }

    fn checked(
        who: Who,
        subscribe: Channels,
        publish: Channels,
        expires_at: i64,
        keep_alive: bool,
    ) -> Result<Self, Error> {
        if expires_at < 0 {
            return Err(Error::invalid("expires_at is seconds since 1970, or 0"));
        }
        Ok(Grant { who, subscribe, publish, expires_at, keep_alive, at_once: 0, open: false, host: 0 })
    }

    /// The rights of a client that was handed over without a grant. The option `client_publish` limits them.
    pub(crate) fn open() -> Self {
        let (who, subscribe, publish) = (Who::nobody(), Channels::All, Channels::All);
        Grant { who, subscribe, publish, expires_at: 0, keep_alive: false, at_once: 0, open: true, host: 0 }
    }

    /// True if nobody gave it, so that the options say what its client may publish.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The same grant without one channel, or without all channels that match a pattern.
    pub(crate) fn without(&self, taken: &ChannelPattern) -> Self {
        Grant { subscribe: self.subscribe.without(taken), publish: self.publish.without(taken), ..self.clone() }
    }

    /// The same grant without the channels that were revoked from the earlier one. A client that lost a channel does
    /// not get it back with another token.
    pub(crate) fn without_taken_from(self, earlier: &Grant) -> Self {
        Grant {
            subscribe: self.subscribe.without_taken_from(&earlier.subscribe),
            publish: self.publish.without_taken_from(&earlier.publish),
            ..self
        }
    }

    /// The same grant, whose events go to an attached host.
    pub(crate) fn of_host(self, host: u64) -> Self {
        Grant { host, ..self }
    }

    /// The attached host that gets the client's events. 0 if there is none.
    pub(crate) fn host(&self) -> u64 {
        self.host
    }

    /// The parts of the grant.
    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            user: self.user().map(|user| &**user),
            info: self.info(),
            subscribe: self.subscribe.texts(),
            at_once: self.at_once.into(),
            publish: self.publish.texts(),
            expires_at: self.expires_at,
            keep_alive: self.keep_alive,
        }
    }

    /// Makes a grant from its parts. They are checked again, since they came from another process.
    pub(crate) fn from_parts(parts: &Parts<'_>) -> Result<Self, Error> {
        let read = |texts: &Option<Vec<String>>, at_once| match texts {
            None => Ok(Channels::All),
            Some(texts) => Channels::of(texts.iter().map(|text| ChannelPattern::written(text)), at_once),
        };
        let (subscribe, publish) = (read(&parts.subscribe, parts.at_once)?, read(&parts.publish, 0)?);
        let at_once = subscribe.first(parts.at_once);
        let mut seen = HashSet::new();
        if at_once.len() != parts.at_once
            || at_once.iter().any(|name| name.name().is_none_or(|name| !seen.insert(name)))
        {
            return Err(Error::invalid("the channels to subscribe to at once are names, each once"));
        }
        let who = Who::checked(parts.user, parts.info)?;
        let grant = Grant::checked(who, subscribe, publish, parts.expires_at, parts.keep_alive)?;
        Ok(Grant { at_once: parts.at_once as u16, ..grant })
    }

    /// The client's user.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.who.user()
    }

    /// What those who follow the presence of a channel are told of the user.
    pub fn info(&self) -> Option<&str> {
        self.who.info()
    }

    /// The channels to which the client is subscribed at once, whatever its request asks for: names without
    /// repetitions. If there are none, the client gets the channels that it asks for.
    pub(crate) fn at_once(&self) -> &[ChannelPattern] {
        self.subscribe.first(self.at_once.into())
    }

    /// Those of [`Self::at_once`] that were not revoked since. If all were, these are all: the client is told that it
    /// may not have them.
    pub(crate) fn at_once_now(&self) -> impl Iterator<Item = &str> {
        let names = || self.at_once().iter().filter_map(ChannelPattern::name);
        let all_revoked = names().all(|name| self.subscribe.has_revoked(name));
        names().filter(move |name| all_revoked || !self.subscribe.has_revoked(name))
    }

    /// True if the client may subscribe to a channel, where users have no channels of their own.
    pub fn allows(&self, channel: &str) -> bool {
        self.subscribe.allow(channel)
    }

    /// The same with the option `user_channel` as `users_have_channels` says. Then a user has its own channel, and no list
    /// or pattern gives another user's. It can be revoked as any other.
    pub(crate) fn gives(&self, channel: &str, users_have_channels: bool) -> bool {
        match user_of(channel).filter(|_| users_have_channels) {
            Some(user) => self.user().is_some_and(|own| **own == *user) && !self.subscribe.has_revoked(channel),
            None => self.allows(channel),
        }
    }

    /// Whether the client may publish to a channel. Nobody gets the right to publish to the channel of a user.
    pub(crate) fn gives_publish(&self, channel: &str, users_have_channels: bool) -> bool {
        self.allows_publish(channel) && !(users_have_channels && user_of(channel).is_some())
    }

    /// Refuses a grant that names the channels of users, for a hub whose option `user_channel` is on.
    pub(crate) fn check_names(&self) -> Result<(), Error> {
        match self.subscribe.of_users().or_else(|| self.publish.of_users()) {
            Some(pattern) => Err(Error::invalid(is_the_librarys(&pattern.to_string()))),
            None => Ok(()),
        }
    }

    /// True if the client may publish to a channel.
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
