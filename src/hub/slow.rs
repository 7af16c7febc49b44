//! The policy for messages that wait for a client that reads too slowly.

use super::name::ChannelPattern;

/// What is dropped when a client's outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowPolicy {
    /// The connection. The client comes back and recovers by its position.
    #[default]
    Disconnect,
    /// The messages that have waited longest. The client is told of the gap.
    DropOldest,
    /// All waiting messages of the channel except its newest. For values of which only the latest counts.
    Latest,
}

impl SlowPolicy {
    /// The word for it in options.
    pub(crate) fn word(self) -> &'static str {
        match self {
            SlowPolicy::Disconnect => "disconnect",
            SlowPolicy::DropOldest => "drop-oldest",
            SlowPolicy::Latest => "latest",
        }
    }
}

/// The policies of channels, the closest pattern first.
#[derive(Debug)]
pub(super) struct SlowPolicies {
    patterns: Vec<(ChannelPattern, SlowPolicy)>,
    general: SlowPolicy,
}

impl SlowPolicies {
    pub(super) fn new(patterns: &[(ChannelPattern, SlowPolicy)], general: SlowPolicy) -> Self {
        let mut patterns = patterns.to_vec();
        patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.weight()));
        SlowPolicies { patterns, general }
    }

    /// The policy of a channel. The general one applies if no pattern matches, and to broadcasts, which have no channel
    /// name.
    pub(super) fn of(&self, channel: &str) -> SlowPolicy {
        if channel.is_empty() {
            return self.general;
        }
        let closest = self.patterns.iter().find(|(pattern, _)| pattern.matches(channel));
        closest.map_or(self.general, |(_, policy)| *policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_pattern_counts() {
        let pattern = |text| ChannelPattern::parse(text).unwrap();
        let all = SlowPolicies::new(&[(pattern("*"), SlowPolicy::Latest)], SlowPolicy::Disconnect);
        assert_eq!(
            (all.of("x"), all.of("")),
            (SlowPolicy::Latest, SlowPolicy::Disconnect),
            "broadcasts are of no channel"
        );
        let patterns = [
            (pattern("prices.*"), SlowPolicy::Latest),
            (pattern("prices.audit"), SlowPolicy::Disconnect),
            (pattern("prices.old.*"), SlowPolicy::DropOldest),
        ];
        let policies = SlowPolicies::new(&patterns, SlowPolicy::DropOldest);
        assert_eq!(policies.of("prices.gold"), SlowPolicy::Latest);
        assert_eq!(policies.of("prices.audit"), SlowPolicy::Disconnect);
        assert_eq!(policies.of("prices.old.gold"), SlowPolicy::DropOldest);
        assert_eq!(policies.of("news"), SlowPolicy::DropOldest);
    }
}
