//! nginx whose TLS is in the kernel (`ssl_conf_command Options KTLS`) hands its clients over as it does with plain ones.
//! This needs a kernel with TLS: `make test-ktls` runs it. Elsewhere it does nothing.
//!
//! OpenSSL before 3.2 decrypts TLS 1.3 itself, so with Debian 12 such clients are relayed.

use crate::client::{config, Client};
use crate::common::{counted, free_port, metrics, socket_path, until, Host, UPGRADE};
use crate::hostile::counting;
use crate::kernel::{is_wanted, OpenSsl};
use crate::Pair;
use rustls::version::{TLS12, TLS13};
use rustls::HandshakeKind;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

const NGINX: &str = "/usr/sbin/nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_push_module.so";
const SSE: &str = "Accept: text/event-stream\r\n";
const PING: &[u8] = &[0x89, 0x84, 0, 0, 0, 0, b'p', b'i', b'n', b'g'];
const PONG: &[u8] = b"\x8a\x04ping";

/// A running nginx with two workers, in a directory of its own.
struct Nginx {
    master: Child,
    directory: PathBuf,
    address: String,
}

impl Nginx {
    fn start(attach: &str, pair: &Pair) -> Self {
        let directory = PathBuf::from(socket_path()).with_extension("nginx");
        std::fs::create_dir_all(&directory).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let (home, Pair { certificate, key, .. }) = (directory.display(), pair);
        let text = format!(
            "load_module {MODULE};
user root root;
daemon off;
worker_processes 2;
pid {home}/nginx.pid;
error_log {home}/error.log info;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    log_format test '$push_via $ssl_protocol';
    access_log {home}/access.log test;
    push_attach {attach};
    server {{
        listen {address} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_conf_command Options KTLS;
        location = /push {{ push_subscribe; push_grant *; }}
    }}
}}
"
        );
        let file = directory.join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let master = Command::new(NGINX)
            .args(["-e", &directory.join("error.log").display().to_string(), "-c", &file.display().to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is there");
        let mut nginx = Nginx { master, directory, address };
        until("nginx listens", || {
            let ended = nginx.master.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?} {}", nginx.read("error.log"));
            nginx.workers().len() == 2 && std::net::TcpStream::connect(&nginx.address).is_ok()
        });
        nginx
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// Waits until the log has so many requests that were served in this way.
    fn served(&self, how: &str, count: usize) {
        let log = || self.read("access.log");
        until(&format!("{count} of {how:?}"), || log().lines().filter(|line| line.starts_with(how)).count() >= count);
        assert_eq!(log().lines().filter(|line| line.starts_with(how)).count(), count, "{}", log());
    }

    fn workers(&self) -> BTreeSet<u32> {
        let parent = format!("\nPPid:\t{}\n", self.master.id());
        let processes =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let of_us = |pid: &String| {
            std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains(&parent))
        };
        processes.filter(of_us).filter_map(|pid| pid.parse().ok()).collect()
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: the call takes no pointers, and the process was not waited for.
        assert_eq!(unsafe { libc::kill(self.master.id() as libc::pid_t, signal) }, 0);
    }

    /// Reloads it, and waits until the workers of before have ended.
    fn reload(&self) {
        let before = self.workers();
        self.signal(libc::SIGHUP);
        until("other workers have come, and those of before have gone", || {
            let now = self.workers();
            now.len() == 2 && now.is_disjoint(&before)
        });
    }

    fn client(&self, pair: &Pair, version: &'static rustls::SupportedProtocolVersion) -> Client {
        Client::connect(&self.address, "localhost", &Arc::new(config(pair, None, &[version])))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.signal(libc::SIGQUIT);
        let _ = self.master.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A hub in this process, and nginx in front of it.
fn start() -> (Host, Nginx, Pair, String) {
    let attach = format!("unix:{}", socket_path());
    let (host, _, pair, path) = counting(&[("attach_listen", &attach), ("history_count", "100000")]);
    let nginx = Nginx::start(&attach, &pair);
    (host, nginx, pair, path)
}

#[test]
fn nginx_hands_over_a_client_and_its_reloads_drop_nobody_and_lose_nothing() {
    const RELOADS: usize = 3;
    if !is_wanted() {
        return;
    }
    let (host, nginx, pair, path) = start();
    let mut ws = nginx.client(&pair, &TLS12).get("channel=a", UPGRADE);
    assert!(ws.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    let mut sse = nginx.client(&pair, &TLS12).get("channel=a", SSE);
    sse.until("event: push-open");
    let mut openssl = OpenSsl::get_at(&nginx.address, &["-quiet", "-tls1_2"]);
    nginx.served("handover TLSv1.2", 3);
    assert_eq!(counted(&metrics(&path), "push_tls_connections_total"), [("handed_over".to_owned(), 3)]);
    // Messages are published all the time.
    let (last, ends, hub) = (AtomicU64::new(0), AtomicBool::new(false), &host);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            // If the test fails, nobody says that it ends.
            while !ends.load(Ordering::Relaxed) && last.load(Ordering::Relaxed) < 20_000 {
                let number = last.load(Ordering::Relaxed) + 1;
                hub.publish("a", &format!("<{number}>"));
                last.store(number, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        for _ in 0..RELOADS {
            let before = last.load(Ordering::Relaxed);
            nginx.reload();
            until("more was published", || last.load(Ordering::Relaxed) > before + 10);
        }
        ends.store(true, Ordering::Relaxed);
        publisher.join().unwrap();
    });
    let last = last.into_inner();
    // In order: the text before a message is not read again.
    for number in 1..=last {
        let text = format!("<{number}>");
        ws.until(&text);
        sse.until(&text);
    }
    openssl.until(&format!("<{last}>"));
    ws.send(PING);
    assert_eq!(ws.bytes(PONG.len()), PONG);
    assert_eq!(host.server.stats().unwrap().adopted, 3, "nobody has come again");
    drop(nginx);
    host.publish("a", "without nginx");
    for client in [&mut ws, &mut sse] {
        client.until("without nginx");
    }
    openssl.until("without nginx");
    host.stop();
}

#[test]
fn the_end_is_told_to_a_client_of_nginx() {
    if !is_wanted() {
        return;
    }
    let (host, nginx, pair, _) = start();
    let mut ws = nginx.client(&pair, &TLS12).get("channel=a", UPGRADE);
    ws.until("\r\n\r\n");
    let mut sse = nginx.client(&pair, &TLS12).get("channel=a", SSE);
    sse.until("event: push-open");
    // It ends with the answer, which has no length that would tell.
    let curl = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "100", "--tls-max", "1.2", "--cacert", &pair.certificate])
        .args(["--no-buffer", "--http1.0", "--header", "Accept: text/event-stream"])
        .args(["--resolve", &format!("localhost:{}:127.0.0.1", nginx.address.rsplit_once(':').unwrap().1)])
        .arg(format!("https://localhost:{}/push?channel=a", nginx.address.rsplit_once(':').unwrap().1))
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is there (tests/need)");
    nginx.served("handover TLSv1.2", 3);
    until("all are there", || host.server.stats().unwrap().sse == 2);
    let stopping = std::thread::spawn(move || host.server.stop(Duration::from_secs(30)));
    assert!(sse.rest().expect("the end is told").contains("event: push-close"));
    ws.rest().expect("the end is told");
    drop((ws, sse));
    let curl = curl.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&curl.stdout);
    assert!(curl.status.success() && text.contains("event: push-close"), "{:?} {text}", curl.status);
    stopping.join().unwrap();
}

#[test]
fn what_a_client_has_sent_behind_its_request_is_not_lost() {
    if !is_wanted() {
        return;
    }
    let (host, nginx, pair, _) = start();
    let request = format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
    // In the same record, as much as nginx has room for (client_header_buffer_size, 1k), and more: that is relayed.
    for (number, pings) in [1, 20, 500].into_iter().enumerate() {
        let mut ws = nginx.client(&pair, &TLS12);
        ws.send(&[request.as_bytes(), &PING.repeat(pings)].concat());
        ws.send(PING);
        assert!(ws.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
        assert_eq!(ws.bytes(PONG.len() * (pings + 1)), PONG.repeat(pings + 1), "{pings}");
        drop(ws);
        nginx.served("handover TLSv1.2", (number + 1).min(2));
    }
    nginx.served("relay TLSv1.2", 1);
    host.stop();
}

#[test]
fn a_client_that_resumes_is_served_with_the_request_that_comes_with_its_handshake() {
    if !is_wanted() {
        return;
    }
    let (host, nginx, pair, path) = start();
    let config = Arc::new(config(&pair, None, &[&TLS12]));
    let sizes = [0, 100, 900, 3000, 7000];
    for (number, size) in sizes.into_iter().enumerate() {
        let mut client = Client::connect(&nginx.address, "localhost", &config);
        let lines = format!("Host: localhost\r\n{SSE}Cookie: {}\r\n", "c".repeat(size));
        // The library for TLS keeps it, and sends it with its last message of the handshake.
        client.tls.conn.set_buffer_limit(None);
        let request = format!("GET /push?channel=a HTTP/1.1\r\n{lines}\r\n");
        client.tls.conn.writer().write_all(request.as_bytes()).unwrap();
        client.until("event: push-open");
        let kind = if number == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        assert_eq!(client.tls.conn.handshake_kind(), Some(kind));
        host.publish("a", &format!("<{size}>"));
        client.until(&format!("<{size}>"));
    }
    // If only a part of the request had come, OpenSSL has the rest decrypted as well, and the client is relayed.
    until("all are logged", || nginx.read("access.log").lines().count() == sizes.len());
    let places = counted(&metrics(&path), "push_tls_connections_total");
    assert!(matches!(&*places, [(place, 1..)] if place == "handed_over"), "{places:?}");
    host.stop();
}

#[test]
fn a_client_that_openssl_decrypts_is_relayed() {
    if !is_wanted() {
        return;
    }
    let (host, nginx, pair, path) = start();
    let mut ws = nginx.client(&pair, &TLS13).get("channel=a", UPGRADE);
    assert!(ws.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    // The kernel does not have this cipher in both directions.
    let mut cbc = OpenSsl::get_at(&nginx.address, &["-quiet", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"]);
    host.publish("a", "to all");
    ws.until("to all");
    cbc.until("to all");
    drop((ws, cbc));
    nginx.served("relay TLSv1.3", 1);
    nginx.served("relay TLSv1.2", 1);
    assert_eq!(counted(&metrics(&path), "push_tls_connections_total"), []);
    host.stop();
}
