//! The client's address, as trusted proxies tell it in `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address that its request came from. Left of the first address that is not a trusted proxy's,
//! a stranger may have written anything. So the list is read from the right, and the first untrusted address is the
//! client's.

use crate::config::{ForwardedHeader, TrustedProxies};
use std::net::{IpAddr, Ipv4Addr};

/// The client's address, from the header lines of a trusted proxy in their order. `None` if they have no address.
pub fn client(lines: &[&str], header: ForwardedHeader, trusted: &TrustedProxies) -> Option<IpAddr> {
    let mut nearest = None;
    for element in lines.iter().rev().flat_map(|line| FromRight { rest: Some(line), separator: b',' }) {
        let named = match header {
            ForwardedHeader::XForwardedFor => node(element),
            ForwardedHeader::Forwarded => forwarded_for(element),
        };
        // If a trusted proxy does not name an address ("unknown", or garbage that it passed on), the proxy itself
        // counts as the client.
        let Some(ip) = named else { break };
        nearest = Some(ip);
        if !trusted.contains_ip(ip) {
            break;
        }
    }
    nearest
}

/// The parts of a list, from its right end. A separator in quotes does not count. A quote that a stranger left open
/// further to the left does not affect the parts to the right of it.
struct FromRight<'a> {
    rest: Option<&'a str>,
    separator: u8,
}

impl<'a> Iterator for FromRight<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let mut quoted = false;
        let at = rest.bytes().rposition(|byte| {
            quoted ^= byte == b'"';
            byte == self.separator && !quoted
        });
        let part = match at {
            Some(at) => {
                self.rest = Some(&rest[..at]);
                &rest[at + 1..]
            }
            None => self.rest.take()?,
        };
        Some(part.trim())
    }
}

/// The parameter `for` of an element (RFC 7239, section 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = FromRight { rest: Some(element), separator: b';' };
    let value = pairs.find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// An address with or without a port. An IPv6 address may be in brackets or bare (RFC 7239, section 6; for
/// X-Forwarded-For by custom).
fn node(text: &str) -> Option<IpAddr> {
    let is_port = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((ip, after)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let fits = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return ip.parse().ok().filter(|_| fits).map(IpAddr::V6);
    }
    let with_port = || text.rsplit_once(':').filter(|(_, port)| is_port(port))?.0.parse::<Ipv4Addr>().ok();
    text.parse().ok().or_else(|| with_port().map(IpAddr::V4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_a_proxy() {
        let trusted = TrustedProxies::read("10.0.0.0/8, 2001:db8::/32, 192.0.2.7").unwrap();
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["203.0.113.5"], Some("203.0.113.5")),
            (&["203.0.113.5:4711"], Some("203.0.113.5")),
            (&["2001:4860::1"], Some("2001:4860::1")),
            (&["[2001:4860::1]"], Some("2001:4860::1")),
            (&["[2001:4860::1]:80"], Some("2001:4860::1")),
            (&["::ffff:203.0.113.5"], Some("::ffff:203.0.113.5")),
            // What a client wrote itself stands left of what the proxy appended.
            (&["1.1.1.1, 203.0.113.5"], Some("203.0.113.5")),
            (&["1.1.1.1", "203.0.113.5"], Some("203.0.113.5")),
            (&["1.1.1.1, 203.0.113.5, 10.1.2.3 ,2001:db8::9"], Some("203.0.113.5")),
            (&["203.0.113.5, 10.1.2.3", "192.0.2.7, 10.0.0.1"], Some("203.0.113.5")),
            // There are only proxies. The one furthest away counts as the client.
            (&["10.0.0.9, 10.0.0.1"], Some("10.0.0.9")),
            (&["::ffff:10.0.0.9, 10.0.0.1"], Some("::ffff:10.0.0.9")),
            (&["unknown, 10.0.0.1"], Some("10.0.0.1")),
            (&["203.0.113.5, garbage"], None),
            (&["203.0.113.5,"], None),
            (&["203.0.113.5:http"], None),
            (&["[203.0.113.5]"], None),
            (&["fe80::1%eth0"], None),
            (&[""], None),
            (&[], None),
        ];
        for (lines, expected) in cases {
            let expected = expected.map(|ip| ip.parse().unwrap());
            assert_eq!(client(lines, ForwardedHeader::XForwardedFor, &trusted), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_says() {
        let trusted = TrustedProxies::read("10.0.0.0/8").unwrap();
        let cases: &[(&[&str], Option<&str>)] = &[
            // Section 4.
            (&[r#"For="[2001:db8:cafe::17]:4711""#], Some("2001:db8:cafe::17")),
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], Some("192.0.2.60")),
            (&["by=203.0.113.43 ; FOR = 192.0.2.60"], Some("192.0.2.60")),
            (&["for=192.0.2.43, for=198.51.100.17"], Some("198.51.100.17")),
            (&["for=192.0.2.43", "for=10.0.0.1"], Some("192.0.2.43")),
            (&[r#"for="192.0.2.43:80";host="a,b;for=1.1.1.1""#], Some("192.0.2.43")),
            // Section 6.2 and 6.3.
            (&["for=unknown"], None),
            (&["for=_hidden, for=10.0.0.1"], Some("10.0.0.1")),
            // A quote that a stranger left open does not hide what the proxy appended.
            (&[r#"for="1.1.1.1, for=198.51.100.17"#], Some("198.51.100.17")),
            (&[r#"for=1.1.1.1;host=", for=198.51.100.17, for=10.0.0.1"#], Some("198.51.100.17")),
            (&["proto=http"], None),
            (&["192.0.2.60"], None),
        ];
        for (lines, expected) in cases {
            let expected = expected.map(|ip| ip.parse().unwrap());
            assert_eq!(client(lines, ForwardedHeader::Forwarded, &trusted), expected, "{lines:?}");
        }
    }
}
