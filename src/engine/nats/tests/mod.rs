//! The log over real servers.

mod contract;
mod faults;
mod leaders;
mod refusals;
mod room;
pub(crate) mod servers;
mod tls;
mod words;

use super::super::shared::connection::{Connection, Failure};
use super::super::shared::contract_tests::{Log, PATIENCE};
use super::super::shared::Options;
use super::{connect, Settings};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

fn options(namespace: &str) -> Options {
    Options {
        namespace: namespace.to_owned(),
        timeout: Duration::from_secs(20),
        key_window: Duration::from_secs(120),
        kept: (Duration::from_secs(600), 1 << 30),
        max_message: 1 << 16,
    }
}

/// A log of a namespace that no other test has.
struct Place<S> {
    settings: Settings,
    /// It lives as long.
    servers: S,
}

impl<S> Place<S> {
    fn new(servers: S, url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Place { settings: Settings::parse(url, &options(&namespace)).unwrap(), servers }
    }

    fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.options.timeout = timeout;
        self
    }

    /// The name of the stream.
    fn stream(&self) -> String {
        format!("push_{}", self.settings.options.namespace)
    }

    /// The subject of fences.
    fn fences(&self) -> String {
        format!("push.{}.fence", self.settings.options.namespace)
    }
}

impl<S> Log for Place<S> {
    fn connect(&self, hub: u64) -> Pin<Box<dyn Future<Output = Connection> + '_>> {
        Log::connect(&self.settings, hub)
    }
}

impl Log for Settings {
    fn connect(&self, hub: u64) -> Pin<Box<dyn Future<Output = Connection> + '_>> {
        Box::pin(connected(self, hub))
    }
}

/// A connection, perhaps after a few tries: servers that have just started may have no leader yet.
async fn connected(settings: &Settings, hub: u64) -> Connection {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect(settings, hub).await {
            Ok(connection) => return connection,
            Err(why) => assert!(Instant::now() < deadline, "{why}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Why there is no connection.
async fn refused(settings: &Settings) -> String {
    match connect(settings, 1).await {
        Ok(_) => panic!("it is connected"),
        Err(Failure(why)) => why,
    }
}

/// Why a connection has ended. Waits for that.
async fn ended(connection: Connection) -> String {
    tokio::time::timeout(PATIENCE, connection.why()).await.expect("the connection does not end").0
}
