//! Signal masks of our threads. The host's threads, and its handlers, are its own.

use std::io;
use std::mem::MaybeUninit;

/// Blocks every signal on the calling thread except those that the thread itself causes by a fault.
///
/// Called first thing on the one thread that spawns all others, which inherit the mask: so a host's SIGINT or
/// SIGCHLD is never handled on a thread that it does not know. SIGPIPE is blocked as well; our sends do not raise it
/// anyhow.
pub(crate) fn block_all() {
    // SAFETY: the set is initialized by sigfillset before it is used, and pthread_sigmask changes the calling
    // thread only, which is ours.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT] {
            libc::sigdelset(set.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// What tell a program of ours to end, or to read its options again.
const TAKEN: &[libc::c_int] = &[libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Blocks those signals on the calling thread and those that it starts later: for a program of ours, which then takes
/// them with [`next`].
pub(crate) fn block_taken() {
    // SAFETY: the set is initialized by `taken`; the mask is the calling thread's.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &taken(), std::ptr::null_mut()) };
}

/// Waits for the next of them. An error: the system does not let this process wait (seccomp).
pub(crate) fn next() -> io::Result<libc::c_int> {
    let mut signal = 0;
    loop {
        // SAFETY: an initialized set, and an int that the call fills in.
        match unsafe { libc::sigwait(&taken(), &mut signal) } {
            0 => return Ok(signal),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn taken() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: initialized by sigemptyset before anything else touches it; the signals exist.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in TAKEN {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}
