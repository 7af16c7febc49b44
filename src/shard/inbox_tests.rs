//! Clients that send parts of messages and requests. The server counts what it keeps, bounds it, and lets go of it in
//! every way in which a connection can end. A message has its time, whatever comes in between.

use super::order_tests::{adopt, client, shard_with};
use super::pipelining_tests::{turn, UPGRADE};
use super::Shard;
use crate::framing::close::Close;
use crate::framing::Transport;
use crate::fuzzing::random::Random;
use crate::metrics::Reason;
use crate::shard::connection::conn::{Flags, Phase};
use crate::sys::clock;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];

/// A shard that keeps so many bytes in all.
pub(super) fn shard(inbox_total: usize) -> Shard {
    let mut shard = shard_with(&[("client_rate", "0"), ("poll_timeout", "1h"), ("heartbeat", "1h")]);
    let mut config = (*shard.config).clone();
    config.inbox_total = inbox_total;
    shard.config = Arc::new(config);
    shard
}

/// A frame of a client; `first` has its bits and its kind.
fn frame(first: u8, size: usize) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 126];
    frame.extend((size as u16).to_be_bytes());
    frame.resize(8 + size, 0);
    frame
}

/// The beginning of a binary message, more of it, and its end.
const BEGIN: u8 = 0x02;
const MORE: u8 = 0x00;
const END: u8 = 0x80;

pub(super) fn websocket(shard: &mut Shard) -> UnixStream {
    adopt(shard, UPGRADE.replace("/push ", "/push?channel=a ").replace("push.v1.json", "raw").as_bytes())
}

pub(super) fn phases(shard: &Shard) -> Vec<Phase> {
    shard.conns.iter().map(|(_, conn)| conn.phase).collect()
}

pub(super) const OPEN: Phase = Phase::Open(Transport::WebSocket);

/// Reads everything that has come so far.
pub(super) fn read(client: &mut UnixStream) -> String {
    client.set_nonblocking(true).unwrap();
    let mut bytes = vec![0; 65536];
    let len = client.read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// Sends, and has the shard read it, at a time that the test says.
fn send(shard: &mut Shard, index: u32, client: &mut UnixStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    shard.readable(index, false);
    shard.check_inbox();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_largest_goes_first_and_the_others_stay() {
    let mut shard = shard(20_000);
    let sizes = [1_000, 9_000, 3_000, 4_000];
    let mut clients = sizes.map(|size| {
        let mut client = websocket(&mut shard);
        client.write_all(&frame(BEGIN, size)).unwrap();
        turn(&mut shard);
        client
    });
    assert_eq!(phases(&shard), [OPEN; 4]);
    let mut last = websocket(&mut shard);
    last.write_all(&frame(BEGIN, 5_000)).unwrap();
    turn(&mut shard);
    assert_eq!(phases(&shard), [OPEN, Phase::Closing, OPEN, OPEN, OPEN]);
    let told = read(&mut clients[1]);
    assert!(
        told.contains(
            "all clients together have sent too many bytes of unfinished messages and requests (option inbox_total)"
        ),
        "{told}"
    );
    assert_eq!(shard.handle.metrics.refusals[Reason::InboxTotal].get(), 1);
    // The end of a message is taken as ever.
    let [first, _, third, fourth] = &mut clients;
    for client in [first, third, fourth, &mut last] {
        client.write_all(&frame(END, 10)).unwrap();
    }
    turn(&mut shard);
    assert_eq!(shard.handle.metrics.received.get(), 4);
    assert_eq!(shard.context.inboxes.bytes(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn requests_are_told_to_come_back_each_in_its_way() {
    let poll = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n";
    let half_of = |line: &str| format!("{poll}{line}Cookie: {}", "c".repeat(2000));
    let early = format!("{poll}\r\n{}", half_of(""));
    for (request, status, says) in [
        (half_of(""), "HTTP/1.1 503 ", r#""code":"inbox_total""#),
        (half_of(""), "HTTP/1.1 503 ", "\r\nRetry-After: "),
        (half_of("Accept: text/event-stream\r\n"), "HTTP/1.1 200 ", "event: push-close"),
        // The poll is answered, and the connection ends. The early request has to be sent again.
        (early, "HTTP/1.1 200 ", "\r\nConnection: close"),
    ] {
        let mut shard = shard(2_500);
        let mut client = adopt(&mut shard, request.as_bytes());
        turn(&mut shard);
        assert_eq!(read(&mut client), "", "it is alone");
        let mut second = websocket(&mut shard);
        second.write_all(&frame(BEGIN, 1_000)).unwrap();
        turn(&mut shard);
        let told = read(&mut client);
        assert!(told.starts_with(status) && told.contains(says), "{request}: {told}");
        assert_eq!(shard.handle.metrics.refusals[Reason::InboxTotal].get(), 1, "{request}");
        assert_eq!(phases(&shard), [Phase::Closing, OPEN]);
        shard.check_inbox();
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn requests_about_which_the_host_is_asked_count_too() {
    let mut shard = shard(2_500);
    let mut config = (*shard.config).clone();
    config.auth = crate::config::Auth::Host;
    shard.config = Arc::new(config.clone());
    shard.context.set_authority(crate::auth::Authority::new(&config).unwrap());
    shard.context.events.want();
    let ask = |shard: &mut Shard, size: usize| {
        let (adopted, mut socket) = client(None, b"");
        shard.accepted(adopted.fd);
        let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: h\r\nCookie: {}\r\n\r\n", "c".repeat(size));
        socket.write_all(head.as_bytes()).unwrap();
        turn(shard);
        socket
    };
    let mut large = ask(&mut shard, 2_000);
    assert_eq!(phases(&shard), [Phase::Asked]);
    let _small = ask(&mut shard, 500);
    assert_eq!(phases(&shard), [Phase::Closing, Phase::Asked]);
    assert!(read(&mut large).contains(r#""code":"inbox_total""#));
    assert_eq!(shard.questions.open.len(), 1, "the host's answer finds nobody");
}

/// Lets time pass, with a ping of the client each second.
fn wait(shard: &mut Shard, client: &mut UnixStream, seconds: u64) {
    for _ in 0..seconds {
        shard.turn.now += 1000;
        shard.run_timers();
        if phases(shard) == [OPEN] {
            send(shard, 0, client, &PING);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_message_has_its_time_and_pings_do_not_extend_it() {
    for part in [&frame(BEGIN, 100)[..], &frame(0x82, 100)[..50], &[0x82]] {
        let mut shard = shard(1 << 20);
        let mut client = websocket(&mut shard);
        send(&mut shard, 0, &mut client, part);
        // A ping can't stand within a frame.
        let whole_frames = part.len() == 108;
        for second in 0..60 {
            assert_eq!(phases(&shard), [OPEN], "after {second} s");
            assert_eq!(shard.side.limits.inbox.next_in(shard.turn.now, 60_000), Some(60_000 - 1000 * second));
            if whole_frames {
                wait(&mut shard, &mut client, 1);
            } else {
                shard.turn.now += 1000;
                shard.run_timers();
            }
        }
        assert_eq!(phases(&shard), [Phase::Closing]);
        let told = read(&mut client);
        assert!(told.contains("a message did not come in time (option message_timeout)"), "{told}");
        assert_eq!(shard.handle.metrics.refusals[Reason::MessageTimeout].get(), 1);
        assert_eq!(shard.context.inboxes.bytes(), 0);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_next_message_has_a_time_of_its_own() {
    let mut shard = shard(1 << 20);
    let mut client = websocket(&mut shard);
    send(&mut shard, 0, &mut client, &frame(BEGIN, 100));
    for _ in 0..5 {
        wait(&mut shard, &mut client, 50);
        // The end of one and the beginning of the next come together, so something is kept all the time.
        send(&mut shard, 0, &mut client, &[frame(MORE, 5), frame(END, 10), frame(BEGIN, 100)].concat());
    }
    assert_eq!((phases(&shard), shard.handle.metrics.received.get()), (vec![OPEN], 5));
    wait(&mut shard, &mut client, 60);
    assert_eq!(phases(&shard), [Phase::Closing]);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_that_is_not_read_because_of_the_host_has_its_time_anew() {
    let mut shard = shard(1 << 20);
    let mut client = websocket(&mut shard);
    send(&mut shard, 0, &mut client, &frame(BEGIN, 100));
    shard.pause(0);
    for _ in 0..10 {
        shard.turn.now += 61_000;
        shard.end_late_messages();
    }
    assert_eq!(phases(&shard), [OPEN]);
    shard.turn.now += 59_000;
    shard.resume_paused();
    shard.turn.now += 59_000;
    shard.end_late_messages();
    assert_eq!(phases(&shard), [OPEN]);
    shard.turn.now += 1_000;
    shard.end_late_messages();
    assert_eq!(phases(&shard), [Phase::Closing]);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn nothing_is_counted_any_more_however_it_ends() {
    type End = fn(&mut Shard, &mut UnixStream);
    let ends: [End; 9] = [
        |shard, client| send(shard, 0, client, &frame(END, 10)),
        |shard, client| send(shard, 0, client, &[0x88, 0x80, 0, 0, 0, 0]),
        |shard, client| send(shard, 0, client, &frame(0xff, 10)),
        |shard, client| {
            client.shutdown(std::net::Shutdown::Both).unwrap();
            shard.readable(0, true);
        },
        |shard, _| shard.close(0, Close::NOT_ALLOWED),
        |shard, _| shard.drop_conn(0),
        |shard, _| {
            shard.begin_drain(clock::monotonic_ms());
            turn(shard);
        },
        |shard, _| shard.drop_all(),
        |shard, _| shard.recover(),
    ];
    let half = b"GET /push?channel=a HTTP/1.1\r\nHo";
    let poll = b"GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n";
    for (number, end) in ends.into_iter().enumerate() {
        for begin in 0..3 {
            let mut shard = shard(1 << 20);
            let mut client = match begin {
                0 => websocket(&mut shard),
                1 => adopt(&mut shard, half),
                _ => adopt(&mut shard, &[&poll[..], half].concat()),
            };
            if begin == 0 {
                send(&mut shard, 0, &mut client, &frame(BEGIN, 1000));
            } else if number < 3 {
                // The first three ways are frames.
                continue;
            }
            shard.check_inbox();
            assert!(shard.context.inboxes.bytes() > 0, "{begin}");
            end(&mut shard, &mut client);
            shard.check_inbox();
            assert_eq!(shard.context.inboxes.bytes(), 0, "way {number}, {begin}: {:?}", phases(&shard));
        }
    }
}

/// Many clients that send parts of any size, finish some, and go.
#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_bound_holds_whatever_they_send() {
    const TOTAL: usize = 30_000;
    let mut gave_way = 0;
    for seed in 1..300 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (seed << 17));
        let mut shard = shard(TOTAL);
        let mut clients: Vec<(UnixStream, bool)> = Vec::new();
        for _ in 0..200 {
            let some = random.below(clients.len().max(1));
            match random.below(10) {
                0 | 1 if clients.len() < 20 => {
                    let client = match random.below(4) {
                        0 => adopt(&mut shard, &UPGRADE.as_bytes()[..100]),
                        _ => websocket(&mut shard),
                    };
                    client.set_nonblocking(true).unwrap();
                    clients.push((client, false));
                }
                2 if !clients.is_empty() => drop(clients.swap_remove(some)),
                3 if !shard.conns.is_empty() => {
                    let index = shard.conns.iter().nth(random.below(shard.conns.len())).map(|(index, _)| index);
                    shard.close(index.unwrap() as u32, Close::NOT_ALLOWED);
                }
                4..=7 if !clients.is_empty() => {
                    let (client, under_way) = &mut clients[some];
                    let bytes = match (random.below(5), *under_way) {
                        (0, _) => PING.to_vec(),
                        (1, true) => frame(END, random.below(500)),
                        (_, true) => frame(MORE, random.below(4000)),
                        (_, false) => frame(BEGIN, random.below(4000)),
                    };
                    *under_way = bytes[0] != END && (*under_way || bytes[0] == BEGIN);
                    // It may have been closed, and its socket may be full.
                    let _ = client.write(&bytes);
                }
                _ => {
                    turn(&mut shard);
                    shard.check_inbox();
                    let one = shard
                        .conns
                        .iter()
                        .filter(|(_, conn)| conn.received.unread.is_some() || conn.received.partial.is_some());
                    assert!(shard.context.inboxes.bytes() <= TOTAL || one.count() == 1, "seed {seed}");
                }
            }
        }
        gave_way += shard.handle.metrics.refusals[Reason::InboxTotal].get();
        drop(clients);
        while !phases(&shard).is_empty() {
            turn(&mut shard);
        }
        shard.check_inbox();
        assert_eq!(shard.context.inboxes.bytes(), 0);
    }
    assert!(gave_way > 100, "this is about those that give way: {gave_way}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_that_the_library_does_not_read_from_is_not_late() {
    for reason in [Flags::PAUSED, Flags::HELD, Flags::THROTTLED] {
        let mut shard = shard(1 << 20);
        let mut client = websocket(&mut shard);
        send(&mut shard, 0, &mut client, &frame(BEGIN, 100));
        shard.conns[0].flags.insert(reason);
        shard.turn.now += 120_000;
        shard.end_late_messages();
        assert_eq!(phases(&shard), [OPEN], "{reason:?}");
        shard.conns[0].flags.remove(reason);
        shard.end_late_messages();
        assert_eq!(phases(&shard), [OPEN], "its time begins anew");
        shard.turn.now += 60_000;
        shard.end_late_messages();
        assert_eq!(phases(&shard), [Phase::Closing]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_shard_that_is_asked_closes_its_largest_client() {
    let mut shard = shard(10_000);
    let mut client = websocket(&mut shard);
    send(&mut shard, 0, &mut client, &frame(BEGIN, 9_000));
    assert!(!shard.conns[0].is(Flags::PAUSED));
    // As if another shard had come to keep much, and had asked this one.
    let inboxes = crate::limits::Inboxes::new(2, Box::new(|_| {}));
    let context = Arc::get_mut(&mut shard.context).expect("nobody else has it");
    context.inboxes = inboxes;
    shard.context.inboxes.set(0, 9_500, 9_500);
    shard.context.inboxes.set(1, 2_000, 1_000);
    shard.make_room();
    assert_eq!(phases(&shard), [Phase::Closing]);
    assert!(read(&mut client).contains("inbox_total"));
    shard.make_room();
    assert_eq!(shard.context.inboxes.bytes(), 2_000);
}
