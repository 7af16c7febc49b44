//! WebSocket frames that we send (RFC 6455, section 5.2). They are unmasked and never fragmented.

use super::close::Close;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
/// Marks a compressed message (RSV1; RFC 7692, section 6).
const DEFLATED: u8 = 0x40;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;

/// A ping without payload: the heartbeat.
pub const PING: &[u8] = &[0x89, 0];

/// The longest frame header that we write.
const MAX_HEADER: usize = 10;

/// A frame header.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl Header {
    /// The header of a text or binary frame.
    pub fn data(binary: bool, payload: usize) -> Self {
        Header::new(if binary { BINARY } else { TEXT }, payload)
    }

    /// The header of a compressed text or binary frame.
    pub fn deflated(binary: bool, payload: usize) -> Self {
        Header::new(DEFLATED | if binary { BINARY } else { TEXT }, payload)
    }

    fn new(first: u8, payload: usize) -> Self {
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = first;
        let len = match payload {
            0..=125 => {
                bytes[1] = payload as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
                10
            }
        };
        Header { bytes, len }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A text frame.
pub fn text(payload: &[u8]) -> Vec<u8> {
    frame(TEXT, payload)
}

/// A text or binary frame.
pub fn data(binary: bool, payload: &[u8]) -> Vec<u8> {
    frame(if binary { BINARY } else { TEXT }, payload)
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    frame(PONG, payload)
}

/// A close frame. A normal close without a reason has the code alone.
pub fn close(close: &Close) -> Vec<u8> {
    if close.code == Close::NORMAL.code && close.reason.is_empty() {
        return frame(CLOSE, &close.code.to_be_bytes());
    }
    let mut payload = close.code.to_be_bytes().to_vec();
    payload.extend_from_slice(close.reason.as_bytes());
    frame(CLOSE, &payload)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(first, payload.len());
    let mut out = Vec::with_capacity(MAX_HEADER + payload.len());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(payload);
    out
}
