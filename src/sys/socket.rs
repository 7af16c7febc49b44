//! Sockets: the calls on the hot path, and the check of a descriptor that a host hands over.
//!
//! Each call says MSG_DONTWAIT, so a descriptor that a host hands over may be blocking and stays as it is.

use super::{check, check_len, standard};
use std::io::{self, IoSlice};
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Reads what is there; 0 is the end of the stream.
pub(crate) fn recv(fd: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `into` has its length of bytes.
    check_len(unsafe { libc::recv(fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) })
}

/// Writes what fits. Never raises SIGPIPE, which std's and tokio's vectored writes would.
pub(crate) fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: `bytes` has its length of bytes.
    check_len(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Writes what fits of several pieces, at most 1024 (IOV_MAX), in one call.
pub(crate) fn send_vectored(fd: &OwnedFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all-zero is an empty msghdr; IoSlice is guaranteed to have the layout of iovec; the kernel only reads.
    check_len(unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = pieces.as_ptr().cast_mut().cast();
        message.msg_iovlen = pieces.len() as _;
        libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    })
}

/// Takes the next connection from a listener, non-blocking and closed on exec.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the address is not asked for; the result is a new descriptor that nobody else owns.
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

/// Sends small writes at once (TCP_NODELAY). No error on a Unix socket, which has no such option.
pub(crate) fn set_nodelay(fd: &OwnedFd) {
    let on: libc::c_int = 1;
    // SAFETY: an int, as tcp(7) says.
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

/// Says to the peer that nothing more comes. Also ends the connection where a forked child still holds a copy.
pub(crate) fn shutdown_write(fd: &OwnedFd) {
    // SAFETY: no pointers. ENOTCONN means that it is over anyhow.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) };
}

/// Ends the connection in both directions, whoever else holds the descriptor.
pub(crate) fn shutdown_both(fd: &OwnedFd) {
    // SAFETY: no pointers. ENOTCONN means that it is over anyhow.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Why a descriptor can't be taken over, or whether small writes to it are delayed (TCP_NODELAY is not set). Changes
/// nothing about it. Two system calls: this is on the path of every connection that a host hands over.
pub(crate) fn check_connected_stream(fd: RawFd) -> Result<bool, &'static str> {
    if fd < 0 {
        return Err("the descriptor is negative");
    }
    // SAFETY: room for the largest address, and its size; the kernel fills in what it has.
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
        // Only TCP has the option, so it also says that this is a stream socket.
        if let Ok(nodelay) = int_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY) {
            return Ok(nodelay == 0);
        }
    }
    if int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE).unwrap_or(-1) != libc::SOCK_STREAM {
        return Err("the socket is not a stream socket");
    }
    Ok(family != libc::AF_UNIX)
}

/// Takes a checked descriptor from the host.
///
/// # Safety
/// The caller owns `fd` and gives it up.
pub(crate) unsafe fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: passed on from the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Takes a descriptor that this process was started with (sd_listen_fds(3)), if it is a listening stream socket. To be
/// called once for each number, before anything else could have opened it.
pub(crate) fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    let listens = int_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 1
        && int_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)? == libc::SOCK_STREAM;
    if !listens {
        return Err(io::Error::other("not a listening stream socket"));
    }
    // SAFETY: open, as the calls above have shown, and by the protocol of socket activation this process's to use; the
    // programs started from this one should not have it.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn int_option(fd: RawFd, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an int and its size, as socket(7) and tcp(7) say for these options.
    check(unsafe { libc::getsockopt(fd, level, option, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

/// Whether nothing can be accepted just now, by nobody's fault: descriptors or memory are out (accept(2)).
pub(crate) fn out_of_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
