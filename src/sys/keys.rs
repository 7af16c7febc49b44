//! Keys of thread-specific data (pthread_key_create(3)). A process has 1,024 of them.

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

/// Makes std take the key that it needs for the destructors of thread-locals. std ends the process if there is no key
/// left. So this looks first whether there is one, where the caller can still be told of the error.
pub(crate) fn claim() -> io::Result<()> {
    let mut key = 0;
    // SAFETY: the call fills in the key, and nobody else knows the key when it is deleted.
    unsafe {
        check_status(libc::pthread_key_create(&mut key, None))?;
        libc::pthread_key_delete(key);
    }
    // A thread-local with a destructor: std takes its key now.
    NEEDS_THE_KEY.set(Some(Dropped));
    Ok(())
}
