//! A channel: the places of its members, and what has changed with them.

use super::changes::{Before, Log};
use std::collections::BTreeMap;
use std::sync::Arc;

/// About how much memory a member takes beside its names and its info.
const PLACE: usize = 160;

/// What a member counts for in the bound of all.
pub(super) fn cost(channel: &str, user: &str, info: Option<&str>) -> usize {
    PLACE + channel.len() + user.len() + info.map_or(0, str::len)
}

/// The place of a member on a channel.
#[derive(Debug)]
pub(super) struct Place {
    /// How many connections it has there.
    pub(super) connections: u32,
    /// Its serial number among those who have left, if it has no connection any more.
    pub(super) left: Option<u64>,
    /// What is told of it: that of the connection which entered last.
    pub(super) info: Option<Arc<str>>,
}

/// What is known of a channel.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its members, sorted by their names.
    pub(super) places: BTreeMap<Arc<str>, Place>,
    /// The version of the latest change.
    pub(super) version: u64,
    /// One bit for each shard that has followers of it.
    pub(super) followed: u64,
    /// One bit for each of these that has something to look at.
    pub(super) promised: u64,
    pub(super) log: Log,
    /// Its serial number among the channels without members and followers, if it is one of them.
    pub(super) idle: Option<u64>,
}

impl Channel {
    /// A channel of which nothing is known: it may have been forgotten with this version.
    pub(super) fn new(version: u64) -> Self {
        let (places, log) = (BTreeMap::new(), Log::new(version));
        Channel { places, version, followed: 0, promised: 0, log, idle: None }
    }

    /// Notes a change. While nobody follows the channel, or only its number is told, nobody asks what has changed.
    pub(super) fn note(&mut self, version: u64, user: &Arc<str>, before: Before, detail: usize) {
        self.version = version;
        if self.followed == 0 || self.places.len() > detail {
            self.log.restart(version);
        } else {
            self.log.note(version, user, before, self.places.len());
        }
    }
}
