//! The heads of responses that begin a subscription.

use super::request::SUBPROTOCOL;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// 101 for a WebSocket (RFC 6455, section 4.2.2). `gap`: something that was asked for is gone, which raw frames can't
/// say.
pub fn switching(key: &[u8], subprotocol: bool, position: &str, gap: bool) -> String {
    let accept = derive_accept_key(key);
    let mut head = String::with_capacity(224);
    head.push_str(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    head.push_str(&accept);
    if subprotocol {
        head.push_str("\r\nSec-WebSocket-Protocol: ");
        head.push_str(SUBPROTOCOL);
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
    // X-Accel-Buffering asks nginx not to collect the stream.
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n\
         Push-Position: {position}\r\n{cors}{framing}\r\n\r\n"
    )
}
