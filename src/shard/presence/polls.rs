//! Polls that follow who is there. They get lists, never what has changed: between two polls nobody knows what a client
//! has seen. Each answer has a version, with which the next request says what its client knows.

use super::follows::{Known, NUMBERS_MS};
use super::news::News;
use crate::context::presence::{has_members, is_named};
use crate::dialect::push::presence;
use crate::framing::poll::Note;
use crate::framing::Transport;
use crate::http::request::Subscribe;
use crate::presence::Asked;
use crate::shard::connection::conn::{Conn, Flags, Phase};
use crate::shard::Shard;
use bytes::Bytes;
use std::sync::Arc;

/// The version for the answer to a poll, and what the answer tells of presence. A poll that does not follow has none.
pub(in crate::shard) type OfPoll = (Option<Box<str>>, Vec<Bytes>);

impl Shard {
    /// A connection follows the channels that it has by name.
    pub(super) fn begin_following(&mut self, index: u32, subscribe: &Subscribe<'_>) {
        let Some(text) = &subscribe.follows else { return };
        let known = match subscribe.transport {
            Transport::Poll => Known::Poll(self.context.presence.known_version(text)),
            _ => Known::Nothing,
        };
        let names: Vec<&str> =
            subscribe.channels.iter().map(|name| &**name).filter(|name| is_named(&self.config, name)).collect();
        names.into_iter().for_each(|name| self.follow(index, name, known));
    }

    /// Whether a poll that follows may wait: it knows who was there a moment ago.
    pub(in crate::shard) fn may_wait_for_news(&self, index: u32) -> bool {
        self.side.follows.known_to_poll(index) != Some(None)
    }

    /// A poll that follows waits. It is answered when one of its channels is looked at next that has changed, at the
    /// pace of the channel: a client that comes back at once must not be answered as fast as it can ask.
    pub(in crate::shard) fn await_news(&mut self, index: u32) -> OfPoll {
        let (now, as_of) = (self.turn.now, self.context.presence.version());
        let known = self.side.follows.known_to_poll(index).flatten();
        let has_changed = |channel: &Arc<str>| {
            let look = self.context.presence.look(channel, &Asked::default());
            has_members(&self.config, channel) && known.is_some_and(|known| look.version > known)
        };
        let channels = self.side.follows.of(index);
        let changed: Vec<Arc<str>> = channels.iter().filter(|channel| has_changed(channel)).cloned().collect();
        changed.iter().for_each(|channel| self.side.follows.note_news(channel, now));
        let version = known.filter(|_| !changed.is_empty()).unwrap_or(as_of);
        self.note_known(index, version);
        (Some(self.context.presence.version_text(version).into()), Vec::new())
    }

    /// What the answer to a poll that follows tells now.
    pub(in crate::shard) fn news_of_poll(&mut self, index: u32) -> OfPoll {
        // What changes from here on is told by the next answer.
        let as_of = self.context.presence.version();
        let mut news = Vec::new();
        if let Some(known) = self.side.follows.known_to_poll(index) {
            let mut room = self.config.outbox;
            for channel in self.side.follows.of(index) {
                if let Some(object) = self.object_for_poll(&channel, known, room) {
                    room = room.saturating_sub(object.len());
                    news.push(object);
                }
            }
        }
        self.note_known(index, as_of);
        (Some(self.context.presence.version_text(as_of).into()), news)
    }

    /// Answers a poll that waits, if one of its channels has changed.
    pub(super) fn answer_news(&mut self, index: u32) {
        let waits = |conn: &Conn| conn.is(Flags::LIVE) && conn.phase == Phase::Open(Transport::Poll);
        if !self.conns.get(index as usize).is_some_and(waits) {
            return;
        }
        let (version, news) = self.news_of_poll(index);
        let conn = &mut self.conns[index as usize];
        conn.beside.get_or_insert_default().presence = version;
        if !news.is_empty() {
            let position = conn.joined.max(self.delivery.delivered);
            self.answer_alone_with(index, &news, position, Note::None);
        }
    }

    fn note_known(&mut self, index: u32, version: u64) {
        for channel in self.side.follows.of(index) {
            self.side.follows.set(index, &channel, Known::Poll(Some(version)));
        }
    }

    /// What is told of a channel to a poll whose client knows everything up to a version, if that is not all. There is
    /// room for so many bytes: a list that is longer is told as a number.
    fn object_for_poll(&mut self, channel: &Arc<str>, known: Option<u64>, room: usize) -> Option<Bytes> {
        if !has_members(&self.config, channel) {
            return known.is_none().then(|| presence::off(channel).into());
        }
        let look = self.context.presence.look(channel, &Asked::default());
        if known.is_some_and(|known| look.version <= known) {
            return None;
        }
        let shown = self.side.follows.shown.get(channel).filter(|(version, _)| *version == look.version);
        let object = match shown {
            Some((_, object)) => object.clone(),
            None => {
                let look = self.context.presence.look(channel, &Asked { list: true, ..Asked::default() });
                let version = look.version;
                let object = News::new(channel, Some(look), self.config.outbox).object();
                self.side.follows.shown.insert(channel.clone(), (version, object.clone()));
                self.side.follows.shown_until.get_or_insert(self.turn.now + NUMBERS_MS);
                object
            }
        };
        Some(if object.len() <= room { object } else { presence::number(channel, look.count).into() })
    }
}
