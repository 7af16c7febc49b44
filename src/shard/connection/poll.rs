//! A poll from its request to its answer, and the next request on the same connection.

use crate::dialect::{Encoder, Format};
use crate::framing::close::Close;
use crate::framing::poll::{self, Note};
use crate::framing::Transport;
use crate::http::request::Subscribe;
use crate::hub::{GapPosition, Item};
use crate::shard::connection::conn::{Beside, Flags, Phase};
use crate::shard::delivery::encoded;
use crate::shard::delivery::fan_out::Subscribers;
use crate::shard::Shard;
use bytes::Bytes;

/// The items of a replay, the positions of the gaps among them, and what is told of presence.
type Told<'i> = (&'i [Item], &'i [GapPosition], &'i [Bytes]);

impl Shard {
    /// Opens a poll. It is answered at once if there are messages, otherwise when one comes.
    pub(in crate::shard) fn open_poll(&mut self, index: u32, subscribe: &Subscribe<'_>, cors: String) {
        let goes_on = self.goes_on(index, subscribe.keep_alive);
        let conn = &mut self.conns[index as usize];
        conn.flags.set(Flags::KEEP_ALIVE, goes_on);
        let is_the_end = self.subscriptions.replay.is_the_end();
        let has_all = self.subscriptions.replay.complete && self.subscriptions.replay.items.is_empty();
        let waits = has_all && !subscribe.at_once && !is_the_end && self.may_wait_for_news(index);
        let (presence, news) = match subscribe.follows.is_some() {
            false => (None, Vec::new()),
            true if waits => self.await_news(index),
            true => self.news_of_poll(index),
        };
        let is_plain = cors.is_empty() && presence.is_none();
        self.conns[index as usize].beside = (!is_plain).then(|| Box::new(Beside { cors, presence }));
        if waits {
            self.go_live(index);
            self.probe_adopted(index);
            return self.schedule(index, self.config().poll_timeout_ms);
        }
        // If a message came in the last step of the replay, or if the poll has patterns, the hub has joined it to its
        // channels.
        self.subscriptions.abandon();
        // A client may stop at any message of the answer.
        let gaps = self.subscriptions.replay.tell_gaps_first();
        let items = std::mem::take(&mut self.subscriptions.replay.items);
        let note = match self.subscriptions.replay.complete {
            false => Note::More,
            true if is_the_end => Note::Ended,
            true => Note::None,
        };
        self.answer(index, (&items, &gaps, &news), self.subscriptions.replay.position, note);
        self.subscriptions.replay.items = items;
        self.subscriptions.replay.items.clear();
    }

    /// Answers a poll with a replay, which may be empty: its items, and the positions of its gaps.
    pub(in crate::shard) fn answer(&mut self, index: u32, items: Told<'_>, position: u64, note: Note) {
        if self.write_answer(index, items, position, note) {
            self.read_early(index);
        }
    }

    /// The same where the next request of the connection can't be read at once.
    pub(in crate::shard) fn answer_alone(&mut self, index: u32, items: Told<'_>, position: u64, note: Note) {
        if self.write_answer(index, items, position, note) {
            self.read_early_later(index);
        }
    }

    /// The same with what is told of presence, and no messages.
    pub(in crate::shard) fn answer_alone_with(&mut self, index: u32, news: &[Bytes], position: u64, note: Note) {
        self.answer_alone(index, (&[], &[], news), position, note);
    }

    /// False: the connection has ended.
    fn write_answer(&mut self, index: u32, (items, gaps, news): Told<'_>, position: u64, note: Note) -> bool {
        let encoder = &*self.encoder.clone();
        let Some(conn) = self.conns.get(index as usize) else { return false };
        let id = self.side.client_ids.of(index);
        let told = !news.is_empty() || items.iter().any(Item::is_gap) || !matches!(note, Note::None | Note::Ended);
        let answer = if told {
            if !news.is_empty() {
                let theirs = items.iter().filter_map(Item::message).filter(|message| !message.excepts(id));
                self.handle.metrics.deliveries.add(theirs.count() as u64);
            }
            let mut gaps = gaps.iter().copied();
            let theirs = items.iter().filter(|item| !item.message().is_some_and(|message| message.excepts(id)));
            let objects: Vec<Vec<u8>> = theirs.map(|item| object(item, &mut gaps, encoder)).collect();
            let (cors, presence) = conn.beside.as_deref().map_or(("", None), Beside::parts);
            let position = encoder.epoch().position(position);
            let objects = objects.iter().map(Vec::as_slice).chain(news.iter().map(|object| &**object));
            poll::answer(&position, objects, cors, conn.is(Flags::KEEP_ALIVE), note, presence)
        } else {
            let messages = items.iter().filter_map(Item::message);
            let count = messages.clone().filter(|message| !message.excepts(id)).count();
            self.handle.metrics.deliveries.add(count as u64);
            encoded::answer(conn, messages, id, (position, note), usize::MAX, encoder)
        };
        let conn = &mut self.conns[index as usize];
        self.side.limits.counted(&self.context.limits).take_back_poll(index, conn);
        self.transmit_bytes(index, answer);
        if self.fan_out().gives_up_copy(index) {
            self.drop_given_up(index);
            return false;
        }
        self.poll_answered(index);
        true
    }

    /// The answer of a poll is on its way. The connection waits for the next request, or ends. A request that came
    /// early is not read yet.
    pub(in crate::shard) fn poll_answered(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let keep_alive = conn.is(Flags::KEEP_ALIVE) && !self.shutdown.is_draining();
        conn.code = 1000;
        self.end_subscription(index);
        if !keep_alive {
            return self.last_bytes(index, Bytes::new());
        }
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Head;
        if !conn.is(Flags::ADOPTED) {
            // The grant was for this request. The next request may be another user's, and the end of this grant must
            // not cut it off.
            conn.grant = None;
        }
        self.schedule(index, self.config().keep_alive_ms);
    }

    /// The time of a poll is over. The answer is 200 without messages, with the position that was reached. `note` may
    /// tell the client when to come back.
    pub(in crate::shard) fn answer_empty(&mut self, index: u32, note: Note) {
        debug_assert_eq!(self.conns[index as usize].format, Format::POLL);
        // Messages in the mailbox have greater numbers than the answer may have. So it has the last delivered number.
        let position = self.conns[index as usize].joined.max(self.delivery.delivered);
        self.answer(index, (&[], &[], &[]), position, note);
    }

    /// Answers a poll of which all channels have ended.
    pub(in crate::shard) fn answer_ended(&mut self, index: u32) {
        let position = self.conns[index as usize].joined.max(self.delivery.delivered);
        self.answer_alone(index, (&[], &[], &[]), position, Note::Ended);
    }

    /// Ends a poll whose answer was given up.
    pub(in crate::shard) fn drop_given_up(&mut self, index: u32) {
        self.conns[index as usize].code = Close::TOO_SLOW.code;
        self.log_close(index, Transport::Poll, &Close::TOO_SLOW);
        self.note_slow(index);
        self.drop_conn(index);
    }
}

fn object(item: &Item, gaps: &mut impl Iterator<Item = GapPosition>, encoder: &Encoder) -> Vec<u8> {
    if let Item::Message(message) = item {
        return Format::POLL.encode(message, encoder, false).to_vec();
    }
    let position = gaps.next().map_or_else(String::new, |gap| gap.text(encoder.epoch()));
    Format::POLL.gap(item.channel(), &position, false)
}
