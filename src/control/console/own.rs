//! Whether a request is of the console's own pages.

use crate::config::hosts;
use crate::control::pages::text;
use crate::control::routes::{Caller, Desk};
use crate::http::origin;
use crate::http::refusal::Refusal;
use crate::number;
use hyper::header::{self, HeaderMap, HeaderName};

/// The header line that the console's own pages send. A page of another origin can't send it: the browser would ask
/// first, and the answer is no.
const LINE: &str = "x-push-console";
/// Checks that a page of the console makes the request, and that the value of its header line fits. Returns the value.
/// Where the browser tells the page's origin as well, it must be this one.
pub(super) fn check(headers: &HeaderMap, fits: impl Fn(&str) -> bool) -> Result<&str, Refusal> {
    let value = text(headers, &HeaderName::from_static(LINE)).filter(|value| fits(value));
    let host = text(headers, &header::HOST).unwrap_or_default();
    let is_ours = text(headers, &header::ORIGIN).is_none_or(|origin| origin::allowed(origin, host, &[]));
    let is_site = text(headers, &HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin");
    value.filter(|_| is_ours && is_site).ok_or_else(|| {
        let message = "a request with the console's cookie must come from the console: of its origin, with \
                       X-Push-Console: 1 for a login, and then with what the login has answered";
        Refusal::forbidden("origin", message)
    })
}

/// Checks the name by which a browser addresses the hub, where only this machine reaches it. The page of any site could
/// point its own name there (DNS rebinding), and would then be of the hub's origin. No browser leaves the name out.
pub(super) fn check_host(desk: &Desk, from: Caller<'_>, headers: &HeaderMap) -> Result<(), Refusal> {
    let host = text(headers, &header::HOST).unwrap_or_default();
    let passes = !from.local
        || host.is_empty()
        || hosts::is_loopback(host)
        || hosts::is_listed(host, &desk.api.config().allowed_hosts);
    if passes {
        return Ok(());
    }
    let message = format!("the console may not be addressed as {host:.80}; the option allowed_hosts can allow it");
    Err(Refusal::forbidden("host", message))
}

/// The port of the address at which the browser sees the hub, if the address has one.
pub(super) fn port(headers: &HeaderMap) -> Option<u16> {
    let (_, port) = text(headers, &header::HOST)?.rsplit_once(':')?;
    number::read(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn own(lines: &[(&'static str, &'static str)]) -> bool {
        check(&headers(lines), |value| value == "1").is_ok()
    }

    #[test]
    fn only_a_page_of_the_console_may_use_its_cookie() {
        let (host, line) = (("host", "127.0.0.1:9099"), (LINE, "1"));
        assert!(own(&[host, line]));
        assert!(own(&[host, line, ("origin", "http://127.0.0.1:9099"), ("sec-fetch-site", "same-origin")]));
        // A proxy in front may end TLS.
        assert!(own(&[("host", "h.example"), line, ("origin", "https://h.example")]));
        assert!(!own(&[host]) && !own(&[host, (LINE, "0")]) && !own(&[host, line, line]));
        for origin in ["null", "http://127.0.0.1:9098", "http://evil.example", "http://127.0.0.1", "", "file://"] {
            assert!(!own(&[host, line, ("origin", origin)]), "{origin}");
        }
        assert!(!own(&[host, line, ("origin", "http://127.0.0.1:9099"), ("origin", "http://evil.example")]));
        assert!(!own(&[line, ("origin", "http://")]), "no host");
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!own(&[host, line, ("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn the_port_is_that_of_the_address_in_the_browser() {
        let port_of = |host| port(&headers(&[("host", host)]));
        assert_eq!((port_of("127.0.0.1:9099"), port_of("[::1]:80")), (Some(9099), Some(80)));
        for none in ["h.example", "[::1]", "h:", "h:x", "h:99999", "h:1; Domain=x", ""] {
            assert_eq!(port_of(none), None, "{none}");
        }
        assert_eq!(port(&HeaderMap::new()), None);
    }
}
