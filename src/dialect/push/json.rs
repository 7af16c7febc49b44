//! The JSON form of messages and gaps. WebSocket frames, SSE data, stream lines and polls have the same object.

use crate::framing::close::Close;
use crate::hub::{Epoch, Mark, Message};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

/// A message as `{"type":"message","channel":…,"id":…,"event":…,"data":…}`. A broadcast has a type of its own, and no
/// channel. The beginning and the end of a stream have types of their own, and no data.
pub fn message(message: &Message, epoch: &Epoch) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.data().len() + message.data().len() / 8 + 112);
    begin(message.mark().map_or("message", Mark::word), message, epoch, &mut out);
    if message.mark().is_none() {
        data(message.data(), message.binary(), &mut out);
    }
    out.push(b'}');
    out
}

/// The same with the time of its publication in milliseconds since 1970, and the size of its data. Of the data there are
/// at most `max` bytes; if they are not all, `"cut":true` says so. The beginning and the end of a stream are
/// `{"type":"mark","mark":"end",…}` here, since the tail's own end is `{"type":"end"}`.
pub fn seen(message: &Message, epoch: &Epoch, time: u64, max: usize, out: &mut Vec<u8>) {
    begin(if message.mark().is_some() { "mark" } else { "message" }, message, epoch, out);
    let payload = message.data();
    if let Some(mark) = message.mark() {
        out.extend_from_slice(format!(r#","mark":"{}","time":{time}}}"#, mark.word()).as_bytes());
        return;
    }
    for (name, number) in [(br#","time":"#, time), (br#","size":"#, payload.len() as u64)] {
        out.extend_from_slice(name);
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
    if payload.len() <= max {
        data(payload, message.binary(), out);
    } else {
        let part = &payload[..max];
        // A character that is cut through is left out.
        let text = match std::str::from_utf8(part) {
            Err(error) if error.error_len().is_none() => &part[..error.valid_up_to()],
            _ => part,
        };
        data(text, message.binary(), out);
        out.extend_from_slice(br#","cut":true"#);
    }
    out.push(b'}');
}

/// All members but the data.
fn begin(kind: &str, message: &Message, epoch: &Epoch, out: &mut Vec<u8>) {
    match message.channel() {
        Some(channel) => {
            out.extend_from_slice(br#"{"type":""#);
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(br#"","channel":"#);
            string(channel, out);
        }
        None => out.extend_from_slice(br#"{"type":"broadcast""#),
    }
    if message.has_position() {
        out.extend_from_slice(br#","id":""#);
        epoch.write_position(message.seq(), out);
        out.push(b'"');
    }
    if let Some(event) = message.event() {
        out.extend_from_slice(br#","event":"#);
        string(event, out);
    }
}

/// `{"type":"gap","channel":…,"id":…}`. A gap in the broadcasts has no channel. With an empty position it has no id.
pub fn gap(channel: Option<&str>, position: &str) -> Vec<u8> {
    place("gap", channel, position)
}

/// `{"type":"position","channel":…,"id":…}`: in place of a message that leaves the client out.
pub fn position(channel: Option<&str>, position: &str) -> Vec<u8> {
    place("position", channel, position)
}

fn place(kind: &str, channel: Option<&str>, position: &str) -> Vec<u8> {
    let mut out = format!(r#"{{"type":"{kind}""#).into_bytes();
    if let Some(channel) = channel {
        out.extend_from_slice(br#","channel":"#);
        string(channel, &mut out);
    }
    if !position.is_empty() {
        out.extend_from_slice(br#","id":""#);
        out.extend_from_slice(position.as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
    out
}

/// A message from the host to one connection. It has no position.
pub fn direct(payload: &[u8], binary: bool) -> Vec<u8> {
    let mut out = br#"{"type":"message""#.to_vec();
    data(payload, binary, &mut out);
    out.push(b'}');
    out
}

/// `{"type":"close","code":…,"reason":…}`: the data of the event that ends SSE and streams. `"retry":…` has the
/// milliseconds after which the client should come back, if there is such advice. `"ended":true` says that it need not
/// come back: a host may close with the same code and reason.
pub fn close(close: &Close) -> Vec<u8> {
    let mut out = br#"{"type":"close","code":"#.to_vec();
    out.extend_from_slice(itoa::Buffer::new().format(close.code).as_bytes());
    out.extend_from_slice(br#","reason":"#);
    string(&close.reason, &mut out);
    if let Some(retry_ms) = close.retry_ms {
        out.extend_from_slice(br#","retry":"#);
        out.extend_from_slice(itoa::Buffer::new().format(retry_ms).as_bytes());
    }
    if close.ended {
        out.extend_from_slice(br#","ended":true"#);
    }
    out.push(b'}');
    out
}

/// A JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    // Serializing a string into a Vec does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// `,"data":…`: a JSON string. Bytes that are binary or not UTF-8 become base64, with a mark.
pub(super) fn data(payload: &[u8], binary: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","data":"#);
    match std::str::from_utf8(payload) {
        Ok(text) if !binary => string(text, out),
        _ => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(payload).as_bytes());
            out.extend_from_slice(br#"","base64":true"#);
        }
    }
}
