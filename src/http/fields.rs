//! The header lines of a subscriber's request: those that matter, each checked for what it may say.

use super::extensions;
use super::refusal::Refusal;
use super::subprotocol::Offer;
use crate::config::Config;

/// The header lines that matter, each checked for what it may say.
#[derive(Default)]
pub(super) struct Fields<'b> {
    pub(super) host: &'b str,
    pub(super) origin: Option<&'b str>,
    pub(super) accepts_sse: bool,
    pub(super) accepts_ndjson: bool,
    /// What it may upgrade to has WebSocket.
    pub(super) to_websocket: bool,
    pub(super) closes: bool,
    pub(super) stays: bool,
    pub(super) upgrades: bool,
    pub(super) key: Option<&'b [u8]>,
    pub(super) version: Option<&'b [u8]>,
    pub(super) subprotocols: Offer<'b>,
    pub(super) extension: Option<&'static str>,
    /// A body in chunks follows, which may turn out to be empty.
    pub(super) chunked: bool,
    pub(super) last_event_id: Option<&'b str>,
    authorization: Option<&'b str>,
    /// The value of the cookie that a token may come in.
    cookie: Option<&'b str>,
    pub(super) forwarded: Vec<&'b str>,
}

impl<'b> Fields<'b> {
    pub(super) fn read(lines: &[httparse::Header<'b>], version_1_1: bool, config: &Config) -> Result<Self, Refusal> {
        let forwarded_header = config.trusted_header();
        let mut fields = Fields::default();
        let (mut lengths, mut hosts, mut codings) = (0, 0, 0);
        for line in lines {
            let value = line.value.trim_ascii();
            // Only of lines that matter: browsers send many more.
            let text = || std::str::from_utf8(value).unwrap_or("\u{fffd}");
            // There may be several lines of a list (RFC 9110, section 5.3): of Accept, Upgrade, Connection.
            let is = |name: &str| line.name.eq_ignore_ascii_case(name);
            if is("host") {
                fields.host = text();
                hosts += 1;
            } else if is("origin") {
                once(&mut fields.origin, text(), "Origin")?;
            } else if is("accept") {
                fields.accepts_sse |= accepts(value, b"text/event-stream");
                fields.accepts_ndjson |= accepts(value, b"application/x-ndjson");
            } else if is("upgrade") {
                fields.to_websocket |= has_token(value, "websocket");
            } else if is("connection") {
                for token in tokens(value) {
                    fields.closes |= token.eq_ignore_ascii_case(b"close");
                    fields.stays |= token.eq_ignore_ascii_case(b"keep-alive");
                    fields.upgrades |= token.eq_ignore_ascii_case(b"upgrade");
                }
            } else if is("sec-websocket-key") {
                once(&mut fields.key, value, "Sec-WebSocket-Key")?;
            } else if is("sec-websocket-version") {
                once(&mut fields.version, value, "Sec-WebSocket-Version")?;
            } else if is("sec-websocket-protocol") {
                fields.subprotocols.add(value);
            } else if config.compression && is("sec-websocket-extensions") {
                fields.extension = fields.extension.or_else(|| extensions::accept(value));
            } else if is("authorization") {
                once(&mut fields.authorization, text(), "Authorization")?;
            } else if is("cookie") {
                // HTTP/2 has a line for each, and not every proxy joins them (RFC 9113, section 8.2.3).
                fields.cookie = fields.cookie.or_else(|| cookie(value, &config.token_cookie));
            } else if forwarded_header.is_some_and(is) {
                fields.forwarded.push(text());
            } else if is("last-event-id") {
                once(&mut fields.last_event_id, text(), "Last-Event-ID")?;
            } else if is("transfer-encoding") {
                codings += 1;
                fields.chunked = value.eq_ignore_ascii_case(b"chunked");
            } else if is("content-length") {
                lengths += 1;
                if value != b"0" || lengths > 1 {
                    return Err(Refusal::malformed("body", "Content-Length: a subscriber's request has no body"));
                }
            }
        }
        // Two readers agree on the end of a body only where nothing else says it, and in this version (RFC 9112, sections
        // 6.1 and 6.3).
        if codings > 0 && !(fields.chunked && codings == 1 && lengths == 0 && version_1_1) {
            return Err(Refusal::malformed("body", "Transfer-Encoding: a subscriber's request has no body"));
        }
        if hosts > 1 || (version_1_1 && hosts == 0) {
            return Err(Refusal::malformed("host", "a request has one Host line"));
        }
        // RFC 9112, section 3.2: what is no host and port is refused (RFC 3986, section 3.2.2, has the characters).
        if !fields.host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)) {
            return Err(Refusal::malformed("host", "the Host line is not a host"));
        }
        if fields.origin.is_some_and(|origin| !origin.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Refusal::malformed("origin", "the Origin line is not an origin"));
        }
        Ok(fields)
    }

    /// Whether it opens a WebSocket, or would if a proxy had not dropped what is for one connection only (RFC 9110,
    /// section 7.6.1). No other client sends these lines.
    pub(super) fn is_handshake(&self) -> bool {
        self.to_websocket || self.key.is_some() || self.version.is_some()
    }

    /// The token: from what programs set, a header or, of a WebSocket, a subprotocol, else from the cookie, which browsers
    /// send by themselves.
    pub(super) fn token(&self, websocket: bool) -> Option<&'b str> {
        let in_header = self.authorization.and_then(|text| std::str::from_utf8(bearer(text.as_bytes())?).ok());
        let subprotocol = self.subprotocols.token().filter(|_| websocket);
        in_header.or(subprotocol).or(self.cookie).map(str::trim)
    }

    /// Whether the client keeps the connection (RFC 9112, section 9.3).
    pub(super) fn keep_alive(&self, version_1_1: bool) -> bool {
        (version_1_1 || self.stays) && !self.closes
    }
}

/// What `Authorization` says under the scheme Bearer, which may be in any case, before any number of spaces (RFC 9110,
/// section 11.4).
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, credentials) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| credentials.trim_ascii())
}

/// The value of a cookie in a line of them. Those of others may be no UTF-8.
fn cookie<'b>(line: &'b [u8], name: &str) -> Option<&'b str> {
    let named = |part: &'b [u8]| part.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    let value = line.split(|byte| *byte == b';').find_map(named)?;
    Some(std::str::from_utf8(value).unwrap_or("\u{fffd}"))
}

/// Takes a field that may come once only (RFC 9110, section 5.3): of two, each reader along the way might believe
/// another.
fn once<T>(field: &mut Option<T>, value: T, name: &str) -> Result<(), Refusal> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::malformed("twice", format!("a request has one {name} line"))),
    }
}

/// The tokens of a comma-separated header.
fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether a media type stands in a line of `Accept`, with whatever parameters.
fn accepts(list: &[u8], kind: &[u8]) -> bool {
    let bare = |part: &[u8]| {
        part.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case(kind)
    };
    tokens(list).any(bare)
}

fn has_token(list: &[u8], token: &str) -> bool {
    tokens(list).any(|known| known.eq_ignore_ascii_case(token.as_bytes()))
}
