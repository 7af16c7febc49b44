//! Hashes of users' names, by which hubs count users together. A user may be on several hubs, and counts once.

/// A prime, 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;

/// The hash of a name, with the bits of a question as its key: a polynomial at a secret point. Two names of at most 255
/// bytes have the same one with a chance below 2^-55, and nobody can choose names that have.
pub(super) fn hash(key: u64, name: &str) -> u64 {
    let point = u128::from(key % (PRIME - 2) + 2);
    let step = |sum: u64, value: u64| ((u128::from(sum) * point + u128::from(value)) % u128::from(PRIME)) as u64;
    let chunk = |sum, bytes: &[u8]| {
        let value = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        step(sum, value + 1)
    };
    step(name.as_bytes().chunks(7).fold(1, chunk), name.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_that_differ_have_hashes_that_differ() {
        let mut names: Vec<String> = (0..100_000).map(|number| format!("user-{number}")).collect();
        names.extend((0..255).map(|len| "\0".repeat(len)));
        names.extend((0..255).map(|len| "a".repeat(len)));
        let distinct: HashSet<&String> = names.iter().collect();
        for key in [0, 1, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
            let key = key | 1 << 40;
            assert_eq!(names.iter().map(|name| hash(key, name)).collect::<HashSet<_>>().len(), distinct.len());
        }
    }

    #[test]
    fn hubs_of_all_versions_have_the_same_hash() {
        assert_eq!(hash(12345, ""), 12347);
        assert_eq!(hash(5, "ab"), 49 + 7 * 0x6262 + 2);
    }
}
