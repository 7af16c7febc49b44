//! The other end of a connection, and the key by which connections are counted.

use crate::sys::socket;
use socket2::SockRef;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

/// The other end of a connection, as the system or a proxy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An IP address. It is never an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2): such an address is turned
    /// into IPv4 where it comes in.
    Ip(IpAddr),
    /// A process of this machine, connected by a Unix socket.
    Unix,
}

impl Peer {
    /// The other end of a socket. `None`: the connection is gone.
    pub(crate) fn of(fd: &OwnedFd) -> Option<Self> {
        let address = SockRef::from(fd).peer_addr().ok()?;
        let ip = address.as_socket().map(|address| Peer::Ip(address.ip().to_canonical()));
        ip.or_else(|| address.is_unix().then_some(Peer::Unix))
    }

    /// The other end of a socket, also if the connection is gone.
    pub(crate) fn last_of(fd: &OwnedFd) -> Option<Self> {
        Peer::of(fd).or_else(|| Some(Peer::Ip(socket::last_peer(fd)?.to_canonical())))
    }

    /// The key by which it is counted. A process of this machine has none.
    pub(crate) fn address(self) -> Option<AddressKey> {
        match self {
            Peer::Ip(ip) => Some(AddressKey::of(ip)),
            Peer::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(ip) => write!(f, "{ip}"),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

/// The key by which connections are counted: an IPv4 address, or the first 64 bits of an IPv6 address. All IPv6
/// addresses that share these bits belong to one customer (RFC 6177, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AddressKey(NonZeroU64);

impl AddressKey {
    /// Marks the keys of IPv4 addresses. No key of an IPv6 address equals one of them: that address would be in
    /// 0:1::/32, a part of ::/8, which is reserved (IANA's registry of the IPv6 address space).
    const V4: u64 = 1 << 32;

    pub(crate) fn of(ip: IpAddr) -> Self {
        let bits = match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4 | u64::from(ip.to_bits()),
            // These bits are 0 for ::1, and for no other address that can connect.
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        AddressKey(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_counts_by_address_and_ipv6_by_its_first_64_bits() {
        let of = |text: &str| AddressKey::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:0:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("0.0.0.0"), of("::1"));
        assert_ne!(of("127.0.0.1"), of("::1"));
    }

    #[test]
    fn the_peer_of_a_socket_is_its_other_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = OwnedFd::from(listener.accept().unwrap().0);
        assert_eq!(Peer::of(&accepted), Some(Peer::Ip("127.0.0.1".parse().unwrap())));
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&OwnedFd::from(one)), Some(Peer::Unix));
    }
}
