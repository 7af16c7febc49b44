//! The rules for names of channels and events, and patterns of channels.

use crate::error::Error;

/// The longest channel name, in bytes.
pub const MAX_CHANNEL: usize = 255;
/// The longest event type, in bytes.
pub const MAX_EVENT: usize = 127;
/// The longest idempotency key, in bytes.
pub const MAX_KEY: usize = 255;

/// Checks a channel's name: 1 to 255 bytes of UTF-8, no control characters, no `*` at the end. So where both a name and
/// a pattern are allowed, they can be told apart, and no name that a client has chosen becomes a pattern.
pub fn check_channel(name: &str) -> Result<(), Error> {
    check_text("channel", name, MAX_CHANNEL)?;
    if name.ends_with('*') {
        return Err(Error::invalid(
            "channel: a name can't end in *; only the patterns of grants and options do, and pattern= in the URL of a \
             subscriber",
        ));
    }
    Ok(())
}

/// The names of users' channels begin with this (option `user_channel`).
const OF_USERS: &str = "user:";

/// The name of a user's channel. Not each user can have one: its name must be one that a channel may have.
pub fn channel_of_user(user: &str) -> Result<String, Error> {
    check_text("user", user, MAX_CHANNEL)?;
    let max = MAX_CHANNEL - OF_USERS.len();
    if user.len() > max {
        let text = format!("user: {} bytes; a user with more than {max} has no channel {OF_USERS}NAME", user.len());
        return Err(Error::invalid(text));
    }
    if user.ends_with('*') {
        let text = format!("user: {user:?} has no channel {OF_USERS}NAME, since no channel's name ends in *");
        return Err(Error::invalid(text));
    }
    Ok(format!("{OF_USERS}{user}"))
}

/// The user that a channel would belong to, if its name is that of a user's channel.
pub(crate) fn user_of(channel: &str) -> Option<&str> {
    channel.strip_prefix(OF_USERS)
}

/// What is said of a name that belongs to the library.
pub(crate) const OF_THE_LIBRARY: &str =
    "names that begin with user: belong to the library (option user_channel); a client \
                                         has the channel of its own user without asking";

/// The error about such a name, or a pattern of such names. The text is short and was checked.
pub(crate) fn is_the_librarys(channel: &str) -> String {
    format!("channel {channel}: {OF_THE_LIBRARY}")
}

/// Checks an event type, which goes into SSE's `event:` line. Types that begin with `push-` are the library's own.
pub fn check_event(event: &str) -> Result<(), Error> {
    check_text("event", event, MAX_EVENT)?;
    if event.starts_with("push-") {
        return Err(Error::invalid("event: names that begin with push- are reserved"));
    }
    Ok(())
}

/// Checks an idempotency key.
pub fn check_key(key: &str) -> Result<(), Error> {
    check_text("key", key, MAX_KEY)
}

/// Checks a short text without control characters. An error names it `what`.
pub fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::invalid(format!("{what}: empty; 1 to {max} bytes are allowed")));
    }
    if text.len() > max {
        return Err(Error::invalid(format!("{what}: {} bytes; at most {max} are allowed", text.len())));
    }
    if may_have_controls(text) && text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what}: control characters are not allowed")));
    }
    Ok(())
}

/// True if each character must be looked at. Every publish has a name, and hardly any name needs that. The control
/// characters beyond ASCII, U+0080 to U+009F, begin with the byte C2.
fn may_have_controls(text: &str) -> bool {
    // The loop has no early end, so that the compiler can look at many bytes at once.
    text.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == 0x7f) | (byte == 0xc2))
}

/// A channel's name, or a prefix that stands for all names that begin with it (`news.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPattern {
    prefix: Box<str>,
    open: bool,
}

impl ChannelPattern {
    /// Reads a pattern. A `*` may only be its last character.
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

    /// A pattern for exactly one channel. Unlike [`Self::parse`], this takes any name, even one with a `*` in it.
    pub(crate) fn exact(name: &str) -> Result<Self, Error> {
        check_channel(name)?;
        Ok(ChannelPattern { prefix: name.into(), open: false })
    }

    /// Reads the text of a grant, a token or a revocation. A text that ends in `*` is a prefix. Any other text is one
    /// name, since no name ends in `*`. So any channel that can be granted can be revoked by the same text.
    pub(crate) fn written(text: &str) -> Result<Self, Error> {
        if text.ends_with('*') {
            Self::parse(text).map_err(Error::invalid)
        } else {
            Self::exact(text)
        }
    }

    /// The pattern that matches every name.
    pub(crate) fn everything() -> Self {
        ChannelPattern { prefix: "".into(), open: true }
    }

    /// The name of an exact pattern. `None` if it is a prefix.
    pub(crate) fn name(&self) -> Option<&str> {
        (!self.open).then_some(&self.prefix)
    }

    /// True if it names the channel of a user, or begins as the names of such channels do.
    pub(crate) fn is_of_users(&self) -> bool {
        self.prefix.starts_with(OF_USERS)
    }

    /// True if a channel's name matches. True for a pattern among names (`news.a*`) if all names match that it fits.
    pub fn matches(&self, channel: &str) -> bool {
        if self.open {
            channel.starts_with(&*self.prefix)
        } else {
            channel == &*self.prefix
        }
    }

    /// True if a channel's name matches, or if a pattern among names (`news.*`) fits any name that does.
    pub(crate) fn meets(&self, name: &str) -> bool {
        let is_fitted = |prefix: &str| self.prefix.starts_with(prefix) && !self.is_of_users();
        self.matches(name) || name.strip_suffix('*').is_some_and(is_fitted)
    }

    /// How closely it describes a name: an exact name comes before any prefix, a longer prefix before a shorter one.
    pub(crate) fn weight(&self) -> (bool, usize) {
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
    fn each_control_character_is_refused_and_no_other() {
        for character in (0..=0x2ff).filter_map(char::from_u32) {
            let refused =
                check_text("channel", &format!("a long enough name {character} for wide looks"), 255).is_err();
            assert_eq!(refused, character.is_control(), "{character:?}");
        }
    }

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
            assert!(check_channel(name).unwrap_err().to_string().contains("pattern= in the URL"), "{name}");
        }
        assert!(check_event("push-gap").is_err());
        assert!(check_event("pushed").is_ok());
    }

    #[test]
    fn the_channel_of_a_user_has_a_name_that_channels_may_have() {
        for user in ["ada", "a,b", "a*b", "100%", "%2a", "user:", "*x", "\u{fc} \u{1f600}", &"u".repeat(250)] {
            let name = channel_of_user(user).unwrap();
            assert!(check_channel(&name).is_ok(), "{name}");
            assert_eq!(user_of(&name), Some(user));
            assert!(ChannelPattern::exact(&name).unwrap().is_of_users());
        }
        for (user, why) in [
            ("", "empty"),
            ("a\n", "control characters"),
            (&*"u".repeat(256), "at most 255"),
            (&*"u".repeat(251), "251 bytes; a user with more than 250 has no channel"),
            ("*", "ends in *"),
            ("ada*", "ends in *"),
        ] {
            let error = channel_of_user(user).unwrap_err().to_string();
            assert!(error.starts_with("user: ") && error.contains(why), "{error}");
        }
        assert_eq!(["users", "User:x", "user", "xuser:"].map(user_of), [None; 4]);
        let pattern = |text: &str| ChannelPattern::parse(text).unwrap().is_of_users();
        assert_eq!([pattern("user:*"), pattern("user:a*"), pattern("user*"), pattern("*")], [true, true, false, false]);
    }

    #[test]
    fn patterns_match_names_and_prefixes() {
        let all = ChannelPattern::parse("*").unwrap();
        let news = ChannelPattern::parse("news.*").unwrap();
        let exact = ChannelPattern::parse("news.sport").unwrap();
        assert!(all.matches("x") && news.matches("news.sport") && exact.matches("news.sport"));
        assert!(!news.matches("news") && !exact.matches("news.sports"));
        // Patterns that a client subscribes to stand among the names.
        let matched = |text: &str| [&all, &news, &exact].map(|pattern| pattern.matches(text));
        let met = |text: &str| [&all, &news, &exact].map(|pattern| pattern.meets(text));
        for (text, covered, touched) in [
            ("*", [true, false, false], [true; 3]),
            ("n*", [true, false, false], [true; 3]),
            ("news.*", [true, true, false], [true; 3]),
            ("news.sport*", [true, true, false], [true; 3]),
            ("news.sports*", [true, true, false], [true, true, false]),
            ("x*", [true, false, false], [true, false, false]),
            ("news.sport", [true; 3], [true; 3]),
            ("news", [true, false, false], [true, false, false]),
        ] {
            assert_eq!((matched(text), met(text)), (covered, touched), "{text}");
        }
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
