//! Signal masks of our threads. The library leaves the host's threads and handlers alone.

use std::io;
use std::mem::MaybeUninit;

/// Blocks every signal on the calling thread, except those that a thread causes itself by a fault.
///
/// The one thread that starts all others calls this first, and the others inherit the mask. So a host's handler for
/// SIGINT or SIGCHLD never runs on a thread that the host does not know. SIGPIPE is blocked as well, though our sends
/// do not raise it.
pub(crate) fn block_all() {
    // SAFETY: sigfillset initializes the set before it is used. pthread_sigmask changes only the calling thread, which
    // is ours.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT] {
            libc::sigdelset(set.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// The signals that tell a program of ours to end, or to read its options again.
const TAKEN: &[libc::c_int] = &[libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Blocks those signals on the calling thread and on those that it starts later. A program of ours then takes them with
/// [`next`].
pub(crate) fn block_taken() {
    // SAFETY: `taken` initializes the set, and the mask is the calling thread's.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &taken(), std::ptr::null_mut()) };
}

/// Waits for the next of those signals. An error means that the system does not let this process wait (seccomp).
pub(crate) fn next() -> io::Result<libc::c_int> {
    let mut signal = 0;
    loop {
        // SAFETY: the set is initialized, and the call fills in an int that we own.
        match unsafe { libc::sigwait(&taken(), &mut signal) } {
            0 => return Ok(signal),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn taken() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set before anything else touches it, and the signals exist.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in TAKEN {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}
