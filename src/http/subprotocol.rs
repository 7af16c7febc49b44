//! Chooses the subprotocol of a WebSocket from those that its client offers (RFC 6455, section 4.2.2).
//!
//! If a client offers subprotocols, and the answer has none of them in exactly the same spelling, a browser fails the
//! connection (WHATWG WebSockets, section 4). So a client that offers only other names gets raw frames under the first
//! of these names.
//!
//! This is the only header of a handshake that a page can set. So it may carry a token, beside `push.v1.json`. A token
//! is chosen only if nothing else can be: answers are logged in places where requests are not.

use super::extensions::is_token;
use super::refusal::Refusal;
use super::request::SUBPROTOCOL;

/// Names with this prefix are reserved for us. One that we do not speak yet must not be taken for another protocol.
const OURS: &str = "push.";
/// The longest name of another protocol.
const MAX_NAME: usize = 255;

/// The subprotocols that a client offers.
#[derive(Debug, Default)]
pub(super) struct Offer<'b> {
    spoken: bool,
    ours: bool,
    malformed: bool,
    /// The first name of another protocol.
    other: Option<&'b str>,
    token: Option<&'b str>,
}

impl<'b> Offer<'b> {
    /// Reads a line `Sec-WebSocket-Protocol`.
    pub(super) fn add(&mut self, line: &'b [u8]) {
        // An empty element does not count (RFC 9110, section 5.6.1).
        for name in line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
            match std::str::from_utf8(name) {
                Ok(name) if name == SUBPROTOCOL => self.spoken = true,
                Ok(name) if !name.bytes().all(is_token) => self.malformed = true,
                Ok(name) if is_web_token(name) => self.token = self.token.or(Some(name)),
                Ok(name) if begins_like_ours(name) => self.ours = true,
                Ok(name) if name.len() <= MAX_NAME => self.other = self.other.or(Some(name)),
                _ => self.malformed = true,
            }
        }
    }

    /// The answer. `None` if nothing is offered.
    pub(super) fn choose(&self) -> Result<Option<&'b str>, Refusal> {
        let wrong = |message: String| Err(Refusal::malformed("subprotocol", message));
        match (self.spoken, self.other) {
            // A name that can't be chosen may be a token that only the host understands.
            (true, _) => Ok(Some(SUBPROTOCOL)),
            (false, Some(other)) => Ok(Some(other)),
            (false, None) if self.ours => {
                wrong(format!("the only subprotocol of this server is {SUBPROTOCOL}, in exactly this spelling"))
            }
            (false, None) if self.token.is_some() => Ok(self.token),
            (false, None) if self.malformed => {
                wrong(format!("Sec-WebSocket-Protocol is not a list of names of at most {MAX_NAME} bytes"))
            }
            (false, None) => Ok(None),
        }
    }

    /// The token among the offered names.
    pub(super) fn token(&self) -> Option<&'b str> {
        self.token
    }
}

fn begins_like_ours(name: &str) -> bool {
    name.as_bytes().get(..OURS.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(OURS.as_bytes()))
}

/// True if a name is a JSON web token, which begins with the base64 of `{"`.
pub(crate) fn is_web_token(name: &str) -> bool {
    name.starts_with("eyJ") && name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2lnbmF0dXJl";

    fn offer<'b>(lines: &[&'b str]) -> Offer<'b> {
        let mut offer = Offer::default();
        lines.iter().for_each(|line| offer.add(line.as_bytes()));
        offer
    }

    #[test]
    fn our_protocol_is_chosen_else_the_first_offer() {
        let two = format!("{TOKEN}, my-app");
        let long = "x".repeat(255);
        let opaque = format!("push.v1.json, {}", "x".repeat(300));
        for (lines, chosen) in [
            (&[][..], None),
            (&[""], None),
            (&[" , "], None),
            (&["push.v1.json"], Some(SUBPROTOCOL)),
            (&["chat, push.v1.json", "other"], Some(SUBPROTOCOL)),
            (&["chat", "push.v1.json"], Some(SUBPROTOCOL)),
            (&["PUSH.V1.JSON, push.v1.json"], Some(SUBPROTOCOL)),
            (&["my-app"], Some("my-app")),
            (&["My-App,other", "more"], Some("My-App")),
            (&["push.v2.json, my-app"], Some("my-app")),
            (&["push", "pushed.v1"], Some("push")),
            (&["example.v1.json"], Some("example.v1.json")),
            (&[&long], Some(&long)),
            (&[&two], Some("my-app")),
            // Tokens that only the host understands: too long for a name, or with other characters.
            (&[&opaque], Some(SUBPROTOCOL)),
            (&["push.v1.json, c2VjcmV0Cg=="], Some(SUBPROTOCOL)),
            (&["a/b, my-app"], Some("my-app")),
            // There is nothing else to choose, and a browser would fail the connection.
            (&[TOKEN], Some(TOKEN)),
        ] {
            assert_eq!(offer(lines).choose(), Ok(chosen), "{lines:?}");
        }
    }

    #[test]
    fn a_reserved_name_is_not_taken_for_another_protocol() {
        let long = "x".repeat(256);
        let token = format!("PUSH.V1.JSON, {TOKEN}");
        for (line, told) in [
            ("PUSH.V1.JSON", "exactly this spelling"),
            ("push.v2.json", "the only subprotocol of this server is push.v1.json"),
            (&token, "exactly this spelling"),
            ("Push.", "is push.v1.json, in"),
            ("a b", "not a list of names"),
            ("\u{e9}", "not a list of names"),
            (&long, "at most 255 bytes"),
        ] {
            let refusal = offer(&[line]).choose().unwrap_err();
            assert_eq!((refusal.status, &*refusal.code), (400, "subprotocol"), "{line}");
            assert!(refusal.message.contains(told) && !refusal.message.contains("eyJ"), "{}", refusal.message);
        }
    }

    #[test]
    fn a_token_among_the_names_is_found() {
        let line = format!("push.v1.json, {TOKEN}");
        for lines in [&[&*line][..], &[TOKEN, "push.v1.json"], &["my-app", TOKEN, "eyJ.a.b"]] {
            assert_eq!(offer(lines).token(), Some(TOKEN));
        }
        assert_eq!(offer(&["push.v1.json, my-app, eyJ"]).token(), None);
    }
}
