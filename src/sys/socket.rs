//! Sockets: the calls on the hot path, and the check of a descriptor that a host hands over.
//!
//! Each call passes MSG_DONTWAIT. So a descriptor that a host hands over may be blocking, and the library does not
//! change that.

#[cfg(all(feature = "tls", any(test, fuzzing)))]
pub(crate) mod short;

use super::encryption::{self, Version};
use super::{check, check_len, standard};
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Reads the bytes that are there. 0 is the end of the stream.
pub(crate) fn recv(fd: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `into` has room for `into.len()` bytes.
    check_len(unsafe { libc::recv(fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) })
}

/// Writes as much as fits. Never raises SIGPIPE, which std's and tokio's vectored writes would do.
pub(crate) fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(all(feature = "tls", any(test, fuzzing)))]
    let bytes = short::cut(bytes)?;
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: `bytes` has `bytes.len()` bytes.
    check_len(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Writes as much of several pieces as fits, in one call. There may be at most 1024 pieces (IOV_MAX).
pub(crate) fn send_vectored(fd: &OwnedFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: a msghdr of zeros is empty. std guarantees that IoSlice has the layout of iovec. The kernel only reads.
    check_len(unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = pieces.as_ptr().cast_mut().cast();
        message.msg_iovlen = pieces.len() as _;
        libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    })
}

/// Takes the next connection from a listener. The new descriptor is non-blocking and closed on exec.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the null pointers say that the address is not wanted. The result is a new descriptor that nobody else
    // owns.
    unsafe {
        let fd = check(libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        ))?;
        Ok(standard::above(OwnedFd::from_raw_fd(fd)))
    }
}

/// The address of this end of a connection, or of a listener, if it is one of the loopback.
pub(crate) fn loopback_address(fd: &OwnedFd) -> Option<SocketAddr> {
    let local = SockRef::from(fd).local_addr().ok()?.as_socket()?;
    local.ip().to_canonical().is_loopback().then_some(local)
}

/// Makes the end of a connection take no time, and lose nothing that was sent (SO_LINGER off). With the option, `close`
/// waits until the other side has everything, also for a socket that never blocks; or it throws away what waits.
pub(crate) fn end_in_background(fd: &OwnedFd) {
    // A socket that has just broken has no use for the option.
    let _ = SockRef::from(fd).set_linger(None);
}

/// Makes the kernel send small writes at once (TCP_NODELAY). A Unix socket has no such option; that is no error.
pub(crate) fn set_nodelay(fd: &OwnedFd) {
    let on: libc::c_int = 1;
    // SAFETY: the option is an int, as tcp(7) says.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

/// How the kernel finds out that the peer of a silent connection is gone (tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probes {
    /// Seconds of silence before the first probe.
    pub(crate) idle: u64,
    /// Seconds between two probes.
    pub(crate) interval: u64,
    /// The connection is reset when so many were not answered.
    pub(crate) count: u64,
}

/// Has the kernel probe a connection, or those that are accepted from a listener: on Linux they inherit the options,
/// which saves the system calls for each. A Unix socket has no such options, and needs none; that is no error.
pub(crate) fn set_probes(fd: &OwnedFd, probes: Probes) {
    let options = [
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, probes.idle),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, probes.interval),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, probes.count),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
    ];
    for (level, option, value) in options {
        // The kernel's bound for times and counts is less than what an int holds.
        let value = value.min(32_767) as libc::c_int;
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the options are ints, as tcp(7) and socket(7) say.
        let set = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), len) };
        if set != 0 {
            return;
        }
    }
}

/// For how many milliseconds the peer has acknowledged nothing, if there is something that it should acknowledge: bytes
/// that were sent, or probes of its closed window. A peer that does not read, but lives, answers these probes.
pub(crate) fn unacknowledged_ms(fd: &OwnedFd) -> Option<u64> {
    /// One probe may be on its way.
    const PROBES: u8 = 2;
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: all-zero is a valid tcp_info; the kernel fills in what it has, at most `len` bytes.
    let info = unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let got =
            libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len);
        // A Unix socket has no such option, and no network that could be gone.
        check(got).ok()?;
        info
    };
    (info.tcpi_unacked > 0 || info.tcpi_probes >= PROBES).then_some(info.tcpi_last_ack_recv.into())
}

/// Whether the connection has ended in both directions, and not only the peer's side of it.
pub(crate) fn has_hung_up(fd: &OwnedFd) -> bool {
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `polled` is one entry. The timeout of 0 means that the call does not wait.
    let found = check(unsafe { libc::poll(&raw mut polled, 1, 0) });
    found.is_err() || polled.revents & (libc::POLLHUP | libc::POLLERR) != 0
}

/// Tells the peer that no more bytes come. This works even if a forked child still holds a copy of the descriptor.
pub(crate) fn shutdown_write(fd: &OwnedFd) {
    // SAFETY: the call takes no pointers. ENOTCONN means that the connection has ended already.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) };
}

/// Ends the connection in both directions, even if another process holds a copy of the descriptor.
pub(crate) fn shutdown_both(fd: &OwnedFd) {
    // SAFETY: the call takes no pointers. ENOTCONN means that the connection has ended already.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

/// The other end of a TCP connection that may be gone: where getpeername(2) says ENOTCONN, as after a reset, SO_PEERNAME
/// still has it.
pub(crate) fn last_peer(fd: &OwnedFd) -> Option<IpAddr> {
    // The kernel refuses a length that is not the address's own or less (net/core/sock.c).
    let lengths = [size_of::<libc::sockaddr_in6>(), size_of::<libc::sockaddr_in>()];
    lengths.into_iter().find_map(|length| {
        // SAFETY: `address` has room for the largest address. The kernel fills in at most `*len` bytes, which is no
        // more, and zeros are an address of no family.
        let address = unsafe {
            socket2::SockAddr::try_init(|address, len| {
                *len = length as libc::socklen_t;
                let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERNAME);
                check(libc::getsockopt(fd.as_raw_fd(), level, option, address.cast(), len)).map(drop)
            })
        };
        Some(address.ok()?.1.as_socket()?.ip())
    })
}

/// Whether a socket of any kind has a peer.
pub(crate) fn is_connected(fd: BorrowedFd<'_>) -> bool {
    SockRef::from(&fd).peer_addr().is_ok()
}

/// What is known of a connection that a host hands over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Small writes to it may be delayed, as TCP does by default.
    pub(crate) delays: bool,
    /// The version of TLS, if the kernel encrypts and decrypts for it.
    pub(crate) tls: Option<Version>,
}

/// What is known of a connection without a check of its descriptor. `Err`: its TLS can't be served.
pub(crate) fn check_encryption(fd: &OwnedFd) -> Result<Checked, &'static str> {
    Ok(Checked { delays: true, tls: encryption::of(fd.as_raw_fd())? })
}

/// Checks that a descriptor is a connected stream socket, and changes nothing about it. `Err` is the reason why the
/// library can't take the descriptor.
///
/// This makes only three system calls, because it is on the path of every connection that a host hands over.
pub(crate) fn check_connected_stream(fd: RawFd) -> Result<Checked, &'static str> {
    if fd < 0 {
        return Err("the descriptor is negative");
    }
    // SAFETY: `address` has room for the largest address, and `len` is its size. The kernel fills in at most that much.
    let (peer, family) = unsafe {
        let mut address: libc::sockaddr_storage = std::mem::zeroed();
        let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let peer = check(libc::getpeername(fd, (&raw mut address).cast(), &mut len));
        (peer, libc::c_int::from(address.ss_family))
    };
    match peer.map_err(|error| error.raw_os_error()) {
        Ok(_) => {}
        Err(Some(libc::EBADF)) => return Err("the descriptor is not open"),
        Err(Some(libc::ENOTSOCK)) => return Err("the descriptor is not a socket"),
        Err(_) => return Err("the socket is not connected"),
    }
    if ![libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].contains(&family) {
        return Err("the socket is neither TCP nor Unix");
    }
    if family != libc::AF_UNIX {
        // Only TCP has this option, so its presence also shows that this is a stream socket.
        if let Ok(nodelay) = int_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY) {
            return Ok(Checked { delays: nodelay == 0, tls: encryption::of(fd)? });
        }
    }
    if int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE).unwrap_or(-1) != libc::SOCK_STREAM {
        return Err("the socket is not a stream socket");
    }
    Ok(Checked { delays: family != libc::AF_UNIX, tls: None })
}

/// Takes a checked descriptor from the host.
///
/// # Safety
/// The caller owns `fd` and gives it up.
pub(crate) unsafe fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller owns `fd` and gives it up.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Takes a descriptor that this process was started with (sd_listen_fds(3)), if it is a listening stream socket. Call
/// this once for each number, before anything else could have opened a descriptor of that number.
pub(crate) fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    let listens = int_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 1
        && int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)? == libc::SOCK_STREAM;
    if !listens {
        return Err(io::Error::other("not a listening stream socket"));
    }
    // SAFETY: the calls above have shown that it is open, and by the protocol of socket activation it belongs to this
    // process. FD_CLOEXEC keeps it from the programs that this process starts.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn int_option(fd: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the call gets an int and its size, as socket(7) and tcp(7) say for these options.
    check(unsafe { libc::getsockopt(fd, level, option, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

/// Whether `accept` failed because descriptors or memory have run out (accept(2)), and not because of the client.
pub(crate) fn out_of_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
