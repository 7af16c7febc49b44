//! The option `allowed_origins`: the values of `Origin` that browsers send (WHATWG HTML, section 7.1.1), and patterns
//! of them. A value that no browser sends would never match. It is an error, which says what to write instead.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest hint. The whole error must fit into the host's buffer.
const MAX_HINT: usize = 68;
const FORM: &str = "an origin is SCHEME://HOST or SCHEME://HOST:PORT";

/// Reads a list of origins. The error is about the first one that is wrong.
pub(super) fn read(text: &str) -> Result<Vec<String>, String> {
    super::options::list(text).iter().map(|origin| one(origin)).collect()
}

fn one(text: &str) -> Result<String, String> {
    // Pages without an origin, and pages that Android's WebView has read from a file.
    if matches!(text, "*" | "null" | "file://") {
        return Ok(text.into());
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(write_instead("a scheme is missing", &format!("https://{text}")));
    };
    let scheme = scheme.to_ascii_lowercase();
    let in_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.bytes().all(in_scheme) {
        return Err(FORM.into());
    }
    if let "ws" | "wss" = &*scheme {
        return Err(write_instead(
            "an origin has the page's scheme",
            &format!("{}://{rest}", scheme.replace("ws", "http")),
        ));
    }
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if authority.len() < rest.len() {
        return Err(write_instead("browsers send no path", &format!("{scheme}://{authority}")));
    }
    if let Some((_, host)) = authority.rsplit_once('@') {
        return Err(write_instead("browsers send no user", &format!("{scheme}://{host}")));
    }
    let (host, port) = match authority.rfind(':').filter(|colon| !authority[*colon..].contains(']')) {
        Some(colon) => (&authority[..colon], Some(&authority[colon + 1..])),
        None => (authority, None),
    };
    // Applications have their own schemes, and browsers do not change the hosts of these: Electron's pages have
    // `app://.`.
    if !matches!(&*scheme, "http" | "https") && !rest.is_empty() && rest.bytes().all(is_opaque) {
        return Ok(text.into());
    }
    let host = host_as_sent(&host.to_ascii_lowercase())?;
    let port = match port {
        None => String::new(),
        Some(port) => format!(":{}", port_as_sent(port).ok_or(FORM)?),
    };
    let default = matches!((&*scheme, &*port), ("http", ":80") | ("https", ":443"));
    let sent = format!("{scheme}://{host}{}", if default { "" } else { &port });
    if sent.eq_ignore_ascii_case(text) {
        Ok(sent)
    } else if default {
        Err(write_instead(&format!("browsers leave out {port}"), &sent))
    } else {
        Err(write_instead("browsers shorten it", &sent))
    }
}

/// True if a byte may stand in the host of a scheme that is not http or https (WHATWG URL, section 3.5, opaque hosts).
fn is_opaque(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"*,#/<>?@[\\]^|".contains(&byte)
}

/// A hint, with the correct value if that is known and fits.
fn write_instead(why: &str, good: &str) -> String {
    let good = one(good).or_else(|why| why.rsplit_once(": write ").map(|(_, better)| better.to_owned()).ok_or(()));
    match good.map(|good| format!("{why}: write {good}")) {
        Ok(hint) if hint.len() <= MAX_HINT => hint,
        Ok(_) => why.into(),
        Err(()) => FORM.into(),
    }
}

/// A host in the form that browsers send (WHATWG URL, section 3.5).
fn host_as_sent(host: &str) -> Result<String, String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']').and_then(|text| text.parse().ok()).ok_or(FORM)?;
        return Ok(match address.to_ipv4_mapped() {
            Some(mapped) => {
                let [a, b, c, d] = mapped.octets().map(u16::from);
                format!("[::ffff:{:x}:{:x}]", a << 8 | b, c << 8 | d)
            }
            None => format!("[{address}]"),
        });
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.contains('*') {
        return Err("the * of a host stands at its beginning, for subdomains".into());
    }
    if !name.is_ascii() {
        return Err("browsers send its ASCII form, which begins with xn--".into());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.split('.').all(|label| !label.is_empty() && label.bytes().all(in_name)) {
        return Err(FORM.into());
    }
    // A host that ends in a number is an IPv4 address, or it is wrong.
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit()) || label.starts_with("0x");
    if name.rsplit('.').next().is_some_and(is_number) && (name.parse::<Ipv4Addr>().is_err() || name != host) {
        return Err("an IPv4 address is four numbers".into());
    }
    Ok(host.into())
}

fn port_as_sent(port: &str) -> Option<u16> {
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_is_taken() {
        for good in [
            "*",
            "null",
            "file://",
            "https://example.org",
            "http://example.org:8080",
            "http://localhost",
            "https://xn--bcher-kva.example",
            "https://a_b.example.",
            "https://*.example.org",
            "https://*.example.org:8443",
            "http://*.localhost:3000",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "http://[2001:db8::1]",
            "http://example.org:443",
            "https://example.org:80",
            "capacitor://localhost",
            "app://.",
            "app://-",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(read(good), Ok(vec![good.into()]));
        }
        assert_eq!(read("HTTPS://Example.ORG"), Ok(vec!["https://example.org".into()]));
        assert_eq!(read(" https://a.example , ,https://b.example,"), read("https://a.example,https://b.example"));
        assert_eq!(read(""), Ok(vec![]));
    }

    #[test]
    fn what_no_browser_sends_is_told_what_to_write() {
        for (wrong, hint) in [
            ("https://example.org:443", "browsers leave out :443: write https://example.org"),
            ("http://*.example.org:80", "browsers leave out :80: write http://*.example.org"),
            ("https://example.org/", "browsers send no path: write https://example.org"),
            ("https://example.org/app", "browsers send no path: write https://example.org"),
            ("https://Example.org:443/app", "browsers send no path: write https://example.org"),
            ("https://example.org?a=b", "browsers send no path: write https://example.org"),
            ("https://ada:secret@example.org", "browsers send no user: write https://example.org"),
            ("wss://example.org/push", "an origin has the page's scheme: write https://example.org"),
            ("ws://example.org:8080", "an origin has the page's scheme: write http://example.org:8080"),
            ("example.org", "a scheme is missing: write https://example.org"),
            ("*.example.org", "a scheme is missing: write https://*.example.org"),
            ("example.org:443", "a scheme is missing: write https://example.org"),
            ("http://example.org:08080", "browsers shorten it: write http://example.org:8080"),
            ("http://[0:0:0:0:0:0:0:1]", "browsers shorten it: write http://[::1]"),
            ("http://[::ffff:127.0.0.1]", "browsers shorten it: write http://[::ffff:7f00:1]"),
            ("http://127.1", "an IPv4 address is four numbers"),
            ("http://*.0.0.1", "an IPv4 address is four numbers"),
            ("https://bücher.example", "browsers send its ASCII form, which begins with xn--"),
            ("https://*", "the * of a host stands at its beginning, for subdomains"),
            ("https://a.*.example.org", "the * of a host stands at its beginning, for subdomains"),
            ("https://*example.org", "the * of a host stands at its beginning, for subdomains"),
            ("https://*.*.example.org", "the * of a host stands at its beginning, for subdomains"),
            ("://x", FORM),
            ("https://", FORM),
            ("https://*.", FORM),
            ("https://a..b", FORM),
            ("https://a b", FORM),
            ("https://example.org:", FORM),
            ("https://example.org:port", FORM),
            ("https://example.org:99999", FORM),
            ("https://[::1", FORM),
            ("https://[::1]x", FORM),
            ("1a://b", FORM),
        ] {
            assert_eq!(read(&format!("https://a.example,{wrong}")), Err(hint.into()), "{wrong}");
            assert!(hint.len() <= MAX_HINT);
        }
        let long = format!("https://{}.example/", "x".repeat(60));
        assert_eq!(read(&long), Err("browsers send no path".into()));
    }
}
