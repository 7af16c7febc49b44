//! A browser's view of the events that the library writes. The names begin with the section of WHATWG HTML (Server-sent
//! events).

use super::*;
use crate::framing::event_source::{only_event, read};
use crate::framing::{Body, Content, Transport};
use crate::hub::Epoch;

fn text(form: &Form) -> &str {
    std::str::from_utf8(form.inner_bytes()).unwrap()
}

fn published(data: &[u8], event: Option<&str>, binary: bool) -> Form {
    let content = if binary { Content::BinaryPayload } else { Content::TextPayload };
    let epoch = Epoch::from_random(1);
    Transport::Sse.message(Body { data: data.into(), content, event, position: (&epoch, 0) })
}

#[test]
fn s9_2_6_every_line_of_the_payload_is_a_data_line() {
    let form = event(Some("tick"), Some("e-1"), b"a\r\nb\rc\n");
    let text = text(&form);
    assert_eq!(text, "id: e-1\nevent: tick\ndata: a\ndata: b\ndata: c\ndata: \n\n");
    let framed = std::str::from_utf8(form.framed_bytes()).unwrap();
    assert_eq!(framed, format!("{:x}\r\n{text}\r\n", text.len()));
    assert_eq!(event(None, None, b"").inner_bytes(), b"data: \n\n");
}

#[test]
fn s9_2_5_a_stream_is_utf8_and_other_payloads_come_as_base64() {
    assert_eq!(only_event(published(b"\xff\xfe", None, false).inner_bytes()).data, "//4=");
    assert_eq!(only_event(published("ü€😀".as_bytes(), None, false).inner_bytes()).data, "ü€😀");
    assert_eq!(only_event(published(b"plain", None, true).inner_bytes()).data, "cGxhaW4=", "published as binary");
}

#[test]
fn s9_2_5_an_event_ends_with_a_blank_line_and_so_does_a_comment() {
    for form in [
        published(b"x", Some("e"), false),
        published(b"", None, false),
        preamble(1, "e-1"),
        close(br#"{"type":"close"}"#, Some(7)),
    ] {
        assert!(text(&form).ends_with("\n\n"), "{:?}", text(&form));
    }
    assert_eq!(heartbeat(false), b":\n\n");
}

#[test]
fn s9_2_6_a_line_end_in_a_payload_does_not_begin_another_field() {
    for attack in
        ["a\n\ndata: b", "a\r\rdata: b", "a\r\n\r\nid: 7", "a\nevent: x", "a\n:c", "\n", "\r", "\r\n", "a\rretry: 1"]
    {
        let source = read(published(attack.as_bytes(), None, false).inner_bytes());
        assert_eq!(source.events.len(), 1, "{attack:?}");
        assert_eq!(source.events[0].data, attack.replace("\r\n", "\n").replace('\r', "\n"));
        assert_eq!((source.events[0].kind.as_str(), source.retry_ms), ("message", None), "{attack:?}");
    }
}

#[test]
fn s9_2_6_only_one_leading_space_is_removed() {
    for data in [" x", "  x", "x ", " ", "\tx", ": x", "data: x"] {
        assert_eq!(only_event(published(data.as_bytes(), None, false).inner_bytes()).data, data, "{data:?}");
    }
}

#[test]
fn s9_2_6_a_byte_order_mark_in_a_payload_is_kept() {
    let mut stream = preamble(1, "e-1").inner_bytes().to_vec();
    stream.extend_from_slice(published("\u{feff}x".as_bytes(), None, false).inner_bytes());
    assert_eq!(read(&stream).events[1].data, "\u{feff}x");
}

#[test]
fn s9_2_6_the_id_field_sets_the_last_event_id_and_has_no_nul() {
    let source = read(event(None, Some("e-1"), b"x").inner_bytes());
    assert_eq!(source.last_event_id, "e-1");
    let mut stream = event(None, Some("e-7"), b"x").inner_bytes().to_vec();
    stream.extend_from_slice(heartbeat(false));
    stream.extend_from_slice(close(br#"{"type":"close"}"#, None).inner_bytes());
    let source = read(&stream);
    assert_eq!(source.last_event_id, "e-7", "neither a heartbeat nor a close changes the position");
}

#[test]
fn s9_2_6_the_event_field_names_the_type_and_message_is_the_default() {
    assert_eq!(only_event(published(b"x", Some("price"), false).inner_bytes()).kind, "price");
    assert_eq!(only_event(published(b"x", None, false).inner_bytes()).kind, "message");
}

#[test]
fn s9_2_6_an_empty_payload_is_still_an_event() {
    // "If the data buffer is an empty string" nothing is dispatched. An empty data line leaves a line end in the
    // buffer, so it is not empty.
    let source = read(published(b"", None, false).inner_bytes());
    assert_eq!(source.events.len(), 1);
    assert_eq!(source.events[0].data, "");
}

#[test]
fn s9_2_6_retry_is_digits_only() {
    let source = read(preamble(2500, "e-1").inner_bytes());
    assert_eq!(source.retry_ms, Some(2500));
    assert_eq!((source.events[0].kind.as_str(), source.last_event_id.as_str()), ("push-open", "e-1"));
}

#[test]
fn s9_2_6_a_comment_is_ignored() {
    assert_eq!(read(heartbeat(false)), read(b""));
}

#[test]
fn s9_2_6_an_event_cut_off_by_the_end_of_the_stream_is_not_dispatched() {
    let whole = event(Some("e"), Some("e-2"), b"a\nb");
    let bytes = whole.inner_bytes();
    for end in 0..bytes.len() {
        let source = read(&bytes[..end]);
        assert_eq!((source.events.len(), source.last_event_id.as_str()), (0, ""), "cut at {end}");
    }
}
