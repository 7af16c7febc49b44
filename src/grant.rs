//! The rights of a client. The host gives them when it hands the connection over or when it is asked, or a token has
//! them.

mod channels;

use crate::error::Error;
use crate::hub::{check_text, ChannelPattern};
use channels::{name, Channels};
use std::collections::HashSet;
use std::sync::Arc;

/// The largest number of channels in a grant.
pub const MAX_CHANNELS: usize = 1000;

/// The identity and the rights of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    user: Option<Arc<str>>,
    subscribe: Channels,
    publish: Channels,
    /// Seconds since 1970; 0: never.
    expires_at: i64,
    keep_alive: bool,
    /// The number of names at the beginning of `subscribe` to which the client is subscribed at once. A second list
    /// would make each grant larger.
    at_once: u16,
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
    /// True if the socket may delay small writes, as TCP does by default.
    pub(crate) delays: bool,
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
    /// Whether further polls may come over the same connection.
    pub keep_alive: bool,
}

impl Grant {
    /// A grant from a host.
    pub fn of(terms: &Terms<'_>) -> Result<Self, Error> {
        let mut seen = HashSet::new();
        let at_once: Vec<&String> = terms.subscribe.iter().filter(|name| seen.insert(*name)).collect();
        let names = at_once.iter().copied().chain(terms.channels).map(|text| name(text));
        let patterns = terms.patterns.iter().map(|text| ChannelPattern::written(text));
        let subscribe = Channels::of(names.chain(patterns), at_once.len())?;
        let publish = if terms.publish { subscribe.clone() } else { Channels::Nothing };
        let grant = Grant::checked(terms.user, subscribe, publish, terms.expires_at, terms.keep_alive)?;
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
        Grant::of(&Terms { user, subscribe: &[], channels, patterns, expires_at, publish, keep_alive })
    }

    /// A grant from a token: the channels in its lists. The lists may have patterns, since the token's issuer wrote
    /// them.
    pub fn from_lists(
        user: Option<&str>,
        subscribe: &[String],
        publish: &[String],
        expires_at: i64,
    ) -> Result<Self, Error> {
        let read = |list: &[String]| Channels::of(list.iter().map(|text| ChannelPattern::written(text)), 0);
        Grant::checked(user, read(subscribe)?, read(publish)?, expires_at, true)
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
        Ok(Grant { user: user.map(Arc::from), subscribe, publish, expires_at, keep_alive, at_once: 0, host: 0 })
    }

    /// The rights of a client that was handed over without a grant.
    pub(crate) fn open(client_publish: bool) -> Self {
        let publish = if client_publish { Channels::All } else { Channels::Nothing };
        Grant { user: None, subscribe: Channels::All, publish, expires_at: 0, keep_alive: false, at_once: 0, host: 0 }
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
            user: self.user.as_deref(),
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
        let grant = Grant::checked(parts.user, subscribe, publish, parts.expires_at, parts.keep_alive)?;
        Ok(Grant { at_once: parts.at_once as u16, ..grant })
    }

    /// The client's user.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
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

    /// True if the client may subscribe to a channel.
    pub fn allows(&self, channel: &str) -> bool {
        self.subscribe.allow(channel)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_pattern() {
        for name in ["news.*", "*", "room.**"] {
            let error = Grant::new(None, &[name.into()], &[], 0, false, false).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("the grant's patterns"), "{error}");
        }
        let grant = Grant::new(
            None,
            &["a*b".into(), "news.".into()],
            &["x".into(), "me.*".into(), "c*d".into()],
            0,
            true,
            false,
        )
        .unwrap();
        let again = Grant::from_parts(&grant.parts()).unwrap();
        for grant in [grant, again] {
            for (channel, allowed) in [
                ("a*b", true),
                ("axb", false),
                ("news.", true),
                ("news.x", false),
                ("x", true),
                ("me.you", true),
                ("c*d", true),
                ("c*de", false),
            ] {
                assert_eq!((grant.allows(channel), grant.allows_publish(channel)), (allowed, allowed), "{channel}");
            }
        }
        let many: Vec<_> = (0..600).map(|n| n.to_string()).collect();
        assert!(Grant::new(None, &many, &many, 0, false, false).is_err(), "the bound is for both together");
    }

    #[test]
    fn channels_that_a_client_gets_at_once_are_granted_and_keep_their_order() {
        let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let (first, more) = (list(&["b", "a", "b"]), list(&["c", "a"]));
        let terms = Terms { subscribe: &first, channels: &more, publish: true, ..Terms::default() };
        let grant = Grant::of(&terms).unwrap();
        let every = Grant::of(&Terms { patterns: &list(&["*"]), ..terms }).unwrap();
        let less = every.without(&ChannelPattern::parse("a").unwrap());
        for grant in [&grant, &Grant::from_parts(&grant.parts()).unwrap(), &every, &less] {
            let names: Vec<_> = grant.at_once().iter().filter_map(ChannelPattern::name).collect();
            assert_eq!(names, ["b", "a"]);
            assert!(grant.allows("b") && grant.allows_publish("b") && grant.allows("c"));
        }
        assert!(!grant.allows("d") && every.allows("d") && !less.allows("a"));
        assert!(Grant::of(&Terms { subscribe: &list(&["a*"]), ..terms }).unwrap_err().to_string().contains("a*"));
        let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
        assert!(Grant::of(&Terms { subscribe: &many[1..], ..Terms::default() }).is_ok());
        assert!(Grant::of(&Terms { subscribe: &many, ..Terms::default() }).is_err());
        assert!(Grant::of(&Terms { subscribe: &many[..999], ..terms }).is_err(), "the bound is for all together");
    }

    #[test]
    fn parts_from_another_process_name_only_what_they_list() {
        let list = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        let parts = |subscribe, at_once| Parts {
            user: None,
            subscribe,
            at_once,
            publish: Some(Vec::new()),
            expires_at: 0,
            keep_alive: false,
        };
        assert!(Grant::from_parts(&parts(list(&["a", "b*"]), 1)).is_ok());
        for (subscribe, at_once) in [(list(&["a", "b*"]), 2), (list(&["a"]), 2), (list(&["a", "a"]), 2), (None, 1)] {
            assert!(Grant::from_parts(&parts(subscribe.clone(), at_once)).is_err(), "{subscribe:?} {at_once}");
        }
    }

    #[test]
    fn what_is_taken_away_is_not_allowed_and_the_rest_is() {
        let pattern = |text: &str| ChannelPattern::parse(text).unwrap();
        let none = Grant::new(Some("ann"), &[], &[], 0, true, false).unwrap();
        assert!(!none.allows("a") && !none.allows_publish("a"));
        let every = Grant::new(Some("ann"), &["a".into()], &["*".into()], 0, false, false).unwrap();
        assert!(every.allows("b") && !every.allows_publish("b"));
        let grant = Grant::new(Some("ann"), &["me".into()], &["news.*".into()], 0, true, false).unwrap();
        let less = grant.without(&pattern("news.sport")).without(&pattern("news.a*"));
        for (channel, allowed) in
            [("news.x", true), ("me", true), ("news.sport", false), ("news.art", false), ("you", false)]
        {
            assert_eq!((less.allows(channel), less.allows_publish(channel)), (allowed, allowed), "{channel}");
        }
        assert!(grant.allows("news.sport"), "others may share it");
        assert!(!Grant::open(true).without(&pattern("*")).allows("a"));
        let names = (0..=MAX_CHANNELS).map(|n| pattern(&format!("c{n}")));
        let none = names.fold(grant, |grant, name| grant.without(&name));
        assert!(!none.allows("me"), "at the bound the grant allows nothing more");
        assert_eq!(less.parts().subscribe, Some(vec![]));
        let new = Grant::new(Some("ann"), &[], &["*".into()], 0, true, false).unwrap();
        let next = new.clone().without_taken_from(&less);
        assert!(next.allows("you") && !next.allows("news.sport") && !next.allows_publish("news.art"));
        assert!(!new.without_taken_from(&none).allows("me"));
    }
}
