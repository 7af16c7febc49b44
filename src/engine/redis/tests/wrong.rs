//! Servers that can't keep a log, or refuse to: each says so in a sentence, without secrets.

use super::*;
use crate::engine::contract::{Answer, Ask, Placed, Word};
use crate::engine::shared::contract_tests::ports::free_port;
use crate::engine::shared::contract_tests::{heartbeat, message, run};

#[track_caller]
fn says(why: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| why.contains(part)), "{why}");
    assert!(!why.contains("s3cret") && !why.contains('\n'), "{why}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    run(async {
        let address = format!("127.0.0.1:{}", free_port());
        let refusal = connect(&settings(&format!("redis://:s3cret@{address}"), LONG), 1).await.unwrap_err();
        says(&refusal.0, &[&address, "can't be reached"]);
    });
}

#[test]
fn a_server_that_accepts_and_never_answers_is_given_up() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://:s3cret@{}", listener.local_addr().unwrap());
        let refusal = connect(&settings(&url, Duration::from_millis(200)), 1).await.unwrap_err();
        says(&refusal.0, &["answered for 200 ms"]);
    });
}

#[test]
fn something_that_is_no_redis_is_refused() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let stranger = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        };
        let settings = settings(&url, LONG);
        let refusal =
            tokio::select! { why = connect(&settings, 1) => why.unwrap_err(), () = stranger => unreachable!() };
        says(&refusal.0, &["Redis 127.0.0.1:"]);
    });
}

#[test]
fn a_password_that_is_missing_or_wrong_is_said() {
    run(async {
        let mut log = Redis::start(Program::Redis, &["--requirepass", "s3cret-right"]);
        says(&log.refusal().await, &["wants a password"]);
        for wrong in [":s3cret-wrong@", "nobody:s3cret-right@"] {
            log.settings = settings(&log.server.url().replace("//", &format!("//{wrong}")), LONG);
            says(&log.refusal().await, &["does not accept the user or the password"]);
        }
        log.settings = settings(&log.server.url().replace("//", "//:s3cret-right@"), LONG);
        Hub::connect(&log, 1).await.append_one(1, &heartbeat()).await;
    });
}

#[test]
fn a_user_needs_few_rights_and_one_without_them_is_told() {
    run(async {
        let mut log = Redis::start(Program::Redis, &[]);
        let url = log.server.url().replace("//", "//hub:s3cret@");
        log.settings = settings(&url, LONG);
        log.server.must(&["ACL", "SETUSER", "hub", "on", ">s3cret", "~{push}:*", "+ping"]);
        says(&log.refusal().await, &["does not let this user do what the engine needs"]);
        // As docs/engines.md lists them.
        let rights = "+info +evalsha +script|load +xadd +xlen +xrange +xread +xtrim +xinfo|stream +hget +hset +hmget \
                      +hdel +hgetall +hlen +rpush +lpop +lindex +llen +del +exists +time +pexpire";
        let words: Vec<&str> = ["ACL", "SETUSER", "hub"].into_iter().chain(rights.split_whitespace()).collect();
        log.server.must(&words);
        let mut hub = Hub::connect(&log, 1).await;
        hub.ask(Ask::Tail { after: 0 }).await;
        let mut entry = hub.entry(1, &heartbeat());
        entry.key = "key".into();
        assert_eq!(hub.append(vec![entry]).await, [Placed::At(1)]);
        assert!(hub.fence(0, "fence").await.0);
        hub.ask(Ask::Trim { before: 2 }).await;
        assert_eq!(hub.identify(1).await.end, 2);
        hub.tailed_to(2).await;
        // Words need no other right.
        hub.connection.words.send(Word { to: Some(1), bytes: b"word".to_vec() }).await.unwrap();
        assert_eq!(hub.connection.heard.recv().await.unwrap().unwrap(), b"word");
        let left = log.server.must(&["PTTL", "{push}:words:0000000000000001"]);
        assert!(matches!(left, redis::Value::Int(-2 | 1..)), "it expires: {left:?}");
        let mut deaf = Hub::connect(&log, 2).await;
        log.server.must(&["ACL", "SETUSER", "hub", "-pexpire"]);
        deaf.connection.words.send(Word { to: Some(1), bytes: b"word".to_vec() }).await.unwrap();
        let why = deaf.connection.heard.recv().await.unwrap().unwrap_err();
        says(&why.0, &["does not let this user"]);
        assert_eq!(deaf.identify(0).await.end, 2, "the log goes on");
    });
}

#[test]
fn a_full_server_refuses_appends_and_goes_on_when_there_is_room() {
    run(async {
        let mut log = Redis::start(Program::Redis, &[]);
        log.settings = settings(&log.server.url(), Duration::from_secs(6));
        let mut hub = Hub::connect(&log, 1).await;
        hub.ask(Ask::Tail { after: 0 }).await;
        let large = vec![7; 100_000];
        for counter in 1..=40 {
            hub.append_one(counter, &message(&large)).await;
        }
        log.server.must(&["CONFIG", "SET", "maxmemory", "1000000"]);
        hub.ask_append(vec![hub.entry(41, &message(&large))]).await;
        assert_eq!(hub.answer().await, Answer::Busy);
        assert_eq!(hub.identify(0).await.end, 40, "nothing of it is there");
        // Trimming makes room, so it must work.
        hub.ask(Ask::Trim { before: 36 }).await;
        assert!(hub.identify(0).await.first > 30);
        log.server.must(&["CONFIG", "SET", "maxmemory", "100000000"]);
        hub.after = 40;
        assert_eq!(hub.append_one(41, &message(&large)).await, 41);
        // If it lasts, the operator is told why.
        log.server.must(&["CONFIG", "SET", "maxmemory", "1000000"]);
        while hub.connection.asks.send(Ask::Append { after: 41, entries: hub.heartbeats([42]) }).await.is_ok() {
            if hub.connection.answers.recv().await != Some(Answer::Busy) {
                break;
            }
        }
        says(&end_of(hub).await, &["out of memory"]);
        // Clients can be served meanwhile.
        let mut hub = Hub::connect(&log, 1).await;
        assert_eq!(hub.identify(0).await.end, 41);
    });
}

#[test]
fn too_few_replicas_refuse_appends_until_there_are_enough() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        let mut hub = Hub::connect(&log, 1).await;
        hub.append_one(1, &heartbeat()).await;
        log.server.must(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        hub.ask_append(hub.heartbeats([2])).await;
        assert_eq!(hub.answer().await, Answer::Busy);
        log.server.must(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
        hub.after = 1;
        assert_eq!(hub.append_one(2, &heartbeat()).await, 2);
    });
}

#[test]
fn a_server_that_may_evict_the_log_is_refused() {
    run(async {
        let log = Redis::start(Program::Redis, &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
        says(&log.refusal().await, &["may evict the log", "allkeys-lru", "noeviction"]);
        log.server.must(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
        Hub::connect(&log, 1).await;
        let kept = log.server.must(&["KEYS", "*"]);
        let redis::Value::Array(keys) = kept else { panic!("{kept:?}") };
        for key in keys {
            let redis::Value::BulkString(key) = key else { panic!("{key:?}") };
            let key = String::from_utf8(key).unwrap();
            assert_eq!(log.server.must(&["TTL", &key]), redis::Value::Int(-1), "{key} could be evicted");
        }
    });
}

#[test]
fn other_things_under_the_names_of_the_log_are_left_alone() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        log.server.must(&["SET", "{push}:log", "mine"]);
        says(&log.refusal().await, &["something else where the log should be", "engine_namespace"]);
        log.server.must(&["DEL", "{push}:log"]);
        log.server.must(&["XADD", "{push}:log", "*", "their", "entry"]);
        says(&log.refusal().await, &["{push}:log", "another program", "engine_namespace"]);
        assert_eq!(log.server.must(&["XLEN", "{push}:log"]), redis::Value::Int(1));
        log.server.must(&["DEL", "{push}:log"]);
        log.server.must(&["SET", "{push}:state", "mine"]);
        says(&log.refusal().await, &["something else where the log should be"]);
    });
}

#[test]
fn an_entry_of_another_program_in_a_log_that_is_used_is_named() {
    run(async {
        for id in ["*", "2-0", "1-1"] {
            let log = Redis::start(Program::Redis, &[]);
            let mut hub = Hub::connect(&log, 1).await;
            hub.ask(Ask::Tail { after: 0 }).await;
            hub.append_one(1, &heartbeat()).await;
            log.server.must(&["XADD", "{push}:log", id, "their", "entry", "of", "two fields"]);
            end_of(hub).await;
            says(&log.refusal().await, &["{push}:log", "of another program", "delete the stream"]);
        }
    });
}

#[test]
fn a_log_of_a_newer_version_is_not_touched() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        Hub::connect(&log, 1).await.append_one(1, &heartbeat()).await;
        log.server.must(&["HSET", "{push}:state", "version", "2"]);
        says(&log.refusal().await, &["format 2", "newer libpush"]);
    });
}

#[test]
fn scripts_that_a_server_forgets_are_loaded_again() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        let mut hub = Hub::connect(&log, 1).await;
        for counter in 1..=5 {
            log.server.must(&["SCRIPT", "FLUSH"]);
            assert_eq!(hub.append_one(counter, &heartbeat()).await, counter);
        }
    });
}

#[test]
fn a_key_counts_for_its_window() {
    run(async {
        let mut log = Redis::start(Program::Redis, &[]);
        log.settings.key_window = Duration::from_secs(5);
        let mut hub = Hub::connect(&log, 1).await;
        let keyed = |hub: &Hub, counter, key: &str| {
            let mut entry = hub.entry(counter, &heartbeat());
            entry.key = key.into();
            vec![entry]
        };
        let entries = keyed(&hub, 1, "a");
        assert_eq!(hub.append(entries).await, [Placed::At(1)]);
        let mut counter = 1;
        loop {
            counter += 1;
            let entries = keyed(&hub, counter, "a");
            match hub.append(entries).await[..] {
                [Placed::Known(1)] => sleep(Duration::from_millis(100)).await,
                [Placed::At(2)] => break,
                ref other => panic!("{other:?}"),
            }
        }
        // Old keys do not pile up.
        for at in 0..20 {
            counter += 1;
            let entries = keyed(&hub, counter, &format!("b{at}"));
            hub.append(entries).await;
        }
        sleep(Duration::from_secs(6)).await;
        let entries = keyed(&hub, counter + 1, "c");
        hub.append(entries).await;
        let entries = keyed(&hub, counter + 2, "d");
        hub.append(entries).await;
        let redis::Value::Int(left) = log.server.must(&["HLEN", "{push}:keys"]) else { panic!() };
        assert!(left < 22, "{left}");
    });
}
