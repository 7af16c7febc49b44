//! The query of a control request. Unknown parameters are refused: otherwise a caller who misspells one would believe
//! that it counts.

use crate::http::query;
use crate::http::refusal::Refusal;
use crate::number;
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// How many users or channels one request may name, or pairs of both. For each, every thread searches its connections.
const MAX_NAMED: usize = 100;

/// A parameter that a request may have, once or several times.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    Once(&'static str),
    Several(&'static str),
}

impl Known {
    fn name(self) -> &'static str {
        match self {
            Known::Once(name) | Known::Several(name) => name,
        }
    }
}

/// The parameters that a request has.
#[derive(Debug)]
pub(super) struct Parameters<'q>(Vec<(&'static str, Cow<'q, str>)>);

impl<'q> Parameters<'q> {
    pub(super) fn read(query: &'q str, known: &[Known]) -> Result<Self, Refusal> {
        let mut found: Vec<(&'static str, Cow<'q, str>)> = Vec::new();
        for (name, value) in query::pairs(query) {
            let known = known.iter().find(|known| known.name() == name).ok_or_else(|| unknown(&name, known))?;
            let name = known.name();
            // Bytes that are not UTF-8 were replaced by this character, so two different names would become one.
            if value.contains('\u{fffd}') {
                return Err(Refusal::malformed(name, format!("{name}: not UTF-8")));
            }
            let before = || found.iter().filter(|(known, _)| *known == name);
            if matches!(known, Known::Once(_)) && before().next().is_some() {
                return Err(Refusal::malformed("twice", format!("{name}: this request takes it only once")));
            }
            if before().count() == MAX_NAMED {
                return Err(Refusal::malformed(name, format!("{name}: at most {MAX_NAMED} are allowed")));
            }
            if before().any(|(_, known)| *known == value) {
                return Err(Refusal::malformed("twice", format!("{name}: {value:.60} is named twice")));
            }
            found.push((name, value));
        }
        Ok(Parameters(found))
    }

    /// Checks that there are no parameters.
    pub(super) fn none(query: &str) -> Result<(), Refusal> {
        Parameters::read(query, &[]).map(drop)
    }

    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| *known == name).map(|(_, value)| &**value).collect()
    }

    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    /// A parameter that is a number in decimal digits, within these bounds.
    pub(super) fn number(&self, name: &'static str, bounds: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.one(name) else { return Ok(None) };
        let number = number::read(text).filter(|number| bounds.contains(number));
        number.map(Some).ok_or_else(|| {
            let message = format!("{name} must be a number from {} to {}", bounds.start(), bounds.end());
            Refusal::malformed(name, message)
        })
    }

    /// A parameter that is 0, as without it, or 1.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Refusal> {
        match self.one(name) {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(Refusal::malformed(name, format!("{name} must be 0 or 1"))),
        }
    }

    /// All values of a parameter that must be there at least once.
    pub(super) fn needed(&self, name: &'static str) -> Result<Vec<&str>, Refusal> {
        match self.all(name) {
            none if none.is_empty() => Err(Refusal::malformed(name, format!("?{name}= is needed"))),
            some => Ok(some),
        }
    }

    /// Every pair of the values of two parameters.
    pub(super) fn pairs(&self, one: &'static str, other: &'static str) -> Result<Vec<(&str, &str)>, Refusal> {
        let (ones, others) = (self.needed(one)?, self.needed(other)?);
        if ones.len() * others.len() > MAX_NAMED {
            let message = format!("at most {MAX_NAMED} pairs of {one} and {other} are allowed");
            return Err(Refusal::malformed(other, message));
        }
        Ok(ones.iter().flat_map(|one| others.iter().map(|other| (*one, *other))).collect())
    }
}

fn unknown(name: &str, known: &[Known]) -> Refusal {
    let names: Vec<_> = known.iter().map(|known| known.name()).collect();
    let allowed = if names.is_empty() { "none".into() } else { names.join(", ") };
    Refusal::malformed("parameter", format!("unknown parameter {name:.60}; allowed: {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::Known::{Once, Several};
    use super::*;

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        let known = [Several("user"), Once("reason")];
        let good = Parameters::read("user=a%26&user=b&reason=x+y&", &known).unwrap();
        assert_eq!((good.all("user"), good.one("reason")), (vec!["a&", "b"], Some("x y")));
        let many: String = (0..=100).map(|number| format!("&user={number}")).collect();
        for (query, told) in [
            ("usr=a", "unknown parameter usr; allowed: user, reason"),
            ("User=a", "unknown parameter User; allowed: user, reason"),
            ("=a", "unknown parameter ; allowed: user, reason"),
            ("reason=a&reason=b", "reason: this request takes it only once"),
            ("user=a&user=a", "user: a is named twice"),
            ("user=%ff", "user: not UTF-8"),
            (&*many, "user: at most 100 are allowed"),
        ] {
            let refusal = Parameters::read(query, &known).unwrap_err();
            assert_eq!((refusal.status, &*refusal.message), (400, told), "{query}");
        }
        assert_eq!(Parameters::none("a=1").unwrap_err().message, "unknown parameter a; allowed: none");
        assert!(Parameters::none("").is_ok());
    }

    #[test]
    fn numbers_are_digits_within_their_bounds() {
        let number = |query: &str| {
            let parameters = Parameters::read(query, &[Once("limit")]).unwrap();
            parameters.number("limit", 1..=1000).map_err(|refusal| refusal.message.into_owned())
        };
        assert_eq!((number(""), number("limit=1"), number("limit=1000")), (Ok(None), Ok(Some(1)), Ok(Some(1000))));
        let long = format!("limit={}", "9".repeat(255));
        for wrong in [
            "limit=",
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=%2B7",
            "limit=+7",
            "limit=007",
            "limit=7x",
            "limit=1e2",
            "limit=0x10",
            "limit=%D9%A7",
            &long,
        ] {
            assert_eq!(number(wrong), Err("limit must be a number from 1 to 1000".into()), "{wrong}");
        }
    }

    #[test]
    fn flags_are_0_or_1() {
        let flag = |query: &str| Parameters::read(query, &[Once("slow")]).unwrap().flag("slow").ok();
        assert_eq!([flag(""), flag("slow=0"), flag("slow=1")], [Some(false), Some(false), Some(true)]);
        assert_eq!([flag("slow="), flag("slow=2"), flag("slow=true"), flag("slow=01")], [None; 4]);
    }

    #[test]
    fn pairs_are_bounded_together() {
        let known = [Several("user"), Several("channel")];
        let query = |count: usize| (0..count).map(|n| format!("user={n}&channel={n}&")).collect::<String>();
        assert_eq!(Parameters::read(&query(10), &known).unwrap().pairs("user", "channel").unwrap().len(), 100);
        assert!(Parameters::read(&query(11), &known).unwrap().pairs("user", "channel").is_err());
        assert!(Parameters::read("user=a", &known).unwrap().pairs("user", "channel").is_err());
    }
}
