//! Clients that vanish with their network: no goodbye and no FIN comes. The address is gone, or a router between passes
//! nothing on. Each test takes network namespaces, and so root.

mod common;

use common::{eventually, until, Client, Host};
use push::grant::Grant;
use push::hub::Publication;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Clients in a separate network namespace, behind a cable that can be cut.
struct Elsewhere {
    name: String,
    ours: String,
    theirs: String,
    /// Our end of the cable.
    near: String,
    /// The namespace of the router between, if there is one.
    router: Option<String>,
    clients: Option<Child>,
}

/// Opens a connection for each argument, sends the argument, and leaves the answer unread. A WebSocket answers pings: it
/// is to end because its network is gone, and not before that.
const CLIENTS: &str = r#"
import socket, sys
held = []
for request in sys.argv[3:]:
    client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
    client.sendall(request.encode('latin-1'))
    held.append(client)
print("sent", flush=True)
websocket = [client for client, request in zip(held, sys.argv[3:]) if "websocket" in request][0]
websocket.settimeout(600)
while received := websocket.recv(65536):
    for _ in range(received.count(bytes([0x89, 0]))):
        websocket.sendall(bytes([0x8a, 0x80, 0, 0, 0, 0]))
"#;

fn ip(arguments: &str) -> bool {
    let done = Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

impl Elsewhere {
    /// Clients at the other end of a cable. `None` if there can be no namespaces; then it prints that.
    fn new(test: &str) -> Option<Self> {
        Self::made(test, false)
    }

    /// The same, with a router between.
    fn behind_a_router(test: &str) -> Option<Self> {
        Self::made(test, true)
    }

    fn made(test: &str, routed: bool) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id() % 10_000;
        let name = format!("push-{id}-{number}");
        if !ip(&format!("netns add {name}")) {
            common::not_run(&format!("vanishing: NOT RUN: {test}: network namespaces need root and iproute2"));
            return None;
        }
        // This network is for measurements between machines (RFC 2544), so no machine has it.
        let network = format!("198.18.{}.", 100 + (id as usize + number) % 100);
        let near = format!("pn{id}-{number}");
        let elsewhere = Elsewhere {
            ours: format!("{network}1"),
            theirs: format!("{network}{}", if routed { 6 } else { 2 }),
            name: name.clone(),
            near: near.clone(),
            router: routed.then(|| format!("{name}-between")),
            clients: None,
        };
        // The namespace at the other end of our cable.
        let next = elsewhere.router.as_ref().unwrap_or(&name);
        let made = elsewhere.router.as_ref().is_none_or(|router| ip(&format!("netns add {router}")))
            && ip(&format!("link add {near} type veth peer name far netns {next}"))
            && ip(&format!("addr add {}/30 dev {near}", elsewhere.ours))
            && ip(&format!("link set {near} up"))
            && ip(&format!("-n {next} addr add {network}2/30 dev far"))
            && ip(&format!("-n {next} link set far up"))
            && elsewhere.router.as_ref().is_none_or(|router| elsewhere.route(router, &network));
        if !made {
            common::not_run(&format!("vanishing: NOT RUN: {test}: there can be no pair of virtual cables here"));
            return None;
        }
        Some(elsewhere)
    }

    /// Has a router pass packets on between us and the clients.
    fn route(&self, router: &str, network: &str) -> bool {
        let name = &self.name;
        ip(&format!("-n {router} link add beyond type veth peer name far netns {name}"))
            && ip(&format!("-n {router} addr add {network}5/30 dev beyond"))
            && ip(&format!("-n {router} link set beyond up"))
            && ip(&format!("-n {name} addr add {}/30 dev far", self.theirs))
            && ip(&format!("-n {name} link set far up"))
            && ip(&format!("-n {name} route add default via {network}5"))
            && ip(&format!("route add {network}4/30 via {network}2"))
            && Self::forward(router, true)
    }

    fn forward(router: &str, on: bool) -> bool {
        let command = format!("echo {} > /proc/sys/net/ipv4/ip_forward", u8::from(on));
        let run = Command::new("ip").args(["netns", "exec", router, "sh", "-c", &command]).status();
        run.is_ok_and(|status| status.success())
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

    /// The clients' address vanishes, or the router passes nothing on any more, and says nothing about it.
    fn cut(&self) {
        if let Some(router) = &self.router {
            return assert!(Self::forward(router, false));
        }
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
        // Connections that can't end keep the namespace alive for minutes after its name is gone.
        ip(&format!("link del {}", self.near));
        for name in self.router.iter().chain([&self.name]) {
            ip(&format!("netns del {name}"));
        }
    }
}

/// One of each transport.
fn requests(token: &str) -> Vec<String> {
    let get = |query: &str, lines: &str| {
        format!("GET /push?channel=a{query}&token={token} HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
    };
    vec![get("", common::UPGRADE), get("&transport=sse", ""), get("&transport=stream", ""), get("", "")]
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A poll would wait far longer than this test may take. A user may have one connection of each transport.
const OPTIONS: [(&str, &str); 8] = [
    ("heartbeat", "1s"),
    ("ping_timeout", "20s"),
    ("poll_timeout", "1h"),
    ("keep_alive", "1h"),
    ("head_timeout", "20s"),
    ("max_per_user", "4"),
    ("auth", "jwt"),
    ("jwt_secret", SECRET),
];

fn ann() -> Option<Grant> {
    Some(Grant::new(Some("ann"), &[], &["*".into()], 0, false, true).unwrap())
}

/// The beginning of the answer to one more connection of hers, from this machine.
fn one_more(host: &Host) -> String {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let head = b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
    host.server.adopt(theirs.into(), head, ann()).unwrap();
    let mut line = String::new();
    BufReader::new(ours).read_line(&mut line).unwrap();
    line
}

/// The users on the channel, and the number of their connections.
fn present(host: &Host) -> (Vec<String>, u64) {
    let present = host.server.users("a", "", 10).unwrap();
    (present.page.iter().map(|user| user.name.to_string()).collect(), present.connections)
}

fn open(host: &Host) -> [u64; 4] {
    let stats = host.server.stats().unwrap();
    [stats.websockets, stats.sse, stats.streams, stats.polls]
}

fn all_go(host: &Host, elsewhere: &Elsewhere) {
    until("not all came", || open(host) == [1; 4]);
    assert_eq!(present(host), (vec!["ann".to_owned()], 4));
    assert!(one_more(host).contains(" 429 "));
    elsewhere.cut();
    until("some are still counted", || host.server.stats().unwrap().connections == 0);
    assert_eq!(open(host), [0; 4]);
    eventually(|| host.server.stats().unwrap().subscriptions == 0);
    // No ghost is left, and none takes her place.
    assert_eq!(present(host), (vec![], 0));
    assert!(one_more(host).contains(" 200 "));
}

#[test]
fn clients_of_a_listener_are_gone_soon_after_their_network() {
    of_a_listener(Elsewhere::new("clients of a listener"));
}

#[test]
fn clients_of_a_listener_are_gone_soon_after_a_router_passes_nothing_on() {
    of_a_listener(Elsewhere::behind_a_router("clients of a listener, behind a router"));
}

fn of_a_listener(elsewhere: Option<Elsewhere>) {
    let Some(mut elsewhere) = elsewhere else { return };
    let claims = serde_json::json!({"sub": "ann", "exp": 4_000_000_000_u64, "push.subscribe": ["a"]});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let listen = format!("{}:0", elsewhere.ours);
    let options = [&OPTIONS[..], &[("listen", listen.as_str())]].concat();
    let host = Host::start(&options);
    let port = host.address().rsplit(':').next().unwrap().parse().unwrap();
    // One more client has sent only half a head.
    let half = "GET /push?channel=a HTTP/1.1\r\nHo".to_owned();
    elsewhere.connect(port, &[requests(&token), vec![half]].concat());
    all_go(&host, &elsewhere);
    host.stop();
}

#[test]
fn clients_that_were_handed_over_are_gone_soon_after_their_network() {
    handed_over(Elsewhere::new("clients that were handed over"));
}

#[test]
fn clients_that_were_handed_over_are_gone_soon_after_a_router_passes_nothing_on() {
    handed_over(Elsewhere::behind_a_router("clients that were handed over, behind a router"));
}

fn handed_over(elsewhere: Option<Elsewhere>) {
    let Some(mut elsewhere) = elsewhere else { return };
    let host = Host::start(&OPTIONS);
    let listener = TcpListener::bind((elsewhere.ours.as_str(), 0)).unwrap();
    elsewhere.connect(listener.local_addr().unwrap().port(), &requests(""));
    for _ in 0..4 {
        let (socket, _) = listener.accept().unwrap();
        host.server.adopt(socket.into(), b"", ann()).unwrap();
    }
    all_go(&host, &elsewhere);
    host.stop();
}

#[test]
fn a_websocket_that_is_not_read_from_is_gone_with_its_network() {
    let Some(mut elsewhere) = Elsewhere::new("a WebSocket that is not read from") else { return };
    let listen = format!("{}:0", elsewhere.ours);
    let options =
        [("heartbeat", "1s"), ("ping_timeout", "8s"), ("event_queue", "16"), ("client_rate", "0"), ("listen", &listen)];
    let host = Host::start(&options);
    // The host wants events, and takes none. So the queue is full soon, and nothing more is read.
    host.server.event_fd().unwrap();
    let port = host.address().rsplit(':').next().unwrap().parse().unwrap();
    let text = "\u{81}\u{81}\u{1}\u{1}\u{1}\u{1}x"; // one masked frame
    let request = format!("GET /push?channel=a HTTP/1.1\r\nHost: {}\r\n{}\r\n", elsewhere.ours, common::UPGRADE);
    elsewhere.connect(port, &[request + &text.repeat(100)]);
    until("it did not come", || open(&host) == [1, 0, 0, 0]);
    until("the queue was not full", || host.server.stats().unwrap().events_waiting >= 16);
    elsewhere.cut();
    until("it is still counted", || host.server.stats().unwrap().connections == 0);
    host.stop();
}

#[test]
fn a_client_that_lives_and_does_not_read_stays() {
    const SIZE: usize = 20_000;
    let (host, log) = Host::logged(&[("heartbeat", "500ms"), ("ping_timeout", "500ms")]);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // This must be set before it connects, or the window that it has announced counts.
    socket.set_recv_buffer_size(2048).unwrap();
    let address: SocketAddr = host.address().parse().unwrap();
    socket.connect(&address.into()).unwrap();
    let mut client = Client::over(socket.into());
    client.send(b"GET /push?channel=a&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.head();
    // This is more than its buffer takes, and less than ours. So its window is closed, and nothing waits in the outbox.
    host.server.publish(&Publication::new("a", "x".repeat(SIZE).as_bytes())).unwrap();
    // Meanwhile its kernel answers probes of the window.
    std::thread::sleep(Duration::from_secs(6));
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.sse, stats.outboxes), (1, 0), "{:?}", log.lock().unwrap());
    assert_eq!(client.bytes(SIZE).len(), SIZE);
    host.stop();
}
