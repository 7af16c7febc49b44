//! Thread cancellation (pthreads(7), "Cancellation points").
//!
//! A host may end its threads with `pthread_cancel`. Our sends and writes are cancellation points, and a thread that
//! ends in one is unwound through our frames, which ends the process: Rust can't be unwound by others. So while a
//! thread is inside, its cancellation waits; it comes at the next cancellation point of the host's own.

use std::marker::PhantomData;

// The same in glibc and musl.
const PTHREAD_CANCEL_DISABLE: libc::c_int = 1;

extern "C" {
    fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
}

/// While this lives the calling thread is not cancelled.
pub(crate) struct Held {
    before: libc::c_int,
    /// It is about this thread.
    _here: PhantomData<*const ()>,
}

pub(crate) fn hold() -> Held {
    let mut before = PTHREAD_CANCEL_DISABLE;
    // SAFETY: a state that exists, and an int to be filled in. On an error, which there is none for this state,
    // `before` says that nothing is to be restored.
    unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
    Held { before, _here: PhantomData }
}

/// The calling thread, one of ours, is never cancelled: a callback of the host may ask for that, which would end the
/// process.
pub(crate) fn never() {
    std::mem::forget(hold());
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the state that this thread was in. A cancellation that has come meanwhile does not act here: it waits
        // for the next cancellation point, unless the thread has chosen to be cancelled anywhere at all
        // (PTHREAD_CANCEL_ASYNCHRONOUS), and such a thread may not call a library (pthread_setcanceltype(3)).
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}
