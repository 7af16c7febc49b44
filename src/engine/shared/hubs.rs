//! Which hubs have answered a question to all of them.

use crate::error::{Error, Kind};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// So many missing hubs are told with their names.
const MAX_NAMED: usize = 16;

/// The hubs that were asked something, and those that have not answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hubs {
    /// The number of hubs that were to answer, this one included.
    pub asked: usize,
    /// The number of hubs that have answered.
    pub answered: usize,
    /// The hubs that have not answered in time, each by the name of its life.
    pub missing: Vec<u64>,
    /// A reason why the answer may be incomplete, beside the missing hubs.
    pub(crate) why: Option<String>,
    /// The names of hubs, for operators: of these and of others.
    pub(crate) names: BTreeMap<u64, Arc<str>>,
}

impl Hubs {
    /// The reason why the answer may not be whole: one sentence. `None`: all hubs that follow the log have answered.
    pub fn partial(&self) -> Option<String> {
        let why = self.why_by_name();
        if self.missing.is_empty() {
            return why;
        }
        let (answered, asked) = (self.answered, self.asked);
        let more = why.map_or_else(String::new, |why| format!("; {why}"));
        Some(format!("{answered} of {asked} hubs have answered in time; missing: {self}{more}"))
    }

    /// The reason beside the missing hubs, behind the names of these. An attached host gets no other names.
    pub(crate) fn why_by_name(&self) -> Option<String> {
        let named = self.missing.iter().filter_map(|hub| Some((hub, self.names.get(hub)?)));
        let named = named.take(MAX_NAMED).map(|(hub, name)| format!("{hub:016x} is {name}"));
        let all: Vec<String> = named.chain(self.why.clone()).collect();
        Some(all.join("; ")).filter(|text| !text.is_empty())
    }

    /// Fails if no hub at all has answered, this one neither. Then nothing is known, and counts of 0 would be wrong.
    pub(crate) fn check_answered(&self) -> Result<(), Error> {
        if self.answered > 0 || self.asked == 0 {
            return Ok(());
        }
        let why = self.partial().unwrap_or_default();
        Err(Error::new(Kind::Busy, format!("no hub has answered: {why}; call again")))
    }

    /// Notes a reason why the answer may not be whole.
    pub(crate) fn note(&mut self, why: &str) {
        match &mut self.why {
            Some(before) => *before = format!("{before}; {why}"),
            None => self.why = Some(why.to_owned()),
        }
    }

    /// The answer of a hub can't be read.
    pub(crate) fn not_readable(&mut self, hub: u64) {
        self.answered = self.answered.saturating_sub(1);
        self.missing.push(hub);
        self.note("a part of the answers can't be read: the hubs have different versions");
    }
}

/// The names of the missing hubs, with spaces between.
impl fmt::Display for Hubs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, hub) in self.missing.iter().enumerate() {
            write!(f, "{}{hub:016x}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_whole_says_why() {
        let mut hubs = Hubs { asked: 3, answered: 3, ..Hubs::default() };
        assert_eq!(hubs.partial(), None);
        hubs.not_readable(255);
        let why = hubs.partial().unwrap();
        assert!(why.starts_with("2 of 3 hubs have answered in time; missing: 00000000000000ff; a part"), "{why}");
        hubs.check_answered().unwrap();
        let nobody = Hubs { asked: 1, missing: vec![255], ..Hubs::default() };
        let error = nobody.check_answered().unwrap_err();
        assert_eq!(error.kind(), Kind::Busy);
        let text = "no hub has answered: 0 of 1 hubs have answered in time; missing: 00000000000000ff; call again";
        assert_eq!(error.to_string(), text);
        Hubs::default().check_answered().expect("a hub that is not one of several");
        let away = Hubs { asked: 1, answered: 1, why: Some("away".into()), ..Hubs::default() };
        assert_eq!(away.partial().as_deref(), Some("away"));
    }

    #[test]
    fn missing_hubs_are_told_with_their_names_as_far_as_they_have_some() {
        let names = BTreeMap::from([(1, Arc::from("web-1:9099")), (2, Arc::from("web-2:9099"))]);
        let mut hubs = Hubs { asked: 3, answered: 1, missing: vec![2, 255], names, why: None };
        let text = "1 of 3 hubs have answered in time; missing: 0000000000000002 00000000000000ff; \
                    0000000000000002 is web-2:9099";
        assert_eq!(hubs.partial().as_deref(), Some(text));
        hubs.note("away");
        assert_eq!(hubs.why_by_name().as_deref(), Some("0000000000000002 is web-2:9099; away"));
        let whole = Hubs { missing: vec![], why: None, ..hubs.clone() };
        assert_eq!(whole.partial(), None);
        let many =
            Hubs { missing: (0..5000).collect(), names: (0..5000).map(|hub| (hub, Arc::from("a"))).collect(), ..hubs };
        assert_eq!(many.partial().unwrap().matches(" is a").count(), MAX_NAMED);
    }
}
