//! When a log becomes another one: whenever entries may have been lost, and for every open connection at once.

use super::*;
use crate::engine::contract::{Ask, EntryId, Identity, LogId, Placed, Tailed};
use crate::engine::shared::contract_tests::{heartbeat, run};

/// A log with some entries and a fence, and a hub that follows it.
async fn filled(program: Program, arguments: &[&str]) -> (Redis, Hub, Identity) {
    let log = Redis::start(program, arguments);
    let mut hub = Hub::connect(&log, 1).await;
    hub.ask(Ask::Tail { after: 0 }).await;
    for counter in 1..=5 {
        hub.append_one(counter, &heartbeat()).await;
    }
    assert!(hub.fence(0, "fence").await.0);
    hub.append_one(6, &heartbeat()).await;
    let identity = hub.identify(7).await;
    assert_eq!((identity.first, identity.end), (1, 7));
    (log, hub, identity)
}

async fn now(log: &Redis, number: u64) -> Identity {
    Hub::connect(log, 2).await.identify(number).await
}

async fn is_empty(log: &Redis, before: LogId) {
    let identity = now(log, 1).await;
    assert_ne!(identity.log, before);
    assert_eq!((identity.entry, identity.end + 1), (None, identity.first));
}

#[test]
fn a_server_that_restarts_empty_has_another_log() {
    run(async {
        let (mut log, hub, before) = filled(Program::Redis, &[]).await;
        log.server.restart();
        end_of(hub).await;
        is_empty(&log, before.log).await;
        assert_eq!(now(&log, 0).await.fence, None);
    });
}

#[test]
fn a_server_that_restarts_with_all_it_had_has_another_log_too() {
    run(async {
        for program in [Program::Redis, Program::Valkey] {
            let arguments = ["--appendonly", "yes", "--appendfsync", "always"];
            let (mut log, hub, before) = filled(program, &arguments).await;
            log.server.restart();
            end_of(hub).await;
            let after = now(&log, 7).await;
            assert_ne!(after.log, before.log, "nobody can know that nothing was lost");
            assert_eq!((after.first, after.end, after.entry), (before.first, before.end, before.entry));
            assert_eq!(after.fence, before.fence);
            let mut hub = Hub::connect(&log, 1).await;
            let placed = hub.append(hub.heartbeats([5, 6, 7])).await;
            assert_eq!(placed, [Placed::Repeated, Placed::Repeated, Placed::At(8)]);
        }
    });
}

#[test]
fn a_log_that_is_deleted_as_a_whole_is_made_anew() {
    run(async {
        for words in [&["FLUSHALL"][..], &["DEL", "{push}:log", "{push}:state", "{push}:hubs", "{push}:keys"]] {
            let (log, hub, before) = filled(Program::Redis, &[]).await;
            log.server.must(words);
            let why = end_of(hub).await;
            assert!(why.contains("was replaced by another log"), "{why}");
            is_empty(&log, before.log).await;
        }
    });
}

#[test]
fn a_stream_that_is_deleted_is_another_log_and_gives_no_number_again() {
    run(async {
        for words in [&["DEL", "{push}:log"][..], &["RENAME", "{push}:log", "{push}:elsewhere"]] {
            let (log, hub, before) = filled(Program::Redis, &[]).await;
            log.server.must(words);
            end_of(hub).await;
            is_empty(&log, before.log).await;
            let mut hub = Hub::connect(&log, 1).await;
            assert_eq!(hub.identify(0).await.fence, before.fence, "the last fence is still known");
            assert_eq!(hub.append(hub.heartbeats([6])).await, [Placed::At(8)], "what it had is forgotten");
        }
    });
}

#[test]
fn what_is_remembered_of_hubs_or_keys_is_as_durable_as_the_entries() {
    run(async {
        for key in ["{push}:hubs", "{push}:keys"] {
            let (log, hub, before) = filled(Program::Redis, &[]).await;
            log.server.must(&["DEL", key]);
            end_of(hub).await;
            let after = now(&log, 7).await;
            assert_ne!(after.log, before.log, "{key}");
            assert_eq!((after.end, after.entry, after.fence), (before.end, before.entry, before.fence));
        }
    });
}

#[test]
fn an_older_stream_in_the_place_of_the_log_is_another_log() {
    run(async {
        let (log, mut hub, before) = filled(Program::Redis, &[]).await;
        log.server.must(&["COPY", "{push}:log", "{push}:old"]);
        let mut keyed = hub.entry(7, &heartbeat());
        keyed.key = "late".into();
        assert_eq!(hub.append(vec![keyed.clone()]).await, [Placed::At(8)]);
        hub.append_one(8, &heartbeat()).await;
        log.server.must(&["RENAME", "{push}:old", "{push}:log"]);
        end_of(hub).await;
        let after = now(&log, 7).await;
        assert_ne!(after.log, before.log);
        assert_eq!((after.end, after.entry), (7, before.entry));
        // What was lost may be appended again.
        let mut hub = Hub::connect(&log, 1).await;
        assert_eq!(hub.append(vec![keyed]).await, [Placed::At(8)]);
    });
}

#[test]
fn a_dump_that_is_restored_over_everything_ends_the_tails() {
    run(async {
        let (log, mut hub, before) = filled(Program::Redis, &[]).await;
        let parts = ["log", "state", "hubs", "keys"];
        for part in parts {
            log.server.must(&["COPY", &format!("{{push}}:{part}"), &format!("{{push}}:old-{part}")]);
        }
        for counter in 7..=9 {
            hub.append_one(counter, &heartbeat()).await;
        }
        hub.tailed_to(10).await;
        let all_at_once =
            "for _, part in ipairs(ARGV) do redis.call('RENAME', '{push}:old-' .. part, '{push}:' .. part) end";
        log.server.must(&[&["EVAL", all_at_once, "0"][..], &parts].concat());
        let why = end_of(hub).await;
        assert!(why.contains("ends at 7, and was read up to 10"), "{why}");
        // A hub that connects compares the entries.
        assert_eq!(now(&log, 10).await.entry, None);
        assert_eq!(now(&log, 7).await.entry, before.entry);
    });
}

/// As after two failovers within a second: the server is a master again, and has entries that were appended elsewhere.
#[test]
fn a_tail_takes_no_entry_of_another_life() {
    run(async {
        let (log, mut hub, _) = filled(Program::Redis, &[]).await;
        let strange = "redis.call('XADD', '{push}:log', ARGV[1] .. '-0', 'e' .. string.rep('0', 16), 'bytes') \
                       redis.call('HSET', '{push}:state', 'end', ARGV[1], 'length', ARGV[1])";
        hub.tailed_to(7).await;
        // One that is there when the tail looks passes, as all that was there before: the tail can't know better.
        for number in 8..1000 {
            log.server.must(&["EVAL", strange, "0", &number.to_string()]);
            let all = async { while hub.connection.tail.recv().await.is_some() {} };
            if tokio::time::timeout(Duration::from_millis(100), all).await.is_ok() {
                break;
            }
        }
        let why = end_of(hub).await;
        assert!(why.contains("was replaced by another log"), "{why}");
    });
}

#[test]
fn entries_that_others_have_trimmed_are_missing_by_their_numbers() {
    run(async {
        let (log, hub, before) = filled(Program::Redis, &[]).await;
        log.server.must(&["XTRIM", "{push}:log", "MAXLEN", "2"]);
        end_of(hub).await;
        let mut hub = Hub::connect(&log, 1).await;
        let after = hub.identify(5).await;
        assert_eq!((after.log, after.first, after.end, after.entry), (before.log, 6, 7, None));
        assert_eq!(after.fence, before.fence);
        hub.ask(Ask::Tail { after: 3 }).await;
        let fence = before.fence.unwrap().1.id();
        let expected = [(6, fence), (7, EntryId { hub: 1, counter: 6, attempt: 1 })];
        assert_eq!(hub.tailed_to(7).await, expected);
        assert_eq!(hub.append(hub.heartbeats([6, 7])).await, [Placed::Repeated, Placed::At(8)]);
    });
}

#[test]
fn an_entry_that_somebody_deleted_in_the_middle_is_missing_by_its_number() {
    run(async {
        let (log, hub, before) = filled(Program::Redis, &[]).await;
        log.server.must(&["XDEL", "{push}:log", "3-0"]);
        end_of(hub).await;
        let mut hub = Hub::connect(&log, 1).await;
        let after = hub.identify(3).await;
        assert_eq!((after.log, after.entry, after.end), (before.log, None, 7));
        hub.ask(Ask::Tail { after: 1 }).await;
        let items = hub.tailed(2).await;
        assert!(matches!(items[..2], [Tailed::Entry { number: 2, .. }, Tailed::Entry { number: 4, .. }]), "{items:?}");
    });
}
