//! Requests of pages in browsers, at a Unix socket without a key.
//!
//! A process needs the right to open the socket. A page needs it, too; but a tunnel of that process (`ssh -L`) or a proxy
//! lets every page of its user's browser through, and a page may act without being allowed to read the answer.

use crate::config::hosts;
use crate::http::refusal::Refusal;
use hyper::header::{self, HeaderMap, HeaderName};

/// In place of the value of a line that is there twice, or is no text. No browser sends such lines.
const NONSENSE: &str = "\u{fffd}";

/// Checks that no page makes a request for which no key is asked. Browsers tell the page's origin with each request that
/// may act, and newer ones its relation to this site; `none` is an address that the user has typed. The page of any site
/// could point its own name at the tunnel (DNS rebinding), and would then be of the hub's origin: only the name gives it
/// away.
pub(super) fn check(headers: &HeaderMap, allowed_hosts: &[String]) -> Result<(), Refusal> {
    let is_typed = text(headers, &HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "none");
    if headers.contains_key(header::ORIGIN) || !is_typed {
        let message = "a page in a browser may not ask here without a key; the option control_key sets one";
        return Err(Refusal::forbidden("origin", message));
    }
    let host = text(headers, &header::HOST).unwrap_or_default();
    if is_word(host) || hosts::is_loopback(host) || hosts::is_listed(host, allowed_hosts) {
        return Ok(());
    }
    let message = format!(
        "without a key the control API may not be addressed as {host:.80}; the option allowed_hosts can allow it, and \
         control_key sets a key"
    );
    Err(Refusal::forbidden("host", message))
}

/// Whether this is nothing, or one word, as programs write it that need no name for a Unix socket: `pushd`, `unix`. The
/// port of a tunnel, and the dots of a site's name, are in the names that browsers send.
fn is_word(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The value of a line that may come only once.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().unwrap_or(NONSENSE));
    match values.next() {
        None => value,
        Some(_) => Some(NONSENSE),
    }
}
