//! Signal masks of our threads. The host's threads, and its handlers, are its own.

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
