//! Causes each reason of a refusal. The refusal must be counted and logged under its own reason and no other.

#[path = "common/certificates.rs"]
mod certificates;
mod common;

use certificates::Pair;
use common::{adopted, counted, eventually, metrics, Client, Host, UPGRADE};
use push::events::EventKind;
use push::grant::Grant;
use push::metrics::Reason;
use std::any::Any;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Objects that must live until the refusal was seen.
type Kept = Box<dyn Any>;

type Options = &'static [(&'static str, &'static str)];
type Bring = fn(&Host) -> Kept;

/// A way to one reason: options, an action, and the log line that follows.
struct Way {
    options: Options,
    bring: Bring,
    line: &'static str,
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The way to a reason. A new reason does not compile before it has one.
#[rustfmt::skip]
fn way(reason: Reason) -> Way {
    let (options, bring, line): (Options, Bring, _) = match reason {
        Reason::Malformed => (&[], |host| get(host, "", ""), "Info refused with 400 "),
        Reason::Unauthorized => (&[("auth", "jwt"), ("jwt_secret", SECRET)], |host| get(host, "channel=a", ""), "Info refused with 401 unauthorized: "),
        Reason::Channel => (&[], |host| hand_over(host, "channel=b", granted(0)), "Info refused with 403 channel: not allowed: channel b"),
        Reason::Origin => (&[], |host| get(host, "channel=a", "Origin: https://other.example\r\n"), "Info refused with 403 origin: "),
        Reason::Host => (&[], |host| request(host, "GET /push?channel=a HTTP/1.1\r\nHost: rebound.example\r\n\r\n"), "Info refused with 403 host: the server may not be addressed as rebound.example; the option allowed_hosts can allow it"),
        Reason::Expired => (&[], |host| hand_over(host, "channel=a", granted(1)), "Info refused with 403 expired: the grant has ended"),
        Reason::Denied => (&[("auth", "host"), ("auth_timeout", "10m")], denied, "Info refused with 403 denied: not today"),
        Reason::NotFound => (&[], |host| request(host, "GET /elsewhere HTTP/1.1\r\nHost: localhost\r\n\r\n"), "Info refused with 404 not_found: "),
        Reason::Method => (&[], |host| request(host, "DELETE /push HTTP/1.1\r\nHost: localhost\r\n\r\n"), "Info refused with 405 method_not_allowed: "),
        Reason::Timeout => (&[("head_timeout", "100ms")], |host| hand_over_head(host, "GET /push", granted(0)), "Info refused with 408 timeout: "),
        Reason::TooLarge => (&[], |host| request(host, &format!("GET /push?{}", "x".repeat(100_000))), "Info refused with 414 uri_too_long: "),
        Reason::WebSocketVersion => (&[], |host| get(host, "channel=a", &UPGRADE.replace("13", "12")), "Info refused with 426 websocket_version: "),
        Reason::MaxConnections => (&[("max_connections", "1")], one_too_many, "Info refused with 503 full: max_connections is reached"),
        Reason::MaxPerAddress => (&[("max_per_address", "1")], one_too_many, "Info refused with 429 max_per_address: "),
        Reason::MaxPerUser => (&[("max_per_user", "1")], one_user_too_often, "Info refused with 429 max_per_user: "),
        Reason::ConnectRate => (&[("connect_rate", "1")], one_too_many, "Info refused with 429 connect_rate: too many connections a second (option connect_rate)"),
        Reason::ConnectRatePerAddress => (&[("connect_rate_per_address", "1")], one_too_many, "Info refused with 429 connect_rate: too many connections a second from one address "),
        Reason::ClientRate => (&[("client_rate", "1")], flood, "Info a WebSocket ended with 4429: too many messages a second (option client_rate)"),
        Reason::InboxTotal => (&[("inbox_total", "1MB"), ("max_client_message", "2MB"), ("message_timeout", "10m")], two_parts, "Info a WebSocket ended with 4429: all clients together have sent too many bytes of unfinished messages and requests (option inbox_total)"),
        Reason::MessageTimeout => (&[("message_timeout", "100ms")], |host| part(host, b"x"), "Info a WebSocket ended with 4408: a message did not come in time (option message_timeout)"),
        Reason::MaxChannels => (&[("max_channels", "1")], |host| get(host, "channel=a&channel=b", ""), "Info refused with 400 channels: more than 1 channels (option max_channels)"),
        Reason::MaxPatterns => (&[("max_patterns", "1")], |host| get(host, "transport=sse&pattern=a*&pattern=b*", ""), "Info refused with 400 patterns: more than 1 patterns (option max_patterns)"),
        Reason::PatternsTotal => (&[("max_patterns", "2"), ("patterns_total", "1")], |host| get(host, "transport=stream&pattern=a*&pattern=b*", ""), "Info refused with 503 patterns_total: "),
        Reason::ClientRequest => (&[], ask_for_nothing_known, r"Info a request of push.v1.json is refused: malformed: not a request of push.v1.json: there is no type no\nsuch"),
        Reason::ProxyHeader => (&[("proxy_protocol", "true"), ("trusted_proxies", "192.0.2.1")], |host| get(host, "channel=a", ""), "Info the connection does not come from one of trusted_proxies"),
        Reason::Tls => return secure(|host| tls(host, b"\x16\x03\x01\0\x04\x14\0\0\0"), "Info the TLS handshake failed: "),
        Reason::TlsName => return secure(ask_for_another_name, "Info the TLS handshake failed: there is no certificate for the name"),
        // Only a kernel with TLS leads to it: see tests/tls/kernel.rs and `make test-ktls`.
        Reason::TlsKeys => return Way { options: &[], bring: |_| Box::new(()), line: "" },
        Reason::NotTls => return secure(|host| tls(host, b"GET / HTTP/1.1\r\n\r\n"), "Info the client speaks plain HTTP at an address for TLS"),
        Reason::NotPlain => (&[], |host| request(host, "\x16\x03\x01"), "Info the client speaks TLS, and this address"),
        Reason::Draining => (&[], drained, "Info refused with 503 draining: "),
        Reason::Busy => (&[("auth", "host")], |host| get(host, "channel=a", ""), "Info refused with 503 unanswered: "),
        // Running out of descriptors needs a separate process: see below.
        Reason::Resources => return Way { options: &[], bring: |_| Box::new(()), line: "" },
        Reason::ControlKey => (&[("control_key", SECRET)], |host| control(host, "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\n\r\n"), "Warn control API: refused with 401 unauthorized: "),
        Reason::Control => (&[], |host| control(host, "GET /v2/stats HTTP/1.1\r\nHost: localhost\r\n\r\n"), "Info control API: refused with 404 not_found: "),
        Reason::Attach => (&[("attach_uids", "4294967294")], attach, "Warn attach: user "),
    };
    Way { options, bring, line }
}

/// A way over a listener with TLS. Its files are made once, and stay with the system's temporary files.
fn secure(bring: Bring, line: &'static str) -> Way {
    static FILES: LazyLock<&'static Pair> = LazyLock::new(|| Box::leak(Box::new(Pair::new(&["localhost"]))));
    let [certificate, key] = FILES.options();
    let options = vec![("listen", "127.0.0.1:0, tls:127.0.0.1:0"), certificate, key];
    Way { options: options.leak(), bring, line }
}

fn secure_address(host: &Host) -> &str {
    host.server.addresses().iter().find_map(|address| address.strip_prefix("tls:")).unwrap()
}

fn tls(host: &Host, bytes: &[u8]) -> Kept {
    let mut stream = TcpStream::connect(secure_address(host)).unwrap();
    stream.write_all(bytes).unwrap();
    Box::new(stream)
}

fn ask_for_another_name(host: &Host) -> Kept {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("other.example").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(secure_address(host)).unwrap();
    connection.write_tls(&mut stream).unwrap();
    Box::new(stream)
}

fn granted(expires_at: i64) -> Grant {
    Grant::new(Some("ann"), &["a".into()], &[], expires_at, false, false).unwrap()
}

fn get(host: &Host, query: &str, lines: &str) -> Kept {
    Box::new(host.get(query, lines))
}

fn request(host: &Host, bytes: &str) -> Kept {
    let mut client = host.connect();
    client.send(bytes.as_bytes());
    Box::new(client)
}

fn hand_over(host: &Host, query: &str, grant: Grant) -> Kept {
    hand_over_head(host, &format!("GET /push?{query}&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n"), grant)
}

/// Hands over a connection together with what has been read from it.
fn hand_over_head(host: &Host, head: &str, grant: Grant) -> Kept {
    Box::new(adopted(&host.server, head, Some(grant)))
}

fn denied(host: &Host) -> Kept {
    host.server.event_fd().unwrap();
    let client = host.get("channel=a", "");
    let event = host.server.next_event(Some(common::PATIENCE)).unwrap();
    assert_eq!(event.kind, EventKind::Request);
    host.server.deny(event.request, 403, "not today").unwrap();
    Box::new(client)
}

fn one_too_many(host: &Host) -> Kept {
    let mut clients = vec![host.websocket("channel=a", false)];
    loop {
        let mut next = host.get("channel=a&transport=stream", "");
        let refused = !next.head().starts_with("HTTP/1.1 200 ");
        clients.push(next);
        // If the limit is a rate, the machine may be too slow to reach it.
        if refused {
            return Box::new(clients);
        }
    }
}

fn one_user_too_often(host: &Host) -> Kept {
    Box::new([(); 2].map(|()| hand_over(host, "channel=a", granted(0))))
}

fn flood(host: &Host) -> Kept {
    let mut client = host.websocket("channel=a", false);
    (0..50).for_each(|_| client.say("x"));
    Box::new(client)
}

/// The first fragment of a message.
fn part(host: &Host, bytes: &[u8]) -> Kept {
    let mut client = host.websocket("channel=a", false);
    client.frame(0x02, bytes);
    Box::new(client)
}

/// One alone may be as large as it is.
fn two_parts(host: &Host) -> Kept {
    Box::new([part(host, &vec![b'x'; 1_500_000]), part(host, b"x")])
}

fn ask_for_nothing_known(host: &Host) -> Kept {
    let mut client = host.websocket("channel=a", true);
    client.say(r#"{"type":"no\nsuch"}"#);
    Box::new(client)
}

fn drained(host: &Host) -> Kept {
    host.server.drain(Duration::from_secs(10)).unwrap();
    eventually(|| TcpStream::connect(host.address()).is_err());
    hand_over(host, "channel=a", granted(0))
}

fn path_of(host: &Host, what: &str) -> String {
    let mut paths = host.server.addresses().iter().filter_map(|address| address.strip_prefix("unix:"));
    paths.find(|path| path.ends_with(what)).unwrap().to_owned()
}

fn control(host: &Host, bytes: &str) -> Kept {
    let mut stream = UnixStream::connect(path_of(host, ".control")).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    assert!(stream.read(&mut [0; 9]).unwrap() > 0);
    Box::new(stream)
}

fn attach(host: &Host) -> Kept {
    Box::new(UnixStream::connect(path_of(host, ".attach")).unwrap())
}

fn not_taken_over(host: &Host) -> Kept {
    let first = host.websocket("channel=a", false);
    let (_, theirs) = UnixStream::pair().unwrap();
    let (error, _) = host.server.adopt(theirs.into(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", None).unwrap_err();
    assert_eq!(error.kind(), push::Kind::Limit);
    Box::new(first)
}

fn one_channel_more(host: &Host) -> Kept {
    let mut client = host.websocket("channel=a", true);
    client.say(r#"{"type":"subscribe","channel":"b"}"#);
    Box::new(client)
}

/// Requests behind a poll that waits.
fn too_early(host: &Host) -> Kept {
    let mut client = host.get("channel=a", "");
    client.send(&[b'x'; 100_000]);
    Box::new(client)
}

/// The same reasons in other places.
const MORE: [(Reason, Way); 5] = [
    (
        Reason::Timeout,
        Way {
            options: &[("head_timeout", "100ms")],
            bring: |host| Box::new(host.connect()),
            line: "Info nothing came within head_timeout",
        },
    ),
    (
        Reason::MaxConnections,
        Way {
            options: &[("max_connections", "1")],
            bring: not_taken_over,
            line: "Info a connection is not taken over: max_connections is reached: 1",
        },
    ),
    (
        Reason::MaxChannels,
        Way {
            options: &[("max_channels", "1")],
            bring: one_channel_more,
            line: "Info a request of push.v1.json is refused: channels: ",
        },
    ),
    (
        Reason::Control,
        Way {
            options: &[],
            bring: |host| control(host, "NO REQUEST\r\n\r\n"),
            line: "Info control API: the request is not valid HTTP",
        },
    ),
    (
        Reason::TooLarge,
        Way {
            options: &[],
            bring: too_early,
            line: "Info more than 32768 bytes came before the answer (option max_head)",
        },
    ),
];

/// Goes a way, and checks the counted reason and the log line.
fn go(reason: Reason, Way { options, bring, line }: Way) {
    let path = common::socket_path();
    let (at, door) = (format!("unix:{path}.control"), format!("unix:{path}.attach"));
    let mut all = vec![("control", &*at), ("threads", "1")];
    if reason == Reason::Attach {
        all.push(("attach_listen", &door));
    }
    all.extend(options);
    let (host, lines) = Host::logged(&all);
    let kept = bring(&host);
    let since = Instant::now();
    // The line ends with what is known about the client at that time.
    let named = match reason {
        // This line is not about a client.
        Reason::Resources | Reason::Attach => "",
        Reason::Control | Reason::ControlKey => " (address unix)",
        _ if line.contains("is not taken over") => " (address unix)",
        _ => "address 127.0.0.1",
    };
    let is_it = |logged: &String| logged.starts_with(line) && logged.contains(named);
    while !lines.lock().unwrap().iter().any(is_it) {
        assert!(since.elapsed() < common::PATIENCE, "{line:?} is not in {:?}", lines.lock().unwrap());
        std::thread::sleep(Duration::from_millis(2));
    }
    // A request to the control API has the same time, which may be too short for this machine.
    if all.iter().any(|(name, _)| *name == "head_timeout") {
        all.push(("head_timeout", "10m"));
        host.server.reload(&common::builder(&all)).unwrap();
    }
    let text = match reason {
        Reason::ControlKey => common::metrics_with_key(&format!("{path}.control"), SECRET),
        _ => metrics(&format!("{path}.control")),
    };
    assert_eq!(counted(&text, "push_refusals_total"), [(reason.word().to_owned(), 1)]);
    drop(kept);
    host.stop();
}

#[test]
fn each_reason_is_counted_and_logged_under_its_name() {
    let here = Reason::ALL.into_iter().filter(|reason| !matches!(reason, Reason::Resources | Reason::TlsKeys));
    here.for_each(|reason| go(reason, way(reason)));
}

#[test]
fn a_reason_is_the_same_in_every_place() {
    MORE.into_iter().for_each(|(reason, way)| go(reason, way));
}

/// The answer to one request of several on a connection.
fn ask(control: &mut UnixStream) -> String {
    control.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = Vec::new();
    loop {
        let mut part = [0; 65536];
        let len = control.read(&mut part).unwrap();
        assert!(len > 0, "pushd is there");
        text.extend_from_slice(&part[..len]);
        let so_far = String::from_utf8_lossy(&text);
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if body.len() >= length.parse().unwrap() {
            return body.to_owned();
        }
    }
}

/// `pushd` with few descriptors. It ends with the test.
struct Poor(Child);

impl Drop for Poor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn missing_resources_are_counted_each_time_and_logged_sometimes() {
    let path = common::socket_path();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_pushd")]);
    command.args(["-o", "listen=127.0.0.1:0", "-o", "threads=1", "-o", &format!("control=unix:{path}")]);
    // The crowd stays for as long as the test wants.
    command.args(["-o", "head_timeout=10m"]);
    let mut pushd = Poor(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(pushd.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.split_once("listening on 127.0.0.1:")?.1.to_owned())).unwrap();
    lines.find(|line| line.contains("listening on unix:")).unwrap();
    let log = std::thread::spawn(move || lines.collect::<Vec<_>>());
    let mut control = UnixStream::connect(&path).unwrap();
    ask(&mut control);
    let crowd: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(format!("127.0.0.1:{address}")).unwrap()).collect();
    let since = Instant::now();
    while ask(&mut control).contains("\npush_logs_suppressed_total 0\n") {
        assert!(since.elapsed() < common::PATIENCE, "{}", ask(&mut control));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(crowd);
    let mut client = Client::over(TcpStream::connect(format!("127.0.0.1:{address}")).unwrap());
    client.send(b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 "), "it goes on");
    // This client came last, so nothing is missing any more, and nothing more is logged.
    let refused = counted(&ask(&mut control), "push_refusals_total");
    assert!(refused.len() == 1 && refused[0].0 == Reason::Resources.word(), "{refused:?}");
    drop(pushd);
    let said = log.join().unwrap().iter().filter(|line| line.contains("accept: ")).count() as u64;
    assert!(said > 0 && said < refused[0].1, "{said} of {refused:?}");
}
