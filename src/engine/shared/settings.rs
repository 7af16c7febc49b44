//! The options about the log that hubs share: its name, and the way to it.

use super::connection::{Connection, Failure};
use super::has_placeholder;
#[cfg(feature = "nats")]
use crate::engine::nats;
#[cfg(feature = "redis")]
use crate::engine::redis;
use std::fmt;
use std::time::Duration;

/// The URL of a log. It may have a password in it, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

/// The schemes, each with the engine that it belongs to.
const SCHEMES: [(&str, Kind); 7] = [
    ("redis://", Kind::Redis),
    ("rediss://", Kind::Redis),
    ("redis+sentinel://", Kind::Redis),
    ("rediss+sentinel://", Kind::Redis),
    ("redis+unix://", Kind::Redis),
    ("nats://", Kind::Nats),
    ("tls://", Kind::Nats),
];

/// Bytes of a message in NATS besides its payload: names, keys, headers.
pub(crate) const ROOM_IN_NATS: usize = 4096;
/// The largest message, with all that, that a NATS takes by its defaults (its `max_payload`).
const MAX_PAYLOAD: usize = 1 << 20;

/// The kinds of servers that keep a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Redis,
    Nats,
}

/// The options beside the URL. Users, secrets and certificates are parts of the URL. A secret there may be `file:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Names the log among others on the same servers: 1 to 64 letters, digits, `-` and `_`.
    pub(crate) namespace: String,
    /// How long a server may take to answer.
    pub(crate) timeout: Duration,
    /// How long the log must recognise keys.
    pub(crate) key_window: Duration,
    /// How long, and about how many bytes, the log keeps. The hubs trim it; a server may have bounds of its own.
    pub(crate) kept: (Duration, u64),
    /// The largest payload of a message, in bytes. An entry has some hundred bytes more.
    pub(crate) max_message: usize,
}

/// The settings of an engine.
#[derive(Clone)]
pub(crate) enum Settings {
    #[cfg(feature = "redis")]
    Redis(redis::Settings),
    #[cfg(feature = "nats")]
    Nats(nats::Settings),
    #[cfg(test)]
    Model(super::model::Model),
}

impl Url {
    /// Reads a URL. `None`: no engine has its scheme, nothing follows the scheme, or a placeholder was not replaced.
    pub fn parse(text: &str) -> Option<Self> {
        #[cfg(test)]
        if text.starts_with("model://") {
            return Some(Url(text.to_owned()));
        }
        let (scheme, _) = SCHEMES.iter().find(|(scheme, _)| text.starts_with(scheme))?;
        let fits = text.len() > scheme.len() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        (fits && !has_placeholder(text.as_bytes())).then(|| Url(text.to_owned()))
    }

    /// The URL, with its password. It must not get into a log.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The largest payload that the servers take by their defaults. `None`: they have no such bound.
    pub(crate) fn max_message(&self) -> Option<usize> {
        (self.kind() == Kind::Nats).then_some(MAX_PAYLOAD - ROOM_IN_NATS)
    }

    fn kind(&self) -> Kind {
        SCHEMES.iter().find(|(scheme, _)| self.0.starts_with(scheme)).map_or(Kind::Redis, |(_, kind)| *kind)
    }
}

/// Without the name and the password of a user. A password may have any characters in it, if somebody has forgotten to
/// encode them. So only what is behind the last `@` is shown, and only if it has the form of servers.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or((&self.0, ""));
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let shown = place.split_once('?').map_or(place, |(servers, _)| servers);
        // A parameter may be what has the last `@`.
        let hides = rest.split_once('?').is_some_and(|(_, query)| query.contains('@'));
        match !hides && is_place(shown, scheme) {
            true => write!(f, "{scheme}://{shown}"),
            false => write!(f, "{scheme}://..."),
        }
    }
}

/// True for `HOST`, `HOST:PORT`, several of them with commas between, each perhaps with the scheme; and a path.
fn is_place(text: &str, scheme: &str) -> bool {
    text.split(',').all(|server| {
        let server = server.strip_prefix(scheme).and_then(|server| server.strip_prefix("://")).unwrap_or(server);
        let (host, path) = server.find('/').map_or((server, ""), |at| server.split_at(at));
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (host, "0"),
        };
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = name.starts_with('[') || !name.contains(':');
        is_port && is_name && (!name.is_empty() || !path.is_empty())
    })
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Settings {
    /// Checks the options. The error is one sentence for an operator, without secrets.
    pub(crate) fn new(url: &Url, options: &Options) -> Result<Self, String> {
        #[cfg(test)]
        if let Some(name) = url.0.strip_prefix("model://") {
            return Ok(Settings::Model(super::model::Model::named(name)));
        }
        let _ = options;
        match url.kind() {
            #[cfg(feature = "redis")]
            Kind::Redis => redis::Settings::parse(url.as_str(), options).map(Settings::Redis),
            #[cfg(not(feature = "redis"))]
            Kind::Redis => Err(absent(url, "redis")),
            #[cfg(feature = "nats")]
            Kind::Nats => nats::Settings::parse(url.as_str(), options).map(Settings::Nats),
            #[cfg(not(feature = "nats"))]
            Kind::Nats => Err(absent(url, "nats")),
        }
    }

    /// The largest payload of a message. The servers take entries that are larger by some hundred bytes.
    pub(crate) fn max_message(&self) -> usize {
        match self {
            #[cfg(feature = "redis")]
            Settings::Redis(settings) => settings.max_message(),
            #[cfg(feature = "nats")]
            Settings::Nats(settings) => settings.max_message(),
            #[cfg(any(test, not(any(feature = "redis", feature = "nats"))))]
            _ => usize::MAX,
        }
    }

    /// True if a connection would be made in the same way, as the same user.
    // A build with one engine has no other pair.
    #[allow(unreachable_patterns)]
    pub(crate) fn is_same(&self, other: &Settings) -> bool {
        match (self, other) {
            #[cfg(feature = "redis")]
            (Settings::Redis(one), Settings::Redis(other)) => one == other,
            #[cfg(feature = "nats")]
            (Settings::Nats(one), Settings::Nats(other)) => one.is_same(other),
            _ => false,
        }
    }

    /// What is known of the log stays known.
    // A build with one engine has no other pair, and one without engines has none.
    #[allow(unreachable_patterns, clippy::single_match)]
    pub(crate) fn follow(&mut self, before: &Settings) {
        match (self, before) {
            #[cfg(feature = "nats")]
            (Settings::Nats(settings), Settings::Nats(before)) => settings.follow(before),
            _ => {}
        }
    }

    /// Makes a connection. It returns within the time that the options allow. `hub`: names this life of the hub.
    pub(crate) async fn connect(&self, hub: u64) -> Result<Connection, Failure> {
        let _ = hub;
        match self {
            #[cfg(test)]
            Settings::Model(model) => model.connect(hub),
            #[cfg(feature = "redis")]
            Settings::Redis(settings) => redis::connect(settings, hub).await,
            #[cfg(feature = "nats")]
            Settings::Nats(settings) => nats::connect(settings, hub).await,
            #[cfg(not(any(test, feature = "redis", feature = "nats")))]
            _ => Err(Failure("this build of libpush has no engine for it".to_owned())),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

fn absent(url: &Url, feature: &str) -> String {
    format!("{url}: this build of libpush has no engine {feature} (the cargo feature {feature} is off)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_an_engine_says_so_by_name() {
        let mut builder = crate::Builder::default();
        let error = absent(&Url::parse("nats://a:secret@host:4222").unwrap(), "nats");
        assert!(error.contains("no engine nats") && error.contains("host:4222"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let error = builder.set("engine", "rediss:/u:secret@host").unwrap_err().to_string();
        assert!(error.contains("redis+sentinel://") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let shown = |text| Url::parse(text).map(|url| format!("{url} {url:?}"));
        let twice = |text: &str| Some(format!("{text} {text}"));
        assert_eq!(shown("redis://:secret@host:6379/2?x=secret"), twice("redis://host:6379/2"));
        assert_eq!(shown("nats://a:secret@one,nats://b:se@cret@two"), twice("nats://two"));
        assert_eq!(shown("nats://one:4222,nats://two"), twice("nats://one:4222,nats://two"));
        assert_eq!(shown("redis://u:p@[::1]:7000/2"), twice("redis://[::1]:7000/2"));
        assert_eq!(shown("redis+unix:///run/redis.sock?db=1"), twice("redis+unix:///run/redis.sock"));
        for forgotten in ["se,cret", "se/cret", "se?cret", "se@cret", "se?c/r,e@t", "secret,secret"] {
            for url in [
                format!("redis://:{forgotten}@h:1/0"),
                format!("nats://u:{forgotten}@one,two"),
                format!("nats://u:{forgotten}"),
                format!("redis://h?password={forgotten}"),
                format!("redis+unix:///s?password={forgotten}@h"),
            ] {
                let text = Url::parse(&url).unwrap().to_string();
                if url == "nats://u:se@cret" {
                    // Nothing says that this is not a host.
                    continue;
                }
                assert!(!text.contains("se") && !text.contains("cr"), "{url}: {text}");
            }
        }
        assert_eq!(shown("redis+sentinel://u:secret@one,two/master"), twice("redis+sentinel://one,two/master"));
        for wrong in ["redis://", "http://host", "redis:host", "nats://a b", "tls://a\nb", "REDIS://host"] {
            assert_eq!(Url::parse(wrong), None, "{wrong}");
        }
    }
}
