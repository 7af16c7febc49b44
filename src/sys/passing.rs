//! Unix sockets between processes: passing descriptors (unix(7), SCM_RIGHTS), and the credentials of the peer.

use super::ancillary::{self, Kind};
use super::{check, standard};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors that one call passes. The kernel's bound is 253 (SCM_MAX_FD).
pub(crate) const MAX_PASSED: usize = 32;

/// Descriptors as ancillary data.
const RIGHTS: Kind = Kind { level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS };

/// The process at the other end of a Unix socket, as it was when it called `connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: i32,
}

/// Writes as much of `bytes` as fits. If anything was written, all of `fds` went with the first byte.
pub(crate) fn send_with(socket: &OwnedFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    if fds.len() > MAX_PASSED {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut data = [0; MAX_PASSED * size_of::<RawFd>()];
    for (place, fd) in data.chunks_exact_mut(size_of::<RawFd>()).zip(fds) {
        place.copy_from_slice(&fd.to_ne_bytes());
    }
    let rights = (!fds.is_empty()).then(|| (RIGHTS, &data[..size_of_val(fds)]));
    ancillary::send(socket, bytes, rights)
}

/// Reads the bytes that are there and the descriptors that came with them. 0 is the end of the stream.
///
/// One call returns the descriptors of at most one `send_with`, since the kernel does not join messages that carry
/// descriptors. Errors: InvalidData, there were more descriptors than fit; EMFILE, this process had no room for some or
/// all of them, and those are lost.
pub(crate) fn recv_with(socket: &OwnedFd, into: &mut [u8], fds: &mut impl Extend<OwnedFd>) -> io::Result<usize> {
    let mut got = 0;
    let (len, is_cut) = ancillary::receive(socket, into, |kind, data| {
        let (numbers, _) = data.as_chunks();
        if kind == RIGHTS {
            // SAFETY: the kernel has just made these descriptors for this call, and nobody else owns them.
            let owned = |number: &[u8; 4]| unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(*number)) };
            fds.extend(numbers.iter().map(|number| standard::above(owned(number))));
            got += numbers.len();
        }
    })?;
    match is_cut {
        false => Ok(len),
        true if got > MAX_PASSED => Err(io::ErrorKind::InvalidData.into()),
        true => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    }
}

/// The process that connected (SO_PEERCRED).
pub(crate) fn credentials(socket: &OwnedFd) -> io::Result<Credentials> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the call gets a ucred and its size, as unix(7) says.
    check(unsafe {
        let out = (&raw mut found).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, out, &mut len)
    })?;
    Ok(Credentials { uid: found.uid, gid: found.gid, pid: found.pid })
}

/// The effective user of this process.
pub(crate) fn own_uid() -> u32 {
    // SAFETY: the call has no arguments and can't fail.
    unsafe { libc::geteuid() }
}

/// The readiness of one descriptor: what a caller of [`wait`] wants, and then what there is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// Waits until one of the descriptors is ready as wanted, or until the time is over (`None`: for ever). The readiness
/// found replaces what was wanted.
pub(crate) fn wait<const N: usize>(wanted: &mut [(RawFd, Ready); N], timeout_ms: Option<u64>) -> io::Result<()> {
    let mut polled = wanted.map(|(fd, ready)| {
        let events = if ready.readable { libc::POLLIN } else { 0 } | if ready.writable { libc::POLLOUT } else { 0 };
        libc::pollfd { fd, events, revents: 0 }
    });
    let timeout = timeout_ms.map_or(-1, |ms| ms.min(i32::MAX as u64) as libc::c_int);
    // SAFETY: `polled` has N entries.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
        _ => {}
    }
    for ((_, ready), polled) in wanted.iter_mut().zip(polled) {
        let broken = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
        ready.readable = polled.revents & (libc::POLLIN | broken) != 0;
        ready.writable = polled.revents & (libc::POLLOUT | broken) != 0;
    }
    Ok(())
}

/// For each descriptor, whether its peer has ended the connection or its side of it. If `poll` fails, all are false.
pub(crate) fn gone(fds: impl Iterator<Item = RawFd>) -> Vec<bool> {
    let mut polled: Vec<_> = fds.map(|fd| libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 }).collect();
    // SAFETY: `polled` has `polled.len()` entries. The timeout of 0 means that the call does not wait.
    let found = check(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, 0) });
    let ended = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
    polled.iter().map(|polled| found.is_ok() && polled.revents & ended != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_travel_with_the_first_byte() {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, there) = (OwnedFd::from(here), OwnedFd::from(there));
        let pairs: Vec<_> = (0..MAX_PASSED).map(|_| UnixStream::pair().unwrap()).collect();
        let fds: Vec<_> = pairs.iter().map(|(one, _)| one.as_raw_fd()).collect();
        assert_eq!(send_with(&here, b"before", &[]).unwrap(), 6);
        assert_eq!(send_with(&here, b"with", &fds).unwrap(), 4);
        assert_eq!(send_with(&here, b"after", &[fds[0]]).unwrap(), 5);
        let (mut got, mut fds) = (Vec::new(), Vec::<OwnedFd>::new());
        let mut counts = Vec::new();
        while got.len() < 15 {
            let mut part = [0; 64];
            let len = recv_with(&there, &mut part, &mut fds).unwrap();
            got.extend_from_slice(&part[..len]);
            counts.push((got.len(), fds.len()));
        }
        assert_eq!(got, b"beforewithafter");
        assert_eq!(fds.len(), MAX_PASSED + 1);
        for (bytes, fds) in counts {
            assert!(bytes <= 10 || fds > MAX_PASSED, "descriptors never come after their bytes");
        }
        let mut passed = UnixStream::from(fds.remove(1));
        passed.write_all(b"x").unwrap();
        let mut other = &pairs[1].1;
        let mut byte = [0];
        other.read_exact(&mut byte).unwrap();
        assert_eq!(credentials(&there).unwrap().uid, own_uid());
    }

    #[test]
    fn it_is_known_who_has_gone() {
        let (one, _there) = UnixStream::pair().unwrap();
        let (two, peer) = UnixStream::pair().unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(gone([one.as_raw_fd(), two.as_raw_fd()].into_iter()), [false, true]);
        assert!(gone(std::iter::empty()).is_empty());
    }

    #[test]
    fn waiting_ends_by_readiness_or_time() {
        let (here, there) = UnixStream::pair().unwrap();
        let want = Ready { readable: true, writable: false };
        let mut wanted = [(there.as_raw_fd(), want)];
        wait(&mut wanted, Some(1)).unwrap();
        assert!(!wanted[0].1.readable);
        drop(here);
        wanted[0].1 = want;
        wait(&mut wanted, None).unwrap();
        assert!(wanted[0].1.readable);
    }
}
