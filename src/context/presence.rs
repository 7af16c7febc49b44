//! The options of presence, as its owner and the shards ask for them.

use crate::config::Config;
use crate::hub::{is_pattern, user_of};
use crate::presence::Bounds;

/// The bounds.
pub(crate) fn bounds(config: &Config) -> Bounds {
    Bounds {
        grace_ms: config.presence_grace.as_millis() as u64,
        detail: config.presence_detail,
        total: config.presence_total,
    }
}

/// Whether any channel may have presence.
pub(crate) fn is_used(config: &Config) -> bool {
    config.channel_presence.iter().any(|(_, has)| *has)
}

/// Whether other channels have presence than before.
pub(crate) fn is_switched(before: &Config, now: &Config) -> bool {
    before.channel_presence != now.channel_presence
}

/// Whether a client has a channel by a name that it or its grant has named: not by a pattern, and not as the channel of
/// its user. Others can't be followed.
pub(crate) fn is_named(config: &Config, name: &str) -> bool {
    !is_pattern(name) && !(config.user_channel && user_of(name).is_some())
}

/// Whether those who have a channel are its members.
pub(crate) fn has_members(config: &Config, name: &str) -> bool {
    is_named(config, name) && config.presence_of(name)
}
