//! Long-poll answers: a complete HTTP response for each poll.

use super::date;
use std::io::Write;

/// What an answer says beside the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    None,
    /// The answer was cut at its bound, and the next one comes at once with more: `"more":true`.
    More,
    /// All channels of the request have ended, and the client has everything with this answer: `"ended":true`.
    Ended,
    /// The milliseconds after which the client should poll again. The body has them as `"retry":…`. The head has them
    /// in seconds, as `Retry-After` (RFC 9110, section 10.2.3), for clients that look at heads only.
    Retry(u64),
}

/// An answer: 200 with `{"position":…,"messages":[…]}`. A client that follows who is there has
/// `"presence":"VERSION"` behind the messages.
///
/// `extra` has header lines, and each ends with CR LF.
pub fn answer<'a>(
    position: &str,
    objects: impl Iterator<Item = &'a [u8]>,
    extra: &str,
    keep_alive: bool,
    note: Note,
    presence: Option<&str>,
) -> Vec<u8> {
    let mut body = format!("{{\"position\":\"{position}\",\"messages\":[").into_bytes();
    for (index, object) in objects.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(object);
    }
    body.push(b']');
    if let Some(version) = presence {
        body.extend_from_slice(br#","presence":""#);
        body.extend_from_slice(version.as_bytes());
        body.push(b'"');
    }
    let mut advice = String::new();
    match note {
        Note::None => {}
        Note::More => body.extend_from_slice(br#","more":true"#),
        Note::Ended => body.extend_from_slice(br#","ended":true"#),
        Note::Retry(ms) => {
            advice = format!("Retry-After: {}\r\n", ms.div_ceil(1000));
            let _ = write!(body, ",\"retry\":{ms}");
        }
    }
    body.push(b'}');
    // The header is there in both cases, for clients of HTTP/1.0.
    let connection = if keep_alive { "Connection: keep-alive\r\n" } else { "Connection: close\r\n" };
    let mut out = Vec::with_capacity(body.len() + extra.len() + 264);
    // Writing into a Vec does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
         Push-Position: {position}\r\n{extra}{advice}{connection}Content-Length: {}\r\n\r\n",
        date::now(),
        body.len()
    );
    out.extend_from_slice(&body);
    out
}
