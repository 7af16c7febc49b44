//! Transports: how messages look on the wire, and how a client's bytes are read. No sockets, no routing.
//!
//! A message is encoded once for each [`Format`], whatever the number of subscribers; the bytes stay with the message.

pub mod chunk;
pub mod close;
#[cfg(any(test, fuzzing))]
pub(crate) mod event_source;
pub mod json;
pub mod poll;
pub mod sse;
pub mod stream;
pub mod ws;
pub mod ws_frames;

use crate::hub::{Epoch, Form, Message};

/// A wire format: transport and form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A WebSocket frame with the payload only.
    WsRaw,
    /// A WebSocket text frame with the JSON form (subprotocol `push.v1.json`).
    WsJson,
    /// An SSE event whose data is the payload.
    SseRaw,
    /// An SSE event whose data is the JSON form.
    SseJson,
    /// A line of JSON.
    Stream,
    /// The JSON form, to be put into a poll's answer.
    Poll,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 6] =
        [Format::WsRaw, Format::WsJson, Format::SseRaw, Format::SseJson, Format::Stream, Format::Poll];

    /// Whether the HTTP body is in chunks, on HTTP/1.1.
    pub fn chunked(self) -> bool {
        matches!(self, Format::SseRaw | Format::SseJson | Format::Stream)
    }

    /// A message's bytes in this format; for chunked formats with the chunk's framing, if `framed`.
    pub fn encode<'m>(self, message: &'m Message, epoch: &Epoch, framed: bool) -> &'m [u8] {
        let form = match self {
            Format::WsRaw => return message.prefixed(),
            Format::WsJson => message.form(0, |message| ws_frames::json_form(message, epoch)),
            Format::SseRaw => message.form(1, |message| sse::form(message, epoch, false)),
            Format::SseJson => message.form(2, |message| sse::form(message, epoch, true)),
            Format::Stream => message.form(3, |message| stream::form(message, epoch)),
            Format::Poll => message.form(4, |message| json::form(message, epoch)),
        };
        if framed {
            form.framed_bytes()
        } else {
            form.inner_bytes()
        }
    }

    /// A gap's bytes: everything of `channel` up to `seq` that the subscriber had not seen is gone. Empty for
    /// [`Format::WsRaw`], which has no place for it.
    pub fn gap(self, channel: Option<&str>, seq: u64, epoch: &Epoch, framed: bool) -> Vec<u8> {
        let object = json::gap(channel, seq, epoch);
        let form = match self {
            Format::WsRaw => return Vec::new(),
            Format::WsJson => Form::plain(ws_frames::text(&object)),
            Format::SseRaw | Format::SseJson => sse::event(Some("push-gap"), Some(&epoch.position(seq)), &object),
            Format::Stream => stream::line(&object),
            Format::Poll => return object,
        };
        if framed { form.framed_bytes() } else { form.inner_bytes() }.to_vec()
    }
}
