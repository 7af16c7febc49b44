//! Whether a public key of Ed25519 is a point that is safe to use.
//!
//! The library that verifies signatures looks at a key only when it verifies. By then it is too late to say which option
//! is wrong. The numbers here are public, so nothing has to take constant time.

/// A number modulo p = 2^255 - 19, in four words, the lowest first. It is below 2^256, and not always below p.
#[derive(Debug, Clone, Copy)]
struct Field([u64; 4]);

const ZERO: Field = Field([0; 4]);
const ONE: Field = Field([1, 0, 0, 0]);
/// p, and (p - 1) / 2.
const P: [u64; 4] = [u64::MAX - 18, u64::MAX, u64::MAX, u64::MAX >> 1];
const HALF: [u64; 4] = [u64::MAX - 9, u64::MAX, u64::MAX, u64::MAX >> 2];
/// The curve's d, -121665/121666 (RFC 8032, section 5.1).
const D: Field = Field([0x75eb_4dca_1359_78a3, 0x0070_0a4d_4141_d8ab, 0x8cc7_4079_7779_e898, 0x5203_6cee_2b6f_fe73]);

/// Whether an encoded point (RFC 8032, section 5.1.2) is one of the curve, and not of small order. With a key of small
/// order, for example 32 zeros, anybody can make valid signatures.
pub(super) fn is_good(encoded: &[u8]) -> bool {
    let Ok(mut bytes) = <[u8; 32]>::try_from(encoded) else { return false };
    // The sign of x. Both signs are points.
    bytes[31] &= 0x7f;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at * 8 + i]));
    let y = Field([word(0), word(1), word(2), word(3)]);
    let square = y.times(y);
    // x^2 = u / v. That is a square if u * v is one.
    let (u, v) = (square.minus(ONE), D.times(square).plus(ONE));
    let is_point = u.times(v).power(HALF).is(ONE);
    // Points of order 1, 2 and 4 have a y of 1, -1 and 0. A point of order 8 doubles to one whose y is 0, which is so if
    // x^2 = -y^2: then the curve's equation is d * y^4 + 2 * y^2 - 1 = 0. For a y of 1 or -1, u is 0: no square above.
    let doubles_to_four = D.times(square).times(square).plus(square).plus(square).minus(ONE);
    is_point && !y.is(ZERO) && !doubles_to_four.is(ZERO)
}

impl Field {
    fn plus(self, other: Field) -> Field {
        let mut wide = [0; 8];
        wide[..4].copy_from_slice(&self.0);
        add(&mut wide, &other.0);
        reduced(wide)
    }

    fn minus(self, other: Field) -> Field {
        // p - 1 stands for -1.
        self.plus(other.times(Field([P[0] - 1, P[1], P[2], P[3]])))
    }

    fn times(self, other: Field) -> Field {
        let mut wide = [0u64; 8];
        for (i, a) in self.0.into_iter().enumerate() {
            let mut carry = 0u128;
            for (j, b) in other.0.into_iter().enumerate() {
                let sum = u128::from(a) * u128::from(b) + u128::from(wide[i + j]) + carry;
                wide[i + j] = sum as u64;
                carry = sum >> 64;
            }
            wide[i + 4] = carry as u64;
        }
        reduced(wide)
    }

    fn power(self, exponent: [u64; 4]) -> Field {
        let bits = (0..256).rev().map(|bit| exponent[bit / 64] >> (bit % 64) & 1);
        bits.fold(ONE, |power, bit| {
            let square = power.times(power);
            if bit == 1 {
                square.times(self)
            } else {
                square
            }
        })
    }

    fn is(self, other: Field) -> bool {
        self.least() == other.least()
    }

    /// The same number below p.
    fn least(self) -> [u64; 4] {
        let mut words = self.0;
        while words.iter().rev().ge(P.iter().rev()) {
            let mut borrow = false;
            for (word, p) in words.iter_mut().zip(P) {
                let (less, first) = word.overflowing_sub(p);
                let (less, second) = less.overflowing_sub(u64::from(borrow));
                (*word, borrow) = (less, first || second);
            }
        }
        words
    }
}

/// A number of 512 bits modulo p, since 2^256 is 38 there.
fn reduced(mut wide: [u64; 8]) -> Field {
    while wide[4..].iter().any(|word| *word != 0) {
        let mut high = [0u64; 5];
        let mut carry = 0u128;
        for (place, word) in high.iter_mut().zip(&wide[4..]) {
            let product = u128::from(*word) * 38 + carry;
            *place = product as u64;
            carry = product >> 64;
        }
        high[4] = carry as u64;
        wide[4..].fill(0);
        add(&mut wide, &high);
    }
    Field([wide[0], wide[1], wide[2], wide[3]])
}

fn add(wide: &mut [u64; 8], other: &[u64]) {
    let mut carry = 0u128;
    for (at, word) in wide.iter_mut().enumerate() {
        let sum = u128::from(*word) + u128::from(other.get(at).copied().unwrap_or(0)) + carry;
        *word = sum as u64;
        carry = sum >> 64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    fn point(hex: &str) -> Vec<u8> {
        (0..32).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "a library in C")]
    fn keys_that_were_made_are_good() {
        for seed in 0..100u8 {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            assert!(is_good(pair.public_key().as_ref()), "{seed}");
        }
    }

    #[test]
    fn points_of_small_order_are_not() {
        for (order, hex) in [
            (1, "0100000000000000000000000000000000000000000000000000000000000000"),
            (2, "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            (4, "0000000000000000000000000000000000000000000000000000000000000000"),
            (8, "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            (8, "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fdd77992ac7a"),
            // The same numbers, not below p.
            (1, "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            (4, "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        ] {
            let mut bytes = point(hex);
            assert!(!is_good(&bytes), "of order {order}");
            bytes[31] |= 0x80;
            assert!(!is_good(&bytes), "of order {order}, with the other sign");
        }
    }

    #[test]
    fn about_half_of_all_numbers_are_no_points() {
        // Of 2 it is known.
        assert!(!is_good(&[&[2][..], &[0; 31]].concat()));
        let points = (0..200u8).filter(|first| is_good(&[&[*first][..], &[7; 31]].concat())).count();
        assert!((60..140).contains(&points), "{points}");
        assert!(!is_good(&[7; 31]) && !is_good(&[7; 33]));
    }
}
