//! Frames and events: the reader must get what was written, however the bytes were cut on the way.

use super::Source;
use crate::attach::wire::{first_frame, framed_len, FromHost, FromHub};
use crate::dialect::{Compression, Dialect, Encoder, Format};
use crate::framing::close::Close;
use crate::framing::deflate::Deflater;
use crate::framing::event_source;
use crate::framing::inflate::Inflater;
use crate::framing::masked;
use crate::framing::ws::{self, Received, Rules};
use crate::framing::Transport;
use crate::hub::{Epoch, Message, Publication};

/// A WebSocket client's bytes. If the first byte is even, the rest is any bytes, and reading them at once or in pieces
/// must give the same result. If it is odd, the rest makes messages in valid frames, and the reader must return these
/// messages. The second bit of the first byte says whether compression was agreed to.
pub(super) fn websocket(data: &[u8]) {
    let mut source = Source(data);
    let kind = source.byte();
    let deflate = kind & 2 != 0;
    let piece = 1 + source.below(64);
    let max = 1 + 16 * source.below(64);
    if kind % 2 == 0 {
        let whole = read(source.0, source.0.len().max(1), max, deflate);
        assert_eq!(read(source.0, piece, max, deflate), whole, "pieces of {piece}");
        return;
    }
    let (mut wire, mut expected) = (Vec::new(), Vec::new());
    let deflater = deflate.then(Deflater::default);
    while !source.is_empty() && expected.len() < 100 {
        write_message(&mut source, deflater.as_ref(), &mut wire, &mut expected);
    }
    assert_eq!(read(&wire, piece, 1 << 20, deflate), (expected, Ok(())), "pieces of {piece}");
}

fn read(bytes: &[u8], piece: usize, max_message: usize, deflate: bool) -> (Vec<String>, Result<(), Close>) {
    let (mut partial, mut seen, mut closed) = (None, Vec::new(), false);
    let mut inflater = deflate.then(Inflater::default);
    for piece in bytes.chunks(piece) {
        let mut piece = piece.to_vec();
        let rules = Rules { max_message, inflater: inflater.as_mut() };
        let result = ws::read(&mut partial, &mut piece, rules, &mut |received| {
            assert!(!closed, "something was read after the close");
            closed = matches!(received, Received::Close(_));
            if let Received::Message { data, binary } = &received {
                assert!(data.len() <= max_message && (*binary || std::str::from_utf8(data).is_ok()));
            }
            seen.push(format!("{received:?}"));
        });
        if result.is_err() || closed {
            return (seen, result);
        }
    }
    (seen, Ok(()))
}

/// Writes a message in fragments, with control frames between them. Some messages are compressed, if `deflater` is
/// there.
fn write_message(source: &mut Source<'_>, deflater: Option<&Deflater>, wire: &mut Vec<u8>, expected: &mut Vec<String>) {
    let (flags, len) =
        (source.byte(), usize::from(source.byte()) * if source.byte().is_multiple_of(8) { 300 } else { 1 });
    let mut payload = source.take(len).to_vec();
    let binary = flags & 1 == 1 || std::str::from_utf8(&payload).is_err();
    let fragments = 1 + source.below(4);
    let mut opcode = if binary { 2 } else { 1 };
    let shown = format!("{:?}", Received::Message { data: &payload, binary });
    if let Some(deflated) =
        deflater.filter(|_| flags & 2 != 0).and_then(|deflater| deflater.deflate(&payload, <[u8]>::to_vec))
    {
        payload = deflated;
        opcode |= 0x40;
    }
    for left in (0..fragments).rev() {
        let rest = payload.split_off(if left == 0 { payload.len() } else { source.below(256).min(payload.len()) });
        write_frame(source, u8::from(left == 0) << 7 | opcode, &payload, wire);
        payload = rest;
        opcode = 0;
        if left > 0 && source.byte().is_multiple_of(2) {
            let ping = source.take(7).to_vec();
            write_frame(source, 0x89, &ping, wire);
            expected.push(format!("{:?}", Received::Ping(&ping)));
        }
    }
    expected.push(shown);
}

fn write_frame(source: &mut Source<'_>, first: u8, payload: &[u8], wire: &mut Vec<u8>) {
    let mask = [source.byte(), source.byte(), source.byte(), source.byte()];
    wire.extend(masked::frame(first, payload, mask));
}

/// Encodes any payload as an event, and reads it by the rules of an EventSource. Also reads its JSON forms as JSON.
pub(super) fn sse(data: &[u8]) {
    let binary = data.first().is_some_and(|byte| byte % 2 == 1);
    let payload = data.get(1..).unwrap_or_default();
    let encoder = Encoder::new(Epoch::from_random(1));
    let epoch = encoder.epoch();
    let message = Message::new(&Publication::new("c", payload), binary, b"");
    let text = std::str::from_utf8(payload).ok().filter(|_| !binary);
    let event = event_source::only_event(
        Format::new(Transport::Sse, Dialect::Raw, Compression::None).encode(&message, &encoder, false),
    );
    assert_eq!(event.id, epoch.position(0));
    match text {
        // An EventSource puts LF between lines, whatever the line ends were.
        Some(text) => assert_eq!(event.data, text.replace("\r\n", "\n").replace('\r', "\n")),
        None => assert_eq!(event.data, base64(payload)),
    }
    let event = event_source::only_event(
        Format::new(Transport::Sse, Dialect::Push, Compression::None).encode(&message, &encoder, false),
    );
    let stream = Format::STREAM.encode(&message, &encoder, false);
    assert_eq!(stream.iter().filter(|byte| **byte == b'\n').count(), 1, "it is not one line");
    for json in [event.data.as_bytes(), stream] {
        let object: serde_json::Value = serde_json::from_slice(json).expect("JSON");
        assert_eq!(object["data"], text.map_or_else(|| base64(payload), str::to_owned));
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Checks that what is read of the frames of one side can be written, and is read again as the same.
macro_rules! read_again {
    ($side:ident, $data:expr) => {
        each_frame($data, |frame| {
            let Ok(read) = $side::read(frame) else { return };
            let mut written = Vec::new();
            read.write(&mut written);
            let again = $side::read(&written[4..]).expect("what was read can be written");
            assert_eq!(format!("{again:?}"), format!("{read:?}"));
        })
    };
}

/// A host's frames, as the hub reads them.
pub(super) fn from_host(data: &[u8]) {
    read_again!(FromHost, data);
}

/// A hub's frames, as a host reads them.
pub(super) fn from_hub(data: &[u8]) {
    read_again!(FromHub, data);
}

fn each_frame(data: &[u8], mut check: impl FnMut(&[u8])) {
    let mut rest = data;
    while let Ok(Some(frame)) = first_frame(rest, 1 << 16) {
        check(frame);
        rest = &rest[framed_len(frame)..];
    }
    // All the bytes as one frame, too: a fuzzer reaches more that way than by finding a valid length.
    check(data);
}
