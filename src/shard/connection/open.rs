//! The beginning of a subscription: what was missed, then what comes.

use crate::events::{Event, EventKind};
use crate::http::refusal::Refusal;
use crate::http::request::{Subscribe, SUBPROTOCOL};
use crate::http::response;
use crate::hub::{Cut, Item, Join, Message, Request, Start};
use crate::log::Level;
use crate::shard::connection::close::{host, user};
use crate::shard::connection::conn::{Flags, Phase};
use crate::shard::delivery::encoded;
use crate::shard::delivery::outbox::{CatchUp, Outbox, Piece};
use crate::shard::Shard;
use crate::sys::clock;
use crate::transport::close::Close;
use crate::transport::poll::{self, Note};
use crate::transport::Transport;
use crate::transport::{sse, stream, ws_frames, Encoder, Format};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;

impl Shard {
    /// Serves a good request.
    pub(in crate::shard) fn open(&mut self, index: u32, subscribe: &Subscribe<'_>, cors: String, forwarded: &[&str]) {
        let sse = subscribe.transport == Transport::Sse;
        let admitted = self.admit(index, subscribe).and_then(|()| self.count_subscription(index, forwarded));
        if let Err(refusal) = admitted {
            return self.refuse(index, &refusal, &cors, sse);
        }
        let limit = self.replay_limit();
        let join = match subscribe.transport {
            Transport::Poll if subscribe.at_once => Join::Never,
            Transport::Poll => Join::IfEmpty,
            _ => Join::Always,
        };
        self.context.hub.subscribe(
            &Request {
                shard: self.number,
                names: &subscribe.channels,
                start: subscribe.start(),
                limit,
                broadcasts: true,
                cut: Cut::Tail,
                join,
            },
            &mut self.recovery.replay,
            &mut self.recovery.channels,
        );
        self.count_gaps();
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Open(subscribe.transport);
        conn.code = Close::ABNORMAL.code;
        conn.format = format(subscribe);
        conn.flags.set(Flags::CHUNKS, subscribe.chunks && conn.format.chunked());
        self.handle.metrics.gauge(subscribe.transport).add(1);
        self.note_subprotocol(index, subscribe);
        if subscribe.transport == Transport::Poll {
            return self.open_poll(index, subscribe, cors);
        }
        let opening = self.opening(index, subscribe, &cors);
        let mut pieces = Vec::new();
        self.add_replay(index, &mut pieces);
        let wait = self.heartbeat_ms();
        self.schedule(index, wait);
        self.announce(index, subscribe.channels.first().map(|name| &**name));
        let complete = self.recovery.replay.complete;
        if complete {
            self.go_live(index);
            self.add_subscribed(index, &subscribe.channels, &mut pieces);
        }
        // Mostly nothing was missed.
        if complete && pieces.is_empty() {
            return self.transmit_bytes(index, opening);
        }
        pieces.insert(0, Piece::Bytes(opening.into()));
        if complete {
            self.transmit(index, &pieces);
        } else {
            let names = subscribe.channels.iter().map(|name| Box::from(&**name)).collect();
            let told = std::mem::take(&mut self.recovery.replay.later_gaps);
            self.transmit_then(index, &pieces, CatchUp { names, after: self.recovery.replay.position, told });
        }
    }

    /// Goes on with a replay that was larger than an outbox, now that the client has taken what it got.
    pub(in crate::shard) fn catch_up(&mut self, index: u32, mut catch_up: CatchUp) {
        if self.conns[index as usize].transport().is_none() {
            return;
        }
        let shared = self.context.clone();
        shared.hub.subscribe(
            &Request {
                shard: self.number,
                names: &catch_up.names,
                start: Start::After(catch_up.after),
                limit: self.replay_limit(),
                broadcasts: true,
                cut: Cut::Tail,
                join: Join::Always,
            },
            &mut self.recovery.replay,
            &mut self.recovery.channels,
        );
        self.count_gaps();
        if !self.conns[index as usize].format.tells_gaps() && self.has_untold_gap(&mut catch_up.told) {
            // Raw frames have no place to say so, but the next handshake has: it comes back and is told there.
            self.channels.abandon(&self.recovery.channels);
            let conn = &mut self.conns[index as usize];
            // What it waited for goes with it: its channels are counted there.
            conn.outbox.get_or_insert_with(|| Outbox::new(&self.handle)).catch_up = Some(catch_up);
            return self.close_slow(index, Close::OVERTAKEN);
        }
        let mut pieces = Vec::new();
        self.add_replay(index, &mut pieces);
        let conn = &mut self.conns[index as usize];
        let wire = conn.wire(&shared.encoder);
        let outbox = conn.outbox.get_or_insert_with(|| Outbox::new(&self.handle));
        pieces.drain(..).for_each(|piece| outbox.push(piece, &wire));
        if self.recovery.replay.complete {
            self.go_live(index);
            self.add_subscribed(index, &catch_up.names, &mut pieces);
            if let Some(outbox) = &mut self.conns[index as usize].outbox {
                pieces.into_iter().for_each(|piece| outbox.push(piece, &wire));
            }
        } else {
            catch_up.after = self.recovery.replay.position;
            outbox.catch_up = Some(catch_up);
        }
        // `flush`, which called, goes on with what is in the outbox now.
    }

    /// Whether the replay has a gap of which the handshake has not told.
    fn has_untold_gap(&self, told: &mut Vec<Option<Arc<str>>>) -> bool {
        self.recovery.replay.items.iter().any(|item| match item {
            Item::Gap(channel, _) => match told.iter().position(|known| known == channel) {
                // The next one of this channel is another.
                Some(place) => {
                    told.swap_remove(place);
                    false
                }
                None => true,
            },
            Item::Message(_) => false,
        })
    }

    /// A poll: answered at once if there is something, else when there is.
    fn open_poll(&mut self, index: u32, subscribe: &Subscribe<'_>, cors: String) {
        let conn = &mut self.conns[index as usize];
        conn.flags.set(Flags::KEEP_ALIVE, subscribe.keep_alive && conn.may_go_on());
        conn.cors = (!cors.is_empty()).then(|| Box::new(cors));
        if self.recovery.replay.items.is_empty() && !subscribe.at_once {
            self.go_live(index);
            self.probe_adopted(index);
            return self.schedule(index, self.config().poll_timeout_ms);
        }
        // It was joined where something came in the last step of that.
        self.channels.abandon(&self.recovery.channels);
        let items = std::mem::take(&mut self.recovery.replay.items);
        let note = if self.recovery.replay.complete { Note::None } else { Note::More };
        self.answer(index, &items, self.recovery.replay.position, note);
        self.recovery.replay.items = items;
        self.recovery.replay.items.clear();
    }

    /// Answers a poll with a replay, which may be empty.
    pub(in crate::shard) fn answer(&mut self, index: u32, items: &[Item], position: u64, note: Note) {
        let shared = self.context.clone();
        let encoder = &shared.encoder;
        let Some(conn) = self.conns.get(index as usize) else { return };
        let told = items.iter().any(|item| matches!(item, Item::Gap(..))) || note != Note::None;
        let answer = if told {
            let objects: Vec<Vec<u8>> = items.iter().map(|item| object(item, encoder)).collect();
            let cors = conn.cors.as_deref().map_or("", String::as_str);
            let position = encoder.epoch().position(position);
            let objects = objects.iter().map(Vec::as_slice);
            poll::answer(&position, objects, cors, conn.is(Flags::KEEP_ALIVE), note)
        } else {
            let messages = items.iter().filter_map(message);
            self.handle.metrics.deliveries.add(items.len() as u64);
            encoded::answer(conn, messages, position, usize::MAX, encoder)
        };
        self.uncount_subscription(index);
        self.transmit_bytes(index, answer);
        if self.give_up_copy(index) {
            return self.drop_conn(index);
        }
        self.poll_answered(index);
        self.read_early(index);
    }

    /// After a poll's answer is on its way: wait for the next request, or end. One that came early is not read yet.
    pub(in crate::shard) fn poll_answered(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let keep_alive = conn.is(Flags::KEEP_ALIVE) && self.drain.is_none();
        conn.code = 1000;
        self.leave_channels(index);
        if !keep_alive {
            return self.last_bytes(index, Bytes::new());
        }
        self.uncount_subscription(index);
        self.handle.metrics.polls.sub(1);
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Head;
        if !conn.is(Flags::ADOPTED) {
            // It was this request's. The next may be another user's, which its end must not cut off.
            conn.grant = None;
        }
        self.schedule(index, self.config().keep_alive_ms);
    }

    /// Whether the connection's grant, and the server's state, let it in.
    fn admit(&self, index: u32, subscribe: &Subscribe<'_>) -> Result<(), Refusal> {
        if self.draining() {
            return Err(Refusal::draining());
        }
        let conn = &self.conns[index as usize];
        if self.context.events.overflowing_for(host(conn)) {
            return Err(Refusal::unavailable("busy", "the host does not take its events"));
        }
        let Some(grant) = &conn.grant else { return Ok(()) };
        if grant.expires_at().is_some_and(|at| at <= clock::unix_seconds()) {
            return Err(Refusal::forbidden("expired", "the grant has ended"));
        }
        match subscribe.channels.iter().find(|channel| !grant.allows(channel)) {
            Some(channel) => Err(Refusal::forbidden("channel", format!("not allowed: channel {channel}"))),
            None => Ok(()),
        }
    }

    /// Says to which client raw frames come under a name that is not spoken here: it may have meant another form.
    fn note_subprotocol(&self, index: u32, subscribe: &Subscribe<'_>) {
        if subscribe.subprotocol.is_none_or(|name| name == SUBPROTOCOL) {
            return;
        }
        // The name itself may be a token that only the host understands.
        let text = format_args!("a WebSocket offers subprotocols, but not {SUBPROTOCOL}; it gets raw frames");
        self.log_about(index, Some(Transport::WebSocket), Level::Info, "subprotocol", text);
    }

    /// The response's head and what stands before the first message.
    fn opening(&self, index: u32, subscribe: &Subscribe<'_>, cors: &str) -> Vec<u8> {
        let epoch = self.context.hub.epoch();
        // Who is cut off before the first message comes back to the same replay, gaps and all.
        let position = match &subscribe.since {
            Some(since) if !self.recovery.replay.items.is_empty() => Cow::Borrowed(&**since),
            _ => Cow::Owned(epoch.position(self.start_of_replay())),
        };
        let chunks = self.conns[index as usize].is(Flags::CHUNKS);
        let gap = self.recovery.replay.items.iter().any(|item| matches!(item, Item::Gap(..)))
            || !self.recovery.replay.later_gaps.is_empty();
        match subscribe.transport {
            Transport::WebSocket => response::switching(subscribe, &position, gap).into(),
            Transport::Sse => {
                let head = response::streaming(true, chunks, &position, cors);
                let preamble = sse::preamble(self.config().retry_ms, &position);
                let preamble = if chunks { preamble.framed_bytes() } else { preamble.inner_bytes() };
                [head.as_bytes(), preamble].concat()
            }
            Transport::Stream | Transport::Poll => {
                // XMLHttpRequest reports nothing, not even the head, before the first byte of the body.
                let head = response::streaming(false, chunks, &position, cors);
                [head.as_bytes(), stream::heartbeat(chunks)].concat()
            }
        }
    }

    /// The position just before the first item of the replay.
    fn start_of_replay(&self) -> u64 {
        self.recovery.replay.items.first().map_or(self.recovery.replay.position, |item| item.seq().saturating_sub(1))
    }

    pub(in crate::shard) fn add_replay(&mut self, index: u32, pieces: &mut Vec<Piece>) {
        let conn = &self.conns[index as usize];
        let wire = conn.wire(&self.context.encoder);
        let mut messages = 0;
        for item in self.recovery.replay.items.drain(..) {
            match item {
                Item::Message(message) => {
                    messages += 1;
                    pieces.push(Piece::Message(message));
                }
                Item::Gap(channel, seq) => {
                    let gap = conn.format.gap(channel.as_deref(), seq, wire.encoder.epoch(), wire.chunks);
                    pieces.push(Piece::Bytes(gap.into()));
                }
            }
        }
        self.handle.metrics.deliveries.add(messages);
    }

    /// `subscribed` for each channel of the URL, with the position reached, where the form has a place for it.
    fn add_subscribed<S: AsRef<str>>(&self, index: u32, names: &[S], pieces: &mut Vec<Piece>) {
        if self.conns[index as usize].format.is_push_v1() {
            let position = self.context.hub.epoch().position(self.recovery.replay.position);
            let frame =
                |name: &S| ws_frames::text(&crate::shard::client::push_v1::subscribed(name.as_ref(), &position));
            let frames: Vec<u8> = names.iter().flat_map(frame).collect();
            if !frames.is_empty() {
                pieces.push(Piece::Bytes(frames.into()));
            }
        }
    }

    /// From now on messages reach it.
    fn go_live(&mut self, index: u32) {
        let joined = self.recovery.replay.position;
        let conn = &mut self.conns[index as usize];
        conn.flags.insert(Flags::LIVE);
        conn.joined = joined;
        self.delivery.settled = self.delivery.settled.max(joined);
        self.channels.join(&mut self.conns, index, &self.recovery.channels, joined);
    }

    fn transmit_then(&mut self, index: u32, pieces: &[Piece], catch_up: CatchUp) {
        let conn = &mut self.conns[index as usize];
        let wire = conn.wire(&self.context.encoder);
        let outbox = conn.outbox.get_or_insert_with(|| Outbox::new(&self.handle));
        pieces.iter().for_each(|piece| outbox.push(piece.clone(), &wire));
        outbox.catch_up = Some(catch_up);
        self.flush(index);
    }

    pub(in crate::shard) fn count_gaps(&self) {
        let gaps = self.recovery.replay.items.iter().filter(|item| matches!(item, Item::Gap(..))).count();
        self.handle.metrics.gaps.add(gaps as u64);
    }

    /// Tells the host of a subscription. Polls are not told: they come and go with every message.
    fn announce(&mut self, index: u32, channel: Option<&str>) {
        if !self.context.events.wanted() {
            return;
        }
        let conn = &mut self.conns[index as usize];
        conn.flags.insert(Flags::ANNOUNCED);
        if !self.context.events.wants(EventKind::Open) {
            return;
        }
        let (user, host) = (user(conn), host(conn));
        self.tell(Event {
            kind: EventKind::Open,
            connection: self.number_of(index),
            request: 0,
            user,
            channel: channel.map(Arc::from),
            data: Bytes::new(),
            binary: false,
            code: 0,
            host,
        });
    }
}

fn format(subscribe: &Subscribe<'_>) -> Format {
    match (subscribe.transport, subscribe.json) {
        (Transport::WebSocket, false) if subscribe.extension.is_some() => Format::WsRawDeflate,
        (Transport::WebSocket, true) if subscribe.extension.is_some() => Format::WsJsonDeflate,
        (Transport::WebSocket, false) => Format::WsRaw,
        (Transport::WebSocket, true) => Format::WsJson,
        (Transport::Sse, false) => Format::SseRaw,
        (Transport::Sse, true) => Format::SseJson,
        (Transport::Stream, _) => Format::Stream,
        (Transport::Poll, _) => Format::Poll,
    }
}

fn message(item: &Item) -> Option<&Arc<Message>> {
    match item {
        Item::Message(message) => Some(message),
        Item::Gap(..) => None,
    }
}

fn object(item: &Item, encoder: &Encoder) -> Vec<u8> {
    match item {
        Item::Message(message) => Format::Poll.encode(message, encoder, false).to_vec(),
        Item::Gap(channel, seq) => Format::Poll.gap(channel.as_deref(), *seq, encoder.epoch(), false),
    }
}
