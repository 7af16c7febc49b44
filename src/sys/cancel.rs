//! Thread cancellation (pthreads(7), "Cancellation points").
//!
//! A host may end its threads with `pthread_cancel`. Our sends and writes are cancellation points. Cancelling a thread
//! in one of them would unwind it through our frames, and that ends the process: Rust does not allow foreign unwinding.
//! So a thread that is inside the library holds its cancellation off. It is cancelled at the next cancellation point
//! in the host's own code.

use std::marker::PhantomData;

// The same in glibc and musl.
const PTHREAD_CANCEL_DISABLE: libc::c_int = 1;

extern "C" {
    fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
}

/// While this value lives, the calling thread can't be cancelled.
pub(crate) struct Held {
    before: libc::c_int,
    /// Keeps the value on its thread (`!Send`), since the state is the thread's.
    _here: PhantomData<*const ()>,
}

pub(crate) fn hold() -> Held {
    let mut before = PTHREAD_CANCEL_DISABLE;
    // SAFETY: the state exists, and the call fills in an int that we own. The call can't fail for this state. If it
    // did, `before` would still be "disabled", and the drop would restore nothing.
    unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
    Held { before, _here: PhantomData }
}

/// Makes the calling thread, one of ours, impossible to cancel. A callback of the host might cancel the thread that it
/// runs on, and that would end the process.
pub(crate) fn never() {
    std::mem::forget(hold());
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: this restores the state that this thread was in. A cancellation that was requested meanwhile does not
        // act here: it waits for the next cancellation point. The exception is a thread that can be cancelled anywhere
        // (PTHREAD_CANCEL_ASYNCHRONOUS), and such a thread may not call a library (pthread_setcanceltype(3)).
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}
