//! Posts requests to a collector, over one connection as long as that lasts.

use super::otlp;
use super::Endpoint;
use crate::sys::standard;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::{lookup_host, TcpStream};
use tokio::time::{timeout, timeout_at, Instant};
use tokio_rustls::TlsConnector;

/// The longest answer that is read. It has numbers, and an error's text at most.
const MAX_ANSWER: usize = 64 << 10;
/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// A connection that takes requests.
type Line = SendRequest<Full<Bytes>>;

/// Posts to one collector.
pub(super) struct Post {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
    line: Option<Line>,
}

/// What a collector has said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It has taken the request, but for that many spans. The text may be a warning.
    Taken { rejected: u64, why: String },
    /// The request may come again, after this time if it says so.
    Later(String, Option<Duration>),
    /// The request would always be refused.
    Never(String, StatusCode),
}

impl Post {
    pub(super) fn new(endpoint: Endpoint, tls: Option<TlsConnector>) -> Self {
        Post { endpoint, tls, line: None }
    }

    /// Posts a request. The collector is given that time. The error says why there is no answer. If the caller drops
    /// this, the connection is not used again.
    pub(super) async fn post(&mut self, body: Bytes, given: Duration) -> Result<Said, String> {
        let until = Instant::now() + given;
        let late = |_| format!("it has not answered for {} ms", given.as_millis());
        let (line, answer) = timeout_at(until, self.answer(body, given)).await.map_err(late)??;
        let (head, body) = answer.into_parts();
        // The status says whether the spans are taken. Without the rest they would come again, for ever. So an answer
        // that is too long, is broken or does not end counts as an empty one, and only its connection is given up.
        let whole = timeout_at(until, Limited::new(body, MAX_ANSWER).collect()).await;
        let body = whole.ok().and_then(Result::ok).map(Collected::to_bytes);
        self.line = body.is_some().then_some(line);
        Ok(said(head.status, &head.headers, &body.unwrap_or_default()))
    }

    /// The head of the answer, and the connection that it comes from.
    async fn answer(&mut self, body: Bytes, given: Duration) -> Result<(Line, Response<Incoming>), String> {
        // A collector may have closed an idle connection just now. A new one then gets the request.
        if let Some(mut line) = self.line.take() {
            if line.ready().await.is_ok() {
                if let Ok(answer) = self.ask(&mut line, body.clone()).await {
                    return Ok((line, answer));
                }
            }
        }
        let mut line = self.connect(given).await?;
        let answer = self.ask(&mut line, body).await?;
        Ok((line, answer))
    }

    async fn connect(&self, given: Duration) -> Result<Line, String> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let unreached = |error| format!("it can't be reached: {error}");
        let found = lookup_host((host.as_str(), *port)).await.map_err(unreached)?;
        let stream =
            first_of(&found.take(MAX_ADDRESSES).collect::<Vec<_>>(), given).await.and_then(above).map_err(unreached)?;
        // It fails only if the connection is lost already.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return begin(Box::pin(TokioIo::new(stream))).await };
        let name = ServerName::try_from(host.clone()).map_err(|_| format!("{host} can't be the name of a server"))?;
        let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        begin(Box::pin(TokioIo::new(stream))).await
    }

    async fn ask(&self, line: &mut Line, body: Bytes) -> Result<Response<Incoming>, String> {
        let request = Request::post(&self.endpoint.path)
            .header(header::HOST, self.endpoint.authority())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("libpush/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        line.send_request(request).await.map_err(|error| format!("no answer: {error}"))
    }
}

/// Connects to the first address that answers. Each but the last has its part of the time, since one of them may drop
/// all packets.
async fn first_of(addresses: &[SocketAddr], given: Duration) -> io::Result<TcpStream> {
    let Some((last, others)) = addresses.split_last() else { return Err(io::Error::other("it has no address")) };
    let part = given / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in others {
        if let Ok(Ok(stream)) = timeout(part, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    TcpStream::connect(last).await
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
async fn begin(stream: Stream) -> Result<Line, String> {
    // A vectored write would raise SIGPIPE.
    let made = http1::Builder::new().writev(false).max_buf_size(MAX_ANSWER).handshake(stream).await;
    let (line, connection) = made.map_err(|error| error.to_string())?;
    // It ends when the line is dropped, or the collector closes the connection.
    tokio::spawn(async move { drop(connection.await) });
    Ok(line)
}

/// What an answer means: OTLP, sections "OTLP/HTTP Response" and following.
fn said(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Said {
    if status.is_success() {
        // An answer that is not of OTLP has taken the request all the same.
        let partial = otlp::Response::decode(body).ok().and_then(|response| response.partial).unwrap_or_default();
        return Said::Taken { rejected: partial.rejected.try_into().unwrap_or(0), why: partial.error };
    }
    let text = format!("it answers {status}");
    match status.as_u16() {
        429 | 502 | 503 | 504 => Said::Later(text, retry_after(headers)),
        300..=399 => Said::Never(format!("{text}; redirects are not followed"), status),
        _ => Said::Never(text, status),
    }
}

/// The time in `Retry-After`, in seconds. A date is not read: the collector's clock may be another.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::super::exporter_tests::{full, listener};
    use super::super::otlp::{Partial, Response};
    use super::*;

    fn answered(status: u16, retry: Option<&str>, body: &[u8]) -> Said {
        let mut headers = HeaderMap::new();
        retry.into_iter().for_each(|retry| _ = headers.insert(header::RETRY_AFTER, retry.parse().unwrap()));
        said(StatusCode::from_u16(status).unwrap(), &headers, body)
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn an_address_that_drops_all_packets_has_its_part_of_the_time_only() {
        let ((full, _held), (_listener, port)) = (full(), listener());
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let given = Duration::from_secs(4);
        crate::runtime::single().unwrap().block_on(async {
            let stream = first_of(&[address(full), address(port)], given).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
            assert!(first_of(&[], given).await.is_err());
        });
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
            assert!(matches!(answered(status, Some("7"), b""), Said::Never(..)), "{status}");
        }
    }
}
