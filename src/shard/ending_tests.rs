//! Whatever ends a connection or a poll, nothing of it stays counted.

use super::order_tests::{adopt, client, leave, shard, shard_with};
use super::pipelining_tests::{publish, subscribe, turn, UPGRADE};
use super::Shard;
use crate::framing::close::Close;
use crate::http::refusal::Refusal;
use crate::shard::connection::conn::Phase;
use crate::shard::delivery::fan_out::Subscribers;
use crate::shard::turn::command::Adopted;
use socket2::SockRef;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

const USER: &str = "ann";
const POLL: &str = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const KEPT: &str = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n";
const STREAM: &str = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
const MANY: &str = "GET /push?channel=a&channel=b&transport=sse HTTP/1.1\r\nHost: h\r\n\r\n";

struct Case {
    shard: Shard,
    client: UnixStream,
}

impl Case {
    fn new(request: &str) -> Self {
        let mut shard = shard_with(&[("max_per_user", "9"), ("outbox", "16KB")]);
        let (adopted, client) = client(Some(USER), request.as_bytes());
        shard.context.limits.connections.enter();
        shard.adopt(adopted);
        assert_eq!(shard.handle.metrics.connections.get(), 1);
        Case { shard, client }
    }

    /// How many subscriptions are counted.
    fn subscriptions(&self) -> u64 {
        let metrics = &self.shard.handle.metrics;
        [&metrics.websockets, &metrics.sse, &metrics.streams, &metrics.polls].map(|gauge| gauge.get()).iter().sum()
    }

    fn counts_no_user(&self) -> bool {
        let (users, user) = (&self.shard.context.limits.users, Arc::from(USER));
        let is_first = users.enter(&user, 9) == Some(1);
        users.leave(&user);
        is_first
    }

    fn counts_nothing(&mut self, end: &str) {
        self.shard.tell_leaves();
        let metrics = &self.shard.handle.metrics;
        let gauges = [&metrics.connections, &metrics.outboxes, &metrics.outbox_bytes].map(|gauge| gauge.get());
        assert_eq!((gauges, self.subscriptions()), ([0; 3], 0), "{end}");
        assert_eq!(self.shard.context.limits.connections.count(), 0, "{end}");
        assert_eq!(self.shard.conns.len(), 0, "{end}");
        assert!(self.counts_no_user(), "{end}");
        assert!(self.shard.questions.open.is_empty(), "{end}");
        assert_eq!(self.shard.context.inboxes.bytes(), 0, "{end}");
    }
}

type End = fn(&mut Case);

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn whatever_ends_a_connection_nothing_of_it_stays_counted() {
    let ends: [(&str, End); 7] = [
        ("the client ends it", |case| {
            case.client.shutdown(std::net::Shutdown::Both).unwrap();
            turn(&mut case.shard);
        }),
        ("the host closes it", |case| {
            case.shard.close(0, Close::NOT_ALLOWED);
            case.client.shutdown(std::net::Shutdown::Both).unwrap();
            turn(&mut case.shard);
        }),
        ("a write finds the peer gone", |case| {
            let gone = std::mem::replace(&mut case.client, UnixStream::pair().unwrap().0);
            leave(&gone);
            drop(gone);
            publish(&case.shard.context.hub, "a", 1);
            case.shard.deliver();
            case.shard.settle_fates();
            if !case.shard.conns.is_empty() {
                turn(&mut case.shard);
            }
        }),
        ("its time is over", |case| {
            case.shard.close(0, Close::NOT_ALLOWED);
            for _ in 0..100 {
                case.shard.turn.now += 1000;
                case.shard.run_timers();
            }
        }),
        ("it reads too slowly", |case| {
            for _ in 0..200 {
                publish(&case.shard.context.hub, "a", 10_000);
            }
            while case.shard.deliver() {}
            case.shard.drop_all();
        }),
        ("a drain", |case| case.shard.drop_all()),
        ("a panic", |case| case.shard.recover()),
    ];
    for request in [POLL, KEPT, STREAM, MANY, "GET /push", "nonsense\r\n\r\n"] {
        for (name, end) in ends {
            let mut case = Case::new(request);
            end(&mut case);
            case.counts_nothing(&format!("{name}: {request}"));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn an_answered_poll_is_not_counted_though_its_connection_stays() {
    let mut case = Case::new(KEPT);
    for round in 0..3 {
        assert_eq!(case.subscriptions(), 1, "round {round}");
        assert!(!case.counts_no_user());
        publish(&case.shard.context.hub, "a", 1);
        turn(&mut case.shard);
        assert_eq!(case.subscriptions(), 0, "round {round}");
        assert!(case.counts_no_user());
        let len = case.client.read(&mut [0; 4096]).unwrap();
        assert!(len > 0);
        case.client.write_all(KEPT.as_bytes()).unwrap();
        turn(&mut case.shard);
    }
    case.shard.drop_all();
    case.counts_nothing("after three polls");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_request_that_waits_at_a_path_of_its_host_is_refused_in_the_form_of_its_client() {
    let mut shard = shard();
    // The host has routed it here. What it waits for does not matter.
    let head = b"GET /live?channel=a HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n";
    let mut theirs = adopt(&mut shard, head);
    let conn = &mut shard.conns[0];
    conn.phase = Phase::Asked;
    conn.received.unread = Some(Box::new([&head[..], b"\r\n"].concat()));
    shard.refuse_asked(0, &Refusal::unavailable("behind", "it waits"));
    shard.turn(&[]);
    let mut answer = vec![0; 4096];
    let len = theirs.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("event: push-close"), "{answer}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_close_of_a_connection_never_waits_for_its_client() {
    let mut shard = shard();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let kept = ours.try_clone().unwrap();
    // Old servers have it on their listeners.
    let linger = || socket2::SockRef::from(&kept).linger().unwrap();
    socket2::SockRef::from(&kept).set_linger(Some(std::time::Duration::from_secs(30))).unwrap();
    assert!(linger().is_some());
    let (adopted, _) = client(None, b"GET /push?channel=a HTTP/1.1\r\n");
    shard.adopt(Adopted { fd: ours.into(), ..adopted });
    assert_eq!(linger(), None);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_that_is_too_slow_while_its_request_is_done_gets_the_last_words() {
    let mut shard = shard_with(&[("outbox", "16KB")]);
    let (adopted, mut client) = client(None, UPGRADE.replace("/push", "/push?channel=a").as_bytes());
    SockRef::from(&adopted.fd).set_send_buffer_size(4096).unwrap();
    shard.adopt(adopted);
    // To subscribe is to be given what waits, and that is more than may wait.
    (0..3).for_each(|_| publish(&shard.context.hub, "a", 100_000));
    client.write_all(&subscribe()).unwrap();
    turn(&mut shard);
    client.set_nonblocking(true).unwrap();
    let mut told = Vec::new();
    let mut ended = false;
    while !ended {
        turn(&mut shard);
        // An error says that there is no more yet.
        ended = client.read_to_end(&mut told).is_ok();
    }
    let close = told.iter().rposition(|byte| *byte == 0x88).expect("a close frame");
    assert_eq!(told[close + 2..close + 4], 4429u16.to_be_bytes());
    assert_eq!(told.len(), close + 2 + usize::from(told[close + 1]));
}
