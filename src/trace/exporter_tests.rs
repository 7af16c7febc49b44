//! The exporter, with a collector that the test plays.

mod stop;

use super::exporter::{Exporter, Settings};
use super::otlp::Response;
use super::span::Ended;
use super::tests::tracer;
use super::{Endpoint, Tracer};
use crate::engine::shared::contract_tests::ports::free_port;
use crate::log::{Level, Line, Log, Sink};
use crossbeam::channel::Receiver;
use prost::Message;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The exporter panics at the spans of this channel, in this build only.
const BOOM: &str = "panic in the exporter";

pub(super) fn maybe_panic(spans: &[Ended]) {
    assert!(spans.iter().all(|ended| *ended.begun.channel != *BOOM), "planted");
}

/// An exporter that runs, and its tracer.
struct World {
    tracer: Arc<Tracer>,
    exporter: Exporter,
    thread: JoinHandle<()>,
    lines: Receiver<Line>,
}

impl World {
    fn new(port: u16, timeout: Duration, room: usize) -> Self {
        let tracer = tracer(1, room);
        let endpoint = Endpoint::parse(&format!("otlp:http://127.0.0.1:{port}")).unwrap();
        let (line, lines) = crossbeam::channel::unbounded();
        let log = Log::new(Some(Sink::Thread(line)), Level::Debug);
        let settings = Settings { endpoint, service: "s".to_owned(), timeout };
        let (exporter, work) = Exporter::new(tracer.clone(), settings, log).unwrap();
        World { tracer, exporter, thread: std::thread::spawn(work), lines }
    }

    /// The same with a message, and the listener of its collector.
    fn with_message(timeout: Duration, room: usize) -> (TcpListener, Self) {
        let (listener, port) = listener();
        let world = World::new(port, timeout, room);
        world.publish();
        (listener, world)
    }

    /// The same, and the connection to its collector.
    fn connected(timeout: Duration, room: usize) -> (TcpListener, Self, TcpStream) {
        let (listener, world) = World::with_message(timeout, room);
        let (stream, _) = listener.accept().unwrap();
        (listener, world, stream)
    }

    /// A message that nobody has subscribed to.
    fn publish(&self) {
        self.tracer.begin(None, "news", 5).unwrap().place(7, None, 0, 0);
    }

    fn await_outcomes(&self, expected: [u64; 3]) {
        let start = Instant::now();
        while self.tracer.outcomes().map(|(_, count)| count) != expected {
            assert!(start.elapsed() < PATIENCE, "{:?}, not {expected:?}", self.tracer.outcomes());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops it with this much time, of which it does not use much. Its log says how many spans are dropped.
    fn stop_dropping(self, time: Duration, spans: usize) {
        let began = Instant::now();
        let lines = self.stop(time);
        assert!(began.elapsed() < PATIENCE, "it has its own time only");
        let expected = format!("the hub ends; {spans} spans are dropped");
        assert!(lines.iter().any(|line| line.ends_with(&expected)), "{expected}: {lines:?}");
    }

    /// Stops it. Returns the lines of the log.
    fn stop(self, time: Duration) -> Vec<String> {
        self.exporter.stop(Instant::now() + time);
        self.thread.join().unwrap();
        self.lines.try_iter().map(|line| line.text).collect()
    }
}

pub(super) fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port of a listener that drops the packets of all who want to connect, as it has no room for them. It does so as
/// long as the second part is held.
pub(super) fn full() -> (u16, impl Sized) {
    let runtime = crate::runtime::single().unwrap();
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(1).unwrap()
    });
    let address = listener.local_addr().unwrap();
    let (mut streams, mut dropped) = (Vec::new(), 0);
    // On a slow machine one may be late for which there is room.
    while dropped < 2 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            Ok(stream) => {
                streams.push(stream);
                dropped = 0;
            }
            Err(_) => dropped += 1,
        }
        assert!(streams.len() < 100, "its room has no bound");
    }
    let held = (listener.into_std().unwrap(), streams);
    runtime.shutdown_background();
    (address.port(), held)
}

/// Reads a request. `None`: the connection has ended.
fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut read = Vec::new();
    loop {
        let mut more = [0; 4096];
        let count = stream.read(&mut more).ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&more[..count]);
        let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n").map(|at| at + 4) else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()?;
        if read.len() >= end + length {
            return Some(read.split_off(end));
        }
    }
}

fn answer(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
}

/// Takes the spans of a request.
fn take(stream: &mut TcpStream) -> Vec<u8> {
    let spans = request(stream).unwrap();
    answer(stream, "200 OK", b"");
    spans
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn spans_go_over_one_connection_and_a_new_one_when_it_has_ended() {
    let (listener, world, mut stream) = World::connected(PATIENCE, 100);
    let body = request(&mut stream).unwrap();
    assert!(memchr::memmem::find(&body, b"e-7").is_some() && memchr::memmem::find(&body, b"news").is_some());
    answer(&mut stream, "200 OK", b"");
    world.await_outcomes([1, 0, 0]);
    world.publish();
    take(&mut stream);
    world.await_outcomes([2, 0, 0]);
    drop(stream);
    world.publish();
    let (mut stream, _) = listener.accept().unwrap();
    take(&mut stream);
    world.await_outcomes([3, 0, 0]);
    let lines = world.stop(PATIENCE);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with("the collector takes spans"), "{lines:?}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_collector_that_is_busy_gets_the_same_spans_again() {
    let (_listener, world, mut stream) = World::connected(PATIENCE, 100);
    let first = request(&mut stream).unwrap();
    answer(&mut stream, "503 Service Unavailable\r\nRetry-After: 1", b"");
    assert_eq!(request(&mut stream).unwrap(), first);
    let partial = Some(super::otlp::Partial { rejected: 1, error: "too old".to_owned() });
    answer(&mut stream, "200 OK", &Response { partial }.encode_to_vec());
    world.await_outcomes([0, 1, 0]);
    world.publish();
    request(&mut stream).unwrap();
    answer(&mut stream, "400 Bad Request", b"no");
    world.await_outcomes([0, 2, 0]);
    let lines = world.stop(PATIENCE).join("\n");
    for part in
        ["503 Service Unavailable; the hub tries again", "it has rejected 1 spans: too old", "400 Bad Request; 1"]
    {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_collector_that_hangs_costs_spans_beyond_the_queue_and_no_publisher_waits() {
    let (_listener, world, mut stream) = World::connected(PATIENCE * 10, 4);
    request(&mut stream).unwrap();
    // One is under way, and four wait.
    (0..10).for_each(|_| world.publish());
    world.await_outcomes([0, 0, 6]);
    world.stop_dropping(Duration::from_millis(100), 5);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn whatever_answers_at_the_port_is_an_error_and_never_a_panic() {
    for strange in ["220 mail.example.org ESMTP\r\n", "HTTP/1.1 200", "\0\0\0\0", ""] {
        let (listener, world, mut stream) = World::connected(PATIENCE / 2, 100);
        request(&mut stream).unwrap();
        stream.write_all(strange.as_bytes()).unwrap();
        drop(stream);
        let line = world.lines.recv_timeout(PATIENCE).unwrap().text;
        assert!(line.ends_with("the hub tries again"), "{strange:?}: {line}");
        drop(listener);
        world.stop(Duration::ZERO);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_status_counts_also_if_the_rest_of_the_answer_cannot_be_read() {
    let long = vec![b'x'; 1 << 20];
    let whole = format!("Content-Length: {}\r\n\r\n", long.len());
    let (cut, broken) = ("Content-Length: 100000000\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\nzz\r\n");
    for (status, outcomes) in [("200 OK", [1, 0, 0]), ("404 Not Found", [0, 1, 0])] {
        for (rest, body) in [(&*whole, &*long), (cut, b""), (broken, b"")] {
            let (listener, world, mut stream) = World::connected(PATIENCE * 10, 100);
            let first = request(&mut stream).unwrap();
            stream.write_all(format!("HTTP/1.1 {status}\r\n{rest}").as_bytes()).unwrap();
            // It may be closed meanwhile.
            let _ = stream.write_all(body);
            drop(stream);
            world.await_outcomes(outcomes);
            world.publish();
            let (mut stream, _) = listener.accept().unwrap();
            assert!(request(&mut stream).unwrap() != first, "other spans come, and over a new connection");
            answer(&mut stream, "200 OK", b"");
            world.await_outcomes([outcomes[0] + 1, outcomes[1], 0]);
            world.stop(PATIENCE);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn an_answer_without_end_is_given_up_and_the_spans_do_not_come_again() {
    let (listener, world) = World::with_message(Duration::from_secs(1), 100);
    listener.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    while world.tracer.outcomes().map(|(_, count)| count) != [1, 0, 0] {
        assert!(begun.elapsed() < PATIENCE, "{:?}", world.tracer.outcomes());
        // On a slow machine the answer may begin too late. Then they do come again.
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        if request(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nx");
            assert!(request(&mut stream).is_none(), "the connection is closed");
        }
    }
    world.stop(PATIENCE);
    assert!(listener.accept().is_err(), "they come no more");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_connection_of_a_request_that_is_given_up_is_closed() {
    let (listener, world) = World::with_message(Duration::from_millis(200), 100);
    let mut first = None;
    let mut tries = 0;
    while tries < 2 {
        let (mut stream, _) = listener.accept().unwrap();
        // On a slow machine it may be given up before it is sent.
        let Some(body) = request(&mut stream) else { continue };
        tries += 1;
        assert_eq!(first.get_or_insert_with(|| body.clone()), &body);
        assert!(request(&mut stream).is_none(), "it is closed without an answer");
    }
    world.stop(Duration::ZERO);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_collector_that_refuses_all_is_in_the_log_once() {
    let (listener, port) = listener();
    let world = World::new(port, PATIENCE, 100);
    let mut stream = None;
    for round in 1..=4 {
        world.publish();
        let stream = stream.get_or_insert_with(|| listener.accept().unwrap().0);
        request(stream).unwrap();
        answer(stream, "404 Not Found", b"");
        world.await_outcomes([0, round, 0]);
    }
    let lines = world.stop(PATIENCE);
    let expected = "it answers 404 Not Found; 1 spans are dropped";
    assert!(lines.len() == 1 && lines[0].ends_with(expected), "{lines:?}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_span_that_no_shard_hands_on_ends_also_while_there_is_always_another() {
    let (_listener, world, mut stream) = World::connected(PATIENCE, 100);
    let began = Instant::now();
    let mut body = request(&mut stream).unwrap();
    world.tracer.begin(None, "lost", 5).unwrap().place(8, None, 1, 1);
    world.tracer.under_way.age();
    while memchr::memmem::find(&body, b"push.unfinished").is_none() {
        assert!(began.elapsed() < PATIENCE, "it has not ended");
        world.publish();
        answer(&mut stream, "200 OK", b"");
        body = request(&mut stream).unwrap();
    }
    answer(&mut stream, "200 OK", b"");
    world.stop(PATIENCE);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_span_that_no_shard_hands_on_ends_also_while_the_collector_hangs() {
    let (_listener, world, mut stream) = World::connected(PATIENCE * 10, 100);
    request(&mut stream).unwrap();
    world.tracer.begin(None, "lost", 5).unwrap().place(8, None, 1, 1);
    world.tracer.under_way.age();
    let began = Instant::now();
    while world.tracer.queue.len() == 0 {
        assert!(began.elapsed() < PATIENCE, "it has not ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    world.stop(Duration::ZERO);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_panic_of_the_exporter_is_told_and_counted_and_no_publisher_feels_it() {
    let (_listener, port) = listener();
    let world = World::new(port, PATIENCE, 4);
    world.tracer.begin(None, BOOM, 5).unwrap().place(1, None, 0, 0);
    let line = world.lines.recv_timeout(PATIENCE).unwrap().text;
    assert!(line.contains("a bug in the library was caught") && line.ends_with("no spans are exported"), "{line}");
    assert_eq!(world.tracer.panics(), 1);
    // The span at which it panicked counts, too.
    world.await_outcomes([0, 0, 1]);
    // The queue keeps its bound.
    (0..10).for_each(|_| world.publish());
    world.await_outcomes([0, 0, 7]);
    world.stop(PATIENCE);
}
