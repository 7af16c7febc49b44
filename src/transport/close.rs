//! Why connections are closed: one table.

use std::borrow::Cow;

/// A close code and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// A WebSocket close code (RFC 6455, section 7.4).
    pub code: u16,
    /// At most 123 bytes.
    pub reason: Cow<'static, str>,
    /// After how many milliseconds the client is advised to come back, where it is.
    pub retry_ms: Option<u64>,
}

impl Close {
    /// The client closed, or is answered as it closed.
    pub const NORMAL: Close = Close::fixed(1000, "");
    /// The client broke RFC 6455.
    pub const PROTOCOL: Close = Close::fixed(1002, "protocol error");
    /// There was no close frame; never sent.
    pub const ABNORMAL: Close = Close::fixed(1006, "connection lost");
    /// A text message is not UTF-8.
    pub const NOT_UTF8: Close = Close::fixed(1007, "text is not UTF-8");
    /// A compressed message is none.
    pub const CORRUPT: Close = Close::fixed(1007, "compressed message is corrupt");
    /// The client's message is larger than `max_client_message`.
    pub const TOO_LARGE: Close = Close::fixed(1009, "message too large");
    /// Something of ours broke.
    pub const INTERNAL: Close = Close::fixed(1011, "internal error");
    /// The grant ended or was revoked; come back with new credentials only.
    pub const NOT_ALLOWED: Close = Close::fixed(4403, "grant expired or revoked");
    /// No answer to pings.
    pub const NO_PONG: Close = Close::fixed(4408, "no answer to pings");
    /// While it caught up history went on without it; come back and be told of the gap.
    pub const OVERTAKEN: Close = Close::fixed(4429, "too slow: what it missed has left history");
    /// It took nothing for a whole heartbeat; never sent, since there is no way through.
    pub const STUCK: Close = Close::fixed(4429, "too slow: nothing was taken for a whole heartbeat");
    /// The outbox was full; come back and recover by position.
    pub const TOO_SLOW: Close = Close::fixed(4429, "too slow: outbox full");

    const fn fixed(code: u16, reason: &'static str) -> Self {
        Close { code, reason: Cow::Borrowed(reason), retry_ms: None }
    }

    /// The server drains; come back after this delay. WebSocket has no other place for it than the reason.
    pub fn going_away(retry_ms: u64) -> Self {
        let reason = format!("server going away; retry in {retry_ms} ms");
        Close { retry_ms: Some(retry_ms), ..Close::new(1001, reason) }
    }

    /// A code with other words.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Close { code, reason: reason.into(), retry_ms: None }
    }

    /// Whether it says that the client may not, and should not come back as it is.
    pub fn says_not_allowed(&self) -> bool {
        matches!(self.code, 1008 | 4403)
    }

    /// Whether a code may stand in a close frame (RFC 6455, section 7.4.1 and 7.4.2, and IANA's registry).
    pub fn allowed_on_wire(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}
