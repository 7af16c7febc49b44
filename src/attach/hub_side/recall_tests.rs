//! A host that a hub has not answered sends again to the next one, which knows from its log what was done.

use crate::attach::wire::{self, FromHost, FromHub, Hello};
use crate::hub::Publication;
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

/// Says hello as a host of this life that has no answer yet, and sends requests.
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

/// The answers, as text, until there are so many.
fn answers(mut stream: UnixStream, count: usize) -> Vec<String> {
    let (mut read, mut found) = (Vec::new(), Vec::new());
    while found.len() < count {
        let mut part = [0; 4096];
        let len = stream.read(&mut part).unwrap();
        assert!(len > 0, "the hub has ended it: {found:?}");
        read.extend_from_slice(&part[..len]);
        while let Some(frame) = wire::first_frame(&read, wire::MAX_FRAME).unwrap() {
            match FromHub::read(frame).unwrap() {
                FromHub::Published { number, seq, .. } => found.push(format!("{number}: {seq}")),
                FromHub::Batched { number, seqs } => found.push(format!("{number}: {seqs:?}")),
                FromHub::Failed { number, .. } => found.push(format!("{number}: failed")),
                _ => {}
            }
            let len = wire::framed_len(frame);
            read.drain(..len);
        }
    }
    found
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_the_log_has_is_answered_and_not_published_again() {
    let (first, second) = (place("first"), place("second"));
    let sockets = (common::socket_path(), common::socket_path());
    let hub = start(&first.0, &sockets.0);
    let epoch = hub.server.position(0).rsplit_once('-').unwrap().0.to_owned();
    let one = |data: &'static [u8]| Publication::new("a", data);
    let long = vec![b'x'; 100];
    let refused = Publication { event: Some("push-"), ..one(b"refused") };
    let requests = [
        FromHost::Publish { number: 1, publication: one(b"one") },
        FromHost::Batch { number: 2, publications: vec![one(b"two"), Publication::new("b", &long)] },
        // The command's stand-in: nothing of it is in the log.
        FromHost::Batch { number: 3, publications: Vec::new() },
        FromHost::Publish { number: 4, publication: refused },
        FromHost::Broadcast { number: 5, publication: Publication::new("", b"four") },
    ];
    let expected = ["1: 1", "2: [2, 3]", "3: []", "4: failed", "5: 4"];
    assert_eq!(answers(attach(&sockets.0, &epoch, &requests), 5), expected);
    // The hub is killed: the log stays as it is now.
    until("it never becomes quiet", || std::fs::read(first.0.join("state")).unwrap()[52] == 1);
    for entry in std::fs::read_dir(&first.0).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), second.0.join(entry.file_name())).unwrap();
    }
    hub.stop();
    // The next one goes on in the same epoch; then one that does not.
    let hub = start(&second.0, &sockets.1);
    assert_eq!(answers(attach(&sockets.1, &epoch, &requests), 5), expected);
    assert_eq!(answers(attach(&sockets.1, "another", &requests), 0), [""; 0]);
    assert_eq!(hub.server.stats().unwrap().published, 0);
    let more = [FromHost::Publish { number: 6, publication: one(b"five") }];
    assert_eq!(answers(attach(&sockets.1, &epoch, &more), 6).last().unwrap(), "6: 5", "and it goes on");
    hub.stop();
}
