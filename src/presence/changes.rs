//! What has changed on a channel since a version: joins and leaves. Those of one user are one, or none if it is as it
//! was.

use super::places::Place;
use foldhash::quality::RandomState;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// So many changes are kept beside as many as there are members. More of them are longer than a list of the members.
const FEW: usize = 16;

/// What was known of a user before a change: nothing, or that it was there, with this info.
pub(super) type Before = Option<Option<Arc<str>>>;

/// A member has come, or something else is told of it, or it has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) user: Arc<str>,
    pub(crate) info: Option<Arc<str>>,
    /// False: it has gone.
    pub(crate) joins: bool,
    /// The number of members after it.
    pub(crate) count: usize,
}

/// The latest changes of a channel.
#[derive(Debug)]
pub(super) struct Log {
    /// All changes after this version are here.
    from: u64,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    version: u64,
    user: Arc<str>,
    before: Before,
}

impl Log {
    pub(super) fn new(version: u64) -> Self {
        Log { from: version, entries: VecDeque::new() }
    }

    /// Forgets what was before a version.
    pub(super) fn restart(&mut self, version: u64) {
        *self = Log::new(version);
    }

    /// Notes a change, after which there are so many members.
    pub(super) fn note(&mut self, version: u64, user: &Arc<str>, before: Before, members: usize) {
        self.entries.push_back(Entry { version, user: user.clone(), before });
        while self.entries.len() > members + FEW {
            self.from = self.entries.pop_front().map_or(version, |gone| gone.version);
        }
    }

    /// What has changed since a version, in the order of the last change of each user. `None`: nobody knows.
    pub(super) fn since(&self, version: u64, places: &BTreeMap<Arc<str>, Place>) -> Option<Vec<Change>> {
        if version < self.from {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.version <= version);
        // What was known at that version, and the place of the last change.
        let mut users: HashMap<&Arc<str>, (&Before, usize), RandomState> = HashMap::default();
        for (at, entry) in self.entries.iter().enumerate().skip(first) {
            users.entry(&entry.user).or_insert((&entry.before, at)).1 = at;
        }
        let mut users: Vec<(usize, &Arc<str>, &Before)> =
            users.into_iter().map(|(user, (before, at))| (at, user, before)).collect();
        users.sort_unstable_by_key(|(at, ..)| *at);
        let after = |user: &Arc<str>| places.get(user).map(|place| place.info.clone());
        let others = users.into_iter().map(|(_, user, before)| (user, before, after(user)));
        let others: Vec<(&Arc<str>, &Before, Before)> = others.filter(|(_, before, after)| *before != after).collect();
        let added = others.iter().filter(|(_, before, _)| before.is_none()).count();
        let gone = others.iter().filter(|(.., after)| after.is_none()).count();
        let mut count = places.len() + gone - added;
        let change = |(user, before, after): (&Arc<str>, &Before, Before)| {
            let joins = after.is_some();
            if before.is_none() {
                count += 1;
            } else if !joins {
                count -= 1;
            }
            Change { user: user.clone(), info: after.flatten(), joins, count }
        };
        Some(others.into_iter().map(change).collect())
    }
}
