//! Refusals: an HTTP status with a JSON body that says what was wrong and what is allowed.

use super::request;
use crate::config::Config;
use crate::dialect::push::json;
use crate::error::Kind;
use crate::framing::close::Close;
use crate::framing::date;
use crate::framing::sse;
use crate::metrics::Reason;
use std::borrow::Cow;
use std::fmt::Write;

/// A request that is not served, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// A word for programs.
    pub code: Cow<'static, str>,
    /// A sentence for people.
    pub message: Cow<'static, str>,
    /// Header lines that the status asks for, each ended by CR LF; or nothing.
    headers: &'static str,
    /// The answer to HEAD, which has no body.
    bodiless: bool,
    /// True if the client should try again by itself, after the time in `Retry-After`.
    pub retry: bool,
    /// The reason under which it is counted, where the status and the code do not tell.
    reason: Option<Reason>,
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let (code, message) = (code.into(), message.into());
        Refusal { status, code, message, headers: "", bodiless: false, retry: false, reason: None }
    }

    /// 400: the request is not valid.
    pub fn malformed(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(400, code, message)
    }

    /// 401: a credential is missing or wrong.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(401, "unauthorized", message).with_usual_headers()
    }

    /// 403: the request is understood, and not allowed.
    pub fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(403, code, message)
    }

    /// 404: this path does not exist.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(404, "not_found", message)
    }

    /// 405 for the subscribers' URL.
    pub fn method() -> Self {
        Refusal::new(405, "method_not_allowed", "only GET subscribes here").with_usual_headers()
    }

    /// The same refusal without a body, for HEAD.
    pub fn without_body(self) -> Self {
        Refusal { bodiless: true, ..self }
    }

    /// 405 for another URL, with the `Allow` line that says what is allowed.
    pub(crate) fn method_elsewhere(allow: &'static str, message: &'static str) -> Self {
        Refusal { headers: allow, ..Refusal::new(405, "method_not_allowed", message) }
    }

    /// 408: the request did not come in time.
    pub fn timeout() -> Self {
        Refusal::new(408, "timeout", "the request head did not come in time")
    }

    /// 408 on the control API.
    pub fn timeout_of_body() -> Self {
        Refusal::new(408, "timeout", "the request's body did not come in time")
    }

    /// 415: a body that is compressed (RFC 9110, section 15.5.16).
    pub fn content_coding(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(415, "content_encoding", message).with_usual_headers()
    }

    /// 413: a head or body that is too large.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(413, "too_large", message)
    }

    /// 414: the URL alone is too long.
    pub fn uri_too_long(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(414, "uri_too_long", message)
    }

    /// 426: a WebSocket version that we do not speak.
    pub fn websocket_version() -> Self {
        Refusal::new(426, "websocket_version", "only WebSocket version 13 is spoken here").with_usual_headers()
    }

    /// 429: the host asks the client to slow down.
    pub fn too_many(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::limit("too_many", message)
    }

    /// 429: an option limits this. `code` is the option's name.
    pub fn limit(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { retry: true, ..Refusal::new(429, code, message) }
    }

    /// 503: a limit is reached, or the server is stopping.
    pub fn unavailable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { retry: true, ..Refusal::new(503, code, message) }
    }

    /// 504: it was not known in time whether the request was done.
    pub(crate) fn gateway_timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(504, "timeout", message)
    }

    /// 503: the server has as many connections as it may.
    pub fn full() -> Self {
        Refusal::unavailable("full", "max_connections is reached")
    }

    /// 503: the server is draining.
    pub fn draining() -> Self {
        Refusal::unavailable("draining", "the server is going away")
    }

    /// A call that was made for the client has failed.
    pub(crate) fn failed(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        match kind {
            Kind::Invalid => Refusal::malformed("invalid", message),
            Kind::TooLarge => Refusal::too_large(message),
            Kind::NotFound => Refusal::not_found(message),
            Kind::Busy => Refusal::unavailable("busy", message),
            Kind::Closed => Refusal::unavailable("draining", message),
            Kind::Limit => Refusal::unavailable("full", message),
            Kind::System => Refusal::unavailable("system", message),
            Kind::Timeout => Refusal::gateway_timeout(message),
            Kind::Config | Kind::Descriptor | Kind::Unsupported => Refusal::internal(message),
        }
    }

    /// 500: the client can't change that.
    pub(crate) fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(500, "internal", message)
    }

    /// A refusal by the host, with a status of its choice.
    pub(crate) fn by_host(status: u16, message: Cow<'static, str>) -> Self {
        let retry = matches!(status, 408 | 425 | 429 | 500..);
        Refusal { retry, ..Refusal::new(status, "denied", message) }.with_usual_headers()
    }

    /// The same refusal with another word for programs.
    pub(crate) fn with_code(self, code: &str) -> Self {
        Refusal { code: code.to_owned().into(), ..self }
    }

    /// The same refusal with the header lines that its status asks for.
    fn with_usual_headers(self) -> Self {
        let headers = match self.status {
            401 => "WWW-Authenticate: Bearer\r\n",
            405 => "Allow: GET, OPTIONS\r\n",
            415 => "Accept-Encoding: identity\r\n",
            // RFC 9110, section 15.5.22: names the protocol to upgrade to.
            426 => "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
            _ => "",
        };
        Refusal { headers, ..self }
    }

    /// The same refusal, counted under this reason.
    pub(crate) fn counted_as(self, reason: Reason) -> Self {
        Refusal { reason: Some(reason), ..self }
    }

    /// The reason under which it is counted.
    pub fn reason(&self) -> Reason {
        self.reason.unwrap_or_else(|| self.usual_reason())
    }

    fn usual_reason(&self) -> Reason {
        match (self.status, &*self.code) {
            (_, "denied" | "too_many") => Reason::Denied,
            (400, "proxy_header") => Reason::ProxyHeader,
            (400, "channels") => Reason::MaxChannels,
            (400, "patterns") => Reason::MaxPatterns,
            (401, _) => Reason::Unauthorized,
            (403, "channel") => Reason::Channel,
            (403, "origin") => Reason::Origin,
            (403, "host") => Reason::Host,
            (403, _) => Reason::Expired,
            (404, _) => Reason::NotFound,
            (405, _) => Reason::Method,
            (408, _) => Reason::Timeout,
            (413 | 414, _) => Reason::TooLarge,
            (426, _) => Reason::WebSocketVersion,
            (429, "max_per_address") => Reason::MaxPerAddress,
            (429, "max_per_user") => Reason::MaxPerUser,
            (429, _) => Reason::ConnectRate,
            (503, "full") => Reason::MaxConnections,
            (503, "draining") => Reason::Draining,
            (503, "resources") => Reason::Resources,
            (503, "inbox_total") => Reason::InboxTotal,
            (503, "patterns_total") => Reason::PatternsTotal,
            (503, _) => Reason::Busy,
            _ => Reason::Malformed,
        }
    }

    /// The JSON body.
    pub fn body(&self) -> Vec<u8> {
        let mut body = br#"{"error":{"code":"#.to_vec();
        json::string(&self.code, &mut body);
        body.extend_from_slice(br#","message":"#);
        json::string(&self.message, &mut body);
        body.extend_from_slice(b"}}\n");
        body
    }

    /// The header lines that the status asks for, as names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'static, str>)> {
        let retry = self.retry.then(|| ("Retry-After", retry_after().to_string().into()));
        let fixed = self.headers.lines().filter_map(|line| line.split_once(": "));
        retry.into_iter().chain(fixed.map(|(name, value)| (name, value.into())))
    }

    /// The whole response. The connection ends after it. `cors` holds header lines for a caller of another origin.
    pub fn response(&self, cors: &str) -> Vec<u8> {
        let mut body = self.body();
        let mut head = String::with_capacity(300);
        let headers: String = self.headers().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // A sender of Upgrade must name it in Connection, too (RFC 9110, section 7.8).
        let connection = if self.status == 426 { "Upgrade, close" } else { "close" };
        // Writing into a String never fails.
        let _ = write!(
            head,
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: application/json\r\n\
             Cache-Control: no-store, no-transform\r\n{headers}{cors}\
             Content-Length: {}\r\nConnection: {connection}\r\n\r\n",
            self.status,
            phrase(self.status),
            date::now(),
            body.len()
        );
        if self.bodiless {
            body.clear();
        }
        [head.into_bytes(), body].concat()
    }

    /// True if the same request may succeed later although nobody changes anything. An EventSource should then come
    /// back.
    pub fn may_pass(&self) -> bool {
        self.retry || self.status == 408 || self.status >= 500
    }

    /// The response to a request that is refused before all of it was read. `bytes` is the part that was read. The
    /// response has the form that the client understands.
    pub fn response_to(&self, bytes: &[u8], config: &Config) -> Vec<u8> {
        self.response_read_by(bytes, config, config.retry_ms)
    }

    /// The same, where an EventSource should come back after `retry_ms`, or after up to twice that.
    pub(crate) fn response_read_by(&self, bytes: &[u8], config: &Config, retry_ms: u64) -> Vec<u8> {
        let (sse, cors) = request::read_partly(bytes, config);
        if !sse || !self.may_pass() {
            return self.response(&cors);
        }
        self.sse_response(&cors, retry_ms + getrandom::u64().unwrap_or(0) % (retry_ms + 1))
    }

    /// The response to an EventSource that should come back. An EventSource never reconnects after an error status, so
    /// the refusal is an event in a stream that ends at once.
    pub fn sse_response(&self, cors: &str, retry_ms: u64) -> Vec<u8> {
        let code = if self.status == 429 { 4429 } else { 1001 };
        let close = sse::close(&json::close(&Close::new(code, self.message.clone())), None);
        let retry = format!("retry: {retry_ms}\n");
        let length = retry.len() + close.inner_bytes().len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: text/event-stream\r\n\
             Cache-Control: no-store, no-transform\r\n{cors}\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{retry}",
            date::now()
        );
        [head.as_bytes(), close.inner_bytes()].concat()
    }
}

/// The advised delay in seconds. It is five to ten by chance, so that clients that were refused together do not come
/// back together.
fn retry_after() -> u32 {
    5 + getrandom::u32().unwrap_or(0) % 6
}

/// The reason phrase of a status (RFC 9110, section 15).
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn refused_clients_get_different_delays() {
        let full = Refusal::full();
        let advised = || full.headers().next().unwrap().1.parse::<u32>().unwrap();
        let times: BTreeSet<u32> = (0..1000).map(|_| advised()).collect();
        assert_eq!(times, (5..=10).collect());
        let told = full.response("").into_iter().map(char::from).collect::<String>();
        assert!(told.contains("\r\nRetry-After: "), "{told}");
        assert!(Refusal::method().headers().eq([("Allow", "GET, OPTIONS".into())]));
        assert_eq!(Refusal::timeout().headers().count(), 0);
    }

    #[test]
    fn upgrade_required_names_the_protocol() {
        let told = Refusal::websocket_version().response("").into_iter().map(char::from).collect::<String>();
        for line in ["HTTP/1.1 426 ", "Upgrade: websocket\r\n", "Connection: Upgrade, close\r\n"] {
            assert!(told.contains(line), "{told}");
        }
        assert!(told.contains("Sec-WebSocket-Version: 13\r\n"), "{told}");
    }
}
