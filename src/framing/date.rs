//! The time in the heads of responses. A server with a clock says it (RFC 9110, section 6.6.1).

use crate::sys::clock;
use httpdate::HttpDate;
use std::time::{Duration, UNIX_EPOCH};

/// The last second that has a form: the year has four digits. The package takes no time outside of these.
const LAST: i64 = 253_402_300_799;

/// The present time, as `Date` has it (RFC 9110, section 5.6.7).
pub(crate) fn now() -> HttpDate {
    of(clock::unix_seconds())
}

/// A clock that was never set, or was set to a year of five digits, shows the nearest time that has a form.
fn of(unix_seconds: i64) -> HttpDate {
    HttpDate::from(UNIX_EPOCH + Duration::from_secs(unix_seconds.clamp(0, LAST) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_form_of_the_rfc() {
        // The first is the example of the RFC.
        for (seconds, expected) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-1, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (LAST, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(of(seconds).to_string(), expected, "{seconds}");
        }
    }
}
