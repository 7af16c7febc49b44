//! Patterns that clients subscribe to: `news.*` stands for all channels whose names begin with `news.`. Inside, a pattern
//! is a name that ends in `*`, as no channel's name does. So the lists of a connection's channels have both.

use super::name::{user_of, ChannelPattern};
use super::replay::{Has, Item, Replay};
use super::ChannelId;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The numbers of patterns have this bit, and those of channels do not.
pub(super) const PATTERNS: ChannelId = 1 << 31;

/// The longest prefix of a pattern, in bytes. To find what fits a name takes a look for each length that there is.
const MAX_PREFIX: usize = 64;

/// Stands in a delivery for a channel of which the shard has no subscribers by name. Its number may be another channel's
/// before the shard has the message.
pub(super) const UNNAMED: ChannelId = super::act::ACT - 1;

/// True for the number of a pattern.
pub(crate) fn is_id_of_pattern(id: ChannelId) -> bool {
    (PATTERNS..UNNAMED).contains(&id)
}

/// True if a name in a list of channels is a pattern.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.ends_with('*')
}

/// Checks a pattern that a client subscribes to. An error is a word for programs, which is `channel` if it is a matter of
/// rights, and a sentence for people.
pub(crate) fn check_pattern(text: &str) -> Result<(), (&'static str, String)> {
    let wrong = |message: String| ("pattern", message);
    if !text.ends_with('*') {
        return Err(wrong("pattern: it ends in *, as news.* does; one channel is named by channel".into()));
    }
    if ChannelPattern::parse(text).map_err(wrong)?.is_of_users() {
        let message = format!("pattern {text}: no pattern fits names that begin with user:");
        return Err(("channel", message));
    }
    if text.len() > MAX_PREFIX + 1 {
        return Err(wrong(format!("pattern: {} bytes; at most {MAX_PREFIX} and the * are allowed", text.len())));
    }
    Ok(())
}

/// True if any pattern may fit a name. None fits the channel of a user, whether users have channels or not: so no option
/// has to be the same everywhere. Broadcasts have no name, and everybody gets them anyway.
pub(super) fn may_be_fitted(name: &str) -> bool {
    !name.is_empty() && user_of(name).is_none()
}

/// What the names begin with that a pattern fits.
pub(super) fn prefix(pattern: &str) -> &str {
    pattern.strip_suffix('*').unwrap_or(pattern)
}

/// True if a pattern fits a channel's name, or covers another pattern. All other code asks this, or [`Prefixes`].
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    name.starts_with(prefix(pattern)) && may_be_fitted(name)
}

/// Finds the patterns that fit a name, in one look for each length that a prefix has, however many there are.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    /// Clients choose them, so the hash is seeded.
    ids: HashMap<Box<str>, ChannelId, RandomState>,
    /// How many prefixes have each length.
    lengths: BTreeMap<usize, u32>,
}

impl Prefixes {
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The number of a pattern.
    pub(crate) fn get(&self, pattern: &str) -> Option<ChannelId> {
        self.ids.get(prefix(pattern)).copied()
    }

    /// Adds a pattern, unless it is there.
    pub(crate) fn insert(&mut self, pattern: &str, id: ChannelId) {
        let prefix = prefix(pattern);
        if self.ids.insert(prefix.into(), id).is_none() {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, pattern: &str) {
        let prefix = prefix(pattern);
        if self.ids.remove(prefix).is_none() {
            return;
        }
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
        // A burst of patterns must not keep its memory for ever.
        if self.ids.capacity() > 1024 && self.ids.len() * 8 < self.ids.capacity() {
            self.ids.shrink_to(self.ids.len() * 2);
        }
    }

    /// The patterns that fit a name, the shortest first.
    pub(crate) fn fitting<'p>(&'p self, name: &'p str) -> impl Iterator<Item = ChannelId> + 'p {
        let may_fit = may_be_fitted(name);
        let lengths = self.lengths.range(..=name.len()).filter(move |_| may_fit);
        lengths.filter_map(|(length, _)| self.ids.get(name.get(..*length)?).copied())
    }
}

/// From where on a subscriber has everything of the channels that its patterns fit, but for those that it has by name.
#[derive(Debug, Default)]
pub(crate) struct ReadFrom {
    /// The number after which it was read.
    after: u64,
    /// The ends of gaps. What stands before them may have come, or not.
    gaps: Vec<(Arc<str>, u64)>,
}

impl ReadFrom {
    pub(super) fn of(replay: &Replay) -> Self {
        let after = match replay.has {
            Has::Any => replay.position,
            Has::UpTo(number) => number,
            Has::Nothing => 0,
        };
        let gaps = replay.items.iter().filter_map(|item| match item {
            Item::Gap(Some(name), end) if is_pattern(name) => Some((name.clone(), *end)),
            _ => None,
        });
        ReadFrom { after, gaps: gaps.collect() }
    }

    /// The number for a pattern. Of patterns that cover each other, the widest has the gap.
    pub(crate) fn after(&self, pattern: &str) -> u64 {
        let gaps = self.gaps.iter().filter(|(wider, _)| fits(wider, pattern));
        gaps.map(|(_, end)| *end).fold(self.after, u64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitting(prefixes: &Prefixes, name: &str) -> Vec<ChannelId> {
        prefixes.fitting(name).collect()
    }

    #[test]
    fn all_patterns_that_fit_a_name_are_found_and_no_other() {
        let patterns = ["*", "n*", "news.*", "news.s*", "news.\u{fc}*", "us*", "x*"];
        let mut prefixes = Prefixes::default();
        assert!(prefixes.is_empty() && fitting(&prefixes, "news.sport").is_empty());
        for (id, pattern) in patterns.iter().enumerate() {
            prefixes.insert(pattern, id as ChannelId);
            prefixes.insert(pattern, id as ChannelId);
        }
        let long = "n".repeat(300);
        for name in
            ["", "n", "new", "news.", "news.sport", "news.\u{fc}", "news.\u{fd}", "use", "user:ada", "y", &*long]
        {
            let expected: Vec<ChannelId> =
                (0..7).filter(|id| fits(patterns[*id as usize], name)).map(|id| id as ChannelId).collect();
            assert_eq!(fitting(&prefixes, name), expected, "{name}");
        }
        assert_eq!(fitting(&prefixes, "news.sport"), [0, 1, 2, 3]);
        assert!(fitting(&prefixes, "").is_empty() && fitting(&prefixes, "user:ada").is_empty());
        for pattern in ["n*", "none*", "n*"] {
            prefixes.remove(pattern);
        }
        assert_eq!((fitting(&prefixes, "news.sport"), prefixes.get("n*")), (vec![0, 2, 3], None));
        patterns.iter().for_each(|pattern| prefixes.remove(pattern));
        assert!(prefixes.is_empty() && prefixes.lengths.is_empty());
    }

    #[test]
    fn a_pattern_has_the_gap_of_the_one_that_covers_it() {
        let read = ReadFrom { after: 5, gaps: vec![("news.*".into(), 7), ("a*".into(), 9)] };
        assert_eq!(["news.*", "news.a*", "n*", "b*", "a*"].map(|pattern| read.after(pattern)), [7, 7, 5, 5, 9]);
    }
}
