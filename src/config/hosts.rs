//! The names by which clients may address a server.
//!
//! An attacker can point the name of a page at 127.0.0.1 (DNS rebinding). For the browser, a server there then has the
//! same origin as the page: `Origin` equals `Host`. Only the name itself gives the attack away.

use std::net::{Ipv4Addr, Ipv6Addr};

/// True if a `Host` line names this machine's loopback: localhost, names below it, 127.0.0.0/8 or [::1].
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = bare(host);
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    }
    if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    }
    is_within(name, "localhost") || name.eq_ignore_ascii_case("localhost")
}

/// True if a `Host` line has a name of the list. The list has `*`, names, and `*.NAME` for all names below NAME.
pub(crate) fn is_listed(host: &str, list: &[String]) -> bool {
    let name = bare(host);
    list.iter().any(|known| match known.strip_prefix("*.") {
        Some(parent) => is_within(name, parent),
        None => known == "*" || known.eq_ignore_ascii_case(name),
    })
}

/// Reads the option `allowed_hosts`.
pub(crate) fn read_list(list: Vec<String>) -> Option<Vec<String>> {
    let is_good = |entry: &String| {
        let name = entry.strip_prefix("*.").unwrap_or(entry);
        let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = !name.is_empty() && !name.starts_with('.') && !name.ends_with('.') && name.bytes().all(in_name);
        let is_ipv6 = || {
            let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        };
        entry == "*" || is_name || (name == entry && is_ipv6())
    };
    list.iter().all(is_good).then_some(list)
}

/// A host without its port, and without the dot at the end of a full name.
fn bare(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn is_within(name: &str, parent: &str) -> bool {
    let Some(len) = name.len().checked_sub(parent.len()) else { return false };
    let (below, end) = name.as_bytes().split_at(len);
    len > 1 && below.ends_with(b".") && end.eq_ignore_ascii_case(parent.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for good in [
            "localhost",
            "LOCALHOST:80",
            "app.localhost:8090",
            "localhost.",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "h",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io:80",
            "128.0.0.1",
            "[::2]",
            "::1",
            "0.0.0.0",
            ".localhost.evil",
            "127.1",
            "2130706433",
            "[::1",
            "localhost:80:80",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn a_list_has_names_and_what_is_below_them() {
        let list = read_list(vec!["push.example.org".into(), "*.example.net".into(), "[2001:db8::1]".into()]).unwrap();
        for good in ["push.example.org:8090", "PUSH.example.org.", "a.b.example.net", "[2001:db8::1]:80"] {
            assert!(is_listed(good, &list), "{good}");
        }
        for bad in ["example.net", "evilexample.net", "example.org", "x.push.example.org", "[2001:db8::2]", ""] {
            assert!(!is_listed(bad, &list), "{bad}");
        }
        assert!(is_listed("anything", &["*".into()]));
        for bad in ["https://example.org", "example.org:80", "a/b", "*.*", "a*", ".a", "a.", "[::1", "*.[::1]", "a b"] {
            assert_eq!(read_list(vec![bad.into()]), None, "{bad}");
        }
    }
}
