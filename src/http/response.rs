//! The response heads that begin a subscription.

use super::request::Subscribe;
use crate::framing::date;
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

/// 101 for a WebSocket (RFC 6455, section 4.2.2). `gap` is true if requested messages are no longer in the history. Raw
/// frames can't say that, so a header does. An empty position is none, here and below: the client gets it with a message.
pub fn switching(subscribe: &Subscribe<'_>, position: &str, gap: bool) -> String {
    let accept = accept_key(subscribe.key.unwrap_or_default());
    let extension = subscribe.extension.unwrap_or_default();
    let mut head = String::with_capacity(224 + 2 * extension.len());
    head.push_str(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    head.push_str(&accept);
    if let Some(subprotocol) = subscribe.subprotocol {
        head.push_str("\r\nSec-WebSocket-Protocol: ");
        head.push_str(subprotocol);
    }
    if !extension.is_empty() {
        head.push_str("\r\nSec-WebSocket-Extensions: ");
        head.push_str(extension);
    }
    if !position.is_empty() {
        head.push_str("\r\nPush-Position: ");
        head.push_str(position);
    }
    if gap {
        head.push_str("\r\nPush-Gap: 1");
    }
    head.push_str("\r\n\r\n");
    head
}

/// 200 for a body without an end: SSE or NDJSON. HTTP/1.1 clients get chunks, since some clients read a body that ends
/// with the connection in large blocks, and small events would be delayed.
pub fn streaming(sse: bool, chunks: bool, position: &str, cors: &str) -> String {
    let kind = if sse { "text/event-stream" } else { "application/x-ndjson" };
    let framing = if chunks { "Transfer-Encoding: chunked" } else { "Connection: close" };
    let position = if position.is_empty() { String::new() } else { format!("Push-Position: {position}\r\n") };
    // X-Accel-Buffering tells nginx not to buffer the stream. no-transform tells other proxies not to compress it,
    // since compression buffers as well.
    format!(
        "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: {kind}\r\nCache-Control: no-store, no-transform\r\n\
         X-Accel-Buffering: no\r\n{position}{cors}{framing}\r\n\r\n",
        date::now()
    )
}

/// 204: everything has ended, and the client has all of it. An EventSource does not come back after it (HTML Standard,
/// section 9.2.2).
pub fn ended(position: &str, cors: &str) -> String {
    format!(
        "HTTP/1.1 204 No Content\r\nDate: {}\r\nCache-Control: no-store\r\nPush-Position: {position}\r\n{cors}\
         Connection: close\r\n\r\n",
        date::now()
    )
}

/// The proof that the server has read the WebSocket key (RFC 6455, section 4.2.2).
fn accept_key(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut proof = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    proof.update(key);
    proof.update(GUID);
    STANDARD.encode(proof.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        // The example of section 1.3.
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
