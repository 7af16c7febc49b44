//! Refusals: an HTTP status with a JSON body that says what was wrong and what is allowed.

use super::request;
use crate::config::Config;
use crate::metrics::Reason;
use crate::transport::{json, sse};
use std::borrow::Cow;
use std::fmt::Write;

/// A request that is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: Cow<'static, str>,
    /// Header lines that the status asks for, each ended by CR LF; or nothing.
    headers: &'static str,
    /// The answer to HEAD, which has no body.
    bodiless: bool,
    /// Whether the client should come back by itself, after the advised delay; see `retry_after`.
    pub retry: bool,
    /// What it counts as where the status and the code do not tell.
    reason: Option<Reason>,
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { status, code, message: message.into(), headers: "", bodiless: false, retry: false, reason: None }
    }

    /// 400: what was sent makes no sense.
    pub fn malformed(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(400, code, message)
    }

    /// 401: a credential is missing or wrong.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { headers: "WWW-Authenticate: Bearer\r\n", ..Refusal::new(401, "unauthorized", message) }
    }

    /// 403: understood, and not allowed.
    pub fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(403, code, message)
    }

    /// 404: there is nothing under this path.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(404, "not_found", message)
    }

    /// 405 on the subscribers' URL.
    pub fn method() -> Self {
        let message = "only GET subscribes here";
        Refusal { headers: "Allow: GET, OPTIONS\r\n", ..Refusal::new(405, "method_not_allowed", message) }
    }

    /// The same, for HEAD.
    pub fn without_body(self) -> Self {
        Refusal { bodiless: true, ..self }
    }

    /// 405 elsewhere, with the header line that says what is allowed.
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

    /// 415: a body that is packed (RFC 9110, section 15.5.16).
    pub fn content_coding(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { headers: "Accept-Encoding: identity\r\n", ..Refusal::new(415, "content_encoding", message) }
    }

    /// 413: a head or body that is too large.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(413, "too_large", message)
    }

    /// 414: the URL alone is too long.
    pub fn uri_too_long(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(414, "uri_too_long", message)
    }

    /// 426: a WebSocket version that nobody speaks.
    pub fn websocket_version() -> Self {
        let message = "only WebSocket version 13 is spoken here";
        // RFC 9110, section 15.5.22: what to upgrade to.
        let headers = "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n";
        Refusal { headers, ..Refusal::new(426, "websocket_version", message) }
    }

    /// 429: the host says that the caller should slow down.
    pub fn too_many(message: impl Into<Cow<'static, str>>) -> Self {
        Refusal::limit("too_many", message)
    }

    /// 429: an option bounds this, and `code` is its name.
    pub fn limit(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { retry: true, ..Refusal::new(429, code, message) }
    }

    /// 503: full, or going away.
    pub fn unavailable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { retry: true, ..Refusal::new(503, code, message) }
    }

    /// 503: as many connections as there may be.
    pub fn full() -> Self {
        Refusal::unavailable("full", "max_connections is reached")
    }

    /// 503: the server drains.
    pub fn draining() -> Self {
        Refusal::unavailable("draining", "the server is going away")
    }

    /// The same, counted for this reason.
    pub(crate) fn counted_as(self, reason: Reason) -> Self {
        Refusal { reason: Some(reason), ..self }
    }

    /// What it counts as.
    pub fn reason(&self) -> Reason {
        self.reason.unwrap_or_else(|| self.usual_reason())
    }

    fn usual_reason(&self) -> Reason {
        match (self.status, self.code) {
            (_, "denied" | "too_many") => Reason::Denied,
            (400, "proxy_header") => Reason::ProxyHeader,
            (400, "channels") => Reason::MaxChannels,
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
            (503, _) => Reason::Busy,
            _ => Reason::Malformed,
        }
    }

    /// The JSON body.
    pub fn body(&self) -> Vec<u8> {
        let mut body = br#"{"error":{"code":""#.to_vec();
        body.extend_from_slice(self.code.as_bytes());
        body.extend_from_slice(br#"","message":"#);
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

    /// The whole response; the connection ends with it. `cors` are header lines for a cross-origin caller.
    pub fn response(&self, cors: &str) -> Vec<u8> {
        let mut body = self.body();
        let mut head = String::with_capacity(256);
        let headers: String = self.headers().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // A sender of Upgrade names it in Connection, too (RFC 9110, section 7.8).
        let connection = if self.status == 426 { "Upgrade, close" } else { "close" };
        // Writing into a String does not fail.
        let _ = write!(
            head,
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\n\
             Cache-Control: no-store, no-transform\r\n{headers}{cors}\
             Content-Length: {}\r\nConnection: {connection}\r\n\r\n",
            self.status,
            phrase(self.status),
            body.len()
        );
        if self.bodiless {
            body.clear();
        }
        [head.into_bytes(), body].concat()
    }

    /// Whether the same request may be answered better another time, without anybody doing anything about it. An
    /// EventSource should then come back.
    pub fn may_pass(&self) -> bool {
        self.retry || self.status == 408
    }

    /// The response to a request that is not heard out, of which `bytes` are known, in the form that its client
    /// understands.
    pub fn response_to(&self, bytes: &[u8], config: &Config) -> Vec<u8> {
        let (sse, cors) = request::read_partly(bytes, config);
        if !sse || !self.may_pass() {
            return self.response(&cors);
        }
        self.sse_response(&cors, config.retry_ms + getrandom::u64().unwrap_or(0) % (config.retry_ms + 1))
    }

    /// The response to an EventSource that should come back: those never do after an error status, so it is told within
    /// a stream that ends at once.
    pub fn sse_response(&self, cors: &str, retry_ms: u64) -> Vec<u8> {
        let code = if self.status == 429 { 4429 } else { 1001 };
        let close = sse::close(code, &self.message, None);
        let retry = format!("retry: {retry_ms}\n");
        let length = retry.len() + close.inner_bytes().len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Cache-Control: no-store, no-transform\r\n{cors}\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{retry}"
        );
        [head.as_bytes(), close.inner_bytes()].concat()
    }
}

/// After how many seconds to come back: five to ten, by chance, so that a crowd that was refused at once does not come
/// back at once.
fn retry_after() -> u32 {
    5 + getrandom::u32().unwrap_or(0) % 6
}

/// The phrase that goes with a status (RFC 9110, section 15).
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
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn who_is_refused_comes_back_at_different_times() {
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
    fn upgrade_required_says_to_what() {
        let told = Refusal::websocket_version().response("").into_iter().map(char::from).collect::<String>();
        for line in ["HTTP/1.1 426 ", "Upgrade: websocket\r\n", "Connection: Upgrade, close\r\n"] {
            assert!(told.contains(line), "{told}");
        }
        assert!(told.contains("Sec-WebSocket-Version: 13\r\n"), "{told}");
    }
}
