//! Servers that do not have the hub, or can't keep its log: each says why in one sentence.

use super::faults::stranger;
use super::servers::Server;
use super::{connected, ended, options, refused, Place, PATIENCE};
use crate::engine::contract::{Ask, Word};
use crate::engine::nats::Settings;
use crate::engine::shared::contract_tests::ports::free_port;
use crate::engine::shared::contract_tests::{heartbeat, run, Hub};
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;
use tokio::time::timeout;

const JETSTREAM: &str = "jetstream { store_dir: \"FOLDER/js\" }";

fn settings(url: &str) -> Settings {
    Settings::parse(url, &options("refusals")).unwrap()
}

/// A URL with something before the host.
fn with(server: &Server, who: &str) -> String {
    format!("nats://{who}@127.0.0.1:{}", server.port)
}

#[test]
fn a_server_without_jetstream_says_so() {
    run(async {
        let server = Server::named("plain", "");
        let why = refused(&settings(&server.url())).await;
        assert!(why.contains("JetStream is not enabled"), "{why}");
    });
}

#[test]
fn an_account_without_jetstream_says_so() {
    run(async {
        let accounts = "accounts { A { jetstream: enabled, users: [{user: a, password: a}] }, \
                        B { users: [{user: b, password: b}] } }";
        let server = Server::alone(accounts);
        connected(&settings(&with(&server, "a:a")), 1).await;
        let why = refused(&settings(&with(&server, "b:b"))).await;
        assert!(why.contains("JetStream is not enabled"), "{why}");
    });
}

#[test]
fn a_wrong_user_is_refused_and_a_right_one_is_not_each_way() {
    run(async {
        let seed = "SUAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB6IC5CQ";
        let public = "UB43KVROR7TFJ6KAPCYRF2FJROTZAH4FHLTJLPWX4DRZCC5NASLGJBFE";
        let users = format!("authorization {{ users: [{{user: u, password: \"p:w\"}}, {{nkey: {public}}}] }}");
        let server = Server::alone(&users);
        let file = server.folder().join("password");
        std::fs::write(&file, "p:w\n").unwrap();
        for right in [
            with(&server, "u:p%3Aw"),
            format!("{}?password=file:{}", with(&server, "u"), file.display()),
            format!("{}?nkey={seed}", server.url()),
        ] {
            connected(&settings(&right), 1).await;
        }
        let other = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
        for wrong in [
            server.url(),
            with(&server, "u:hunter2"),
            with(&server, "token-hunter2"),
            format!("{}?nkey={other}", server.url()),
        ] {
            let why = refused(&settings(&wrong)).await;
            assert!(why.contains("does not know this user") && !why.contains("hunter2"), "{why}");
        }
        let why = refused(&settings(&format!("{}?nkey=SUhunter2", server.url()))).await;
        assert!(why.contains("nkey") && !why.contains("hunter2"), "{why}");
        let why = refused(&settings(&format!("{}?credentials=hunter2", server.url()))).await;
        assert!(why.contains("`credentials`") && !why.contains("hunter2"), "{why}");

        let server = Server::alone("authorization { token: \"t0ken\" }");
        connected(&settings(&with(&server, "t0ken")), 1).await;
        connected(&settings(&format!("{}?token=t0ken", server.url())), 1).await;
        assert!(refused(&settings(&with(&server, "other"))).await.contains("does not know"));
    });
}

#[test]
fn a_user_without_permission_is_told_which_one() {
    run(async {
        let users = "authorization { users: [\
                     {user: all, password: x}, \
                     {user: none, password: x, permissions: {publish: {deny: [\"$JS.API.>\"]}}}, \
                     {user: read, password: x, permissions: {publish: {deny: [\"push.>\"]}}}, \
                     {user: deaf, password: x, permissions: {publish: {deny: [\"push-words.>\"]}, \
                      subscribe: {deny: [\"push-words.>\"]}}}] }";
        let server = Server::alone(users);
        connected(&settings(&with(&server, "all:x")), 1).await;
        let why = refused(&settings(&with(&server, "none:x"))).await;
        assert!(why.contains("Permissions Violation") && why.contains("$JS.API.STREAM.INFO"), "{why}");
        // Without words between hubs, the log goes on.
        let mut deaf = Hub::connect(&settings(&with(&server, "deaf:x")), 2).await;
        let why = timeout(PATIENCE, deaf.connection.heard.recv()).await.unwrap().unwrap().unwrap_err();
        assert!(why.0.contains("refuses messages between hubs") && why.0.contains("push-words.refusals"), "{why}");
        deaf.connection.words.send(Word { to: None, bytes: b"word".to_vec() }).await.unwrap();
        let said = async { while !deaf.connection.heard.recv().await.unwrap().unwrap_err().0.contains("Publish") {} };
        timeout(PATIENCE, said).await.expect("it is told");
        deaf.append_one(1, &heartbeat()).await;
        // It could be read: what a hub publishes is refused.
        let mut without_limit = settings(&with(&server, "read:x"));
        without_limit.options.timeout = 100 * PATIENCE;
        let mut hub = Hub::connect(&without_limit, 1).await;
        hub.ask_append(hub.heartbeats([1])).await;
        // It does not wait for an answer.
        let why = ended(hub.connection).await;
        assert!(why.contains("Permissions Violation") && why.contains("push.refusals.hub"), "{why}");
    });
}

#[test]
fn a_stream_of_other_settings_is_refused_and_the_setting_is_named() {
    run(async {
        let server = Server::alone("");
        let url = server.url();
        let client = stranger(&url).await;
        // Each on a stream of its own: JetStream may need a moment before a stream that was deleted can be made again.
        for (other, named) in [
            ("\"allow_atomic\":true,\"max_age\":600000000000", "max_age"),
            ("\"max_age\":0", "allow_atomic"),
            ("\"allow_atomic\":true,\"max_bytes\":1000000,\"discard\":\"old\"", "discard"),
            ("\"allow_atomic\":true,\"storage\":\"memory\"", "storage"),
            ("\"allow_atomic\":true,\"deny_purge\":true", "deny_purge"),
        ] {
            let log = Place::new((), &url);
            let (stream, subjects) = (log.stream(), log.fences().replace("fence", ">"));
            let body = format!(
                "{{\"name\":\"{stream}\",\"subjects\":[\"{subjects}\"],\"duplicate_window\":120000000000,{other}}}"
            );
            let made = client.request(format!("$JS.API.STREAM.CREATE.{stream}"), body.into()).await.unwrap();
            assert!(!made.payload.windows(7).any(|bytes| bytes == b"\"error\""), "{made:?}");
            let why = refused(&log.settings).await;
            assert!(why.contains("is no log: its ") && why.contains(named), "{why}");
        }
        let hub = connected(&Place::new((), &url).settings, 1).await;
        hub.asks.send(Ask::HangUp).await.unwrap();
        assert!(ended(hub).await.contains("the hub has ended"));
    });
}

#[test]
fn replicas_that_a_server_alone_can_not_have_are_refused() {
    run(async {
        let server = Server::alone("");
        let why = refused(&settings(&format!("{}?replicas=3", server.url()))).await;
        assert!(why.contains("refuses to make the stream") && why.contains("replicas"), "{why}");
    });
}

#[test]
fn a_server_that_takes_only_small_messages_is_refused() {
    run(async {
        let server = Server::alone("max_payload: 65536");
        let why = refused(&settings(&server.url())).await;
        assert!(why.contains("max_payload") && why.contains("65536"), "{why}");
    });
}

#[test]
fn of_several_servers_one_that_answers_is_enough() {
    run(async {
        let server = Server::named("one", JETSTREAM);
        let dead = free_port();
        let url = format!("nats://127.0.0.1:{dead},127.0.0.1:{}", server.port);
        for hub in 1..=4 {
            connected(&settings(&url), hub).await;
        }
        let why = refused(&settings(&format!("nats://127.0.0.1:{dead}"))).await;
        assert!(why.contains("can't be reached"), "{why}");
        let why = refused(&settings("nats://no-such-host.invalid")).await;
        assert!(why.contains("no-such-host.invalid:4222 has no address"), "{why}");
    });
}

/// Something that is no NATS server: it says this to whoever comes.
fn says(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for socket in listener.incoming().take(8) {
            let mut socket = socket.unwrap();
            let _ = socket.write_all(text.as_bytes());
            kept.push(socket);
        }
    });
    url
}

#[test]
fn whatever_answers_at_the_port_the_error_says_what_it_is() {
    run(async {
        let old =
            "INFO {\"server_id\":\"X\",\"version\":\"2.10.4\",\"headers\":true,\"max_payload\":1048576}\r\nPONG\r\n";
        assert!(refused(&settings(&says(old))).await.contains("has version 2.10.4, and at least 2.12.1"));
        for (text, expected) in [
            ("", "did not answer"),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", "can't be reached"),
            ("INFO {\r\n", "can't be reached"),
        ] {
            let mut settings = settings(&says(text));
            if text.is_empty() {
                settings.options.timeout = Duration::from_secs(1);
            }
            let why = refused(&settings).await;
            assert!(why.contains(expected), "{text}: {why}");
        }
    });
}
