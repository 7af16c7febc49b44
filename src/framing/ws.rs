//! WebSocket frames that clients send (RFC 6455). They are read from a shard's scratch buffer, and whole frames are
//! read in place.
//!
//! A connection owns [`Partial`] state on the heap only while a frame or message is incomplete. Text is checked as it
//! arrives: a bad byte is answered at once and not after the last fragment. A compressed message is kept as it comes.
//! It is inflated and checked when all of it is there.

use super::close::Close;
use super::inflate::Inflater;
use std::io::Cursor;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A message. Text has been checked to be UTF-8.
    Message {
        /// The payload.
        data: &'a [u8],
        /// Whether it came as binary.
        binary: bool,
    },
    /// A ping. The answer has the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close. The answer has the same code. Nothing after it is read.
    Close(Option<u16>),
}

/// The rules for reading a connection's frames.
#[derive(Debug)]
pub struct Rules<'r> {
    /// The size of the largest message, after inflation.
    pub max_message: usize,
    /// Inflates compressed messages, if the client agreed to compression.
    pub inflater: Option<&'r mut Inflater>,
}

/// The longest header of a masked frame.
const MAX_HEADER: usize = 14;

/// The state that a connection keeps between two reads.
#[derive(Debug, Default)]
pub struct Partial {
    /// The beginning of an incomplete header.
    header: Vec<u8>,
    /// The frame with an incomplete payload.
    frame: Option<Frame>,
    /// The message with missing fragments.
    message: Option<Fragments>,
    /// The incomplete payload of a control frame.
    control: Vec<u8>,
    /// When the incomplete message or frame began. The owner has a clock and notes the time here. It is forgotten as
    /// soon as nothing is incomplete.
    pub(crate) since: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: FrameKind,
    last: bool,
    /// Whether it begins a compressed message.
    deflated: bool,
    mask: [u8; 4],
    /// The bytes of payload that are still to come.
    rest: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Data,
    Ping,
    Pong,
    Close,
}

#[derive(Debug)]
struct Fragments {
    bytes: Vec<u8>,
    binary: bool,
    deflated: bool,
    /// The length of the text that is known to be UTF-8. The bytes after it are an incomplete character.
    checked: usize,
}

/// Reads frames from `bytes`, which are all the bytes that came, and calls `sink` for each message and control frame.
/// `partial` is filled when a frame or message is incomplete, and emptied when none is. An error is the close to send;
/// nothing after it is read.
pub fn read(
    partial: &mut Option<Box<Partial>>,
    mut bytes: &mut [u8],
    mut rules: Rules<'_>,
    sink: &mut dyn FnMut(Received<'_>),
) -> Result<(), Close> {
    if partial.is_none() {
        bytes = whole_frames(bytes, &mut rules, sink)?;
        if bytes.is_empty() {
            return Ok(());
        }
    }
    let state = partial.get_or_insert_default();
    while !bytes.is_empty() {
        bytes = state.advance(bytes, &mut rules, sink)?;
        if state.is_empty() {
            state.since = None;
        }
    }
    if state.is_empty() {
        *partial = None;
    }
    Ok(())
}

/// The fast path: whole control frames, and whole messages in one frame. Stops before the first frame of another kind.
fn whole_frames<'b>(
    mut bytes: &'b mut [u8],
    rules: &mut Rules<'_>,
    sink: &mut dyn FnMut(Received<'_>),
) -> Result<&'b mut [u8], Close> {
    while let Some((header, len, size)) = parse(bytes)? {
        let frame = check(&header, len, None, rules)?;
        let end = size as u64 + len;
        if !frame.last || end > bytes.len() as u64 {
            break;
        }
        let (this, rest) = bytes.split_at_mut(end as usize);
        let payload = &mut this[size..];
        unmask(payload, frame.mask);
        match frame.kind {
            FrameKind::Data => {
                let binary = matches!(header.opcode, OpCode::Data(Data::Binary));
                let data = if frame.deflated { rules.inflate(payload)? } else { &*payload };
                if !binary && std::str::from_utf8(data).is_err() {
                    return Err(Close::NOT_UTF8);
                }
                sink(Received::Message { data, binary });
            }
            kind => control(kind, payload, sink)?,
        }
        bytes = rest;
        if frame.kind == FrameKind::Close {
            return Ok(&mut []);
        }
    }
    Ok(bytes)
}

impl Rules<'_> {
    fn inflate(&mut self, deflated: &[u8]) -> Result<&[u8], Close> {
        // `check` refuses compressed frames if there is no inflater, so there is one here.
        self.inflater.as_mut().ok_or(Close::PROTOCOL)?.message(deflated, self.max_message)
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.header.is_empty() && self.frame.is_none() && self.message.is_none()
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| message.bytes.capacity());
        size_of::<Self>() + self.header.capacity() + self.control.capacity() + message
    }

    /// Reads a header, or the part of a payload that is there. Returns the rest of the bytes.
    fn advance<'b>(
        &mut self,
        bytes: &'b mut [u8],
        rules: &mut Rules<'_>,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> Result<&'b mut [u8], Close> {
        if self.frame.is_none() {
            let rest = self.begin(bytes, rules)?;
            // A frame without payload is whole already.
            let whole = self.frame.is_some_and(|frame| frame.rest == 0);
            return if whole { self.payload(rest, rules, sink) } else { Ok(rest) };
        }
        self.payload(bytes, rules, sink)
    }

    /// Reads a header, from the bytes that were kept of it and from `bytes`.
    fn begin<'b>(&mut self, bytes: &'b mut [u8], rules: &Rules<'_>) -> Result<&'b mut [u8], Close> {
        let kept = self.header.len();
        let take = bytes.len().min(MAX_HEADER - kept);
        self.header.extend_from_slice(&bytes[..take]);
        let Some((header, len, size)) = parse(&self.header)? else {
            return Ok(&mut bytes[take..]);
        };
        self.header.clear();
        let frame = check(&header, len, self.message.as_ref(), rules)?;
        if frame.kind == FrameKind::Data && self.message.is_none() {
            let binary = matches!(header.opcode, OpCode::Data(Data::Binary));
            self.message = Some(Fragments { bytes: Vec::new(), binary, deflated: frame.deflated, checked: 0 });
        }
        self.frame = Some(frame);
        Ok(&mut bytes[size - kept..])
    }

    /// Takes the part of the frame's payload that is there. Ends the frame, and the message, if the part completes it.
    fn payload<'b>(
        &mut self,
        bytes: &'b mut [u8],
        rules: &mut Rules<'_>,
        sink: &mut dyn FnMut(Received<'_>),
    ) -> Result<&'b mut [u8], Close> {
        let Some(frame) = self.frame.as_mut() else { return Ok(bytes) };
        let take = frame.rest.min(bytes.len() as u64) as usize;
        let (part, rest) = bytes.split_at_mut(take);
        unmask(part, frame.mask);
        // The next part begins at the byte of the mask where this part ends.
        frame.mask.rotate_left(take % 4);
        frame.rest -= take as u64;
        let (kind, ended, last) = (frame.kind, frame.rest == 0, frame.last);
        if ended {
            self.frame = None;
        }
        if kind == FrameKind::Data {
            let whole = ended && last;
            if let Some(message) = self.message.as_mut() {
                message.append(part, whole)?;
            }
            if let Some(message) = self.message.take_if(|_| whole) {
                let binary = message.binary;
                let data = if message.deflated { rules.inflate(&message.bytes)? } else { &*message.bytes };
                if message.deflated && !binary && std::str::from_utf8(data).is_err() {
                    return Err(Close::NOT_UTF8);
                }
                sink(Received::Message { data, binary });
            }
            return Ok(rest);
        }
        self.control.extend_from_slice(part);
        if ended {
            let payload = std::mem::take(&mut self.control);
            control(kind, &payload, sink)?;
            if kind == FrameKind::Close {
                return Ok(&mut []);
            }
        }
        Ok(rest)
    }
}

impl Fragments {
    fn append(&mut self, part: &[u8], whole: bool) -> Result<(), Close> {
        self.bytes.extend_from_slice(part);
        if self.binary || self.deflated {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            // An incomplete character at the end may still be completed.
            Err(error) if error.error_len().is_none() && !whole => self.checked += error.valid_up_to(),
            Err(_) => return Err(Close::NOT_UTF8),
        }
        Ok(())
    }
}

/// A header with the payload's length and its own size, or `None` while the header is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, Close> {
    let mut cursor = Cursor::new(bytes);
    match FrameHeader::parse(&mut cursor) {
        Ok(Some((header, len))) => Ok(Some((header, len, cursor.position() as usize))),
        Ok(None) => Ok(None),
        Err(_) => Err(Close::PROTOCOL),
    }
}

/// Checks a header against RFC 6455, sections 5.1 to 5.5, RFC 7692, section 6, and the bound of the message. `open` has
/// the fragments of the message that came before this frame.
fn check(header: &FrameHeader, len: u64, open: Option<&Fragments>, rules: &Rules<'_>) -> Result<Frame, Close> {
    let mask = header.mask.ok_or(Close::PROTOCOL)?;
    let first = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
    if (header.rsv1 && !(first && rules.inflater.is_some())) || header.rsv2 || header.rsv3 {
        return Err(Close::PROTOCOL);
    }
    let kind = match header.opcode {
        OpCode::Data(Data::Text | Data::Binary) if open.is_none() => FrameKind::Data,
        OpCode::Data(Data::Continue) if open.is_some() => FrameKind::Data,
        OpCode::Control(Control::Ping) => FrameKind::Ping,
        OpCode::Control(Control::Pong) => FrameKind::Pong,
        OpCode::Control(Control::Close) => FrameKind::Close,
        _ => return Err(Close::PROTOCOL),
    };
    if kind == FrameKind::Data {
        let (collected, deflated) = open.map_or((0, header.rsv1), |open| (open.bytes.len(), open.deflated));
        let most = if deflated { Inflater::most(rules.max_message) } else { rules.max_message };
        if len > most.saturating_sub(collected) as u64 {
            return Err(Close::TOO_LARGE);
        }
    } else if len > 125 || !header.is_final {
        return Err(Close::PROTOCOL);
    }
    Ok(Frame { kind, last: header.is_final, deflated: header.rsv1, mask, rest: len })
}

fn control(kind: FrameKind, payload: &[u8], sink: &mut dyn FnMut(Received<'_>)) -> Result<(), Close> {
    match kind {
        FrameKind::Ping => sink(Received::Ping(payload)),
        FrameKind::Pong => sink(Received::Pong),
        FrameKind::Close => sink(Received::Close(close_code(payload)?)),
        FrameKind::Data => {}
    }
    Ok(())
}

/// The code of a close frame's payload (RFC 6455, section 5.5.1).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Close> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Close::PROTOCOL) };
    };
    let code = u16::from_be_bytes(*code);
    if !Close::allowed_on_wire(code) {
        return Err(Close::PROTOCOL);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Close::NOT_UTF8);
    }
    Ok(Some(code))
}

/// Removes a mask, eight bytes at a time (RFC 6455, section 5.3).
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
#[path = "ws_tests.rs"]
mod tests;
