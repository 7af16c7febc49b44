//! WebSocket clients: frames that came, and what the host sends to one of them.

use crate::events::{Event, EventKind};
use crate::log::Level;
use crate::shard::connection::close::{host, user};
use crate::shard::connection::conn::{Flags, Phase, Token};
use crate::shard::delivery::write::outbox_limit;
use crate::shard::Shard;
use crate::transport::close::Close;
use crate::transport::ws::{self, Received, Rules};
use crate::transport::Transport;
use crate::transport::{json, sse, stream, ws_frames, Format};
use bytes::Bytes;

impl Shard {
    /// Bytes of frames.
    pub(in crate::shard) fn received_frames(&mut self, index: u32, bytes: &mut [u8]) {
        self.heard(index);
        let token = self.token(index);
        let max_message = self.config().max_client_message;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let mut partial = conn.partial.take();
        let mut inflater = conn.format.is_deflate().then(|| self.reading.inflater.take().unwrap_or_default());
        let rules = Rules { max_message, inflater: inflater.as_mut() };
        let result = ws::read(&mut partial, bytes, rules, &mut |received| self.frame(token, received));
        if let Some(mut inflater) = inflater {
            inflater.trim();
            self.reading.inflater = Some(inflater);
        }
        let Some(index) = self.find(token) else { return };
        self.conns[index as usize].partial = partial;
        if let Err(close) = result {
            self.close(index, close);
        }
    }

    fn frame(&mut self, token: Token, received: Received<'_>) {
        let Some(index) = self.find(token) else { return };
        if self.conns[index as usize].phase != Phase::Open(Transport::WebSocket) {
            return;
        }
        match received {
            Received::Message { data, binary } => {
                self.handle.metrics.received.add(1);
                if !self.count_sent(index) {
                    return;
                }
                if self.conns[index as usize].format.is_push_v1() {
                    self.push_v1(index, data);
                    // Small requests can have large answers.
                    self.hold_to_bound(token);
                } else {
                    self.tell_message(index, Bytes::copy_from_slice(data), binary);
                }
            }
            Received::Ping(data) => {
                if !self.count_sent(index) {
                    return;
                }
                self.transmit_bytes(index, ws_frames::pong(data));
                self.hold_to_bound(token);
            }
            Received::Pong => {}
            Received::Close(code) => self.answer_close(index, code),
        }
    }

    /// A client's message goes to the host.
    pub(in crate::shard) fn tell_message(&mut self, index: u32, data: Bytes, binary: bool) {
        let conn = &self.conns[index as usize];
        let (user, host) = (user(conn), host(conn));
        self.tell(Event {
            kind: EventKind::Message,
            connection: self.number_of(index),
            request: 0,
            user,
            channel: None,
            data,
            binary,
            code: 0,
            host,
        });
    }

    /// A close is answered with its code (RFC 6455, section 5.5.1).
    fn answer_close(&mut self, index: u32, code: Option<u16>) {
        // 1005 says "no code" and never stands in a frame (section 7.4.1).
        let noted = code.unwrap_or(1005);
        self.conns[index as usize].code = noted;
        let text = format_args!("a WebSocket ended with {noted}: its client closed it");
        self.log_about(index, Some(Transport::WebSocket), Level::Debug, "closed by the client", text);
        self.leave_channels(index);
        let code = code.unwrap_or(Close::NORMAL.code);
        self.last_bytes(index, ws_frames::close(&Close::new(code, "")).into());
    }

    /// What the host sends to one connection, in its form.
    pub(in crate::shard) fn send_direct(&mut self, to: Token, data: &Bytes, binary: bool) {
        let Some(index) = self.find(to) else { return };
        let conn = &self.conns[index as usize];
        let form = |form: crate::hub::Form| {
            if conn.is(Flags::CHUNKS) { form.framed_bytes() } else { form.inner_bytes() }.to_vec()
        };
        let bytes = match (conn.phase, conn.format) {
            (Phase::Open(Transport::WebSocket), format) if format.is_push_v1() => {
                ws_frames::text(&json::direct(data, binary))
            }
            (Phase::Open(Transport::WebSocket), _) => ws_frames::data(binary, data),
            (Phase::Open(Transport::Sse), Format::SseRaw) if !binary => form(sse::event(None, None, data)),
            (Phase::Open(Transport::Sse), _) => form(sse::event(None, None, &json::direct(data, binary))),
            (Phase::Open(Transport::Stream), _) => form(stream::line(&json::direct(data, binary))),
            // It ended meanwhile, or is a poll, which gets nothing but answers.
            _ => return,
        };
        self.transmit_bytes(index, bytes);
        self.hold_to_bound(to);
    }

    /// Holds a connection to the bound of its outbox.
    fn hold_to_bound(&mut self, token: Token) {
        let limit = outbox_limit(&self.context, &self.config, &self.handle);
        if let Some(index) = self.find(token) {
            if self.conns[index as usize].too_slow(1, limit) {
                self.relieve(index);
            }
        }
    }
}
