//! The address of a collector, as the option `trace` has it.

use crate::number;
use hyper::http::uri::PathAndQuery;
use std::fmt;

/// `otlp:http://HOST:PORT[/PATH]`, or the same with `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
    /// A name or an address. An IPv6 address has no brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With the query, which may have a key for the collector.
    pub(crate) path: String,
}

/// The longest path.
const MAX_PATH: usize = 1024;
/// The path of the specification, for an address without one.
const PATH: &str = "/v1/traces";

impl Endpoint {
    /// Reads the text of the option. `None` if it is not allowed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("otlp:")?;
        let (secure, rest) = match rest.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_prefix("http://")?),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inner) => {
                let inner = inner.strip_suffix(']')?;
                inner.parse::<std::net::Ipv6Addr>().ok()?;
                inner
            }
            None => host,
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let is_host = authority.starts_with('[') || host.bytes().all(is_name);
        let port = number::read(port).filter(|port: &u16| *port != 0)?;
        if host.is_empty() || host.len() > 255 || !is_host || !is_server(host) {
            return None;
        }
        // A fragment is not sent, and what is behind it would be lost.
        if path.len() > MAX_PATH || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return None;
        }
        let path = if path.is_empty() || path == "/" { PATH } else { path };
        // What HTTP refuses now it would refuse with each request.
        path.parse::<PathAndQuery>().ok()?;
        Some(Endpoint { secure, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// The value of the header `Host`.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The URL, for logs and operators. A query is not shown, since it may have a key.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let (path, query) = match self.path.split_once('?') {
            Some((path, _)) => (path, "?..."),
            None => (&*self.path, ""),
        };
        format!("{scheme}://{}{path}{query}", self.authority())
    }
}

/// Whether a certificate can be one of this server: no label of its name is empty or too long.
#[cfg(feature = "trace")]
fn is_server(host: &str) -> bool {
    rustls::pki_types::ServerName::try_from(host).is_ok()
}

#[cfg(not(feature = "trace"))]
fn is_server(_: &str) -> bool {
    true
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "otlp:{}", self.url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port() {
        for (text, shown) in [
            ("otlp:http://127.0.0.1:4318", "otlp:http://127.0.0.1:4318/v1/traces"),
            ("otlp:http://collector:4318/", "otlp:http://collector:4318/v1/traces"),
            ("otlp:http://[::1]:80/otlp/v1/traces", "otlp:http://[::1]:80/otlp/v1/traces"),
            ("otlp:http://a_b.c-d:80/x%3C", "otlp:http://a_b.c-d:80/x%3C"),
            ("otlp:https://otel.example.org:443/x", "otlp:https://otel.example.org:443/x"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(Endpoint::parse(shown), Some(endpoint), "it is written as it is read");
        }
        for wrong in [
            "",
            "otlp",
            "otlp:",
            "http://h:1",
            "otlp:grpc://h:4317",
            "otlp:h:4318",
            "otlp:http://h",
            "otlp:http://h/v1/traces",
            "otlp:http://:4318",
            "otlp:http://h:0",
            "otlp:http://h:+1",
            "otlp:http://h:01",
            "otlp:http://h:65536",
            "otlp:http://user@h:1",
            "otlp:http://user:word@h:1",
            "otlp:http://h:1/a b",
            "otlp:http://h:1/a\r\nx: y",
            "otlp:http://h:1/a#b",
            "otlp:http://h:1/a<b",
            "otlp:http://h:1/a>b",
            "otlp:http://h:1/a`b",
            "otlp:http://h:1?a=b",
            "otlp:http://::1:80",
            "otlp:http://[::1]",
            "otlp:http://[h]:1",
            "otlp:http://[::1:1",
            "otlp:http://h\u{e4}:1",
            "OTLP:http://h:1",
        ] {
            assert_eq!(Endpoint::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(Endpoint::parse(&format!("otlp:http://h:1/{}", "a".repeat(2000))), None);
        #[cfg(feature = "trace")]
        for wrong in ["a..b", ".a", &format!("{}.org", "a".repeat(64))] {
            assert_eq!(Endpoint::parse(&format!("otlp:http://{wrong}:1")), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_query_is_sent_and_not_shown() {
        let endpoint = Endpoint::parse("otlp:https://h:1/x?api-key=SECRET").unwrap();
        assert_eq!(endpoint.path, "/x?api-key=SECRET");
        for shown in [endpoint.url(), endpoint.to_string(), format!("{endpoint:?}")] {
            assert!(shown.ends_with("https://h:1/x?..."), "{shown}");
        }
        assert!(Endpoint::parse("otlp:https://h:1/x?api-key=OTHER") != Some(endpoint), "a reload sees the difference");
    }
}
