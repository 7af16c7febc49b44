//! What a shard sees when it looks at a channel.

use super::changes::{Change, Log};
use super::following::bit;
use super::state::State;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the asker wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    /// The shard whose promise this keeps. `None`: it is a look beside.
    pub(crate) shard: Option<usize>,
    /// The versions that its followers have.
    pub(crate) since: &'a [u64],
    /// True if somebody needs the list in any case.
    pub(crate) list: bool,
}

/// A member, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) user: Arc<str>,
    pub(crate) info: Option<Arc<str>>,
}

/// What there is to tell of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// The version of its latest change.
    pub(crate) version: u64,
    /// The number of members.
    pub(crate) count: usize,
    /// False: only their number may be told.
    pub(crate) is_list: bool,
    /// The members, sorted by name, if somebody needs them and they may be told.
    pub(crate) members: Option<Vec<Member>>,
    /// What has changed since each of the versions. `None`: who has that one needs the list.
    pub(crate) changes: Vec<Option<Vec<Change>>>,
}

impl State {
    pub(super) fn look(&mut self, channel: &str, asked: &Asked<'_>) -> Look {
        let detail = self.bounds.detail;
        let Some(channel) = self.channels.get_mut(channel) else {
            let (version, none) = (self.versions.forgotten, BTreeMap::new());
            let log = Log::new(version);
            let changes: Vec<_> = asked.since.iter().map(|since| log.since(*since, &none)).collect();
            let needs_list = asked.list || changes.contains(&None);
            return Look { version, count: 0, is_list: true, members: needs_list.then(Vec::new), changes };
        };
        let count = channel.places.len();
        let is_list = count <= detail;
        let since = |since: &u64| channel.log.since(*since, &channel.places).filter(|_| is_list);
        let changes: Vec<_> = asked.since.iter().map(since).collect();
        let needs_list = asked.list || changes.contains(&None);
        let member =
            |(user, place): (&Arc<str>, &super::places::Place)| Member { user: user.clone(), info: place.info.clone() };
        let members = (is_list && needs_list).then(|| channel.places.iter().map(member).collect());
        if let Some(shard) = asked.shard {
            channel.promised &= !bit(shard);
            if channel.promised == 0 {
                // All have seen it.
                channel.log.restart(channel.version);
            }
        }
        Look { version: channel.version, count, is_list, members, changes }
    }

    pub(super) fn version(&self) -> u64 {
        self.versions.now
    }

    /// Whether a version says what a client knows.
    pub(super) fn knows(&self, version: u64) -> bool {
        (self.versions.switched..=self.versions.now).contains(&version)
    }
}
