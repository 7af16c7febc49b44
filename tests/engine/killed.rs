//! `pushd` is killed, again and again, while it is at work: what its log lost is told, and nothing else.

use super::Place;
use crate::common::{field, until, PATIENCE};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const FOLLOWERS: usize = 3;

/// How often it is killed: `PUSH_KILLS`, or few.
fn kills() -> u64 {
    std::env::var("PUSH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

struct Pushd {
    child: Child,
    port: u16,
    control: u16,
    directory: String,
}

impl Pushd {
    fn start(place: &Place) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, control) = (free(), free());
        let directory = place.engine();
        let child = Pushd::spawn(port, control, &directory);
        let pushd = Pushd { child, port, control, directory };
        pushd.wait();
        pushd
    }

    fn spawn(port: u16, control: u16, directory: &str) -> Child {
        let options = [
            format!("listen=127.0.0.1:{port}"),
            format!("control=127.0.0.1:{control}"),
            format!("control_key={KEY}"),
            format!("engine={directory}"),
            "history_count=100000".into(),
            "history_bytes=64MB".into(),
        ];
        let options = options.iter().flat_map(|option| ["-o", option]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushd"));
        command.args(options).args(["-d", "0"]).stderr(Stdio::null()).spawn().unwrap()
    }

    fn wait(&self) {
        until("pushd did not start", || self.request("GET /healthz", b"").is_some());
    }

    /// The answer of the control API: its status and body.
    fn request(&self, what: &str, body: &[u8]) -> Option<(u16, String)> {
        request(self.control, what, body)
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    fn restart(&mut self, signal: &str) {
        self.signal(signal);
        self.child.wait().unwrap();
        self.child = Pushd::spawn(self.port, self.control, &self.directory);
        self.wait();
    }
}

impl Drop for Pushd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(port: u16, what: &str, body: &[u8]) -> Option<(u16, String)> {
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
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// What a follower was told: messages by their count, and gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Message(u64),
    Gap,
}

/// Follows the channel over whatever comes, by its position, until the end is told.
fn follow(port: u16, mut position: String, ended: &AtomicBool) -> Vec<Told> {
    let mut told = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // HTTP/1.0: no chunks.
        let request =
            format!("GET /push?channel=a&since={position}&transport=stream HTTP/1.0\r\nHost: localhost\r\n\r\n");
        if stream.write_all(request.as_bytes()).is_err() {
            continue;
        }
        for line in BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.starts_with('{')) {
            // The end of a killed hub's stream may be half a line.
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { break };
            match value["type"].as_str() {
                Some("message") => match value["data"].as_str() {
                    Some("end") => return told,
                    data => told.push(Told::Message(data.unwrap().parse().unwrap())),
                },
                Some("gap") => told.push(Told::Gap),
                _ => continue,
            }
            position = value["id"].as_str().unwrap().to_owned();
        }
    }
    told
}

/// Publishes one message after the other, and says which were acknowledged.
fn publish(control: u16, ended: &AtomicBool, count: &AtomicU64) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let n = count.fetch_add(1, Ordering::Relaxed) + 1;
        match request(control, "POST /v1/publish?channel=a", n.to_string().as_bytes()) {
            Some((200, _)) => acknowledged.push(n),
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    acknowledged
}

/// Nothing acknowledged is missing without a gap, nothing comes twice, and the order is that of the publisher.
fn check(told: &[Told], acknowledged: &[u64]) -> usize {
    let (mut last, mut gap, mut gaps) = (0, false, 0);
    for told in told {
        match *told {
            Told::Gap => (gap, gaps) = (true, gaps + 1),
            Told::Message(n) => {
                assert!(n > last, "{n} after {last}");
                let missing: Vec<_> = acknowledged.iter().filter(|sent| **sent > last && **sent < n).collect();
                assert!(
                    gap || missing.is_empty(),
                    "{missing:?} are missing between {last} and {n}, and no gap was told"
                );
                (last, gap) = (n, false);
            }
        }
    }
    let missing: Vec<_> = acknowledged.iter().filter(|sent| **sent > last).collect();
    assert!(gap || missing.is_empty(), "{missing:?} are missing at the end");
    gaps
}

/// Has followers and a publisher at work while `kill` does what it does; then compares what each was told.
fn under_load(pushd: &mut Pushd, mut kill: impl FnMut(&mut Pushd, u64)) -> Vec<usize> {
    let (_, first) = pushd.request("POST /v1/publish?channel=a", b"0").unwrap();
    let position = field(&first, "id");
    let (ended, stop, count) = (AtomicBool::new(false), AtomicBool::new(false), Arc::new(AtomicU64::new(0)));
    let (port, control) = (pushd.port, pushd.control);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let followers: Vec<_> =
            (0..FOLLOWERS).map(|_| scope.spawn(|| follow(port, position.clone(), &ended))).collect();
        let publisher = scope.spawn(|| publish(control, &stop, &count));
        for n in 0..kills() {
            let before = count.load(Ordering::Relaxed);
            until("nothing is published", || count.load(Ordering::Relaxed) > before + 5 + n % 7 * 9);
            kill(pushd, n);
        }
        stop.store(true, Ordering::Relaxed);
        let acknowledged = publisher.join().unwrap();
        assert_eq!(pushd.request("POST /v1/publish?channel=a", b"end").unwrap().0, 200);
        let told = followers.into_iter().map(|follower| follower.join().unwrap());
        *all.lock().unwrap() = told.map(|told| check(&told, &acknowledged)).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(acknowledged.len() as u64 > kills() * 2, "{} were acknowledged", acknowledged.len());
    });
    all.into_inner().unwrap()
}

#[test]
fn killed_under_load_it_tells_of_a_gap_where_something_may_be_missing() {
    let place = Place::new();
    let mut pushd = Pushd::start(&place);
    let gaps = under_load(&mut pushd, |pushd, _| pushd.restart("KILL"));
    assert!(gaps.iter().all(|gaps| *gaps as u64 <= kills()), "{gaps:?}: no more than one for each kill");
}

#[test]
fn ended_in_order_under_load_it_loses_nothing_and_tells_of_no_gap() {
    let place = Place::new();
    let mut pushd = Pushd::start(&place);
    let gaps = under_load(&mut pushd, |pushd, _| pushd.restart("TERM"));
    assert!(gaps.iter().all(|gaps| *gaps == 0), "{gaps:?}");
}

#[test]
fn killed_while_it_is_quiet_it_tells_of_no_gap() {
    let place = Place::new();
    let mut pushd = Pushd::start(&place);
    let (mut position, mut epochs) = (String::new(), Vec::new());
    for n in 1..=5 {
        let (_, placed) = pushd.request("POST /v1/publish?channel=a", n.to_string().as_bytes()).unwrap();
        if n == 1 {
            position = field(&placed, "id");
        }
        epochs.push(field(&placed, "id").rsplit_once('-').unwrap().0.to_owned());
        // Its file `state` says that it is quiet.
        let state = place.log().join("state");
        until("it never becomes quiet", || std::fs::read(&state).unwrap()[52] == 1);
        pushd.restart("KILL");
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "the epoch goes on: {epochs:?}");
    let ended = AtomicBool::new(false);
    assert_eq!(pushd.request("POST /v1/publish?channel=a", b"end").unwrap().0, 200);
    assert_eq!(follow(pushd.port, position, &ended), (2..=5).map(Told::Message).collect::<Vec<_>>());
}

#[test]
fn what_can_t_be_written_is_not_published_and_it_heals() {
    let place = Place::new();
    let mut pushd = Pushd::start(&place);
    let publish = |pushd: &Pushd, data: &str| pushd.request("POST /v1/publish?channel=a", data.as_bytes()).unwrap();
    let limit = |pushd: &Pushd, bytes: &str| {
        let pid = pushd.child.id().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status();
        assert!(done.unwrap().success());
    };
    let first = publish(&pushd, "0");
    let position = field(&first.1, "id");
    // Files may not grow any more, as on a disk that is full.
    limit(&pushd, "1");
    let mut acknowledged = 0;
    until("it never says so", || {
        let (status, body) = publish(&pushd, &(acknowledged + 1).to_string());
        acknowledged += u64::from(status == 200);
        assert!(status == 200 || (status == 503 && body.contains("\"system\"")), "{body}");
        status == 503
    });
    let (status, why) = pushd.request("GET /healthz", b"").unwrap();
    assert!(status == 503 && why.contains("engine: ") && why.contains("File too large"), "{why}");
    assert!(pushd.request("GET /metrics", b"").unwrap().1.contains("push_engine_up 0"));
    // Subscribers go on.
    let mut client = TcpStream::connect(("127.0.0.1", pushd.port)).unwrap();
    client.write_all(b"GET /push?channel=a&last=1&transport=poll HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!("\"data\":\"{acknowledged}\"")), "{answer}");
    limit(&pushd, "unlimited");
    until("it does not heal", || publish(&pushd, &(acknowledged + 1).to_string()).0 == 200);
    assert_eq!(pushd.request("GET /healthz", b"").unwrap().0, 200);
    pushd.restart("TERM");
    assert_eq!(publish(&pushd, "end").0, 200);
    let told = follow(pushd.port, position, &AtomicBool::new(false));
    assert_eq!(told, (1..=acknowledged + 1).map(Told::Message).collect::<Vec<_>>());
}
