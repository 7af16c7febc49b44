//! Making connections: to a server that the URL names, to the master that sentinels name, or to the node of a cluster
//! that has the log's slot.

use super::super::shared::connection::Failure;
use super::failure::failure;
use super::greeting::{encrypted, greet, IF_PLAIN};
use super::url::{Credentials, Url, Way};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value};
use std::fmt;
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{timeout, timeout_at, Instant};
use tokio_rustls::TlsConnector;

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(String, u16),
    Unix(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => f.write_str(path),
        }
    }
}

/// A connection to one server. Questions are sent in the order in which they are polled first.
#[derive(Debug, Clone)]
pub(super) struct Line {
    connection: MultiplexedConnection,
    pub(super) server: String,
    timeout: Duration,
}

/// The reason why a question failed.
#[derive(Debug)]
pub(super) enum Refused {
    /// The connection can't be used any more, or there was none.
    Failed(Failure),
    /// The server's own error.
    Said(RedisError),
}

/// How connections are made.
#[derive(Clone)]
pub(super) struct Dialer {
    /// With whom to speak TLS. `None`: nothing is encrypted.
    pub(super) tls: Option<TlsConnector>,
    /// How long a connection may take to be made, and a question to be answered.
    pub(super) limit: Duration,
}

impl Dialer {
    /// The same, with a part of the time.
    pub(super) fn part(&self, parts: usize) -> Self {
        Dialer { limit: self.limit / (parts as u32).clamp(1, 4), ..self.clone() }
    }

    /// Connects to a server, as a user.
    pub(super) async fn dial(&self, address: &Address, credentials: &Credentials, db: u32) -> Result<Line, Failure> {
        let (server, limit) = (address.to_string(), self.limit);
        let deadline = Instant::now() + limit;
        let info = info(credentials, db);
        let late = |_| silent(&server, limit);
        let connection = match address {
            Address::Tcp(host, port) => {
                let stream = timeout_at(deadline, TcpStream::connect((host.as_str(), *port))).await.map_err(late)?;
                let stream = stream.map_err(|error| unreachable(&server, &error))?;
                // It fails only if the connection is lost already.
                let _ = stream.set_nodelay(true);
                match &self.tls {
                    None => timeout_at(deadline, begin(&info, stream, &server, false)).await,
                    Some(tls) => {
                        // A Redis without TLS may read the handshake as the beginning of a line, and wait for the rest.
                        // So the handshake gets only a part of the time, and the error can still tell about TLS.
                        let limit = limit * 3 / 4;
                        let late = |_| Failure(format!("{}; {IF_PLAIN}", silent(&server, limit)));
                        let made = timeout(limit, encrypted(tls, stream, host, &server)).await;
                        let stream = made.map_err(late)??;
                        timeout_at(deadline, begin(&info, stream, &server, true)).await
                    }
                }
            }
            Address::Unix(path) => {
                let stream = timeout_at(deadline, UnixStream::connect(path)).await.map_err(late)?;
                let stream = stream.map_err(|error| unreachable(&server, &error))?;
                timeout_at(deadline, begin(&info, stream, &server, false)).await
            }
        };
        let connection = connection.map_err(late)??;
        Ok(Line { connection, server, timeout: limit })
    }
}

impl Line {
    /// The same connection, with another time limit for each question.
    pub(super) fn with_limit(self, limit: Duration) -> Self {
        Line { timeout: limit, ..self }
    }

    /// Asks, and waits for the answer no longer than the engine allows.
    pub(super) fn ask(&self, command: Cmd) -> impl Future<Output = Result<Value, Refused>> + Send + 'static {
        let Line { mut connection, server, timeout: limit } = self.clone();
        async move {
            match timeout(limit, connection.send_packed_command(&command)).await {
                Ok(Ok(Value::ServerError(error))) => Err(Refused::Said(error.into())),
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) if error.code().is_some() => Err(Refused::Said(error)),
                Ok(Err(error)) => Err(Refused::Failed(failure(&server, &error))),
                Err(_) => Err(Refused::Failed(silent(&server, limit))),
            }
        }
    }

    /// The sentence for a question that a server refused.
    pub(super) fn why(&self, refused: Refused) -> Failure {
        match refused {
            Refused::Failed(failure) => failure,
            Refused::Said(error) => failure(&self.server, &error),
        }
    }
}

fn silent(server: &str, limit: Duration) -> Failure {
    Failure(format!("Redis {server} has not answered for {} ms", limit.as_millis()))
}

fn unreachable(server: &str, error: &std::io::Error) -> Failure {
    Failure(format!("Redis {server} can't be reached: {error}"))
}

fn info(credentials: &Credentials, db: u32) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default().set_db(i64::from(db)).set_skip_set_lib_name();
    if let Some(user) = &credentials.user {
        info = info.set_username(user);
    }
    if let Some(password) = &credentials.password {
        info = info.set_password(password.text());
    }
    info
}

async fn begin<S>(
    info: &RedisConnectionInfo,
    mut stream: S,
    server: &str,
    encrypted: bool,
) -> Result<MultiplexedConnection, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    greet(&mut stream, server, encrypted).await?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let made = MultiplexedConnection::new_with_config(info, stream, config).await;
    let (connection, driver) = made.map_err(|error| failure(server, &error))?;
    // It ends when the last handle of the connection is dropped.
    tokio::spawn(driver);
    Ok(connection)
}

/// The servers that may have the log, as a URL names them, or as its sentinels do.
pub(super) async fn candidates(url: &Url, dialer: &Dialer) -> Result<Vec<Address>, Failure> {
    match url.way {
        Way::Direct => Ok(url.hosts.iter().map(|(host, port)| Address::Tcp(host.clone(), *port)).collect()),
        Way::Unix => Ok(url.hosts.iter().map(|(path, _)| Address::Unix(path.clone())).collect()),
        Way::Sentinel => ask_sentinels(url, dialer).await.map(|address| vec![address]),
    }
}

/// Asks the sentinels in turn. Each gets its part of the time, as one that hangs must not keep the others from being
/// asked.
async fn ask_sentinels(url: &Url, dialer: &Dialer) -> Result<Address, Failure> {
    let each = dialer.part(url.hosts.len());
    let mut last = None;
    for (host, port) in &url.hosts {
        match ask_sentinel(url, &Address::Tcp(host.clone(), *port), &each).await {
            Ok(address) => return Ok(address),
            Err(why) => last = Some(why),
        }
    }
    Err(last.unwrap_or_else(|| Failure("the URL of Redis names no sentinel".to_owned())))
}

async fn ask_sentinel(url: &Url, sentinel: &Address, dialer: &Dialer) -> Result<Address, Failure> {
    let line = dialer.dial(sentinel, &url.sentinel, 0).await.map_err(|why| of_sentinel(&why))?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(&url.service);
    let value = line.ask(command).await.map_err(|refused| of_sentinel(&line.why(refused)))?;
    let unknown = || Failure(format!("sentinel {sentinel} knows no service {:?}", url.service));
    match value {
        Value::Array(parts) => match &parts[..] {
            [Value::BulkString(host), Value::BulkString(port)] => {
                let host = String::from_utf8(host.clone()).ok();
                let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok());
                host.zip(port).map(|(host, port)| Address::Tcp(host, port)).ok_or_else(unknown)
            }
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

/// A failure that is about a sentinel.
fn of_sentinel(why: &Failure) -> Failure {
    Failure(why.0.replacen("Redis ", "sentinel ", 1))
}
