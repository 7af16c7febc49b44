//! The address of a collector, as the option `trace` has it.

use std::fmt;

/// `otlp:http://HOST:PORT[/PATH]`, or the same with `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
    /// A name or an address. An IPv6 address has no brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
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
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port: &u16| digits && *port != 0)?;
        if host.is_empty() || host.len() > 255 || !is_host {
            return None;
        }
        // A fragment is not sent, and what is behind it would be lost.
        if path.len() > MAX_PATH || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return None;
        }
        let path = if path.is_empty() || path == "/" { PATH } else { path };
        Some(Endpoint { secure, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// The value of the header `Host`.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
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
            ("otlp:http://[::1]:80/otlp/v1/traces?a=b", "otlp:http://[::1]:80/otlp/v1/traces?a=b"),
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
            "otlp:http://h:65536",
            "otlp:http://user@h:1",
            "otlp:http://user:word@h:1",
            "otlp:http://h:1/a b",
            "otlp:http://h:1/a\r\nx: y",
            "otlp:http://h:1/a#b",
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
    }
}
