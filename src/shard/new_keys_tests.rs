//! Clients that need new keys where none can be had are sent away, and come back.

use super::order_tests::{client, leave, shard_with};
use super::pipelining_tests::{publish, turn};
use super::sink_tests::take_socket;
use super::Shard;
use crate::metrics::Reason;
use crate::shard::connection::sink::{Gone, Read, Sink};
use crate::sys::socket;
use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

const STREAM: &str = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
const SSE: &str = "GET /push?channel=a&transport=sse HTTP/1.1\r\nHost: h\r\n\r\n";
const POLL: &str = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n";

/// A plain socket with keys, as it says.
#[derive(Debug)]
struct Keyed {
    fd: OwnedFd,
    is_worn: bool,
    is_deaf: bool,
    /// What comes is content.
    hears: bool,
}

impl Sink for Keyed {
    fn write(&mut self, slices: &[IoSlice<'_>], _: &mut Vec<u8>) -> Result<usize, Gone> {
        socket::send_vectored(&self.fd, slices).map_err(|_| Gone)
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<bool, Gone> {
        Ok(true)
    }

    /// What comes that is no content is about new keys.
    fn read(&mut self, into: &mut [u8], _: &mut Vec<u8>) -> Result<Read, Gone> {
        match socket::recv(&self.fd, into) {
            Ok(0) => Ok(Read::End),
            Ok(len) if self.hears => Ok(Read::Bytes(len)),
            Ok(_) if !std::mem::replace(&mut self.is_deaf, true) => Ok(Read::NewKeys),
            _ => Ok(Read::Nothing),
        }
    }

    fn end_writing(&mut self, _: &mut Vec<u8>) {
        socket::shutdown_write(&self.fd);
    }

    fn end(&mut self, _: &mut Vec<u8>) {
        socket::shutdown_both(&self.fd);
    }

    fn is_worn(&self) -> bool {
        self.is_worn
    }

    fn socket(&self) -> Option<&OwnedFd> {
        Some(&self.fd)
    }
}

/// A subscriber with such a sink.
fn subscriber(request: &str, is_worn: bool) -> (Shard, UnixStream) {
    let mut shard = shard_with(&[]);
    let (adopted, client) = client(None, request.as_bytes());
    shard.adopt(adopted);
    let (token, fd) = take_socket(&mut shard);
    shard.side.sinks.insert(token.index, Box::new(Keyed { fd, is_worn, is_deaf: false, hears: false }));
    (shard, client)
}

/// Reads to the end what a client is told.
fn told(client: &mut UnixStream) -> String {
    let mut text = String::new();
    client.set_nonblocking(false).unwrap();
    client.read_to_string(&mut text).unwrap();
    text
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_with_new_keys_is_told_to_come_back() {
    for (request, goodbye) in [(STREAM, "\"code\":1001"), (SSE, "event: push-close"), (POLL, "\"retry\":")] {
        let (mut shard, mut client) = subscriber(request, false);
        client.write_all(b"new keys").unwrap();
        turn(&mut shard);
        let told = told(&mut client);
        assert!(told.contains(goodbye), "{told}");
        assert_eq!(shard.handle.metrics.refusals[Reason::TlsKeys].get(), 1);
        leave(&client);
        turn(&mut shard);
        assert_eq!(shard.conns.len(), 0);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_with_worn_keys_is_told_to_come_back_at_the_next_heartbeat() {
    for is_worn in [false, true] {
        let (mut shard, mut client) = subscriber(SSE, is_worn);
        shard.turn.now += shard.config().heartbeat_ms + 2000;
        shard.run_timers();
        assert_eq!(shard.handle.metrics.refusals[Reason::TlsKeys].get(), u64::from(is_worn));
        // Without an end nobody could read to it.
        shard.side.sinks.end_writing(0, None);
        assert_eq!(told(&mut client).contains("event: push-close"), is_worn);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_answer_to_a_client_with_worn_keys_is_the_last_on_its_connection() {
    let at_once = "GET /push?channel=a&wait=0 HTTP/1.1\r\nHost: h\r\n\r\n";
    let preflight =
        "OPTIONS /push HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\nAccess-Control-Request-Method: GET\r\n\r\n";
    for request in [at_once, POLL, preflight] {
        for is_worn in [false, true] {
            let mut shard = shard_with(&[("allowed_origins", "*")]);
            let (adopted, mut client) = client(None, b"");
            shard.adopt(adopted);
            let (token, fd) = take_socket(&mut shard);
            shard.side.sinks.insert(token.index, Box::new(Keyed { fd, is_worn, is_deaf: false, hears: true }));
            client.write_all(request.as_bytes()).unwrap();
            turn(&mut shard);
            publish(&shard.context.hub, "a", 3);
            turn(&mut shard);
            assert_eq!(shard.handle.metrics.refusals[Reason::TlsKeys].get(), u64::from(is_worn), "{request}");
            if !is_worn {
                // Otherwise nobody would end it.
                shard.side.sinks.end_writing(token.index, None);
            }
            let told = told(&mut client);
            assert_eq!(told.matches("HTTP/1.1 20").count(), 1, "{told}");
            assert_eq!(told.to_ascii_lowercase().contains("connection: close"), is_worn, "{told}");
        }
    }
}

/// A socket that can be written no more, for a reason that is the client's.
#[derive(Debug)]
struct Broken(OwnedFd);

impl Sink for Broken {
    fn write(&mut self, _: &[IoSlice<'_>], _: &mut Vec<u8>) -> Result<usize, Gone> {
        Err(Gone)
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<bool, Gone> {
        Err(Gone)
    }

    fn read(&mut self, _: &mut [u8], _: &mut Vec<u8>) -> Result<Read, Gone> {
        Ok(Read::Nothing)
    }

    fn end_writing(&mut self, _: &mut Vec<u8>) {}

    fn end(&mut self, _: &mut Vec<u8>) {
        socket::shutdown_both(&self.0);
    }

    fn failure(&self) -> Option<String> {
        Some("cannot decrypt peer's message".to_owned())
    }

    fn socket(&self) -> Option<&OwnedFd> {
        Some(&self.0)
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_reason_that_a_write_finds_is_counted() {
    let by_message = |shard: &mut Shard| {
        publish(&shard.context.hub, "a", 3);
        turn(shard);
    };
    let by_heartbeat = |shard: &mut Shard| {
        shard.turn.now += shard.config().heartbeat_ms + 2000;
        shard.run_timers();
    };
    let by_room = |shard: &mut Shard| shard.writable(0);
    let ways: [&dyn Fn(&mut Shard); 3] = [&by_message, &by_heartbeat, &by_room];
    for (number, write) in ways.iter().enumerate() {
        let mut shard = shard_with(&[]);
        let (adopted, _client) = client(None, SSE.as_bytes());
        shard.adopt(adopted);
        let (token, fd) = take_socket(&mut shard);
        shard.side.sinks.insert(token.index, Box::new(Broken(fd)));
        write(&mut shard);
        assert_eq!(shard.handle.metrics.refusals[Reason::Tls].get(), 1, "{number}");
        assert_eq!(shard.conns.len(), 0, "{number}");
    }
}
