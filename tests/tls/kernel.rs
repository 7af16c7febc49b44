//! The option `tls_kernel`. Where the kernel has no TLS, these tests show that clients are served as without the option;
//! where it has, that it really does the work. `make test-ktls` runs all tests of this program with such a kernel.

use crate::client::{address, config, Client, VERSIONS};
use crate::common::killed::Killed;
use crate::common::{builder, counted, metrics, until, Host, PATIENCE, UPGRADE};
use crate::hostile::counting;
use crate::{logged, Pair};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The suites of each cipher, with their names in OpenSSL. The certificates of the tests have ECDSA keys.
const SUITES: [(SupportedCipherSuite, &str); 6] = [
    (cipher_suite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (cipher_suite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
];
const AUTO: (&str, &str) = ("tls_kernel", "auto");
/// For tests of something that only the library does: it follows new keys, and bounds records without content and those
/// that do not end.
pub const IN_LIBRARY: (&str, &str) = ("tls_kernel", "off");

/// Whether this runs in the virtual machine of `make test-ktls`.
pub fn is_wanted() -> bool {
    std::env::var_os("PUSH_TEST_TLS_KERNEL").is_some()
}

/// The number of connections whose records the kernel has encrypted and decrypted since it started. `None`: it has no
/// TLS.
fn in_kernel() -> Option<u64> {
    let path = Path::new("/proc/net/tls_stat");
    assert!(path.exists() || !is_wanted(), "this kernel should have TLS");
    let text = std::fs::read_to_string(path).ok()?;
    let number = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let (sends, receives) = (number("TlsTxSw"), number("TlsRxSw"));
    Some(sends.min(receives))
}

/// Waits until all connections that were made to a server count where they should be: in the kernel if that has TLS.
fn placed(path: &str, count: u64) {
    let place = if in_kernel().is_some() { "kernel" } else { "unavailable" };
    let places = || counted(&metrics(path), "push_tls_connections_total");
    until(&format!("{count} connections in {place}; there are {:?}", places()), || {
        places().iter().map(|(_, count)| count).sum::<u64>() >= count
    });
    assert_eq!(places(), [(place.to_owned(), count)]);
}

/// The options of a client that speaks one suite.
pub fn only(suite: SupportedCipherSuite, pair: &Pair) -> Arc<ClientConfig> {
    let provider = CryptoProvider { cipher_suites: vec![suite], ..default_provider() };
    let version = if suite.tls13().is_some() { &TLS13 } else { &TLS12 };
    let mut roots = RootCertStore::empty();
    roots.add(pair.der.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[version]).unwrap();
    Arc::new(client.with_root_certificates(roots).with_no_client_auth())
}

#[test]
fn every_cipher_moves_into_the_kernel_and_carries_content_both_ways() {
    let (host, lines, pair, path) = counting(&[AUTO, ("max_message", "1MB"), ("client_publish", "true")]);
    let before = in_kernel();
    for (number, (suite, name)) in SUITES.into_iter().enumerate() {
        let config = only(suite, &pair);
        let mut ws = Client::connect(&address(&host), "localhost", &config).get("channel=a", UPGRADE);
        assert!(ws.until("\r\n\r\n").starts_with("HTTP/1.1 101 "), "{name}");
        assert_eq!(ws.tls.conn.negotiated_cipher_suite(), Some(suite));
        // Pings, with a mask of zeros.
        for length in [0, 1, 100, 125] {
            ws.send(&[&[0x89, 0x80 | length, 0, 0, 0, 0][..], &vec![b'p'; usize::from(length)]].concat());
            assert_eq!(ws.bytes(2 + usize::from(length))[..2], [0x8a, length], "{name}");
        }
        let data = format!("{name}{}", "x".repeat(200_000));
        host.publish("a", &data);
        ws.until(&data);
        drop(ws);
        placed(&path, number as u64 + 1);
    }
    let used = in_kernel().map(|now| now - before.unwrap_or(0));
    assert!(used.is_none_or(|used| used >= SUITES.len() as u64), "{used:?}");
    let line =
        if used.is_some() { "option tls_kernel: the kernel has TLS; 1.2: Aes128Gcm" } else { "the kernel has no TLS" };
    until("it is logged", || logged(&lines, line));
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), []);
    host.stop();
}

#[test]
fn content_that_comes_with_the_end_of_the_handshake_is_not_lost() {
    let (host, _, pair, path) = counting(&[AUTO, ("max_head", "64KB")]);
    let filler = |size| format!("Cookie: {}\r\n", "c".repeat(size));
    let mut made = 0;
    // More than the server reads at once in a handshake, and more than a record has.
    for size in [0, 100, 3000, 4000, 4096, 5000, 15_000, 17_000, 40_000] {
        for version in VERSIONS {
            let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
            let mut connection = ClientConnection::new(Arc::new(config(&pair, None, &[version])), name).unwrap();
            let lines = format!("Host: localhost\r\nAccept: text/event-stream\r\n{}", filler(size));
            let request = format!("GET /push?channel=a HTTP/1.1\r\n{lines}\r\n");
            // The library for TLS keeps it, and sends it with its last message of the handshake.
            connection.set_buffer_limit(None);
            connection.writer().write_all(request.as_bytes()).unwrap();
            let stream = TcpStream::connect(address(&host)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut client = rustls::StreamOwned::new(connection, stream);
            let (mut told, mut chunk) = (Vec::new(), [0; 4096]);
            while !told.windows(16).any(|part| part == b"event: push-open") {
                let len = client.read(&mut chunk).unwrap();
                assert!(len > 0, "{size}: {}", String::from_utf8_lossy(&told));
                told.extend_from_slice(&chunk[..len]);
            }
            made += 1;
        }
    }
    let places = counted(&metrics(&path), "push_tls_connections_total");
    assert_eq!(places.iter().map(|(_, count)| count).sum::<u64>(), made, "{places:?}");
    if in_kernel().is_some() {
        let moved = places.iter().find(|(place, _)| place == "kernel").map_or(0, |(_, count)| *count);
        assert!(moved >= made / 2, "the rest of a record is mostly there: {places:?}");
    }
    host.stop();
}

#[test]
fn a_client_that_changes_its_keys_is_sent_away_by_the_kernel_and_comes_back() {
    let (host, lines, pair, path) = counting(&[AUTO]);
    let config = Arc::new(config(&pair, None, &[&TLS13]));
    let connect = || Client::connect(&address(&host), "localhost", &config);
    let mut ws = connect().get("channel=a", UPGRADE);
    ws.until("\r\n\r\n");
    let mut sse = connect().get("channel=a", "Accept: text/event-stream\r\n");
    sse.until("event: push-open");
    for client in [&mut ws, &mut sse] {
        client.tls.conn.refresh_traffic_keys().unwrap();
        client.send(&[0x89, 0x80, 0, 0, 0, 0]);
    }
    if in_kernel().is_none() {
        assert_eq!(ws.bytes(2), [0x8a, 0]);
        return host.stop();
    }
    // A close frame with 1001, and the reason.
    assert_eq!((ws.bytes(4)[0], ws.until("server going away; retry in ").len()), (0x88, 0));
    ws.rest().expect("the end is told");
    assert!(sse.rest().expect("the end is told").contains("event: push-close"));
    until("it is logged", || logged(&lines, "sent away: the client has changed its keys, and the kernel can't"));
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), [("tls_keys".to_owned(), 2)]);
    let position = host.publish("a", "missed");
    host.publish("a", "newest");
    connect().get(&format!("channel=a&since={position}"), UPGRADE).until("newest");
    host.stop();
}

#[test]
fn without_the_option_the_kernel_is_left_alone_and_a_reload_changes_that() {
    let (host, _, pair, path) = counting(&[IN_LIBRARY]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let shake = || {
        let mut client = Client::connect(&address(&host), "localhost", &config);
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.rest().expect("the end is told")
    };
    assert!(shake().starts_with("HTTP/1.1 200 "));
    assert_eq!(counted(&metrics(&path), "push_tls_connections_total"), [("off".to_owned(), 1)]);
    let control = format!("unix:{path}");
    let mut options = vec![("listen", "tls:127.0.0.1:0"), ("control", &control), AUTO];
    options.extend(pair.options());
    host.server.reload(&builder(&options)).unwrap();
    assert!(shake().starts_with("HTTP/1.1 200 "));
    let place = if in_kernel().is_some() { "kernel" } else { "unavailable" };
    let mut places = counted(&metrics(&path), "push_tls_connections_total");
    places.sort();
    let mut expected = [(place.to_owned(), 1), ("off".to_owned(), 1)];
    expected.sort();
    assert_eq!(places, expected);
    host.stop();
}

/// The bytes that this process has allocated and not freed.
fn allocated() -> u64 {
    // SAFETY: the call only counts.
    let now = unsafe { libc::mallinfo2() };
    (now.uordblks + now.hblkhd) as u64
}

#[test]
fn an_idle_client_costs_little_in_the_kernel() {
    const ALONE: &str = "PUSH_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // In this process other tests allocate at the same time. (The thread does not have the test's name if tests run
        // one at a time.)
        let name = "kernel::an_idle_client_costs_little_in_the_kernel";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args([name, "--exact", "--test-threads=1"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        return assert!(output.status.success() && said.contains(" 1 passed;"), "{said}");
    }
    let (host, _, pair) = crate::start(&[AUTO, ("threads", "1")]);
    let config = Arc::new(config(&pair, None, &[&TLS13]));
    // Of these sockets only the server's side has a session any more.
    let mut sockets = Vec::with_capacity(1000);
    let mut up_to = |count: usize| {
        while sockets.len() < count {
            let mut client = Client::connect(&address(&host), "localhost", &config);
            client = client.get("channel=a", "Accept: text/event-stream\r\n");
            client.until("event: push-open");
            sockets.push(client.tls.sock);
        }
        until("the server has all", || host.server.stats().unwrap().sse == count as u64);
        allocated()
    };
    // At both the tables that grow by doubling are almost full.
    let (few, many) = (110, 440);
    let before = up_to(few);
    let each = up_to(many).saturating_sub(before) / (many - few) as u64;
    // In the library it has a session.
    assert_eq!(each <= 300, in_kernel().is_some(), "{each} bytes");
    host.stop();
}

/// What `timeout` says if it had to end its command.
const LATE: i32 = 124;

/// OpenSSL as a client. It ends when it is dropped.
pub struct OpenSsl {
    child: Killed,
    out: BufReader<std::process::ChildStdout>,
}

impl OpenSsl {
    /// Connects with these arguments, and subscribes.
    fn get(host: &Host, arguments: &[&str]) -> Self {
        OpenSsl::get_at(&address(host), arguments)
    }

    /// The same at another server's address.
    pub fn get_at(address: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("timeout")
            .args([&PATIENCE.as_secs().to_string(), "openssl", "s_client"])
            .args(["-connect", address, "-servername", "localhost"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is there (tests/need)");
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut client = OpenSsl { child: Killed(child), out };
        client.send("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        client.until("event: push-open");
        client
    }

    fn send(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until it has ended by itself.
    fn ended(mut self) {
        let mut rest = Vec::new();
        self.out.read_to_end(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert_ne!(status.code(), Some(LATE), "it did not end: {}", String::from_utf8_lossy(&rest));
    }

    /// Reads up to a line with this text.
    pub fn until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "it ended before {text:?}");
        }
    }
}

#[test]
fn openssl_is_served_with_every_cipher() {
    let (host, _, _pair, path) = counting(&[AUTO]);
    for (number, (suite, name)) in SUITES.into_iter().enumerate() {
        let arguments = match suite.tls13() {
            Some(_) => ["-quiet", "-tls1_3", "-ciphersuites", name],
            None => ["-quiet", "-tls1_2", "-cipher", name],
        };
        let mut client = OpenSsl::get(&host, &arguments);
        let data = format!("{name}{}", "x".repeat(50_000));
        host.publish("a", &data);
        client.until(&data);
        drop(client);
        placed(&path, number as u64 + 1);
    }
    host.stop();
}

#[test]
fn openssl_may_change_its_keys_or_ask_for_renegotiation() {
    let (host, lines, _pair, path) = counting(&[AUTO]);
    // Without -quiet a line with R or K is a command.
    let mut old = OpenSsl::get(&host, &["-tls1_2"]);
    old.send("R\n");
    // It may not, and OpenSSL ends a connection on which it may not.
    old.ended();
    until("its connection has gone", || host.server.stats().unwrap().sse == 0);
    let mut new = OpenSsl::get(&host, &["-tls1_3"]);
    new.send("K\n");
    if in_kernel().is_some() {
        new.until("event: push-close");
        until("it is logged", || logged(&lines, "the client has changed its keys"));
        let refusals = counted(&metrics(&path), "push_refusals_total");
        assert!(refusals.contains(&("tls_keys".to_owned(), 1)), "{refusals:?}");
    } else {
        host.publish("a", "with new keys");
        new.until("with new keys");
    }
    host.stop();
}

#[test]
fn curl_is_served_and_told_the_end() {
    let (host, _, pair, path) = counting(&[AUTO]);
    let port = address(&host).rsplit_once(':').unwrap().1.to_owned();
    let answer = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--cacert", &pair.certificate])
        .args(["--resolve", &format!("localhost:{port}:127.0.0.1")])
        .arg(format!("https://localhost:{port}/healthz"))
        .output()
        .expect("curl is there (tests/need)");
    assert!(answer.status.success(), "{answer:?}");
    placed(&path, 1);
    host.stop();
}
