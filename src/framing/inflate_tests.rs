use super::*;
use crate::framing::deflate::Deflater;

fn inflated(deflated: &[u8], max: usize) -> Result<Vec<u8>, Close> {
    Inflater::default().message(deflated, max).map(<[u8]>::to_vec)
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    Deflater::default().deflate(payload, <[u8]>::to_vec).unwrap()
}

/// A stored block (RFC 1951, section 3.2.4), at the beginning of a byte.
fn stored(last: bool, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u16;
    [&[u8::from(last)], &len.to_le_bytes()[..], &(!len).to_le_bytes(), data].concat()
}

#[test]
fn the_examples_of_the_rfc_are_inflated() {
    // RFC 7692, section 7.2.3.
    let hello = |deflated: &[u8]| assert_eq!(inflated(deflated, 5), Ok(b"Hello".to_vec()), "{deflated:x?}");
    hello(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    hello(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]);
    hello(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]);
    hello(&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]);
    // An empty message is one byte. Some senders send none.
    assert_eq!(inflated(&[0x00], 0), Ok(Vec::new()));
    assert_eq!(inflated(&[], 0), Ok(Vec::new()));
    assert_eq!(inflated(&[0x02, 0x00], 0), Ok(Vec::new()));
}

#[test]
fn a_last_block_may_be_followed_by_others() {
    let message = [stored(true, b"one, "), stored(false, b"two, "), stored(true, b"three")].concat();
    assert_eq!(inflated(&message, 100), Ok(b"one, two, three".to_vec()));
    // A later block may refer to an earlier one.
    let again = [stored(true, b"Hello"), vec![0x03, 0x12, 0x00]].concat();
    assert_eq!(inflated(&again, 100), Ok(b"HelloHel".to_vec()));
    // The byte that should follow the last block is missing.
    assert_eq!(inflated(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 100), Ok(b"Hello".to_vec()));
    // The sender did not remove the end of the flush.
    let whole = [deflated(b"Hello"), FLUSHED.to_vec()].concat();
    assert_eq!(inflated(&whole, 100), Ok(b"Hello".to_vec()));
}

#[test]
fn a_corrupt_message_closes_the_connection() {
    let long = deflated(&b"a text, and another text, and more text".repeat(10));
    for corrupt in [
        // A block of the reserved type.
        vec![0x06],
        // A stored block with a length that does not match its complement, and one that is cut off.
        vec![0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48],
        stored(false, b"Hello")[..8].to_vec(),
        // A distance that points before the beginning.
        vec![0x02, 0x7e, 0xff, 0xff],
        b"not compressed at all".to_vec(),
        long[..long.len() / 2].to_vec(),
    ] {
        assert_eq!(inflated(&corrupt, 1000), Err(Close::CORRUPT), "{corrupt:x?}");
    }
    // A corrupt message does not affect the next one.
    let mut inflater = Inflater::default();
    assert_eq!(inflater.message(&[0x06], 100), Err(Close::CORRUPT));
    assert_eq!(inflater.message(&long[..9], 1000), Err(Close::CORRUPT));
    assert_eq!(inflater.message(&deflated(b"Hello"), 100), Ok(&b"Hello"[..]));
}

#[test]
fn the_bound_of_a_message_is_its_inflated_size() {
    for max in [0, 1, 999, 1000, 1001, 65_536] {
        let largest = deflated(&vec![b'x'; max]);
        assert_eq!(inflated(&largest, max).map(|message| message.len()), Ok(max));
        assert_eq!(inflated(&deflated(&vec![b'x'; max + 1]), max), Err(Close::TOO_LARGE), "{max}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "megabytes")]
fn a_bomb_costs_no_more_than_the_largest_message() {
    let bomb = deflated(&vec![0; 4 << 20]);
    assert!(bomb.len() < 10_000, "{}", bomb.len());
    let mut inflater = Inflater::default();
    assert_eq!(inflater.message(&bomb, 64 * 1024), Err(Close::TOO_LARGE));
    assert!(inflater.out.capacity() <= 64 * 1024 + 1, "{}", inflater.out.capacity());
    assert_eq!(inflater.message(&deflated(&vec![0; 1 << 20]), 1 << 20).map(<[u8]>::len), Ok(1 << 20));
    inflater.trim();
    assert_eq!(inflater.out.capacity(), 0, "the memory of a large message is freed");
}

#[test]
fn blocks_are_bounded() {
    // Four empty blocks with fixed codes, in five bytes: for each of them the tables are built.
    let four = [0x02, 0x08, 0x20, 0x80, 0x00];
    assert_eq!(inflated(&four.repeat(8), 100), Ok(Vec::new()));
    assert_eq!(inflated(&four.repeat(10_000), 100), Err(Close::CORRUPT));
    // A client may flush after every few words.
    let words = b"seven, eight, nine";
    let flushed = [deflated(words), FLUSHED.to_vec()].concat().repeat(1000);
    assert_eq!(inflated(&flushed, 20_000), Ok(words.repeat(1000)));
}
