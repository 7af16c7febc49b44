//! Free ports for servers of the tests.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is free at this moment. No two calls of a process return the same one soon.
///
/// It is not one of the ports that the system gives to clients. Otherwise some client could have it before the server
/// starts, or while it is away; and a client that connects meanwhile could get that very port for its own end, and reach
/// itself. The port 10,000 above is none of these either: a node of a Redis Cluster takes it as well. TEST_PORTS=FIRST-LAST
/// chooses others.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let chosen = std::env::var("TEST_PORTS").unwrap_or("10000-21999".into());
    let (first, last) = chosen.split_once('-').expect("TEST_PORTS is FIRST-LAST");
    let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
    loop {
        let at = (std::process::id() as u16).wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = first + at % (last - first + 1);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
