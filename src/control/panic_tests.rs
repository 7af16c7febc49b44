//! A request panics. It ends its own connection, an operator can see it, and all others go on.

use crate::shard::panic_tests::common::{self, until, Host, PATIENCE};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// A request with this path panics, in this build only.
const BOOM: &str = "/v1/panic";

pub(super) fn maybe_panic(path: &str) {
    assert!(path != BOOM, "planted");
}

fn ask(stream: &mut UnixStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_request_that_panics_ends_its_connection_alone_and_is_told() {
    let path = common::socket_path();
    let control = format!("unix:{path}");
    let (host, lines) = Host::logged(&[("control", &control)]);
    let connect = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let (mut other, mut victim) = (connect(), connect());
    ask(&mut victim, BOOM);
    let mut answer = Vec::new();
    victim.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"", "nobody is told what broke");
    until("the log has it", || {
        lines.lock().unwrap().iter().any(|line| line.contains("control API: a bug in the library was caught"))
    });
    assert!(common::metrics(&path).contains("\npush_panics_total 1\n"));
    ask(&mut other, "/healthz");
    let mut head = [0; 15];
    other.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    host.stop();
}
