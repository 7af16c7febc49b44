//! A subscriber's request head (RFC 9112; RFC 6455, section 4.2.1), parsed in place.
//!
//! Strict on purpose: what two parsers could read differently (bare LF, two lengths, a body) is refused, so that no
//! proxy in front of us can be led astray about where a request ends.

use super::fields::Fields;
use super::origin;
use super::query::Query;
use super::refusal::Refusal;
use crate::config::Config;
use crate::hub::{Position, Start, ELSEWHERE};
use crate::transport::Transport;
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// How many header lines a request may have.
const MAX_HEADERS: usize = 100;
/// A body in chunks that is empty, without extensions or trailers (RFC 9112, section 7.1). Proxies that do not know
/// whether there is a body send one with GET.
const EMPTY_CHUNKED: &[u8] = b"0\r\n\r\n";
/// The subprotocol that is spoken on WebSockets beside raw.
pub const SUBPROTOCOL: &str = "push.v1.json";

/// A good request.
#[derive(Debug)]
pub struct Subscribe<'b> {
    /// By which transport.
    pub transport: Transport,
    /// Whether messages come in the JSON form.
    pub json: bool,
    /// The WebSocket key.
    pub key: Option<&'b [u8]>,
    /// The subprotocol that is answered to a WebSocket: what is spoken, or a name under which raw frames come.
    pub subprotocol: Option<&'b str>,
    /// What is answered to the WebSocket extensions that it offers: messages are compressed. `None`: they are not.
    pub extension: Option<&'static str>,
    /// The channels, each once, checked. None at all only on a WebSocket with the subprotocol.
    pub channels: Vec<Cow<'b, str>>,
    /// The position to begin after.
    pub since: Option<Cow<'b, str>>,
    /// How many of the newest messages to begin with.
    pub last: Option<usize>,
    /// Whether a poll is answered at once, also if there is nothing.
    pub at_once: bool,
    /// The token by which it may, if it has one.
    pub token: Option<Cow<'b, str>>,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// Whether the client reads chunks: it speaks HTTP/1.1.
    pub chunks: bool,
}

impl Subscribe<'_> {
    /// Where the subscriber begins.
    pub fn start(&self) -> Start<'_> {
        match (&self.since, self.last) {
            // Checked to be a position when the head was read.
            (Some(since), _) => Position::parse(since).map_or(Start::New, Start::Since),
            (None, Some(count)) => Start::Last(count),
            (None, None) => Start::New,
        }
    }
}

/// What a head asks for.
#[derive(Debug)]
pub enum Wish<'b> {
    /// To subscribe.
    Subscribe(Subscribe<'b>),
    /// To know whether another origin may: CORS preflight.
    Preflight {
        /// The names of header lines that it asks for, as a list.
        asked: String,
    },
    /// To know whether the server is well: the option `health_path`.
    Health {
        /// By HEAD, whose answer has no body.
        head: bool,
    },
    /// Something else, under another path than the subscribers'.
    Elsewhere {
        /// By HEAD, whose answer has no body.
        head: bool,
    },
}

/// A head that is all there.
#[derive(Debug)]
pub struct Head<'b> {
    /// How many bytes it takes, with an empty body in chunks.
    pub size: usize,
    /// How many of them are that body's.
    pub body: usize,
    /// The path of its URL.
    pub path: &'b str,
    /// The host that it addresses; empty where that did not matter.
    pub host: &'b str,
    /// Header lines for a response to a cross-origin caller.
    pub cors: String,
    /// Lines in which proxies say for whom they speak, where any proxy is trusted.
    pub forwarded: Vec<&'b str>,
    /// Whether an EventSource reads the response.
    pub sse: bool,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// What it asks for.
    pub wish: Result<Wish<'b>, Refusal>,
}

impl<'b> Head<'b> {
    /// One that no other request follows, and whose response has no header lines for other origins.
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

/// Reads a head. `Ok(None)`: it is not all there yet. `Err`: it is not HTTP, or too large; the connection can't go on.
///
/// `any_path`: the host routed the request here, whatever its path.
pub fn read<'b>(bytes: &'b [u8], config: &Config, any_path: bool) -> Result<Option<Head<'b>>, Refusal> {
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
    let target = origin_form(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !any_path && path != config.path {
        let head = method == "HEAD";
        // HAProxy asks with OPTIONS unless it is told otherwise.
        let is_health = path == config.health_path && matches!(method, "GET" | "HEAD" | "OPTIONS");
        let wish = if is_health { Wish::Health { head } } else { Wish::Elsewhere { head } };
        return Ok(Some(Head::last(size, path, Ok(wish))));
    }
    match method {
        "GET" | "OPTIONS" => {}
        "HEAD" => return Err(Refusal::method().without_body()),
        _ => return Err(Refusal::method()),
    }
    let mut fields = Fields::read(head.headers, version_1_1, config)?;
    let body = match fields.chunked {
        false => 0,
        true if bytes[size..].starts_with(EMPTY_CHUNKED) => EMPTY_CHUNKED.len(),
        // Not all of it is there yet: the next request begins behind it.
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
        "GET" => subscribe(query, &fields, version_1_1, config),
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
) -> (Result<Wish<'b>, Refusal>, bool) {
    let asked = match Query::read(query, config) {
        Ok(asked) => asked,
        Err(refusal) => return (Err(refusal), false),
    };
    let transport = asked.transport.unwrap_or_else(|| by_headers(fields));
    let sse = transport == Transport::Sse;
    (finish(asked, transport, fields, version_1_1).map(Wish::Subscribe), sse)
}

fn finish<'b>(
    asked: Query<'b>,
    transport: Transport,
    fields: &Fields<'b>,
    version_1_1: bool,
) -> Result<Subscribe<'b>, Refusal> {
    let websocket = transport == Transport::WebSocket;
    let key = if websocket { Some(websocket_key(fields, version_1_1)?) } else { None };
    let subprotocol = if websocket { fields.subprotocols.choose()? } else { None };
    let json = match transport {
        Transport::WebSocket => subprotocol == Some(SUBPROTOCOL),
        Transport::Sse => asked.json.unwrap_or(false),
        Transport::Stream | Transport::Poll => true,
    };
    if asked.channels.is_empty() && !(websocket && json) {
        return Err(Refusal::malformed("channel", "no channel; ask for one with ?channel=NAME"));
    }
    let header = fields.last_event_id.filter(|id| !id.is_empty()).map(Cow::Borrowed);
    let since = begins_after(asked.since, newer(header, asked.last_event_id))?;
    Ok(Subscribe {
        transport,
        json,
        key,
        subprotocol,
        extension: fields.extension.filter(|_| websocket),
        channels: asked.channels,
        since,
        last: asked.last,
        at_once: asked.at_once,
        token: asked.token.or_else(|| fields.token(websocket).map(Cow::Borrowed)),
        keep_alive: fields.keep_alive(version_1_1),
        chunks: version_1_1,
    })
}

/// After which position it begins: what the client has seen comes before where the page wanted to begin, since an
/// EventSource says it by itself when it comes back, and its URL stays as it was.
///
/// It also says it to a server that has taken the place of another one, whose ids were of another kind. An error would
/// end it for good, and nobody but the browser could mend it. So that is a position of another life.
fn begins_after<'b>(since: Option<Cow<'b, str>>, seen: Option<Cow<'b, str>>) -> Result<Option<Cow<'b, str>>, Refusal> {
    match (seen, since) {
        (Some(seen), _) if Position::parse(&seen).is_some() => Ok(Some(seen)),
        (Some(_), _) => Ok(Some(ELSEWHERE.into())),
        (None, Some(since)) if Position::parse(&since).is_none() => {
            Err(Refusal::malformed("position", "since must be a position that was sent before"))
        }
        (None, since) => Ok(since),
    }
}

/// Which of two that a client says it has seen: a URL keeps what it was made with, and so may a header that a program
/// sets.
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
    if fields.is_handshake() {
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
fn websocket_key<'b>(fields: &Fields<'b>, version_1_1: bool) -> Result<&'b [u8], Refusal> {
    let bad = |message| Refusal::malformed("upgrade", message);
    let needed = [
        ("HTTP/1.1", version_1_1),
        ("Upgrade: websocket", fields.to_websocket),
        ("Connection: Upgrade", fields.upgrades),
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
    match fields.version {
        Some(b"13") => {}
        Some(_) => return Err(Refusal::websocket_version()),
        None => return Err(bad("Sec-WebSocket-Version is missing")),
    }
    let key = fields.key.ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    // Room for what the base64 of 16 bytes may decode to, as the decoder counts before it looks at the padding.
    match STANDARD.decode_slice(key, &mut [0; 18]) {
        Ok(16) => Ok(key),
        _ => Err(bad("Sec-WebSocket-Key must be 16 bytes in base64")),
    }
}

/// What can be told of a head that is not whole, or not read by anybody yet: whether an EventSource reads the response,
/// and the header lines for a cross-origin caller.
pub fn read_partly(bytes: &[u8], config: &Config) -> (bool, String) {
    let lines = memchr::memrchr(b'\n', bytes).map_or(&[][..], |end| &bytes[..=end]);
    // Ended here, unless it has ended before.
    let ended = [lines, b"\r\n"].concat();
    match read(&ended, config, true) {
        Ok(Some(head)) => (head.sse, head.cors),
        Ok(None) | Err(_) => (false, String::new()),
    }
}

/// A target without scheme and host, which a client may send as if to a proxy (RFC 9112, section 3.2.2).
fn origin_form(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let Some((_, rest)) = target.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")) else {
        return target;
    };
    rest.find('/').map_or("/", |path| &rest[path..])
}

fn unreadable(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::too_large(format!("more than {MAX_HEADERS} header lines")),
        _ if check_line_ends(bytes).is_err() => bare_line_feed(),
        error => Refusal::malformed("http", format!("not an HTTP/1.1 request: {}", in_words(error))),
    }
}

fn in_words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header line has no name, or one with a character that no name has",
        httparse::Error::HeaderValue => "a header line's value has a character that no value has",
        httparse::Error::Version => "its version is neither HTTP/1.0 nor HTTP/1.1",
        httparse::Error::NewLine => "a line does not end where it must",
        _ => "its first line is not METHOD, PATH and version",
    }
}

/// Lines end in CR LF; a lone LF is what request smuggling is made of (RFC 9112, section 2.2).
fn check_line_ends(bytes: &[u8]) -> Result<(), Refusal> {
    // Empty lines before the request line are skipped by parsers; still they must be whole.
    let bare = |index: usize| index == 0 || bytes[index - 1] != b'\r';
    match memchr::memchr_iter(b'\n', bytes).any(bare) {
        true => Err(bare_line_feed()),
        false => Ok(()),
    }
}

fn bare_line_feed() -> Refusal {
    Refusal::malformed("line_end", "lines must end in CR LF")
}

fn too_large(bytes: &[u8], config: &Config) -> Refusal {
    let max = config.max_head;
    let first_line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    if first_line >= max {
        Refusal::uri_too_long(format!("the request line is longer than {max} bytes (option max_head)"))
    } else {
        Refusal::too_large(format!("the request head is larger than {max} bytes (option max_head)"))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rfc9112_tests.rs"]
mod rfc9112;
