//! The `traceparent` of a publisher: W3C Trace Context, level 1, section 3.2.

/// The place of a publish in a trace of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    trace: [u8; 16],
    parent: [u8; 8],
    sampled: bool,
}

/// The length of the text in version 00, and of the part of it that later versions have, too.
const LEN: usize = 55;
const SAMPLED: u8 = 1;

impl Traceparent {
    /// How many bytes [`Self::to_bytes`] gives.
    pub(crate) const BYTES: usize = 25;

    /// Reads the text of a `traceparent`. `None` if it is not valid: the specification demands that it is ignored then.
    ///
    /// Version 00 has exactly 55 characters. A later version may have more behind them, after a hyphen, which are not
    /// read. Hexadecimal digits are lower case. Ids of zeros, and version ff, are not valid.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(LEN)?;
        let [version] = hex::<1>(&head[..2])?;
        if version == 0xff || [head[2], head[35], head[52]] != *b"---" {
            return None;
        }
        if !rest.is_empty() && (version == 0 || rest[0] != b'-') {
            return None;
        }
        let [flags] = hex::<1>(&head[53..])?;
        // Of the flags only this one is known, also in later versions.
        Traceparent::new(hex(&head[3..35])?, hex(&head[36..52])?, flags & SAMPLED != 0)
    }

    fn new(trace: [u8; 16], parent: [u8; 8], sampled: bool) -> Option<Self> {
        (trace != [0; 16] && parent != [0; 8]).then_some(Traceparent { trace, parent, sampled })
    }

    /// Its bytes, for the attach socket.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.parent);
        bytes[24] = self.sampled.into();
        bytes
    }

    /// Reads such bytes. `None` if they can't be.
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (trace, rest) = bytes.split_first_chunk::<16>()?;
        let (parent, rest) = rest.split_first_chunk::<8>()?;
        match rest {
            [sampled @ (0 | 1)] => Traceparent::new(*trace, *parent, *sampled == 1),
            _ => None,
        }
    }

    pub(crate) fn is_sampled(&self) -> bool {
        self.sampled
    }

    pub(super) fn trace(&self) -> [u8; 16] {
        self.trace
    }

    pub(super) fn parent(&self) -> [u8; 8] {
        self.parent
    }
}

/// Reads lower-case hexadecimal digits, two for each byte.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_text_has_the_ids_and_the_flag() {
        let read = Traceparent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(read.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
        assert_eq!(read.parent, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("fe", false), ("ff", true)]
        {
            let text = GOOD.replace("-01", &format!("-{flags}"));
            assert_eq!(Traceparent::parse(text.as_bytes()).map(|read| read.sampled), Some(sampled), "{text}");
        }
    }

    #[test]
    fn a_later_version_may_have_more_behind_a_hyphen() {
        for (version, rest, valid) in [
            ("01", "", true),
            ("cc", "-what-the-future-will-be-like", true),
            ("fe", "-", true),
            ("01", ".more", false),
            ("01", "0", false),
            ("00", "-", false),
            ("00", "-more", false),
            ("ff", "", false),
            ("ff", "-more", false),
        ] {
            let text = format!("{version}{}{rest}", &GOOD[2..]);
            assert_eq!(Traceparent::parse(text.as_bytes()).is_some(), valid, "{text}");
        }
    }

    #[test]
    fn what_is_not_valid_is_none_and_never_a_panic() {
        let zeros = ["0", "-00000000000000000000000000000000-", "-0000000000000000-"];
        for wrong in [
            GOOD.to_uppercase(),
            GOOD.replace("0af7", "0AF7"),
            GOOD.replace("0af7", "0xf7"),
            GOOD.replace("-0af7651916cd43dd8448eb211c80319c-", zeros[1]),
            GOOD.replace("-b7ad6b7169203331-", zeros[2]),
            GOOD.replace('-', "_"),
            GOOD.replace("3331-", "3331 "),
            format!(" {}", &GOOD[1..]),
            format!("{GOOD} "),
            format!("{GOOD},{GOOD}"),
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01".to_owned(),
            "\u{e4}".repeat(28),
            "-".repeat(55),
            "0".repeat(55),
            "9".repeat(1 << 16),
            zeros[0].to_owned(),
        ] {
            assert_eq!(Traceparent::parse(wrong.as_bytes()), None, "{wrong:.80}");
        }
        for len in 0..GOOD.len() {
            assert_eq!(Traceparent::parse(&GOOD.as_bytes()[..len]), None, "{len}");
        }
        for at in 0..GOOD.len() {
            for byte in 0..=255 {
                let mut bytes = GOOD.as_bytes().to_vec();
                bytes[at] = byte;
                // Each byte is a digit, or the hyphen in its place.
                let fits = match at {
                    2 | 35 | 52 => byte == b'-',
                    _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                };
                assert_eq!(Traceparent::parse(&bytes).is_some(), fits, "{at} {byte}");
            }
        }
    }

    #[test]
    fn bytes_are_read_as_they_were_written_and_others_are_refused() {
        let read = Traceparent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(Traceparent::from_bytes(&read.to_bytes()), Some(read));
        let mut bytes = read.to_bytes();
        bytes[24] = 2;
        assert_eq!(Traceparent::from_bytes(&bytes), None);
        assert_eq!(Traceparent::from_bytes(&[0; Traceparent::BYTES]), None);
    }
}
