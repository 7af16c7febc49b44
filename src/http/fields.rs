//! The header fields of a subscriber's request. Only those that matter are kept, and each is checked.

use super::extensions;
use super::refusal::Refusal;
use super::subprotocol::Offer;
use crate::config::Config;

/// The header fields that matter.
#[derive(Default)]
pub(super) struct Fields<'b> {
    pub(super) host: &'b str,
    pub(super) origin: Option<&'b str>,
    pub(super) accepts_sse: bool,
    pub(super) accepts_ndjson: bool,
    pub(super) handshake: Handshake<'b>,
    closes: bool,
    stays: bool,
    /// True if a body in chunks follows. It may turn out to be empty.
    pub(super) chunked: bool,
    pub(super) last_event_id: Option<&'b str>,
    authorization: Option<&'b str>,
    /// The value of the cookie that may have a token.
    cookie: Option<&'b str>,
    pub(super) forwarded: Vec<&'b str>,
}

/// The fields of a WebSocket's opening handshake.
#[derive(Default)]
pub(super) struct Handshake<'b> {
    /// True if `Upgrade` names WebSocket.
    pub(super) to_websocket: bool,
    /// True if `Connection` names Upgrade.
    pub(super) upgrades: bool,
    pub(super) key: Option<&'b [u8]>,
    pub(super) version: Option<&'b [u8]>,
    pub(super) subprotocols: Offer<'b>,
    /// The answer to the extensions that the client offers.
    pub(super) extension: Option<&'static str>,
}

impl Handshake<'_> {
    /// True if the request opens a WebSocket, or would if a proxy had not dropped the hop-by-hop fields (RFC 9110,
    /// section 7.6.1). No other client sends these fields.
    pub(super) fn is_begun(&self) -> bool {
        self.to_websocket || self.key.is_some() || self.version.is_some()
    }
}

impl<'b> Fields<'b> {
    pub(super) fn read(lines: &[httparse::Header<'b>], version_1_1: bool, config: &Config) -> Result<Self, Refusal> {
        let forwarded_header = config.trusted_header();
        let mut fields = Fields::default();
        let (mut lengths, mut hosts, mut codings) = (0, 0, 0);
        for line in lines {
            let value = line.value.trim_ascii();
            // Only the values that matter are checked for UTF-8: browsers send many other fields.
            let text = || std::str::from_utf8(value).unwrap_or("\u{fffd}");
            // A list may be split over several lines (RFC 9110, section 5.3): Accept, Upgrade and Connection.
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
                fields.handshake.to_websocket |= has_token(value, "websocket");
            } else if is("connection") {
                for token in tokens(value) {
                    fields.closes |= token.eq_ignore_ascii_case(b"close");
                    fields.stays |= token.eq_ignore_ascii_case(b"keep-alive");
                    fields.handshake.upgrades |= token.eq_ignore_ascii_case(b"upgrade");
                }
            } else if is("sec-websocket-key") {
                once(&mut fields.handshake.key, value, "Sec-WebSocket-Key")?;
            } else if is("sec-websocket-version") {
                once(&mut fields.handshake.version, value, "Sec-WebSocket-Version")?;
            } else if is("sec-websocket-protocol") {
                fields.handshake.subprotocols.add(value);
            } else if config.compression && is("sec-websocket-extensions") {
                let extension = &mut fields.handshake.extension;
                *extension = extension.or_else(|| extensions::accept(value));
            } else if is("authorization") {
                once(&mut fields.authorization, text(), "Authorization")?;
            } else if is("cookie") {
                // HTTP/2 may send each cookie in its own field, and not every proxy joins them (RFC 9113, section
                // 8.2.3).
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
        // All readers agree where a body ends only if Transfer-Encoding is the only field that tells it, and the
        // version is 1.1 (RFC 9112, sections 6.1 and 6.3).
        if codings > 0 && !(fields.chunked && codings == 1 && lengths == 0 && version_1_1) {
            return Err(Refusal::malformed("body", "Transfer-Encoding: a subscriber's request has no body"));
        }
        if hosts > 1 || (version_1_1 && hosts == 0) {
            return Err(Refusal::malformed("host", "a request has one Host line"));
        }
        // RFC 9112, section 3.2: a value that is not a host and port is refused.
        if !is_host(fields.host) {
            return Err(Refusal::malformed("host", "the Host line is not a host"));
        }
        if fields.origin.is_some_and(|origin| !origin.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Refusal::malformed("origin", "the Origin line is not an origin"));
        }
        Ok(fields)
    }

    /// The client's token. A field that a program sets comes first: `Authorization` or, for a WebSocket, a subprotocol.
    /// The cookie, which browsers send by themselves, comes last.
    pub(super) fn token(&self, websocket: bool) -> Option<&'b str> {
        let in_header = self.authorization.and_then(|text| std::str::from_utf8(bearer(text.as_bytes())?).ok());
        let subprotocol = self.handshake.subprotocols.token().filter(|_| websocket);
        in_header.or(subprotocol).or(self.cookie).map(str::trim)
    }

    /// True if the client keeps the connection open (RFC 9112, section 9.3).
    pub(super) fn keep_alive(&self, version_1_1: bool) -> bool {
        (version_1_1 || self.stays) && !self.closes
    }
}

/// True if a text has only the characters of a host and port (RFC 3986, section 3.2.2).
pub(super) fn is_host(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte))
}

/// The credentials of `Authorization` under the scheme Bearer. The scheme may have any case, and any number of spaces
/// may follow it (RFC 9110, section 11.4).
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, credentials) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| credentials.trim_ascii())
}

/// The value of a cookie, the first one if there are several of this name.
fn cookie<'b>(line: &'b [u8], name: &str) -> Option<&'b str> {
    cookies(line, name).next()
}

/// The values of all cookies of a name. Other cookies in the same line may not be UTF-8.
pub(crate) fn cookies<'b, 'n>(line: &'b [u8], name: &'n str) -> impl Iterator<Item = &'b str> + use<'b, 'n> {
    let named = |part: &'b [u8]| part.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    let values = line.split(|byte| *byte == b';').filter_map(named);
    values.map(|value| std::str::from_utf8(value).unwrap_or("\u{fffd}"))
}

/// Sets a field that may come only once (RFC 9110, section 5.3). If there were two, each proxy on the way might use
/// another one.
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

/// True if a line of `Accept` has a media type, with any parameters.
fn accepts(list: &[u8], kind: &[u8]) -> bool {
    let bare = |part: &[u8]| {
        part.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case(kind)
    };
    tokens(list).any(bare)
}

fn has_token(list: &[u8], token: &str) -> bool {
    tokens(list).any(|known| known.eq_ignore_ascii_case(token.as_bytes()))
}
