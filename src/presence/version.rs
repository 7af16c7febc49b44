//! Versions of presence, as polls have them: `<life>-<number>`.

use crate::number;

/// The longest text of a version.
pub(crate) const MAX_VERSION: usize = 40;

/// Names this life of a hub among all. A number of another life says nothing here.
#[derive(Debug)]
pub(super) struct Life(Box<str>);

impl Life {
    pub(super) fn new() -> Self {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        // Without random bits all lives have one name. Then a version of the life before counts, and a client that has
        // it may be told late.
        let mut rest = getrandom::u64().unwrap_or(0);
        let digit = |_| {
            let digit = DIGITS[(rest % 36) as usize];
            rest /= 36;
            char::from(digit)
        };
        Life((0..13).map(digit).collect::<String>().into())
    }

    pub(super) fn text(&self, version: u64) -> String {
        format!("{}-{version}", self.0)
    }

    /// The number of a version of this life.
    pub(super) fn read(&self, text: &str) -> Option<u64> {
        let (life, version) = text.split_once('-')?;
        if life != &*self.0 {
            return None;
        }
        number::read(version)
    }
}

/// Whether a text may be a version of any life.
pub(crate) fn is_version(text: &str) -> bool {
    let Some((life, number)) = text.split_once('-') else { return false };
    text.len() <= MAX_VERSION
        && !life.is_empty()
        && !number.is_empty()
        && life.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_of_one_life() {
        let (life, other) = (Life("abc".into()), Life::new());
        let text = life.text(u64::MAX);
        assert_eq!((life.read(&text), other.read(&text)), (Some(u64::MAX), None));
        assert!(is_version(&text) && is_version(&other.text(u64::MAX)) && other.text(u64::MAX).len() <= MAX_VERSION);
        for wrong in ["", "1", "-", "a-", "-1", "a-b", "A-1", "a-1-2", "true", "a 1", &format!("{}-1", "a".repeat(39))]
        {
            assert!(!is_version(wrong) && life.read(wrong).is_none(), "{wrong}");
        }
    }
}
