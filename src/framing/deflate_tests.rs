use super::*;
use crate::dialect::{Compression, Dialect, Encoder, Format};
use crate::framing::inflate::Inflater;
use crate::framing::ws_frames;
use crate::framing::Transport;
use crate::fuzzing::random::Random;
use crate::hub::{Epoch, Message, Publication};

fn noise(len: usize) -> Vec<u8> {
    Random(1).bytes(len)
}

fn text(len: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!(r#"{{"id":{n},"price":{}}}"#, n * 7919 % 1000).into_bytes()).take(len).collect()
}

fn message(data: &[u8], binary: bool) -> std::sync::Arc<Message> {
    let header = ws_frames::Header::data(binary, data.len());
    Message::new(&Publication::new("c", data), binary, header.as_bytes())
}

/// The payload of a server's frame, inflated if it is compressed.
fn read(frame: &[u8]) -> (u8, Vec<u8>) {
    let (len, size) = match frame[1] {
        126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize, 10),
        len => (usize::from(len), 2),
    };
    let payload = &frame[size..];
    assert_eq!(payload.len(), len);
    match frame[0] & 0x40 {
        0 => (frame[0], payload.to_vec()),
        _ => (frame[0], Inflater::default().message(payload, 64 << 20).unwrap().to_vec()),
    }
}

#[test]
#[cfg_attr(miri, ignore = "megabytes")]
fn each_message_inflates_without_the_one_before_it() {
    let deflater = Deflater::default();
    let mut inflater = Inflater::default();
    for len in [0, 1, 2, 3, 50, 127, 128, 129, 1000, 31 << 10, 32 << 10, 33 << 10, 65_535, 65_536, 100_000, 300_000] {
        // The same text twice: with a context, the second would refer to the first.
        for payload in [text(len), text(len), noise(len), vec![b'a'; len], noise(len)] {
            let deflated = deflater.deflate(&payload, <[u8]>::to_vec).expect("there is room for it");
            assert!(deflated.len() <= len + len / 1000 + 16, "{len} bytes became {}", deflated.len());
            assert_eq!(inflater.message(&deflated, len), Ok(&payload[..]), "{len} bytes");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "megabytes")]
fn a_frame_is_compressed_if_that_makes_it_smaller() {
    let encoder = Encoder::new(Epoch::from_random(1));
    for (payload, binary, first) in [
        (text(1000), false, 0xc1),
        (text(1000), true, 0xc2),
        (text(SHORT), false, 0xc1),
        (text(SHORT - 1), false, 0x81),
        (noise(1000), true, 0x82),
        (text(LONG), false, 0xc1),
        (text(LONG + 1), false, 0x81),
        (vec![0; 70_000], true, 0xc2),
        (Vec::new(), false, 0x81),
    ] {
        let message = message(&payload, binary);
        let frame =
            Format::new(Transport::WebSocket, Dialect::Raw, Compression::Deflate).encode(&message, &encoder, false);
        assert_eq!(read(frame), (first, payload.clone()), "{} bytes", payload.len());
        let plain =
            Format::new(Transport::WebSocket, Dialect::Raw, Compression::None).encode(&message, &encoder, false);
        assert_eq!(plain, message.prefixed());
        assert_eq!(frame.len() < plain.len(), first & 0x40 != 0);
    }
}

#[test]
#[cfg_attr(miri, ignore = "megabytes")]
fn the_json_form_is_compressed_if_that_makes_it_smaller() {
    let encoder = Encoder::new(Epoch::from_random(1));
    for (payload, first) in [(text(1000), 0xc1), (text(20), 0x81), (text(LONG + 1), 0x81)] {
        let message = message(&payload, false);
        let (_, plain) =
            read(Format::new(Transport::WebSocket, Dialect::Push, Compression::None).encode(&message, &encoder, false));
        assert_eq!(
            read(
                Format::new(Transport::WebSocket, Dialect::Push, Compression::Deflate)
                    .encode(&message, &encoder, false)
            ),
            (first, plain)
        );
    }
}

#[test]
fn a_message_is_compressed_once() {
    let encoder = Encoder::new(Epoch::from_random(1));
    for payload in [text(1000), noise(1000)] {
        let message = message(&payload, true);
        for format in [
            Format::new(Transport::WebSocket, Dialect::Raw, Compression::Deflate),
            Format::new(Transport::WebSocket, Dialect::Push, Compression::Deflate),
        ] {
            let first = format.encode(&message, &encoder, false).as_ptr();
            assert_eq!(format.encode(&message, &encoder, false).as_ptr(), first);
        }
    }
    assert_eq!(encoder.deflater().idle().len(), 1, "one compressor did all of it");
}
