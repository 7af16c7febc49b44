//! A server on a free port, and a client that speaks raw bytes.
#![allow(dead_code)] // each test uses its part

pub mod folder;
pub mod killed;
// The library's own tests have this file twice, as they include this module.
#[allow(clippy::duplicate_mod)]
#[path = "../../src/framing/masked.rs"]
pub mod masked;
pub mod nats;
#[allow(clippy::duplicate_mod)]
pub mod ports;
pub mod proxy;
pub mod redis;

pub use ports::free_port;
use push::grant::Grant;
use push::hub::{Placed, Publication};
use push::{Builder, Server};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. No test measures with it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something that a thread of the server does soon.
pub fn eventually(done: impl Fn() -> bool) {
    until("it never came", done);
}

/// The same, with a text for the failure.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How long the control API waits for more of a request that it has refused.
pub const LINGER_PAUSE: Duration = Duration::from_secs(5);

/// Tries something for which the server leaves so much time, until a try had that time. On a slow machine a try may take
/// longer. Then its failure says nothing.
pub fn in_time(time: Duration, mut attempt: impl FnMut() -> Result<(), String>) {
    for _ in 0..20 {
        let began = Instant::now();
        match attempt() {
            Ok(()) => return,
            Err(error) => assert!(began.elapsed() >= time, "{error}"),
        }
    }
    panic!("no try was in time");
}

/// Says that a test can't run on this machine. `cargo test` keeps what a test that passes prints to itself, but not this.
pub fn not_run(why: &str) {
    std::io::stderr().write_all(format!("{why}\n").as_bytes()).unwrap();
}

/// A log that can be read back: the level and the text of each line.
pub type Lines = std::sync::Arc<std::sync::Mutex<Vec<String>>>;

/// The defaults, a free port, and these options. Even on a slow machine no client gets a ping, and no poll an empty
/// answer, that its test does not ask for, and no client or host is late. Any client may subscribe, also one that is
/// handed over without a grant.
pub fn builder(options: &[(&str, &str)]) -> Builder {
    let mut builder = Builder::default();
    let of_tests = [
        ("listen", "127.0.0.1:0"),
        ("auth", "none"),
        ("heartbeat", "10m"),
        ("poll_timeout", "10m"),
        ("head_timeout", "1m"),
        ("auth_timeout", "1m"),
    ];
    for (name, value) in of_tests {
        builder.set(name, value).unwrap();
    }
    for (name, value) in options {
        builder.set(name, value).unwrap();
    }
    builder
}

/// A host that attaches to the hub at this address. Its calls wait for the hub as long as they may, unless the
/// options say otherwise.
pub fn attached(path: &str, options: &[(&str, &str)]) -> Server {
    Server::start(builder(&[&[("attach", path), ("attach_timeout", "1m")], options].concat())).unwrap()
}

/// A connection on this machine, and the end that a host would hand over.
pub fn tcp_pair() -> (Client, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    (client, listener.accept().unwrap().0.into())
}

/// A client. A host has accepted its connection, read `head` from it, and handed it over.
pub fn adopted(server: &Server, head: &str, grant: Option<Grant>) -> Client {
    let (client, socket) = tcp_pair();
    server.adopt(socket, head.as_bytes(), grant).unwrap();
    client
}

/// The path of a Unix socket that no other test uses.
pub fn socket_path() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("push-test-{}-{}.sock", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name).display().to_string()
}

/// The metrics of the server with its control API at this path, as Prometheus gets them.
pub fn metrics(path: &str) -> String {
    metrics_with_key(path, "none is asked for")
}

/// The same, with a key.
pub fn metrics_with_key(path: &str, key: &str) -> String {
    let mut control = UnixStream::connect(path).unwrap();
    let lines = format!("Host: localhost\r\nConnection: close\r\nAuthorization: Bearer {key}");
    control.write_all(format!("GET /metrics HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    control.read_to_string(&mut text).unwrap();
    text
}

/// The labels of a metric with numbers that are not 0, and these numbers.
pub fn counted(metrics: &str, name: &str) -> Vec<(String, u64)> {
    let samples = metrics.lines().filter_map(|line| {
        let (label, number) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
        Some((label.split('"').nth(1)?.to_owned(), number.parse().ok()?))
    });
    samples.filter(|(_, number)| *number > 0).collect()
}

/// Options for [`Host::control`].
pub const CONTROL: [(&str, &str); 2] = [("control", "127.0.0.1:0"), ("control_key", "a-key-of-some-length")];

/// A running server.
pub struct Host {
    pub server: Server,
}

impl Host {
    /// Starts with the defaults, a free port, and these options.
    pub fn start(options: &[(&str, &str)]) -> Self {
        Host { server: Server::start(builder(options)).unwrap() }
    }

    /// The same, with its log.
    pub fn logged(options: &[(&str, &str)]) -> (Self, Lines) {
        let lines = Lines::default();
        let (into, mut builder) = (lines.clone(), builder(options));
        builder.on_log = Some(std::sync::Arc::new(move |level, line| {
            into.lock().unwrap().push(format!("{level:?} {line}"));
        }));
        (Host { server: Server::start(builder).unwrap() }, lines)
    }

    pub fn address(&self) -> &str {
        &self.server.addresses()[0]
    }

    /// Publishes as soon as there is room, and returns the position.
    pub fn publish(&self, channel: &str, data: &str) -> String {
        self.server.position(self.place(&Publication::new(channel, data.as_bytes())).seq)
    }

    /// Publishes as soon as there is room, and the log of a hub with one is awake.
    pub fn place(&self, publication: &Publication<'_>) -> Placed {
        loop {
            match self.server.publish(publication) {
                Ok(placed) => return placed,
                Err(error) if error.kind() == push::Kind::Busy => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn connect(&self) -> Client {
        Client::over(TcpStream::connect(self.address()).unwrap())
    }

    /// Sends a request for the subscribers' URL with this query and these header lines.
    pub fn get(&self, query: &str, lines: &str) -> Client {
        let mut client = self.connect();
        client.send(format!("GET /push?{query} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", self.address()).as_bytes());
        client
    }

    /// An open WebSocket.
    pub fn websocket(&self, query: &str, subprotocol: bool) -> Client {
        let protocol = if subprotocol { "Sec-WebSocket-Protocol: push.v1.json\r\n" } else { "" };
        let mut client = self.get(query, &format!("{UPGRADE}{protocol}"));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// The control API's answer to a GET. The server needs the options [`CONTROL`].
    pub fn control(&self, path: &str) -> String {
        let mut control = Client::over(TcpStream::connect(&self.server.addresses()[1]).unwrap());
        let key = CONTROL[1].1;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        );
        control.send(request.as_bytes());
        control.head();
        control.rest()
    }

    pub fn stop(self) {
        self.server.stop(Duration::from_secs(5));
    }
}

pub const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Takes the text before `end`, and `end`, if it has come.
pub fn take_until(read: &mut Vec<u8>, end: &str) -> Option<String> {
    let at = read.windows(end.len()).position(|window| window == end.as_bytes())?;
    let text = String::from_utf8_lossy(&read[..at]).into_owned();
    read.drain(..at + end.len());
    Some(text)
}

/// Reads a frame of a server, which has no mask: its first byte and payload. `bytes` reads so many.
pub fn read_frame(mut bytes: impl FnMut(usize) -> Vec<u8>) -> (u8, Vec<u8>) {
    let head = bytes(2);
    let len = match head[1] {
        126 => u16::from_be_bytes(bytes(2).try_into().unwrap()).into(),
        127 => u64::from_be_bytes(bytes(8).try_into().unwrap()) as usize,
        len => usize::from(len),
    };
    (head[0], bytes(len))
}

/// A connection that sends and reads bytes.
pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, read: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // If the server has refused already, it may have closed.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads until `end`, and returns the text before it.
    pub fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(text) = take_until(&mut self.read, end) {
                return text;
            }
            assert!(self.fill(), "the server ended; {end:?} is not in {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// A response's head, or a request's.
    pub fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    /// Reads this many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.fill(), "the server ended");
        }
        self.read.drain(..count).collect()
    }

    /// Reads a response with a Content-Length: its head and body.
    pub fn response(&mut self) -> (String, String) {
        let head = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        let body = self.bytes(length.parse().unwrap());
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads everything until the server ends the connection.
    pub fn rest(&mut self) -> String {
        while self.fill() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Sends a masked frame.
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        self.send(&masked::frame(first, payload, [0x11, 0x22, 0x33, 0x44]));
    }

    /// Sends text, and reads the frames that come back.
    pub fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    /// The next frame: its first byte and payload.
    pub fn next_frame(&mut self) -> (u8, Vec<u8>) {
        read_frame(|count| self.bytes(count))
    }

    /// The next text frame.
    pub fn text(&mut self) -> String {
        let (first, payload) = self.next_frame();
        assert_eq!(first, 0x81, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    /// The code of the close frame. It must be the next frame.
    pub fn close_code(&mut self) -> u16 {
        let (first, payload) = self.next_frame();
        assert_eq!(first, 0x88, "{}", String::from_utf8_lossy(&payload));
        u16::from_be_bytes([payload[0], payload[1]])
    }

    /// The code and the reason of the close frame. Frames before it are skipped.
    pub fn end(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.next_frame();
            if first == 0x88 {
                let (code, reason) = payload.split_at(2);
                return (u16::from_be_bytes([code[0], code[1]]), String::from_utf8_lossy(reason).into_owned());
            }
        }
    }

    /// Whether there is something to read, which is not read.
    pub fn has_come(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let has_come = self.stream.peek(&mut [0]).is_ok_and(|len| len > 0);
        self.stream.set_nonblocking(false).unwrap();
        has_come || !self.read.is_empty()
    }

    /// Reads more. False: the end.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 65_536];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(len) => {
                self.read.extend_from_slice(&chunk[..len]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The field of a JSON object.
pub fn field(json: &str, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    match &value[name] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
