//! Whole numbers as people write them, in options, parameters and URLs.

/// Reads a number in decimal digits. It has no sign, and no zero before it: elsewhere `0060` may be 48, and the standard
/// library would also take `+60`. Where each number has one form, a mistyped one is not taken for another.
pub fn read<N: TryFrom<u64>>(text: &str) -> Option<N> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse::<u64>().ok().filter(|_| is_plain)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        for (text, number) in [("0", 0), ("7", 7), ("10", 10), ("18446744073709551615", u64::MAX)] {
            assert_eq!(read(text), Some(number), "{text}");
        }
        let wrong = ["", "+0", "+7", "-0", "-7", "00", "007", " 7", "7 ", "7.", "1e2", "0x7", "1_0", "\u{667}"];
        for text in wrong.into_iter().chain(["18446744073709551616"]) {
            assert_eq!(read::<u64>(text), None, "{text}");
        }
        assert_eq!((read::<u16>("65535"), read::<u16>("65536")), (Some(65_535), None));
    }
}
