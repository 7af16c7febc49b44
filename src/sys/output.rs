//! A descriptor of the host that the library writes lines to (option `log_fd`).

use super::passing::{self, Ready};
use super::{check, check_len, socket};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
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

/// Why lines can't be written to a descriptor of the host.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// The descriptor is not of a kind that takes lines.
    Kind(&'static str),
    /// The system refuses a call, so nothing is known about the descriptor.
    Failed(io::Error),
}

impl Output {
    /// Duplicates a descriptor of the host, if lines can be written to it.
    pub(crate) fn duplicate(fd: RawFd) -> Result<Self, Unfit> {
        // SAFETY: the call takes a number, which need not be a descriptor. It returns a new descriptor, above those of
        // standard input, output and error, and nobody else owns it.
        let fd = unsafe {
            let new = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1);
            OwnedFd::from_raw_fd(check(new).map_err(Unfit::of)?)
        };
        let is_socket = examine(fd.as_fd())?;
        Ok(Output { fd, is_socket })
    }

    /// Checks the same without a duplicate: the host's locks (fcntl, F_SETLK) on a file go when any descriptor of the
    /// file is closed.
    pub(crate) fn check(fd: RawFd) -> Result<(), Unfit> {
        // SAFETY: the call takes a number, which need not be a descriptor.
        check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).map_err(Unfit::of)?;
        // SAFETY: the number is that of a descriptor, so it is not -1. It is only asked about. If the host closes it
        // meanwhile, the questions fail, or are about another descriptor.
        examine(unsafe { BorrowedFd::borrow_raw(fd) }).map(drop)
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

impl Unfit {
    fn of(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EBADF) => Unfit::Kind("the descriptor is not open"),
            _ => Unfit::Failed(error),
        }
    }
}

/// Whether the descriptor is that of a socket. It is an error if it takes no lines.
fn examine(fd: BorrowedFd<'_>) -> Result<bool, Unfit> {
    // SAFETY: the call takes a descriptor and no pointers.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }).map_err(Unfit::of)?;
    if flags & libc::O_PATH != 0 || ![libc::O_WRONLY, libc::O_RDWR].contains(&(flags & libc::O_ACCMODE)) {
        return Err(Unfit::Kind("the descriptor is not open for writing"));
    }
    let kind = kind(fd).map_err(Unfit::of)?;
    let is_socket = kind == libc::S_IFSOCK;
    if ![libc::S_IFREG, libc::S_IFIFO, libc::S_IFCHR, libc::S_IFSOCK].contains(&kind) {
        return Err(Unfit::Kind("the descriptor is neither a file, a pipe, a terminal nor a socket"));
    }
    if is_socket && !socket::is_connected(fd) {
        return Err(Unfit::Kind("the descriptor is a socket that is not connected"));
    }
    Ok(is_socket)
}

/// The kind of an open file: one of S_IF.
fn kind(fd: BorrowedFd<'_>) -> io::Result<libc::mode_t> {
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
            for error in [Output::duplicate(fd.as_raw_fd()).unwrap_err(), Output::check(fd.as_raw_fd()).unwrap_err()] {
                assert!(matches!(error, Unfit::Kind(text) if text.contains(why)), "{error:?}");
            }
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
            Output::check(fd.as_raw_fd()).unwrap();
            let output = Output::duplicate(fd.as_raw_fd()).unwrap();
            assert!(output.fd.as_raw_fd() > 2 && output.wait(Duration::ZERO).unwrap());
            assert_eq!(output.write(b"x").unwrap(), 1);
        }
    }
    #[test]
    #[cfg_attr(miri, ignore = "fcntl")]
    fn a_check_leaves_the_locks_of_the_host_alone() {
        use std::os::unix::fs::MetadataExt;
        let path = std::env::temp_dir().join(format!("push-locked-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let inode = format!(":{} ", file.metadata().unwrap().ino());
        let locked = || std::fs::read_to_string("/proc/locks").unwrap().contains(&inode);
        // SAFETY: a flock of zeros is the whole file, and the call reads it.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as _;
            check(libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &lock)).unwrap();
        }
        Output::check(file.as_raw_fd()).unwrap();
        assert!(locked());
        // A duplicate can't avoid it, as the option's help says.
        drop(Output::duplicate(file.as_raw_fd()).unwrap());
        assert!(!locked());
    }
}
