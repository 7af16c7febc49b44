//! The ids that clients give themselves, so that a message can be published to all others.

use crate::error::Error;
use std::fmt;

/// The bytes of an id.
const BYTES: usize = 16;
/// The length of an id as text.
const TEXT: usize = 36;
/// The places of the hyphens in it.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The id of a client: a UUID that it has chosen (`client=` in its URL). A message that is published except for an id
/// leaves out the clients that call themselves so, on each transport and at each hub, and also when they come back.
///
/// It is no secret and proves nothing. It hides messages from those who name it as their own, and from nobody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId([u8; BYTES]);

impl ClientId {
    /// The bytes of an id.
    pub(crate) const BYTES: usize = BYTES;

    /// Reads a UUID (RFC 9562, section 4): 32 hexadecimal digits of either case, with hyphens. Other forms, such as
    /// those with braces, are not ids.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != TEXT {
            return None;
        }
        let (mut id, mut digits) = ([0u8; BYTES], 0);
        for (place, byte) in text.iter().enumerate() {
            if HYPHENS.contains(&place) {
                if *byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = char::from(*byte).to_digit(16)? as u8;
            id[digits / 2] = id[digits / 2] << 4 | digit;
            digits += 1;
        }
        Some(ClientId(id))
    }

    /// Reads an id that stands under this name. The error says what is allowed.
    pub fn named(name: &str, text: &str) -> Result<Self, Error> {
        Self::parse(text).ok_or_else(|| Error::invalid(Self::wrong(name)))
    }

    /// The error about a text that is no id.
    pub(crate) fn wrong(name: &str) -> String {
        format!("{name} must be a UUID: 32 hexadecimal digits, as in 01234567-89ab-cdef-0123-456789abcdef")
    }

    /// An id that nobody else has. `None`: the system has no random bits.
    pub(crate) fn random() -> Option<Self> {
        let mut id = [0; BYTES];
        getrandom::fill(&mut id).ok()?;
        Some(ClientId(id))
    }

    pub(crate) fn from_bytes(bytes: [u8; BYTES]) -> Self {
        ClientId(bytes)
    }

    pub(crate) fn to_bytes(self) -> [u8; BYTES] {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_in_its_usual_form_and_nothing_else() {
        let text = "01234567-89ab-cdef-0123-456789abcdef";
        let id = ClientId::parse(text).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.to_bytes()[..3], [0x01, 0x23, 0x45]);
        assert_eq!(ClientId::from_bytes(id.to_bytes()), id);
        assert_eq!(ClientId::parse(&text.to_uppercase()), Some(id));
        assert!(ClientId::parse("00000000-0000-0000-0000-000000000000").is_some());
        for wrong in [
            "",
            "0123456789abcdef0123456789abcdef",
            "{01234567-89ab-cdef-0123-456789abcdef}",
            "urn:uuid:01234567-89ab-cdef-0123-456789abcdef",
            "01234567-89ab-cdef-0123-456789abcde",
            "01234567-89ab-cdef-0123-456789abcdef0",
            "01234567-89ab-cdef-0123-456789abcdeg",
            "0123456-789ab-cdef-0123-456789abcdef",
            "01234567-89ab-cdef-0123-456789abcd\u{e9}",
            " 1234567-89ab-cdef-0123-456789abcdef",
            "+1234567-89ab-cdef-0123-456789abcdef",
            "01234567 89ab cdef 0123 456789abcdef",
        ] {
            assert_eq!(ClientId::parse(wrong), None, "{wrong}");
        }
        let error = ClientId::named("except", "x").unwrap_err().to_string();
        assert!(error.starts_with("except must be a UUID"), "{error}");
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(ClientId::random().unwrap(), ClientId::random().unwrap());
    }
}
