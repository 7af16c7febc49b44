//! Decides which web origins may subscribe: the host's own, and those in the option `allowed_origins`.
//!
//! Browsers send cookies with WebSocket and SSE requests from any page. Without this check, any page could read a
//! user's messages (cross-site WebSocket hijacking). A client that is not a browser sends no Origin, and is not
//! affected.

use super::extensions::is_token;
use super::refusal::Refusal;
use crate::framing::date;

/// True if a page of `origin` may subscribe at the host that was addressed as `host`.
pub fn allowed(origin: &str, host: &str, list: &[String]) -> bool {
    same_host(origin, host) || list.iter().any(|known| known == "*" || fits(origin, known))
}

/// True if an origin equals the `known` one, or is a subdomain of it where `known` has `*.`.
fn fits(origin: &str, known: &str) -> bool {
    let Some((scheme, parent)) = known.split_once("*.") else { return known.eq_ignore_ascii_case(origin) };
    let origin = origin.as_bytes();
    let Some(len) = origin.len().checked_sub(scheme.len() + parent.len()).filter(|len| *len > 1) else { return false };
    let (begin, rest) = origin.split_at(scheme.len());
    let (below, end) = rest.split_at(len);
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    begin.eq_ignore_ascii_case(scheme.as_bytes())
        && end.eq_ignore_ascii_case(parent.as_bytes())
        && below.ends_with(b".")
        && !below.starts_with(b".")
        && below.iter().all(in_name)
}

/// True if an origin is the host itself. http and https both count, since a proxy in front may terminate TLS.
fn same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |name: &str| name.strip_suffix(default_port).unwrap_or(name).to_ascii_lowercase();
    !authority.is_empty() && bare(authority) == bare(host)
}

/// The header lines that let a page of another origin read the response. Empty for the host's own origin.
pub fn cors(origin: Option<&str>, host: &str) -> String {
    match origin {
        Some(origin) if !same_host(origin, host) => format!(
            "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
             Access-Control-Expose-Headers: Push-Position, Retry-After\r\nVary: Origin\r\n"
        ),
        _ => String::new(),
    }
}

/// The names of the request headers that are always allowed.
const ALLOWED_HEADERS: &str = "Authorization, Cache-Control, Last-Event-ID";
/// How many bytes of further names a preflight may ask for.
const MAX_ASKED: usize = 1024;

/// The header names that a preflight asks for in `Access-Control-Request-Headers`, as a list for the answer.
pub fn asked_headers<'b>(lines: impl Iterator<Item = &'b [u8]>) -> Result<String, Refusal> {
    let mut asked = String::new();
    for name in lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
        let name = match std::str::from_utf8(name) {
            // An empty element does not count (RFC 9110, section 5.6.1).
            Ok("") => continue,
            Ok(name) if name.bytes().all(is_token) => name,
            _ => {
                let message = "Access-Control-Request-Headers is not a list of names of header lines";
                return Err(Refusal::malformed("preflight", message));
            }
        };
        if !ALLOWED_HEADERS.split(", ").any(|known| known.eq_ignore_ascii_case(name)) {
            asked.push_str(", ");
            asked.push_str(name);
        }
        if asked.len() > MAX_ASKED {
            let message = format!("Access-Control-Request-Headers: more than {MAX_ASKED} bytes of names");
            return Err(Refusal::malformed("preflight", message));
        }
    }
    Ok(asked)
}

/// The answer to a preflight request (WHATWG Fetch, section 3.2). Tracing and frameworks add headers that a page can't
/// leave out. They mean nothing here, so all names that are asked for are allowed. `*` would not allow them in a
/// request with credentials.
pub fn preflight(cors: &str, asked: &str, keep_alive: bool) -> String {
    let connection = if keep_alive { "" } else { "Connection: close\r\n" };
    format!(
        "HTTP/1.1 204 No Content\r\nDate: {}\r\n{cors}{connection}Access-Control-Allow-Methods: GET\r\n\
         Access-Control-Allow-Headers: {ALLOWED_HEADERS}{asked}\r\nVary: Access-Control-Request-Headers\r\n\
         Access-Control-Max-Age: 86400\r\nAllow: GET, OPTIONS\r\n\r\n",
        date::now()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_preflight_asks_for_is_allowed() {
        let asked =
            |lines: &[&str]| asked_headers(lines.iter().map(|line| line.as_bytes())).map_err(|error| error.code);
        assert_eq!(asked(&[]), Ok(String::new()));
        assert_eq!(asked(&["", " , "]), Ok(String::new()));
        assert_eq!(
            asked(&["authorization,last-event-id, cache-control"]),
            Ok(String::new()),
            "these are always allowed"
        );
        let lines = ["content-type,traceparent", "x-requested-with , X-CSRF-Token"];
        assert_eq!(asked(&lines), Ok(", content-type, traceparent, x-requested-with, X-CSRF-Token".into()));
        let answer = preflight("Vary: Origin\r\n", ", traceparent", true);
        for line in [
            "Access-Control-Allow-Headers: Authorization, Cache-Control, Last-Event-ID, traceparent",
            "Vary: Origin",
            "Vary: Access-Control-Request-Headers",
        ] {
            assert!(answer.contains(&format!("\r\n{line}\r\n")), "{answer}");
        }
        let long = "x".repeat(1100);
        for wrong in ["a b", "a;b", "\u{e9}", "a:b", "a\rb", "(a)", &long, &"name,".repeat(300)] {
            assert_eq!(asked(&[wrong]), Err("preflight".into()), "{wrong}");
        }
    }

    #[test]
    fn only_the_hosts_own_and_listed_origins_pass() {
        let list = vec!["https://app.example".to_string()];
        for good in ["http://h:8080", "https://h:8080", "HTTP://h:8080".to_lowercase().as_str()] {
            assert!(allowed(good, "h:8080", &[]), "{good}");
        }
        assert!(allowed("https://h", "h:443", &[]) && allowed("http://H:80", "h", &[]));
        assert!(allowed("https://app.example", "h", &list));
        for bad in ["http://h", "http://h:8081", "null", "", "h:8080", "http://", "http://h:8080.evil", "ftp://h:8080"]
        {
            assert!(!allowed(bad, "h:8080", &list), "{bad}");
        }
        assert!(allowed("null", "h", &["*".into()]));
    }

    #[test]
    fn only_subdomains_match_a_pattern() {
        let list = ["https://*.example.org".to_owned(), "http://*.localhost:3000".to_owned()];
        for good in
            ["https://a.example.org", "https://a.b.example.org", "https://A-1_b.Example.Org", "http://x.localhost:3000"]
        {
            assert!(allowed(good, "h", &list), "{good}");
        }
        for bad in [
            "https://example.org",
            "https://.example.org",
            "https://evil-example.org",
            "https://evilexample.org",
            "https://a.example.org.evil",
            "https://a.example.org:8443",
            "http://a.example.org",
            "https://evil.org/.example.org",
            "https://evil.org?.example.org",
            "https://evil.org#.example.org",
            "https://evil.org:1@a.example.org",
            "https://evil.org\\.example.org",
            "https://*.example.org",
            "http://x.localhost",
            "http://localhost:3000",
            "null",
            "",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}.example.org",
        ] {
            assert!(!allowed(bad, "h", &list), "{bad}");
        }
    }
}
