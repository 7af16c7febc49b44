use super::*;
use crate::framing::deflate::Deflater;
use crate::framing::masked;

/// A client's frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked::frame(first, payload, [1, 2, 3, 4])
}

/// What a reader has seen, its result, and whether no message is incomplete.
type Read = (Vec<String>, Result<(), Close>, bool);

/// What the reader reports if the bytes come in pieces of `step`.
fn received(bytes: &[u8], step: usize) -> Read {
    received_by(bytes, step, None)
}

/// The same from a client that agreed to compression.
fn received_deflated(bytes: &[u8], step: usize) -> Read {
    received_by(bytes, step, Some(Inflater::default()))
}

/// Checks that these bytes close the connection so, also if they come piece by piece.
fn each_closes(cases: Vec<(&str, Vec<u8>, Close)>, received: fn(&[u8], usize) -> Read) {
    for (what, bytes, close) in cases {
        for step in [1, 3, bytes.len()] {
            let (seen, result, _) = received(&bytes, step);
            assert_eq!((seen, result), (vec![], Err(close.clone())), "{what}, step {step}");
        }
    }
}

fn received_by(bytes: &[u8], step: usize, mut inflater: Option<Inflater>) -> Read {
    let mut partial = None;
    let mut seen = Vec::new();
    let mut result = Ok(());
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let rules = Rules { max_message: 100_000, inflater: inflater.as_mut() };
        result = read(&mut partial, &mut piece, rules, &mut |received| {
            seen.push(match received {
                Received::Message { data, binary: false } => format!("text {}", String::from_utf8_lossy(data)),
                Received::Message { data, .. } => format!("binary {}", data.len()),
                Received::Ping(data) => format!("ping {}", data.len()),
                Received::Pong => "pong".into(),
                Received::Close(code) => format!("close {code:?}"),
            })
        });
        if result.is_err() {
            break;
        }
    }
    (seen, result, partial.is_none())
}

#[test]
fn messages_are_the_same_however_the_bytes_are_cut() {
    let mut bytes = frame(0x81, "grüße".as_bytes());
    bytes.extend(frame(0x82, &[7; 300]));
    bytes.extend(frame(0x01, "ein".as_bytes()));
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, " Stück".as_bytes()));
    bytes.extend(frame(0x8a, b""));
    bytes.extend(frame(0x82, &vec![1; 70_000]));
    bytes.extend(frame(0x88, &1000u16.to_be_bytes()));
    let expected = ["text grüße", "binary 300", "ping 4", "text ein Stück", "pong", "binary 70000", "close Some(1000)"];
    for step in [1, 2, 3, 5, 7, 13, 64, 1000, bytes.len()] {
        let (seen, result, _) = received(&bytes, step);
        assert_eq!(result, Ok(()), "step {step}");
        assert_eq!(seen, expected, "step {step}");
    }
}

#[test]
fn nothing_is_kept_between_whole_messages() {
    let (_, _, empty) = received(&frame(0x81, b"hello"), 1);
    assert!(empty);
    let (_, _, empty) = received(&frame(0x01, b"hello"), 100);
    assert!(!empty);
}

#[test]
fn sixty_five_thousand_fragments_are_one_message() {
    let mut bytes = frame(0x02, b"x");
    for _ in 0..65_534 {
        bytes.extend(frame(0x00, b"x"));
    }
    bytes.extend(frame(0x80, b"x"));
    let (seen, result, empty) = received(&bytes, 4096);
    assert_eq!((seen, result, empty), (vec!["binary 65536".to_string()], Ok(()), true));
}

#[test]
fn a_breach_of_the_protocol_closes_the_connection_with_the_right_code() {
    let unmasked = [0x81, 0x01, b'x'].to_vec();
    let huge = [[0x82, 0x80 | 127].as_slice(), &(1u64 << 63).to_be_bytes(), &[0; 4]].concat();
    let cases: Vec<(&str, Vec<u8>, Close)> = vec![
        ("unmasked", unmasked, Close::PROTOCOL),
        ("reserved bit", frame(0xc1, b"x"), Close::PROTOCOL),
        ("reserved opcode", frame(0x83, b"x"), Close::PROTOCOL),
        ("fragmented ping", frame(0x09, b"x"), Close::PROTOCOL),
        ("long ping", frame(0x89, &[0; 126]), Close::PROTOCOL),
        ("continuation of nothing", frame(0x80, b"x"), Close::PROTOCOL),
        ("new message inside a message", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), Close::PROTOCOL),
        ("one byte of close", frame(0x88, b"x"), Close::PROTOCOL),
        ("close 1005", frame(0x88, &1005u16.to_be_bytes()), Close::PROTOCOL),
        ("close reason", frame(0x88, &[0x03, 0xe8, 0xff]), Close::NOT_UTF8),
        ("not UTF-8", frame(0x81, &[0xff]), Close::NOT_UTF8),
        ("cut character", frame(0x81, &[0xc3]), Close::NOT_UTF8),
        ("too large", frame(0x82, &vec![0; 100_001]), Close::TOO_LARGE),
        ("2^63 bytes", huge, Close::TOO_LARGE),
    ];
    each_closes(cases, received);
}

#[test]
fn a_bad_byte_is_noticed_before_the_message_ends() {
    let (_, result, _) = received(&frame(0x01, &[b'a', 0xc3, 0x28]), 100);
    assert_eq!(result, Err(Close::NOT_UTF8));
}

#[test]
fn fragments_together_are_bounded() {
    let mut bytes = frame(0x02, &[0; 60_000]);
    bytes.extend(frame(0x80, &[0; 60_000]));
    assert_eq!(received(&bytes, 8192).1, Err(Close::TOO_LARGE));
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    Deflater::default().deflate(payload, <[u8]>::to_vec).unwrap()
}

#[test]
fn compressed_messages_are_inflated_however_they_are_cut() {
    let text = "grüße ".repeat(500);
    let whole = deflated(text.as_bytes());
    let (first, rest) = whole.split_at(whole.len() / 2);
    let mut bytes = frame(0xc1, &deflated("grüße".as_bytes()));
    bytes.extend(frame(0x81, b"as it is"));
    bytes.extend(frame(0xc2, &deflated(&[7; 90_000])));
    bytes.extend(frame(0x41, first));
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, rest));
    bytes.extend(frame(0x01, b"in "));
    bytes.extend(frame(0x80, b"parts"));
    bytes.extend(frame(0xc1, b""));
    bytes.extend(frame(0x88, b""));
    let long = format!("text {text}");
    let expected =
        ["text grüße", "text as it is", "binary 90000", "ping 4", &long, "text in parts", "text ", "close None"];
    for step in [1, 2, 3, 7, 64, 1000, bytes.len()] {
        let (seen, result, empty) = received_deflated(&bytes, step);
        assert_eq!((result, empty), (Ok(()), true), "step {step}");
        assert_eq!(seen, expected, "step {step}");
    }
    assert_eq!(received(&bytes, 64).1, Err(Close::PROTOCOL), "a client that did not agree may not compress");
}

#[test]
fn a_breach_of_compression_closes_the_connection_with_the_right_code() {
    let good = deflated(b"a text");
    let most = Inflater::most(100_000);
    let cases: Vec<(&str, Vec<u8>, Close)> = vec![
        ("a compressed ping", frame(0xc9, b"x"), Close::PROTOCOL),
        ("a compressed close", frame(0xc8, &1000u16.to_be_bytes()), Close::PROTOCOL),
        ("a marked continuation", [frame(0x41, &good[..3]), frame(0xc0, &good[3..])].concat(), Close::PROTOCOL),
        ("one of a plain message", [frame(0x01, b"x"), frame(0xc0, &good)].concat(), Close::PROTOCOL),
        ("another bit", frame(0xe1, &good), Close::PROTOCOL),
        ("not UTF-8", frame(0xc1, &deflated(&[b'a', 0xc3, 0x28])), Close::NOT_UTF8),
        ("a cut character", [frame(0x41, &deflated(&[0xc3])), frame(0x80, b"")].concat(), Close::NOT_UTF8),
        ("corrupt", frame(0xc1, b"not compressed"), Close::CORRUPT),
        ("corrupt, in fragments", [frame(0x42, b"not "), frame(0x80, b"compressed")].concat(), Close::CORRUPT),
        ("too large", frame(0xc2, &deflated(&vec![0; 100_001])), Close::TOO_LARGE),
        ("too large as it comes", frame(0xc2, &vec![0; most + 1]), Close::TOO_LARGE),
        ("in fragments", [frame(0x42, &vec![0; most]), frame(0x80, b"x")].concat(), Close::TOO_LARGE),
        ("too large as it is", frame(0x82, &vec![0; 100_001]), Close::TOO_LARGE),
    ];
    each_closes(cases, received_deflated);
}

#[test]
fn a_message_that_grows_by_compression_may_inflate_to_the_full_size() {
    // Stored blocks of 64 bytes.
    let block = [&[0, 64, 0, !64, 0xff][..], &[b'x'; 64]].concat();
    let whole = [block.repeat(1562), vec![0]].concat();
    assert!(whole.len() > 100_000);
    let (seen, result, _) = received_deflated(&frame(0xc2, &whole), 8192);
    assert_eq!((seen, result), (vec!["binary 99968".to_string()], Ok(())));
}
