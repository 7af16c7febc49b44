//! The reason why the last call of a thread failed.

use super::guard;
use std::cell::RefCell;
use std::ffi::c_char;

/// The longest sentence that is kept, in bytes.
const MAX: usize = 510;

struct Sentence {
    len: usize,
    bytes: [u8; MAX],
}

thread_local! {
    /// It has no destructor.  One would keep the library loaded for as long as any thread lives that
    /// has called it.
    static LAST: RefCell<Sentence> = const { RefCell::new(Sentence { len: 0, bytes: [0; MAX] }) };
}

/// Notes why a call of this thread failed.
pub(super) fn note(text: &str) {
    let text = guard::shortened(text, MAX);
    LAST.with(|last| {
        let mut last = last.borrow_mut();
        last.len = text.len();
        last.bytes[..text.len()].copy_from_slice(text.as_bytes());
    });
}

/// Writes a sentence into `buffer` that says why the last call of this thread that failed has failed:
/// which argument was wrong, and what is allowed.  For a batch it names the message, as
/// `messages[3]: ...`.  A sentence that is too long for `buffer` is cut.  There is a NUL at its end.
/// Returns the length of the whole sentence, without the NUL: 0 if no call of this thread has failed.
/// At most 510 bytes are kept.
///
/// A call that succeeds leaves the sentence as it is, so ask after a call has returned an error, and
/// on the same thread.  Calls that return no push_status leave it, too.  If `buffer` is NULL or
/// `size` is 0, nothing is written.  It never waits, and may be called in a callback and in a forked
/// child.
///
/// # Safety
/// `buffer` is NULL or has `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_last_error(buffer: *mut c_char, size: usize) -> usize {
    guard::value(0, || {
        LAST.with(|last| {
            let last = last.borrow();
            let text = String::from_utf8_lossy(&last.bytes[..last.len]);
            // SAFETY: passed on from the caller.
            unsafe { guard::copy_sentence(buffer, size, &text) };
            last.len
        })
    })
}
