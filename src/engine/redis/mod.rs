//! The engine `redis`: one Redis stream is the log. Valkey, Sentinel and Cluster count as Redis.
//!
//! **Numbers.** The entry with number N has the id `N-0`. A script appends, and takes the number from a counter that
//! stands beside the stream. Ids that Redis makes are times, and times have holes.
//!
//! **One script for a batch.** One script does everything that the contract wants at once, and Redis runs nothing else
//! meanwhile: it compares the log's life, the hub's counter and the keys, appends, and remembers. Redis refuses a
//! script (no memory, too few replicas, a replica) at its first write, so all of it happens, or nothing. The scripts
//! are called by their hashes. If a server has forgotten them, an append is busy, and the scripts are loaded again.
//!
//! **Where things are.** Five keys, all with the hash tag `{namespace}`, so that a cluster has them in one slot: the
//! stream; the `state` (a token, the last number, the length, the last fence); the `hubs` with the last counter of
//! each, dropped a day after its last append; the idempotency `keys`, and their `order`, from which old ones are
//! dropped with each append. None of them expires by Redis' own means. So a policy that begins with `volatile`, as many
//! hosted servers have it, evicts none of them. A policy that begins with `allkeys` is refused. The fence is in
//! `state`, so trimming the stream does not touch it.
//!
//! **Identity.** A [`LogId`](super::contract::LogId) is made of the server's `master_replid` and the token. A master has
//! a new `master_replid` whenever it starts, also if it has loaded all of its data and with `appendfsync always`: Redis
//! does not say whether anything was lost. A replica that is promoted has a new one too, also if it is demoted and
//! promoted again. It also changes when a master gets its first replica, though nothing is lost then. (Redis'
//! `replication.c`, `changeReplicationId` and `shiftReplicationId`; the restarted server keeps the id of before only as
//! `master_replid2`.) The token changes when the log is made anew: after FLUSHALL, after a key was deleted, or if the
//! stream does not fit the counter beside it. Every script compares both, on the server and at the moment when it runs:
//! a proxy may put another server behind an open connection. So an append can't reach another log than the hub means.
//! Only a dump that is restored over all five keys of a living server is not seen at once. A tail notices that the log
//! has become shorter, and a hub that connects compares the entries themselves.
//!
//! **Late appends.** A server that hung may still have the questions of an old connection in its buffers. Connections
//! of a hub are numbered, and an append that follows another is accepted only over the newest connection. So an append
//! of an old connection can't come between later entries.
//!
//! **Tail.** XREAD waits on a connection of its own, at most a second or a quarter of the engine's time limit, so a
//! server that hangs is noticed. A replica that is given another master's data must not show entries of another log. So
//! the entries have a mark of the life in which they were appended, and once a second the script that compares the life
//! goes behind a read. The number of entries of a read depends on the size of the
//! last ones. The queue to the hub is bounded, and nothing is read while it is full.
//!
//! **Words** between hubs (`words`) go through two more streams, which are short and expire, and are read over a third
//! connection.
//!
//! **Redirections.** Only one slot is of interest, so a cluster needs no more than to follow MOVED when a connection is
//! made. Sentinels are asked for the master each time. The server itself then says whether it is a master.
//!
//! **TLS** is that of rustls, to sentinels and nodes as well. A certificate has to be for the name or the address by
//! which its server is reached, also if a sentinel or a node has told that.
//!
//! **Time.** Each question has the engine's time limit, and so has making a connection, as a whole.

mod dial;
mod failure;
mod greeting;
mod log;
mod server;
mod serving;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod url;
mod words;

use super::shared::connection::{pair, Connection, Failure};
use super::shared::tls::Tls;
use super::shared::Options;
use dial::{Address, Dialer, Line, Refused};
use failure::failure;
use log::{Log, Wrong};
use redis::Value;
use serving::Server;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How many times a cluster may redirect to another node.
const REDIRECTIONS: usize = 5;

/// The place of the log, and the options about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    url: Url,
    tls: Option<Tls>,
    namespace: String,
    timeout: Duration,
    key_window: Duration,
    max_message: usize,
}

impl Settings {
    /// Checks a URL, and reads the files that it names. Errors do not repeat it: it may have a password in it.
    pub(crate) fn parse(url: &str, options: &Options) -> Result<Self, String> {
        let mut url = Url::parse(url)?;
        let own = url.cert.take().zip(url.key.take());
        let tls = url.tls.then(|| Tls::new(url.ca.take(), own)).transpose();
        let tls = tls.map_err(|why| format!("TLS of the URL of Redis: {why}"))?;
        let (namespace, timeout, key_window) = (options.namespace.clone(), options.timeout, options.key_window);
        Ok(Settings { url, tls, namespace, timeout, key_window, max_message: options.max_message })
    }

    pub(crate) fn max_message(&self) -> usize {
        self.max_message
    }

    fn dialer(&self) -> Result<Dialer, Failure> {
        let config = self.tls.as_ref().map(Tls::config).transpose();
        let config = config.map_err(|why| Failure(format!("TLS with Redis can't be used: {why}")))?;
        Ok(Dialer { tls: config.map(Into::into), limit: self.timeout })
    }
}

/// Makes a connection. It must be called on a runtime of tokio, where the connection is served.
pub(crate) async fn connect(settings: &Settings, hub: u64) -> Result<Connection, Failure> {
    match tokio::time::timeout(settings.timeout, find(settings, hub)).await {
        Ok(connection) => connection,
        Err(_) => {
            let limit = settings.timeout.as_millis();
            Err(Failure(format!("no Redis that may have the log has answered for {limit} ms")))
        }
    }
}

/// Tries the servers in turn. A server that hangs must not keep the others from being tried.
async fn find(settings: &Settings, hub: u64) -> Result<Connection, Failure> {
    let dialer = settings.dialer()?;
    let candidates = dial::candidates(&settings.url, &dialer).await?;
    let dialer = dialer.part(candidates.len());
    let mut first = None;
    for address in candidates {
        match at(settings, hub, address, &dialer).await {
            Ok(connection) => return Ok(connection),
            Err(why) => _ = first.get_or_insert(why),
        }
    }
    Err(first.unwrap_or_else(|| Failure("the URL names no Redis".to_owned())))
}

/// Connects to a server, or to the node of its cluster that has the log.
async fn at(settings: &Settings, hub: u64, mut address: Address, dialer: &Dialer) -> Result<Connection, Failure> {
    for _ in 0..=REDIRECTIONS {
        let credentials = &settings.url.server;
        let line = dialer.dial(&address, credentials, settings.url.db).await?;
        look_at(&line).await?;
        match Log::open(&line, &settings.namespace).await {
            Ok(log) => {
                let reading = dialer.dial(&address, credentials, settings.url.db).await?;
                let words = words::Place {
                    dialer: dialer.clone(),
                    address,
                    credentials: credentials.clone(),
                    db: settings.url.db,
                    namespace: settings.namespace.clone(),
                    hub,
                    line: line.clone().with_limit(settings.timeout),
                    timeout: settings.timeout,
                };
                return Ok(begin(settings, hub, log, (line, reading), words));
            }
            Err(Wrong::Refused(Refused::Said(error))) => {
                match error.redirect_node().and_then(|(node, _)| node_at(node)) {
                    // A node that does not know its own name leaves it out.
                    Some((host, port)) => match &address {
                        Address::Tcp(before, _) if host.is_empty() => address = Address::Tcp(before.clone(), port),
                        _ => address = Address::Tcp(host.to_owned(), port),
                    },
                    None => return Err(failure(&line.server, &error)),
                }
            }
            Err(wrong) => return Err(wrong.why(&line)),
        }
    }
    Err(Failure(format!("the nodes of the Redis cluster redirect to each other, at last to {address}")))
}

/// The host and port of a node of a cluster. An IPv6 address has no brackets.
fn node_at(node: &str) -> Option<(&str, u16)> {
    let (host, port) = node.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

/// Checks that the server can keep a log.
async fn look_at(line: &Line) -> Result<(), Failure> {
    match line.ask(redis::cmd("INFO")).await {
        Ok(Value::BulkString(info)) => server::check(&line.server, &String::from_utf8_lossy(&info)),
        Ok(_) => Err(Failure(format!("{} is no Redis", line.server))),
        Err(refused) => Err(line.why(refused)),
    }
}

fn begin(settings: &Settings, hub: u64, log: Log, (line, reading): (Line, Line), place: words::Place) -> Connection {
    /// Numbers the connections of this process, and so those of each hub.
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let (key_window, timeout) = (settings.key_window, settings.timeout);
    let (connection, mut serving) = pair();
    if let Some(words) = serving.words.take() {
        tokio::spawn(place.exchange(words));
    }
    // Among several servers each had only its part of the time while the right one was looked for.
    let (line, reading) = (line.with_limit(timeout), reading.with_limit(timeout));
    tokio::spawn(serving::serve(
        Server {
            log: Arc::new(log),
            line,
            reading,
            hub,
            number,
            key_window,
            timeout,
            most: tail::most(settings.max_message),
        },
        serving,
    ));
    connection
}
