//! permessage-deflate: a client's offers, its compressed messages, and the frames that it gets.

use super::Source;
use crate::dialect::{Compression, Dialect, Encoder, Format};
use crate::framing::close::Close;
use crate::framing::deflate::Deflater;
use crate::framing::inflate::Inflater;
use crate::framing::ws_frames::Header;
use crate::framing::Transport;
use crate::http::extensions;
use crate::hub::{Epoch, Message, Publication};
use miniz_oxide::inflate::core::{decompress, inflate_flags, DecompressorOxide};
use miniz_oxide::inflate::TINFLStatus;

/// A line of `Sec-WebSocket-Extensions`. The result is compared with that of a reader that first splits the line at its
/// separators.
pub(super) fn extensions(line: &[u8]) {
    let offers = split(line, b',').map(|parts| parts.into_iter().map(|part| offer(&part)));
    // The offers after the first good one are not read, so only the offers up to that one have to be well-formed.
    let answer = extensions::accept(line);
    let Some(mut offers) = offers else { return };
    let expected = offers.find_map(|offer| match offer {
        Ok(None) => None,
        Ok(Some(window)) => Some(Some(window)),
        Err(Malformed) => Some(None),
    });
    let expected = expected.flatten();
    assert_eq!(answer.map(|answer| answer.contains("server_max_window_bits=15")), expected, "{answer:?}");
}

struct Malformed;

/// The parts between separators that are not in quotes. `None`: a quote is left open.
fn split(text: &[u8], separator: u8) -> Option<Vec<Vec<u8>>> {
    let (mut parts, mut quoted, mut escaped) = (vec![Vec::new()], false, false);
    for &byte in text {
        if byte == separator && !quoted {
            parts.push(Vec::new());
            continue;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        parts.last_mut()?.push(byte);
    }
    (!quoted).then_some(parts)
}

/// Whether an offer that can be accepted names our window size. `None`: the offer can't be accepted, or is empty.
fn offer(text: &[u8]) -> Result<Option<bool>, Malformed> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    let parts = split(text, b';').ok_or(Malformed)?;
    let (name, parameters) = parts.split_first().ok_or(Malformed)?;
    let mut good = token(name)? == b"permessage-deflate";
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for parameter in parameters {
        let mut halves = parameter.splitn(2, |byte| *byte == b'=');
        let name = token(halves.next().unwrap_or_default())?;
        let value = halves.next().map(value).transpose()?;
        let number = value.as_deref().and_then(|value| std::str::from_utf8(value).ok()?.parse::<u8>().ok());
        let plain = number.is_none_or(|number| value.as_deref() == Some(number.to_string().as_bytes()));
        good &= !seen.contains(&name);
        good &= match &name[..] {
            b"server_no_context_takeover" | b"client_no_context_takeover" => value.is_none(),
            b"server_max_window_bits" => number == Some(15) && plain,
            b"client_max_window_bits" => value.is_none() || (number.is_some_and(|n| (8..=15).contains(&n)) && plain),
            _ => false,
        };
        seen.push(name);
    }
    Ok(good.then(|| seen.iter().any(|name| name == b"server_max_window_bits")))
}

fn token(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let text = text.trim_ascii();
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if text.is_empty() || !text.iter().all(good) {
        return Err(Malformed);
    }
    Ok(text.to_vec())
}

/// A parameter's value: a token, which may be in quotes.
fn value(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let text = text.trim_ascii();
    let Some(inner) = text.strip_prefix(b"\"") else { return token(text) };
    let mut bytes = inner.strip_suffix(b"\"").ok_or(Malformed)?.iter().copied();
    let mut value = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => value.push(bytes.next().ok_or(Malformed)?),
            b'"' => return Err(Malformed),
            byte => value.push(byte),
        }
    }
    let whole = token(&value)?;
    if whole.len() < value.len() {
        return Err(Malformed);
    }
    Ok(whole)
}

/// The first byte chooses one of three tests: any bytes as a compressed message, compared with a plain run of the
/// decoder; a payload that is published, and read from its frames; or parts that are compressed one by one and make one
/// message together.
pub(super) fn deflate(data: &[u8]) {
    let mut source = Source(data);
    match source.below(3) {
        0 => any_bytes(&mut source),
        1 => published(&mut source),
        _ => in_parts(&mut source),
    }
}

fn any_bytes(source: &mut Source<'_>) {
    let max = source.below(256) * source.below(256);
    let mut inflater = Inflater::default();
    let first = inflater.message(source.0, max).map(<[u8]>::to_vec);
    if let Ok(message) = &first {
        assert!(message.len() <= max);
        assert_eq!(plainly(source.0).as_ref(), Some(message));
    }
    if first == Err(Close::TOO_LARGE) {
        assert!(plainly(source.0).is_none_or(|message| message.len() > max), "the message fits into {max} bytes");
    }
    assert_eq!(inflater.message(source.0, max).map(<[u8]>::to_vec), first, "the message before it makes a difference");
}

/// Inflates with enough room for the largest result, without stopping between blocks. `None`: corrupt, or far too
/// large.
fn plainly(deflated: &[u8]) -> Option<Vec<u8>> {
    let whole = [deflated, &[0, 0, 0xff, 0xff]].concat();
    let mut out = vec![0; 1 << 17];
    let (mut state, mut read, mut len) = (Box::<DecompressorOxide>::default(), 0, 0);
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
    loop {
        let (status, taken, written) = decompress(&mut state, &whole[read..], &mut out, len, flags);
        (read, len) = (read + taken, len + written);
        match status {
            TINFLStatus::Done if read < deflated.len() => state.init(),
            TINFLStatus::NeedsMoreInput | TINFLStatus::Done => return Some(out[..len].to_vec()),
            _ => return None,
        }
    }
}

fn published(source: &mut Source<'_>) {
    let (binary, times) = (source.below(2) == 1, 1 + source.below(64));
    let payload = source.0.repeat(times);
    let binary = binary || std::str::from_utf8(&payload).is_err();
    let encoder = Encoder::new(Epoch::from_random(1));
    // The same message twice: with a context, the second would refer to the first.
    for _ in 0..2 {
        let header = Header::data(binary, payload.len());
        let message = Message::new(&Publication::new("c", &payload), binary, header.as_bytes());
        for (plain, deflated) in [
            (
                Format::new(Transport::WebSocket, Dialect::Raw, Compression::None),
                Format::new(Transport::WebSocket, Dialect::Raw, Compression::Deflate),
            ),
            (
                Format::new(Transport::WebSocket, Dialect::Push, Compression::None),
                Format::new(Transport::WebSocket, Dialect::Push, Compression::Deflate),
            ),
        ] {
            let (plain, deflated) =
                (plain.encode(&message, &encoder, false), deflated.encode(&message, &encoder, false));
            assert!(deflated.len() <= plain.len());
            assert_eq!(unframed(deflated), unframed(plain));
        }
    }
}

/// Opcode and payload of a frame that the library wrote.
fn unframed(frame: &[u8]) -> (u8, Vec<u8>) {
    let size = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let payload = match frame[0] & 0x40 {
        0 => frame[size..].to_vec(),
        _ => Inflater::default().message(&frame[size..], 1 << 21).expect("a message that was compressed here").to_vec(),
    };
    (frame[0] & !0x40, payload)
}

fn in_parts(source: &mut Source<'_>) {
    let deflater = Deflater::default();
    let (mut deflated, mut message) = (Vec::new(), Vec::new());
    // Each part has a block or two, and the number of blocks in a message is bounded.
    for _ in 0..30 {
        if source.is_empty() {
            break;
        }
        let (kind, times, len) = (source.below(3), 1 + source.below(32), source.below(256));
        let part = source.take(len).repeat(times);
        match kind {
            // Flushed, with the end of the flush.
            0 => {
                deflated.extend(deflater.deflate(&part, <[u8]>::to_vec).expect("there is room"));
                deflated.extend([0, 0, 0xff, 0xff]);
            }
            // Stored. If `kind` is 1 the block says that it is the last one, though others follow.
            kind => {
                deflated.push(u8::from(kind == 1));
                deflated.extend((part.len() as u16).to_le_bytes());
                deflated.extend((!(part.len() as u16)).to_le_bytes());
                deflated.extend(&part);
            }
        }
        message.extend(part);
    }
    // The empty block at the end, without the bytes that senders leave out.
    deflated.push(0);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.message(&deflated, message.len()), Ok(&message[..]));
    if let Some(less) = message.len().checked_sub(1) {
        assert_eq!(inflater.message(&deflated, less), Err(Close::TOO_LARGE));
    }
}
