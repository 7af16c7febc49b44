//! Which subprotocol a WebSocket gets of those that its client offers (RFC 6455, section 4.2.2).
//!
//! A browser fails the connection where it has offered some and none is chosen (WHATWG WebSockets, section 4), or where
//! the answer is not one of them letter by letter. So a client that offers only names of its own gets raw frames under
//! the first of them.
//!
//! A page can set no header of a handshake but this one. So a token may stand in it, beside `push.v1.json`. It is not
//! chosen while anything else can be: an answer is logged where a request is not.

use super::extensions::is_token;
use super::refusal::Refusal;
use super::request::SUBPROTOCOL;

/// Names that begin so are ours: one that is not spoken yet must not be taken for somebody else's.
const OURS: &str = "push.";
/// The longest name of somebody else's.
const MAX_NAME: usize = 255;

/// What a client offers.
#[derive(Debug, Default)]
pub(super) struct Offer<'b> {
    spoken: bool,
    ours: bool,
    malformed: bool,
    /// The first name of somebody else's.
    other: Option<&'b str>,
    token: Option<&'b str>,
}

impl<'b> Offer<'b> {
    /// Takes in a line `Sec-WebSocket-Protocol`.
    pub(super) fn add(&mut self, line: &'b [u8]) {
        // An empty element is none (RFC 9110, section 5.6.1).
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

    /// What is answered; `None` where nothing is offered.
    pub(super) fn choose(&self) -> Result<Option<&'b str>, Refusal> {
        let wrong = |message: String| Err(Refusal::malformed("subprotocol", message));
        match (self.spoken, self.other) {
            // A name that can't be chosen may be a token that only the host understands.
            (true, _) => Ok(Some(SUBPROTOCOL)),
            (false, Some(other)) => Ok(Some(other)),
            (false, None) if self.ours => wrong(format!("only {SUBPROTOCOL} is spoken here, written exactly so")),
            (false, None) if self.token.is_some() => Ok(self.token),
            (false, None) if self.malformed => {
                wrong(format!("Sec-WebSocket-Protocol is not a list of names of at most {MAX_NAME} bytes"))
            }
            (false, None) => Ok(None),
        }
    }

    /// The token among the names.
    pub(super) fn token(&self) -> Option<&'b str> {
        self.token
    }
}

fn begins_like_ours(name: &str) -> bool {
    name.as_bytes().get(..OURS.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(OURS.as_bytes()))
}

/// Whether a name is a JSON web token: it begins with the base64 of `{"`.
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
    fn what_is_spoken_is_chosen_else_the_first_that_is_offered() {
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
            // Tokens that only a host understands: too long for a name, or of other characters.
            (&[&opaque], Some(SUBPROTOCOL)),
            (&["push.v1.json, c2VjcmV0Cg=="], Some(SUBPROTOCOL)),
            (&["a/b, my-app"], Some("my-app")),
            // There is nothing else, and a browser would give up.
            (&[TOKEN], Some(TOKEN)),
        ] {
            assert_eq!(offer(lines).choose(), Ok(chosen), "{lines:?}");
        }
    }

    #[test]
    fn a_name_like_ours_is_not_somebody_elses() {
        let long = "x".repeat(256);
        let token = format!("PUSH.V1.JSON, {TOKEN}");
        for (line, told) in [
            ("PUSH.V1.JSON", "written exactly so"),
            ("push.v2.json", "only push.v1.json is spoken here"),
            (&token, "written exactly so"),
            ("Push.", "only push.v1.json"),
            ("a b", "not a list of names"),
            ("\u{e9}", "not a list of names"),
            (&long, "at most 255 bytes"),
        ] {
            let refusal = offer(&[line]).choose().unwrap_err();
            assert_eq!((refusal.status, refusal.code), (400, "subprotocol"), "{line}");
            assert!(refusal.message.contains(told) && !refusal.message.contains("eyJ"), "{}", refusal.message);
        }
    }

    #[test]
    fn a_token_among_them_is_found() {
        let line = format!("push.v1.json, {TOKEN}");
        for lines in [&[&*line][..], &[TOKEN, "push.v1.json"], &["my-app", TOKEN, "eyJ.a.b"]] {
            assert_eq!(offer(lines).token(), Some(TOKEN));
        }
        assert_eq!(offer(&["push.v1.json, my-app, eyJ"]).token(), None);
    }
}
