//! flock(2): a lock on an open file, which ends with it, also when the process is killed.

use super::check;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// An open file with the lock. A child that was forked meanwhile has the same open file, until it executes something
/// else or ends: closing alone would leave the lock with it.
#[derive(Debug)]
pub(crate) struct Locked(File);

impl Locked {
    /// Takes the lock for this open file alone. The file comes back if somebody else has the lock.
    pub(crate) fn take(file: File) -> io::Result<Result<Self, File>> {
        match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => Ok(Ok(Locked(file))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Err(file)),
            Err(error) => Err(error),
        }
    }

    /// The file.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // It can't fail for an open file; and if it did, closing it would have to do.
        let _ = flock(&self.0, libc::LOCK_UN);
    }
}

fn flock(file: &File, operation: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::flock(file.as_raw_fd(), operation) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_though_a_child_has_the_same_open_file() {
        let path = std::env::temp_dir().join(format!("push-flock-{}", std::process::id()));
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let first = open();
        // What a forked child has: another descriptor of the same open file.
        let of_child = first.try_clone().unwrap();
        let locked = Locked::take(first).unwrap().unwrap();
        assert!(Locked::take(open()).unwrap().is_err(), "another one has to wait");
        drop(locked);
        assert!(Locked::take(open()).unwrap().is_ok());
        drop(of_child);
        std::fs::remove_file(path).unwrap();
    }
}
