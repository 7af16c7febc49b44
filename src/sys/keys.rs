//! Keys of thread-specific data (pthread_key_create(3)), of which a process has 1,024.

use super::check_status;
use std::cell::Cell;
use std::io;

struct Dropped;

impl Drop for Dropped {
    fn drop(&mut self) {}
}

thread_local! {
    static NEEDS_THE_KEY: Cell<Option<Dropped>> = const { Cell::new(None) };
}

/// std wants one key for what threads leave behind, and ends the process where there is none. So whether there is one
/// is asked where it can be told, and std takes it right then.
pub(crate) fn claim() -> io::Result<()> {
    let mut key = 0;
    // SAFETY: the key is filled in, and nobody else knows it when it is deleted.
    unsafe {
        check_status(libc::pthread_key_create(&mut key, None))?;
        libc::pthread_key_delete(key);
    }
    NEEDS_THE_KEY.set(Some(Dropped));
    Ok(())
}
