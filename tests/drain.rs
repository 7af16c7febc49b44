//! The drain: clients are sent away evenly, each with a delay of its own, and the host is told when they have gone.

mod common;

use common::{adopted, attached, field, until, Client, Host, PATIENCE, UPGRADE};
use push::events::EventKind;
use push::grant::Grant;
use push::hub::Publication;
use push::Server;
use std::collections::HashSet;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const STREAM: &str = "Accept: application/x-ndjson\r\n";

/// This many subscribers, all connected.
fn crowd(host: &Host, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| host.get("channel=a", STREAM)).collect();
    clients.iter_mut().for_each(|client| drop(client.head()));
    clients
}

/// When each client got the end, and the last line that it got.
fn goodbyes(clients: Vec<Client>) -> Vec<(Instant, String)> {
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let rest = client.rest();
                let line = rest.lines().rfind(|line| line.starts_with('{')).unwrap_or_default().to_owned();
                (Instant::now(), line)
            })
        })
        .collect();
    readers.into_iter().map(|reader| reader.join().unwrap()).collect()
}

#[test]
fn clients_leave_evenly_over_the_time_each_with_a_delay_of_its_own() {
    // On a busy machine the ends may be seen late, and together. It is enough that one of the tries is even.
    let tries: Vec<_> = std::iter::repeat_with(leave_in_quarters).take(20).take_while(|(even, _)| !even).collect();
    assert!(tries.len() < 20, "{tries:?}");
}

/// How many of a crowd leave in each quarter of a drain, and whether that is even.
fn leave_in_quarters() -> (bool, [usize; 4]) {
    const CLIENTS: usize = 240;
    let host = Host::start(&[("threads", "2"), ("retry", "10s")]);
    let clients = crowd(&host, CLIENTS);
    let began = Instant::now();
    let stop = std::thread::spawn(move || host.server.stop(Duration::from_secs(4)));
    let heard = goodbyes(clients);
    stop.join().unwrap();
    // The last half second is for the clients that are told last.
    let quarter = Duration::from_millis(3500) / 4;
    let mut quarters = [0; 4];
    for (at, _) in &heard {
        quarters[((*at - began).as_micros() / quarter.as_micros()).min(3) as usize] += 1;
    }
    assert!(quarters[0] <= CLIENTS / 2, "who is heard early was told early: {quarters:?}");
    let mut delays = HashSet::new();
    for (_, line) in &heard {
        assert_eq!((field(line, "type"), field(line, "code")), ("close".into(), "1001".into()));
        let delay: u64 = field(line, "retry").parse().unwrap();
        assert!((10_000..=20_000).contains(&delay), "{line}");
        delays.insert(delay);
    }
    assert!(delays.len() > CLIENTS / 2, "{} delays for {CLIENTS} clients", delays.len());
    (quarters.iter().all(|count| *count >= CLIENTS / 10), quarters)
}

#[test]
fn each_transport_is_told_of_the_drain_in_its_own_form() {
    let host = Host::start(&[("threads", "1"), ("retry", "3s")]);
    let mut ws = host.websocket("channel=a", false);
    let mut sse = host.get("channel=a", "Accept: text/event-stream\r\n");
    let mut poll = host.get("channel=a", "");
    while host.server.stats().unwrap().subscriptions < 3 {
        std::thread::yield_now();
    }
    host.server.stop(Duration::from_millis(100));
    let advised = |delay: u64| (3000..=6000).contains(&delay);
    let (first, payload) = ws.next_frame();
    assert_eq!((first, u16::from_be_bytes([payload[0], payload[1]])), (0x88, 1001));
    let reason = std::str::from_utf8(&payload[2..]).unwrap();
    let delay = reason.strip_prefix("server going away; retry in ").and_then(|rest| rest.strip_suffix(" ms"));
    assert!(delay.and_then(|delay| delay.parse().ok()).is_some_and(advised), "{reason}");
    let rest = sse.rest();
    let close = rest.split("retry: ").last().unwrap();
    let (retry, close) = close.split_once('\n').unwrap();
    assert!(advised(retry.parse().unwrap()), "{rest}");
    let data = close.strip_prefix("event: push-close\ndata: ").unwrap().lines().next().unwrap();
    assert_eq!((field(data, "code"), field(data, "retry")), ("1001".into(), retry.into()));
    let (head, body) = poll.response();
    assert_eq!(field(&body, "messages"), "[]");
    let delay: u64 = field(&body, "retry").parse().unwrap();
    assert!(advised(delay) && head.contains(&format!("Retry-After: {}\r\n", delay.div_ceil(1000))), "{head}");
    assert!(head.contains("Connection: close"), "{head}");
}

#[test]
fn requests_under_way_are_answered() {
    let patient = [("auth_timeout", "10m"), ("head_timeout", "10m")];
    let host = Host::start(&[&[("threads", "1"), ("auth", "host"), ("retry", "3s")], &patient[..]].concat());
    host.server.event_fd().unwrap();
    // A client of which nothing was read yet gets no answer.
    let kept = || host.server.stats().unwrap().inbox_bytes;
    let mut half = host.connect();
    half.send(b"GET /push?channel=a HTTP/1.1\r\nHost:");
    until("half a head is read", || kept() > 0);
    let of_one = kept();
    let mut half_sse = host.connect();
    half_sse.send(b"GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nCookie:");
    until("the other half is read", || kept() > of_one);
    let mut asked = host.get("channel=a", "");
    let mut sse = host.get("channel=a", "Accept: text/event-stream\r\n");
    let next = || host.server.next_event(Some(PATIENCE)).unwrap();
    let questions = [next(), next()];
    assert!(questions.iter().all(|event| event.kind == EventKind::Request));
    host.server.drain(Duration::from_secs(10)).unwrap();
    for client in [&mut half, &mut asked] {
        let (head, body) = client.response();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: "), "{head}");
        assert!(body.contains(r#""code":"draining""#), "{body}");
        assert_eq!(client.rest(), "");
    }
    for client in [&mut sse, &mut half_sse] {
        let told = client.rest();
        let (head, events) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && events.contains(r#""code":1001"#), "{told}");
        let retry = events.strip_prefix("retry: ").and_then(|rest| rest.split_once('\n')).unwrap().0;
        assert!((3000..=6000).contains(&retry.parse::<u64>().unwrap()), "{told}");
    }
    // A later answer finds no client.
    for question in questions {
        host.server.allow(question.request, Grant::new(None, &[], &["*".into()], 0, false, true).unwrap()).unwrap();
    }
    while next().kind != EventKind::Drained {}
    host.stop();
}

#[test]
fn a_short_drain_tells_all_clients_at_once() {
    let host = Host::start(&[]);
    let clients = crowd(&host, 100);
    host.server.stop(Duration::from_millis(100));
    assert!(goodbyes(clients).iter().all(|(_, line)| field(line, "code") == "1001"));
}

#[test]
fn the_host_gets_events_of_the_drain_and_may_go_on_until_it_stops() {
    // On a busy machine all clients may have gone before the first message. Then another drain may show it.
    assert!((0..20).any(|_| a_message_reaches_a_client_in_a_drain()), "no message reached anybody in 20 drains");
}

/// Drains a server, and publishes until all clients have gone. False: none was there any more for a message.
fn a_message_reaches_a_client_in_a_drain() -> bool {
    let host = Host::start(&[("threads", "2"), ("retry", "1s")]);
    let next = || host.server.next_event(Some(PATIENCE)).unwrap();
    assert!(host.server.next_event(Some(Duration::ZERO)).is_err());
    let clients = crowd(&host, 20);
    (0..20).for_each(|_| assert_eq!(next().kind, EventKind::Open));
    host.server.drain(Duration::from_secs(10)).unwrap();
    assert_eq!(next().kind, EventKind::Drain);
    until("nobody is let in", || TcpStream::connect(host.address()).is_err());
    // A client that the host still hands over is refused over HTTP.
    let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{STREAM}\r\n");
    let mut late = adopted(&host.server, &head, None);
    let (head, _) = late.response();
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("Retry-After: "), "{head}");
    // Messages reach the clients that are still there.
    let mut published = 0;
    let mut closes = 0;
    loop {
        host.publish("a", "still");
        published += 1;
        match host.server.next_event(Some(Duration::from_millis(20))).map(|event| event.kind) {
            Ok(EventKind::Close) => closes += 1,
            Ok(EventKind::Drained) => break,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    }
    assert_eq!(closes, 20, "each end was told before");
    let stats = host.server.stats().unwrap();
    // The late one may have come only after the end of the drain.
    assert!(stats.connections <= 1 && stats.subscriptions == 0, "{stats:?}");
    assert!(stats.deliveries < 20 * published, "{} of {published}", stats.deliveries);
    drop(late);
    until("the late one has gone", || host.server.stats().unwrap().connections == 0);
    assert!(goodbyes(clients).iter().all(|(_, line)| field(line, "code") == "1001"));
    host.server.drain(Duration::ZERO).unwrap();
    assert!(host.server.next_event(Some(Duration::from_millis(200))).is_err(), "it is told once");
    host.stop();
    stats.deliveries > 0
}

#[test]
fn a_second_drain_sets_a_new_end() {
    let host = Host::start(&[("threads", "1")]);
    assert!(host.server.next_event(Some(Duration::ZERO)).is_err());
    let clients = crowd(&host, 400);
    host.server.drain(Duration::from_secs(3600)).unwrap();
    host.server.drain(Duration::from_millis(100)).unwrap();
    while host.server.next_event(Some(PATIENCE)).unwrap().kind != EventKind::Drained {}
    assert_eq!(goodbyes(clients).len(), 400);
    host.stop();
}

#[test]
fn attached_hosts_are_told() {
    let path = format!("unix:{}/push-drain-{}", std::env::temp_dir().display(), std::process::id());
    let hub = Host::start(&[("attach_listen", &path), ("threads", "1")]);
    let hosts = [(); 2].map(|()| attached(&path, &[]));
    let mut client = hub.websocket("channel=a", false);
    for host in &hosts {
        assert!(host.next_event(Some(Duration::ZERO)).is_err());
        assert!(host.drain(Duration::ZERO).is_err(), "the clients are not its own");
    }
    // The host's request for events takes a moment to the hub. After that the host gets events of its own clients.
    for (number, host) in hosts.iter().enumerate() {
        let heard = (0..100).any(|_| {
            let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
            adopted(host, &head, None).head();
            host.next_event(Some(Duration::from_millis(300))).is_ok()
        });
        assert!(heard, "host {number}");
    }
    hosts[0].publish(&Publication::new("a", b"before")).unwrap();
    assert_eq!(client.text(), "before");
    // The hosts hear nothing of a hub that has no more time.
    hub.server.stop(PATIENCE);
    assert_eq!(client.close_code(), 1001);
    for host in hosts {
        let kinds: Vec<EventKind> = std::iter::from_fn(|| {
            let kind = host.next_event(Some(PATIENCE)).unwrap().kind;
            (kind != EventKind::Drained).then_some(kind)
        })
        .collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Drain).count(), 1, "{kinds:?}");
        host.stop(Duration::ZERO);
    }
}

/// A client that its host relays through a socket pair, whose other end the hub has.
fn relayed(server: &Server, lines: &str, query: &str) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let grant = Grant::new(None, &[], &["*".into()], 0, false, false).unwrap();
    server.adopt(theirs.into(), head.as_bytes(), Some(grant)).unwrap();
    ours
}

fn rest(mut client: &UnixStream) -> String {
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_relayed_client_is_told_when_its_host_ends_its_sending_side() {
    let host = Host::start(&[("threads", "1"), ("retry", "1s"), ("outbox", "16MB"), ("close_timeout", "10m")]);
    assert!(host.server.next_event(Some(Duration::ZERO)).is_err());
    let position = host.publish("a", "missed");
    for (lines, query, told) in [
        (UPGRADE, "channel=a", "retry in "),
        ("Accept: text/event-stream\r\n", "channel=a", "\"retry\":"),
        (STREAM, "channel=a", "\"retry\":"),
        ("", &*format!("channel=a&since={position}"), "\"retry\":"),
    ] {
        let client = relayed(&host.server, lines, query);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let said = rest(&client);
        assert!(said.contains(told), "{said}");
        drop(client);
        until("it is gone", || host.server.stats().unwrap().connections == 0);
    }
    // One that reads slowly gets all that waits for it before.
    let client = relayed(&host.server, STREAM, "channel=a");
    until("it is there", || host.server.stats().unwrap().streams == 1);
    let large = "x".repeat(500_000);
    (0..10).for_each(|_| drop(host.publish("a", &large)));
    until("some waits", || host.server.stats().unwrap().outboxes == 1);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let said = rest(&client);
    assert!(said.matches(&large).count() == 10 && said.contains("\"code\":1001"), "{}", said.len());
    host.stop();
}

#[test]
fn a_relayed_client_that_has_gone_is_not_told() {
    let host = Host::start(&[("threads", "1")]);
    assert!(host.server.next_event(Some(Duration::ZERO)).is_err());
    drop(relayed(&host.server, STREAM, "channel=a"));
    let code = loop {
        let event = host.server.next_event(Some(PATIENCE)).unwrap();
        if event.kind == EventKind::Close {
            break event.code;
        }
    };
    assert_ne!(code, 1001);
    host.stop();
}
