//! Clients that vanish with their network: nothing is said, no FIN comes, the address is gone. It takes a network
//! namespace for each test, and so root.

mod common;

use common::{eventually, until, Client, Host};
use push::hub::Publication;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Clients in a network namespace of their own, behind a cable that can be cut.
struct Elsewhere {
    name: String,
    ours: String,
    theirs: String,
    /// Our end of the cable.
    near: String,
    clients: Option<Child>,
}

/// Opens a connection for each argument, sends it, and keeps what comes unread.
const CLIENTS: &str = r#"
import socket, sys, time
held = []
for request in sys.argv[3:]:
    client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
    client.sendall(request.encode())
    held.append(client)
print("sent", flush=True)
time.sleep(600)
"#;

fn ip(arguments: &str) -> bool {
    let done = Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

impl Elsewhere {
    /// Nothing, where there can be no namespaces; that is said.
    fn new(test: &str) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id() % 10_000;
        let name = format!("push-{id}-{number}");
        if !ip(&format!("netns add {name}")) {
            eprintln!("vanishing: NOT RUN: {test}: network namespaces need root and iproute2");
            return None;
        }
        // A network for measurements between machines (RFC 2544): nobody has it.
        let network = format!("198.18.{}.", 100 + (id as usize + number) % 100);
        let (near, far) = (format!("pn{id}-{number}"), format!("pf{id}-{number}"));
        let elsewhere = Elsewhere {
            ours: format!("{network}1"),
            theirs: format!("{network}2"),
            name: name.clone(),
            near: near.clone(),
            clients: None,
        };
        let made = ip(&format!("link add {near} type veth peer name {far} netns {name}"))
            && ip(&format!("addr add {}/30 dev {near}", elsewhere.ours))
            && ip(&format!("link set {near} up"))
            && ip(&format!("-n {name} addr add {}/30 dev {far}", elsewhere.theirs))
            && ip(&format!("-n {name} link set {far} up"));
        if !made {
            eprintln!("vanishing: NOT RUN: {test}: there can be no pair of virtual cables here");
            return None;
        }
        Some(elsewhere)
    }

    /// Clients with these requests.
    fn connect(&mut self, port: u16, requests: &[String]) {
        let mut clients = Command::new("ip")
            .args(["netns", "exec", &self.name, "python3", "-c", CLIENTS, &self.ours, &port.to_string()])
            .args(requests)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(clients.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.clients = Some(clients);
        assert_eq!(line, "sent\n");
    }

    /// The clients' address vanishes.
    fn cut(&self) {
        let all = format!("-n {} addr flush to {}/32", self.name, self.theirs);
        assert!(ip(&all));
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(clients) = &mut self.clients {
            let _ = clients.kill();
            let _ = clients.wait();
        }
        // Connections that can't end keep the namespace for minutes after its name is gone.
        ip(&format!("link del {}", self.near));
        ip(&format!("netns del {}", self.name));
    }
}

fn requests() -> Vec<String> {
    let get = |query: &str, lines: &str| format!("GET /push?channel=a{query} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    vec![get("", common::UPGRADE), get("&transport=sse", ""), get("&transport=stream", ""), get("", "")]
}

/// A poll would wait for far longer than it may take here.
const OPTIONS: [(&str, &str); 5] =
    [("heartbeat", "1s"), ("ping_timeout", "2s"), ("poll_timeout", "1h"), ("keep_alive", "1h"), ("head_timeout", "3s")];

fn open(host: &Host) -> [u64; 4] {
    let stats = host.server.stats().unwrap();
    [stats.websockets, stats.sse, stats.streams, stats.polls]
}

fn all_go(host: &Host, elsewhere: &Elsewhere) {
    until("not all came", || open(host) == [1; 4]);
    elsewhere.cut();
    until("some are still counted", || host.server.stats().unwrap().connections == 0);
    assert_eq!(open(host), [0; 4]);
    eventually(|| host.server.stats().unwrap().subscriptions == 0);
}

#[test]
fn clients_of_a_listener_are_gone_soon_after_their_network() {
    let Some(mut elsewhere) = Elsewhere::new("clients of a listener") else { return };
    let listen = format!("{}:0", elsewhere.ours);
    let options = [&OPTIONS[..], &[("listen", listen.as_str())]].concat();
    let host = Host::start(&options);
    let port = host.address().rsplit(':').next().unwrap().parse().unwrap();
    // One more has sent but half a head.
    let half = "GET /push?channel=a HTTP/1.1\r\nHo".to_owned();
    elsewhere.connect(port, &[requests(), vec![half]].concat());
    all_go(&host, &elsewhere);
    host.stop();
}

#[test]
fn clients_that_were_handed_over_are_gone_soon_after_their_network() {
    let Some(mut elsewhere) = Elsewhere::new("clients that were handed over") else { return };
    let host = Host::start(&OPTIONS);
    let listener = TcpListener::bind((elsewhere.ours.as_str(), 0)).unwrap();
    elsewhere.connect(listener.local_addr().unwrap().port(), &requests());
    for _ in 0..4 {
        let (socket, _) = listener.accept().unwrap();
        let grant = push::grant::Grant::new(Some("ann"), &[], &["*".into()], 0, false, true).unwrap();
        host.server.adopt(socket.into(), b"", Some(grant)).unwrap();
    }
    all_go(&host, &elsewhere);
    host.stop();
}

#[test]
fn a_client_that_lives_and_only_does_not_read_stays() {
    const SIZE: usize = 20_000;
    let (host, log) = Host::logged(&[("heartbeat", "500ms"), ("ping_timeout", "500ms")]);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Before it connects, or the window that it announced counts.
    socket.set_recv_buffer_size(2048).unwrap();
    let address: SocketAddr = host.address().parse().unwrap();
    socket.connect(&address.into()).unwrap();
    let mut client = Client::over(socket.into());
    client.send(b"GET /push?channel=a&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.head();
    // More than its buffer takes, and less than ours: its window is closed, and nothing waits in the outbox.
    host.server.publish(&Publication::new("a", "x".repeat(SIZE).as_bytes())).unwrap();
    // Its kernel answers probes of the window meanwhile.
    std::thread::sleep(Duration::from_secs(6));
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.sse, stats.outboxes), (1, 0), "{:?}", log.lock().unwrap());
    assert_eq!(client.bytes(SIZE).len(), SIZE);
    host.stop();
}
