//! The control API of a hub, over a Unix socket, TCP or TLS.

use super::text::clean;
use super::tls::Secure;
use super::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use push::number;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long the hub may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to do something. It waits for its log as long as its option engine_timeout says, a minute at most,
/// and then says whether it was done.
const PATIENCE_TO_ACT: Duration = Duration::from_secs(75);
/// The largest answer.
const MAX_ANSWER: usize = 256 << 20;

/// The place of a control API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(String),
    Tls(String),
}

impl Address {
    /// Reads `unix:PATH`, a path, `HOST:PORT`, also with `http://` before it, and `https://HOST:PORT` or
    /// `tls:HOST:PORT`. The error says what is wrong.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").or(Some(text).filter(|text| text.starts_with('/'))) {
            return match path {
                "" => Err("unix: is followed by a path".to_owned()),
                path => Ok(Address::Unix(path.into())),
            };
        }
        let secure = text.strip_prefix("https://").or_else(|| text.strip_prefix("tls:"));
        if secure.is_some() && !cfg!(feature = "tls") {
            return Err("this pushctl was built without TLS; use the hub's Unix socket, or a tunnel to it".to_owned());
        }
        let place = secure.or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let place = place.strip_suffix('/').unwrap_or(place);
        let port = place.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
        match port.and_then(|(_, port)| number::read::<u16>(port)) {
            Some(_) if secure.is_some() => Ok(Address::Tls(place.to_owned())),
            Some(_) => Ok(Address::Tcp(place.to_owned())),
            None => Err("unix:PATH, a path that begins with /, HOST:PORT or https://HOST:PORT is expected".to_owned()),
        }
    }

    /// The host of an address that has one, without the brackets of IPv6.
    pub(super) fn host(&self) -> Option<&str> {
        let (Address::Tcp(place) | Address::Tls(place)) = self else { return None };
        let host = place.rsplit_once(':').map_or(&**place, |(host, _)| host);
        Some(host.trim_start_matches('[').trim_end_matches(']'))
    }

    /// True if what is sent there leaves the machine in clear.
    pub(super) fn is_open(&self) -> bool {
        let is_local = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        matches!(self, Address::Tcp(_)) && !self.host().is_some_and(is_local)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(place) => f.write_str(place),
            Address::Tls(place) => write!(f, "https://{place}"),
        }
    }
}

/// A hub, and the key for it.
pub(super) struct Hub {
    pub(super) address: Address,
    pub(super) key: Option<String>,
    /// For an address with TLS.
    pub(super) tls: Option<Secure>,
}

/// A request.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    /// Names and values of parameters.
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    pub(super) binary: bool,
}

impl Asked {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Asked { path: path.into(), ..Asked::default() }
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Asked { method: Method::POST, path: path.into(), ..Asked::default() }
    }

    /// The same with one more parameter.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    fn target(&self) -> String {
        let pairs = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        format!("{}{}{pairs}", self.path, if pairs.is_empty() { "" } else { "?" })
    }
}

impl Hub {
    /// Asks, and reads the whole answer.
    pub(super) async fn ask(&self, asked: Asked) -> Result<String, Failure> {
        let acts = asked.method != Method::GET;
        self.in_time(acts, async {
            let body = Limited::new(self.begin(asked).await?.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| self.broken(error))?.to_bytes();
            String::from_utf8(body.into()).map_err(|_| self.broken("it is not UTF-8"))
        })
        .await
    }

    /// The same, as JSON.
    pub(super) async fn json(&self, asked: Asked) -> Result<serde_json::Value, Failure> {
        let text = self.ask(asked).await?;
        serde_json::from_str(&text).map_err(|error| self.broken(error))
    }

    /// Asks for an answer that has no end.
    pub(super) async fn stream(&self, asked: Asked) -> Result<Incoming, Failure> {
        self.in_time(false, async { Ok(self.begin(asked).await?.into_body()) }).await
    }

    /// The error for an answer that can't be read.
    pub(super) fn broken(&self, why: impl fmt::Display) -> Failure {
        Failure::Hub(format!("the answer of {} can't be read: {why}", self.address))
    }

    async fn in_time<T>(&self, acts: bool, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let (time, doubt) =
            if acts { (PATIENCE_TO_ACT, "; it may have been done, or may still be done") } else { (PATIENCE, "") };
        let late = |_| Failure::Hub(format!("{} has not answered in {} s{doubt}", self.address, time.as_secs()));
        tokio::time::timeout(time, work).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Connects, and sends the request. An answer that is an error becomes one.
    async fn begin(&self, asked: Asked) -> Result<Response<Incoming>, Failure> {
        let away = |error: std::io::Error| {
            // The other side of TLS has a say in this text: its certificate's names are in it.
            Failure::Hub(format!("{} can't be reached: {}", self.address, clean(&error.to_string())))
        };
        let answer = match &self.address {
            Address::Unix(path) => self.over(UnixStream::connect(path).await.map_err(away)?, asked).await?,
            Address::Tcp(place) | Address::Tls(place) => {
                let stream = TcpStream::connect(place).await.map_err(away)?;
                match (&self.address, &self.tls) {
                    (_, Some(tls)) => self.over(tls.begin(stream).await.map_err(away)?, asked).await?,
                    // The key must not go out unencrypted.
                    (Address::Tls(_), None) => return Err(self.broken("no TLS was prepared for it")),
                    (_, None) => self.over(stream, asked).await?,
                }
            }
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), 1 << 20).collect().await.map_err(|error| self.broken(error))?;
        let body: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let message = body["error"]["message"].as_str().unwrap_or("no reason is given");
        let hint = match (status, &self.key) {
            (401, None) => " (no key is given: use -k FILE, PUSHCTL_KEY_FILE or PUSHCTL_KEY)",
            (401, Some(_)) => " (the key that is given is not that of this hub)",
            _ => "",
        };
        Err(Failure::Hub(format!("the hub answers {status}: {}{hint}", clean(message))))
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        asked: Asked,
    ) -> Result<Response<Incoming>, Failure> {
        let broken =
            |error: hyper::Error| Failure::Hub(format!("{} does not answer: {}", self.address, clean(&causes(&error))));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(&asked.method).uri(asked.target()).header(header::HOST, "pushd");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if asked.binary {
            request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        }
        let wrong = |error| Failure::Usage(format!("this can't be asked: {error}"));
        let request = request.body(Full::new(asked.body)).map_err(wrong)?;
        sender.send_request(request).await.map_err(broken)
    }
}

/// An error with what has caused it.
fn causes(error: &dyn Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paths_or_tcp() {
        for (text, read) in [
            ("unix:/run/a", Ok("unix:/run/a")),
            ("/run/a", Ok("unix:/run/a")),
            ("127.0.0.1:9", Ok("127.0.0.1:9")),
            ("[::1]:9", Ok("[::1]:9")),
            ("http://host:9/", Ok("host:9")),
            ("localhost:9", Ok("localhost:9")),
            ("127.0.0.1.example.org:9", Ok("127.0.0.1.example.org:9")),
            #[cfg(feature = "tls")]
            ("https://host:9/", Ok("https://host:9")),
            #[cfg(feature = "tls")]
            ("tls:[::1]:9", Ok("https://[::1]:9")),
            #[cfg(not(feature = "tls"))]
            ("https://host:9", Err("built without TLS")),
            ("https://host", Err("")),
            ("unix:", Err("a path")),
            ("", Err("is expected")),
            ("host", Err("is expected")),
            (":9", Err("is expected")),
            ("host:99999", Err("is expected")),
            ("host:+9", Err("is expected")),
            ("host:09", Err("is expected")),
            ("host/x:9", Err("is expected")),
        ] {
            match (Address::read(text), read) {
                (Ok(address), Ok(shown)) => {
                    assert_eq!(address.to_string(), shown);
                    assert_eq!(address.is_open(), shown.starts_with("host") || shown.starts_with("127.0.0.1."));
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn parameters_are_encoded() {
        let asked = Asked::get("/v1/users").with("channel", "a&b=\u{e4} #").with("after", "");
        assert_eq!(asked.target(), "/v1/users?channel=a%26b%3D%C3%A4+%23&after=");
        assert_eq!(Asked::post("/v1/x").target(), "/v1/x");
    }
}
