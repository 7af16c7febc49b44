//! The PROXY protocol, versions 1 and 2. A load balancer sends its header before the first byte of a connection, to
//! tell the client's address.
//!
//! The specification is HAProxy's `doc/proxy-protocol.txt`; the sections below are its own. Only the source address is
//! used. Existing crates accept input that the specification forbids (ports like `+80`, text behind `UNKNOWN` beyond
//! the longest line) and refuse input that it says to ignore (a LOCAL header of an unknown family). Here two readers
//! must not differ.

use crate::limits::Peer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The start of a version 2 header (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The start of a version 1 header (section 2.1).
const V1: &[u8; 6] = b"PROXY ";
/// The longest line of version 1, including its end (section 2.1).
const V1_MAX: usize = 107;
/// The longest version 2 header that is read, with addresses and extensions. It is more than any proxy sends.
const V2_MAX: usize = 4096;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client's address. `None` if the proxy speaks for itself, or can't say.
    pub source: Option<Peer>,
    /// The size of the header in bytes.
    pub size: usize,
}

/// Reads a header. `Ok(None)` if it is incomplete. `Err` says what is wrong, and the connection must end.
pub fn read(bytes: &[u8]) -> Result<Option<ProxyHeader>, &'static str> {
    if begins(bytes, SIGNATURE) {
        read_v2(bytes)
    } else if begins(bytes, V1) {
        read_v1(bytes)
    } else {
        Err("the PROXY header is missing, which the option proxy_protocol requires")
    }
}

/// True if bytes begin with a mark, as far as they are there.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    let known = bytes.len().min(mark.len());
    bytes[..known] == mark[..known]
}

/// Section 2.1: one line of text.
fn read_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, &'static str> {
    let window = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_MAX { Ok(None) } else { Err("a PROXY line longer than 107 bytes") };
    };
    let line = std::str::from_utf8(&bytes[V1.len()..end]).map_err(|_| "a PROXY line that is not ASCII")?;
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    let source = match family {
        "TCP4" => Some(addresses::<Ipv4Addr>(rest)?),
        "TCP6" => Some(addresses::<Ipv6Addr>(rest)?),
        // "The receiver must ignore anything presented before the CRLF."
        "UNKNOWN" => None,
        _ => return Err("a PROXY line of an unknown protocol"),
    };
    Ok(Some(ProxyHeader { source, size: end + 2 }))
}

/// Source and destination, then their ports. Exactly one blank separates them.
fn addresses<A: FromStr + Into<IpAddr>>(text: &str) -> Result<Peer, &'static str> {
    let bad = "a PROXY line whose addresses can't be read";
    let mut parts = text.split(' ');
    let mut address = || parts.next().and_then(|part| part.parse::<A>().ok()).ok_or(bad);
    let (source, _) = (address()?, address()?);
    let ports: Vec<&str> = parts.collect();
    let is_port = |text: &&str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (*text == "0" || !text.starts_with('0'));
        plain && text.parse::<u16>().is_ok()
    };
    if ports.len() != 2 || !ports.iter().all(is_port) {
        return Err(bad);
    }
    Ok(Peer::Ip(source.into().to_canonical()))
}

/// Section 2.2: signature, version and command, family and transport, length, addresses, extensions.
fn read_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, &'static str> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<16>() else { return Ok(None) };
    let [version_command, family, high, low] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    if version_command >> 4 != 2 {
        return Err("a PROXY header of an unknown version");
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let size = fixed.len() + length;
    if size > V2_MAX {
        return Err("a PROXY header that is too long");
    }
    let source = match version_command & 0xf {
        // LOCAL: the proxy speaks for itself; family and addresses are ignored.
        0 => None,
        1 => {
            let Some(source) = source(family, length, rest)? else { return Ok(None) };
            source
        }
        _ => return Err("a PROXY header with an unknown command"),
    };
    Ok((bytes.len() >= size).then_some(ProxyHeader { source, size }))
}

/// The source address of a PROXY command. `None` while it is incomplete.
fn source(family: u8, length: usize, rest: &[u8]) -> Result<Option<Option<Peer>>, &'static str> {
    let needed = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err("a PROXY header of an unknown family, or not for a stream"),
    };
    if length < needed {
        return Err("a PROXY header that is shorter than its addresses");
    }
    if rest.len() < needed {
        return Ok(None);
    }
    let ip = match family {
        0x11 => rest.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        0x21 => rest.first_chunk::<16>().map(|octets| IpAddr::from(*octets).to_canonical()),
        // UNSPEC: the addresses of the connection itself count. A Unix path does not say where a client is.
        _ => None,
    };
    Ok(Some(ip.map(Peer::Ip).or((family == 0x31).then_some(Peer::Unix))))
}

#[cfg(test)]
#[path = "proxy_header_tests.rs"]
mod tests;
