//! Dialects: the meaning of requests and messages. A dialect does not know how its bytes lie on a connection. That is
//! the framing's part ([`crate::framing`]).
//!
//! A [`Format`] is one of each: transport, dialect and compression. A message is encoded once for each format, however
//! many subscribers there are, and keeps the bytes under the format's key.

pub mod members;
pub mod push;

use crate::framing::close::Close;
use crate::framing::deflate::{Deflater, SHORT};
use crate::framing::{chunk, sse, stream, ws_frames, Body, Content, Transport};
use crate::hub::{Epoch, Form, Message};
use push::json;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The meaning of the messages to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A message is its payload alone.
    Raw,
    /// push's own: everything is a JSON object. Over a WebSocket it is the subprotocol `push.v1.json`, in which clients
    /// can ask for things.
    Push,
}

/// The compression of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// permessage-deflate, for messages that it makes smaller. The client may then compress its own messages as well.
    Deflate,
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Dialect; 2] = [Dialect::Raw, Dialect::Push];

    /// The bytes that stand for a message.
    fn body<'m>(self, message: &'m Message, epoch: &'m Epoch) -> Body<'m> {
        let (data, content) = match self {
            Self::Raw if message.binary() => (Cow::Borrowed(message.data()), Content::BinaryPayload),
            Self::Raw => (Cow::Borrowed(message.data()), Content::TextPayload),
            Self::Push => (Cow::Owned(json::message(message, epoch)), Content::Text),
        };
        Body { data, content, event: message.event(), position: (epoch, message.seq()) }
    }
}

/// How a subscriber gets its messages: transport, dialect and compression, in one byte, since each connection has one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format(u8);

/// The bits of a [`Format`] beside the transport's.
const PUSH: u8 = 1 << 2;
const DEFLATE: u8 = 1 << 3;

impl Format {
    /// The answer to a poll.
    pub const POLL: Format = Format::new(Transport::Poll, Dialect::Push, Compression::None);

    /// A line of a stream.
    pub const STREAM: Format = Format::new(Transport::Stream, Dialect::Push, Compression::None);

    /// One of each.
    pub const fn new(transport: Transport, dialect: Dialect, compression: Compression) -> Self {
        let dialect = match dialect {
            Dialect::Raw => 0,
            Dialect::Push => PUSH,
        };
        let compression = match compression {
            Compression::None => 0,
            Compression::Deflate => DEFLATE,
        };
        Format(transport as u8 | dialect | compression)
    }

    /// All formats that subscribers can have.
    pub fn all() -> Vec<Format> {
        let mut all = Vec::new();
        for transport in Transport::ALL {
            for dialect in Dialect::ALL {
                for compression in [Compression::None, Compression::Deflate] {
                    all.push(Format::new(transport, dialect, compression));
                }
            }
        }
        all.retain(|format| format.exists());
        all
    }

    fn exists(self) -> bool {
        match self.transport() {
            Transport::WebSocket => true,
            Transport::Sse => self.compression() == Compression::None,
            Transport::Stream | Transport::Poll => {
                self == Format::new(self.transport(), Dialect::Push, Compression::None)
            }
        }
    }

    /// Its transport.
    pub const fn transport(self) -> Transport {
        match self.0 & 3 {
            0 => Transport::WebSocket,
            1 => Transport::Sse,
            2 => Transport::Stream,
            _ => Transport::Poll,
        }
    }

    /// Its dialect.
    pub const fn dialect(self) -> Dialect {
        if self.0 & PUSH == 0 {
            Dialect::Raw
        } else {
            Dialect::Push
        }
    }

    /// Its compression.
    pub const fn compression(self) -> Compression {
        if self.0 & DEFLATE == 0 {
            Compression::None
        } else {
            Compression::Deflate
        }
    }

    /// Whether the client can ask for things while it is connected, and understands the answers.
    pub fn takes_requests(self) -> bool {
        self.transport() == Transport::WebSocket && self.dialect() == Dialect::Push
    }

    /// Whether there is a place to announce gaps. An SSE event has a name, so a gap can stand between raw payloads.
    pub fn tells_gaps(self) -> bool {
        self.transport() != Transport::WebSocket || self.dialect() != Dialect::Raw
    }

    /// A message's bytes in this format. With `framed`, those of chunked transports include the chunk's framing.
    pub fn encode<'m>(self, message: &'m Message, encoder: &Encoder, framed: bool) -> &'m [u8] {
        if self.compression() == Compression::Deflate {
            return self.compressed(message, encoder);
        }
        if self == Format::new(Transport::WebSocket, Dialect::Raw, Compression::None) {
            return message.prefixed();
        }
        let encode = |message: &Message| match message.mark() {
            None => self.transport().message(self.dialect().body(message, &encoder.epoch)),
            Some(mark) => {
                let (position, object) =
                    (encoder.epoch.position(message.seq()), json::message(message, &encoder.epoch));
                self.transport().object(Some(mark.event()), message.has_position().then_some(&position), &object)
            }
        };
        let form = message.form(self.0, encode);
        if framed {
            form.framed_bytes()
        } else {
            form.inner_bytes()
        }
    }

    /// Whether there is a place to tell a position without a message. The head of a poll's answer has it in any case.
    pub fn tells_positions(self) -> bool {
        self.transport() != Transport::Poll && self.tells_gaps()
    }

    /// The bytes that tell a subscriber the position of a message that leaves it out. Empty where there is no place for
    /// it.
    pub fn position(self, channel: Option<&str>, position: &str, framed: bool) -> Vec<u8> {
        if !self.tells_positions() {
            return Vec::new();
        }
        let object = json::position(channel, position);
        bytes(&self.transport().object(Some("push-position"), Some(position), &object), framed)
    }

    /// A compressed frame, or the plain one if compression does not make it smaller.
    fn compressed<'m>(self, message: &'m Message, encoder: &Encoder) -> &'m [u8] {
        let deflate = |message: &Message| {
            let body = self.dialect().body(message, &encoder.epoch);
            encoder.deflater.frame(body.content == Content::BinaryPayload, &body.data)
        };
        if message.data().len() >= SHORT {
            let deflated = message.form(self.0, deflate).inner_bytes();
            if !deflated.is_empty() {
                return deflated;
            }
        }
        Format(self.0 & !DEFLATE).encode(message, encoder, false)
    }

    /// The bytes that announce a gap: all messages of `channel` up to a position that the subscriber has not seen are
    /// lost. Empty for a format that can't announce gaps.
    pub fn gap(self, channel: Option<&str>, position: &str, framed: bool) -> Vec<u8> {
        if !self.tells_gaps() {
            return Vec::new();
        }
        let object = json::gap(channel, position);
        bytes(&self.transport().object(Some("push-gap"), Some(position).filter(|id| !id.is_empty()), &object), framed)
    }

    /// The bytes that tell who is on a channel: an object, and the name of the event that carries it. It has no position,
    /// since it is no part of the history. Empty where there is no place for it, and for polls, whose answers have the
    /// objects themselves.
    pub(crate) fn presence(self, event: &str, object: &[u8], framed: bool) -> Vec<u8> {
        match self.transport() {
            Transport::Poll => Vec::new(),
            Transport::WebSocket if self.dialect() == Dialect::Raw => Vec::new(),
            transport => bytes(&transport.object(Some(event), None, object), framed),
        }
    }

    /// A host's message to this subscriber alone.
    pub fn direct(self, data: &[u8], binary: bool, framed: bool) -> Vec<u8> {
        match (self.transport(), self.dialect()) {
            (Transport::WebSocket, Dialect::Raw) => ws_frames::data(binary, data),
            (Transport::Sse, Dialect::Raw) if !binary => bytes(&sse::event(None, None, data), framed),
            (transport, _) => bytes(&transport.object(None, None, &json::direct(data, binary)), framed),
        }
    }

    /// The last bytes of a connection.
    pub fn goodbye(self, close: &Close, framed: bool) -> Vec<u8> {
        let form = match self.transport() {
            Transport::WebSocket => return ws_frames::close(close),
            Transport::Poll => return Vec::new(),
            Transport::Sse => push::close_event(close),
            Transport::Stream => stream::line(&json::close(close)),
        };
        match framed {
            true => [form.framed_bytes(), chunk::END].concat(),
            false => form.inner_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}/{:?}", self.transport(), self.dialect(), self.compression())
    }
}

fn bytes(form: &Form, framed: bool) -> Vec<u8> {
    if framed { form.framed_bytes() } else { form.inner_bytes() }.to_vec()
}

/// Encodes messages: it has the epoch of their positions, and compressors.
#[derive(Debug)]
pub struct Encoder {
    epoch: Epoch,
    deflater: Arc<Deflater>,
}

impl Encoder {
    /// An encoder for the messages of this epoch.
    pub fn new(epoch: Epoch) -> Self {
        Encoder { epoch, deflater: Arc::default() }
    }

    /// An encoder for another epoch, with the same compressors.
    pub(crate) fn of_epoch(&self, epoch: Epoch) -> Self {
        Encoder { epoch, deflater: self.deflater.clone() }
    }

    /// The epoch.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The compressors.
    pub fn deflater(&self) -> &Deflater {
        &self.deflater
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_a_byte_and_gives_back_what_it_is_of() {
        assert_eq!(size_of::<Format>(), 1);
        for transport in Transport::ALL {
            for dialect in Dialect::ALL {
                for compression in [Compression::None, Compression::Deflate] {
                    let format = Format::new(transport, dialect, compression);
                    assert_eq!(
                        (format.transport(), format.dialect(), format.compression()),
                        (transport, dialect, compression)
                    );
                }
            }
        }
        assert_eq!(Format::all().len(), 8);
    }

    #[test]
    fn each_format_tells_of_presence_where_it_has_a_place_for_it() {
        let event = b"event: push-join\ndata: {}\n\n";
        for format in Format::all() {
            let told = format.presence("push-join", b"{}", false);
            match (format.transport(), format.dialect()) {
                (Transport::WebSocket, Dialect::Push) => assert_eq!(told, [0x81, 2, b'{', b'}']),
                // In the raw form, too: a page that does not listen for it does not see it.
                (Transport::Sse, _) => assert_eq!(told, event),
                (Transport::Stream, _) => assert_eq!(told, b"{}\n"),
                (Transport::WebSocket | Transport::Poll, _) => assert!(told.is_empty()),
            }
        }
        assert_eq!(Format::STREAM.presence("push-join", b"{}", true), b"3\r\n{}\n\r\n");
    }
}
