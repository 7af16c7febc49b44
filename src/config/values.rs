//! Reads the texts of options: sizes, times, addresses.

use crate::engine::Url;
use crate::limits::Peer;
use crate::number;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The same, for clients that speak TLS.
    Tls(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Tls(address) => write!(f, "tls:{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The place where history is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Engine {
    /// In this process only.
    #[default]
    Memory,
    /// In a log in this directory as well.
    File(PathBuf),
    /// In a log that hubs share, at this URL, as well.
    Log(Url),
}

/// The proxies that are trusted to tell a client's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    nets: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// Reads a list of addresses, networks (`10.0.0.0/8`) and `unix`, which stands for all peers on a Unix socket.
    pub fn read(text: &str) -> Option<Self> {
        let mut trusted = TrustedProxies::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part {
                "unix" => trusted.unix = true,
                part => {
                    let one = || part.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical()));
                    // The parser of networks would take a zero before the length of the prefix.
                    let is_plain = part.split_once('/').is_none_or(|(_, bits)| bits == "0" || !bits.starts_with('0'));
                    trusted.nets.push(part.parse().ok().filter(|_| is_plain).map(canonical).or_else(one)?);
                }
            }
        }
        Some(trusted)
    }

    /// True if no proxy is trusted.
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty() && !self.unix
    }

    /// True if an address is one of these.
    pub fn contains_ip(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.nets.iter().any(|net| net.contains(&ip))
    }

    /// True if the other end of a connection is one of these.
    pub fn contains(&self, peer: Peer) -> bool {
        match peer {
            Peer::Ip(ip) => self.contains_ip(ip),
            Peer::Unix => self.unix,
        }
    }
}

/// A network of IPv4 addresses as IPv6 writes them is one of IPv4, as the addresses are.
fn canonical(net: IpNet) -> IpNet {
    let mapped = |net: Ipv6Net| Ipv4Net::new(net.addr().to_ipv4_mapped()?, net.prefix_len().checked_sub(96)?).ok();
    match net {
        IpNet::V6(net) => mapped(net).map_or(IpNet::V6(net), IpNet::V4),
        IpNet::V4(_) => net,
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_one = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        let net = |net: &IpNet| if is_one(net) { net.addr().to_string() } else { net.to_string() };
        let unix = self.unix.then(|| "unix".to_owned());
        f.write_str(&self.nets.iter().map(net).chain(unix).collect::<Vec<_>>().join(","))
    }
}

/// The header in which proxies tell the client's address. It is only one: a client may send the other, and not every
/// proxy removes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, by custom.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A secret text, or the bytes of a file. It is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Secret(text.into())
    }

    /// True if it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// The longest path that fits in a sockaddr_un, with its NUL (unix(7)).
const UNIX_PATH_MAX: usize = 107;

/// Reads `none`, or a list of `IP:PORT`, `localhost:PORT`, either with `tls:` before it, and `unix:PATH`, with commas
/// between.
pub(super) fn addresses(text: &str) -> Option<Vec<Address>> {
    if text == "none" {
        return Some(Vec::new());
    }
    text.split(',').map(|part| address(part.trim())).collect()
}

/// Reads `none` or `unix:PATH`.
pub(super) fn unix_path(text: &str) -> Option<Option<PathBuf>> {
    if text == "none" {
        return Some(None);
    }
    match address(text)? {
        Address::Unix(path) => Some(Some(path)),
        Address::Tcp(_) | Address::Tls(_) => None,
    }
}

fn address(text: &str) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        // Elsewhere a name with @ stands for an abstract socket. Here it would name a file.
        let fits = !path.is_empty() && path.len() <= UNIX_PATH_MAX && !path.contains('\0') && !path.starts_with('@');
        return fits.then(|| Address::Unix(path.into()));
    }
    let (text, kind): (_, fn(SocketAddr) -> Address) = match text.strip_prefix("tls:") {
        Some(rest) => (rest, Address::Tls),
        None => (text, Address::Tcp),
    };
    let text = text.replace("localhost:", "127.0.0.1:");
    number::read::<u16>(text.rsplit_once(':')?.1)?;
    text.parse().ok().map(kind)
}

/// Reads `512`, `64KB`, `1MB`, `2GB`; a KB has 1024 bytes. `64k` and `64KiB`, as others write it, are the same.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.to_ascii_uppercase();
    let bare = text.strip_suffix("IB").or_else(|| text.strip_suffix('B')).unwrap_or(&text);
    let is_binary = text.ends_with("IB");
    scaled(bare, &[("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)], 1)
        .filter(|_| !is_binary || bare.ends_with(['K', 'M', 'G']))
}

/// Reads `250ms`, `30s`, `5m`, `2h`, `7d` into milliseconds; a bare number is seconds.
pub(super) fn time_ms(text: &str) -> Option<u64> {
    scaled(text, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)], 1000)
}

/// Writes a size as a person would.
pub(super) fn show_size(bytes: u64) -> String {
    match bytes {
        0 => "0".into(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// Writes a time as a person would.
pub(super) fn show_time(ms: u64) -> String {
    match ms {
        0 => "0".into(),
        _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

fn scaled(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let (digits, scale) = units
        .iter()
        .find_map(|(unit, scale)| text.strip_suffix(unit).map(|digits| (digits, *scale)))
        .unwrap_or((text, bare));
    let digits = digits.trim_end();
    number::read::<u64>(digits)?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(size("64KB"), Some(65_536));
        assert_eq!(size("3 MB"), Some(3 << 20));
        for kilobytes in ["64K", "64k", "64kb", "64 KiB"] {
            assert_eq!(size(kilobytes), Some(65_536), "{kilobytes}");
        }
        assert_eq!((size("12"), size("12B")), (Some(12), Some(12)));
        for wrong in ["", "B", "K", "12iB", "64KBB", "64KK", "0.5K", "1T", "+1", "064KB", "00"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        assert_eq!(size("-1"), None);
        assert_eq!(size("99999999999999999999"), None);
        assert_eq!(size("18446744073709551615KB"), None);
        assert_eq!(time_ms("250ms"), Some(250));
        assert_eq!(time_ms("5m"), Some(300_000));
        assert_eq!(time_ms("30"), Some(30_000));
        assert_eq!(time_ms("0"), Some(0));
        for wrong in ["s", "+5s", "05s", "007", "-0", "5 m s"] {
            assert_eq!(time_ms(wrong), None, "{wrong}");
        }
        assert_eq!(show_time(300_000), "5m");
        assert_eq!(show_size(65_536), "64KB");
    }

    #[test]
    fn proxies_are_addresses_networks_or_unix() {
        let trusted = TrustedProxies::read("10.0.0.0/8, ::1, ::ffff:192.0.2.1, ::ffff:198.51.100.0/120").unwrap();
        for (text, expected) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("::1", true),
            ("::2", false),
            ("192.0.2.1", true),
            ("198.51.100.7", true),
            ("198.51.101.7", false),
        ] {
            assert_eq!(trusted.contains(Peer::Ip(text.parse().unwrap())), expected, "{text}");
        }
        assert!(!trusted.contains(Peer::Unix) && TrustedProxies::read("unix").unwrap().contains(Peer::Unix));
        assert!(TrustedProxies::read("").unwrap().is_empty());
        for wrong in ["10.0.0.0/33", "localhost", "10.0.0", "10.0.0.0/8/8", "unix:/x"] {
            assert_eq!(TrustedProxies::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_are_tcp_or_unix() {
        assert_eq!(addresses("none"), Some(vec![]));
        let both = addresses("localhost:80, unix:/run/push.sock").unwrap();
        assert_eq!(both[0].to_string(), "127.0.0.1:80");
        assert_eq!(both[1].to_string(), "unix:/run/push.sock");
        assert_eq!(addresses("[::1]:80").unwrap()[0].to_string(), "[::1]:80");
        assert_eq!(addresses("tls:localhost:443").unwrap()[0].to_string(), "tls:127.0.0.1:443");
        for wrong in [
            "",
            "80",
            "tls:",
            "tls:unix:/x",
            "tls:80",
            "tls:tls:[::]:1",
            "TLS:[::]:1",
            "example.org:80",
            "unix:",
            "unix:@abstract",
            "127.0.0.1",
            "127.0.0.1:99999",
            "127.0.0.1:080",
            "[::1]:+80",
        ] {
            assert_eq!(addresses(wrong), None, "{wrong}");
        }
    }
}
