//! Clocks. The hub and the codecs of messages own no clock: their callers read one here and pass the time in. Only the
//! `Date` of a response is read where its head is written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The exact time of CLOCK_MONOTONIC.
pub(crate) fn monotonic() -> Duration {
    let time = read(libc::CLOCK_MONOTONIC);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Milliseconds of a clock that never goes back. Its resolution is the kernel's tick (1 to 4 ms), and a call costs a
/// few nanoseconds.
pub(crate) fn monotonic_ms() -> u64 {
    let time = read(libc::CLOCK_MONOTONIC_COARSE);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Exact microseconds of the same clock, for measurements. A call costs some tens of nanoseconds.
pub(crate) fn monotonic_us() -> u64 {
    let time = read(libc::CLOCK_MONOTONIC);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Milliseconds of a clock that never goes back, and goes on while the machine is suspended. For times that other machines
/// compare with theirs.
pub(crate) fn boottime_ms() -> u64 {
    let time = read(libc::CLOCK_BOOTTIME);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that we own. The clocks exist since Linux 2.6.39.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}

/// Seconds since 1970, for the expiry of grants.
pub(crate) fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}

/// Milliseconds since 1970, for what outlives the machine's start.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Nanoseconds since 1970, for times that other systems show.
pub(crate) fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
