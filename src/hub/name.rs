//! Names of channels and events, and patterns of channels: checked once, at the door.

use crate::error::Error;

/// The longest channel name, in bytes.
pub const MAX_CHANNEL: usize = 255;
/// The longest event type, in bytes.
pub const MAX_EVENT: usize = 127;
/// The longest idempotency key, in bytes.
pub const MAX_KEY: usize = 255;

/// A channel's name: 1 to 255 bytes of UTF-8, no control characters, no `*` at the end. So a text can be seen to be a
/// name or a pattern, wherever both may stand, and no name that a client has chosen becomes a pattern there.
pub fn check_channel(name: &str) -> Result<(), Error> {
    check_text("channel", name, MAX_CHANNEL)?;
    if name.ends_with('*') {
        return Err(Error::invalid("channel: a name can't end in *; only the patterns of grants and options do"));
    }
    Ok(())
}

/// An event type goes into SSE's `event:` line; those beginning with `push-` are the library's own.
pub fn check_event(event: &str) -> Result<(), Error> {
    check_text("event", event, MAX_EVENT)?;
    if event.starts_with("push-") {
        return Err(Error::invalid("event: names that begin with push- are reserved"));
    }
    Ok(())
}

/// An idempotency key.
pub fn check_key(key: &str) -> Result<(), Error> {
    check_text("key", key, MAX_KEY)
}

/// A short text without control characters; the error names it by `what`.
pub fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::invalid(format!("{what}: empty; 1 to {max} bytes are allowed")));
    }
    if text.len() > max {
        return Err(Error::invalid(format!("{what}: {} bytes; at most {max} are allowed", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what}: control characters are not allowed")));
    }
    Ok(())
}

/// A channel's name, or all that begin with a prefix (`news.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPattern {
    prefix: Box<str>,
    open: bool,
}

impl ChannelPattern {
    /// Reads a pattern; a `*` may stand at its end only.
    pub fn parse(text: &str) -> Result<Self, String> {
        let open = text.ends_with('*');
        let prefix = if open { &text[..text.len() - 1] } else { text };
        if prefix.contains('*') {
            return Err(format!("pattern {text:?}: * may stand at the end only"));
        }
        if text != "*" {
            check_text("channel", prefix, MAX_CHANNEL).map_err(|error| error.to_string())?;
        }
        Ok(ChannelPattern { prefix: prefix.into(), open })
    }

    /// Exactly one channel. Unlike [`Self::parse`] it takes any name, also one with a `*` in it.
    pub(crate) fn exact(name: &str) -> Result<Self, Error> {
        check_channel(name)?;
        Ok(ChannelPattern { prefix: name.into(), open: false })
    }

    /// What a grant, a token or a revocation says: what ends in `*` is a prefix, and anything else is that one name, as
    /// no name ends so. Whatever channel may be granted may be taken away again by the same text.
    pub(crate) fn written(text: &str) -> Result<Self, Error> {
        if text.ends_with('*') {
            Self::parse(text).map_err(Error::invalid)
        } else {
            Self::exact(text)
        }
    }

    /// The pattern that every name fits.
    pub(crate) fn everything() -> Self {
        ChannelPattern { prefix: "".into(), open: true }
    }

    /// Whether a channel's name fits.
    pub fn matches(&self, channel: &str) -> bool {
        if self.open {
            channel.starts_with(&*self.prefix)
        } else {
            channel == &*self.prefix
        }
    }

    /// How closely it describes a name: an exact name before any prefix, a longer prefix before a shorter.
    pub(super) fn weight(&self) -> (bool, usize) {
        (!self.open, self.prefix.len())
    }
}

impl std::fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.prefix, if self.open { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(check_channel("news").is_ok());
        assert!(check_channel("Übersicht/7").is_ok());
        assert!(check_channel("").is_err());
        assert!(check_channel(&"x".repeat(255)).is_ok());
        assert!(check_channel(&"x".repeat(256)).is_err());
        assert!(check_channel("a\nb").is_err());
        assert!(check_channel("a\u{85}b").is_err());
        assert!(check_channel("a*b").is_ok());
        for name in ["*", "a*", "a**"] {
            assert!(check_channel(name).unwrap_err().to_string().contains("patterns"), "{name}");
        }
        assert!(check_event("push-gap").is_err());
        assert!(check_event("pushed").is_ok());
    }

    #[test]
    fn patterns_match_names_and_prefixes() {
        let all = ChannelPattern::parse("*").unwrap();
        let news = ChannelPattern::parse("news.*").unwrap();
        let exact = ChannelPattern::parse("news.sport").unwrap();
        assert!(all.matches("x") && news.matches("news.sport") && exact.matches("news.sport"));
        assert!(!news.matches("news") && !exact.matches("news.sports"));
        assert!(exact.weight() > news.weight() && news.weight() > all.weight());
        assert!(ChannelPattern::parse("a*b*").is_err() && ChannelPattern::parse("a**").is_err());
        assert!(ChannelPattern::exact("a*b").unwrap().matches("a*b") && ChannelPattern::exact("a*").is_err());
        assert!(ChannelPattern::parse("").is_err());
        let written = |text: &str| ChannelPattern::written(text).ok();
        assert_eq!(
            [written("a*b"), written("a*")],
            [ChannelPattern::exact("a*b").ok(), ChannelPattern::parse("a*").ok()]
        );
        assert_eq!([written(""), written("a*b*"), written("a**"), written("a\n")], [None, None, None, None]);
    }
}
