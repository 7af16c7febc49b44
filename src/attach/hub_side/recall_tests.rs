//! A hub has not answered a host's requests. The host sends them again to the next hub, which knows from its log what
//! was done.

use crate::attach::wire::{self, FromHost, FromHub, Hello};
use crate::hub::{Mark, Publication};
use crate::shard::panic_tests::common::{self, until, Host, PATIENCE};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn place(name: &str) -> Place {
    let place = Place(std::env::temp_dir().join(format!("push-recall-{}-{name}", std::process::id())));
    let _ = std::fs::remove_dir_all(&place.0);
    std::fs::create_dir(&place.0).unwrap();
    place
}

fn start(log: &Path, socket: &str) -> Host {
    let engine = format!("file:{}", log.display());
    Host::start(&[("engine", &engine), ("attach_listen", &format!("unix:{socket}")), ("threads", "1")])
}

/// A hub over a log that it shares with the hubs after it.
fn start_sharing(engine: &str, socket: &str, key_window: &str) -> Host {
    let attach = format!("unix:{socket}");
    let options = [("engine", engine), ("attach_listen", &attach), ("threads", "1"), ("key_window", key_window)];
    let more = [("engine_timeout", "1m"), ("max_message", "1000KB")];
    let hub = Host::start(&[&options[..], &more].concat());
    assert!(hub.server.readiness().wait(PATIENCE));
    hub
}

/// Attaches as a host with this session that has no answers yet, and sends requests.
fn attach(socket: &str, epoch: &str, requests: &[FromHost<'_>]) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let hello = Hello { version: wire::VERSION, session: [9; 16], answered: 0, epoch, name: "host" };
    FromHost::Hello(hello).write(&mut bytes);
    requests.iter().for_each(|request| request.write(&mut bytes));
    stream.write_all(&bytes).unwrap();
    stream
}

/// Reads this many answers, and returns them as text.
fn answers(mut stream: UnixStream, count: usize) -> Vec<String> {
    let (mut read, mut found) = (Vec::new(), Vec::new());
    while found.len() < count {
        let goes_on = read_frames(&mut stream, &mut read, |frame| match frame {
            FromHub::Published { number, seq, .. } => found.push(format!("{number}: {seq}")),
            FromHub::Batched { number, seqs } => found.push(format!("{number}: {seqs:?}")),
            FromHub::Failed { number, .. } => found.push(format!("{number}: failed")),
            _ => {}
        });
        assert!(goes_on, "the hub has ended it: {found:?}");
    }
    found
}

/// Reads more of what the hub says, and takes each frame that is whole. False: the hub has ended it.
pub(super) fn read_frames(stream: &mut UnixStream, read: &mut Vec<u8>, mut take: impl FnMut(FromHub<'_>)) -> bool {
    let mut part = [0; 4096];
    let len = stream.read(&mut part).unwrap();
    read.extend_from_slice(&part[..len]);
    while let Some(frame) = wire::first_frame(read, wire::MAX_FRAME).unwrap() {
        take(FromHub::read(frame).unwrap());
        let len = wire::framed_len(frame);
        read.drain(..len);
    }
    len > 0
}

/// Ends a hub as if it were killed: the next hub goes on from a copy of the log, made before the end.
fn kill(hub: Host, log: &Place, copy: &Place) {
    let is_quiet = |place: &Place| std::fs::read(place.0.join("state")).unwrap()[52] == 1;
    until("the log never becomes quiet", || {
        if !is_quiet(log) {
            return false;
        }
        for entry in std::fs::read_dir(&log.0).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.0.join(entry.file_name())).unwrap();
        }
        // While a quiet hub syncs its log it is not quiet, and that may be when the copy is made.
        is_quiet(copy)
    });
    crate::engine::file::take_over(&copy.0);
    hub.stop();
}

/// A hub that goes on from the log of one that was killed.
struct Next {
    hub: Host,
    socket: String,
    epoch: String,
    _log: Place,
}

/// A hub answers these requests so, and is killed. The next one answers them in the same way, and publishes nothing.
fn answered_again(name: &str, requests: &[FromHost<'_>], expected: &[&str]) -> Next {
    let [first, second] = ["first", "second"].map(|which| place(&format!("{name}-{which}")));
    let (socket, next_socket) = (common::socket_path(), common::socket_path());
    let hub = start(&first.0, &socket);
    let epoch = hub.server.position(0).rsplit_once('-').unwrap().0.to_owned();
    assert_eq!(answers(attach(&socket, &epoch, requests), expected.len()), expected);
    kill(hub, &first, &second);
    let hub = start(&second.0, &next_socket);
    assert_eq!(answers(attach(&next_socket, &epoch, requests), expected.len()), expected);
    assert_eq!(hub.server.stats().unwrap().published, 0);
    Next { hub, socket: next_socket, epoch, _log: second }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn requests_in_the_log_are_answered_and_not_published_again() {
    let one = |data: &'static [u8]| Publication::new("a", data);
    let long = vec![b'x'; 100];
    let refused = Publication { event: Some("push-"), ..one(b"refused") };
    let requests = [
        FromHost::Publish { number: 1, publication: one(b"one") },
        FromHost::Batch { number: 2, publications: vec![one(b"two"), Publication::new("b", &long)] },
        // The batch that follows a command. It leaves nothing in the log.
        FromHost::Batch { number: 3, publications: Vec::new() },
        FromHost::Publish { number: 4, publication: refused },
        FromHost::Broadcast { number: 5, publication: Publication::new("", b"four") },
    ];
    let expected = ["1: 1", "2: [2, 3]", "3: []", "4: failed", "5: 4"];
    let next = answered_again("requests", &requests, &expected);
    // The next hub goes on in the same epoch. Now the host attaches as if it came from another epoch.
    assert_eq!(answers(attach(&next.socket, "another", &requests), 0), [""; 0]);
    assert_eq!(next.hub.server.stats().unwrap().published, 0);
    let more = [FromHost::Publish { number: 6, publication: one(b"five") }];
    // The answer to the batch without messages is not kept.
    assert_eq!(answers(attach(&next.socket, &next.epoch, &more), 5).last().unwrap(), "6: 5", "the numbers go on");
    next.hub.stop();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn of_a_batch_each_message_has_its_own_place_again_also_one_that_was_published_before() {
    let keyed = |key| Publication { key: Some(key), ..Publication::new("a", b"keyed") };
    let plain = || Publication::new("a", b"plain");
    let requests = [
        FromHost::Publish { number: 1, publication: keyed("k") },
        FromHost::Batch { number: 2, publications: vec![plain(), keyed("k"), keyed("l"), plain(), keyed("l")] },
        FromHost::Batch { number: 3, publications: vec![keyed("l"), keyed("k")] },
        // A stream ends once.
        FromHost::Publish { number: 4, publication: Publication::mark("a", Mark::End) },
        FromHost::Batch {
            number: 5,
            publications: vec![Publication::mark("a", Mark::End), Publication::new("b", b"x")],
        },
    ];
    let expected = ["1: 1", "2: [2, 1, 3, 4, 3]", "3: [3, 1]", "4: 5", "5: [5, 6]"];
    answered_again("keys", &requests, &expected).hub.stop();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn requests_in_a_log_that_hubs_share_are_answered_by_the_next_hub() {
    each_is_done_once("model://recall");
}

#[test]
#[cfg(feature = "redis")]
fn requests_in_a_redis_are_answered_by_the_next_hub() {
    use crate::engine::redis::tests::process::{Process, Program};
    each_is_done_once(&Process::start(Program::Redis, &[]).url());
}

#[test]
#[cfg(feature = "nats")]
fn requests_in_a_nats_are_answered_by_the_next_hub() {
    each_is_done_once(&crate::engine::nats::tests::servers::Server::alone("").url());
}

/// The next hub answers from the log, although the log itself has forgotten the requests.
fn each_is_done_once(engine: &str) {
    let sockets = (common::socket_path(), common::socket_path());
    let hub = start_sharing(engine, &sockets.0, "1s");
    let epoch = |hub: &Host| hub.server.position(0).rsplit_once('-').unwrap().0.to_owned();
    let one = |data: &'static [u8]| Publication::new("a", data);
    let refused = Publication { event: Some("push-"), ..one(b"refused") };
    let requests = [
        FromHost::Publish { number: 1, publication: one(b"one") },
        FromHost::Batch { number: 2, publications: vec![one(b"two"), one(b"three")] },
        FromHost::Publish { number: 3, publication: refused },
        FromHost::Broadcast { number: 4, publication: Publication::new("", b"four") },
    ];
    let expected = answers(attach(&sockets.0, &epoch(&hub), &requests), 4);
    assert!(expected[2] == "3: failed" && hub.server.stats().unwrap().published == 4, "{expected:?}");
    hub.stop();
    // Longer than keys count.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let hub = start_sharing(engine, &sockets.1, "1s");
    assert_eq!(answers(attach(&sockets.1, &epoch(&hub), &requests), 4), expected);
    assert_eq!(answers(attach(&sockets.1, "another", &requests), 0), [""; 0]);
    let more = [FromHost::Publish { number: 5, publication: one(b"five") }];
    let five = answers(attach(&sockets.1, &epoch(&hub), &more), 5).pop().unwrap();
    assert!(five.starts_with("5: "), "{five}");
    assert_eq!(hub.server.stats().unwrap().published, 5, "each is there once");
    hub.stop();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_batch_of_which_a_shared_log_has_only_the_begin_is_completed() {
    let sockets = (common::socket_path(), common::socket_path());
    let log = crate::engine::shared::model::Model::named("half-a-batch");
    let hub = start_sharing("model://half-a-batch", &sockets.0, "10m");
    let epoch = |hub: &Host| hub.server.position(0).rsplit_once('-').unwrap().0.to_owned();
    let publications = ["one", "two", "three", "four"].map(|text| Publication::new("a", text.as_bytes())).to_vec();
    let requests = [FromHost::Batch { number: 1, publications }];
    let positions = |answer: &str| -> Vec<u64> {
        let list = answer.strip_prefix("1: [").and_then(|rest| rest.strip_suffix(']')).expect(answer);
        list.split(", ").map(|position| position.parse().unwrap()).collect()
    };
    let first = positions(&answers(attach(&sockets.0, &epoch(&hub), &requests), 1)[0]);
    hub.stop();
    // As if the hub had been killed between its first append and the second.
    log.fail_over((log.end() - first[1]) as usize);
    let hub = start_sharing("model://half-a-batch", &sockets.1, "10m");
    let second = positions(&answers(attach(&sockets.1, &epoch(&hub), &requests), 1)[0]);
    assert_eq!(second[..2], first[..2], "what is in the log is not published again");
    assert!(second[2] > first[1] && second[3] > second[2], "each of the others has a place of its own: {second:?}");
    assert_eq!(hub.server.stats().unwrap().published, 4);
    hub.stop();
}
