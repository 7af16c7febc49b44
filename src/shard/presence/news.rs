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
    made: Vec<(Format, bool, What, Bytes)>,
}

impl News {
    /// A list that is longer than `max` is told as a number.
    pub(super) fn new(channel: &Arc<str>, look: Option<Look>, max: usize) -> Self {
        let members = look.as_ref().and_then(|look| look.members.as_deref());
        let list = members.map(|members| presence::list(channel, members));
        let is_too_long = list.as_ref().is_some_and(|list| list.len() + ROUND_IT > max);
        let list = list.filter(|_| !is_too_long).map(Bytes::from);
        News { channel: channel.clone(), look, list, is_too_long, made: Vec::new() }
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
    pub(super) fn since(&self, place: Option<usize>, max: usize) -> What {
        let of = |place: usize| self.look.as_ref()?.changes.get(place)?.as_ref();
        match place.filter(|place| of(*place).is_some()) {
            Some(place) => {
                let few = of(place).is_some_and(|changes| changes.len() <= 4);
                let what = What::Changes(place);
                let fits = few || self.objects(what).iter().map(|(_, object)| object.len()).sum::<usize>() <= max;
                if fits {
                    what
                } else {
                    self.whole()
                }
            }
            None => self.whole(),
        }
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
