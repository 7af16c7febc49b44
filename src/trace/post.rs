//! Posts requests to a collector, over one connection as long as that lasts.

use super::otlp::Response;
use super::Endpoint;
use crate::sys::standard;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap};
use hyper::rt::{Read, Write};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::ServerName;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The longest answer that is read. It has numbers, and an error's text at most.
const MAX_ANSWER: usize = 64 << 10;

/// Posts to one collector.
pub(super) struct Post {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
    line: Option<SendRequest<Full<Bytes>>>,
}

/// What a collector has said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It has taken the request, but for that many spans. The text may be a warning.
    Taken { rejected: u64, why: String },
    /// The request may come again, after this time if it says so.
    Later(String, Option<Duration>),
    /// The request would always be refused.
    Never(String),
}

impl Post {
    pub(super) fn new(endpoint: Endpoint, tls: Option<TlsConnector>) -> Self {
        Post { endpoint, tls, line: None }
    }

    /// Posts a request. The error says why there is no answer. If the caller drops this, the connection is not used
    /// again.
    pub(super) async fn post(&mut self, body: Bytes) -> Result<Said, String> {
        // A collector may have closed an idle connection just now. A new one then gets the request.
        if let Some(mut line) = self.line.take() {
            if line.ready().await.is_ok() {
                if let Ok(said) = self.ask(&mut line, body.clone()).await {
                    self.line = Some(line);
                    return Ok(said);
                }
            }
        }
        let mut line = self.connect().await?;
        let said = self.ask(&mut line, body).await?;
        self.line = Some(line);
        Ok(said)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let connected = TcpStream::connect((host.as_str(), *port)).await;
        let stream = connected.and_then(above).map_err(|error| format!("it can't be reached: {error}"))?;
        // It fails only if the connection is lost already.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return begin(Box::pin(TokioIo::new(stream))).await };
        let name = ServerName::try_from(host.clone()).map_err(|_| format!("{host} can't be the name of a server"))?;
        let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        begin(Box::pin(TokioIo::new(stream))).await
    }

    async fn ask(&self, line: &mut SendRequest<Full<Bytes>>, body: Bytes) -> Result<Said, String> {
        let request = Request::post(&self.endpoint.path)
            .header(header::HOST, self.endpoint.authority())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("libpush/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let answer = line.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
        let (head, body) = answer.into_parts();
        let body = read(body).await?;
        Ok(said(head.status, &head.headers, &body))
    }
}

/// The same connection, under a number that is not one of the standard streams.
fn above(stream: TcpStream) -> io::Result<TcpStream> {
    let fd = standard::above(OwnedFd::from(stream.into_std()?));
    TcpStream::from_std(fd.into())
}

/// A connection, encrypted or not. It is no parameter of a type, or the library would have HTTP twice.
type Stream = Pin<Box<dyn ReadWrite>>;

trait ReadWrite: Read + Write + Send {}

impl<S: Read + Write + Send> ReadWrite for S {}

/// Begins HTTP on a connection.
async fn begin(stream: Stream) -> Result<SendRequest<Full<Bytes>>, String> {
    // A vectored write would raise SIGPIPE.
    let made = http1::Builder::new().writev(false).max_buf_size(MAX_ANSWER).handshake(stream).await;
    let (line, connection) = made.map_err(|error| error.to_string())?;
    // It ends when the line is dropped, or the collector closes the connection.
    tokio::spawn(async move { drop(connection.await) });
    Ok(line)
}

async fn read(body: Incoming) -> Result<Bytes, String> {
    let whole = Limited::new(body, MAX_ANSWER).collect().await;
    whole.map(|whole| whole.to_bytes()).map_err(|error| format!("its answer can't be read: {error}"))
}

/// What an answer means: OTLP, sections "OTLP/HTTP Response" and following.
fn said(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Said {
    if status.is_success() {
        // An answer that is not of OTLP has taken the request all the same.
        let partial = Response::decode(body).ok().and_then(|response| response.partial).unwrap_or_default();
        return Said::Taken { rejected: partial.rejected.try_into().unwrap_or(0), why: partial.error };
    }
    let text = format!("it answers {status}");
    match status.as_u16() {
        429 | 502 | 503 | 504 => Said::Later(text, retry_after(headers)),
        300..=399 => Said::Never(format!("{text}; redirects are not followed")),
        _ => Said::Never(text),
    }
}

/// The time in `Retry-After`, in seconds. A date is not read: the collector's clock may be another.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::super::otlp::Partial;
    use super::*;

    fn answered(status: u16, retry: Option<&str>, body: &[u8]) -> Said {
        let mut headers = HeaderMap::new();
        retry.into_iter().for_each(|retry| _ = headers.insert(header::RETRY_AFTER, retry.parse().unwrap()));
        said(StatusCode::from_u16(status).unwrap(), &headers, body)
    }

    #[test]
    fn an_answer_says_whether_spans_are_taken_or_may_come_again() {
        let taken = |rejected, why: &str| Said::Taken { rejected, why: why.to_owned() };
        assert_eq!(answered(200, None, b""), taken(0, ""));
        assert_eq!(answered(202, None, b"{}"), taken(0, ""), "it is not of OTLP");
        for (rejected, shown) in [(3, 3), (0, 0), (-1, 0)] {
            let partial = Partial { rejected, error: "no room".to_owned() };
            let body = Response { partial: Some(partial) }.encode_to_vec();
            assert_eq!(answered(200, None, &body), taken(shown, "no room"));
        }
        for (retry, after) in [
            (None, None),
            (Some("7"), Some(Duration::from_secs(7))),
            (Some("-7"), None),
            (Some("Wed, 21 Oct 2015 07:28:00 GMT"), None),
        ] {
            for status in [429, 502, 503, 504] {
                let Said::Later(_, found) = answered(status, retry, b"") else { panic!("{status}") };
                assert_eq!(found, after, "{retry:?}");
            }
        }
        for status in [301, 307, 400, 401, 404, 413, 500, 501] {
            assert!(matches!(answered(status, Some("7"), b""), Said::Never(_)), "{status}");
        }
    }
}
