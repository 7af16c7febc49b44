//! What the control API answers to what.

use crate::api::{Api, MAX_BATCH};
use crate::error::{Error, Kind};
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::hub::{check_channel, ChannelInfo, Placed, Publication};
use crate::log::Level;
use crate::metrics::Reason;
use crate::users::{User, Users};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;

type Answer = Response<Full<Bytes>>;

/// The largest batch, in bytes of its JSON.
const MAX_BATCH_BYTES: usize = 64 << 20;
/// Channels or users in one listing, unless asked for fewer.
const MAX_LISTED: usize = 1000;

/// One message of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    base64: bool,
}

/// The messages of a batch. One too many is refused as it is read: a body of nothing but small ones would become many
/// times its size.
struct Batch<'a>(Vec<Item<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Batch<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Items).map(Batch)
    }
}

/// The channels and data of a batch as it is read, for the fuzzers.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_batch(body: &[u8]) -> Option<Vec<(String, String)>> {
    let Batch(items) = serde_json::from_slice(body).ok()?;
    Some(items.into_iter().map(|item| (item.channel.into_owned(), item.data.into_owned())).collect())
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<Item<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == MAX_BATCH {
                return Err(de::Error::custom(format_args!("a batch has at most {MAX_BATCH} messages")));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// Answers one request; whatever is wrong is an answer too.
pub(super) async fn answer(api: &Api, tcp: bool, request: Request<Incoming>) -> Answer {
    route(api, tcp, request).await.unwrap_or_else(|refusal| refused(api, &refusal))
}

async fn route(api: &Api, tcp: bool, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or(""));
    if path == "/healthz" {
        return Ok(text("text/plain", "ok\n"));
    }
    check_key(api, tcp, &parts.headers)?;
    let channel = path.strip_prefix("/v1/channels/");
    match (&parts.method, path) {
        (&Method::POST, "/v1/publish") => match parameter(query, "channel")? {
            Some(channel) => publish(api, Some(&channel), &parts.headers, body).await,
            None => publish_batch(api, body).await,
        },
        // Whoever names a channel means it alone, and everybody would get it.
        (&Method::POST, "/v1/broadcast") if parameter(query, "channel")?.is_some() => {
            Err(Refusal::malformed("channel", "channel: a broadcast has none; POST /v1/publish has"))
        }
        (&Method::POST, "/v1/broadcast") => publish(api, None, &parts.headers, body).await,
        (&Method::POST, "/v1/disconnect") => disconnect(api, query),
        (&Method::POST, "/v1/revoke") => revoke(api, query),
        (&Method::GET, "/v1/channels") => list(api, query),
        (&Method::GET, "/v1/users") => users(api, query).await,
        (&Method::GET, _) if channel.is_some() => {
            let info = api.channel(&channel_name(channel)?);
            let info = info.ok_or_else(|| Refusal::not_found("no such channel"))?;
            Ok(json(format!("{}\n", describe(api, &info))))
        }
        (&Method::DELETE, _) if channel.is_some() => {
            if !api.clear(&channel_name(channel)?) {
                return Err(Refusal::not_found("no such channel"));
            }
            let mut answer = text("text/plain", "");
            *answer.status_mut() = StatusCode::NO_CONTENT;
            Ok(answer)
        }
        (&Method::GET, "/v1/stats") => Ok(json(api.collect_stats().json())),
        (&Method::GET, "/metrics") => Ok(text("text/plain; version=0.0.4", api.exposition().to_string())),
        (_, "/v1/publish" | "/v1/broadcast" | "/v1/disconnect" | "/v1/revoke") => {
            Err(Refusal::method_elsewhere("only POST is allowed here"))
        }
        (_, "/v1/channels" | "/v1/users" | "/v1/stats" | "/metrics") => {
            Err(Refusal::method_elsewhere("only GET is allowed here"))
        }
        _ if channel.is_some() => Err(Refusal::method_elsewhere("only GET and DELETE are allowed here")),
        _ => Err(Refusal::not_found(
            "the control API has /v1/publish, /v1/broadcast, /v1/channels, /v1/users, /v1/stats, \
                                     /v1/disconnect, /v1/revoke, /metrics and /healthz",
        )),
    }
}

/// A key is asked for where one is set; on TCP one always is (see `Builder::build`).
fn check_key(api: &Api, tcp: bool, headers: &HeaderMap) -> Result<(), Refusal> {
    let config = api.config();
    let key = config.control_key.as_bytes();
    if key.is_empty() && !tcp {
        return Ok(());
    }
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
    // In constant time: how long a comparison takes would tell how much of the key was right.
    if key.is_empty() || !bool::from(given.ct_eq(key)) {
        return Err(Refusal::unauthorized("Authorization: Bearer with the option control_key is needed"));
    }
    Ok(())
}

async fn publish(api: &Api, channel: Option<&str>, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    let max = api.max_message();
    let data = collect(body, max, "the option max_message").await?;
    let publication = Publication {
        event: header_text(headers, "push-event")?,
        key: header_text(headers, "push-key")?,
        binary: is_binary(headers),
        ..Publication::new(channel.unwrap_or(""), &data)
    };
    let published = match channel {
        Some(_) => api.publish(&publication),
        None => api.broadcast(&publication),
    };
    Ok(json(format!("{}\n", place(api, published.map_err(|error| refusal(&error))?))))
}

async fn publish_batch(api: &Api, body: Incoming) -> Result<Answer, Refusal> {
    let body = collect(body, MAX_BATCH_BYTES, "the bound of a batch").await?;
    let Batch(items) = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("not a JSON array of {{channel, data, event, key, base64}}: {error}");
        Refusal::malformed("batch", message)
    })?;
    let payloads = items
        .iter()
        .map(|item| match item.base64 {
            false => Ok(Cow::Borrowed(item.data.as_bytes())),
            true => STANDARD.decode(&*item.data).map(Cow::Owned),
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Refusal::malformed("base64", format!("data: {error}")))?;
    let publications: Vec<_> = items
        .iter()
        .zip(&payloads)
        .map(|(item, data)| Publication {
            event: item.event.as_deref(),
            key: item.key.as_deref(),
            binary: item.base64,
            ..Publication::new(&item.channel, data)
        })
        .collect();
    let published = api.publish_batch(&publications).map_err(|error| refusal(&error))?;
    let places: Vec<_> = published.into_iter().map(|published| place(api, published)).collect();
    Ok(json(format!("[{}]\n", places.join(","))))
}

fn disconnect(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let user = parameter(query, "user")?.ok_or_else(|| Refusal::malformed("user", "?user=NAME is needed"))?;
    api.disconnect_user(&user, 4403, "disconnected").map_err(|error| refusal(&error))?;
    Ok(json("{}\n"))
}

fn revoke(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let needed = |name| parameter(query, name)?.ok_or_else(|| Refusal::malformed(name, format!("?{name}= is needed")));
    let reason = parameter(query, "reason")?.unwrap_or_default();
    api.revoke_channel(&needed("user")?, &needed("channel")?, &reason).map_err(|error| refusal(&error))?;
    Ok(json("{}\n"))
}

fn list(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let prefix = parameter(query, "prefix")?.unwrap_or_default();
    let limit = limit(query)?;
    let mut found = api.channels(&prefix, limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let objects: Vec<_> = found.iter().map(|info| describe(api, info)).collect();
    Ok(json(format!("{{\"channels\":[{}],\"more\":{more}}}\n", objects.join(","))))
}

/// Who is on a channel: each user once, by name, with the number of their connections.
async fn users(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let channel =
        parameter(query, "channel")?.ok_or_else(|| Refusal::malformed("channel", "?channel=NAME is needed"))?;
    let (after, limit) = (parameter(query, "after")?.unwrap_or_default(), limit(query)?);
    let (tell, told) = oneshot::channel();
    check_channel(&channel).map_err(|error| Refusal::malformed("channel", error.to_string()))?;
    if !api.ask_present(&channel, Box::new(move |present| drop(tell.send(present)))) {
        return Err(Refusal::not_found("no such channel"));
    }
    let Users { page, more, count, anonymous, .. } = told.await.unwrap_or_default().count(&after, limit);
    let objects: Vec<_> = page
        .iter()
        .map(|User { name, connections }| {
            format!("{{\"user\":{},\"connections\":{connections}}}", serde_json::Value::from(&**name))
        })
        .collect();
    let objects = objects.join(",");
    Ok(json(format!("{{\"users\":[{objects}],\"count\":{count},\"anonymous\":{anonymous},\"more\":{more}}}\n")))
}

/// How many are listed at once.
fn limit(query: &str) -> Result<usize, Refusal> {
    let Some(text) = parameter(query, "limit")? else { return Ok(MAX_LISTED) };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LISTED).contains(limit));
    limit.ok_or_else(|| Refusal::malformed("limit", format!("limit must be a number from 1 to {MAX_LISTED}")))
}

fn describe(api: &Api, info: &ChannelInfo) -> String {
    let loss = api.loss(&info.name);
    let id = info.newest.map_or_else(|| "null".to_owned(), |seq| format!("\"{}\"", api.position_now(seq)));
    format!(
        "{{\"channel\":{},\"subscribers\":{},\"messages\":{},\"bytes\":{},\"id\":{id},\
         \"slow_closed\":{},\"dropped\":{},\"replaced\":{}}}",
        serde_json::Value::from(&*info.name),
        info.subscribers,
        info.messages,
        info.bytes,
        loss.slow_closed,
        loss.dropped,
        loss.replaced,
    )
}

fn place(api: &Api, published: Placed) -> String {
    format!("{{\"id\":\"{}\",\"subscribers\":{}}}", api.position(&published), published.subscribers)
}

async fn collect(body: Incoming, max: usize, bound: &str) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(super::BODY_TIMEOUT, Limited::new(body, max).collect());
    match collected.await.map_err(|_| Refusal::timeout())? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::too_large(format!("the body is larger than {max} bytes ({bound})")))
        }
        Err(error) => Err(Refusal::malformed("body", format!("the body can't be read: {error}"))),
    }
}

fn channel_name(encoded: Option<&str>) -> Result<String, Refusal> {
    let name = percent_decode_str(encoded.unwrap_or("")).decode_utf8();
    let name = name.map_err(|_| Refusal::malformed("channel", "channel: not UTF-8"))?;
    check_channel(&name).map_err(|error| Refusal::malformed("channel", error.to_string()))?;
    Ok(name.into_owned())
}

fn parameter<'q>(query: &'q str, name: &'static str) -> Result<Option<Cow<'q, str>>, Refusal> {
    match query::pairs(query).find(|(known, _)| known == name) {
        // What is not UTF-8 was replaced by this character: two names that differ would be one.
        Some((_, value)) if value.contains('\u{fffd}') => Err(Refusal::malformed(name, format!("{name}: not UTF-8"))),
        found => Ok(found.map(|(_, value)| value)),
    }
}

/// Whether the body is declared to be bytes: a media type in whatever case, with or without parameters (RFC 9110,
/// section 8.3.1).
fn is_binary(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
}

fn header_text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Refusal> {
    let Some(value) = headers.get(HeaderName::from_static(name)) else { return Ok(None) };
    std::str::from_utf8(value.as_bytes())
        .map(Some)
        .map_err(|_| Refusal::malformed("header", format!("{name}: not UTF-8")))
}

fn refusal(error: &Error) -> Refusal {
    let text = error.to_string();
    match error.kind() {
        Kind::TooLarge => Refusal::too_large(text),
        Kind::Busy => Refusal::unavailable("busy", text),
        _ => Refusal::malformed("invalid", text),
    }
}

fn refused(api: &Api, refusal: &Refusal) -> Answer {
    // Of these 401 is for the key alone. Somebody may be guessing it.
    let (level, reason) =
        if refusal.status == 401 { (Level::Warn, Reason::ControlKey) } else { (Level::Info, Reason::Control) };
    let text = format_args!("control API: refused with {} {}: {}", refusal.status, refusal.code, refusal.message);
    api.note_refusal(level, reason, text);
    let mut answer = json(refusal.body());
    *answer.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    for (name, value) in refusal.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).unwrap_or(header::WARNING), value);
        }
    }
    answer
}

fn json(body: impl Into<Bytes>) -> Answer {
    text("application/json", body)
}

fn text(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
