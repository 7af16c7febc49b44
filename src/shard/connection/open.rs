//! The beginning of a subscription: the response, the missed messages, then new ones.

use crate::dialect::{Compression, Dialect, Format};
use crate::framing::close::Close;
use crate::framing::Transport;
use crate::framing::{sse, stream};
use crate::http::refusal::Refusal;
use crate::http::request::{Subscribe, START, SUBPROTOCOL};
use crate::http::response;
use crate::hub::{is_pattern, Item, Join};
use crate::log::Level;
use crate::shard::connection::conn::{Flags, Phase};
use crate::shard::connection::events::host;
use crate::shard::connection::patience::behind;
use crate::shard::delivery::outbox::Piece;
use crate::shard::Shard;
use crate::sys::clock;
use std::borrow::Cow;

impl Shard {
    /// Serves a good request.
    pub(in crate::shard) fn open(
        &mut self,
        index: u32,
        mut subscribe: Subscribe<'_>,
        cors: String,
        forwarded: &[&str],
    ) {
        self.add_user_channel(index, &mut subscribe);
        let subscribe = &subscribe;
        let sse = subscribe.transport == Transport::Sse;
        let admitted = self.admit(index, subscribe).and_then(|()| self.count_subscription(index, forwarded));
        if let Err(refusal) = admitted {
            return self.refuse(index, &refusal, &cors, sse);
        }
        let join = match subscribe.transport {
            Transport::Poll if subscribe.at_once => Join::Never,
            Transport::Poll => Join::IfEmpty,
            _ => Join::Always,
        };
        self.read_and_join(&subscribe.channels, subscribe.start(), join);
        if self.subscriptions.replay.is_full {
            let message = "no room for one more pattern (option patterns_total); come back later";
            return self.refuse(index, &Refusal::unavailable("patterns_total", message), &cors, sse);
        }
        if self.subscriptions.replay.wait {
            // The log has broken a moment ago.
            self.subscriptions.abandon();
            return self.refuse(index, &behind(), &cors, sse);
        }
        if self.send_away_if_ended(index, subscribe, &cors) {
            return;
        }
        self.side.client_ids.set(index, subscribe.client);
        self.note_ignored_client(index, subscribe);
        if matches!(subscribe.transport, Transport::WebSocket | Transport::Stream) {
            self.subscriptions.replay.tell_passed_ends();
        }
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Open(subscribe.transport);
        conn.code = Close::ABNORMAL.code;
        conn.format = format(subscribe);
        conn.flags.set(Flags::CHUNKS, subscribe.chunks && subscribe.transport.is_chunked());
        self.handle.metrics.gauge(subscribe.transport).add(1);
        self.note_subprotocol(index, subscribe);
        self.begin_presence(index, subscribe);
        if subscribe.transport == Transport::Poll {
            return self.open_poll(index, subscribe, cors);
        }
        let opening = self.opening(index, subscribe, &cors);
        let mut pieces = Vec::new();
        self.add_replay(index, &mut pieces);
        let wait = self.heartbeat_ms();
        self.schedule(index, wait);
        self.announce(index, &subscribe.channels);
        let complete = self.subscriptions.replay.complete;
        if complete {
            self.go_live(index);
            self.add_subscribed(index, &subscribe.channels, &mut pieces);
        }
        // Usually the client has missed nothing. Then this is all that it gets.
        if complete && pieces.is_empty() {
            self.transmit_bytes(index, opening);
            return self.close_if_ended(index);
        }
        pieces.insert(0, Piece::Bytes(opening.into()));
        if complete {
            self.transmit(index, &pieces);
            self.close_if_ended(index);
        } else {
            self.begin_catching_up(index, pieces, subscribe);
        }
    }

    /// Whether the connection's grant, and the server's state, let it in.
    fn admit(&self, index: u32, subscribe: &Subscribe<'_>) -> Result<(), Refusal> {
        subscribe.check_channels()?;
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
        match subscribe.channels.iter().find(|channel| !grant.gives(channel, self.config.user_channel)) {
            Some(pattern) if is_pattern(pattern) => {
                let message = format!("not allowed: pattern {pattern}; the grant needs a pattern that covers it");
                Err(Refusal::forbidden("channel", message))
            }
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

    /// Says to which EventSource its own messages come, since what it names is no id.
    fn note_ignored_client(&self, index: u32, subscribe: &Subscribe<'_>) {
        if subscribe.ignores_client {
            let text = format_args!("the parameter client of an SSE connection is no UUID; it gets all messages");
            self.log_about(index, Some(Transport::Sse), Level::Info, "client", text);
        }
    }

    /// The response's head, and the bytes before the first message.
    fn opening(&self, index: u32, subscribe: &Subscribe<'_>, cors: &str) -> Vec<u8> {
        let epoch = self.encoder.epoch();
        // A client that is cut off before the first message comes back to the same replay, with all gaps.
        let position = match &subscribe.since {
            Some(since) if since != START && !self.subscriptions.replay.items.is_empty() => Cow::Borrowed(&**since),
            // It is told of ends. One that is cut off before the last of them comes back for all.
            None if subscribe.last.is_none() && !self.subscriptions.replay.items.is_empty() => Cow::Borrowed(""),
            None if subscribe.last.is_none() => Cow::Owned(epoch.position(self.subscriptions.replay.position)),
            // A gap may stand for messages that the hub still has. A client that is cut off before it asks for the
            // newest ones again. One with raw frames is told of it by this head.
            None if self.subscriptions.replay.begins_with_gap() => match self.conns[index as usize].format.tells_gaps()
            {
                true => Cow::Borrowed(""),
                false => Cow::Owned(epoch.position(self.subscriptions.replay.behind_first_gaps())),
            },
            _ => Cow::Owned(epoch.position_or_elsewhere(self.subscriptions.replay.start())),
        };
        let chunks = self.conns[index as usize].is(Flags::CHUNKS);
        let gap = self.subscriptions.replay.items.iter().any(Item::is_gap)
            || !self.subscriptions.replay.later_gaps.is_empty();
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
}

fn format(subscribe: &Subscribe<'_>) -> Format {
    let dialect = if subscribe.json { Dialect::Push } else { Dialect::Raw };
    let compression = if subscribe.extension.is_some() { Compression::Deflate } else { Compression::None };
    Format::new(subscribe.transport, dialect, compression)
}
