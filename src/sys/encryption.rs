//! Whether the kernel encrypts and decrypts a connection that a host hands over (Documentation/networking/tls.rst).
//!
//! Only the versions of TLS are asked for, never the keys. This works in a library without TLS, too.

use super::check;
use std::mem::size_of;
use std::os::fd::RawFd;

// Numbers of the kernel's interface (include/uapi/linux/tls.h).
const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;

/// A version of TLS, by the number that it has in the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12 = 0x0303,
    Tls13 = 0x0304,
}

impl Version {
    fn of(number: u16) -> Option<Self> {
        [Version::Tls12, Version::Tls13].into_iter().find(|version| *version as u16 == number)
    }
}

/// The kernel's answer about one direction: the number of the version of TLS, or the number of the error.
type Answer = Result<u16, i32>;

/// The version of TLS, if the kernel encrypts and decrypts a connection. `None`: the kernel does nothing of the kind, and
/// the bytes are plain. An error says why nobody but the host can go on with the connection.
///
/// A connection without TLS costs one call.
pub(super) fn of(fd: RawFd) -> Result<Option<Version>, &'static str> {
    judge(ask(fd, TLS_TX), || ask(fd, TLS_RX))
}

/// Asks for the version of TLS of one direction.
fn ask(fd: RawFd, direction: libc::c_int) -> Answer {
    // The struct tls_crypto_info: the version, and the cipher. The keys would stand behind it.
    let mut info = [0_u16; 2];
    let mut len = size_of::<[u16; 2]>() as libc::socklen_t;
    // SAFETY: `info` has `len` bytes, and the kernel fills in at most that many.
    let asked =
        check(unsafe { libc::getsockopt(fd, libc::SOL_TLS, direction, info.as_mut_ptr().cast(), &raw mut len) });
    asked.map(|_| info[0]).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Decides what the answers mean. A socket that TLS was never attached to does not know the question (EOPNOTSUPP or
/// ENOPROTOOPT). Where TLS is attached, EBUSY says that a direction has no keys: OpenSSL attaches it to each of its
/// sockets, whatever encrypts them then.
fn judge(send: Answer, receive: impl FnOnce() -> Answer) -> Result<Option<Version>, &'static str> {
    match send {
        Ok(_) | Err(libc::EBUSY) => {}
        Err(_) => return Ok(None),
    }
    match (send, receive()) {
        (Ok(send), Ok(receive)) if send == receive => match Version::of(send) {
            Some(version) => Ok(Some(version)),
            None => Err("the connection's TLS in the kernel is neither 1.2 nor 1.3"),
        },
        (Ok(_), Ok(_)) => Err("the connection's TLS in the kernel has two versions, one for each direction"),
        (Ok(_), Err(libc::EBUSY)) => {
            Err("the connection's TLS is in the kernel for sending only, and not for receiving")
        }
        (Err(_), Ok(_)) => Err("the connection's TLS is in the kernel for receiving only, and not for sending"),
        (Err(_), Err(libc::EBUSY)) => Err("the connection's TLS is not in the kernel"),
        (_, Err(_)) => Err("the connection's TLS may be in the kernel for sending only: this kernel does not tell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::{EBUSY, ENOPROTOOPT, EOPNOTSUPP};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    const OLD: u16 = 0x0303;
    const NEW: u16 = 0x0304;

    #[test]
    fn both_directions_must_be_in_the_kernel() {
        let judged = |send, receive| judge(send, || receive);
        assert_eq!(judged(Ok(OLD), Ok(OLD)), Ok(Some(Version::Tls12)));
        assert_eq!(judged(Ok(NEW), Ok(NEW)), Ok(Some(Version::Tls13)));
        for (send, receive, expected) in [
            (Ok(OLD), Err(EBUSY), "for sending only, and not for receiving"),
            (Ok(NEW), Err(EBUSY), "for sending only, and not for receiving"),
            (Err(EBUSY), Ok(OLD), "for receiving only, and not for sending"),
            (Err(EBUSY), Err(EBUSY), "is not in the kernel"),
            (Ok(OLD), Ok(NEW), "two versions"),
            (Ok(0x0302), Ok(0x0302), "neither 1.2 nor 1.3"),
            // Linux before 5.10 knows only the question about sending.
            (Ok(OLD), Err(ENOPROTOOPT), "does not tell"),
            (Err(EBUSY), Err(ENOPROTOOPT), "does not tell"),
        ] {
            let text = judged(send, receive).unwrap_err();
            assert!(text.contains(expected), "{send:?} {receive:?}: {text}");
        }
    }

    #[test]
    fn a_socket_without_tls_is_asked_once() {
        for error in [EOPNOTSUPP, ENOPROTOOPT, 0] {
            assert_eq!(judge(Err(error), || panic!("a second call")), Ok(None));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn plain_sockets_are_plain() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (unix, _other) = UnixStream::pair().unwrap();
        assert_eq!((of(tcp.as_raw_fd()), of(unix.as_raw_fd())), (Ok(None), Ok(None)));
    }
}
