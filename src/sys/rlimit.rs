//! How many descriptors the process may have: for a program of ours. The host's limits are its own.

use super::check;
use std::io;

/// Raises the limit (RLIMIT_NOFILE) to the most that this user may have.
pub(crate) fn raise_descriptors() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills in one rlimit, which is ours.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: an initialized rlimit, which the call only reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}
