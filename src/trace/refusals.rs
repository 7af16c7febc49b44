//! What a collector refuses, for the log. A collector that refuses everything does so each second. So each reason is
//! told when it comes up, and after that once in a minute, with the number of spans.

use hyper::StatusCode;
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// The time between two lines about the same reason.
const EVERY: Duration = Duration::from_secs(60);

/// Why spans are refused. There are as many reasons as HTTP has statuses, so what a collector makes up needs no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// It has taken some of the spans of a request.
    Partial,
    /// It has taken all, and warns of something.
    Warning,
    /// It has refused a request.
    Status(StatusCode),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals(FxHashMap<Reason, Told>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// The spans since then.
    spans: u64,
}

impl Refusals {
    /// Notes that spans are refused. If the log is to have a line: the spans since the last one.
    pub(super) fn note(&mut self, reason: Reason, spans: u64, now: Instant) -> Option<u64> {
        let Some(told) = self.0.get_mut(&reason) else {
            self.0.insert(reason, Told { at: now, spans: 0 });
            return Some(spans);
        };
        told.spans = told.spans.saturating_add(spans);
        if now.saturating_duration_since(told.at) < EVERY {
            return None;
        }
        told.at = now;
        Some(std::mem::take(&mut told.spans))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_when_it_comes_up_and_then_once_in_a_minute_with_all_spans() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let mut at = |seconds, reason, spans| refusals.note(reason, spans, start + Duration::from_secs(seconds));
        let status = |code| Reason::Status(StatusCode::from_u16(code).unwrap());
        assert_eq!(at(0, status(404), 5), Some(5));
        assert_eq!(at(1, Reason::Partial, 2), Some(2), "another reason");
        for second in 2..60 {
            assert_eq!(at(second, status(404), 1), None);
            assert_eq!(at(second, Reason::Partial, 1), None, "two reasons in turn");
        }
        assert_eq!(at(60, status(404), 1), Some(59));
        assert_eq!(at(61, status(401), 7), Some(7));
        assert_eq!(at(61, Reason::Partial, 1), Some(59));
        assert_eq!(at(500, status(404), 3), Some(3));
        assert_eq!(at(500, Reason::Warning, 0), Some(0));
    }
}
