//! The targets of fuzzers. There is a function for each parser and for the hub. It takes any bytes, and panics if the
//! code breaks a promise.
//!
//! This room is compiled for fuzzers (`cfg(fuzzing)`) and for the tests, which replay `fuzz/corpus`. It is in no
//! release.

mod answers;
mod compression;
mod hub;
mod parsers;
mod peers;
#[cfg(test)]
pub(crate) mod random;
#[cfg(feature = "tls")]
mod tls;
pub(crate) mod wire;

/// A target: its name, which is also the name of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("head", parsers::head),
    ("query", parsers::query),
    ("position", parsers::position),
    ("proxy_header", peers::proxy_header),
    ("forwarded", peers::forwarded),
    ("push_v1", parsers::push_v1),
    ("control_batch", parsers::control_batch),
    ("options", parsers::options),
    ("toml", parsers::toml),
    ("jwt", parsers::jwt),
    ("jwks", parsers::jwks),
    ("ws", wire::websocket),
    ("extensions", compression::extensions),
    ("deflate", compression::deflate),
    ("sse", wire::sse),
    ("attach_from_host", wire::from_host),
    ("attach_from_hub", wire::from_hub),
    ("hub", hub::run),
    ("answers", answers::run),
    #[cfg(feature = "tls")]
    ("tls", tls::run),
    ("backpressure", crate::shard::delivery::backpressure_model::run),
];

/// Runs one input through a target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, run) = target.unwrap_or_else(|| panic!("no target {name}"));
    run(data);
}

/// Reads values from bytes. When the bytes are used up, it reads zeros.
#[derive(Debug)]
pub(crate) struct Source<'a>(pub(crate) &'a [u8]);

impl<'a> Source<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `bound`, which is at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::random::Random;
    use super::*;
    use std::path::Path;

    #[test]
    #[cfg_attr(miri, ignore = "thousands of inputs")]
    fn every_input_of_the_corpora_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, run) in TARGETS {
            let files = std::fs::read_dir(corpus.join(name)).unwrap_or_else(|error| panic!("corpus {name}: {error}"));
            let mut count = 0;
            for file in files {
                let path = file.unwrap().path();
                let data = std::fs::read(&path).unwrap();
                let held = std::panic::catch_unwind(|| run(&data));
                assert!(held.is_ok(), "{}", path.display());
                count += 1;
            }
            assert!(count >= 10, "corpus {name}: {count} inputs are too few; some of the corpus is missing");
        }
    }

    #[test]
    fn the_hub_keeps_its_promises_in_any_order_of_events() {
        run_random_inputs("hub", 6_000);
    }

    #[test]
    fn the_model_of_the_hub_finds_planted_mistakes_with_the_ends_of_streams() {
        use crate::hub::planted::{with, Mistake};
        for mistake in [Mistake::OldEndStays, Mistake::AlwaysWhole] {
            let found = std::panic::catch_unwind(|| with(mistake, || run_random_inputs("hub", 6_000)));
            assert!(found.is_err(), "{mistake:?} is not found");
        }
    }

    #[test]
    fn the_model_of_the_hub_finds_planted_mistakes_with_patterns() {
        use crate::hub::planted::{with, Mistake};
        for mistake in [Mistake::ReachStays, Mistake::GoneIsNotTold, Mistake::GapNamesChannel] {
            let found = std::panic::catch_unwind(|| with(mistake, || run_random_inputs("hub", 6_000)));
            assert!(found.is_err(), "{mistake:?} is not found");
        }
    }

    #[test]
    fn answers_of_hubs_are_added_up_or_refused_as_a_whole() {
        run_random_inputs("answers", 6_000);
    }

    #[test]
    fn an_outbox_keeps_its_promises_under_every_slow_policy() {
        run_random_inputs("backpressure", 2_000);
    }

    #[test]
    #[cfg(feature = "tls")]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_tls_session_keeps_its_promises_however_its_bytes_come_and_go() {
        run_random_inputs("tls", 1_500);
    }

    /// Runs random inputs from a fixed seed.
    fn run_random_inputs(name: &str, cases: usize) {
        let cases = if cfg!(miri) { 5 } else { cases };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for case in 0..cases {
            let len = random.below(400);
            let data = random.bytes(len);
            let held = std::panic::catch_unwind(|| run(name, &data));
            assert!(held.is_ok(), "case {case}: {data:?}");
        }
    }
}
