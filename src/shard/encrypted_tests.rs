//! Connections whose TLS is in the kernel when the host hands them over. A Unix socket stands in for one with TLS: it
//! carries the alerts as they are.

use super::order_tests::{client, leave, shard_with};
use super::pipelining_tests::{publish, turn};
use super::Shard;
use crate::framing::close::Close;
use crate::http::refusal::Refusal;
use crate::http::unserved;
use crate::shard::turn::command::Adopted;
use crate::sys::encryption::Version;
use crate::sys::socket::Checked;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

const UPGRADE: &str = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const STREAM: &str = "GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
const PING: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
const CLOSE_NOTIFY: &[u8] = &[1, 0];

/// A client that is handed over after `head` was read of it. More has come, and was not read.
fn adopt(shard: &mut Shard, head: &str, unread: &[u8]) -> UnixStream {
    let (adopted, mut theirs) = client(None, head.as_bytes());
    theirs.write_all(unread).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let checked = Checked { delays: false, tls: Some(Version::Tls12) };
    shard.adopt(Adopted { checked, ..adopted });
    theirs
}

/// What a client was told, and whether its connection has ended.
fn told(mut client: &UnixStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        Ok(_) => (bytes, true),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            (bytes, false)
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn it_has_the_sink_for_the_kernel_and_what_the_host_has_left_is_read() {
    let mut shard = shard_with(&[]);
    let client = adopt(&mut shard, UPGRADE, PING);
    assert!(shard.conns[0].socket.is_none(), "its socket is its sink's");
    let (bytes, _) = told(&client);
    assert!(bytes.starts_with(b"HTTP/1.1 101 ") && bytes.ends_with(&[0x8a, 0]), "{bytes:?}");
    publish(&shard.context.hub, "a", 1);
    turn(&mut shard);
    assert!(!told(&client).0.is_empty());
    leave(&client);
    turn(&mut shard);
    assert_eq!(shard.conns.len(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn its_client_is_told_the_end_and_closes_first() {
    let mut shard = shard_with(&[]);
    let client = adopt(&mut shard, STREAM, b"");
    shard.close(0, Close::new(4000, "enough"));
    let (bytes, has_ended) = told(&client);
    assert!(String::from_utf8_lossy(&bytes).contains("4000") && bytes.ends_with(CLOSE_NOTIFY), "{bytes:?}");
    assert!(!has_ended, "a part of a record may still be in the kernel");
    leave(&client);
    turn(&mut shard);
    assert_eq!(shard.conns.len(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_plain_socket_gets_no_alert_with_its_refusal() {
    let (ours, client) = UnixStream::pair().unwrap();
    client.set_nonblocking(true).unwrap();
    unserved::refuse(&ours.into(), b"", &unserved::ANY_ORIGIN, &Refusal::full());
    let (bytes, has_ended) = told(&client);
    assert!(bytes.starts_with(b"HTTP/1.1 503 ") && !bytes.ends_with(CLOSE_NOTIFY) && has_ended, "{bytes:?}");
}
