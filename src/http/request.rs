//! A subscriber's request head (RFC 9112; RFC 6455, section 4.2.1), parsed in place.
//!
//! The parser is strict on purpose. Input that two parsers might read differently (bare LF, two lengths, a body) is
//! refused, so a proxy in front of us and this parser always agree where a request ends.

use super::fields::{Fields, Handshake};
use super::origin;
use super::query::Query;
use super::refusal::Refusal;
use super::target::Target;
use super::unreadable::{check_line_ends, too_large, unreadable};
use crate::config::Config;
use crate::framing::Transport;
use crate::grant::Grant;
use crate::hub::{ClientId, Position, Start, ELSEWHERE};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// The largest number of header lines in a request.
pub(super) const MAX_HEADERS: usize = 100;
/// An empty body in chunks, without extensions or trailers (RFC 9112, section 7.1). Proxies that do not know whether
/// there is a body send it with GET.
const EMPTY_CHUNKED: &[u8] = b"0\r\n\r\n";
/// The subprotocol of WebSockets that do not use raw frames.
pub const SUBPROTOCOL: &str = "push.v1.json";
/// The `since` of a client that wants all messages of its channels that are kept.
pub(crate) const START: &str = "start";

/// The facts about a request that are known before it is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'b> {
    /// True if the host has routed the request here, so that its path does not matter.
    pub any_path: bool,
    /// The side that names the channels.
    pub channels: NamedBy<'b>,
}

/// The side that names the channels of a subscriber.
#[derive(Debug, Clone, Copy, Default)]
pub enum NamedBy<'b> {
    /// The request must name a channel.
    #[default]
    Request,
    /// The request may name channels. If it does not, the host's grant must, and the host has not been asked yet.
    RequestOrGrant,
    /// The host's grant names these channels, and the request's own are ignored.
    Grant(&'b Grant),
}

/// A valid request for a subscription.
#[derive(Debug)]
pub struct Subscribe<'b> {
    /// The transport.
    pub transport: Transport,
    /// True if messages have the JSON form.
    pub json: bool,
    /// The WebSocket key.
    pub key: Option<&'b [u8]>,
    /// The subprotocol in the answer to a WebSocket: the one that we speak, or a name under which raw frames are sent.
    pub subprotocol: Option<&'b str>,
    /// The answer to the offered WebSocket extensions. If it is set, messages are compressed.
    pub extension: Option<&'static str>,
    /// The channels, checked and without repetitions. Patterns, which end in `*`, follow them. Only a WebSocket with the
    /// subprotocol may have none; with the option `user_channel` any may, until the channel of its user is among them.
    pub channels: Vec<Cow<'b, str>>,
    /// The subscription begins after this position, or with the first message (`start`).
    pub since: Option<Cow<'b, str>>,
    /// The number of the newest messages to begin with.
    pub last: Option<usize>,
    /// True if a poll is answered at once, even without messages.
    pub at_once: bool,
    /// The token for authorization, if there is one.
    pub token: Option<Cow<'b, str>>,
    /// The id that the client has chosen.
    pub client: Option<ClientId>,
    /// True if an EventSource names something as its id that is none.
    pub ignores_client: bool,
    /// It follows who is on its channels: a version that it knows, or `1`.
    pub follows: Option<Cow<'b, str>>,
    /// True if the connection may carry another request.
    pub keep_alive: bool,
    /// True if the client can read chunks, since it speaks HTTP/1.1.
    pub chunks: bool,
}

impl Subscribe<'_> {
    /// Refuses a subscription without a channel, unless the client can subscribe to one later.
    pub(crate) fn check_channels(&self) -> Result<(), Refusal> {
        if self.channels.is_empty() && !(self.transport == Transport::WebSocket && self.json) {
            return Err(Refusal::malformed("channel", "the request names no channel; name one with ?channel=NAME"));
        }
        Ok(())
    }

    /// The point where the subscription begins.
    pub fn start(&self) -> Start<'_> {
        match (&self.since, self.last) {
            (Some(since), _) if since == START => Start::Beginning,
            // It was checked to be a position when the head was read.
            (Some(since), _) => Position::parse(since).map_or(Start::New, Start::Since),
            (None, Some(count)) => Start::Last(count),
            (None, None) => Start::New,
        }
    }
}

/// The purpose of a request.
#[derive(Debug)]
pub enum Wish<'b> {
    /// The client subscribes.
    Subscribe(Subscribe<'b>),
    /// The browser asks whether a page of another origin may subscribe: a CORS preflight.
    Preflight {
        /// The names of the headers that it asks for, as a list.
        asked: String,
    },
    /// A check whether the server is healthy. Its path is the option `health_path`.
    Health {
        /// True for HEAD, whose answer has no body.
        head: bool,
    },
    /// The request has another path.
    Elsewhere {
        /// True for HEAD, whose answer has no body.
        head: bool,
    },
}

/// A complete request head.
#[derive(Debug)]
pub struct Head<'b> {
    /// Its size in bytes. If its body is empty and in chunks, that is a part of it.
    pub size: usize,
    /// The bytes of an empty body in chunks. 0 if there is none.
    pub body: usize,
    /// The path of its URL.
    pub path: &'b str,
    /// The host that it addresses. Empty where the host does not matter.
    pub host: &'b str,
    /// Header lines for the response to a caller of another origin.
    pub cors: String,
    /// The lines in which proxies name the client, if any proxy is trusted.
    pub forwarded: Vec<&'b str>,
    /// True if an EventSource reads the response.
    pub sse: bool,
    /// True if the connection may carry another request.
    pub keep_alive: bool,
    /// The purpose of the request, or the reason why it is refused.
    pub wish: Result<Wish<'b>, Refusal>,
}

impl<'b> Head<'b> {
    /// A head after which the connection carries no other request. The response has no header lines for other origins.
    fn last(size: usize, path: &'b str, wish: Result<Wish<'b>, Refusal>) -> Self {
        Head {
            size,
            body: 0,
            path,
            host: "",
            cors: String::new(),
            forwarded: Vec::new(),
            sse: false,
            keep_alive: false,
            wish,
        }
    }
}

/// Reads a head. `Ok(None)` if it is incomplete. `Err` if it is not HTTP or too large; the connection must end then.
pub fn read<'b>(bytes: &'b [u8], config: &Config, known: &Known<'b>) -> Result<Option<Head<'b>>, Refusal> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(bytes, &mut lines).map_err(|error| unreadable(error, bytes))?;
    let size = match parsed {
        httparse::Status::Complete(size) => size,
        httparse::Status::Partial => {
            check_line_ends(bytes)?;
            return if bytes.len() > config.max_head { Err(too_large(bytes, config)) } else { Ok(None) };
        }
    };
    if size > config.max_head {
        return Err(too_large(bytes, config));
    }
    check_line_ends(&bytes[..size])?;
    let (method, target) = (head.method.unwrap_or(""), head.path.unwrap_or(""));
    let version_1_1 = head.version == Some(1);
    let target = Target::read(target);
    let Target { path, query, .. } = target;
    if !known.any_path && path != config.path {
        let head = method == "HEAD";
        // HAProxy checks with OPTIONS by default.
        let is_health = path == config.health_path && matches!(method, "GET" | "HEAD" | "OPTIONS");
        let wish = if is_health { Wish::Health { head } } else { Wish::Elsewhere { head } };
        return Ok(Some(Head::last(size, path, Ok(wish))));
    }
    match method {
        "GET" | "OPTIONS" => {}
        "HEAD" => return Err(Refusal::method().without_body()),
        _ => return Err(Refusal::method()),
    }
    target.check_host()?;
    let mut fields = Fields::read(head.headers, version_1_1, config)?;
    fields.host = target.host.unwrap_or(fields.host);
    let body = match fields.chunked {
        false => 0,
        true if bytes[size..].starts_with(EMPTY_CHUNKED) => EMPTY_CHUNKED.len(),
        // The body is incomplete. The next request begins after it.
        true if EMPTY_CHUNKED.starts_with(&bytes[size..]) => return Ok(None),
        true => return Err(Refusal::malformed("body", "a subscriber's request has no body, or an empty one")),
    };
    let size = size + body;
    let forwarded = std::mem::take(&mut fields.forwarded);
    let cors = match fields.origin {
        Some(origin) if !origin::allowed(origin, fields.host, &config.allowed_origins) => {
            let message = format!(
                "pages of {origin:.80} may not subscribe at {:.80}; the option allowed_origins can allow it",
                fields.host
            );
            let wish = Err(Refusal::forbidden("origin", message));
            return Ok(Some(Head { forwarded, ..Head::last(size, path, wish) }));
        }
        origin => origin::cors(origin, fields.host),
    };
    let (wish, sse) = match method {
        "GET" => subscribe(query, &fields, version_1_1, config, known.channels),
        "OPTIONS" if fields.origin.is_some() => {
            let lines = head.headers.iter();
            let asked = lines.filter(|line| line.name.eq_ignore_ascii_case("access-control-request-headers"));
            (origin::asked_headers(asked.map(|line| line.value)).map(|asked| Wish::Preflight { asked }), false)
        }
        _ => (Err(Refusal::method()), false),
    };
    Ok(Some(Head {
        size,
        body,
        path,
        host: fields.host,
        cors,
        forwarded,
        sse,
        keep_alive: fields.keep_alive(version_1_1),
        wish,
    }))
}

fn subscribe<'b>(
    query: &'b str,
    fields: &Fields<'b>,
    version_1_1: bool,
    config: &Config,
    named_by: NamedBy<'b>,
) -> (Result<Wish<'b>, Refusal>, bool) {
    let asked = match Query::read(query, config, named_by) {
        Ok(asked) => asked,
        Err(refusal) => return (Err(refusal), false),
    };
    let transport = asked.transport.unwrap_or_else(|| by_headers(fields));
    let sse = transport == Transport::Sse;
    let mut finished = finish(asked, transport, fields, version_1_1);
    // A client that is not let in has no user yet.
    if !matches!(named_by, NamedBy::RequestOrGrant) && !config.user_channel {
        finished = finished.and_then(|subscribe| subscribe.check_channels().map(|()| subscribe));
    }
    (finished.map(Wish::Subscribe), sse)
}

fn finish<'b>(
    mut asked: Query<'b>,
    transport: Transport,
    fields: &Fields<'b>,
    version_1_1: bool,
) -> Result<Subscribe<'b>, Refusal> {
    asked.channels.append(&mut asked.patterns);
    let websocket = transport == Transport::WebSocket;
    let key = if websocket { Some(websocket_key(&fields.handshake, version_1_1)?) } else { None };
    let subprotocol = if websocket { fields.handshake.subprotocols.choose()? } else { None };
    let json = match transport {
        Transport::WebSocket => subprotocol == Some(SUBPROTOCOL),
        Transport::Sse => asked.json.unwrap_or(false),
        Transport::Stream | Transport::Poll => true,
    };
    let header = fields.last_event_id.filter(|id| !id.is_empty()).map(Cow::Borrowed);
    let (client, ignores_client) = asked.client(transport)?;
    let follows = asked.follows(transport, json)?;
    let since = begins_after(asked.since, newer(header, asked.last_event_id))?;
    Ok(Subscribe {
        transport,
        json,
        key,
        subprotocol,
        extension: fields.handshake.extension.filter(|_| websocket),
        channels: asked.channels,
        since,
        last: asked.last,
        at_once: asked.at_once,
        token: asked.token.or_else(|| fields.token(websocket).map(Cow::Borrowed)),
        client,
        ignores_client,
        follows,
        keep_alive: fields.keep_alive(version_1_1),
        chunks: version_1_1,
    })
}

/// The position to begin after. `Last-Event-ID` has precedence over `since`: when an EventSource reconnects, it sends a
/// new Last-Event-ID, and its URL stays the same.
///
/// The id may be that of another server, which had this URL before. An error would end the EventSource for good, and
/// nothing in the page could prevent that. So an unknown id counts as a position of another epoch.
fn begins_after<'b>(since: Option<Cow<'b, str>>, seen: Option<Cow<'b, str>>) -> Result<Option<Cow<'b, str>>, Refusal> {
    match (seen, since) {
        (Some(seen), _) if Position::parse(&seen).is_some() => Ok(Some(seen)),
        (Some(_), _) => Ok(Some(ELSEWHERE.into())),
        (None, Some(since)) if since != START && Position::parse(&since).is_none() => {
            Err(Refusal::malformed("position", "since must be a position that was sent before, or: start"))
        }
        (None, since) => Ok(since),
    }
}

/// The newer of the two positions that a client says it has seen. A URL keeps the position with which it was made, and
/// so may a header that a program sets.
fn newer<'b>(header: Option<Cow<'b, str>>, query: Option<Cow<'b, str>>) -> Option<Cow<'b, str>> {
    let (Some(by_header), Some(by_query)) = (&header, &query) else { return header.or(query) };
    let query_is_newer = match (Position::parse(by_header), Position::parse(by_query)) {
        (Some(header), Some(query)) => header.epoch == query.epoch && header.seq < query.seq,
        (header, query) => header.is_none() && query.is_some(),
    };
    if query_is_newer {
        query
    } else {
        header
    }
}

fn by_headers(fields: &Fields<'_>) -> Transport {
    if fields.handshake.is_begun() {
        Transport::WebSocket
    } else if fields.accepts_sse {
        Transport::Sse
    } else if fields.accepts_ndjson {
        Transport::Stream
    } else {
        Transport::Poll
    }
}

/// Checks an opening handshake (RFC 6455, section 4.2.1).
fn websocket_key<'b>(handshake: &Handshake<'b>, version_1_1: bool) -> Result<&'b [u8], Refusal> {
    let bad = |message| Refusal::malformed("upgrade", message);
    let needed = [
        ("HTTP/1.1", version_1_1),
        ("Upgrade: websocket", handshake.to_websocket),
        ("Connection: Upgrade", handshake.upgrades),
    ];
    let missing: Vec<&str> = needed.iter().filter(|(_, there)| !there).map(|(what, _)| *what).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let message = format!(
            "a WebSocket can't begin without: {missing}. If the client sent it, a proxy on the way has dropped it; it \
             must speak HTTP/1.1 and pass on Upgrade and Connection"
        );
        return Err(Refusal::malformed("upgrade", message));
    }
    match handshake.version {
        Some(b"13") => {}
        Some(_) => return Err(Refusal::websocket_version()),
        None => return Err(bad("Sec-WebSocket-Version is missing")),
    }
    let key = handshake.key.ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    // The decoder needs room for 18 bytes, since it counts before it looks at the padding.
    match STANDARD.decode_slice(key, &mut [0; 18]) {
        Ok(16) => Ok(key),
        _ => Err(bad("Sec-WebSocket-Key must be 16 bytes in base64")),
    }
}

/// Whether an EventSource reads the response, and the header lines for a caller of another origin. This works for a
/// head that is incomplete or that nobody has read yet.
pub fn read_partly(bytes: &[u8], config: &Config) -> (bool, String) {
    let lines = memchr::memrchr(b'\n', bytes).map_or(&[][..], |end| &bytes[..=end]);
    // Adds an empty line, which ends the head unless it is complete.
    let ended = [lines, b"\r\n"].concat();
    match read(&ended, config, &Known { any_path: true, ..Known::default() }) {
        Ok(Some(head)) => (head.sse, head.cors),
        Ok(None) | Err(_) => (false, String::new()),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rfc9112_tests.rs"]
mod rfc9112;
