//! The log is away, or has another epoch. A host's messages wait, and nothing else does.

use crate::attach::wire::{self, FromHost, FromHub, Hello, ANSWERS_AT_ONCE, MAX_FRAME};
use crate::engine::shared::model::Model;
use crate::events::EventKind;
use crate::grant::Grant;
use crate::hub::Publication;
use crate::shard::panic_tests::common::proxy::Proxy;
use crate::shard::panic_tests::common::{self, until, Client, Host, PATIENCE, UPGRADE};
use crate::{Builder, Server};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The messages that a host publishes while the log is away. More than the hub has room for on their way to the log.
const COUNT: u64 = 300;
/// The last version in which all answers come in the order of the requests.
const IN_ORDER: u16 = ANSWERS_AT_ONCE - 1;

/// A hub over a log that it may share with others, and the path of its attach socket.
fn start(engine: &str) -> (Host, String) {
    let path = common::socket_path();
    let attach = format!("unix:{path}");
    let options = [("engine", engine), ("attach_listen", &attach), ("auth", "host")];
    let more = [("engine_buffer", "64KB"), ("engine_timeout", "1m"), ("history_count", "10000"), ("threads", "1")];
    // A request waits until the test answers it, however late that is.
    let hub = Host::start(&[&options[..], &more, &[("auth_timeout", "10m")]].concat());
    assert!(hub.server.readiness().wait(PATIENCE));
    (hub, path)
}

pub(super) fn attached(path: &str) -> Server {
    let attach = format!("unix:{path}");
    Server::start(Builder::with(&[("attach", &attach), ("attach_timeout", "1m")])).unwrap()
}

fn grant(user: &str) -> Grant {
    Grant::new(Some(user), &[], &["*".into()], 0, false, false).unwrap()
}

/// A client of a user, whom the host hands over.
pub(super) fn websocket(host: &Server, user: &str) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n");
    let accepted = listener.accept().unwrap().0;
    host.adopt(accepted.into(), head.as_bytes(), Some(grant(user))).map_err(|(error, _)| error).unwrap();
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

/// The next event of this kind.
fn event(host: &Server, kind: EventKind) -> crate::events::Event {
    loop {
        let event = host.next_event(Some(PATIENCE)).unwrap();
        if event.kind == kind {
            return event;
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn while_the_log_is_away_only_messages_wait() {
    let model = Model::named("only-messages-wait");
    only_messages_wait("model://only-messages-wait", |away| model.hang(away));
}

#[test]
#[cfg(feature = "redis")]
fn while_redis_is_stopped_only_messages_wait() {
    use crate::engine::redis::tests::process::{Process, Program};
    let redis = Process::start(Program::Redis, &[]);
    only_messages_wait(&redis.url(), |away| redis.signal(if away { "STOP" } else { "CONT" }));
}

fn only_messages_wait(engine: &str, away: impl Fn(bool)) {
    let (hub, path) = start(engine);
    let host = attached(&path);
    host.event_fd().unwrap();
    let [mut ann, mut bob] = ["ann", "bob"].map(|user| websocket(&host, user));
    let connection = loop {
        let opened = event(&host, EventKind::Open);
        if opened.user.as_deref() == Some("bob") {
            break opened.connection;
        }
    };
    away(true);
    let payload = |n: u64| format!("{n} {}", "x".repeat(1000));
    for n in 0..COUNT {
        host.post(&Publication::new("a", payload(n).as_bytes())).unwrap();
    }
    // The counters come when the hub has read the messages.
    host.stats().unwrap();
    let mut cid = websocket(&host, "cid");
    host.disconnect_user("ann", 4403, "logged out").unwrap();
    assert_eq!(ann.end().0, 4403);
    host.renew(connection, grant("bob")).unwrap();
    host.close(connection, 4000, "").unwrap();
    assert_eq!(bob.end().0, 4000);
    let mut asked = hub.get("channel=a", UPGRADE);
    host.allow(event(&host, EventKind::Request).request, grant("dan")).unwrap();
    assert!(asked.head().starts_with("HTTP/1.1 101 "));
    until("the two who are left are there", || match host.users("a", "", 10) {
        Ok(users) => users.page.iter().map(|user| &*user.name).eq(["cid", "dan"]),
        // On a slow machine not even the hub itself may have answered in time.
        Err(error) => {
            assert_eq!(error.kind(), crate::error::Kind::Busy, "{error}");
            false
        }
    });
    assert_eq!(host.stats().unwrap().published, 0, "the log is still away");
    away(false);
    for n in 0..COUNT {
        assert_eq!(cid.text(), payload(n), "each comes once, in order");
    }
    until("they are answered", || host.stats().unwrap().published == COUNT);
    host.stop(Duration::from_secs(20));
    hub.stop();
}

/// A host that the test plays.
pub(crate) struct Played {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Played {
    /// Attaches with the test's session. Returns the number of the last request that the hub has done for it.
    pub(crate) fn attach(path: &str, version: u16) -> (Self, u64) {
        Self::attach_as([9; 16], path, version)
    }

    /// The same with a session.
    pub(super) fn attach_as(session: [u8; 16], path: &str, version: u16) -> (Self, u64) {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut host = Played { stream, read: Vec::new() };
        let hello = Hello { version, session, answered: 0, epoch: "", name: "host" };
        host.say([FromHost::Hello(hello)]);
        let welcome = host.next().unwrap();
        (host, welcome.strip_prefix("welcome ").expect(&welcome).parse().unwrap())
    }

    pub(crate) fn say<'a>(&mut self, frames: impl IntoIterator<Item = FromHost<'a>>) {
        let mut bytes = Vec::new();
        frames.into_iter().for_each(|frame| frame.write(&mut bytes));
        self.stream.write_all(&bytes).unwrap();
    }

    /// Publishes messages with these numbers.
    fn publish(&mut self, numbers: impl Iterator<Item = u64>) {
        let data = [b'x'; 1000];
        self.say(numbers.map(|number| FromHost::Publish { number, publication: Publication::new("a", &data) }));
    }

    /// Says something about a connection that does not exist, and waits until the hub has taken it.
    fn is_read(&mut self, hub: &Host) {
        let undone = || hub.server.stats().unwrap().undone;
        let before = undone();
        self.say([FromHost::Close { connection: 1 << 40, code: 1000, reason: "" }]);
        until("what passes the messages is done", || undone() > before);
    }

    /// The next frame as text. `None`: the hub has ended it.
    pub(crate) fn next(&mut self) -> Option<String> {
        loop {
            if let Some(frame) = wire::first_frame(&self.read, MAX_FRAME).unwrap() {
                let text = match FromHub::read(frame).unwrap() {
                    FromHub::Welcome { done, .. } => format!("welcome {done}"),
                    FromHub::Published { number, .. } => format!("published {number}"),
                    FromHub::Batched { number, .. } => format!("batched {number}"),
                    FromHub::Stats { number, .. } => format!("stats {number}"),
                    FromHub::Users { number, .. } => format!("users {number}"),
                    // On a slow machine not even the hub itself may have answered in time. That is an answer, too.
                    FromHub::Failed { number, text, .. } if text.contains(" hubs have answered in time") => {
                        format!("users {number}")
                    }
                    FromHub::Epoch { epoch } => format!("epoch {epoch}"),
                    other => format!("{other:?}"),
                };
                let len = wire::framed_len(frame);
                self.read.drain(..len);
                return Some(text);
            }
            let mut part = [0; 4096];
            let len = self.stream.read(&mut part).unwrap_or(0);
            if len == 0 {
                return None;
            }
            self.read.extend_from_slice(&part[..len]);
        }
    }
}

/// A hub whose log is a model with this name, and the path of its attach socket.
fn over_model(name: &str) -> (Model, Host, String) {
    let model = Model::named(name);
    let (hub, path) = start(&format!("model://{name}"));
    (model, hub, path)
}

/// The same, while the log hangs. A host has attached and published messages.
fn while_it_hangs(name: &str, version: u16) -> (Model, Host, String, Played) {
    let (model, hub, path) = over_model(name);
    model.hang(true);
    let (mut host, _) = Played::attach(&path, version);
    host.publish(1..=COUNT);
    (model, hub, path, host)
}

fn published(numbers: impl Iterator<Item = u64>) -> Vec<String> {
    numbers.map(|number| format!("published {number}")).collect()
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_host_that_comes_back_while_its_messages_wait_publishes_each_once() {
    for version in [IN_ORDER, wire::VERSION] {
        let (model, hub, path, mut host) = while_it_hangs(&format!("comes-back-{version}"), version);
        host.is_read(&hub);
        let (mut again, done) = Played::attach(&path, version);
        assert!((1..COUNT).contains(&done), "some are on their way to the log, and the rest waits: {done}");
        assert_eq!(host.next(), None);
        again.publish(done + 1..=COUNT + 1);
        again.is_read(&hub);
        model.hang(false);
        let answers: Vec<String> = (0..=COUNT).map(|_| again.next().unwrap()).collect();
        assert_eq!(answers, published(1..=COUNT + 1));
        assert_eq!(hub.server.stats().unwrap().published, COUNT + 1);
        hub.stop();
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn messages_of_a_host_that_has_ended_are_published_when_the_log_is_back() {
    let (model, hub, _, mut host) = while_it_hangs("has-ended", wire::VERSION);
    host.is_read(&hub);
    drop(host);
    model.hang(false);
    until("all are published", || hub.server.stats().unwrap().published == COUNT);
    hub.stop();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_a_host_asks_is_answered_before_its_messages_and_for_an_older_one_in_its_order() {
    for version in [IN_ORDER, wire::VERSION] {
        let (model, hub, _, mut host) = while_it_hangs(&format!("asks-{version}"), version);
        let at = COUNT + 1;
        host.say([
            FromHost::Stats { number: at },
            FromHost::Users { number: at + 1, channel: "a", after: "", limit: 1, time_ms: None },
            FromHost::Disconnect { user: "ann", code: 4403, reason: "", number: None },
            FromHost::Batch { number: at + 2, publications: Vec::new() },
        ]);
        host.publish(at + 3..=at + 3);
        host.is_read(&hub);
        let asked = [format!("stats {at}"), format!("users {}", at + 1), format!("batched {}", at + 2)];
        let (first, last) = (published(1..=COUNT), published(at + 3..=at + 3));
        let mut answers = Vec::new();
        if version >= ANSWERS_AT_ONCE {
            // The other hubs of the log are not asked, since it is away. But the shards are.
            answers.extend((0..3).map(|_| host.next().unwrap()));
            answers.sort_unstable_by_key(|answer| asked.iter().position(|expected| expected == answer));
            assert_eq!(answers, asked);
        }
        model.hang(false);
        answers.extend((answers.len()..COUNT as usize + 4).map(|_| host.next().unwrap()));
        let expected = match version >= ANSWERS_AT_ONCE {
            true => [&asked[..], &first, &last].concat(),
            false => [&first[..], &asked, &last].concat(),
        };
        assert_eq!(answers, expected, "version {version}");
        hub.stop();
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_new_epoch_ends_no_attachment_unless_the_host_is_older() {
    for version in [IN_ORDER, wire::VERSION] {
        let (model, hub, path) = over_model(&format!("new-epoch-{version}"));
        let (mut host, _) = Played::attach(&path, version);
        host.publish(1..=1);
        assert_eq!(host.next().unwrap(), "published 1");
        let epoch = |hub: &Host| hub.server.position(0).rsplit_once('-').unwrap().0.to_owned();
        let before = epoch(&hub);
        model.fail_over(0);
        until("a new epoch", || epoch(&hub) != before);
        host.publish(2..=3);
        if version >= ANSWERS_AT_ONCE {
            let expected = [format!("epoch {}", epoch(&hub)), "published 2".into(), "published 3".into()];
            assert_eq!([(); 3].map(|()| host.next().unwrap()), expected);
        } else {
            assert_eq!(host.next(), None);
            let (_, done) = Played::attach(&path, version);
            assert!(done >= 2, "{done}");
        }
        hub.stop();
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_a_host_says_about_a_connection_reaches_the_hub_that_has_it_although_the_log_has_a_new_epoch() {
    let (model, hub, path) = over_model("same-life");
    let proxy_path = common::socket_path();
    let proxy = Proxy::start(&proxy_path, &path);
    let host = attached(&proxy_path);
    host.event_fd().unwrap();
    host.stats().unwrap();
    let mut ann = hub.get("channel=a", UPGRADE);
    host.allow(event(&host, EventKind::Request).request, grant("ann")).unwrap();
    assert!(ann.head().starts_with("HTTP/1.1 101 "));
    let connection = event(&host, EventKind::Open).connection;
    proxy.is_closed.store(true, Ordering::Relaxed);
    proxy.cut();
    until("the hub has seen its end", || hub.server.stats().unwrap().hosts == 0);
    host.close(connection, 4000, "").unwrap();
    let position = hub.server.position(0);
    model.fail_over(0);
    until("a new epoch", || hub.server.position(0) != position);
    proxy.is_closed.store(false, Ordering::Relaxed);
    assert_eq!(ann.end().0, 4000);
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_host_goes_on_through_a_new_epoch_and_its_positions_are_of_it() {
    let (model, hub, path) = over_model("goes-on");
    let host = attached(&path);
    host.event_fd().unwrap();
    let mut ann = websocket(&host, "ann");
    let connection = event(&host, EventKind::Open).connection;
    let publish = || {
        let placed = host.publish(&Publication::new("a", b"x")).unwrap();
        (host.position_of(&placed), hub.server.position(placed.seq))
    };
    let (first, expected) = publish();
    assert_eq!(first, expected);
    model.fail_over(0);
    until("positions are of the new epoch", || {
        let (position, expected) = publish();
        position == expected && position.rsplit_once('-').unwrap().0 != first.rsplit_once('-').unwrap().0
    });
    host.close(connection, 4000, "").unwrap();
    assert_eq!(ann.end().0, 4000);
    host.stop(Duration::ZERO);
    hub.stop();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn counts_that_take_many_turns_are_all_answered() {
    let (hub, path) = start("memory");
    let host = attached(&path);
    // A turn counts three of them in a test.
    let _clients: Vec<Client> = (0..12).map(|number| websocket(&host, &format!("u{:02}", number % 10))).collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let users = host.users("a", "u01", 7).unwrap();
                assert_eq!((users.count, users.connections, users.more), (10, 12, true));
                assert_eq!((&*users.page[0].name, &*users.page[6].name), ("u02", "u08"));
            });
        }
    });
    hub.stop();
}
