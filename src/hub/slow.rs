//! What happens to a channel's messages that wait for a client which reads too slowly.

use super::name::ChannelPattern;

/// What gives way when a client's outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowPolicy {
    /// The connection: it comes back and recovers by its position.
    #[default]
    Disconnect,
    /// The messages that wait longest; the client is told of the gap.
    DropOldest,
    /// All messages of the channel that wait but its newest, for values of which only the present one counts.
    Latest,
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

    /// The general one where no pattern fits, and for broadcasts, which are of no channel and have no name.
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
