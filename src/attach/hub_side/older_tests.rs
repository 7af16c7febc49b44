//! A host that speaks an older version of the protocol. The test plays it.

use crate::attach::wire::{FromHost, Hello, OLDEST};
use crate::shard::panic_tests::common::{self, Host, PATIENCE};
use crate::sys::passing;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// What a client reads that such a host has handed over without a grant.
fn handed_over_without_a_grant(hub: &Host) -> String {
    let path = hub.server.addresses().last().unwrap().strip_prefix("unix:").unwrap();
    let mut host = UnixStream::connect(path).unwrap();
    let mut frames = Vec::new();
    FromHost::Hello(Hello { version: OLDEST, session: [7; 16], answered: 0, epoch: "", name: "old" })
        .write(&mut frames);
    host.write_all(&frames).unwrap();
    frames.clear();
    let head = b"GET /push?channel=a&wait=0 HTTP/1.1\r\nHost: h\r\n\r\n";
    FromHost::Adopt { grant: None, head }.write(&mut frames);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(passing::send_with(&host.into(), &frames, &[theirs.as_raw_fd()]).unwrap(), frames.len());
    drop(theirs);
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn for_a_client_without_a_grant_from_an_older_host_the_hubs_option_decides() {
    for (auth, expected) in [("none", "HTTP/1.1 200 "), ("host", "HTTP/1.1 403 ")] {
        let path = common::socket_path();
        let hub = Host::start(&[("attach_listen", &format!("unix:{path}")), ("auth", auth)]);
        let answer = handed_over_without_a_grant(&hub);
        assert!(answer.starts_with(expected), "auth={auth}: {answer}");
        hub.stop();
    }
}
