//! Servers that are killed, that hang, and that lose their role.

use super::*;
use crate::engine::contract::{Answer, Ask, Placed};
use crate::engine::shared::contract_tests::{heartbeat, run};

/// A log with a time limit that a test waits for. A server that works answers sooner, also on a slow machine.
fn impatient(program: Program) -> Redis {
    let mut log = Redis::start(program, &[]);
    log.settings = settings(&log.server.url(), Duration::from_secs(6));
    log
}

#[test]
fn a_server_that_is_killed_ends_the_connection() {
    run(async {
        let mut log = Redis::start(Program::Redis, &[]);
        let hub = Hub::connect(&log, 1).await;
        let idle = Hub::connect(&log, 2).await;
        hub.ask(Ask::Tail { after: 0 }).await;
        log.server.kill();
        let why = end_of(hub).await;
        assert!(why.contains(&log.server.address()), "{why}");
        // A hub that asks for nothing learns of it when it asks.
        idle.ask(Ask::Identify { number: 0 }).await;
        end_of(idle).await;
        assert!(log.refusal().await.contains("can't be reached"));
    });
}

#[test]
fn a_server_that_hangs_is_noticed_by_a_hub_that_only_reads() {
    run(async {
        for program in [Program::Redis, Program::Valkey] {
            let log = impatient(program);
            let mut hub = Hub::connect(&log, 1).await;
            hub.append_one(1, &heartbeat()).await;
            hub.ask(Ask::Tail { after: 0 }).await;
            hub.tailed(1).await;
            log.server.signal("STOP");
            // The hub goes on to take the tail, as it does.
            let ended = async { while hub.connection.tail.recv().await.is_some() {} };
            tokio::time::timeout(PATIENCE, ended).await.unwrap();
            let why = end_of(hub).await;
            assert!(why.contains("has not answered for 6000 ms"), "{why}");
            assert!(log.refusal().await.contains("answered for 6000 ms"));
            log.server.signal("CONT");
            let mut hub = Hub::connect(&log, 1).await;
            assert_eq!(hub.identify(0).await.end, 1);
        }
    });
}

#[test]
fn what_a_server_that_hung_does_late_comes_before_everything_later() {
    run(async {
        for program in [Program::Redis, Program::Valkey] {
            let log = impatient(program);
            let mut hub = Hub::connect(&log, 1).await;
            hub.append_one(1, &heartbeat()).await;
            log.server.signal("STOP");
            for from in [2, 6, 10] {
                hub.ask_append(hub.heartbeats(from..from + 4)).await;
            }
            let ended = async { while hub.connection.answers.recv().await.is_some() {} };
            tokio::time::timeout(PATIENCE, ended).await.unwrap();
            log.server.signal("CONT");
            let mut hub = hub.reconnect(&log).await;
            let placed = hub.append(hub.heartbeats(2..=20)).await;
            assert_eq!(placed.iter().filter(|placed| matches!(placed, Placed::At(_) | Placed::Repeated)).count(), 19);
            hub.ask(Ask::Tail { after: 0 }).await;
            let end = hub.identify(0).await.end;
            let counters: Vec<u64> = hub.tailed_to(end).await.iter().map(|(_, id)| id.counter).collect();
            assert_eq!(counters, (1..=20).collect::<Vec<u64>>());
        }
    });
}

#[test]
fn an_append_of_an_earlier_connection_is_refused_once_a_later_one_has_appended() {
    run(async {
        let log = Redis::start(Program::Redis, &[]);
        let mut early = Hub::connect(&log, 1).await;
        early.append_one(1, &heartbeat()).await;
        let mut late = Hub::connect(&log, 1).await;
        late.append_one(2, &heartbeat()).await;
        for after in [1, 0] {
            early.after = after;
            early.ask_append(early.heartbeats([3])).await;
            assert_eq!(early.answer().await, Answer::Busy);
        }
        late.append_one(3, &heartbeat()).await;
    });
}

#[test]
fn a_master_that_becomes_a_replica_ends_the_connections() {
    run(async {
        for with_tail in [true, false] {
            let log = Redis::start(Program::Redis, &[]);
            let other = Process::start(Program::Redis, &[]);
            let hub = Hub::connect(&log, 1).await;
            if with_tail {
                hub.ask(Ask::Tail { after: 0 }).await;
            }
            log.server.must(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
            if !with_tail {
                hub.ask(Ask::Append { after: 0, entries: hub.heartbeats([1]) }).await;
            }
            end_of(hub).await;
            log.server.wait_for_info("master_link_status", "up");
            let why = log.refusal().await;
            assert!(why.contains("is a replica of 127.0.0.1; the log is on the master"), "{why}");
            // Nor is it the same log when it is the master again.
            log.server.must(&["REPLICAOF", "NO", "ONE"]);
            assert_eq!(Hub::connect(&log, 1).await.identify(0).await.end, 0);
        }
    });
}

#[test]
fn a_replica_that_allows_writing_is_no_log() {
    run(async {
        let master = Process::start(Program::Redis, &["--repl-diskless-sync-delay", "0"]);
        let port = master.port.to_string();
        let log =
            Redis::start(Program::Redis, &["--replicaof", &format!("127.0.0.1 {port}"), "--replica-read-only", "no"]);
        // Until then it may say that it is loading.
        log.server.wait_for_info("master_link_status", "up");
        assert!(log.refusal().await.contains("is a replica of"));
    });
}

#[test]
fn a_replica_that_lacks_the_end_has_another_log() {
    run(async {
        for program in [Program::Redis, Program::Valkey] {
            let mut log = Redis::start(program, &["--repl-diskless-sync-delay", "0"]);
            let mut hub = Hub::connect(&log, 1).await;
            for counter in 1..=5 {
                hub.append_one(counter, &heartbeat()).await;
            }
            let replica = Process::start(program, &["--replicaof", &format!("127.0.0.1 {}", log.server.port)]);
            replica.wait_for_info("master_link_status", "up");
            // A master that gets its first replica begins another history, though nothing is lost.
            hub = hub.reconnect(&log).await;
            let before = hub.identify(5).await;
            let written = log.server.info("master_repl_offset");
            let start = Instant::now();
            while replica.info("slave_repl_offset").parse::<u64>().unwrap() < written.parse().unwrap() {
                assert!(start.elapsed() < PATIENCE, "the replica does not follow");
                sleep(Duration::from_millis(20)).await;
            }
            replica.must(&["REPLICAOF", "NO", "ONE"]);
            hub = hub.reconnect(&log).await;
            for counter in 6..=9 {
                hub.append_one(counter, &heartbeat()).await;
            }
            log.server.kill();
            hub.ask(Ask::Identify { number: 0 }).await;
            end_of(hub).await;
            log.settings = settings(&replica.url(), LONG);
            let mut hub = Hub::connect(&log, 1).await;
            let after = hub.identify(5).await;
            assert_ne!(after.log, before.log);
            assert_eq!((after.end, after.entry), (5, before.entry));
            // What was lost is appended again, and what was not is recognised.
            let placed = hub.append(hub.heartbeats(5..=7)).await;
            assert_eq!(placed, [Placed::Repeated, Placed::At(6), Placed::At(7)]);
        }
    });
}
