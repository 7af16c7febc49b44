//! What time brings, with clocks that are set.

use super::order_tests::{adopt, shard, shard_with};
use super::pipelining_tests::{publish, subscribe, turn, UPGRADE};
use super::sink_tests::put_masked;
use super::Shard;
use crate::grant::Grant;
use crate::shard::connection::conn::Phase;
use crate::shard::turn::run::Next;
use crate::sys::clock;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

const STREAM: &[u8] = b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";

fn phases(shard: &Shard) -> Vec<Phase> {
    shard.conns.iter().map(|(_, conn)| conn.phase).collect()
}

/// What has come so far.
fn read(client: &mut UnixStream) -> String {
    client.set_nonblocking(true).unwrap();
    let mut bytes = vec![0; 4096];
    let len = client.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_grant_ends_soon_after_the_clock_was_set_however_long_the_heartbeat() {
    let mut shard = shard();
    let mut config = (*shard.config).clone();
    config.heartbeat_ms = 24 * 3_600_000;
    shard.config = Arc::new(config);
    let mut client = adopt(&mut shard, STREAM);
    let ends = |at| Arc::new(Grant::new(Some("ann"), &[], &["*".into()], at, false, true).unwrap());
    let (index, _) = shard.conns.iter().next().unwrap();
    let in_an_hour = clock::unix_seconds() + 3600;
    shard.conns[index].grant = Some(ends(in_an_hour));
    shard.schedule(index as u32, 24 * 3_600_000);
    for _ in 0..100 {
        shard.turn.now += 1000;
        shard.run_timers();
    }
    assert!(matches!(phases(&shard)[..], [Phase::Open(_)]), "its hour is not over");
    // As if the clock had been set: now is later than the grant's end.
    shard.conns[index].grant = Some(ends(in_an_hour - 2 * 3600));
    for _ in 0..11 {
        shard.turn.now += 1000;
        shard.run_timers();
    }
    assert_eq!(phases(&shard), [Phase::Closing]);
    assert!(read(&mut client).contains(r#""code":4403"#));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_drain_does_not_wait_for_who_has_all_it_can_get() {
    let mut shard = shard();
    let mut client = adopt(&mut shard, STREAM);
    shard.turn(&[]);
    let began = shard.turn.now;
    shard.begin_drain(began + 600_000);
    // Nobody reads. Less than a moment, in the shard's time.
    for _ in 0..3 {
        shard.go_on_draining(false);
        shard.turn.now += 100;
    }
    assert!(shard.conns.is_empty() && shard.shutdown.due_in(shard.turn.now).is_none(), "{:?}", phases(&shard));
    assert!(read(&mut client).contains(r#""code":1001"#));
}

/// A client with TLS, as it were, and a socket that is full. The rest of a record waits, and no outbox does.
fn held(shard: &mut Shard) -> UnixStream {
    let client = adopt(shard, STREAM);
    put_masked(shard);
    while shard.side.sinks.held(0, None) == 0 {
        shard.side.sinks.write(0, None, &[b'x'; 1000]).unwrap();
    }
    assert!(shard.conns[0].outbox.is_none());
    client
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_that_takes_the_rest_of_its_last_record_slowly_has_its_time_for_that() {
    let mut shard = shard();
    let mut client = held(&mut shard);
    shard.conns[0].phase = Phase::Closing;
    let close_timeout_ms = shard.config.close_timeout_ms;
    shard.schedule(0, close_timeout_ms);
    let time_passes = |shard: &mut Shard| {
        for _ in 0..=close_timeout_ms / 100 {
            shard.turn.now += 100;
            shard.run_timers();
        }
    };
    for _ in 0..3 {
        time_passes(&mut shard);
        assert_eq!(phases(&shard), [Phase::Closing]);
        // It takes something, and the next record waits in the same way.
        client.read_exact(&mut [0; 50_000]).unwrap();
        shard.writable(0);
        while shard.side.sinks.held(0, None) == 0 {
            shard.side.sinks.write(0, None, &[b'x'; 1000]).unwrap();
        }
    }
    time_passes(&mut shard);
    time_passes(&mut shard);
    assert_eq!(phases(&shard), [], "it takes nothing any more");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_drain_waits_for_the_rest_of_a_record() {
    let mut shard = shard();
    let mut client = held(&mut shard);
    shard.conns[0].phase = Phase::Closing;
    let began = shard.turn.now;
    shard.begin_drain(began + 600_000);
    for _ in 0..20 {
        shard.go_on_draining(false);
        shard.turn.now += 100;
    }
    assert_eq!(phases(&shard), [Phase::Closing]);
    client.set_nonblocking(true).unwrap();
    while shard.side.sinks.held(0, None) > 0 {
        let _ = client.read(&mut [0; 65_536]);
        shard.writable(0);
    }
    shard.go_on_draining(false);
    assert!(shard.conns.is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_message_that_comes_while_a_poll_times_out_does_not_wait_for_a_later_wake_up() {
    let mut shard = shard_with(&[("poll_timeout", "100ms")]);
    let mut witness = adopt(&mut shard, b"GET /push?channel=b&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n");
    let poll = b"GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n";
    let _early = adopt(&mut shard, &[&poll[..], UPGRADE.as_bytes(), &subscribe()].concat());
    shard.subscriptions.meanwhile = Some(|hub| publish(hub, "b", 1));
    for _ in 0..1000 {
        std::thread::sleep(Duration::from_millis(10));
        let next = turn(&mut shard);
        if shard.subscriptions.meanwhile.is_none() {
            assert_eq!(next, Next::Again);
            turn(&mut shard);
            return assert!(read(&mut witness).contains(r#""channel":"b""#));
        }
    }
    panic!("the poll's time was never over");
}
