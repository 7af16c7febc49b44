//! Which web origins may subscribe: the host's own, and those that the option `allowed_origins` names.
//!
//! Browsers send cookies with WebSocket and SSE requests of any page; without this rule any page could read a user's
//! messages (cross-site WebSocket hijacking). Clients that are no browsers send no Origin and are not concerned.

/// Whether a page of `origin` may subscribe at a host that was addressed as `host`.
pub fn allowed(origin: &str, host: &str, list: &[String]) -> bool {
    same_host(origin, host) || list.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
}

/// Whether an origin is the host itself, whichever of http and https the page came by: a proxy in front may have ended
/// TLS.
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

/// The header lines that let a page of another origin read the response; none for the host's own.
pub fn cors(origin: Option<&str>, host: &str) -> String {
    match origin {
        Some(origin) if !same_host(origin, host) => format!(
            "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
             Access-Control-Expose-Headers: Push-Position, Retry-After\r\nVary: Origin\r\n"
        ),
        _ => String::new(),
    }
}

/// The answer to a preflight request (WHATWG Fetch, section 3.2).
pub fn preflight(cors: &str, keep_alive: bool) -> String {
    let connection = if keep_alive { "" } else { "Connection: close\r\n" };
    format!(
        "HTTP/1.1 204 No Content\r\n{cors}{connection}Access-Control-Allow-Methods: GET\r\n\
         Access-Control-Allow-Headers: Authorization, Cache-Control, Last-Event-ID\r\n\
         Access-Control-Max-Age: 86400\r\nAllow: GET, OPTIONS\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
