//! Who is at the other end of a connection.

use socket2::SockRef;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

/// The other end, as the system or a proxy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A host. Never an IPv4 address in the form of IPv6 (RFC 4291, section 2.5.5.2): that is made IPv4 where it is
    /// met.
    Ip(IpAddr),
    /// A process of this machine, through a Unix socket.
    Unix,
}

impl Peer {
    /// The other end of a socket. `None`: it is gone.
    pub(crate) fn of(fd: &OwnedFd) -> Option<Self> {
        let address = SockRef::from(fd).peer_addr().ok()?;
        let ip = address.as_socket().map(|address| Peer::Ip(address.ip().to_canonical()));
        ip.or_else(|| address.is_unix().then_some(Peer::Unix))
    }

    /// What it counts as; a process of this machine has no address.
    pub(crate) fn address(self) -> Option<Address> {
        match self {
            Peer::Ip(ip) => Some(Address::of(ip)),
            Peer::Unix => None,
        }
    }
}

/// What connections are counted by: an IPv4 address, or the first 64 bits of an IPv6 address, since one customer has
/// all that share them (RFC 6177, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Address(NonZeroU64);

impl Address {
    /// Beside every address of IPv6: its prefix ::/32 is reserved but for ::/96 (RFC 4291, section 2.5).
    const V4: u64 = 1 << 32;

    pub(crate) fn of(ip: IpAddr) -> Self {
        let bits = match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4 | u64::from(ip.to_bits()),
            // Of ::1, and nothing else that connects, they are 0.
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        Address(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_count_by_themselves_or_by_their_64_bits() {
        let of = |text: &str| Address::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:0:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("0.0.0.0"), of("::1"));
        assert_ne!(of("127.0.0.1"), of("::1"));
    }

    #[test]
    fn a_socket_names_its_other_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = OwnedFd::from(listener.accept().unwrap().0);
        assert_eq!(Peer::of(&accepted), Some(Peer::Ip("127.0.0.1".parse().unwrap())));
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&OwnedFd::from(one)), Some(Peer::Unix));
    }
}
