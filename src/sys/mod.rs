//! System calls made safe. This room and `ffi` are the only ones of this crate that hold `unsafe`.
//!
//! Elsewhere std and tokio cover what is needed. This room has what they lack: an epoll of our own, sends that never
//! raise SIGPIPE, checks of a descriptor from a stranger, lines for a descriptor of the host, descriptors passed
//! between processes, TLS in the kernel, signal masks, the limit of descriptors, figures of the process, locks on
//! files, detecting a fork, holding off cancellation, and staying off the numbers of standard input, output and error.

mod ancillary;
pub(crate) mod cancel;
pub(crate) mod clock;
pub(crate) mod encryption;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod flock;
pub(crate) mod fork;
pub(crate) mod keys;
#[cfg(feature = "tls")]
pub(crate) mod ktls;
pub(crate) mod listener;
pub(crate) mod output;
pub(crate) mod own;
pub(crate) mod passing;
pub(crate) mod rlimit;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod standard;
pub(crate) mod watched;

/// Turns the `-1` convention of system calls into a `Result`.
fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same for calls of pthreads, which return the error's number.
fn check_status(number: libc::c_int) -> std::io::Result<()> {
    match number {
        0 => Ok(()),
        number => Err(std::io::Error::from_raw_os_error(number)),
    }
}

/// The same for calls that return a length.
fn check_len(result: libc::ssize_t) -> std::io::Result<usize> {
    usize::try_from(result).map_err(|_| std::io::Error::last_os_error())
}
