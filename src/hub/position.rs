//! Positions: `<epoch>-<seq>`, a place in one run of a hub's history.

use std::fmt;
use std::sync::Arc;

/// The longest position. It is under 128 bytes, since browsers ask before they send a longer one across origins.
pub const MAX_POSITION: usize = 55;
/// A position that no hub has given out: a real epoch has 13 characters.
pub const ELSEWHERE: &str = "0-0";
const MAX_EPOCH: usize = MAX_POSITION - 21;

/// Names one run of a hub's history. A history that outlives the process keeps its epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// An epoch from random bits. A client's position from another epoch must not look like one from this.
    pub fn from_random(bits: u64) -> Self {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut rest = bits;
        let text: String = (0..13)
            .map(|_| {
                let digit = DIGITS[(rest % 36) as usize];
                rest /= 36;
                char::from(digit)
            })
            .collect();
        Epoch(text.into())
    }

    /// An epoch that another process has named. `None` if the text can't be an epoch.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let fits = (1..=MAX_EPOCH).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| Epoch(text.into()))
    }

    /// Its text, letters and digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Writes the position of a message of this epoch.
    pub fn write_position(&self, seq: u64, into: &mut Vec<u8>) {
        into.extend_from_slice(self.0.as_bytes());
        into.push(b'-');
        into.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
    }

    /// The position of a message of this epoch, as text.
    pub fn position(&self, seq: u64) -> String {
        let mut digits = itoa::Buffer::new();
        [&*self.0, "-", digits.format(seq)].concat()
    }

    /// The same, or a position that no hub knows.
    pub(crate) fn position_or_elsewhere(&self, seq: Option<u64>) -> String {
        seq.map_or(ELSEWHERE.into(), |seq| self.position(seq))
    }
}

/// A position as a client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position<'a> {
    /// The epoch.
    pub epoch: &'a str,
    /// The last message seen in it.
    pub seq: u64,
}

impl<'a> Position<'a> {
    /// Reads a position; `None` for anything else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (epoch, digits) = text.rsplit_once('-')?;
        let epoch_fits = (1..=MAX_EPOCH).contains(&epoch.len()) && epoch.bytes().all(|b| b.is_ascii_alphanumeric());
        let digits_fit = (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !epoch_fits || !digits_fit {
            return None;
        }
        Some(Position { epoch, seq: digits.parse().ok()? })
    }
}

impl fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let epoch = Epoch::from_random(u64::MAX);
        let text = epoch.position(u64::MAX);
        assert!(text.len() <= MAX_POSITION, "{text}");
        assert_eq!(Position::parse(&text), Some(Position { epoch: epoch.as_str(), seq: u64::MAX }));
        let mut written = Vec::new();
        epoch.write_position(7, &mut written);
        assert_eq!(written, epoch.position(7).into_bytes());
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("{}-1", "a".repeat(35));
        assert!(Position::parse(ELSEWHERE).is_some_and(|elsewhere| elsewhere.epoch.len() < 13));
        for wrong in ["", "-", "a-", "-1", "a-1b", "a-+1", "a b-1", "ä-1", "a-99999999999999999999", &long] {
            assert_eq!(Position::parse(wrong), None, "{wrong}");
        }
    }
}
