//! Transports: the encoding of messages on the wire, and the parsing of a client's bytes. This room knows no sockets
//! and no routing.
//!
//! A message is encoded once for each [`Format`], however many subscribers there are. The message keeps the bytes.

pub mod chunk;
pub mod close;
pub mod deflate;
#[cfg(any(test, fuzzing))]
pub(crate) mod event_source;
pub mod inflate;
pub mod json;
pub mod poll;
pub mod sse;
pub mod stream;
pub mod ws;
pub mod ws_frames;

use crate::hub::{Epoch, Form, Message, Publication};
use deflate::{Deflater, SHORT};
use std::sync::Arc;
use ws_frames::Header;

/// The way a subscriber wants its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket.
    WebSocket,
    /// Server-Sent Events.
    Sse,
    /// NDJSON stream.
    Stream,
    /// Long-poll.
    Poll,
}

impl Transport {
    /// Its name, as metrics and log lines have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Stream => "stream",
            Self::Poll => "poll",
        }
    }

    /// The words with which a log line names a connection of this transport.
    pub fn with_article(self) -> &'static str {
        match self {
            Self::WebSocket => "a WebSocket",
            Self::Sse => "an SSE connection",
            Self::Stream => "a stream",
            Self::Poll => "a poll",
        }
    }
}

/// A wire format: transport and form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A WebSocket frame with the payload only.
    WsRaw,
    /// The same, compressed if that makes it smaller: for clients that agreed to permessage-deflate.
    WsRawDeflate,
    /// A WebSocket text frame with the JSON form (subprotocol `push.v1.json`).
    WsJson,
    /// The same, compressed if that makes it smaller.
    WsJsonDeflate,
    /// An SSE event whose data is the payload.
    SseRaw,
    /// An SSE event whose data is the JSON form.
    SseJson,
    /// A line of JSON.
    Stream,
    /// The JSON form, as an element of a poll's answer.
    Poll,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 8] = [
        Format::WsRaw,
        Format::WsRawDeflate,
        Format::WsJson,
        Format::WsJsonDeflate,
        Format::SseRaw,
        Format::SseJson,
        Format::Stream,
        Format::Poll,
    ];

    /// Whether the HTTP body is sent in chunks, on HTTP/1.1.
    pub fn chunked(self) -> bool {
        matches!(self, Format::SseRaw | Format::SseJson | Format::Stream)
    }

    /// Whether the client speaks the subprotocol `push.v1.json`.
    pub fn is_push_v1(self) -> bool {
        matches!(self, Format::WsJson | Format::WsJsonDeflate)
    }

    /// Whether the client agreed to permessage-deflate. It may then compress its own messages as well.
    pub fn is_deflate(self) -> bool {
        matches!(self, Format::WsRawDeflate | Format::WsJsonDeflate)
    }

    /// Whether this format can announce gaps.
    pub fn tells_gaps(self) -> bool {
        !matches!(self, Format::WsRaw | Format::WsRawDeflate)
    }

    /// A message's bytes in this format. With `framed`, those of chunked formats include the chunk's framing.
    pub fn encode<'m>(self, message: &'m Message, encoder: &Encoder, framed: bool) -> &'m [u8] {
        let epoch = &encoder.epoch;
        let form = match self {
            Format::WsRaw => return message.prefixed(),
            Format::WsRawDeflate => return encoder.deflated_raw(message),
            Format::WsJsonDeflate => return encoder.deflated_json(message),
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

    /// The bytes that announce a gap: all messages of `channel` up to `seq` that the subscriber has not seen are lost.
    /// Empty for a format that can't announce gaps.
    pub fn gap(self, channel: Option<&str>, seq: u64, epoch: &Epoch, framed: bool) -> Vec<u8> {
        let object = json::gap(channel, seq, epoch);
        let form = match self {
            Format::WsRaw | Format::WsRawDeflate => return Vec::new(),
            Format::WsJson | Format::WsJsonDeflate => Form::plain(ws_frames::text(&object)),
            Format::SseRaw | Format::SseJson => sse::event(Some("push-gap"), Some(&epoch.position(seq)), &object),
            Format::Stream => stream::line(&object),
            Format::Poll => return object,
        };
        if framed { form.framed_bytes() } else { form.inner_bytes() }.to_vec()
    }
}

/// Encodes messages: it has the epoch of their positions, and compressors.
#[derive(Debug)]
pub struct Encoder {
    epoch: Epoch,
    deflater: Deflater,
}

impl Encoder {
    /// An encoder for the messages of this epoch.
    pub fn new(epoch: Epoch) -> Self {
        Encoder { epoch, deflater: Deflater::default() }
    }

    /// The epoch.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The compressors.
    pub fn deflater(&self) -> &Deflater {
        &self.deflater
    }

    /// A frame with the payload, compressed if that makes it smaller.
    fn deflated_raw<'m>(&self, message: &'m Message) -> &'m [u8] {
        let deflate = |message: &Message| self.deflater.frame(message.binary(), message.data());
        match message.data().len() {
            0..SHORT => message.prefixed(),
            _ => worth_it(message.form(5, deflate)).unwrap_or_else(|| message.prefixed()),
        }
    }

    /// A frame with the JSON form, compressed if that makes it smaller.
    fn deflated_json<'m>(&self, message: &'m Message) -> &'m [u8] {
        let deflate = |message: &Message| self.deflater.frame(false, &json::message(message, &self.epoch));
        let plain = || message.form(0, |message| ws_frames::json_form(message, &self.epoch)).inner_bytes();
        match message.data().len() {
            0..SHORT => plain(),
            _ => worth_it(message.form(6, deflate)).unwrap_or_else(plain),
        }
    }
}

/// A message with the header of a WebSocket frame before its payload, which saves the raw form a copy of its own.
pub(crate) fn message(publication: &Publication<'_>) -> Arc<Message> {
    let binary = publication.binary || std::str::from_utf8(publication.data).is_err();
    let header = Header::data(binary, publication.data.len());
    Message::new(publication, binary, header.as_bytes())
}

/// The compressed frame, or `None` if compression did not make it smaller: then the form is empty.
fn worth_it(deflated: &Form) -> Option<&[u8]> {
    Some(deflated.inner_bytes()).filter(|bytes| !bytes.is_empty())
}
