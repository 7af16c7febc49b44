//! The thread panics. The hosts come back, and no client stays blocked by the state before the panic.

use crate::grant::Grant;
use crate::hub::Publication;
use crate::shard::panic_tests::common::{self, eventually, Client, Host, UPGRADE};
use crate::{Builder, Server};
use std::cell::Cell;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The thread panics when it gets this payload, in this build only.
const BOOM: &str = "panic in the attach thread";

/// More messages than wait on both sides, and than one read returns.
const MANY: u64 = 1000;

pub(super) fn maybe_panic(data: &[u8]) {
    // It panics once only, since the host sends the message again.
    static PANICKED: AtomicBool = AtomicBool::new(false);
    assert!(data != BOOM.as_bytes() || PANICKED.swap(true, Ordering::Relaxed), "planted");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn clients_of_a_host_that_was_behind_are_read_again() {
    let path = format!("unix:{}", common::socket_path());
    let hub = Host::start(&[("attach_listen", &path), ("event_queue", "16"), ("threads", "1")]);
    let mut builder = Builder::default();
    builder.set("attach", &path).unwrap();
    builder.set("event_queue", "16").unwrap();
    builder.set("attach_timeout", "1m").unwrap();
    let host = Server::start(builder).unwrap();
    host.event_fd().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n");
    let grant = Grant::new(Some("ann"), &[], &["*".into()], 0, false, false).unwrap();
    host.adopt(listener.accept().unwrap().0.into(), head.as_bytes(), Some(grant)).unwrap();
    client.head();
    let before = "x".repeat(1000);
    for _ in 0..MANY {
        client.say(&before);
    }
    // The host takes no events. Some wait at the host, some at the hub, and the rest is not read.
    let received = || hub.server.stats().unwrap().received;
    let last = Cell::new((0, 0));
    eventually(|| {
        std::thread::sleep(Duration::from_millis(20));
        let now = received();
        let (before, times) = last.get();
        last.set((now, if now == before { times + 1 } else { 0 }));
        now > 16 && times > 5
    });
    assert!(received() < MANY, "all were read");
    host.post(&Publication::new("a", BOOM.as_bytes())).unwrap();
    // The thread panics once. The host comes back, and sends the message again. What the client says meanwhile is dropped:
    // there is no host for it.
    common::until("the client is read again", || {
        client.say("after");
        let mut events = std::iter::from_fn(|| host.next_event(Some(Duration::from_millis(100))).ok());
        events.any(|event| &*event.data == b"after")
    });
    host.stop(Duration::ZERO);
    hub.stop();
}
