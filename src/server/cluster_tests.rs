//! Hubs that share a log, each a whole server with clients of every transport. The log is the model, or a real one.

mod acts;
mod of_hosts;
mod panics;
mod questions;
#[cfg(all(feature = "redis", feature = "nats"))]
mod real;

use super::Server;
use crate::engine::shared::model::Model;
use crate::error::Kind;
use crate::grant::Grant;
use crate::hub::{ClientId, Mark, Publication};
use crate::shard::panic_tests::common::{until, PATIENCE};
use crate::Builder;
use acts::position;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn start(name: &str, options: &[(&str, &str)]) -> Server {
    start_with(&format!("model://{name}"), options)
}

fn start_with(engine: &str, options: &[(&str, &str)]) -> Server {
    Server::start(builder(engine, options)).unwrap()
}

/// Waits until the hubs have read their log. A client that comes earlier waits too, but for `engine_timeout` only.
fn until_ready(hubs: &[Server]) {
    hubs.iter().for_each(|hub| assert!(hub.readiness().wait(PATIENCE)));
}

/// These options, and time limits that no slow machine reaches. No client gets a ping, and no poll an empty answer.
fn builder(engine: &str, options: &[(&str, &str)]) -> Builder {
    let mut builder = Builder::default();
    let fixed = [("listen", "127.0.0.1:0"), ("auth", "none"), ("threads", "2"), ("engine_timeout", "1m")];
    let patient = [("heartbeat", "10m"), ("poll_timeout", "10m")];
    for (option, value) in fixed.iter().chain(&patient).chain(options).chain(&[("engine", engine)]) {
        builder.set(option, value).unwrap();
    }
    // A test that fails shows it.
    builder.on_log = Some(std::sync::Arc::new(|level, line| println!("{level:?} {line}")));
    builder
}

/// The subprotocol of the JSON form.
const JSON: &str = "Sec-WebSocket-Protocol: push.v1.json\r\n";

/// A client, and everything that it was sent.
struct Client {
    socket: TcpStream,
    got: String,
}

impl Client {
    fn ask(server: &Server, query: &str, lines: &str) -> Self {
        let mut socket = TcpStream::connect(&server.addresses()[0]).unwrap();
        socket.write_all(head(query, lines).as_bytes()).unwrap();
        Client::over(socket)
    }

    /// A client of a user, whom the host hands over.
    fn granted(server: &Server, user: &str, query: &str, lines: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let grant = Grant::new(Some(user), &[], &["*".to_owned()], 0, false, false).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        server.adopt(theirs.into(), head(query, lines).as_bytes(), Some(grant)).map_err(|(error, _)| error).unwrap();
        Client::over(socket)
    }

    fn granted_websocket(server: &Server, user: &str, query: &str, protocol: &str) -> Self {
        Client::granted(server, user, query, &format!("{UPGRADE}{protocol}"))
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Client { socket, got: String::new() }
    }

    fn sse(server: &Server, query: &str) -> Self {
        Client::ask(server, query, "Accept: text/event-stream\r\n")
    }

    fn websocket(server: &Server, query: &str, protocol: &str) -> Self {
        Client::ask(server, query, &format!("{UPGRADE}{protocol}"))
    }

    /// False: the connection has ended.
    fn read(&mut self) -> bool {
        let mut some = [0; 4096];
        match self.socket.read(&mut some) {
            Ok(0) => false,
            Ok(len) => {
                self.got.push_str(&String::from_utf8_lossy(&some[..len]));
                true
            }
            Err(error) => matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }

    fn has(&mut self, text: &str) -> &mut Self {
        let began = Instant::now();
        while !self.got.contains(text) {
            let goes_on = self.read();
            let late = began.elapsed() > PATIENCE;
            assert!(self.got.contains(text) || (goes_on && !late), "no {text:?} in {:?}", self.got);
        }
        self
    }

    fn ends(&mut self) -> &str {
        let began = Instant::now();
        while self.read() {
            assert!(began.elapsed() < PATIENCE, "it does not end: {:?}", self.got);
        }
        &self.got
    }
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn head(query: &str, lines: &str) -> String {
    format!("GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

#[test]
fn clients_of_every_transport_get_what_another_hub_publishes_and_move_with_their_position() {
    each_client_is_served_by_each_hub([start("all", &[]), start("all", &[])]);
}

#[test]
fn a_message_to_a_user_reaches_the_connections_at_each_hub() {
    let on = [("user_channel", "true")];
    let [one, other] = [start("users", &on), start("users", &on)];
    let mut clients = [&one, &other].map(|hub| Client::granted(hub, "ada", "transport=stream", ""));
    let mut bob = Client::granted(&other, "bob", "transport=stream&channel=a", "");
    until("all are there", || one.stats().unwrap().subscriptions + other.stats().unwrap().subscriptions == 4);
    let placed = one.publish_user("ada", &Publication::new("", b"for ada")).unwrap();
    let first = one.position_of(&placed);
    for client in &mut clients {
        client.has("for ada").has(&first);
    }
    other.publish_user("bob", &Publication::new("", b"for bob")).unwrap();
    assert!(!bob.has("for bob").got.contains("for ada"));
    // It moves with its position, and names no channel there either.
    one.publish_user("ada", &Publication::new("", b"missed")).unwrap();
    let mut moved = Client::granted(&other, "ada", &format!("since={first}"), "");
    assert!(!moved.has("missed").got.contains("\"gap\""), "{}", moved.got);
    // One of the hubs alone takes it away from all.
    one.revoke_channel("ada", "user:ada", "no more").unwrap();
    for client in &mut clients {
        client.has("no more");
    }
    for hub in [one, other] {
        hub.stop(Duration::ZERO);
    }
}

fn each_client_is_served_by_each_hub(hubs: [Server; 2]) {
    let mut clients = [
        Client::sse(&hubs[1], "channel=a"),
        Client::ask(&hubs[1], "channel=a&transport=stream", ""),
        Client::websocket(&hubs[1], "channel=a", JSON),
        Client::websocket(&hubs[1], "channel=a", ""),
    ];
    // Their heads come once the hub has read the log.
    clients[0].has("id: ");
    clients[1].has("200 OK");
    clients[2].has("subscribed");
    clients[3].has("101 ");
    let first = position(&hubs[0], "one");
    let second = position(&hubs[0], "two");
    for client in &mut clients {
        client.has("one").has("two");
    }
    clients[0].has(&format!("id: {first}")).has(&format!("id: {second}"));
    // The same place on either hub, and nothing twice.
    for hub in &hubs {
        let mut moved = Client::sse(hub, &format!("channel=a&since={first}"));
        moved.has("two");
        assert!(!moved.got.contains("one") && !moved.got.contains("gap"), "{}", moved.got);
    }
    let answer = Client::ask(&hubs[1], &format!("channel=a&transport=poll&since={first}"), "Connection: close\r\n")
        .ends()
        .to_owned();
    assert!(answer.contains("two") && answer.contains(&second) && !answer.contains("gap"), "{answer}");
    assert_eq!(hubs[1].position(hubs[0].stats().unwrap().seq).split('-').next(), second.split('-').next());
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn a_key_counts_on_all_hubs_and_what_was_posted_comes_once_in_order() {
    let options = [("history_count", "1000")];
    each_message_comes_once([start("keys", &options), start("keys", &options)]);
}

/// The hubs keep at least 1,000 messages of a channel.
fn each_message_comes_once(hubs: [Server; 2]) {
    let keyed = Publication { key: Some("order-1"), ..Publication::new("a", b"once") };
    let placed = [hubs[0].publish(&keyed).unwrap(), hubs[1].publish(&keyed).unwrap()];
    assert_eq!(placed[0].seq, placed[1].seq);
    for at in 0..200 {
        hubs[0].post(&Publication::new("a", format!("<{at}>").as_bytes())).unwrap();
    }
    let batch: Vec<Publication<'_>> =
        [&b"<200>"[..], b"<201>"].iter().map(|data| Publication::new("a", data)).collect();
    let placed = hubs[0].publish_batch(&batch).unwrap();
    assert!(placed[0].seq < placed[1].seq);
    let mut client = Client::sse(&hubs[1], "channel=a&last=1000");
    client.has("<201>");
    assert_eq!(client.got.matches("once").count(), 1, "{}", client.got);
    let places: Vec<_> = (0..202).map(|at| client.got.find(&format!("<{at}>")).unwrap()).collect();
    assert!(places.is_sorted() && client.got.matches("data: <").count() == 202);
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn a_message_leaves_a_client_out_at_each_hub() {
    each_hub_leaves_it_out([start("excepts", &[]), start("excepts", &[])]);
}

fn each_hub_leaves_it_out(hubs: [Server; 2]) {
    let text = "01234567-89ab-cdef-0123-456789abcdef";
    let mut theirs = hubs.each_ref().map(|hub| Client::sse(hub, &format!("channel=a&client={text}")));
    let mut others = hubs.each_ref().map(|hub| Client::sse(hub, "channel=a"));
    theirs.iter_mut().chain(&mut others).for_each(|client| _ = client.has("id: "));
    let first = position(&hubs[0], "<first>");
    let own = Publication { except: ClientId::parse(text), ..Publication::new("a", b"<own>") };
    let own = hubs[0].position_of(&hubs[0].publish(&own).unwrap());
    position(&hubs[1], "<next>");
    for client in &mut theirs {
        client.has("<next>").has(&format!("id: {own}\nevent: push-position"));
        assert!(!client.got.contains("<own>"), "{}", client.got);
    }
    others.iter_mut().for_each(|client| _ = client.has("<own>").has("<next>"));
    // It moves to either hub, and to one that finds the message in the log.
    for hub in &hubs {
        let mut moved = Client::sse(hub, &format!("channel=a&since={first}&client={text}"));
        assert!(!moved.has("<next>").got.contains("<own>"), "{}", moved.got);
        Client::sse(hub, &format!("channel=a&since={first}")).has("<own>").has("<next>");
    }
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn a_stream_that_one_hub_ends_has_ended_on_all_hubs() {
    each_hub_shows_the_end([start("ends", &[]), start("ends", &[])]);
}

fn each_hub_shows_the_end(hubs: [Server; 2]) {
    let mark = |hub: &Server, mark| {
        let placed = hub.publish(&Publication::mark("a", mark)).unwrap();
        hub.position_of(&placed)
    };
    let mut live = Client::sse(&hubs[1], "channel=a");
    live.has("push-open");
    mark(&hubs[0], Mark::Begin);
    position(&hubs[0], "one");
    position(&hubs[1], "two");
    let end = mark(&hubs[0], Mark::End);
    live.has("push-begin").has("one").has("two").has("push-end").has(&format!("id: {end}"));
    live.ends();
    for hub in &hubs {
        let whole = Client::ask(hub, "channel=a&since=start&transport=stream", "").ends().to_owned();
        let told: Vec<&str> = whole.split("{\"type\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(told, ["begin", "message", "message", "end", "close"], "{whole}");
        let lines = format!("Accept: text/event-stream\r\nLast-Event-ID: {end}\r\n");
        assert!(Client::ask(hub, "channel=a", &lines).ends().starts_with("HTTP/1.1 204 "));
        until("it is counted", || hub.stats().unwrap().ended_channels == 1);
    }
    // Another end moves it, and a message takes it back, on all of them.
    let again = mark(&hubs[1], Mark::End);
    assert_ne!(again, end);
    position(&hubs[1], "three");
    // The other hub has read that far. Before, it would send the client away.
    until("it is counted", || hubs[0].stats().unwrap().ended_channels == 0);
    let lines = format!("Accept: text/event-stream\r\nLast-Event-ID: {again}\r\n");
    let mut goes_on = Client::ask(&hubs[0], "channel=a", &lines);
    goes_on.has("three");
    assert!(!goes_on.got.contains("push-end"), "{}", goes_on.got);
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn a_log_that_loses_its_end_is_told_as_a_gap_in_each_transports_form() {
    let model = Model::named("loss");
    let hub = start("loss", &[]);
    let first = position(&hub, "first");
    let mut clients = [
        Client::sse(&hub, "channel=a&channel=b"),
        Client::ask(&hub, "channel=a&channel=b&transport=stream", ""),
        Client::websocket(&hub, "channel=a&channel=b", JSON),
    ];
    clients[0].has("id: ");
    clients[1].has("200 OK");
    clients[2].has("subscribed");
    let mut raw = Client::websocket(&hub, "channel=a", "");
    raw.has("101 ");
    for at in 0..5 {
        position(&hub, &format!("<{at}>"));
    }
    clients.iter_mut().for_each(|client| _ = client.has("<4>"));
    raw.has("<4>");
    let poll = |since: &str| format!("channel=a&transport=poll&since={since}");
    let last = hub.position(hub.stats().unwrap().seq);
    let mut waits = Client::ask(&hub, &poll(&last), "");
    until("all are there", || hub.stats().unwrap().connections == 5);
    model.fail_over(4);
    until("there is another epoch", || hub.position(1).split('-').next() != first.split('-').next());
    for client in &mut clients {
        client.has(r#""type":"gap","channel":"b""#);
        assert_eq!(client.got.matches(r#""type":"gap""#).count(), 2, "one for each channel: {}", client.got);
    }
    assert!(raw.ends().contains("lost"), "{}", raw.got);
    waits.has("gap");
    let next = position(&hub, "after");
    for client in &mut clients {
        client.has("after").has(&next);
    }
    // One that has seen what is lost is told so, and one that has not is not.
    let mut seen = Client::sse(&hub, &format!("channel=a&since={last}"));
    seen.has("gap").has("after");
    let mut before = Client::sse(&hub, &format!("channel=a&since={first}"));
    before.has("after");
    assert!(!before.got.contains("gap"), "{}", before.got);
    hub.stop(Duration::ZERO);
}

#[test]
fn a_client_that_is_ahead_waits_and_is_told_of_no_gap() {
    let hub = start("ahead", &[]);
    let placed = hub.publish(&Publication::new("a", b"here")).unwrap();
    let epoch = hub.position_of(&placed).split('-').next().unwrap().to_owned();
    // Heartbeats of the hub take numbers, too.
    let ahead = format!("{epoch}-{}", hub.stats().unwrap().seq + 20);
    let mut client = Client::sse(&hub, &format!("channel=a&since={ahead}"));
    std::thread::sleep(Duration::from_millis(100));
    client.read();
    assert_eq!(client.got, "");
    (0..20).for_each(|_| _ = position(&hub, "before"));
    let next = position(&hub, "next");
    client.has("next").has(&next);
    assert!(!client.got.contains("gap"), "{}", client.got);
    hub.stop(Duration::ZERO);

    let hub = start("ahead", &[("engine_timeout", "200ms")]);
    let ahead = format!("{epoch}-{}", placed.seq + 1_000_000);
    let answer = Client::ask(&hub, &format!("channel=a&transport=poll&since={ahead}"), "").ends().to_owned();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After") && answer.contains("behind"));
    hub.stop(Duration::ZERO);
}

#[test]
fn while_the_log_is_away_calls_are_bounded_and_clients_stay() {
    let model = Model::named("away");
    model.log().0.away = u64::MAX;
    let hub = start("away", &[("engine_timeout", "300ms"), ("engine_buffer", "64KB"), ("health_path", "/health")]);
    let began = Instant::now();
    let error = hub.publish(&Publication { key: Some("k"), ..Publication::new("a", b"waits") }).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(began.elapsed() < PATIENCE / 2);
    let answer = Client::ask(&hub, "channel=a&transport=poll", "").ends().to_owned();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After"), "{answer}");
    model.log().0.away = 0;
    until("it serves", || {
        let answer =
            Client::ask(&hub, "channel=a&transport=poll&wait=0&last=9", "Connection: close\r\n").ends().to_owned();
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("waits")
    });
    let mut client = Client::sse(&hub, "channel=a");
    client.has("id: ");
    (model.log().0.away, _) = (u64::MAX, model.cut());
    let mut taken = 0;
    while hub.post(&Publication::new("a", format!("<{taken}>").as_bytes())).is_ok() {
        taken += 1;
    }
    assert!(taken > 50);
    assert_eq!(hub.post(&Publication::new("a", b"x")).unwrap_err().kind(), Kind::Busy);
    model.log().0.away = 0;
    client.has(&format!("<{}>", taken - 1));
    assert!(!client.got.contains("gap"), "{}", client.got);
    hub.stop(Duration::ZERO);
}
