//! Connections that a host hands over when the kernel has their keys, as `push_adopt` takes them. They need a kernel with
//! TLS: `make test-ktls` runs them. Elsewhere they do nothing.

use crate::client::Client;
use crate::common::{attached, counted, metrics, socket_path, until, UPGRADE};
use crate::hostile::counting;
use crate::kernel::{is_wanted, only};
use crate::{logged, Pair};
use push::grant::Grant;
use push::{Kind, Server};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ConnectionTrafficSecrets, ServerConfig, ServerConnection, SupportedCipherSuite};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// One suite of each version.
pub const SUITES: [SupportedCipherSuite; 2] =
    [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
// Numbers of the kernel's interface (include/uapi/linux/tls.h).
const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;
const AES_GCM_128: u16 = 51;

fn set(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, bytes: &[u8]) {
    let len = bytes.len() as libc::socklen_t;
    // SAFETY: `bytes` has `len` bytes, and the kernel only reads.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, bytes.as_ptr().cast(), len) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn attach(fd: &OwnedFd) {
    set(fd, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls");
}

/// The keys of a direction, for the records from number `sequence` on.
fn keys(suite: SupportedCipherSuite, sequence: u64, secrets: &ConnectionTrafficSecrets) -> Vec<u8> {
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another cipher") };
    let (version, iv): (u16, &[u8]) = (if suite.tls13().is_some() { 0x0304 } else { 0x0303 }, iv.as_ref());
    let head = [version.to_ne_bytes(), AES_GCM_128.to_ne_bytes()].concat();
    [&head[..], &iv[4..], key.as_ref(), &iv[..4], &sequence.to_be_bytes()].concat()
}

/// A connection on this machine.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener.accept().unwrap().0)
}

/// A client whose handshake a host has done, and the host's socket, of which the kernel has the keys.
fn in_kernel(suite: SupportedCipherSuite, pair: &Pair) -> (Client, OwnedFd) {
    let (theirs, mut ours) = connection();
    let provider = Arc::new(default_provider());
    let key = PrivateKeyDer::try_from(pair.key_der.clone()).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![pair.der.clone()], key).unwrap();
    config.enable_secret_extraction = true;
    let server = std::thread::spawn(move || {
        let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
        while tls.is_handshaking() || tls.wants_write() {
            if tls.wants_write() {
                tls.write_tls(&mut ours).unwrap();
            } else {
                tls.read_tls(&mut ours).unwrap();
                tls.process_new_packets().unwrap();
            }
        }
        (tls.dangerous_extract_secrets().unwrap(), OwnedFd::from(ours))
    });
    let mut client = Client::over(theirs, "localhost", &only(suite, pair));
    client.tls.conn.complete_io(&mut client.tls.sock).unwrap();
    let (secrets, fd) = server.join().unwrap();
    attach(&fd);
    for (direction, (sequence, secrets)) in [(TLS_RX, &secrets.rx), (TLS_TX, &secrets.tx)] {
        set(&fd, libc::SOL_TLS, direction, &keys(suite, *sequence, secrets));
    }
    (client, fd)
}

fn all() -> Option<Grant> {
    Some(Grant::new(None, &[], &["*".into()], 0, false, false).unwrap())
}

/// A client that is handed over, with nothing read of its request.
fn handed_over(server: &Server, suite: SupportedCipherSuite, pair: &Pair) -> Client {
    let (client, fd) = in_kernel(suite, pair);
    server.adopt(fd, b"", all()).unwrap();
    client
}

#[test]
fn a_host_hands_over_what_the_kernel_encrypts_in_both_directions() {
    if !is_wanted() {
        return;
    }
    let (host, _, pair, path) = counting(&[]);
    let mut clients = Vec::new();
    for suite in SUITES {
        let mut ws = handed_over(&host.server, suite, &pair).get("channel=a", UPGRADE);
        assert!(ws.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        ws.send(&[0x89, 0x84, 0, 0, 0, 0, b'p', b'i', b'n', b'g']);
        assert_eq!(ws.bytes(6), b"\x8a\x04ping");
        let mut sse = handed_over(&host.server, suite, &pair).get("channel=a", "Accept: text/event-stream\r\n");
        sse.until("event: push-open");
        // The host has read the request.
        let (mut poll, fd) = in_kernel(suite, &pair);
        host.server.adopt(fd, b"GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n", all()).unwrap();
        until("all of them wait", || host.server.stats().unwrap().polls == 1);
        let data = "x".repeat(50_000);
        host.publish("a", &data);
        for client in [&mut ws, &mut sse, &mut poll] {
            client.until(&data);
        }
        clients.extend([ws, sse]);
        // It ended with its answer, and was told so.
        poll.rest().expect("the end is told");
    }
    assert_eq!(counted(&metrics(&path), "push_tls_connections_total"), [("handed_over".to_owned(), 6)]);
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), []);
    let stopping = std::thread::spawn(move || host.server.stop(Duration::from_secs(30)));
    for mut client in clients {
        client.rest().expect("the end is told");
    }
    stopping.join().unwrap();
}

#[test]
fn a_client_outlives_the_host_that_has_given_it_to_the_hub() {
    if !is_wanted() {
        return;
    }
    let attach = format!("unix:{}", socket_path());
    let (hub, _, pair, _) = counting(&[("attach_listen", &attach), ("max_connections", "2")]);
    let host = attached(&attach, &[]);
    let mut clients = SUITES.map(|suite| handed_over(&host, suite, &pair).get("channel=a", UPGRADE));
    for client in &mut clients {
        client.until("\r\n\r\n");
    }
    // There is no room for more. The hub says so behind the TLS of the client, and says goodbye.
    for suite in SUITES {
        let mut refused = handed_over(&host, suite, &pair);
        let told = refused.rest().expect("the end is told");
        assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    }
    host.stop(Duration::from_secs(5));
    hub.publish("a", "after the host");
    for client in &mut clients {
        client.until("after the host");
    }
    hub.stop();
}

#[test]
fn a_client_of_a_host_that_changes_its_keys_is_sent_away() {
    if !is_wanted() {
        return;
    }
    let (host, lines, pair, path) = counting(&[]);
    let mut ws = handed_over(&host.server, SUITES[0], &pair).get("channel=a", UPGRADE);
    ws.until("\r\n\r\n");
    ws.tls.conn.refresh_traffic_keys().unwrap();
    ws.send(&[0x89, 0x80, 0, 0, 0, 0]);
    // A close frame with 1001, and the reason.
    assert_eq!((ws.bytes(4)[0], ws.until("server going away; retry in ").len()), (0x88, 0));
    ws.rest().expect("the end is told");
    until("it is logged", || {
        logged(&lines, "sent away: the client has changed its keys, and the kernel can't (the host's TLS)")
    });
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), [("tls_keys".to_owned(), 1)]);
    host.stop();
}

#[test]
fn a_connection_that_is_not_in_the_kernel_in_both_directions_is_refused_by_name() {
    if !is_wanted() {
        return;
    }
    let (host, _, _, path) = counting(&[]);
    let info = [&0x0303_u16.to_ne_bytes()[..], &AES_GCM_128.to_ne_bytes(), &[0; 36]].concat();
    for (directions, expected) in [
        (&[TLS_TX][..], "the connection's TLS is in the kernel for sending only"),
        (&[TLS_RX], "the connection's TLS is in the kernel for receiving only"),
        (&[], "the connection's TLS is not in the kernel"),
    ] {
        let (_theirs, ours) = connection();
        let fd = OwnedFd::from(ours);
        attach(&fd);
        directions.iter().for_each(|direction| set(&fd, libc::SOL_TLS, *direction, &info));
        let (error, _given_back) = host.server.adopt(fd, b"", all()).unwrap_err();
        assert_eq!(error.kind(), Kind::Descriptor);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    assert_eq!(counted(&metrics(&path), "push_tls_connections_total"), []);
    host.stop();
}
