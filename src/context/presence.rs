//! The options of presence, as its owner and the shards ask for them.

use crate::config::Config;
use crate::grant::Grant;
use crate::hub::{is_pattern, user_of};
use crate::presence::Bounds;
use std::sync::Arc;

/// The bounds.
pub(crate) fn bounds(config: &Config) -> Bounds {
    Bounds { grace_ms: config.presence_grace_ms, detail: config.presence_detail, total: config.presence_total }
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
    let is_of_a_user = config.user_channel && user_of(name).is_some();
    !is_pattern(name) && !is_of_a_user
}

/// The user of a grant, if it is one whom others may see. A name that ends in `*` is that of a service and not of a
/// visitor: no channel of a user can have it, so it is free for that.
pub(crate) fn visitor(grant: &Grant) -> Option<&Arc<str>> {
    grant.user().filter(|user| !is_pattern(user))
}

/// Whether those who have a channel are its members.
pub(crate) fn has_members(config: &Config, name: &str) -> bool {
    is_named(config, name) && config.presence_of(name)
}
