//! The option `client_publish`: what clients may publish, and whether the host is asked first.

use super::Config;
use crate::hub::ChannelPattern;

/// How clients may publish to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientPublish {
    /// A client with a grant, as that says. One without a grant may not.
    #[default]
    Granted,
    /// A client without a grant may as well.
    Anybody,
    /// As with [`Self::Anybody`], but each message goes to the host first, which allows it or not.
    AskHost,
}

impl ClientPublish {
    /// Reads the value of an option.
    pub(super) fn read(text: &str) -> Option<Self> {
        [Self::Granted, Self::Anybody, Self::AskHost].into_iter().find(|value| value.word() == text)
    }

    /// The word for it in options.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Granted => "false",
            Self::Anybody => "true",
            Self::AskHost => "host",
        }
    }
}

impl Config {
    /// How clients may publish to a channel: as the closest pattern says.
    pub(crate) fn client_publish_of(&self, channel: &str) -> ClientPublish {
        let matching = self.channel_publish.iter().filter(|(pattern, _)| pattern.matches(channel));
        let closest = matching.max_by_key(|(pattern, _)| pattern.weight());
        closest.map_or(self.client_publish, |(_, value)| *value)
    }

    /// Whether the host is asked about messages of clients, on some channel at least.
    pub(super) fn asks_about_messages(&self) -> bool {
        let asks = |(_, value): &(ChannelPattern, ClientPublish)| *value == ClientPublish::AskHost;
        self.client_publish == ClientPublish::AskHost || self.channel_publish.iter().any(asks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Builder;
    use crate::error::Kind;

    #[test]
    fn the_closest_pattern_says_how_clients_may_publish() {
        let options = [
            ("channel.a.*.client_publish", "host"),
            ("channel.a.open.*.client_publish", "true"),
            ("channel.a.open.not.client_publish", "false"),
        ];
        let builder = Builder::with(&options);
        for (channel, expected) in [
            ("a.b", ClientPublish::AskHost),
            ("a.open.b", ClientPublish::Anybody),
            ("a.open.not", ClientPublish::Granted),
            ("b", ClientPublish::Granted),
        ] {
            assert_eq!(builder.config().client_publish_of(channel), expected, "{channel}");
        }
        let general = Builder::with(&[("client_publish", "host")]);
        assert_eq!(general.config().client_publish_of("b"), ClientPublish::AskHost);
        let error = Builder::default().set("channel.a.client_publish", "ask").unwrap_err().to_string();
        assert!(error.ends_with("\"ask\" is not allowed; allowed is true, false or host"), "{error}");
    }

    #[test]
    fn a_hub_that_asks_needs_the_events_for_it() {
        for name in ["client_publish", "channel.a.client_publish"] {
            let asks = (name, "host");
            let error = Builder::with(&[asks]).build().unwrap_err();
            assert!(error.kind() == Kind::Config && error.to_string().contains("option events"), "{error}");
            assert!(Builder::with(&[asks, ("events", "message,publish")]).build().is_ok());
            // It is the hub that asks.
            assert!(Builder::with(&[asks, ("attach", "unix:/x")]).build().is_ok());
        }
    }
}
