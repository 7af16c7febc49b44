//! A descriptor of the host that the library writes lines to (option `log_fd`).

use super::passing::{self, Ready};
use super::{check, check_len, socket};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A pipe takes that many bytes as a whole or not at all (PIPE_BUF, pipe(7)), and it takes them at once if poll(2) calls
/// it writable and nobody else writes to it.
pub(crate) const MAX_AT_ONCE: usize = libc::PIPE_BUF;

/// Our own descriptor of the host's open file. The two share the file's flags, so O_NONBLOCK is not set: the host may
/// write to it as well.
#[derive(Debug)]
pub(crate) struct Output {
    fd: OwnedFd,
    is_socket: bool,
}

impl Output {
    /// Duplicates a descriptor of the host, if lines can be written to it. The error is the reason why not.
    pub(crate) fn duplicate(fd: RawFd) -> Result<Self, String> {
        let reason = |error: io::Error| match error.raw_os_error() {
            Some(libc::EBADF) => "the descriptor is not open".to_owned(),
            _ => error.to_string(),
        };
        // SAFETY: the calls take a number, which need not be a descriptor, and flags. The last one returns a new
        // descriptor, above those of standard input, output and error, and nobody else owns it.
        let (flags, fd) = unsafe {
            let flags = check(libc::fcntl(fd, libc::F_GETFL)).map_err(reason)?;
            let new = check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1)).map_err(reason)?;
            (flags, OwnedFd::from_raw_fd(new))
        };
        if flags & libc::O_PATH != 0 || ![libc::O_WRONLY, libc::O_RDWR].contains(&(flags & libc::O_ACCMODE)) {
            return Err("the descriptor is not open for writing".into());
        }
        let kind = kind(&fd).map_err(reason)?;
        let is_socket = kind == libc::S_IFSOCK;
        if ![libc::S_IFREG, libc::S_IFIFO, libc::S_IFCHR, libc::S_IFSOCK].contains(&kind) {
            return Err("the descriptor is neither a file, a pipe, a terminal nor a socket".into());
        }
        if is_socket && !socket::is_connected(&fd) {
            return Err("the descriptor is a socket that is not connected".into());
        }
        Ok(Output { fd, is_socket })
    }

    /// True if [`Self::write`] returns at once, also if nothing fits.
    pub(crate) fn never_waits(&self) -> bool {
        self.is_socket
    }

    /// Waits until bytes can be written, or it is known that none can. False: that has not happened within `time`.
    pub(crate) fn wait(&self, time: Duration) -> io::Result<bool> {
        let mut wanted = [(self.fd.as_raw_fd(), Ready { readable: false, writable: true })];
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        passing::wait(&mut wanted, Some(ms))?;
        Ok(wanted[0].1.writable)
    }

    /// Writes as much of some bytes as fits. It must be called on a thread of the library: these block SIGPIPE, which
    /// the end of a pipe's reader causes on the thread that writes. There it stays until the thread ends.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_socket {
            return socket::send(&self.fd, bytes);
        }
        // SAFETY: `bytes` has `bytes.len()` bytes.
        check_len(unsafe { libc::write(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
    }
}

/// The kind of an open file: one of S_IF.
fn kind(fd: &OwnedFd) -> io::Result<libc::mode_t> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `found` has room for a stat, which the call fills in if it succeeds.
    let mode = unsafe {
        check(libc::fstat(fd.as_raw_fd(), found.as_mut_ptr()))?;
        found.assume_init().st_mode
    };
    Ok(mode & libc::S_IFMT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn only_what_takes_lines_is_taken() {
        let refused = |fd: &dyn AsRawFd, why: &str| {
            let error = Output::duplicate(fd.as_raw_fd()).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused(&-1, "is not open");
        refused(&File::open("/dev/null").unwrap(), "not open for writing");
        let (reader, writer) = io::pipe().unwrap();
        refused(&reader, "not open for writing");
        refused(&TcpListener::bind("127.0.0.1:0").unwrap(), "not connected");
        refused(&UnixDatagram::unbound().unwrap(), "not connected");
        refused(&super::super::eventfd::EventFd::new().unwrap(), "neither a file");
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        for fd in [&null as &dyn AsRawFd, &writer, &UnixDatagram::pair().unwrap().0] {
            let output = Output::duplicate(fd.as_raw_fd()).unwrap();
            assert!(output.fd.as_raw_fd() > 2 && output.wait(Duration::ZERO).unwrap());
            assert_eq!(output.write(b"x").unwrap(), 1);
        }
    }
}
