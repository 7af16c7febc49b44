//! Hosts attached to a hub: what they publish, hand over and hear, and what becomes of it when one side goes away.

mod common;

use common::{field, Client, Host, PATIENCE, UPGRADE};
use push::error::Kind;
use push::events::EventKind;
use push::grant::Grant;
use push::hub::Publication;
use push::{Builder, Server};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A path for a test's socket, which is short enough for one.
fn path(test: &str) -> String {
    let path: PathBuf = std::env::temp_dir().join(format!("push-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    format!("unix:{}", path.display())
}

fn hub(path: &str, options: &[(&str, &str)]) -> Host {
    Host::start(&[&[("attach_listen", path)], options].concat())
}

fn attached(path: &str, options: &[(&str, &str)]) -> Server {
    let mut builder = Builder::default();
    builder.set("attach", path).unwrap();
    for (name, value) in options {
        builder.set(name, value).unwrap();
    }
    Server::start(builder).unwrap()
}

/// A client whose connection a host has accepted, read `head` from and handed over.
fn adopt(server: &Server, head: &str, grant: Option<Grant>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    server.adopt(OwnedFd::from(accepted), head.as_bytes(), grant).unwrap();
    Client::over(client)
}

fn websocket(server: &Server, query: &str, grant: Option<Grant>) -> Client {
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n");
    // Half of it is read by the host, half by the hub.
    let (read, unread) = head.split_at(20);
    let mut client = adopt(server, read, grant);
    client.send(unread.as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

fn publish(server: &Server, channel: &str, data: &str) -> String {
    let placed = server.publish(&Publication::new(channel, data.as_bytes())).unwrap();
    server.position_of(&placed)
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_one_host_publishes_reaches_the_clients_of_another_in_order() {
    let path = path("order");
    let hub = hub(&path, &[]);
    let (one, two) = (attached(&path, &[]), attached(&path, &[]));
    let mut client = websocket(&two, "channel=a", None);
    let first = publish(&one, "a", "first");
    assert!(first.ends_with("-1"), "{first}");
    for n in 0..2000 {
        one.post(&Publication::new("a", n.to_string().as_bytes())).unwrap();
    }
    let batch: Vec<_> = ["x", "y"].iter().map(|data| Publication::new("a", data.as_bytes())).collect();
    let placed = one.publish_batch(&batch).unwrap();
    assert_eq!((placed[0].seq, placed[1].seq), (2002, 2003));
    assert_eq!(two.broadcast(&Publication::new("", b"all")).unwrap().seq, 2004);
    assert_eq!(client.text(), "first");
    for n in 0..2000 {
        assert_eq!(client.text(), n.to_string());
    }
    assert_eq!((client.text(), client.text(), client.text()), ("x".into(), "y".into(), "all".into()));
    let stats = one.stats().unwrap();
    assert_eq!((stats.published, stats.adopted, stats.websockets), (2004, 1, 1));
    assert_eq!(stats, two.stats().unwrap());
    // A host's end is not its clients'.
    two.stop(Duration::from_secs(1));
    publish(&one, "a", "after");
    assert_eq!(client.text(), "after");
    // Nothing waits, so this does not either, whatever it might.
    one.stop(Duration::MAX);
    hub.stop();
    assert_eq!(client.close_code(), 1001);
}

#[test]
fn keys_errors_and_bounds_are_the_hubs() {
    let path = path("bounds");
    let hub = hub(&path, &[("max_message", "1KB")]);
    let host = attached(&path, &[]);
    let keyed = Publication { key: Some("k"), ..Publication::new("a", b"x") };
    assert_eq!(host.publish(&keyed).unwrap().seq, host.publish(&keyed).unwrap().seq);
    let large = [0; 1025];
    assert_eq!(host.publish(&Publication::new("a", &large)).unwrap_err().kind(), Kind::TooLarge);
    assert_eq!(host.publish(&Publication::new("", b"x")).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(host.close(1, 999, "").unwrap_err().kind(), Kind::Invalid);
    assert_eq!(host.deny(1, 200, "").unwrap_err().kind(), Kind::Invalid);
    assert_eq!(hub.server.next_event(None).unwrap_err().kind(), Kind::Unsupported);
    assert!(host.addresses().is_empty());
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn events_go_to_the_host_that_handed_over_then_to_one_of_its_name() {
    let path = path("events");
    let hub = hub(&path, &[]);
    let one = attached(&path, &[("attach_name", "web")]);
    let two = attached(&path, &[("attach_name", "web")]);
    let other = attached(&path, &[("attach_name", "other")]);
    for server in [&one, &two, &other] {
        assert_eq!(server.next_event(Some(Duration::ZERO)).unwrap_err().kind(), Kind::Timeout);
    }
    let user = Grant::new(Some("ann"), &["a".into()], 0, false, false).unwrap();
    // The wish for events stands before what is handed over later.
    let mut client = websocket(&one, "channel=a", Some(user));
    let event = one.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((event.kind, event.user.as_deref()), (EventKind::Open, Some("ann")));
    client.say("hello");
    let event = one.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((event.kind, &event.data[..]), (EventKind::Message, &b"hello"[..]));
    // Any attached host may answer, and close.
    other.send(event.connection, b"hi", false).unwrap();
    assert_eq!(client.text(), "hi");
    one.stop(Duration::ZERO);
    until("the hub has seen its end", || {
        client.say("again");
        two.next_event(Some(Duration::from_millis(50))).is_ok_and(|event| &event.data[..] == b"again")
    });
    two.disconnect_user("ann", 4403, "out").unwrap();
    assert_eq!(client.close_code(), 4403);
    until("the end is told", || two.next_event(Some(PATIENCE)).unwrap().kind == EventKind::Close);
    assert_eq!(other.next_event(Some(Duration::ZERO)).unwrap_err().kind(), Kind::Timeout);
    two.stop(Duration::ZERO);
    other.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn any_host_takes_channels_from_a_user_and_renews_a_grant() {
    let path = path("rights");
    let hub = hub(&path, &[]);
    let (one, two) = (attached(&path, &[("attach_name", "web")]), attached(&path, &[("attach_name", "jobs")]));
    one.event_fd().unwrap();
    let grant = |user, channels: &[&str]| {
        let names: Vec<String> = channels.iter().map(ToString::to_string).collect();
        Grant::new(Some(user), &names, 0, false, false).unwrap()
    };
    let mut ann = websocket(&one, "channel=a&channel=b", Some(grant("ann", &["a", "b"])));
    let connection = one.next_event(Some(PATIENCE)).unwrap().connection;
    two.revoke_channel("ann", "a", "").unwrap();
    until("the hub has done it", || hub.server.stats().unwrap().subscriptions == 1);
    two.renew(connection, grant("eve", &["b"])).unwrap();
    // Answered: so the hub has come past the renewal.
    two.stats().unwrap();
    ann.say("who am I?");
    let event = one.next_event(Some(PATIENCE)).unwrap();
    assert_eq!(event.user.as_deref(), Some("eve"), "and its events stay with the host that handed it over");
    two.revoke_channel("ann", "*", "").unwrap();
    two.revoke_channel("eve", "*", "").unwrap();
    assert_eq!(ann.close_code(), 4403);
    assert_eq!(two.revoke_channel("", "a", "").unwrap_err().kind(), Kind::Invalid);
    one.stop(Duration::ZERO);
    two.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn a_host_that_takes_no_events_holds_up_its_own_clients_only() {
    let path = path("credit");
    let hub = hub(&path, &[("event_queue", "16")]);
    let slow = attached(&path, &[("attach_name", "slow"), ("event_queue", "16")]);
    let quick = attached(&path, &[("attach_name", "quick"), ("event_queue", "16")]);
    slow.event_fd().unwrap();
    quick.event_fd().unwrap();
    let mut of_slow = websocket(&slow, "channel=a", None);
    let mut of_quick = websocket(&quick, "channel=a", None);
    let sender = std::thread::spawn(move || {
        for n in 0..20_000 {
            of_slow.say(&n.to_string());
        }
        of_slow
    });
    for n in 0..1000 {
        of_quick.say(&n.to_string());
        loop {
            let event = quick.next_event(Some(PATIENCE)).unwrap();
            if event.kind == EventKind::Message {
                assert_eq!(event.data, n.to_string());
                break;
            }
        }
    }
    // Nothing was lost: all of it comes when the host asks.
    let mut next = 0;
    while next < 20_000 {
        let event = slow.next_event(Some(PATIENCE)).unwrap();
        if event.kind == EventKind::Message {
            assert_eq!(event.data, next.to_string());
            next += 1;
        }
    }
    drop(sender.join().unwrap());
    slow.stop(Duration::ZERO);
    quick.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn a_host_that_takes_no_events_can_not_fill_the_hub() {
    let path = path("held");
    let hub = hub(&path, &[("event_queue", "16")]);
    let (deaf, other) = (attached(&path, &[("event_queue", "16")]), attached(&path, &[("attach_name", "other")]));
    // It has asked for events, and takes none of them: they are held in the hub.
    deaf.event_fd().unwrap();
    other.event_fd().unwrap();
    let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n");
    let mut refused = 0;
    // Each that comes and goes is two events.
    until("its clients come and go for ever", || {
        let answer = adopt(&deaf, &head, None).head();
        refused += usize::from(answer.starts_with("HTTP/1.1 503 "));
        refused == 3
    });
    // Others' clients come in.
    drop(websocket(&other, "channel=a", None));
    // When it takes them again, so do its own.
    until("it is heard again", || {
        while deaf.next_event(Some(Duration::ZERO)).is_ok() {}
        adopt(&deaf, &head, None).head().starts_with("HTTP/1.1 101 ")
    });
    drop((deaf, other));
    hub.stop();
}

#[test]
fn a_host_is_told_of_the_kinds_that_it_wants() {
    let path = path("kinds");
    let hub = hub(&path, &[("event_queue", "16")]);
    let host = attached(&path, &[("events", "message"), ("event_queue", "16")]);
    host.event_fd().unwrap();
    // More comings and goings than the hub may tell of at once, none of which the host takes off a queue.
    for n in 0..100 {
        let mut client = websocket(&host, "channel=a", None);
        client.say(&n.to_string());
        let event = host.next_event(Some(PATIENCE)).unwrap();
        assert_eq!((event.kind, &*event.data), (EventKind::Message, n.to_string().as_bytes()));
    }
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn the_host_is_asked_and_then_answers_for_the_client() {
    let path = path("auth");
    let hub = hub(&path, &[("auth", "host")]);
    let host = attached(&path, &[]);
    host.event_fd().unwrap();
    // Answered: so the hub has heard of the wish, which stands before it.
    host.stats().unwrap();
    let mut client = hub.get("channel=a", UPGRADE);
    let event = host.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((event.kind, event.channel.as_deref()), (EventKind::Request, Some("a")));
    host.allow(event.request, Grant::new(Some("bob"), &["*".into()], 0, false, false).unwrap()).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(host.next_event(Some(PATIENCE)).unwrap().user.as_deref(), Some("bob"));
    let mut client = hub.get("channel=a", "");
    let event = host.next_event(Some(PATIENCE)).unwrap();
    host.deny(event.request, 403, "no").unwrap();
    assert!(client.head().starts_with("HTTP/1.1 403 "));
    host.stop(Duration::ZERO);
    // Nobody can be asked any more: an answer at once, not after the timeout.
    until("the hub has seen its end", || hub.get("channel=a", "").head().starts_with("HTTP/1.1 503 "));
    hub.stop();
}

#[test]
fn a_late_answer_does_not_let_in_a_client_of_the_next_hub() {
    let path = path("late");
    let options = [("auth", "host"), ("threads", "1")];
    let first = hub(&path, &options);
    let host = attached(&path, &[("attach_timeout", "10s")]);
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
    let grant = |user: &str| Grant::new(Some(user), &["*".into()], 0, false, false).unwrap();
    let (_, late) = asks(&first);
    first.stop();
    let second = hub(&path, &options);
    // Answered by the second hub, which has heard of the wish for events before; not when it was on its way to the
    // first.
    until("the second hub answers", || host.stats().is_ok());
    let (mut client, request) = asks(&second);
    host.allow(late, grant("late")).unwrap();
    host.allow(request, grant("ann")).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let event = host.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((event.kind, event.user.as_deref()), (EventKind::Open, Some("ann")));
    host.stop(Duration::ZERO);
    second.stop();
}

#[test]
fn a_hub_that_comes_back_gets_what_was_published_meanwhile_once() {
    let path = path("restart");
    let first = hub(&path, &[]);
    let host = attached(&path, &[("attach_timeout", "10s")]);
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
    // The default history has 100 messages; "0" is what does not fit.
    assert_eq!(data, expected);
    assert_eq!(host.stats().unwrap().published, 101);
    host.stop(Duration::from_secs(5));
    second.stop();
}

#[test]
fn while_the_hub_is_away_calls_answer_in_time() {
    let path = path("away");
    let host = attached(&path, &[("attach_timeout", "100ms"), ("attach_buffer", "64KB")]);
    let start = Instant::now();
    assert_eq!(host.publish(&Publication::new("a", b"x")).unwrap_err().kind(), Kind::Busy);
    assert_eq!(host.stats().unwrap_err().kind(), Kind::Busy);
    assert!(start.elapsed() < Duration::from_secs(5));
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
    hub.stop();
}

#[test]
fn a_broken_connection_loses_and_doubles_nothing() {
    let path = path("broken");
    let hub = hub(&path, &[("history_count", "100000"), ("history_bytes", "64MB")]);
    let proxy_path = self::path("broken-proxy");
    let proxy = Proxy::start(proxy_path.strip_prefix("unix:").unwrap(), path.strip_prefix("unix:").unwrap());
    let host = attached(&proxy_path, &[("attach_timeout", "10s")]);
    let count = 3000;
    for n in 0..count {
        while host.post(&Publication::new("a", n.to_string().as_bytes())).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if n % 500 == 499 {
            // In the middle of whatever is under way; and again when it has attached anew.
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
    let _ = std::fs::remove_file(proxy_path.strip_prefix("unix:").unwrap());
    hub.stop();
}

#[test]
fn a_broken_connection_keeps_nobody_who_is_logged_out() {
    let path = path("logout");
    let hub = hub(&path, &[]);
    let proxy_path = self::path("logout-proxy");
    let proxy = Proxy::start(proxy_path.strip_prefix("unix:").unwrap(), path.strip_prefix("unix:").unwrap());
    let host = attached(&proxy_path, &[("attach_timeout", "10s")]);
    let grant = |user| Grant::new(Some(user), &["*".into()], 0, false, false).unwrap();
    let [mut ann, mut bob] = ["ann", "bob"].map(|user| websocket(&hub.server, "channel=a", Some(grant(user))));
    // They are sent, and the hub never sees them.
    proxy.swallows.store(true, Ordering::Relaxed);
    host.disconnect_user("ann", 4403, "logged out").unwrap();
    host.revoke_channel("bob", "*", "").unwrap();
    until("they are lost", || proxy.swallowed.load(Ordering::Relaxed) > 0);
    proxy.swallows.store(false, Ordering::Relaxed);
    proxy.cut();
    assert_eq!((ann.close_code(), bob.close_code()), (4403, 4403));
    assert_eq!(hub.server.stats().unwrap().published, 0);
    host.stop(Duration::from_secs(5));
    let _ = std::fs::remove_file(proxy_path.strip_prefix("unix:").unwrap());
    hub.stop();
}

/// Passes bytes (no descriptors) between a host and a hub until it is told to cut all that pass through it.
struct Proxy {
    /// Set: what comes goes nowhere.
    swallows: Arc<AtomicBool>,
    swallowed: Arc<AtomicUsize>,
    open: Arc<Mutex<(Vec<UnixStream>, usize)>>,
}

impl Proxy {
    fn start(listen: &str, to: &str) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(listen).unwrap();
        let open: Arc<Mutex<(Vec<UnixStream>, usize)>> = Default::default();
        let (shared, to) = (open.clone(), to.to_owned());
        let (swallows, swallowed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let proxy = Proxy { swallows: swallows.clone(), swallowed: swallowed.clone(), open };
        std::thread::spawn(move || {
            for host in listener.incoming().map_while(Result::ok) {
                let Ok(hub) = UnixStream::connect(&to) else { continue };
                for (mut from, mut into) in [(&host, &hub), (&hub, &host)]
                    .map(|(from, into)| (from.try_clone().unwrap(), into.try_clone().unwrap()))
                {
                    let (swallows, swallowed) = (swallows.clone(), swallowed.clone());
                    std::thread::spawn(move || {
                        let mut part = [0; 1000];
                        while let Ok(len @ 1..) = from.read(&mut part) {
                            if swallows.load(Ordering::Relaxed) {
                                swallowed.fetch_add(len, Ordering::Relaxed);
                                continue;
                            }
                            if into.write_all(&part[..len]).is_err() {
                                break;
                            }
                        }
                        let _ = into.shutdown(std::net::Shutdown::Both);
                        let _ = from.shutdown(std::net::Shutdown::Both);
                    });
                }
                shared.lock().unwrap().0.extend([host, hub]);
            }
        });
        proxy
    }

    fn cut(&self) {
        let mut open = self.open.lock().unwrap();
        open.1 += usize::from(!open.0.is_empty());
        for stream in open.0.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn is_open(&self) -> bool {
        !self.open.lock().unwrap().0.is_empty()
    }

    fn cuts(&self) -> usize {
        self.open.lock().unwrap().1
    }
}

#[test]
fn strangers_are_turned_away() {
    let path = path("strangers");
    let hub = hub(&path, &[("attach_uids", "4294967294")]);
    let mut builder = Builder::default();
    builder.set("attach", &path).unwrap();
    let error = Server::start(builder).unwrap_err();
    assert!(error.to_string().contains("this user may not attach"), "{error}");
    hub.stop();
}

#[test]
fn the_socket_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let path = path("mode");
    let hub = hub(&path, &[]);
    let file = std::fs::metadata(path.strip_prefix("unix:").unwrap()).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(hub.server.addresses()[1], path);
    hub.stop();
    assert!(std::fs::metadata(path.strip_prefix("unix:").unwrap()).is_err(), "it goes with the hub");
}

#[test]
fn garbage_and_other_versions_are_let_go() {
    let path = path("garbage");
    let hub = hub(&path, &[]);
    let connect = || {
        let stream = UnixStream::connect(path.strip_prefix("unix:").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let hello = |version: u16| {
        let mut body = vec![1];
        body.extend_from_slice(b"libpush\0");
        body.extend_from_slice(&version.to_le_bytes());
        body.extend_from_slice(&[7; 16]);
        body.extend_from_slice(&[0; 8]);
        body.extend_from_slice(&[0, 0, 1, 0, b'h']);
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    };
    let cases: &[Vec<u8>] = &[
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        vec![1, 0, 0, 0, 11],
        hello(9),
        // A frame whose inside says that it is longer; a second hello; a descriptor that did not come.
        [hello(1), vec![2, 0, 0, 0, 2, 9]].concat(),
        [hello(1), hello(1)].concat(),
        [hello(1), vec![6, 0, 0, 0, 5, 0, 0, 0, 0, 0]].concat(),
    ];
    for case in cases {
        let mut stream = connect();
        stream.write_all(case).unwrap();
        let mut answer = Vec::new();
        // Let go: an end, or a reset where bytes were left.
        let _ = stream.read_to_end(&mut answer);
        if *case == hello(9) {
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains("the host speaks version 9"), "{text}");
        }
    }
    // Cut in the middle: the hub waits for the rest, and forgets it with the host.
    let mut cut = connect();
    cut.write_all(&[hello(1), vec![100, 0, 0, 0, 2]].concat()).unwrap();
    drop(cut);
    let host = attached(&path, &[]);
    publish(&host, "a", "still there");
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn connections_that_follow_one_another_are_sent_together() {
    let path = path("together");
    let hub = hub(&path, &[]);
    let host = attached(&path, &[]);
    publish(&host, "a", "before");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let head = "GET /push?channel=a&last=1 HTTP/1.1\r\nHost: h\r\n\r\n";
    let hand_over = |count: usize| -> Vec<Client> {
        let one = |_| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = OwnedFd::from(listener.accept().unwrap().0);
            host.adopt_more(accepted, head.as_bytes(), None).unwrap();
            Client::over(client)
        };
        (0..count).map(one).collect()
    };
    // Fewer than go at once: they wait until they are told to go, or something else does.
    let mut waiting = hand_over(10);
    assert_eq!(hub.server.stats().unwrap().adopted, 0);
    host.flush();
    waiting.extend(hand_over(5));
    publish(&host, "b", "takes them along");
    // As many as go at once do not wait.
    waiting.extend(hand_over(32));
    for client in &mut waiting {
        assert!(client.head().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(host.stats().unwrap().adopted, 47);
    host.stop(Duration::ZERO);
    hub.stop();
}

/// A hub that is stopped in a debugger, or swaps: its listener's queue is full, and nobody answers a hello.
#[test]
fn a_hub_that_hangs_holds_up_nobody() {
    let path = path("hung");
    let address = socket2::SockAddr::unix(path.strip_prefix("unix:").unwrap()).unwrap();
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM.nonblocking(), None).unwrap();
    let hung = socket();
    hung.bind(&address).unwrap();
    hung.listen(1).unwrap();
    // The first host is in the queue and hears nothing; those behind it do not even get in.
    let queued = attached(&path, &[("attach_timeout", "100ms")]);
    let filling: Vec<_> =
        std::iter::repeat_with(socket).take_while(|socket| socket.connect(&address).is_ok()).collect();
    let host = attached(&path, &[("attach_timeout", "100ms")]);
    for host in [&queued, &host] {
        let error = host.publish(&Publication::new("a", b"x")).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
    }
    // Known to be away by now: at once.
    std::thread::sleep(Duration::from_millis(100));
    let error = host.publish(&Publication::new("a", b"x")).unwrap_err();
    assert!(error.to_string().contains("the hub is away; nothing was done"), "{error}");
    assert_eq!(host.stats().unwrap_err().kind(), Kind::Busy);
    drop(filling);
    queued.stop(Duration::ZERO);
    host.stop(Duration::ZERO);
}

/// A hub that welcomes each host, says what stands in `then` and lets it go; and how often it has.
fn letting_go(path: &str, then: &'static [u8]) -> Arc<AtomicUsize> {
    let listener = std::os::unix::net::UnixListener::bind(path.strip_prefix("unix:").unwrap()).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counting = count.clone();
    std::thread::spawn(move || {
        for mut host in listener.incoming().map_while(Result::ok) {
            let mut hello = [0; 4];
            if host.read_exact(&mut hello).is_err() {
                continue;
            }
            host.read_exact(&mut vec![0; u32::from_le_bytes(hello) as usize]).unwrap();
            // Welcome: the epoch, what is done, and two bounds.
            let body = [&[65, 1, 0, b'e'][..], &[0; 8], &[0, 0, 1, 0, 0, 0, 0, 0], &[0, 0, 1, 0, 0, 0, 0, 0]].concat();
            let welcome = [&(body.len() as u32).to_le_bytes()[..], &body, then].concat();
            let _ = host.write_all(&welcome);
            counting.fetch_add(1, Ordering::Relaxed);
        }
    });
    count
}

#[test]
fn a_hub_that_lets_go_at_once_is_not_asked_again_and_again() {
    // It ends, or says what nobody understands.
    for (test, then) in [("ends", &[][..]), ("odd", &[1, 0, 0, 0, 99])] {
        let path = path(test);
        let start = Instant::now();
        let count = letting_go(&path, then);
        let host = attached(&path, &[]);
        until("it tries again", || count.load(Ordering::Relaxed) >= 6);
        // 10 ms from each to the next at least, more each time. However slow the machine is, it can't be sooner.
        assert!(start.elapsed() >= Duration::from_millis(50), "{test}: {:?}", start.elapsed());
        host.stop(Duration::ZERO);
        let _ = std::fs::remove_file(path.strip_prefix("unix:").unwrap());
    }
}

#[test]
fn half_open_attachments_do_not_pile_up() {
    let path = path("half-open");
    let hub = hub(&path, &[]);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut held = Vec::new();
    let before = open();
    for _ in 0..10_000 {
        let stream = UnixStream::connect(path.strip_prefix("unix:").unwrap()).unwrap();
        held.push(stream);
        if held.len() == 100 {
            held.clear();
        }
    }
    let host = attached(&path, &[]);
    // The hub must first get to it, past all those.
    until("let in all the same", || host.publish(&Publication::new("a", b"x")).is_ok());
    held.clear();
    host.stop(Duration::ZERO);
    // Other tests of this process open some of their own.
    until("they are let go", || open() < before + 200);
    hub.stop();
}

#[test]
fn descriptors_of_another_kind_are_refused() {
    let path = path("kinds");
    let hub = hub(&path, &[]);
    let host = attached(&path, &[]);
    let file = std::fs::File::open("/dev/null").unwrap();
    host.adopt(OwnedFd::from(file), b"GET /push?channel=a HTTP/1.1\r\n\r\n", None).unwrap();
    let mut client = websocket(&host, "channel=a", None);
    publish(&host, "a", "x");
    assert_eq!(client.text(), "x");
    assert_eq!(host.stats().unwrap().adopted, 1);
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn a_full_hub_answers_what_was_handed_over() {
    let path = path("full");
    let hub = hub(&path, &[("max_connections", "1")]);
    let host = attached(&path, &[]);
    let _first = websocket(&host, "channel=a", None);
    let mut second = adopt(&host, "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n", None);
    assert!(second.head().starts_with("HTTP/1.1 503 "));
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn many_connections_are_handed_over_in_one_go() {
    let path = path("many");
    let hub = hub(&path, &[]);
    let host = attached(&path, &[]);
    let head = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut clients: Vec<_> = (0..200).map(|_| adopt(&host, head, None)).collect();
    for client in &mut clients {
        assert!(client.head().starts_with("HTTP/1.1 200 "));
    }
    until("all are in", || hub.server.stats().unwrap().streams == 200);
    publish(&host, "a", "x");
    for client in &mut clients {
        client.until("\"data\":\"x\"");
    }
    host.stop(Duration::ZERO);
    hub.stop();
}
