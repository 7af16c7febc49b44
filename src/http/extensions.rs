//! Answers `Sec-WebSocket-Extensions` of a WebSocket client (RFC 6455, section 9.1). The only extension that we speak
//! is permessage-deflate (RFC 7692), without a context that either side keeps from message to message.
//!
//! A malformed offer is declined like an unknown extension: the client loses compression, not the connection.

const NAME: &[u8] = b"permessage-deflate";
/// The answer: each message is compressed by itself, in both directions.
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// The same answer for a client that limits our window. The only limit accepted is the full window (section 7.1.2.1).
const ANSWER_WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";

/// The answer to a line: to the first offer in it that we can meet. `None` if there is no such offer.
pub fn accept(line: &[u8]) -> Option<&'static str> {
    let mut reader = Reader(line);
    loop {
        // There may be empty elements (RFC 9110, section 5.6.1).
        while reader.takes(b',') {}
        if let Some(answer) = reader.offer()?.answer() {
            return Some(answer);
        }
        if !reader.takes(b',') {
            return None;
        }
    }
}

/// An offer of one extension, as far as it has been read.
struct Offer {
    /// True while it is permessage-deflate with parameters that we can meet.
    good: bool,
    /// The parameters that it has, as bits. A repeated parameter is malformed (section 7.1).
    seen: u8,
    /// True if it limits the window of what we send.
    window: bool,
}

impl Offer {
    fn add(&mut self, name: &[u8], value: Option<&[u8]>) {
        let bits = |value: &[u8]| matches!(value, b"8" | b"9" | b"10" | b"11" | b"12" | b"13" | b"14" | b"15");
        let (number, good) = match name {
            b"server_no_context_takeover" => (0, value.is_none()),
            b"client_no_context_takeover" => (1, value.is_none()),
            // A message is compressed once for all clients, with the full window.
            b"server_max_window_bits" => (2, value == Some(b"15")),
            // The client offers to keep to a window that we name. We name none.
            b"client_max_window_bits" => (3, value.is_none_or(bits)),
            _ => (4, false),
        };
        self.window |= number == 2;
        self.good &= good && self.seen & 1 << number == 0;
        self.seen |= 1 << number;
    }

    fn answer(&self) -> Option<&'static str> {
        self.good.then_some(if self.window { ANSWER_WITH_WINDOW } else { ANSWER })
    }
}

/// The rest of a line.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// Reads an offer, up to the comma behind it or the end. `None` if it is malformed or there is none.
    fn offer(&mut self) -> Option<Offer> {
        let mut offer = Offer { good: self.token()? == NAME, seen: 0, window: false };
        while self.takes(b';') {
            let name = self.token()?;
            if !self.takes(b'=') {
                offer.add(name, None);
            } else if self.takes(b'"') {
                offer.add(name, Some(&self.quoted()?));
            } else {
                offer.add(name, Some(self.token()?));
            }
        }
        (self.0.is_empty() || self.0[0] == b',').then_some(offer)
    }

    /// Skips a byte, with the blanks around it, if that byte is next.
    fn takes(&mut self, byte: u8) -> bool {
        let rest = self.0.trim_ascii_start();
        let found = rest.first() == Some(&byte);
        self.0 = if found { rest[1..].trim_ascii_start() } else { rest };
        found
    }

    fn token(&mut self) -> Option<&'b [u8]> {
        let end = self.0.iter().position(|byte| !is_token(*byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(token).filter(|token| !token.is_empty())
    }

    /// Reads the rest of a quoted value. It must have the form of a token, too (RFC 6455, section 9.1).
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(value).filter(|value| !value.is_empty()),
                b'\\' => {
                    let (escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    value.push(*escaped);
                }
                byte => value.push(*byte),
            }
            if !value.last().copied().is_some_and(is_token) {
                return None;
            }
        }
    }
}

/// True if a byte may stand in a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_that_we_can_meet_is_accepted() {
        for line in [
            "permessage-deflate",
            " permessage-deflate\t",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=8",
            "permessage-deflate ; client_max_window_bits = \"15\" ; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; client_max_window_bits=\"1\\0\"",
            "x-webkit-deflate-frame, permessage-deflate",
            "other; a=b; c=\"d\", , permessage-deflate; client_max_window_bits, permessage-deflate",
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits, permessage-deflate; mode=fast, \
             permessage-deflate; client_max_window_bits",
            "permessage-deflate, and then ; nonsense",
        ] {
            assert_eq!(accept(line.as_bytes()), Some(ANSWER), "{line}");
        }
        for line in [
            "permessage-deflate; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=9, permessage-deflate; server_max_window_bits=\"15\"",
        ] {
            assert_eq!(accept(line.as_bytes()), Some(ANSWER_WITH_WINDOW), "{line}");
        }
        assert!(ANSWER_WITH_WINDOW.starts_with(ANSWER));
    }

    #[test]
    fn all_other_offers_are_declined() {
        for line in [
            "",
            ",",
            "permessage-bzip2",
            "permessage-deflatex",
            "Permessage-Deflate",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=14",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=015",
            "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=010",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate; client_max_window_bits=\"10\\",
            "permessage-deflate; client_max_window_bits=\"1 0\"",
            "permessage-deflate; client_max_window_bits=\"10\" 5",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; unknown",
            "permessage-deflate; unknown=1; client_max_window_bits",
            "permessage-deflate;",
            "permessage-deflate; ;",
            "permessage-deflate permessage-deflate",
            "permessage-deflate; =10",
            "permessage-deflate/1",
            "\"permessage-deflate\"",
            "other/; a, permessage-deflate",
            "other; a=\"b, permessage-deflate",
            "\u{fffd}",
        ] {
            assert_eq!(accept(line.as_bytes()), None, "{line}");
        }
    }
}
