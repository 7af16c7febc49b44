//! The routes of the control API.

use super::body::collect;
#[cfg(feature = "console")]
use super::console;
use super::guesses::{Guesses, Tried};
use super::parameters::Parameters;
use super::tail::{self, End, Stream};
use super::{connections, ending, everyone, hosts, messages, options, pages, publishing};
use crate::api::Api;
use crate::config::{Config, Secret};
use crate::context::client::Client;
use crate::engine::shared::Member;
use crate::error::Error;
use crate::http::fields;
use crate::http::refusal::Refusal;
use crate::hub::{check_channel, Mark};
use crate::limits::{AddressKey, Peer};
use crate::log::Level;
use crate::metrics::Reason;
use crate::sys::clock;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::sync::Arc;

pub(super) type Answer = Response<Either<Full<Bytes>, Stream>>;

/// What all connections of the control API share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) api: Arc<Api>,
    pub(super) guesses: Guesses,
    #[cfg(feature = "console")]
    pub(super) sessions: Arc<console::Sessions>,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'c> {
    pub(super) client: Client<'c>,
    pub(super) tcp: bool,
    #[cfg_attr(not(feature = "console"), allow(dead_code))]
    pub(super) tls: bool,
    /// The port of the listener. 0: it has none.
    #[cfg_attr(not(feature = "console"), allow(dead_code))]
    pub(super) port: u16,
    /// It came from this machine: by a listener of the loopback without TLS, or by a Unix socket.
    #[cfg_attr(not(feature = "console"), allow(dead_code))]
    pub(super) local: bool,
}

impl Caller<'_> {
    pub(super) fn address(&self) -> Option<AddressKey> {
        self.client.address.peer().and_then(Peer::address)
    }
}

/// What a client has shown. It counts as long as the option `control_key` stays.
#[derive(Debug)]
pub(super) enum Shown {
    Key(Secret),
    #[cfg(feature = "console")]
    Session(Arc<console::Session>),
}

impl Shown {
    /// The reason why it does not count any more. `None`: it does.
    pub(super) fn over(&self, config: &Config) -> Option<&'static str> {
        match self {
            Shown::Key(key) => (config.control_key != *key).then_some("the option control_key has changed"),
            #[cfg(feature = "console")]
            Shown::Session(session) => session.over(config),
        }
    }
}

impl Desk {
    pub(super) fn new(api: Arc<Api>) -> Self {
        let guesses = Guesses::default();
        #[cfg(feature = "console")]
        let sessions = Arc::<console::Sessions>::default();
        Desk {
            api,
            guesses,
            #[cfg(feature = "console")]
            sessions,
        }
    }

    /// Answers one request. An error becomes an answer, too. An answer without an end ends with `end`.
    pub(super) async fn answer(&self, from: Caller<'_>, request: Request<Incoming>, end: End) -> Answer {
        let tried = self.tried(&request);
        let answered = route(self, from, request, end).await;
        #[cfg_attr(not(feature = "console"), allow(unused_mut))]
        let mut answer = answered.unwrap_or_else(|refusal| refused(&self.api, from.client, &refusal));
        // It is logged by now, even if the client does not wait for the answer.
        if let Some(tried) = tried.filter(|_| answer.status() == StatusCode::UNAUTHORIZED) {
            tokio::time::sleep(self.guesses.wrong(from.address(), tried, clock::monotonic_ms())).await;
        }
        #[cfg(feature = "console")]
        if self.api.config().console {
            console::secure(&mut answer);
        }
        answer
    }

    /// Where a request tries a key, if it does. A proxy may pass on a line of another scheme, which is no key.
    fn tried(&self, request: &Request<Incoming>) -> Option<Tried> {
        let is_at_login = request.uri().path() == "/console/login";
        if cfg!(feature = "console") && is_at_login && self.api.config().console {
            return Some(Tried::Login);
        }
        let mut lines = request.headers().get_all(header::AUTHORIZATION).iter();
        lines.any(|line| fields::bearer(line.as_bytes()).is_some()).then_some(Tried::Api)
    }

    /// Whether a request is of a client that may ask.
    pub(super) fn knows(&self, from: Caller<'_>, request: &Request<Incoming>) -> bool {
        check_key(self, from, request.headers()).is_ok()
    }
}

/// The request with one name for the host that it addresses: that of an absolute target counts in place of the Host line
/// (RFC 9112, section 3.2.2).
pub(super) fn addressed(mut request: Request<Incoming>) -> Request<Incoming> {
    let host = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

async fn route(desk: &Desk, from: Caller<'_>, request: Request<Incoming>, end: End) -> Result<Answer, Refusal> {
    let api = &desk.api;
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or(""));
    if path == "/healthz" {
        Parameters::none(query)?;
        return health(api);
    }
    #[cfg(feature = "console")]
    if path.starts_with("/console") && api.config().console {
        return console::answer(desk, from, (&parts.method, path, query), &parts.headers, body).await;
    }
    let shown = check_key(desk, from, &parts.headers)?;
    #[cfg(test)]
    super::panic_tests::maybe_panic(path);
    check_route(&parts.method, path)?;
    match path {
        "/v1/publish" => return publishing::publish(api, query, &parts.headers, body).await,
        "/v1/broadcast" => return publishing::broadcast(api, query, &parts.headers, body).await,
        _ => no_body(api, body).await?,
    }
    let channel = path.strip_prefix("/v1/channels/");
    let of_messages = messages_of(path);
    match (&parts.method, path) {
        (&Method::POST, "/v1/begin") => publishing::mark(api, query, Mark::Begin).await,
        (&Method::POST, "/v1/end") => publishing::mark(api, query, Mark::End).await,
        (&Method::POST, "/v1/disconnect") => ending::disconnect(api, query).await,
        (&Method::POST, "/v1/close") => ending::close(api, query),
        (&Method::POST, "/v1/revoke") => ending::revoke(api, query).await,
        (&Method::GET, "/v1/tail") => tail::tail(api, query, shown, end),
        (&Method::GET, "/v1/hosts") => hosts::list(api, query).await,
        (&Method::GET, "/v1/config") => options::config(api, query),
        (&Method::GET, "/v1/channels") => everyone::list(api, query).await,
        (&Method::GET, "/v1/users") => everyone::users(api, query).await,
        (&Method::GET, "/v1/connections") => connections::list(api, query).await,
        (&Method::GET, _) if of_messages.is_some() => messages::messages(api, &channel_name(of_messages)?, query).await,
        (&Method::GET, _) if channel.is_some() => {
            Parameters::none(query)?;
            everyone::channel(api, &channel_name(channel)?).await
        }
        (&Method::DELETE, _) if channel.is_some() => {
            Parameters::none(query)?;
            let channel = channel_name(channel)?;
            if !publishing::settled(api, |told| api.submit_clear(&channel, told)).await?.cleared {
                return Err(Refusal::not_found("no such channel"));
            }
            let mut answer = text("text/plain", "");
            *answer.status_mut() = StatusCode::NO_CONTENT;
            Ok(answer)
        }
        (&Method::GET, "/v1/stats") => everyone::stats(api, query).await,
        (&Method::GET, "/v1/hubs") => {
            Parameters::none(query)?;
            hubs(api)
        }
        (&Method::GET, "/metrics") => {
            Parameters::none(query)?;
            Ok(text("text/plain; version=0.0.4", api.exposition().to_string()))
        }
        _ => Err(Refusal::not_found(ROUTES)),
    }
}

const ROUTES: &str = "the control API has /v1/publish, /v1/broadcast, /v1/begin, /v1/end, /v1/channels, /v1/users, \
                      /v1/connections, /v1/tail, /v1/hosts, /v1/hubs, /v1/config, /v1/stats, /v1/close, \
                      /v1/disconnect, /v1/revoke, /metrics and /healthz";

/// Checks that the path exists, and that it has this method.
fn check_route(method: &Method, path: &str) -> Result<(), Refusal> {
    let (methods, allow, message): (&[Method], _, _) = match path {
        "/v1/publish" | "/v1/broadcast" | "/v1/begin" | "/v1/end" | "/v1/close" | "/v1/disconnect" | "/v1/revoke" => {
            (&[Method::POST], "Allow: POST\r\n", "only POST is allowed here")
        }
        "/v1/channels" | "/v1/users" | "/v1/connections" | "/v1/tail" | "/v1/hosts" | "/v1/hubs" | "/v1/config"
        | "/v1/stats" | "/metrics" => (&[Method::GET], "Allow: GET\r\n", "only GET is allowed here"),
        _ if messages_of(path).is_some() => (&[Method::GET], "Allow: GET\r\n", "only GET is allowed here"),
        _ if path.starts_with("/v1/channels/") => {
            (&[Method::GET, Method::DELETE], "Allow: GET, DELETE\r\n", "only GET and DELETE are allowed here")
        }
        _ => return Err(Refusal::not_found(ROUTES)),
    };
    if methods.contains(method) {
        return Ok(());
    }
    Err(Refusal::method_elsewhere(allow, message))
}

/// The channel in the path of its messages. A `/` that belongs to its name is written `%2F`.
fn messages_of(path: &str) -> Option<&str> {
    path.strip_prefix("/v1/channels/")?.strip_suffix("/messages")
}

/// Checks the key, where one is set, or the cookie of the console. On TCP there always is a key (see `Builder::build`).
fn check_key(desk: &Desk, from: Caller<'_>, headers: &HeaderMap) -> Result<Shown, Refusal> {
    let config = desk.api.config();
    if config.control_key.is_empty() && !from.tcp {
        pages::check(headers, &config.allowed_hosts)?;
        return Ok(Shown::Key(config.control_key.clone()));
    }
    let mut given = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let first = given.next();
    if given.next().is_some() {
        return Err(Refusal::malformed("twice", "a request has one Authorization line"));
    }
    let bearer = first.and_then(fields::bearer);
    if bearer.is_some_and(|given| is_key(given, &config)) {
        return Ok(Shown::Key(config.control_key.clone()));
    }
    // A proxy may pass on the line with which its own users log in. So a session counts beside any line.
    #[cfg(feature = "console")]
    match console::session(desk, from, headers) {
        Ok(Some(session)) => return Ok(Shown::Session(session)),
        Err(refusal) if bearer.is_none() => return Err(refusal),
        _ => {}
    }
    Err(Refusal::unauthorized("Authorization: Bearer with the option control_key is needed"))
}

/// Whether this is the key. The comparison takes constant time. Otherwise its duration would tell how much was right.
pub(super) fn is_key(given: &[u8], config: &Config) -> bool {
    let key = config.control_key.as_bytes();
    !key.is_empty() && verify_slices_are_equal(given, key).is_ok()
}

/// Refuses a body for a request that is all in its URL. Otherwise the body would be ignored without a word.
async fn no_body(api: &Api, body: Incoming) -> Result<(), Refusal> {
    if body.is_end_stream() {
        return Ok(());
    }
    // A chunked body may turn out to be empty.
    collect(api, body, 0, "this request takes no body").await.map(drop)
}

fn health(api: &Api) -> Result<Answer, Refusal> {
    if api.is_draining() {
        return Err(Refusal::draining());
    }
    if let Some(why) = api.failure() {
        return Err(Refusal::unavailable("engine", why));
    }
    Ok(text("text/plain", "ok\n"))
}

/// The hubs that follow the log, each as its signs of life in the log show it.
fn hubs(api: &Api) -> Result<Answer, Refusal> {
    let members = api.members().ok_or_else(|| Refusal::not_found("this hub shares no log with others"))?;
    let show = |Member { hub, name, here, up, heard }: Member| {
        let (name, heard_ms) = (name.map_or(Value::Null, |name| Value::from(&*name)), heard.as_millis());
        format!("{{\"hub\":\"{hub:016x}\",\"name\":{name},\"here\":{here},\"up\":{up},\"heard_ms\":{heard_ms}}}")
    };
    let objects: Vec<String> = members.into_iter().map(show).collect();
    Ok(json(format!("{{\"hubs\":[{}]}}\n", objects.join(","))))
}

fn channel_name(encoded: Option<&str>) -> Result<String, Refusal> {
    let name = percent_decode_str(encoded.unwrap_or("")).decode_utf8();
    let name = name.map_err(|_| Refusal::malformed("channel", "channel: not UTF-8"))?;
    check_channel(&name).map_err(|error| Refusal::malformed("channel", error.to_string()))?;
    Ok(name.into_owned())
}

pub(super) fn refusal(error: &Error) -> Refusal {
    Refusal::failed(error.kind(), error.to_string())
}

pub(super) fn refused(api: &Api, client: Client<'_>, refusal: &Refusal) -> Answer {
    let (level, reason) = match refusal.reason() {
        // Only a wrong key or none gives these here. Somebody may be guessing it.
        Reason::Unauthorized | Reason::ControlKey => (Level::Warn, Reason::ControlKey),
        Reason::InboxTotal => (Level::Info, Reason::InboxTotal),
        _ => (Level::Info, Reason::Control),
    };
    let text = format_args!("control API: refused with {} {}: {}", refusal.status, refusal.code, refusal.message);
    api.note_refusal(client, level, reason, text);
    let mut answer = json(refusal.body());
    *answer.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    for (name, value) in refusal.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).unwrap_or(header::WARNING), value);
        }
    }
    answer
}

pub(super) fn json(body: impl Into<Bytes>) -> Answer {
    text("application/json", body)
}

fn text(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
