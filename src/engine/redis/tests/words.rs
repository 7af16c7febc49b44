//! What words leave in Redis.

use super::process::Program;
use super::{Redis, PATIENCE};
use crate::engine::contract::{Word, MAX_WORD};
use crate::engine::shared::contract_tests::{run, Hub};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const OF_ALL: &str = "{push}:words";

/// The stream of a hub.
fn of(hub: u64) -> String {
    format!("{OF_ALL}:{hub:016x}")
}

fn words_leave_nothing(program: Program) {
    run(async {
        let log = Redis::start(program, &[]);
        let (hub, mut reader) = (Hub::connect(&log, 1).await, Hub::connect(&log, 2).await);
        let number = |arguments: &[&str]| match log.server.must(arguments) {
            redis::Value::Int(number) => number,
            other => panic!("{arguments:?}: {other:?}"),
        };
        let large = vec![7; MAX_WORD];
        let (mut heard, began) = (0, Instant::now());
        for _ in 0..64 {
            hub.connection.words.send(Word { to: Some(2), bytes: large.clone() }).await.unwrap();
            // One that nobody reads.
            hub.connection.words.send(Word { to: Some(3), bytes: large.clone() }).await.unwrap();
        }
        while heard < 64 {
            let word = timeout(PATIENCE, reader.connection.heard.recv()).await.expect("it comes");
            assert_eq!(word.unwrap().unwrap(), large);
            heard += 1;
        }
        while number(&["XLEN", &of(2)]) > 0 {
            assert!(began.elapsed() < PATIENCE, "what was read stays");
            sleep(Duration::from_millis(10)).await;
        }
        // On a slow machine it may have expired by now.
        let is_there = number(&["EXISTS", &of(2)]) == 1;
        assert!(is_there || began.elapsed() > Duration::from_secs(10), "its words were removed, before it expires");
        // They expire together with the streams, also that of a hub that is dead.
        let keys = [of(2), of(3), OF_ALL.to_owned()];
        hub.connection.words.send(Word { to: None, bytes: b"question".to_vec() }).await.unwrap();
        assert_eq!(timeout(PATIENCE, reader.connection.heard.recv()).await.unwrap().unwrap().unwrap(), b"question");
        for key in &keys {
            assert!(number(&["PTTL", key]) <= 10_000, "{key}");
        }
        while keys.iter().any(|key| number(&["EXISTS", key]) > 0) {
            assert!(began.elapsed() < PATIENCE, "a stream stays");
            sleep(Duration::from_millis(100)).await;
        }
        // A new stream is heard as the one before.
        hub.connection.words.send(Word { to: Some(2), bytes: b"again".to_vec() }).await.unwrap();
        assert_eq!(timeout(PATIENCE, reader.connection.heard.recv()).await.unwrap().unwrap().unwrap(), b"again");
    });
}

#[test]
fn words_that_were_read_leave_nothing_in_redis_and_others_expire() {
    words_leave_nothing(Program::Redis);
}

#[test]
fn words_that_were_read_leave_nothing_in_valkey_and_others_expire() {
    words_leave_nothing(Program::Valkey);
}

/// Waits until a word comes. The word before it may come again.
async fn hears(reader: &mut Hub, word: &str, patience: Duration) -> bool {
    let heard = async {
        loop {
            let heard = reader.connection.heard.recv().await.unwrap().unwrap();
            if heard == word.as_bytes() {
                return;
            }
            assert_eq!(heard, b"before");
        }
    };
    timeout(patience, heard).await.is_ok()
}

#[test]
fn words_are_heard_although_the_clock_of_the_server_has_stepped_back() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        let (hub, mut reader) = (Hub::connect(&log, 1).await, Hub::connect(&log, 2).await);
        for (key, to) in [(OF_ALL.to_owned(), None), (of(2), Some(2))] {
            let say = async |word: &str| {
                let bytes = word.as_bytes().to_vec();
                hub.connection.words.send(Word { to, bytes }).await.unwrap();
            };
            let began = Instant::now();
            // The reader may not listen yet.
            say("before").await;
            while !hears(&mut reader, "before", Duration::from_millis(100)).await {
                assert!(began.elapsed() < PATIENCE, "it hears nothing");
                say("before").await;
            }
            // What a server does when the stream has expired and its clock is behind. Each word is said once.
            log.server.must(&["DEL", &key]);
            for (id, word) in [("1-0", "one"), ("1-1", "two"), ("3-0", "three")] {
                log.server.must(&["XADD", &key, id, "w", word]);
                assert!(hears(&mut reader, word, PATIENCE).await, "{key}: {word} is not heard");
            }
            say("after").await;
            assert!(hears(&mut reader, "after", PATIENCE).await, "{key}");
        }
    });
}
