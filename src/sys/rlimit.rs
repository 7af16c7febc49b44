//! The limit of open descriptors, for programs of ours. The library leaves its host's limits alone.

use super::check;
use std::io;

/// Raises the limit (RLIMIT_NOFILE) to the most that this user may have.
pub(crate) fn raise_descriptors() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills in one rlimit that we own.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the call only reads an initialized rlimit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}
