//! Framing: how bytes lie on a connection. WebSocket frames, Server-Sent Events, NDJSON lines and poll answers, the
//! chunks of HTTP bodies, and compression. This room knows no sockets, no routing and no meaning of messages.

pub mod chunk;
pub mod close;
pub(crate) mod date;
pub mod deflate;
#[cfg(any(test, fuzzing))]
pub(crate) mod event_source;
pub mod inflate;
#[cfg(any(test, fuzzing))]
pub(crate) mod masked;
pub mod poll;
pub mod sse;
pub mod stream;
pub mod ws;
pub mod ws_frames;

use crate::hub::{Epoch, Form, Message, Publication};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use std::borrow::Cow;
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

/// The bytes that stand for a message in some dialect, and the facts that a framing needs.
#[derive(Debug)]
pub struct Body<'m> {
    /// The bytes.
    pub data: Cow<'m, [u8]>,
    /// Whether they are text.
    pub content: Content,
    /// The message's event type.
    pub event: Option<&'m str>,
    /// The epoch and the number of its position.
    pub position: (&'m Epoch, u64),
}

/// Whether bytes are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Text, surely.
    Text,
    /// A payload that was published as text.
    TextPayload,
    /// A payload that is binary or was published as binary.
    BinaryPayload,
}

impl Transport {
    /// All transports.
    pub const ALL: [Transport; 4] = [Transport::WebSocket, Transport::Sse, Transport::Stream, Transport::Poll];

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

    /// Whether the HTTP body is sent in chunks, on HTTP/1.1.
    pub fn is_chunked(self) -> bool {
        matches!(self, Self::Sse | Self::Stream)
    }

    /// A message in this framing. A framing that carries only text has binary payloads in base64, without a mark.
    pub fn message(self, body: Body<'_>) -> Form {
        match self {
            Self::WebSocket => Form::plain(ws_frames::data(body.content == Content::BinaryPayload, &body.data)),
            Self::Sse => {
                let (epoch, seq) = body.position;
                let id = epoch.position(seq);
                sse::event(body.event, Some(&id), &body.text())
            }
            Self::Stream => stream::line(&body.text()),
            Self::Poll => Form::plain(body.data.into_owned()),
        }
    }

    /// An object of a dialect that is no message. SSE has a place for its name and for a position beside it.
    pub fn object(self, name: Option<&str>, position: Option<&str>, object: &[u8]) -> Form {
        match self {
            Self::WebSocket => Form::plain(ws_frames::text(object)),
            Self::Sse => sse::event(name, position, object),
            Self::Stream => stream::line(object),
            Self::Poll => Form::plain(object.to_vec()),
        }
    }

    /// The bytes that keep a connection alive.
    pub fn heartbeat(self, chunks: bool) -> &'static [u8] {
        match self {
            Self::WebSocket => ws_frames::PING,
            Self::Stream => stream::heartbeat(chunks),
            Self::Sse | Self::Poll => sse::heartbeat(chunks),
        }
    }
}

impl Body<'_> {
    fn text(&self) -> Cow<'_, [u8]> {
        let is_text = match self.content {
            Content::Text => true,
            Content::TextPayload => std::str::from_utf8(&self.data).is_ok(),
            Content::BinaryPayload => false,
        };
        match is_text {
            true => Cow::Borrowed(&self.data),
            false => Cow::Owned(STANDARD.encode(&self.data).into_bytes()),
        }
    }
}

/// A message with the header of a WebSocket frame before its payload, which saves the raw form a copy of its own.
pub(crate) fn message(publication: &Publication<'_>) -> Arc<Message> {
    let binary = publication.binary || std::str::from_utf8(publication.data).is_err();
    if publication.mark.is_some() {
        // Raw frames have no place for it.
        return Message::new(publication, false, b"");
    }
    let header = Header::data(binary, publication.data.len());
    Message::new(publication, binary, header.as_bytes())
}
