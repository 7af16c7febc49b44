//! A `pushd` that ends and is started again, on the same ports, with the same log.

use super::Place;
use crate::common::{free_port, until, PATIENCE};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output};

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// The answer of a hub that was quiet, and did not write in time that it no longer is.
pub const ASLEEP: &str = "the log's disk does not answer; nothing was published";

pub struct Pushd {
    pub child: Child,
    pub port: u16,
    pub control: u16,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    /// The command that starts it. Empty if it is started directly.
    within: Vec<String>,
    /// How long it may take to end in order, from the next start on. Its clients leave at once, so only a disk that is
    /// busy takes so long.
    pub drain_s: &'static str,
    /// The file with its standard error, of all its lives.
    pub stderr: PathBuf,
}

impl Pushd {
    pub fn start(place: &Place) -> Self {
        Pushd::start_with(place, &[], &[])
    }

    /// Starts one with more options, and an environment.
    pub fn start_with(place: &Place, more: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        Pushd::start_within(place, &[], more, environment)
    }

    /// The same, by a command that executes the program in its last arguments.
    pub fn start_within(place: &Place, within: &[&str], more: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let (port, control) = (free_port(), free_port());
        let of_tests = [
            format!("listen=127.0.0.1:{port}"),
            format!("control=127.0.0.1:{control}"),
            format!("control_key={KEY}"),
            format!("engine={}", place.engine()),
            "history_count=1000000".into(),
            "history_bytes=256MB".into(),
            // Nothing gets too old, and nobody is late or gets a ping, however slow the machine is.
            "history_age=1d".into(),
            "head_timeout=1m".into(),
            "heartbeat=10m".into(),
        ];
        let more = more.iter().map(|(name, value)| format!("{name}={value}"));
        let options: Vec<String> = of_tests.into_iter().chain(more).collect();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let within: Vec<String> = within.iter().map(ToString::to_string).collect();
        let stderr = place.0.join("pushd.log");
        let drain_s = "60";
        let child = spawn(&within, &options, &environment, drain_s, &stderr);
        let mut pushd = Pushd { child, port, control, options, environment, within, drain_s, stderr };
        pushd.wait();
        pushd
    }

    /// Starts it after its end, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.begin_again();
        self.wait();
    }

    /// The same, but does not wait.
    pub fn begin_again(&mut self) {
        self.child = spawn(&self.within, &self.options, &self.environment, self.drain_s, &self.stderr);
    }

    /// Waits until it is ready.
    pub fn wait(&mut self) {
        let stderr = || std::fs::read_to_string(&self.stderr).unwrap_or_default();
        until("pushd did not start", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "pushd ended with {ended:?}: {}", stderr());
            request(self.control, "GET /healthz", b"").is_some()
        });
    }

    /// Publishes to a channel, and returns the answer. A hub that was quiet publishes nothing before its disk has
    /// answered.
    pub fn publish(&self, channel: &str, data: &str) -> String {
        let mut answer = (0, String::new());
        until("it is not published", || {
            answer = self.request(&format!("POST /v1/publish?channel={channel}"), data.as_bytes()).expect("an answer");
            let is_quiet = answer.0 == 503 && answer.1.contains(ASLEEP);
            assert!(answer.0 == 200 || is_quiet, "{answer:?}");
            !is_quiet
        });
        answer.1
    }

    /// The answer of the control API: its status and body.
    pub fn request(&self, what: &str, body: &[u8]) -> Option<(u16, String)> {
        request(self.control, what, body)
    }

    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Ends it by a signal.
    pub fn end(&mut self, signal: &str) {
        self.signal(signal);
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self, signal: &str) {
        self.restart_after(signal, || {});
    }

    /// The same, and does something in between.
    pub fn restart_after(&mut self, signal: &str, meanwhile: impl FnOnce()) {
        self.end(signal);
        meanwhile();
        self.start_again();
    }
}

impl Drop for Pushd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    within: &[String],
    options: &[String],
    environment: &[(String, String)],
    drain_s: &str,
    log: &PathBuf,
) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
    let words: Vec<&str> = within.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_pushd")]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(options.iter().flat_map(|option| ["-o", option])).args(["-d", drain_s]);
    command.envs(environment.iter().cloned()).stderr(log).spawn().unwrap()
}

/// One request to a control API: the answer's status and body.
pub fn request(port: u16, what: &str, body: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "{what} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    // A hub that is killed may have sent a part of its answer.
    (Some(body.len()) == length).then_some(())?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Subscribes with the transport `stream`. Returns what comes, up to the end of the connection. `None`: the hub is not
/// there.
pub fn stream(port: u16, query: &str) -> Option<impl Iterator<Item = serde_json::Value>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // HTTP/1.0 has no chunks.
    let request = format!("GET /push?{query}&transport=stream HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.starts_with('{'));
    // The end of a killed hub's stream may be half a line.
    Some(lines.map_while(|line| serde_json::from_str(&line).ok()))
}

/// Runs `pushd` to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pushd")).args(arguments).output().unwrap()
}
