//! What a client is allowed: as the host said when it handed the connection over, as a token says, or as the host
//! answered.

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
    /// Which attached host answers for the client, so that its events go there; 0: none. It stands here and not in the
    /// connection because every byte there counts, and most grants are shared or exist anyway.
    host: u64,
}

/// The grant of the client that came last: those of one page are alike, and then one is enough.
#[derive(Debug, Default)]
pub(crate) struct Latest(Option<Arc<Grant>>);

impl Latest {
    /// The same grant, in one place for all that come with it one after the other.
    pub(crate) fn share(&mut self, grant: Grant) -> Arc<Grant> {
        match &self.0 {
            Some(latest) if **latest == grant => latest.clone(),
            _ => self.0.insert(Arc::new(grant)).clone(),
        }
    }
}

/// What a grant is made of, for sending it to another process. `None`: all channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) subscribe: Option<Vec<String>>,
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) expires_at: i64,
    pub(crate) keep_alive: bool,
}

/// Channels by name or prefix, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Channels {
    All,
    /// As most clients may publish. A list without entries would be an allocation for each grant.
    Nothing,
    Only(Arc<[ChannelPattern]>),
    /// What was granted, without what was taken away since.
    Except(Arc<(Channels, Vec<ChannelPattern>)>),
}

/// A name. What ends in `*` is told from one with another mistake, since it may be right elsewhere.
fn name(text: &str) -> Result<ChannelPattern, Error> {
    let pattern = || Error::invalid(format!("channel {text:?} is a pattern: it belongs among the grant's patterns"));
    ChannelPattern::exact(text).map_err(|error| if text.ends_with('*') { pattern() } else { error })
}

impl Channels {
    fn of(listed: impl Iterator<Item = Result<ChannelPattern, Error>>) -> Result<Self, Error> {
        // One more says that there are too many.
        let patterns = listed.take(MAX_CHANNELS + 1).collect::<Result<Box<[_]>, _>>()?;
        if patterns.len() > MAX_CHANNELS {
            return Err(Error::invalid(format!("a grant has at most {MAX_CHANNELS} channels")));
        }
        Ok(match &*patterns {
            [] => Channels::Nothing,
            _ if patterns.contains(&ChannelPattern::everything()) => Channels::All,
            _ => Channels::Only(patterns.into()),
        })
    }

    fn allow(&self, channel: &str) -> bool {
        let any = |patterns: &[ChannelPattern]| patterns.iter().any(|pattern| pattern.matches(channel));
        match self {
            Channels::All => true,
            Channels::Nothing => false,
            Channels::Only(patterns) => any(patterns),
            Channels::Except(both) => both.0.allow(channel) && !any(&both.1),
        }
    }

    fn without(&self, taken: &ChannelPattern) -> Self {
        let (granted, mut all) = match self {
            Channels::Except(both) => (both.0.clone(), both.1.clone()),
            granted => (granted.clone(), Vec::new()),
        };
        if !all.contains(taken) {
            all.push(taken.clone());
        }
        // Nobody takes a thousand channels one by one from one who keeps others.
        if all.len() > MAX_CHANNELS {
            all = vec![ChannelPattern::everything()];
        }
        Channels::Except(Arc::new((granted, all)))
    }

    /// What was granted now, without what was taken from an earlier grant.
    fn without_taken_from(self, earlier: &Channels) -> Self {
        match earlier {
            Channels::Except(both) => Channels::Except(Arc::new((self, both.1.clone()))),
            Channels::All | Channels::Nothing | Channels::Only(_) => self,
        }
    }

    /// Since no name ends in `*`, they can be told from patterns again.
    fn texts(&self) -> Option<Vec<String>> {
        match self {
            Channels::All => None,
            Channels::Nothing => Some(Vec::new()),
            Channels::Only(patterns) => Some(patterns.iter().map(ToString::to_string).collect()),
            // It can't be said by names, and is never asked for: grants travel to the hub before anything is taken away
            // there.
            Channels::Except(_) => Some(Vec::new()),
        }
    }
}

impl Grant {
    /// A host's grant. `channels` are names and nothing else, so a host may make them from what a client says.
    /// `patterns` are names or prefixes ending in `*`; `*` alone is all channels. `publish`: to them, too.
    pub fn new(
        user: Option<&str>,
        channels: &[String],
        patterns: &[String],
        expires_at: i64,
        publish: bool,
        keep_alive: bool,
    ) -> Result<Self, Error> {
        let patterns = patterns.iter().map(|text| ChannelPattern::written(text));
        let subscribe = Channels::of(channels.iter().map(|text| name(text)).chain(patterns))?;
        let publish = if publish { subscribe.clone() } else { Channels::Nothing };
        Grant::checked(user, subscribe, publish, expires_at, keep_alive)
    }

    /// A token's grant: what its lists name and nothing else. They may have patterns: the token's issuer wrote them.
    pub fn from_lists(
        user: Option<&str>,
        subscribe: &[String],
        publish: &[String],
        expires_at: i64,
    ) -> Result<Self, Error> {
        let read = |list: &[String]| Channels::of(list.iter().map(|text| ChannelPattern::written(text)));
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
        Ok(Grant { user: user.map(Arc::from), subscribe, publish, expires_at, keep_alive, host: 0 })
    }

    /// What a client may that was handed over without a grant.
    pub(crate) fn open(client_publish: bool) -> Self {
        let publish = if client_publish { Channels::All } else { Channels::Nothing };
        Grant { user: None, subscribe: Channels::All, publish, expires_at: 0, keep_alive: false, host: 0 }
    }

    /// The same grant without a channel, or all that fit a pattern.
    pub(crate) fn without(&self, taken: &ChannelPattern) -> Self {
        Grant { subscribe: self.subscribe.without(taken), publish: self.publish.without(taken), ..self.clone() }
    }

    /// The same grant without what was taken from the one that it follows: who has lost a channel does not get it back
    /// by another token.
    pub(crate) fn without_taken_from(self, earlier: &Grant) -> Self {
        Grant {
            subscribe: self.subscribe.without_taken_from(&earlier.subscribe),
            publish: self.publish.without_taken_from(&earlier.publish),
            ..self
        }
    }

    /// The same grant, answered for by an attached host.
    pub(crate) fn of_host(self, host: u64) -> Self {
        Grant { host, ..self }
    }

    /// Which attached host answers for the client; 0: none.
    pub(crate) fn host(&self) -> u64 {
        self.host
    }

    /// Takes it apart.
    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            user: self.user.as_deref(),
            subscribe: self.subscribe.texts(),
            publish: self.publish.texts(),
            expires_at: self.expires_at,
            keep_alive: self.keep_alive,
        }
    }

    /// Puts it together again, checked anew: the parts came from another process.
    pub(crate) fn from_parts(parts: &Parts<'_>) -> Result<Self, Error> {
        let read = |texts: &Option<Vec<String>>| {
            texts
                .as_deref()
                .map_or(Ok(Channels::All), |texts| Channels::of(texts.iter().map(|text| ChannelPattern::written(text))))
        };
        let (subscribe, publish) = (read(&parts.subscribe)?, read(&parts.publish)?);
        Grant::checked(parts.user, subscribe, publish, parts.expires_at, parts.keep_alive)
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
        assert!(!none.allows("me"), "bounded, and closed rather than open at the bound");
        assert_eq!(less.parts().subscribe, Some(vec![]));
        let new = Grant::new(Some("ann"), &[], &["*".into()], 0, true, false).unwrap();
        let next = new.clone().without_taken_from(&less);
        assert!(next.allows("you") && !next.allows("news.sport") && !next.allows_publish("news.art"));
        assert!(!new.without_taken_from(&none).allows("me"));
    }
}
