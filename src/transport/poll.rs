//! Long-poll answers: a complete HTTP response for each poll.

use std::io::Write;

/// Puts an answer together: 200 with `{"position":…,"messages":[…]}`.
///
/// `extra` are header lines, each ended by CR LF. `retry_ms` advises when to ask again, as `"retry":…` in milliseconds
/// and, for those who look at heads only, as `Retry-After` in seconds (RFC 9110, section 10.2.3).
pub fn answer<'a>(
    position: &str,
    objects: impl Iterator<Item = &'a [u8]>,
    extra: &str,
    keep_alive: bool,
    retry_ms: Option<u64>,
) -> Vec<u8> {
    let mut body = format!("{{\"position\":\"{position}\",\"messages\":[").into_bytes();
    for (index, object) in objects.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(object);
    }
    body.push(b']');
    let mut advice = String::new();
    if let Some(retry_ms) = retry_ms {
        advice = format!("Retry-After: {}\r\n", retry_ms.div_ceil(1000));
        let _ = write!(body, ",\"retry\":{retry_ms}");
    }
    body.push(b'}');
    // Said in both cases, for clients of HTTP/1.0.
    let connection = if keep_alive { "Connection: keep-alive\r\n" } else { "Connection: close\r\n" };
    let mut out = Vec::with_capacity(body.len() + extra.len() + 224);
    // Writing into a Vec does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nPush-Position: {position}\r\n\
         {extra}{advice}{connection}Content-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(&body);
    out
}
