//! The channels of a grant: a list of names and patterns, or all, without those that were revoked later.

use super::MAX_CHANNELS;
use crate::error::Error;
use crate::hub::ChannelPattern;
use std::sync::Arc;

/// Channels by name or prefix, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Channels {
    All,
    /// What most clients may publish. An empty list would be an allocation for each grant.
    Nothing,
    Only(Arc<[ChannelPattern]>),
    /// The granted channels, except those that were revoked since.
    Except(Arc<(Channels, Vec<ChannelPattern>)>),
}

/// Checks the names of a list, and the patterns in the list beside it, which is called `beside`. A pattern among the
/// names gets an error of its own, since it may be right in the other list.
pub(super) fn listed<'a>(
    names: impl Iterator<Item = &'a String> + 'a,
    beside: &'static str,
    patterns: &'a [String],
) -> impl Iterator<Item = Result<ChannelPattern, Error>> + 'a {
    let name = move |text: &String| {
        let pattern = || format!("channel {text:?} is a pattern: it belongs among the grant's {beside}");
        ChannelPattern::exact(text).map_err(|error| if text.ends_with('*') { Error::invalid(pattern()) } else { error })
    };
    names.map(name).chain(patterns.iter().map(|text| ChannelPattern::written(text)))
}

impl Channels {
    /// The first `at_once` names keep their order.
    pub(super) fn of(
        listed: impl Iterator<Item = Result<ChannelPattern, Error>>,
        at_once: usize,
    ) -> Result<Self, Error> {
        // One more than allowed shows that there are too many.
        let patterns = listed.take(MAX_CHANNELS + 1).collect::<Result<Box<[_]>, _>>()?;
        if patterns.len() > MAX_CHANNELS {
            return Err(Error::invalid(format!("a grant has at most {MAX_CHANNELS} channels")));
        }
        Ok(match &*patterns {
            [] => Channels::Nothing,
            _ if at_once == 0 && patterns.contains(&ChannelPattern::everything()) => Channels::All,
            _ => Channels::Only(patterns.into()),
        })
    }

    /// A pattern that a client subscribes to stands among the names (`news.*`). It needs a pattern of the list that covers
    /// it, and none of the channels that it fits may be revoked.
    pub(super) fn allow(&self, channel: &str) -> bool {
        match self {
            Channels::All => true,
            Channels::Nothing => false,
            Channels::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(channel)),
            Channels::Except(both) => both.0.allow(channel) && !both.1.iter().any(|taken| taken.meets(channel)),
        }
    }

    /// True if a channel was revoked from the grant.
    pub(super) fn has_revoked(&self, channel: &str) -> bool {
        matches!(self, Channels::Except(both) if both.1.iter().any(|pattern| pattern.matches(channel)))
    }

    /// A name or pattern in the list that is of users' channels.
    pub(super) fn of_users(&self) -> Option<&ChannelPattern> {
        match self {
            Channels::All | Channels::Nothing => None,
            Channels::Only(patterns) => patterns.iter().find(|pattern| pattern.is_of_users()),
            Channels::Except(both) => both.0.of_users(),
        }
    }

    pub(super) fn without(&self, taken: &ChannelPattern) -> Self {
        let (granted, mut all) = match self {
            Channels::Except(both) => (both.0.clone(), both.1.clone()),
            granted => (granted.clone(), Vec::new()),
        };
        if !all.contains(taken) {
            all.push(taken.clone());
        }
        // Revoking a thousand channels one by one from a client that keeps others is not a real case.
        if all.len() > MAX_CHANNELS {
            all = vec![ChannelPattern::everything()];
        }
        Channels::Except(Arc::new((granted, all)))
    }

    /// The channels granted now, except those that were revoked from an earlier grant.
    pub(super) fn without_taken_from(self, earlier: &Channels) -> Self {
        match earlier {
            Channels::Except(both) => Channels::Except(Arc::new((self, both.1.clone()))),
            Channels::All | Channels::Nothing | Channels::Only(_) => self,
        }
    }

    pub(super) fn first(&self, count: usize) -> &[ChannelPattern] {
        match self {
            Channels::All | Channels::Nothing => &[],
            Channels::Only(patterns) => patterns.get(..count).unwrap_or(&[]),
            Channels::Except(both) => both.0.first(count),
        }
    }

    /// No name ends in `*`, so names and patterns can be told apart later.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        match self {
            Channels::All => None,
            Channels::Nothing => Some(Vec::new()),
            Channels::Only(patterns) => Some(patterns.iter().map(ToString::to_string).collect()),
            // Exceptions can't be expressed by names. They never need to be: grants travel to the hub before anything
            // is revoked there.
            Channels::Except(_) => Some(Vec::new()),
        }
    }
}
