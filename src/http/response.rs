//! The heads of responses that begin a subscription.

use super::request::Subscribe;
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use sha1::{Digest, Sha1};

/// 101 for a WebSocket (RFC 6455, section 4.2.2). `gap`: something that was asked for is gone, which raw frames can't
/// say.
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
    head.push_str("\r\nPush-Position: ");
    head.push_str(position);
    if gap {
        head.push_str("\r\nPush-Gap: 1");
    }
    head.push_str("\r\n\r\n");
    head
}

/// 200 for a body that does not end: SSE or NDJSON. In chunks on HTTP/1.1, since some clients read a body that ends
/// with the connection in large blocks and stall on small events.
pub fn streaming(sse: bool, chunks: bool, position: &str, cors: &str) -> String {
    let kind = if sse { "text/event-stream" } else { "application/x-ndjson" };
    let framing = if chunks { "Transfer-Encoding: chunked" } else { "Connection: close" };
    // X-Accel-Buffering asks nginx not to collect the stream, no-transform others not to compress it: what compresses
    // collects as well.
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-store, no-transform\r\n\
         X-Accel-Buffering: no\r\nPush-Position: {position}\r\n{cors}{framing}\r\n\r\n"
    )
}

/// What proves that a WebSocket key was read (RFC 6455, section 4.2.2).
fn accept_key(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
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
