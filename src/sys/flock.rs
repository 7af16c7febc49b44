//! flock(2): a lock on an open file, which ends with it, also when the process is killed.

use super::check;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Takes the lock for this open file alone. False: somebody else has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: no pointers.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
