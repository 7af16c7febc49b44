//! The connection that the words have for themselves.

use super::servers::Server;
use super::{options, Place, PATIENCE};
use crate::engine::contract::{Word, MAX_WORD};
use crate::engine::nats::{words, Settings};
use crate::engine::shared::contract_tests::{heartbeat, run, Hub};
use serde_json::{json, Value};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Passes bytes between hubs and a server. The connection for words can be made to hang: nothing passes, and nothing ends.
struct Between {
    port: u16,
    hangs: watch::Sender<bool>,
}

impl Between {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hangs, hanging) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((hub, _)) = listener.accept().await {
                let there = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass(hub, there, hanging.clone()));
            }
        });
        Between { port, hangs }
    }
}

/// Passes bytes over one connection. What it is for is in the first bytes of the hub.
async fn pass(mut hub: TcpStream, mut server: TcpStream, mut hangs: watch::Receiver<bool>) {
    let (mut from_hub, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut is_for_words = false;
    loop {
        if is_for_words {
            let _ = hangs.wait_for(|hangs| !hangs).await;
        }
        let passed = tokio::select! {
            len = hub.read(&mut from_hub) => match len {
                Ok(len @ 1..) => {
                    is_for_words |= String::from_utf8_lossy(&from_hub[..len]).contains(words::NAME);
                    server.write_all(&from_hub[..len]).await
                }
                _ => return,
            },
            len = server.read(&mut from_server) => match len {
                Ok(len @ 1..) => hub.write_all(&from_server[..len]).await,
                _ => return,
            },
            _ = hangs.changed(), if is_for_words => Ok(()),
        };
        if passed.is_err() {
            return;
        }
    }
}

/// A server, a log on it, and a client that may ask the server about its connections and end them.
async fn watched() -> (Place<Server>, async_nats::Client) {
    let accounts = "accounts { LOGS { jetstream: enabled, users: [{user: hub, password: x}] }, \
                    SYS { users: [{user: root, password: x}] } }\nsystem_account: SYS";
    let server = Server::alone(accounts);
    let root = async_nats::ConnectOptions::with_user_and_password("root".to_owned(), "x".to_owned());
    let root = root.connection_timeout(PATIENCE).request_timeout(Some(PATIENCE)).connect(server.url()).await.unwrap();
    let settings = Settings::parse(&server.url().replace("//", "//hub:x@"), &options("words")).unwrap();
    (Place { settings, servers: server }, root)
}

async fn ask(root: &async_nats::Client, what: &str, body: Value) -> Value {
    let subject = format!("$SYS.REQ.SERVER.{}.{what}", root.server_info().server_id);
    let answer = root.request(subject, body.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// The connections of hubs with this name: the number of each, and the bytes that have come over it.
async fn connections(root: &async_nats::Client, name: &str) -> Vec<(u64, u64)> {
    let answer = ask(root, "CONNZ", json!({ "acc": "LOGS" })).await;
    let all = answer["data"]["connections"].as_array().unwrap().clone();
    let named = all.into_iter().filter(|connection| connection["name"] == name);
    named.map(|is| (is["cid"].as_u64().unwrap(), is["in_bytes"].as_u64().unwrap())).collect()
}

/// Says a word to all hubs until this hub has it itself. Returns what words have failed with meanwhile.
async fn until_heard(hub: &mut Hub, bytes: &[u8]) -> Vec<String> {
    let (began, mut failures) = (Instant::now(), Vec::new());
    loop {
        assert!(began.elapsed() < PATIENCE, "never heard: {failures:?}");
        hub.connection.words.send(Word { to: None, bytes: bytes.to_vec() }).await.unwrap();
        while let Ok(Some(heard)) = timeout(Duration::from_millis(20), hub.connection.heard.recv()).await {
            match heard {
                Ok(word) if word == bytes => return failures,
                Ok(_) => {}
                Err(why) => failures.push(why.0),
            }
        }
    }
}

#[test]
fn words_have_a_connection_of_their_own_that_ends_with_that_of_the_log() {
    run(async {
        let (log, root) = watched().await;
        let mut hub = Hub::connect(&log, 1).await;
        until_heard(&mut hub, b"ready").await;
        let large = vec![7; MAX_WORD];
        for _ in 0..64 {
            hub.connection.words.send(Word { to: Some(2), bytes: large.clone() }).await.unwrap();
        }
        until_heard(&mut hub, b"all are said").await;
        hub.append_one(1, &heartbeat()).await;
        let [(_, of_log)] = connections(&root, "libpush").await[..] else { panic!("one for the log") };
        let [(_, of_words)] = connections(&root, words::NAME).await[..] else { panic!("one for words") };
        assert!(of_log < MAX_WORD as u64, "no word goes over the log's connection: {of_log}");
        assert!(of_words >= 64 * MAX_WORD as u64, "{of_words}");
        drop(hub);
        let began = Instant::now();
        while !connections(&root, "libpush").await.is_empty() || !connections(&root, words::NAME).await.is_empty() {
            assert!(began.elapsed() < PATIENCE, "a connection stays");
            sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_connection_for_words_that_is_lost_is_made_again_and_the_log_goes_on() {
    run(async {
        let (log, root) = watched().await;
        let mut hub = Hub::connect(&log, 1).await;
        until_heard(&mut hub, b"before").await;
        let (of_log, of_words) = (connections(&root, "libpush").await, connections(&root, words::NAME).await);
        ask(&root, "KICK", json!({ "cid": of_words[0].0 })).await;
        let began = Instant::now();
        while connections(&root, words::NAME).await.iter().any(|(number, _)| *number == of_words[0].0) {
            assert!(began.elapsed() < PATIENCE, "it is not kicked");
            sleep(Duration::from_millis(20)).await;
        }
        let failures = until_heard(&mut hub, b"after").await;
        assert!(failures.iter().any(|why| why.starts_with("words between hubs: the connection")), "{failures:?}");
        // The log's connection is the same.
        hub.append_one(1, &heartbeat()).await;
        assert_eq!(connections(&root, "libpush").await[0].0, of_log[0].0);
    });
}

#[test]
fn a_connection_for_words_that_hangs_alone_is_noticed_while_the_log_goes_on() {
    run(async {
        let server = Server::alone("");
        let between = Between::start(server.url().trim_start_matches("nats://").to_owned()).await;
        let limit = Duration::from_secs(12);
        let url = format!("nats://127.0.0.1:{}", between.port);
        let mut options = options("words");
        options.timeout = limit;
        let log = Place { settings: Settings::parse(&url, &options).unwrap(), servers: server };
        let mut hub = Hub::connect(&log, 1).await;
        until_heard(&mut hub, b"before").await;
        between.hangs.send(true).unwrap();
        let noticed = async {
            loop {
                // Words that were said before may still come.
                if let Err(why) = hub.connection.heard.recv().await.unwrap() {
                    return why;
                }
            }
        };
        let why = timeout(PATIENCE, noticed).await.expect("it is noticed");
        assert!(why.0.starts_with("words between hubs: the connection"), "{why}");
        hub.append_one(1, &heartbeat()).await;
        between.hangs.send(false).unwrap();
        until_heard(&mut hub, b"after").await;
        hub.append_one(2, &heartbeat()).await;
    });
}
