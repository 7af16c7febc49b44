//! The close codes and their reasons, in one table.

use crate::log::Level;
use std::borrow::Cow;

/// Makes [`CODES`], with each code as a number and as text.
macro_rules! codes {
    ($($code:literal $level:ident,)*) => {
        /// The close codes that are counted by themselves, and the level at which the log has the end of a connection.
        /// All other codes, which hosts and clients choose, are counted as `other` and logged at level debug.
        pub(crate) const CODES: &[(u16, &str, Level)] = &[$(($code, stringify!($code), Level::$level),)*];
    };
}

codes! {
    1000 Debug,
    1001 Debug,
    1002 Info,
    1005 Debug,
    1006 Debug,
    1007 Info,
    1008 Debug,
    1009 Info,
    1011 Info,
    4403 Info,
    4408 Info,
    4429 Info,
}

/// Where a code stands in [`CODES`]. Without a place it is one of the others.
pub(crate) const fn place(code: u16) -> Option<usize> {
    let mut place = 0;
    while place < CODES.len() {
        if CODES[place].0 == code {
            return Some(place);
        }
        place += 1;
    }
    None
}

/// A close code and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// A WebSocket close code (RFC 6455, section 7.4).
    pub code: u16,
    /// At most 123 bytes.
    pub reason: Cow<'static, str>,
    /// The milliseconds after which the client should come back, if there is such advice.
    pub retry_ms: Option<u64>,
    /// True if all channels of the connection have ended, and the client has everything.
    pub ended: bool,
}

impl Close {
    /// The client closed; also the code of the answer to that.
    pub const NORMAL: Close = Close::fixed(1000, "");
    /// All channels of the connection have ended, and the client has everything. So it need not come back.
    pub const ENDED: Close =
        Close { code: 1000, reason: Cow::Borrowed("all of its channels have ended"), retry_ms: None, ended: true };
    /// The client broke RFC 6455.
    pub const PROTOCOL: Close = Close::fixed(1002, "protocol error");
    /// There was no close frame. This code is never sent.
    pub const ABNORMAL: Close = Close::fixed(1006, "connection lost");
    /// A text message is not UTF-8.
    pub const NOT_UTF8: Close = Close::fixed(1007, "text is not UTF-8");
    /// A compressed message can't be inflated.
    pub const CORRUPT: Close = Close::fixed(1007, "compressed message is corrupt");
    /// The client's message is larger than `max_client_message`.
    pub const TOO_LARGE: Close = Close::fixed(1009, "message too large");
    /// An error of the library.
    pub const INTERNAL: Close = Close::fixed(1011, "internal error");
    /// The grant expired or was revoked. The client may come back with new credentials only.
    pub const NOT_ALLOWED: Close = Close::fixed(4403, "grant expired or revoked");
    /// The client did not answer pings.
    pub const NO_PONG: Close = Close::fixed(4408, "no answer to pings");
    /// The network between is gone, or the client's machine. This reason is never sent.
    pub const VANISHED: Close = Close::fixed(4408, "the client's machine acknowledges nothing any more");
    /// Messages that the client had still to catch up with have left the history. It may come back, and is then told of
    /// the gap.
    pub const OVERTAKEN: Close = Close::fixed(4429, "too slow: messages that it missed have left the history");
    /// The log that hubs share has lost messages, and there is no place to say so on this connection, or messages of
    /// before are still on their way to the client. It may come back, and is then told of the gap.
    pub const LOST: Close = Close::fixed(4429, "messages were lost: come back to learn where");
    /// The client read nothing for a whole heartbeat. This reason is never sent, since the socket has no room for it.
    pub const STUCK: Close = Close::fixed(4429, "too slow: the client read nothing for a whole heartbeat");
    /// The outbox was full. The client may come back and recover by its position.
    pub const TOO_SLOW: Close = Close::fixed(4429, "too slow: outbox full");

    const fn fixed(code: u16, reason: &'static str) -> Self {
        // This is evaluated by the compiler, for the constants above.
        assert!(place(code).is_some(), "a code that the library uses must be in CODES");
        Close { code, reason: Cow::Borrowed(reason), retry_ms: None, ended: false }
    }

    /// The server drains; the client may come back after this delay. WebSocket has no place for the delay but the
    /// reason.
    pub fn going_away(retry_ms: u64) -> Self {
        let reason = format!("server going away; retry in {retry_ms} ms");
        Close { retry_ms: Some(retry_ms), ..Close::new(1001, reason) }
    }

    /// A code with a reason of its own.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Close { code, reason: reason.into(), retry_ms: None, ended: false }
    }

    /// Whether the code says that the client has no permission, and should not come back with the same credentials.
    pub fn says_not_allowed(&self) -> bool {
        matches!(self.code, 1008 | 4403)
    }

    /// The level at which the log has the end of the connection.
    pub(crate) fn level(&self) -> Level {
        place(self.code).map_or(Level::Debug, |place| CODES[place].2)
    }

    /// Whether a close frame may carry this code (RFC 6455, sections 7.4.1 and 7.4.2, and IANA's registry).
    pub fn allowed_on_wire(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}
