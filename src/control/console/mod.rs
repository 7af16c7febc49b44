//! The console: pages for people, at the addresses of the control API. A client logs in with the key, and gets a cookie.
//! Requests to the control API may carry the cookie in place of the key, if they come from the console's own pages.

mod files;
mod sessions;

use super::body::collect;
use super::parameters::Parameters;
use super::routes::{is_key, json, Answer, Caller, Desk};
use crate::http::refusal::Refusal;
use crate::http::{fields, origin};
use crate::metrics::Reason;
use crate::sys::clock;
use bytes::Bytes;
use files::File;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
pub(super) use sessions::{Session, Sessions};
use std::sync::Arc;

/// The header line that the console's own pages send. A page of another origin can't send it: the browser would ask
/// first, and the answer is no.
const OWN: &str = "x-push-console";
/// The longest key (see the option `control_key`).
const MAX_KEY: usize = 255;

/// What browsers are told with each answer of a hub that has the console. No page may frame an answer, take it for
/// another type, or learn of it where it came from. Scripts may come only from here, and text never becomes markup.
const SAFETY: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Adds the header lines for browsers.
pub(super) fn secure(answer: &mut Answer) {
    for (name, value) in SAFETY {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// Answers a request for the console.
pub(super) async fn answer(
    desk: &Desk,
    from: Caller<'_>,
    (method, path, query): (&Method, &str, &str),
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Answer, Refusal> {
    let no_such = || Refusal::not_found("the console is at /console, and has no such file");
    let below = path.strip_prefix("/console").ok_or_else(no_such)?;
    if !(below.is_empty() || below.starts_with('/')) {
        return Err(no_such());
    }
    let (only, allow) = match below {
        "/login" | "/logout" => (Method::POST, "Allow: POST\r\n"),
        _ => (Method::GET, "Allow: GET\r\n"),
    };
    if *method != only {
        return Err(Refusal::method_elsewhere(allow, "this path of the console has another method"));
    }
    Parameters::none(query)?;
    match below {
        "/login" => login(desk, from, headers, body).await,
        "/logout" => logout(desk, from, headers),
        "/" => Ok(redirect()),
        _ => page(desk, from, headers, below.trim_start_matches('/')),
    }
}

/// The session of a request. An error: it has one, and did not come from a page of the console.
pub(super) fn session(desk: &Desk, from: Caller<'_>, headers: &HeaderMap) -> Result<Option<Arc<Session>>, Refusal> {
    let Some(session) = known(desk, from, headers) else { return Ok(None) };
    check_own(headers)?;
    Ok(Some(session))
}

fn known(desk: &Desk, from: Caller<'_>, headers: &HeaderMap) -> Option<Arc<Session>> {
    let config = desk.api.config();
    let token = token(from, headers).filter(|_| config.console)?;
    desk.sessions.find(token, &config)
}

/// Checks that a page of the console makes the request: no other page can send its header line. Where the browser tells
/// the page's origin as well, it must be this one.
fn check_own(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap_or("\u{fffd}"));
        // Two lines can't be of a browser.
        if values.next().is_some() {
            Some("\u{fffd}")
        } else {
            value
        }
    };
    let has_line = text(&HeaderName::from_static(OWN)) == Some("1");
    let host = text(&header::HOST).unwrap_or_default();
    let is_ours = text(&header::ORIGIN).is_none_or(|origin| origin::allowed(origin, host, &[]));
    let is_site = text(&HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin");
    if has_line && is_ours && is_site {
        return Ok(());
    }
    let message =
        "a request with the console's cookie must come from the console: of its origin, with X-Push-Console: 1";
    Err(Refusal::forbidden("origin", message))
}

/// Begins a session for a client that sends the key as the body.
async fn login(desk: &Desk, from: Caller<'_>, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    check_own(headers)?;
    if desk.guesses.refuses(from.address(), clock::monotonic_ms()) {
        let message = "there were too many wrong keys from this address: try again in some seconds";
        return Err(Refusal::limit("too_many_keys", message).counted_as(Reason::ControlKey));
    }
    let key = collect(&desk.api, body, MAX_KEY, "the longest key").await?;
    let config = desk.api.config();
    if !is_key(&key, &config) {
        return Err(Refusal::unauthorized("console: the key is not the one in the option control_key"));
    }
    let token = desk.sessions.begin(&config).map_err(|error| Refusal::unavailable("system", error.to_string()))?;
    // A proxy that ends TLS in front of the hub leaves the page's scheme in the origin.
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
    Ok(with_cookie(from, &token, config.console_session_ms / 1000, from.tls || origin.starts_with(b"https:")))
}

/// Ends the session of the request, if it has one.
fn logout(desk: &Desk, from: Caller<'_>, headers: &HeaderMap) -> Result<Answer, Refusal> {
    check_own(headers)?;
    token(from, headers).into_iter().for_each(|token| desk.sessions.end(token));
    Ok(with_cookie(from, "", 0, from.tls))
}

/// The name of the cookie. Browsers send the cookies of all ports of a host, so the port is a part of the name: otherwise
/// a login at one hub would end the session at another.
fn cookie_name(from: Caller<'_>) -> String {
    // Browsers take a cookie with this prefix only over TLS, and only from the host itself (RFC 6265bis).
    let prefix = if from.tls { "__Host-" } else { "" };
    format!("{prefix}push_console_{}", from.port)
}

fn token<'h>(from: Caller<'_>, headers: &'h HeaderMap) -> Option<&'h str> {
    let name = cookie_name(from);
    headers.get_all(header::COOKIE).iter().find_map(|line| fields::cookie(line.as_bytes(), &name))
}

fn with_cookie(from: Caller<'_>, token: &str, seconds: u64, secure: bool) -> Answer {
    let secure = if secure { "; Secure" } else { "" };
    let name = cookie_name(from);
    let cookie = format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut answer = json("{}\n");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// Sends a client to the page without a slash at its end, below which relative addresses begin.
fn redirect() -> Answer {
    let mut answer = json("{}\n");
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("../console"));
    answer
}

fn page(desk: &Desk, from: Caller<'_>, headers: &HeaderMap, name: &str) -> Result<Answer, Refusal> {
    let has_session = known(desk, from, headers).is_some();
    let file = match name {
        "" if has_session => &files::PAGE,
        "" => &files::LOGIN,
        name => files::find(name).ok_or_else(|| Refusal::not_found("the console has no such file"))?,
    };
    if !(file.public || has_session) {
        return Err(Refusal::unauthorized("console: log in first"));
    }
    Ok(serve(file, headers))
}

fn serve(file: &File, headers: &HeaderMap) -> Answer {
    let any = |name, wanted: &str| {
        let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|part| part.trim() == wanted)
    };
    let is_known = any(header::IF_NONE_MATCH, file.etag());
    let packs = any(header::ACCEPT_ENCODING, "gzip");
    let body = match (is_known, packs) {
        (true, _) => Bytes::new(),
        (false, true) => file.gzip(),
        (false, false) => file.plain(),
    };
    let mut answer = Response::new(Either::Left(Full::new(body)));
    let fields = answer.headers_mut();
    // The page is another one with a session. A cache has to ask each time.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    fields.insert(header::VARY, HeaderValue::from_static("Accept-Encoding, Cookie"));
    if let Ok(etag) = HeaderValue::from_str(file.etag()) {
        fields.insert(header::ETAG, etag);
    }
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return answer;
    }
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    if packs {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(lines: &[(&'static str, &'static str)]) -> bool {
        let lines = lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        check_own(&headers).is_ok()
    }

    #[test]
    fn only_a_page_of_the_console_may_use_its_cookie() {
        let (host, line) = (("host", "127.0.0.1:9099"), (OWN, "1"));
        assert!(own(&[host, line]));
        assert!(own(&[host, line, ("origin", "http://127.0.0.1:9099"), ("sec-fetch-site", "same-origin")]));
        // A proxy in front may end TLS.
        assert!(own(&[("host", "h.example"), line, ("origin", "https://h.example")]));
        assert!(!own(&[host]) && !own(&[host, (OWN, "0")]) && !own(&[host, line, line]));
        for origin in ["null", "http://127.0.0.1:9098", "http://evil.example", "http://127.0.0.1", "", "file://"] {
            assert!(!own(&[host, line, ("origin", origin)]), "{origin}");
        }
        assert!(!own(&[host, line, ("origin", "http://127.0.0.1:9099"), ("origin", "http://evil.example")]));
        assert!(!own(&[line, ("origin", "http://")]), "no host");
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!own(&[host, line, ("sec-fetch-site", site)]), "{site}");
        }
    }
}
