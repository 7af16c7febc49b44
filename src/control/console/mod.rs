//! The console: pages for people, at the addresses of the control API. A client logs in with the key, and gets a cookie.
//! Requests to the control API may carry the cookie in place of the key, if they come from the console's own pages.

mod files;
mod own;
mod sessions;

use super::body::collect;
use super::parameters::Parameters;
use super::routes::{is_key, json, Answer, Caller, Desk};
use crate::http::fields;
use crate::http::refusal::Refusal;
use crate::log::Level;
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

/// The longest key (see the option `control_key`).
const MAX_KEY: usize = 255;

/// The most cookies of one name that are looked at.
const MAX_COOKIES: usize = 64;

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
    own::check_host(desk, from, headers)?;
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
    let known = known(desk, from, headers);
    if known.is_empty() {
        return Ok(None);
    }
    own::check_host(desk, from, headers)?;
    let value = own::check(headers, |value| known.iter().any(|(_, session)| session.is_of(value)))?;
    Ok(known.into_iter().map(|(_, session)| session).find(|session| session.is_of(value)))
}

/// The sessions of a request's cookies, with their tokens. Browsers send the cookies of all ports of a host, those with
/// longer paths first. So a server at another port could put a cookie of the same name before ours, even one of an
/// earlier session that it has seen.
fn known<'h>(desk: &Desk, from: Caller<'_>, headers: &'h HeaderMap) -> Vec<(&'h str, Arc<Session>)> {
    let config = desk.api.config();
    if !config.console {
        return Vec::new();
    }
    let name = cookie_name(from, headers);
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let tokens = lines.flat_map(|line| fields::cookies(line, &name)).take(MAX_COOKIES);
    tokens.filter_map(|token| Some((token, desk.sessions.find(token, &config)?))).collect()
}

/// Begins a session for a client that sends the key as the body.
async fn login(desk: &Desk, from: Caller<'_>, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    own::check(headers, |value| value == "1")?;
    check_guesses(desk, from)?;
    let key = collect(&desk.api, body, MAX_KEY, "the longest key").await?;
    // Many may have begun their requests before the first wrong key.
    check_guesses(desk, from)?;
    let config = desk.api.config();
    if !is_key(&key, &config) {
        return Err(Refusal::unauthorized("console: the key is not the one in the option control_key"));
    }
    let tokens = desk.sessions.begin(&config).map_err(|error| Refusal::unavailable("system", error.to_string()))?;
    desk.api.note(from.client, Level::Info, "console", format_args!("console: a login with the key"));
    // A proxy that ends TLS in front of the hub leaves the page's scheme in the origin.
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_secure = from.tls || origin.starts_with(b"https:");
    let body = format!("{{\"page\":\"{}\"}}\n", tokens.page);
    let cookie = set_cookie(from, headers, &tokens.cookie, config.console_session_ms / 1000, is_secure);
    Ok(with_cookie(body, &cookie))
}

fn check_guesses(desk: &Desk, from: Caller<'_>) -> Result<(), Refusal> {
    if desk.guesses.refuses(from.address(), clock::monotonic_ms()) {
        let message = "there were too many wrong keys from this address: try again in some seconds";
        return Err(Refusal::limit("too_many_keys", message).counted_as(Reason::ControlKey));
    }
    Ok(())
}

/// Ends the session of the request, if it has one. A page that has lost the session's value can only get rid of the
/// cookie: without the value, the cookie may be used by somebody at another port.
fn logout(desk: &Desk, from: Caller<'_>, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let known = known(desk, from, headers);
    let is_of_session = |value: &str| known.iter().any(|(_, session)| session.is_of(value));
    let value = own::check(headers, |value| value == "1" || is_of_session(value))?;
    for (token, _) in known.iter().filter(|(_, session)| session.is_of(value)) {
        desk.sessions.end(token);
    }
    Ok(with_cookie("{}\n".into(), &set_cookie(from, headers, "", 0, from.tls)))
}

/// The name of the cookie. Browsers send the cookies of all ports of a host, so the port is a part of the name: otherwise
/// a login at one hub would end the session at another. It is the port that the browser knows: a tunnel or a proxy may
/// have another one than the listener.
fn cookie_name(from: Caller<'_>, headers: &HeaderMap) -> String {
    // Browsers take a cookie with this prefix only over TLS, and only from the host itself (RFC 6265bis).
    let prefix = if from.tls { "__Host-" } else { "" };
    format!("{prefix}push_console_{}", own::port(headers).unwrap_or(from.port))
}

fn set_cookie(from: Caller<'_>, headers: &HeaderMap, token: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    let name = cookie_name(from, headers);
    format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

fn with_cookie(body: String, cookie: &str) -> Answer {
    let mut answer = json(body);
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
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
    let has_session = !known(desk, from, headers).is_empty();
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
