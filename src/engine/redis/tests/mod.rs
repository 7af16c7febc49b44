//! The engine over real servers: the contract, and what happens when the servers fail.

mod faults;
mod identity;
mod odd;
pub(super) mod planted;
pub(crate) mod process;
mod several;
mod tls;
mod words;
mod wrong;

use super::{connect, Settings};
use crate::engine::shared::connection::{Connection, Failure};
use crate::engine::shared::contract_tests::{keeps_the_contract, Fresh, Hub, Log, PATIENCE};
use crate::engine::shared::Options;
use process::{Process, Program};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The engine's time limit where a test does not wait for it to pass.
const LONG: Duration = Duration::from_secs(60);

fn settings(url: &str, timeout: Duration) -> Settings {
    let options = Options {
        namespace: "push".to_owned(),
        timeout,
        key_window: Duration::from_secs(3600),
        kept: (Duration::from_secs(3600), 1 << 30),
        max_message: 1 << 20,
    };
    Settings::parse(url, &options).unwrap()
}

/// A log on servers of this test.
struct Redis {
    server: Process,
    settings: Settings,
}

impl Redis {
    fn start(program: Program, arguments: &[&str]) -> Self {
        let server = Process::start(program, arguments);
        let settings = settings(&server.url(), LONG);
        Redis { server, settings }
    }

    /// Why no connection can be made.
    async fn refusal(&self) -> String {
        match connect(&self.settings, 1).await {
            Ok(_) => panic!("it connects"),
            Err(why) => why.0,
        }
    }
}

/// Connects as soon as that is possible.
async fn patiently(settings: &Settings, hub: u64) -> Connection {
    let start = Instant::now();
    loop {
        match connect(settings, hub).await {
            Ok(connection) => return connection,
            Err(why) if start.elapsed() > PATIENCE => panic!("{why}"),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

impl Log for Redis {
    fn connect(&self, hub: u64) -> Pin<Box<dyn Future<Output = Connection> + '_>> {
        Box::pin(patiently(&self.settings, hub))
    }
}

/// Why a connection ends. It must end soon, while the hub takes its tail.
async fn end_of(mut hub: Hub) -> String {
    let ended = async {
        while hub.connection.tail.recv().await.is_some() {}
        hub.connection.why().await
    };
    let why: Failure = tokio::time::timeout(PATIENCE, ended).await.expect("the connection does not end");
    why.0
}

mod redis_server {
    use super::*;
    const FRESH: Fresh = || Box::new(Redis::start(Program::Redis, &[]));
    keeps_the_contract!(FRESH);
}

mod valkey_server {
    use super::*;
    const FRESH: Fresh = || Box::new(Redis::start(Program::Valkey, &[]));
    keeps_the_contract!(FRESH);
}
