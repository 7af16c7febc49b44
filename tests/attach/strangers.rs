//! Which processes may attach. Others, and processes that do not speak the protocol, are disconnected.

use super::{attached, hub, pair, path, publish, websocket};
use crate::common::{until, PATIENCE};
use push::hub::Publication;
use push::{Builder, Server};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn strangers_are_turned_away() {
    let path = path();
    let _hub = hub(&path, &[("attach_uids", "4294967294")]);
    let mut builder = Builder::default();
    builder.set("attach", &path).unwrap();
    // A host starts as well if a slow machine takes too long to say no.
    let mut refused = None;
    until("it may attach", || {
        match Server::start(builder.clone()) {
            Ok(server) => _ = server.stop(Duration::ZERO),
            Err(error) => refused = Some(error.to_string()),
        }
        refused.is_some()
    });
    let error = refused.unwrap();
    assert!(error.contains("this user may not attach"), "{error}");
}

#[test]
fn only_its_owner_may_use_the_socket_by_default() {
    use std::os::unix::fs::PermissionsExt;
    let path = path();
    let hub = hub(&path, &[]);
    let file = std::fs::metadata(path.strip_prefix("unix:").unwrap()).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(hub.server.addresses()[1], path);
    hub.stop();
    assert!(std::fs::metadata(path.strip_prefix("unix:").unwrap()).is_err(), "it goes with the hub");
}

#[test]
fn garbage_and_other_versions_are_disconnected() {
    let path = path();
    let _hub = hub(&path, &[]);
    let connect = || {
        let stream = UnixStream::connect(path.strip_prefix("unix:").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let hello = |version: u16| {
        let mut body = vec![1];
        body.extend_from_slice(b"libpush\0");
        body.extend_from_slice(&version.to_le_bytes());
        body.extend_from_slice(&[7; 16]);
        body.extend_from_slice(&[0; 8]);
        body.extend_from_slice(&[0, 0, 1, 0, b'h']);
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    };
    let cases: &[Vec<u8>] = &[
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        vec![1, 0, 0, 0, 12],
        hello(15),
        // A frame with a part that claims to be longer; a second hello; a descriptor that did not come.
        [hello(1), vec![2, 0, 0, 0, 2, 9]].concat(),
        [hello(1), hello(1)].concat(),
        [hello(1), vec![6, 0, 0, 0, 5, 0, 0, 0, 0, 0]].concat(),
    ];
    // On a slow machine the hub may have waited too long for a hello frame, and have disconnected the host for that.
    for case in cases {
        until("the host is not told of its version", || {
            let mut stream = connect();
            let _ = stream.write_all(case);
            let mut answer = Vec::new();
            // It is disconnected, with an end, or with a reset if bytes were left.
            let _ = stream.read_to_end(&mut answer);
            *case != hello(15) || String::from_utf8_lossy(&answer).contains("the host speaks version 15")
        });
    }
    // A frame is cut in the middle. The hub waits for the rest, and drops the frame when the host goes.
    let mut cut = connect();
    let _ = cut.write_all(&[hello(1), vec![100, 0, 0, 0, 2]].concat());
    drop(cut);
    let host = attached(&path, &[]);
    publish(&host, "a", "still there");
}

#[test]
fn half_open_attachments_do_not_pile_up() {
    let path = path();
    let _hub = hub(&path, &[]);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut held = Vec::new();
    let before = open();
    for _ in 0..10_000 {
        let stream = UnixStream::connect(path.strip_prefix("unix:").unwrap()).unwrap();
        held.push(stream);
        if held.len() == 100 {
            held.clear();
        }
    }
    let host = attached(&path, &[]);
    // The hub has to handle all others first.
    until("let in all the same", || host.publish(&Publication::new("a", b"x")).is_ok());
    held.clear();
    host.stop(Duration::ZERO);
    // Other tests of this process open descriptors, too.
    until("they are let go", || open() < before + 200);
}

#[test]
fn descriptors_of_another_kind_are_refused() {
    let (_hub, host) = pair(&[]);
    let file = std::fs::File::open("/dev/null").unwrap();
    host.adopt(OwnedFd::from(file), b"GET /push?channel=a HTTP/1.1\r\n\r\n", None).unwrap();
    let mut client = websocket(&host, "channel=a", None);
    publish(&host, "a", "x");
    assert_eq!(client.text(), "x");
    assert_eq!(host.stats().unwrap().adopted, 1);
}
