//! Servers that are slow, large, or of another mind for a while.

use super::*;
use crate::engine::contract::{Answer, Ask, Placed};
use crate::engine::shared::contract_tests::{heartbeat, run};

#[test]
fn one_trim_removes_all_that_is_too_old() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        let mut hub = Hub::connect(&log, 1).await;
        for from in (1..40_000u64).step_by(500) {
            hub.append(hub.heartbeats(from..from + 500)).await;
        }
        hub.ask(Ask::Trim { before: 39_000 }).await;
        let first = hub.identify(0).await.first;
        // Redis removes whole nodes of its tree.
        assert!((38_000..=39_000).contains(&first), "it begins at {first}");
    });
}

#[test]
fn a_fence_that_this_version_cannot_read_is_said() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        let mut hub = Hub::connect(&log, 1).await;
        assert!(hub.fence(0, "fence").await.0);
        log.server.must(&["HSET", "{push}:state", "fence_bytes", "\u{9}\u{2}later"]);
        hub.ask(Ask::Identify { number: 0 }).await;
        let why = end_of(hub).await;
        assert!(why.contains("entry 1, can't be read: a later version of libpush wrote it (form 9)"), "{why}");
    });
}

#[test]
fn a_quiet_log_of_several_servers_stays_connected() {
    run(async {
        let mut log = Redis::start(Program::Redis, &[]);
        let url = log.server.url();
        let place = url.trim_start_matches("redis://").split('/').next().unwrap().to_owned();
        let all = [place.as_str(); 4].join(",");
        // A read waits for up to a quarter of the time, and each of the four servers has a quarter to answer at first.
        log.settings = settings(&format!("redis://{all}"), Duration::from_secs(6));
        let mut hub = Hub::connect(&log, 1).await;
        hub.ask(Ask::Tail { after: 0 }).await;
        let quiet = Instant::now();
        while quiet.elapsed() < Duration::from_secs(9) {
            let piece =
                tokio::time::timeout(PATIENCE, hub.connection.tail.recv()).await.expect("the tail stands still");
            assert!(piece.is_some(), "the connection is lost after {:?} of quiet", quiet.elapsed());
        }
        hub.append_one(1, &heartbeat()).await;
    });
}

#[test]
fn hubs_that_open_a_deleted_log_one_after_the_other_do_not_end_each_others_connections() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        let mut hub = Hub::connect(&log, 1).await;
        hub.append(hub.heartbeats(1..=5)).await;
        log.server.must(&["DEL", "{push}:log"]);
        let mut one = Hub::connect(&log, 2).await;
        let id = one.identify(0).await.log;
        let mut two = Hub::connect(&log, 3).await;
        assert_eq!(two.identify(0).await.log, id, "it is the same log");
        let about = one.identify(0).await;
        assert_eq!((about.log, about.first, about.end), (id, 6, 5), "numbers are not given again");
        assert_eq!(one.append(one.heartbeats([1])).await, [Placed::At(6)]);
        assert_eq!(two.append(two.heartbeats([1])).await, [Placed::At(7)]);
        // Deleted once more, it is another one.
        log.server.must(&["DEL", "{push}:log"]);
        assert_ne!(Hub::connect(&log, 4).await.identify(0).await.log, id);
    });
}

#[test]
fn a_trim_that_is_refused_ends_no_connection() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        let mut hub = Hub::connect(&log, 1).await;
        hub.append(hub.heartbeats(1..=500)).await;
        log.server.must(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        hub.ask(Ask::Trim { before: 400 }).await;
        assert_eq!(hub.identify(0).await.end, 500, "the connection is still there");
        let log_id = hub.identify(0).await.log;
        let epoch = crate::hub::Epoch::from_text("fence").unwrap();
        let fence = crate::engine::contract::Fence { epoch, log: log_id, chain: Vec::new() };
        hub.ask(Ask::Fence { expected: 0, fence }).await;
        let why = end_of(hub).await;
        assert!(why.contains("too few good replicas") && why.contains("appended a fence"), "{why}");
        log.server.must(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
        let mut hub = Hub::connect(&log, 1).await;
        hub.ask(Ask::Trim { before: 400 }).await;
        assert!(hub.identify(0).await.first > 100);
        hub.ask_append(hub.heartbeats([501])).await;
        assert!(matches!(hub.answer().await, Answer::Appended(_)));
    });
}
