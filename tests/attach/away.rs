//! One side goes away, hangs, or comes back: what happens to messages, calls and clients that were under way.

use super::{attached, hub, pair, path, publish, websocket};
use crate::common::proxy::Proxy;
use crate::common::{builder, field, until, Host, PATIENCE, UPGRADE};
use push::error::Kind;
use push::events::EventKind;
use push::grant::Grant;
use push::hub::Publication;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn a_late_answer_does_not_let_in_a_client_of_the_next_hub() {
    let path = path();
    let options = [("auth", "host"), ("threads", "1")];
    let first = hub(&path, &options);
    let host = attached(&path, &[]);
    host.event_fd().unwrap();
    host.stats().unwrap();
    let asks = |hub: &Host| {
        let client = hub.get("channel=a", UPGRADE);
        let event = loop {
            let event = host.next_event(Some(PATIENCE)).unwrap();
            if event.kind == EventKind::Request {
                break event;
            }
        };
        (client, event.request)
    };
    let grant = |user: &str| Grant::new(Some(user), &[], &["*".into()], 0, false, false).unwrap();
    let (_, late) = asks(&first);
    first.stop();
    let second = hub(&path, &options);
    // The second hub answers. It has got the request for events before; but not if that was on its way to the
    // first.
    until("the second hub answers", || host.stats().is_ok());
    let (mut client, request) = asks(&second);
    host.allow(late, grant("late")).unwrap();
    host.allow(request, grant("ann")).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let event = host.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((event.kind, event.user.as_deref()), (EventKind::Open, Some("ann")));
}

#[test]
fn a_hub_that_comes_back_gets_each_message_of_the_meantime_once() {
    let path = path();
    let first = hub(&path, &[]);
    let host = attached(&path, &[]);
    let before = publish(&host, "a", "before");
    first.stop();
    for n in 0..100 {
        host.post(&Publication::new("a", n.to_string().as_bytes())).unwrap();
    }
    let second = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&host, "a", "waited for"));
        std::thread::sleep(Duration::from_millis(50));
        let second = hub(&path, &[]);
        assert!(waiting.join().unwrap().ends_with("-101"));
        second
    });
    let mut client = second.get(&format!("channel=a&since={before}"), "");
    let (_, body) = client.response();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(field(&messages[0].to_string(), "type"), "gap", "another life of the hub");
    let data: Vec<_> = messages[1..].iter().map(|message| message["data"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = (1..100).map(|n| n.to_string()).chain(["waited for".into()]).collect();
    // The default history has 100 messages, so "0" does not fit.
    assert_eq!(data, expected);
    assert_eq!(host.stats().unwrap().published, 101);
    host.stop(Duration::from_secs(5));
}

#[test]
fn while_the_hub_is_away_calls_answer_in_time() {
    let path = path();
    let host = attached(&path, &[("attach_timeout", "100ms"), ("attach_buffer", "64KB")]);
    let start = Instant::now();
    assert_eq!(host.publish(&Publication::new("a", b"x")).unwrap_err().kind(), Kind::Busy);
    assert_eq!(host.stats().unwrap_err().kind(), Kind::Busy);
    assert!(start.elapsed() < PATIENCE / 2);
    let payload = [b'x'; 1000];
    let posted = (0..).take_while(|_| host.post(&Publication::new("a", &payload)).is_ok()).count();
    assert!((50..70).contains(&posted), "{posted}");
    let (one, _other) = UnixStream::pair().unwrap();
    let (error, mut fd) = host.adopt(one.into(), b"", None).unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    // The descriptor is still the caller's, and open.
    fd = UnixStream::from(fd).into();
    drop(fd);
    let hub = hub(&path, &[]);
    until("what waited is published", || hub.server.stats().unwrap().published == posted as u64);
    host.stop(Duration::from_secs(5));
}

#[test]
fn clients_that_wait_for_a_hub_are_told_to_come_back() {
    let path = path();
    let hub = hub(&path, &[]);
    let host = attached(&path, &[]);
    publish(&host, "a", "it is there");
    hub.stop();
    let heads = [
        "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".to_owned(),
        format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n"),
        // This client is of another page, and the host has not read its request to the end.
        "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\nAccept: text/event-stream\r\n\r\n"
            .to_owned(),
        "GET /push?chann".to_owned(),
    ];
    let mut clients = Vec::new();
    let mut busy = 0;
    for n in 0..600 {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (read, unread) = heads[n % 5].split_at(if n % 5 == 3 { 20 } else { heads[n % 5].len() });
        ours.write_all(unread.as_bytes()).unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        match host.adopt(theirs.into(), read.as_bytes(), None) {
            Ok(()) => clients.push((n % 5, ours)),
            Err((error, _)) => {
                assert_eq!(error.kind(), Kind::Busy);
                busy += 1;
            }
        }
    }
    // The host has to answer clients that do not fit.
    assert!(busy >= 88, "{busy}");
    assert!(!clients.is_empty());
    // All were handed over before the hub has been away for long enough, however slow the machine is. Now it has.
    host.reload(&builder(&[("attach", &path), ("attach_timeout", "500ms")])).unwrap();
    for (kind, mut client) in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        if kind == 1 || kind == 3 {
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("\r\nContent-Type: text/event-stream\r\n"), "{answer}");
            assert!(answer.contains("\r\n\r\nretry: ") && answer.contains("event: push-close\n"), "{answer}");
            assert_eq!(answer.contains("Access-Control-Allow-Origin: https://app.example\r\n"), kind == 3, "{answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "), "{answer}");
        }
    }
}

#[test]
fn clients_of_a_hub_that_is_there_wait_for_their_host_and_are_not_refused() {
    let path = path();
    let hub = Arc::new(hub(&path, &[]));
    // No connection may wait for a hub that can't be reached.
    let host = Arc::new(attached(&path, &[("attach_timeout", "0")]));
    host.post(&Publication::new("other", b"x")).unwrap();
    until("it is attached", || hub.server.stats().unwrap().published > 0);
    // Each answer to another thread is a turn of the attach thread. In each turn it checks the connections that wait.
    // Messages that the hub has not read yet could fill the socket. Then the hub would take no connections in time.
    let (posting, reading, is_over) = (host.clone(), hub.clone(), Arc::new(AtomicBool::new(false)));
    let over = is_over.clone();
    let other = std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let before = reading.server.stats().unwrap().published;
            let posted = posting.post(&Publication::new("other", b"x")).is_ok();
            while posted && reading.server.stats().unwrap().published == before && !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    });
    let mut answers = Vec::new();
    for _ in 0..20 {
        let mut clients = Vec::new();
        for _ in 0..10 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_read_timeout(Some(PATIENCE)).unwrap();
            let head = b"GET /push?channel=a&wait=0 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            if host.adopt_more(theirs.into(), head, None).is_ok() {
                clients.push(ours);
            }
            // The host does something else before it sends them.
            std::thread::sleep(Duration::from_micros(200));
        }
        host.flush();
        for mut client in clients {
            let mut answer = String::new();
            let _ = client.read_to_string(&mut answer);
            answers.push(answer);
        }
    }
    is_over.store(true, Ordering::Relaxed);
    other.join().unwrap();
    assert!(!answers.is_empty());
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    Arc::into_inner(host).unwrap().stop(Duration::ZERO);
}

#[test]
fn a_client_that_leaves_while_it_waits_for_a_hub_is_closed_and_the_others_are_told_at_the_stop() {
    let (hub, host) = pair(&[]);
    publish(&host, "a", "it is there");
    hub.stop();
    let hand_over = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n";
        host.adopt(theirs.into(), head.as_bytes(), None).map(|()| ours)
    };
    // As many as may wait are handed over. When they have gone, as many again.
    for _ in 0..2 {
        let mut waiting = Vec::new();
        until("there is no room again", || {
            while let Ok(client) = hand_over() {
                waiting.push(client);
            }
            waiting.len() == 512
        });
    }
    let mut last = None;
    until("they are kept for ever", || {
        last = hand_over().ok();
        last.is_some()
    });
    host.stop(Duration::ZERO);
    let mut answer = String::new();
    last.unwrap().read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[test]
fn a_broken_connection_loses_and_doubles_nothing() {
    let path = path();
    let hub = hub(&path, &[("history_count", "100000"), ("history_bytes", "64MB")]);
    let proxy_path = super::path();
    let proxy = Proxy::start(proxy_path.strip_prefix("unix:").unwrap(), path.strip_prefix("unix:").unwrap());
    let host = attached(&proxy_path, &[]);
    let count = 3000;
    for n in 0..count {
        while host.post(&Publication::new("a", n.to_string().as_bytes())).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if n % 500 == 499 {
            // The connection is cut while calls are under way, and again when the host has attached anew.
            until("it has attached", || proxy.is_open());
            proxy.cut();
        }
    }
    publish(&host, "a", "end");
    assert_eq!(proxy.cuts(), 6);
    let start = hub.server.position(0);
    let mut client = hub.websocket(&format!("channel=a&since={start}"), false);
    for n in 0..count {
        assert_eq!(client.text(), n.to_string());
    }
    assert_eq!(client.text(), "end");
    assert_eq!(hub.server.stats().unwrap().published, count + 1);
    host.stop(Duration::from_secs(5));
}

#[test]
fn a_user_is_logged_out_even_if_the_connection_breaks() {
    let path = path();
    let hub = hub(&path, &[]);
    let proxy_path = super::path();
    let proxy = Proxy::start(proxy_path.strip_prefix("unix:").unwrap(), path.strip_prefix("unix:").unwrap());
    let host = attached(&proxy_path, &[]);
    let grant = |user| Grant::new(Some(user), &[], &["*".into()], 0, false, false).unwrap();
    let [mut ann, mut bob] = ["ann", "bob"].map(|user| websocket(&hub.server, "channel=a", Some(grant(user))));
    // The messages are sent, and the hub never sees them.
    proxy.swallows.store(true, Ordering::Relaxed);
    host.disconnect_user("ann", 4403, "logged out").unwrap();
    host.revoke_channel("bob", "*", "").unwrap();
    until("they are lost", || proxy.swallowed.load(Ordering::Relaxed) > 0);
    // It is cut first: the second command may still lie before the proxy, and must not come through without the first.
    proxy.cut();
    proxy.swallows.store(false, Ordering::Relaxed);
    assert_eq!((ann.close_code(), bob.close_code()), (4403, 4403));
    assert_eq!(hub.server.stats().unwrap().published, 0);
    host.stop(Duration::from_secs(5));
}

/// A hub that is stopped in a debugger, or swaps: its listener's queue is full, and nobody answers a hello.
#[test]
fn calls_fail_in_time_if_the_hub_hangs_before_its_hello() {
    let path = path();
    let address = socket2::SockAddr::unix(path.strip_prefix("unix:").unwrap()).unwrap();
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM.nonblocking(), None).unwrap();
    let hung = socket();
    hung.bind(&address).unwrap();
    hung.listen(1).unwrap();
    // The first host is in the queue and gets no answer. The hosts behind it do not even get into the queue.
    let queued = attached(&path, &[("attach_timeout", "100ms")]);
    let filling: Vec<_> =
        std::iter::repeat_with(socket).take_while(|socket| socket.connect(&address).is_ok()).collect();
    let host = attached(&path, &[("attach_timeout", "100ms")]);
    for host in [&queued, &host] {
        let error = host.publish(&Publication::new("a", b"x")).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
    }
    // The hub is known to be away by now, so this returns at once.
    std::thread::sleep(Duration::from_millis(100));
    let error = host.publish(&Publication::new("a", b"x")).unwrap_err();
    assert!(error.to_string().contains("the hub can't be reached; nothing was done"), "{error}");
    assert_eq!(host.stats().unwrap_err().kind(), Kind::Busy);
    drop(filling);
}

/// A hub that welcomes each host, sends `then` and closes the connection. It counts how often.
fn letting_go(path: &str, then: &'static [u8]) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path.strip_prefix("unix:").unwrap()).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counting = count.clone();
    std::thread::spawn(move || {
        for mut host in listener.incoming().map_while(Result::ok) {
            if welcome(&mut host, then).is_ok() {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    count
}

/// Welcomes a host as a hub does, and sends `then` right behind.
fn welcome(host: &mut UnixStream, then: &[u8]) -> std::io::Result<()> {
    skip_frame(host)?;
    // The epoch, the number of the last request done, and two bounds.
    let body = [&[65, 1, 0, b'e'][..], &[0; 8], &[0, 0, 1, 0, 0, 0, 0, 0], &[0, 0, 1, 0, 0, 0, 0, 0]].concat();
    host.write_all(&[&(body.len() as u32).to_le_bytes()[..], &body, then].concat())
}

fn skip_frame(host: &mut UnixStream) -> std::io::Result<()> {
    let mut length = [0; 4];
    host.read_exact(&mut length)?;
    host.read_exact(&mut vec![0; u32::from_le_bytes(length) as usize])
}

#[test]
fn a_hub_that_disconnects_at_once_is_not_tried_all_the_time() {
    // The hub ends the connection, or sends a frame that the host does not know.
    for (test, then) in [("ends", &[][..]), ("odd", &[1, 0, 0, 0, 99])] {
        let path = path();
        let start = Instant::now();
        let count = letting_go(&path, then);
        let host = attached(&path, &[]);
        until("it tries again", || count.load(Ordering::Relaxed) >= 6);
        // From each attempt to the next there are 10 ms at least, and more each time. A slow machine can't make it
        // sooner.
        assert!(start.elapsed() >= Duration::from_millis(50), "{test}: {:?}", start.elapsed());
        host.stop(Duration::ZERO);
        let _ = std::fs::remove_file(path.strip_prefix("unix:").unwrap());
    }
}

#[test]
fn an_answer_to_a_batch_has_a_position_for_each_message_or_fails() {
    let path = path();
    let listener = UnixListener::bind(path.strip_prefix("unix:").unwrap()).unwrap();
    let serve = |host: &mut UnixStream| -> std::io::Result<()> {
        welcome(host, &[])?;
        // The answer has more positions than messages, fewer, and as many.
        for (number, count) in [(1u64, 3u32), (2, 1), (3, 2)] {
            skip_frame(host)?;
            let places = vec![0; 8 * count as usize];
            let body = [&[68][..], &number.to_le_bytes(), &count.to_le_bytes(), &places].concat();
            host.write_all(&[&(body.len() as u32).to_le_bytes()[..], &body].concat())?;
        }
        Ok(())
    };
    // A host that has waited too long for the welcome of a slow machine comes again.
    let hub = std::thread::spawn(move || loop {
        let (mut host, _) = listener.accept().unwrap();
        if serve(&mut host).is_ok() {
            return host;
        }
    });
    let host = attached(&path, &[]);
    let batch = ["x", "y"].map(|data| Publication::new("a", data.as_bytes()));
    let placed = [(); 3].map(|()| host.publish_batch(&batch).map(|placed| placed.len()).map_err(|error| error.kind()));
    assert_eq!(placed, [Err(Kind::System), Err(Kind::System), Ok(2)]);
    let hub = hub.join().unwrap();
    host.stop(Duration::ZERO);
    drop(hub);
    let _ = std::fs::remove_file(path.strip_prefix("unix:").unwrap());
}
