//! What followers of a channel are told at one look, encoded once for each form.

use crate::dialect::push::presence;
use crate::dialect::Format;
use crate::presence::Look;
use bytes::Bytes;
use std::sync::Arc;

/// What an object takes beside itself in the form that takes most.
const ROUND_IT: usize = 64;

/// What a follower is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Off,
    List,
    Number,
    /// What has changed since this version, by its place among them.
    Changes(usize),
}

/// See the module.
pub(super) struct News {
    pub(super) channel: Arc<str>,
    pub(super) look: Option<Look>,
    /// The list, if somebody needs it and it is not too long.
    pub(super) list: Option<Bytes>,
    /// True if somebody needs the list, and it is too long.
    pub(super) is_too_long: bool,
    /// By the version: whether what has changed since is known, and short enough to be told. It is found out once for
    /// all followers.
    fits: Vec<bool>,
    made: Vec<(Format, bool, What, Bytes)>,
}

impl News {
    /// A list that is longer than `max` is told as a number.
    pub(super) fn new(channel: &Arc<str>, look: Option<Look>, max: usize) -> Self {
        let members = look.as_ref().and_then(|look| look.members.as_deref());
        let list = members.map(|members| presence::list(channel, members));
        let is_too_long = list.as_ref().is_some_and(|list| list.len() + ROUND_IT > max);
        let list = list.filter(|_| !is_too_long).map(Bytes::from);
        let mut news = News { channel: channel.clone(), look, list, is_too_long, fits: Vec::new(), made: Vec::new() };
        let versions = news.look.as_ref().map_or(0, |look| look.changes.len());
        let fits = (0..versions).map(|place| news.changes_fit(place, max)).collect();
        news.fits = fits;
        news
    }

    /// Whether what has changed since the version at this place is known, and not too long.
    fn changes_fit(&self, place: usize, max: usize) -> bool {
        let changes = self.look.as_ref().and_then(|look| look.changes.get(place)?.as_ref());
        let len = || self.objects(What::Changes(place)).iter().map(|(_, object)| object.len()).sum::<usize>();
        changes.is_some_and(|changes| changes.len() <= 4 || len() <= max)
    }

    /// Whether what has changed is too long to be told, and the list, by which it is told then, was not asked for.
    pub(super) fn lacks_list(&self) -> bool {
        let is_missing = |look: &Look| look.is_list && look.members.is_none();
        self.look.as_ref().is_some_and(is_missing) && self.fits.contains(&false)
    }

    /// What tells all that is known.
    pub(super) fn whole(&self) -> What {
        match (&self.look, &self.list) {
            (None, _) => What::Off,
            (_, Some(_)) => What::List,
            _ => What::Number,
        }
    }

    /// What tells those who know all of the version at this place. Changes that are too long are told by the list.
    pub(super) fn since(&self, place: Option<usize>) -> What {
        let fits = |place: &usize| self.fits.get(*place).is_some_and(|fits| *fits);
        place.filter(fits).map_or_else(|| self.whole(), What::Changes)
    }

    /// The object that tells all of it to a poll.
    pub(super) fn object(&self) -> Bytes {
        match &self.list {
            Some(list) => list.clone(),
            None => self.objects(self.whole()).pop().map(|(_, object)| object.into()).unwrap_or_default(),
        }
    }

    /// The bytes for a follower. They are empty if it needs to be told nothing.
    pub(super) fn bytes(&mut self, format: Format, chunks: bool, what: What) -> Bytes {
        let known = self.made.iter().find(|made| (made.0, made.1, made.2) == (format, chunks, what));
        if let Some((.., bytes)) = known {
            return bytes.clone();
        }
        let encode = |(event, object): &(&'static str, Vec<u8>)| format.presence(event, object, chunks);
        let bytes = match (&self.list, what) {
            (Some(list), What::List) => Bytes::from(format.presence(presence::LIST, list, chunks)),
            _ => Bytes::from(self.objects(what).iter().flat_map(encode).collect::<Vec<u8>>()),
        };
        self.made.push((format, chunks, what, bytes.clone()));
        bytes
    }

    fn objects(&self, what: What) -> Vec<(&'static str, Vec<u8>)> {
        let channel = &*self.channel;
        let Some(look) = &self.look else { return vec![(presence::LIST, presence::off(channel))] };
        match what {
            What::Changes(place) => {
                let changes = look.changes.get(place).and_then(Option::as_deref).unwrap_or_default();
                changes.iter().map(|change| presence::change(channel, change)).collect()
            }
            What::List | What::Number | What::Off => vec![(presence::LIST, presence::number(channel, look.count))],
        }
    }
}
