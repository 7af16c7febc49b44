//! WebSocket clients: their frames, and the host's messages to one connection.

use crate::dialect::Compression;
use crate::events::{Event, EventKind};
use crate::framing::close::Close;
use crate::framing::ws::{self, Received, Rules};
use crate::framing::ws_frames;
use crate::framing::Transport;
use crate::log::Level;
use crate::shard::connection::conn::{Flags, Phase, Token};
use crate::shard::Shard;
use bytes::Bytes;

impl Shard {
    /// Bytes of frames.
    pub(in crate::shard) fn received_frames(&mut self, index: u32, bytes: &mut [u8]) {
        self.heard(index);
        let token = self.token(index);
        let max_message = self.config().max_client_message;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let mut partial = conn.received.partial.take();
        let mut inflater = (conn.format.compression() == Compression::Deflate)
            .then(|| self.reading.inflater.take().unwrap_or_default());
        let rules = Rules { max_message, inflater: inflater.as_mut() };
        let result = ws::read(&mut partial, bytes, rules, &mut |received| self.frame(token, received));
        if let Some(mut inflater) = inflater {
            inflater.trim();
            self.reading.inflater = Some(inflater);
        }
        let Some(index) = self.find(token) else { return };
        if let Some(partial) = &mut partial {
            partial.since.get_or_insert(self.turn.now);
        }
        let conn = &mut self.conns[index as usize];
        // It may have been closed meanwhile.
        conn.received.partial = partial.filter(|_| conn.phase == Phase::Open(Transport::WebSocket));
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
                if self.conns[index as usize].format.takes_requests() {
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
        self.tell(Event { data, binary, ..self.event(index, EventKind::Message) });
    }

    /// A close is answered with its code (RFC 6455, section 5.5.1).
    fn answer_close(&mut self, index: u32, code: Option<u16>) {
        // 1005 says "no code" and never stands in a frame (section 7.4.1).
        let noted = code.unwrap_or(1005);
        self.conns[index as usize].code = noted;
        let text = format_args!("a WebSocket ended with {noted}: its client closed it");
        self.log_about(index, Some(Transport::WebSocket), Level::Debug, "closed by the client", text);
        let code = code.unwrap_or(Close::NORMAL.code);
        self.last_bytes(index, ws_frames::close(&Close::new(code, "")).into());
    }

    /// Writes a host's message to one connection, in the connection's format.
    pub(in crate::shard) fn send_direct(&mut self, to: Token, data: &Bytes, binary: bool) {
        let Some(index) = self.find(to) else { return };
        let conn = &self.conns[index as usize];
        // It may have ended meanwhile, and a poll gets nothing but answers.
        if matches!(conn.transport(), None | Some(Transport::Poll)) {
            return;
        }
        let bytes = conn.format.direct(data, binary, conn.is(Flags::CHUNKS));
        self.transmit_bytes(index, bytes);
        self.hold_to_bound(to);
    }

    /// Holds a connection to the bound of its outbox.
    pub(in crate::shard) fn hold_to_bound(&mut self, token: Token) {
        let limit = self.outbox_limit();
        if let Some(index) = self.find(token) {
            if self.conns[index as usize].too_slow(1, limit) {
                self.apply_slow_policies(index);
            }
        }
    }
}
