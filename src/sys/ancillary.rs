//! Ancillary data of sockets, which `sendmsg` and `recvmsg` carry beside the bytes (cmsg(3)).

use super::check_len;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

/// The bytes of ancillary data that one call carries at most.
const MAX_DATA: usize = 192;

/// Room for a header with `MAX_DATA` bytes, aligned as a `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 256]);

/// The level and type of ancillary data, as in a `cmsghdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) level: libc::c_int,
    pub(super) kind: libc::c_int,
}

/// Writes as much of `bytes` as fits, without waiting. If anything was written, the ancillary data went with the first
/// byte. EINVAL: there is more of it than one call carries.
pub(super) fn send(fd: &OwnedFd, bytes: &[u8], ancillary: Option<(Kind, &[u8])>) -> io::Result<usize> {
    let mut control = Control([MaybeUninit::uninit(); 256]);
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    if ancillary.is_some_and(|(_, data)| data.len() > MAX_DATA) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a msghdr of zeros is empty. The control buffer is aligned and has room for a header and MAX_DATA bytes (a
    // test checks this), and the data is not longer. So CMSG_FIRSTHDR is within it, and CMSG_DATA has room for the data.
    // The kernel only reads.
    check_len(unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut piece;
        message.msg_iovlen = 1;
        if let Some((Kind { level, kind }, data)) = ancillary {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(data.len() as _) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(data.len() as _) as _;
            std::ptr::copy_nonoverlapping(data.as_ptr(), libc::CMSG_DATA(header), data.len());
        }
        libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    })
}

/// Reads the bytes that are there, without waiting. 0 is the end of the stream. Calls `each` with all ancillary data that
/// came with them. Returns true as well if the kernel had more of it than it could hand over (MSG_CTRUNC). Descriptors
/// among the data belong to the caller from then on. They are closed on exec.
pub(super) fn receive(fd: &OwnedFd, into: &mut [u8], mut each: impl FnMut(Kind, &[u8])) -> io::Result<(usize, bool)> {
    let mut control = Control([MaybeUninit::uninit(); 256]);
    let mut piece = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: `into` and the control buffer have the lengths given. The kernel writes whole headers, and data as long as
    // they say, within the buffer. CMSG_NXTHDR stays within what the kernel has written.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let len = check_len(libc::recvmsg(fd.as_raw_fd(), &mut message, flags))?;
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            let size = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            let data = std::slice::from_raw_parts(libc::CMSG_DATA(header), size);
            each(Kind { level: (*header).cmsg_level, kind: (*header).cmsg_type }, data);
            header = libc::CMSG_NXTHDR(&message, header);
        }
        Ok((len, message.msg_flags & libc::MSG_CTRUNC != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_buffer_has_room() {
        // SAFETY: the macro only calculates.
        let needed = unsafe { libc::CMSG_SPACE(MAX_DATA as u32) } as usize;
        assert!(needed <= size_of::<Control>());
    }

    #[test]
    fn more_than_the_buffer_holds_is_refused() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let kind = Kind { level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS };
        let error = send(&here.into(), b"x", Some((kind, &[0; MAX_DATA + 1]))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
