//! TLS in the kernel (Documentation/networking/tls.rst): a socket that encrypts what is written, and decrypts what is
//! read.

use super::ancillary::{self, Kind};
pub(crate) use super::encryption::Version;
use super::{check, encryption, standard};
use socket2::{Domain, Socket, Type};
use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

// Numbers of the kernel's interface (include/uapi/linux/tls.h).
const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const TLS_GET_RECORD_TYPE: libc::c_int = 2;
const ULP: &CStr = c"tls";

/// The type of the records that are alerts (RFC 8446, appendix B.1).
pub(crate) const ALERT: u8 = 21;
/// The alert that no more comes, a warning. It is the same in both versions (RFC 8446, appendix B.2).
pub(crate) const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// The size of the largest of the structs that describe keys.
const LARGEST: usize = 56;
/// How long a connection to ourselves may take.
const CONNECT: Duration = Duration::from_secs(1);

/// A cipher, by the number that it has in the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes128Gcm = 51,
    Aes256Gcm = 52,
    Chacha20Poly1305 = 54,
}

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Send,
    Receive,
}

/// The keys of one direction, as the kernel takes them: a `struct tls12_crypto_info_...`. They are wiped in the end.
pub(crate) struct Keys {
    bytes: [u8; LARGEST],
    len: usize,
}

impl Cipher {
    pub(crate) const fn key_len(self) -> usize {
        match self {
            Cipher::Aes128Gcm => 16,
            Cipher::Aes256Gcm | Cipher::Chacha20Poly1305 => 32,
        }
    }
}

impl Keys {
    /// Keys for the records from number `sequence` on. `None`: the key's length is not that of the cipher.
    pub(crate) fn new(version: Version, cipher: Cipher, key: &[u8], iv: &[u8; 12], sequence: u64) -> Option<Self> {
        if key.len() != cipher.key_len() {
            return None;
        }
        // AES-GCM has the first four bytes apart: the structs name them `salt`. They stand behind the key.
        let (salt, iv) = match cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => iv.split_at(4),
            Cipher::Chacha20Poly1305 => (&[][..], &iv[..]),
        };
        let mut keys = Keys { bytes: [0; LARGEST], len: 0 };
        keys.put(&(version as u16).to_ne_bytes());
        keys.put(&(cipher as u16).to_ne_bytes());
        keys.put(iv);
        keys.put(key);
        keys.put(salt);
        keys.put(&sequence.to_be_bytes());
        Some(keys)
    }

    fn put(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        for byte in &mut self.bytes {
            // SAFETY: it is a reference to a byte. A volatile write is not left out, though nobody reads the byte.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
    }
}

/// Whether the kernel has TLS at all. If the process has CAP_NET_ADMIN, this loads the module.
pub(crate) fn is_there() -> bool {
    // Without a connection the call fails in any case: with ENOTCONN if there is a module that could say so.
    let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None) else { return false };
    let socket = standard::above(socket.into());
    matches!(attach(&socket), Err(error) if error.raw_os_error() == Some(libc::ENOTCONN))
}

/// Whether the kernel takes keys of this cipher in both directions. A connection to ourselves is the trial.
pub(crate) fn takes(version: Version, cipher: Cipher) -> bool {
    let trial = || -> io::Result<()> {
        let socket = self_connected()?;
        let zeros = [0; 32];
        let keys = Keys::new(version, cipher, &zeros[..cipher.key_len()], &[0; 12], 0);
        let keys = keys.ok_or(io::ErrorKind::InvalidInput)?;
        attach(&socket)?;
        set(&socket, Direction::Receive, &keys)?;
        set(&socket, Direction::Send, &keys)
    };
    trial().is_ok()
}

/// A TCP connection from a port of the loopback to the same port. So nobody else can have an end of it.
fn self_connected() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let own = socket.local_addr()?;
    socket.connect_timeout(&own, CONNECT)?;
    // The port is free at once when it is closed.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(standard::above(socket.into()))
}

/// Prepares a connection for keys. Until it has some, its bytes come and go as before.
pub(crate) fn attach(fd: &OwnedFd) -> io::Result<()> {
    let name = ULP.to_bytes();
    // SAFETY: `name` has `name.len()` bytes.
    check(unsafe {
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_ULP);
        libc::setsockopt(fd.as_raw_fd(), level, option, name.as_ptr().cast(), name.len() as libc::socklen_t)
    })
    .map(drop)
}

/// From here on the kernel encrypts or decrypts. It can't be undone.
pub(crate) fn set(fd: &OwnedFd, direction: Direction, keys: &Keys) -> io::Result<()> {
    let option = match direction {
        Direction::Send => TLS_TX,
        Direction::Receive => TLS_RX,
    };
    // SAFETY: the first `len` bytes are the struct of this cipher, as the kernel's interface has it.
    check(unsafe {
        let len = keys.len as libc::socklen_t;
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_TLS, option, keys.bytes.as_ptr().cast(), len)
    })
    .map(drop)
}

/// Reads content, or one record of another type. Returns the type, and the number of bytes. Without a type it is the end
/// of the stream.
pub(crate) fn recv(fd: &OwnedFd, into: &mut [u8]) -> io::Result<(Option<u8>, usize)> {
    const TOLD: Kind = Kind { level: libc::SOL_TLS, kind: TLS_GET_RECORD_TYPE };
    let mut of = None;
    let (len, _) = ancillary::receive(fd, into, |kind, data| {
        if kind == TOLD {
            of = data.first().copied();
        }
    })?;
    Ok((of, len))
}

/// Sends one record of another type than content.
pub(crate) fn send_record(fd: &OwnedFd, kind: u8, bytes: &[u8]) -> io::Result<usize> {
    const SET: Kind = Kind { level: libc::SOL_TLS, kind: TLS_SET_RECORD_TYPE };
    ancillary::send(fd, bytes, Some((SET, &[kind])))
}

/// Tells the peer that no more comes, if the kernel encrypts for the connection and the socket has room.
pub(crate) fn say_goodbye(fd: &OwnedFd) {
    if matches!(encryption::of(fd.as_raw_fd()), Ok(Some(_))) {
        let _ = send_record(fd, ALERT, &CLOSE_NOTIFY);
    }
}

/// Takes the error that a connection has, if it has one. While it has one, nothing can be sent.
pub(crate) fn take_error(fd: &OwnedFd) {
    let _ = socket2::SockRef::from(fd).take_error();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn keys_have_the_layout_of_the_kernel() {
        // The offsets in include/uapi/linux/tls.h: version, cipher, iv, key, salt, number of the record.
        let (key, iv) = ([7; 32], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let head = |version: u16, cipher: u16| [version.to_ne_bytes(), cipher.to_ne_bytes()].concat();
        let number = 0x0102_0304_0506_0708_u64.to_be_bytes();
        let number_of = |bytes: [u8; 8]| u64::from_be_bytes(bytes);

        let keys = Keys::new(Version::Tls13, Cipher::Aes128Gcm, &key[..16], &iv, number_of(number)).unwrap();
        let expected = [&head(0x0304, 51)[..], &iv[4..], &key[..16], &iv[..4], &number].concat();
        assert_eq!((keys.as_bytes(), keys.as_bytes().len()), (&expected[..], 40));

        let keys = Keys::new(Version::Tls12, Cipher::Aes256Gcm, &key, &iv, number_of(number)).unwrap();
        let expected = [&head(0x0303, 52)[..], &iv[4..], &key, &iv[..4], &number].concat();
        assert_eq!((keys.as_bytes(), keys.as_bytes().len()), (&expected[..], 56));

        let keys = Keys::new(Version::Tls13, Cipher::Chacha20Poly1305, &key, &iv, number_of(number)).unwrap();
        let expected = [&head(0x0304, 54)[..], &iv, &key, &number].concat();
        assert_eq!((keys.as_bytes(), keys.as_bytes().len()), (&expected[..], 56));

        assert!(Keys::new(Version::Tls13, Cipher::Aes128Gcm, &key, &iv, 0).is_none(), "a key of another length");
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_socket_without_tls_has_no_types_and_takes_no_keys() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours: OwnedFd = ours.into();
        assert!(attach(&ours).is_err());
        let keys = Keys::new(Version::Tls13, Cipher::Aes128Gcm, &[0; 16], &[0; 12], 0).unwrap();
        assert!(set(&ours, Direction::Send, &keys).is_err() && set(&ours, Direction::Receive, &keys).is_err());
        let mut bytes = [0; 10];
        assert_eq!(recv(&ours, &mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        std::io::Write::write_all(&mut theirs, b"abc").unwrap();
        assert_eq!(recv(&ours, &mut bytes).unwrap(), (None, 3));
        drop(ours);
        assert_eq!(theirs.read(&mut bytes).unwrap(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_connection_to_ourselves_has_no_other_end() {
        let socket = self_connected().unwrap();
        assert_eq!(crate::sys::socket::send(&socket, b"abc").unwrap(), 3);
        let mut bytes = [0; 10];
        let len = (0..1000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            crate::sys::socket::recv(&socket, &mut bytes).ok()
        });
        assert_eq!((len, &bytes[..3]), (Some(3), &b"abc"[..]));
    }
}
