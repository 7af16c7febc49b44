//! `pushd` with a log in a Redis: what its service manager, load balancers, operators and clients see while the hub has
//! not read the log yet, follows it, and has lost it.

use crate::common::folder::Folder;
use crate::common::redis::Redis;
use crate::common::{metrics, until, Client, UPGRADE};
use crate::process::{Manager, Pushd};
use crate::{attached, handed_over, path, publish};
use push::hub::Publication;
use push::Server;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

struct Hub {
    pushd: Pushd,
    manager: Manager,
    attach: String,
    control: String,
    /// Has the file with the option `engine_timeout`.
    options: Folder,
}

impl Hub {
    fn start(test: &str, redis: &Redis, timeout: &str) -> Self {
        let (attach, control) = (path(test), path(&format!("{test}-control")));
        let manager = Manager::new(test);
        let (folder, mut command) = (Folder::new("pushd-options"), Pushd::command(&attach));
        command.arg("-c").arg(write_timeout(&folder, timeout));
        let options = [("engine", &*redis.url()), ("control", &control), ("auth", "none")];
        command.args(options.iter().flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")]));
        command.env("NOTIFY_SOCKET", &manager.path);
        let control = control.strip_prefix("unix:").unwrap().to_owned();
        Hub { pushd: Pushd::start(command), manager, attach, control, options: folder }
    }

    /// Has it read another `engine_timeout`.
    fn reload(&self, timeout: &str) {
        write_timeout(&self.options, timeout);
        self.pushd.signal("HUP");
    }

    fn ask(&self, request: &str) -> Client {
        let mut client = Client::over(TcpStream::connect(&self.pushd.address).unwrap());
        client.send(request.as_bytes());
        client
    }

    fn subscribe(&self, query: &str, lines: &str) -> Client {
        self.ask(&format!("GET /push?channel=a{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"))
    }

    /// What `/healthz` says to load balancers.
    fn health(&self) -> String {
        self.ask("GET /healthz HTTP/1.0\r\n\r\n").rest()
    }

    /// What `/healthz` of the control API says.
    fn health_in_detail(&self) -> String {
        use std::io::{Read, Write};
        let mut control = UnixStream::connect(&self.control).unwrap();
        control.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        control.read_to_string(&mut text).unwrap();
        text
    }

    fn is_healthy(&self) -> bool {
        [self.health(), self.health_in_detail()].iter().all(|answer| answer.ends_with("\r\n\r\nok\n"))
    }

    /// Waits until both answer with 503, and with these words.
    fn falls_ill(&self, word: &str, in_detail: &str) {
        let says = |answer: &str, word: &str| {
            answer.lines().next().is_some_and(|line| line.contains(" 503 ")) && answer.contains(word)
        };
        until("it says that it is well, or not why", || {
            says(&self.health(), word) && says(&self.health_in_detail(), in_detail)
        });
    }

    fn metric(&self, name: &str) -> f64 {
        let text = metrics(&self.control);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    }
}

fn write_timeout(folder: &Folder, timeout: &str) -> PathBuf {
    let path = folder.join("options.toml");
    std::fs::write(&path, format!("engine_timeout = \"{timeout}\"\n")).unwrap();
    path
}

/// Publishes as soon as the log is in time.
fn publish_in_time(host: &Server, data: &str) {
    until("it is not published", || host.publish(&Publication::new("a", data.as_bytes())).is_ok());
}

#[test]
fn ready_status_health_and_metrics_say_how_it_is_with_the_log() {
    let mut redis = Redis::away();
    // A log that is slow must not look like one that has gone.
    let hub = Hub::start("told", &redis, "1m");
    let mut heard = hub.manager.hear_up_to("STATUS=engine: ");
    hub.falls_ill("has not read its log yet", "engine: ");
    assert_eq!(hub.metric("push_engine_up"), 0.0);
    // Options may be read again meanwhile, and the hub is not ready by that.
    hub.pushd.signal("HUP");
    heard.extend(hub.manager.hear_up_to("STATUS=options reloaded; engine: "));
    assert!(!heard.iter().any(|text| text.contains("READY") || text.contains("RELOADING")), "{heard:?}");

    redis.start();
    let heard = hub.manager.hear_up_to("READY=1");
    assert!(heard.last().unwrap().starts_with("READY=1\nSTATUS="), "{heard:?}");
    if !heard.last().unwrap().contains("STATUS=the hub follows its log") {
        hub.manager.hear_up_to("STATUS=the hub follows its log");
    }
    until("it is not healthy", || hub.is_healthy());
    let host = attached(&hub.attach);
    publish(&host, "one");
    assert_eq!(hub.metric("push_engine_up"), 1.0);
    // A message may come back from the log before its append is answered.
    until("no append was counted", || hub.metric("push_engine_append_seconds_count") > 0.0);
    assert!(hub.metric("push_engine_append_seconds_sum") > 0.0);
    until("it is behind", || hub.metric("push_engine_lag_entries") == 0.0);
    assert_eq!(hub.metric("push_engine_reconnects_total"), 0.0);
    let fences = hub.metric("push_engine_fences_total");
    hub.pushd.signal("HUP");
    let heard = hub.manager.hear_up_to("options reloaded");
    assert!(heard[0].starts_with("RELOADING=1\n"), "{heard:?}");
    assert_eq!(heard[1], "READY=1\nSTATUS=options reloaded; the hub follows its log");

    // From here on the hub may take the log for gone, and is to find out soon. It connects anew, and may say so.
    hub.reload("2s");
    until("it does not connect anew", || hub.metric("push_engine_reconnects_total") > 0.0);
    until("it is not healthy with the new connection", || hub.is_healthy());
    hub.manager.hear_up_to("options reloaded");
    hub.pushd.signal("HUP");
    hub.manager.hear_up_to("options reloaded");
    let reconnects = hub.metric("push_engine_reconnects_total");
    redis.kill();
    let heard = hub.manager.hear_up_to("STATUS=engine: ");
    assert!(heard.last().unwrap().lines().count() == 1, "{heard:?}");
    hub.falls_ill("does not follow its log", "engine: ");
    assert!(!hub.health().contains("127.0.0.1"), "strangers are not told where the log is");
    assert_eq!(hub.metric("push_engine_up"), 0.0);

    redis.start();
    hub.manager.hear_up_to("STATUS=the hub follows its log");
    until("it is not healthy again", || hub.is_healthy());
    publish_in_time(&host, "two");
    assert!(hub.metric("push_engine_reconnects_total") > reconnects);
    assert!(hub.metric("push_engine_fences_total") > fences, "another life of the server is another epoch");
    host.stop(Duration::ZERO);
    hub.pushd.signal("TERM");
    hub.manager.hear_up_to("STOPPING=1");
    assert_eq!(hub.pushd.ended(), Some(0));
}

/// One client of each transport: the lines of its head, and how its answer begins once it is served.
const TRANSPORTS: [(&str, &str, &str); 4] = [
    ("", UPGRADE, "HTTP/1.1 101 "),
    ("", "Accept: text/event-stream\r\n", "HTTP/1.1 200 "),
    ("&transport=stream", "", "HTTP/1.1 200 "),
    ("&transport=poll&wait=0", "", "HTTP/1.1 200 "),
];

#[test]
fn clients_that_come_before_the_hub_has_read_its_log_wait_and_are_served() {
    let mut redis = Redis::away();
    let hub = Hub::start("early", &redis, "1m");
    let mut clients: Vec<Client> = TRANSPORTS.iter().map(|(query, lines, _)| hub.subscribe(query, lines)).collect();
    let (host, before) = (attached(&hub.attach), hub.manager.hear());
    // A client that is handed over waits in the same way: `handed_over` returns when it is served.
    let handed = std::thread::scope(|scope| {
        let waits = scope.spawn(|| handed_over(&host, "channel=a"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waits.is_finished() && !clients.iter().any(Client::has_come), "{before}");
        redis.start();
        waits.join().unwrap()
    });
    for (client, (query, _, begins)) in clients.iter_mut().zip(TRANSPORTS) {
        let head = client.head();
        assert!(head.starts_with(begins), "{query}: {head}");
    }
    publish(&host, "first");
    let mut handed = handed;
    assert_eq!(handed.text(), "first");
    assert_eq!(clients[0].text(), "first");
    clients[1].until("data: first");
    clients[2].until("first");
    host.stop(Duration::ZERO);
}

#[test]
fn clients_of_a_hub_that_can_not_read_its_log_are_told_to_come_back() {
    let redis = Redis::away();
    let hub = Hub::start("unread", &redis, "300ms");
    for (query, lines, _) in TRANSPORTS {
        let answer = hub.subscribe(query, lines).rest();
        if lines.contains("event-stream") {
            // An EventSource would never come back after an error.
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("retry: "), "{answer}");
            assert!(answer.contains("event: push-close"), "{answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
        }
        assert!(answer.contains("this hub has not read its log"), "{answer}");
    }
    hub.pushd.signal("TERM");
    let heard = hub.manager.hear_up_to("STOPPING=1");
    assert!(!heard.iter().any(|text| text.contains("READY")), "{heard:?}");
    assert_eq!(hub.pushd.ended(), Some(0));
}
