//! The messages that are kept of a channel, for operators.

use super::Api;
use crate::error::{Error, Kind};
use crate::hub::{Cut, Epoch, Item, Join, Position, Replay, Request, Start};

/// About how many bytes of messages one answer may have. One message it always has.
const MAX_BYTES: usize = 1 << 20;

/// Some messages of a channel, oldest first, and gaps where messages are missing.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) items: Vec<Item>,
    /// The epoch of all positions here.
    pub(crate) epoch: Epoch,
    /// The number of the last item or, if nothing was left out after it, of the hub.
    pub(crate) position: u64,
    /// There are more messages: after these, or before them if the newest were asked for.
    pub(crate) more: bool,
}

impl Api {
    /// Reads messages of a channel without subscribing: at most `count` after a position, or the newest. The hub's lock
    /// is held as for a subscriber's replay: the messages are shared, not copied.
    pub(crate) fn kept(&self, channel: &str, since: Option<Position<'_>>, count: usize) -> Result<Kept, Error> {
        let hub = &self.context.hub;
        hub.channel_id(channel).ok_or_else(|| Error::new(Kind::NotFound, "no such channel"))?;
        // Of the newest one more is read, which says whether there are more. They are cut here: the hub would put a gap
        // in place of the others, which are not missing.
        let (start, limit) = match since {
            Some(position) => (Start::Since(position), MAX_BYTES),
            None => (Start::Last(count + 1), usize::MAX),
        };
        let (shard, cut, join) = (0, Cut::Tail, Join::Never);
        let request = Request { shard, names: &[channel], start, limit, broadcasts: false, cut, join };
        let mut replay = Replay::default();
        hub.subscribe(&request, &mut replay, &mut Vec::new());
        if replay.wait {
            return Err(Error::new(Kind::Busy, "this hub has not read its log up to there"));
        }
        let epoch = replay.life.take().map_or_else(|| hub.epoch().clone(), |(epoch, _)| epoch);
        let Replay { mut items, mut position, complete, .. } = replay;
        let all = items.len();
        if since.is_none() {
            items.drain(..all - fitting(items.iter().rev(), count));
        } else {
            items.truncate(fitting(items.iter(), count));
            if items.len() < all {
                position = items.last().map_or(position, Item::seq);
            }
        }
        let more = !complete || items.len() < all;
        Ok(Kept { items, epoch, position, more })
    }
}

/// How many of the items are within the bounds: one message is, however large it is.
fn fitting<'i>(items: impl Iterator<Item = &'i Item>, count: usize) -> usize {
    let (mut messages, mut bytes) = (0, 0);
    let fits = |item: &&Item| {
        if let Item::Message(message) = item {
            messages += 1;
            bytes += message.weight();
        }
        messages <= 1 || (messages <= count && bytes <= MAX_BYTES)
    };
    items.take_while(fits).count()
}
