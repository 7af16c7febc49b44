//! Server-Sent Events (WHATWG HTML, section 9.2).

use super::chunk;
use crate::hub::Form;

/// A comment. It keeps the connection alive, and no listener sees it.
pub fn heartbeat(framed: bool) -> &'static [u8] {
    if framed {
        b"3\r\n:\n\n\r\n"
    } else {
        b":\n\n"
    }
}

/// One event. Each line of `data` becomes a `data:` line.
pub fn event(name: Option<&str>, id: Option<&str>, data: &[u8]) -> Form {
    let mut out = Vec::with_capacity(data.len() + 96);
    field("id", id, &mut out);
    field("event", name, &mut out);
    for line in lines(data) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    chunk::framed(&out)
}

/// The beginning of a stream: the delay before a reconnection, and the stream's position. With the position, a client
/// that is cut off before the first message comes back to the right place.
///
/// It is an event of its own type, so a page that does not listen for that type does not see it. A browser would also
/// remember an `id:` without data, but other clients would not.
pub fn preamble(retry_ms: u64, position: &str) -> Form {
    if position.is_empty() {
        let open = format!("retry: {retry_ms}\nevent: push-open\ndata: {{\"type\":\"open\"}}\n\n");
        return chunk::framed(open.as_bytes());
    }
    let open = format!(
        "retry: {retry_ms}\nid: {position}\nevent: push-open\ndata: {{\"type\":\"open\",\"id\":\"{position}\"}}\n\n"
    );
    chunk::framed(open.as_bytes())
}

/// The event that says why the stream ends (`object`), and after how many milliseconds to come back if there is such
/// advice.
pub fn close(object: &[u8], retry_ms: Option<u64>) -> Form {
    let close = event(Some("push-close"), None, object);
    match retry_ms {
        None => close,
        Some(retry_ms) => {
            let retry = format!("retry: {retry_ms}\n");
            chunk::framed(&[retry.as_bytes(), close.inner_bytes()].concat())
        }
    }
}

fn field(name: &str, value: Option<&str>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
}

/// Lines as SSE defines them: each ends with CR LF, LF or CR. There is always at least one, which may be empty.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(text);
        };
        let width = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&text[end + width..]);
        Some(&text[..end])
    })
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
