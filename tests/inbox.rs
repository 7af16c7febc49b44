//! Unfinished messages and requests of clients, and unfinished bodies at the control API. All of them together have a
//! bound, at each door, and a message has its time.

mod common;

use common::{
    adopted, attached, counted, eventually, field, metrics, socket_path, until, Client, Host, CONTROL, UPGRADE,
};
use push::grant::Grant;
use push::metrics::Stats;
use push::Server;
use std::net::TcpStream;
use std::time::Duration;

const TOTAL: u64 = 1 << 20;
const TOO_MUCH: &str =
    "all clients together have sent too many bytes of unfinished messages and requests (option inbox_total)";

/// The first fragment of a text, one more, and the last.
const BEGIN: u8 = 0x01;
const MORE: u8 = 0x00;
const END: u8 = 0x80;
const PING: u8 = 0x89;

fn stats(host: &Host) -> Stats {
    host.server.stats().unwrap()
}

/// A connection that somebody hands over.
fn handed_over(server: &Server, head: &str) -> Client {
    let grant = Grant::new(Some("ann"), &[], &["*".into()], 0, false, true).unwrap();
    adopted(server, head, Some(grant))
}

fn websocket_over(server: &Server) -> Client {
    let head = format!(
        "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}Sec-WebSocket-Protocol: push.v1.json\r\n\r\n"
    );
    let mut client = handed_over(server, &head);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client
}

/// Sends a ping, and waits for its answer. False: the connection is closed, for the reason that is tested here.
fn answers(client: &mut Client) -> bool {
    client.frame(PING, b"are you there");
    loop {
        match client.next_frame() {
            (0x8a, _) => return true,
            (0x88, payload) => {
                let (code, reason) = payload.split_at(2);
                assert_eq!((code, String::from_utf8_lossy(reason)), (&4429u16.to_be_bytes()[..], TOO_MUCH.into()));
                return false;
            }
            // Subscribed.
            _ => {}
        }
    }
}

/// Sends the rest of the message in two parts, and waits for the answer.
fn finishes(client: &mut Client, rest: &str) {
    let (middle, last) = rest.split_at(rest.len() / 2);
    client.frame(MORE, middle.as_bytes());
    assert!(answers(client));
    client.frame(END, last.as_bytes());
    loop {
        let text = client.text();
        if field(&text, "channel") == "late" {
            return assert_eq!(field(&text, "type"), "subscribed");
        }
    }
}

/// Many clients send fragments, but never the last one, and send pings. One client is slow, but finishes.
fn the_bound_holds(host: &Host, path: &str, connect: impl Fn() -> Client) {
    const CLIENTS: u64 = 60;
    let mut slow = connect();
    slow.frame(BEGIN, br#"{"type":"sub"#);
    assert!(answers(&mut slow));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| connect()).collect();
    let fragment = [b'x'; 20_000];
    for first in [BEGIN, MORE, MORE] {
        for client in &mut clients {
            client.frame(first, &fragment);
        }
    }
    // Each answer says that everything before it was read.
    let at_first = clients.iter_mut().map(answers).filter(|answers| *answers).count();
    assert!(at_first < clients.len(), "3.6 MB are too much");
    until("more than the bound is kept", || stats(host).inbox_bytes <= TOTAL);
    // Others were closed later, and have not read it yet.
    let ended = || counted(&metrics(path), "push_refusals_total");
    until("one is not counted", || {
        let left = stats(host).websockets - 1;
        ended() == [("inbox_total".to_owned(), CLIENTS - left)]
    });
    let left = stats(host).websockets - 1;
    assert!((2..=TOTAL / 60_000).contains(&left), "{left} have their place: {:?}", stats(host));
    assert!(stats(host).inbox_bytes > left * 60_000);
    finishes(&mut slow, r#"scribe","channel":"late"}"#);
    drop(clients);
    until("something is still counted", || stats(host).inbox_bytes == 0);
    assert!(answers(&mut slow));
}

fn start(path: &str, more: &[(&str, &str)]) -> Host {
    let control = format!("unix:{path}");
    let options = [
        ("inbox_total", "1MB"),
        // However slow the machine is, this is about bytes alone.
        ("message_timeout", "10m"),
        ("threads", "2"),
        ("client_rate", "0"),
        ("control", &control),
    ];
    Host::start(&[&options[..], more].concat())
}

#[test]
fn unfinished_messages_at_a_listener_are_bounded() {
    let path = socket_path();
    let host = start(&path, &[]);
    the_bound_holds(&host, &path, || host.websocket("channel=a", true));
    host.stop();
}

#[test]
fn unfinished_messages_of_connections_that_the_host_hands_over_are_bounded() {
    let path = socket_path();
    let host = start(&path, &[]);
    the_bound_holds(&host, &path, || websocket_over(&host.server));
    host.stop();
}

#[test]
fn unfinished_messages_of_an_attached_hosts_clients_are_bounded_at_the_hub() {
    let (path, door) = (socket_path(), format!("unix:{}", socket_path()));
    let hub = start(&path, &[("attach_listen", &door)]);
    let attached = attached(&door, &[]);
    the_bound_holds(&hub, &path, || websocket_over(&attached));
    assert_eq!(attached.stats().unwrap().inbox_bytes, 0, "a host sees its hub's");
    attached.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn the_largest_goes_first_whichever_thread_has_it() {
    let path = socket_path();
    let more = [("inbox_total", "2100KB"), ("max_client_message", "2MB")];
    let host = start(&path, &more);
    // Connections that are handed over go to one thread after the other.
    let mut small = websocket_over(&host.server);
    small.frame(BEGIN, br#"{"type":"sub"#);
    let mut large = websocket_over(&host.server);
    // Room is made for up to twice as much as has come.
    large.frame(BEGIN, &[b'x'; 1_000_000]);
    until("it is kept", || stats(&host).inbox_bytes > 1_000_000);
    let mut middle = Vec::new();
    while stats(&host).websockets > 1 + middle.len() as u64 {
        assert!(middle.len() < 20, "so many are too much");
        let mut client = websocket_over(&host.server);
        // Less than there may be beyond the bound while the other thread has not looked yet.
        client.frame(BEGIN, &[b'x'; 100_000]);
        assert!(answers(&mut client));
        middle.push(client);
        until("it is too much", || stats(&host).inbox_bytes <= 2100 << 10);
    }
    assert_eq!(large.end(), (4429, TOO_MUCH.to_owned()));
    assert_eq!(counted(&metrics(&path), "push_refusals_total"), [("inbox_total".to_owned(), 1)]);
    assert_eq!(counted(&metrics(&path), "push_closed_total"), [("4429".to_owned(), 1)]);
    assert!(middle.iter_mut().all(answers));
    finishes(&mut small, r#"scribe","channel":"late"}"#);
    host.stop();
}

#[test]
fn a_bound_that_is_lowered_counts_at_once() {
    let host = Host::start(&[("inbox_total", "8MB"), ("threads", "2")]);
    let mut clients: Vec<Client> = (0..40).map(|_| host.websocket("channel=a", true)).collect();
    for client in &mut clients {
        client.frame(BEGIN, &[b'x'; 60_000]);
    }
    until("all is kept", || stats(&host).inbox_bytes > 40 * 60_000);
    host.server.reload(&common::builder(&[("inbox_total", "1MB"), ("threads", "2")])).unwrap();
    until("it is still too much", || stats(&host).inbox_bytes <= TOTAL);
    host.stop();
}

#[test]
fn a_message_has_its_time_at_each_door() {
    let door = format!("unix:{}", socket_path());
    let hub = Host::start(&[("message_timeout", "300ms"), ("close_timeout", "100ms"), ("attach_listen", &door)]);
    let attached = attached(&door, &[]);
    for mut client in [hub.websocket("channel=a", true), websocket_over(&hub.server), websocket_over(&attached)] {
        client.frame(BEGIN, b"never");
        // The client is not silent meanwhile.
        let mut pings = client.stream.try_clone().unwrap();
        let pinging = std::thread::spawn(move || {
            use std::io::Write;
            while pings.write_all(&[PING, 0x80, 0, 0, 0, 0]).is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(client.end(), (4408, "a message did not come in time (option message_timeout)".to_owned()));
        drop(client.rest());
        drop(client);
        pinging.join().unwrap();
    }
    eventually(|| stats(&hub).inbox_bytes == 0);
    attached.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn half_requests_are_bounded_and_those_beyond_it_get_503() {
    const CLIENTS: u64 = 40;
    let path = socket_path();
    let host = start(&path, &[("max_head", "64KB"), ("head_timeout", "10m")]);
    let half = format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nCookie: {}", "c".repeat(60_000));
    let connect = |n: u64| {
        let mut client = if n.is_multiple_of(2) { host.connect() } else { handed_over(&host.server, "GET /pu") };
        client.send(if n.is_multiple_of(2) { half.as_bytes() } else { &half.as_bytes()[7..] });
        client
    };
    let clients: Vec<Client> = (0..CLIENTS).map(connect).collect();
    until("all have come, and what is too much is refused", || {
        let all = metrics(&path);
        let refused: u64 = counted(&all, "push_refusals_total").iter().map(|(_, count)| *count).sum();
        // Of those that are refused nothing is kept.
        let kept = stats(&host).inbox_bytes;
        kept <= TOTAL && kept > (CLIENTS - refused) * 60_000 && refused > 0
    });
    assert_eq!(counted(&metrics(&path), "push_refusals_total")[0].0, "inbox_total");
    // The others have no answer yet.
    let refused = clients.into_iter().filter(Client::has_come).map(|mut client| client.response());
    for (head, body) in refused {
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: "), "{head}");
        assert!(body.contains(r#""code":"inbox_total""#), "{body}");
    }
    until("something is still counted", || stats(&host).inbox_bytes == 0);
    host.stop();
}

#[test]
fn bodies_of_the_control_api_have_a_bound_of_their_own() {
    let options = [("inbox_total", "1MB"), ("max_client_message", "2MB"), ("message_timeout", "10m")];
    let host = Host::start(&[&CONTROL[..], &options].concat());
    // Clients' parts do not count here.
    let mut client = host.websocket("channel=a", true);
    client.frame(BEGIN, &[b'x'; 1_500_000]);
    until("it is kept", || stats(&host).inbox_bytes > 1_500_000);
    let before = stats(&host).inbox_bytes;
    let request = |length: usize| {
        let mut control = Client::over(TcpStream::connect(&host.server.addresses()[1]).unwrap());
        let lines = format!("Host: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {length}", CONTROL[1].1);
        control.send(format!("POST /v1/publish HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
        control
    };
    let batch = format!("[{}{{\"channel\":\"a\",\"data\":\"x\"}}]", " ".repeat(1_500_000));
    let mut large = request(batch.len());
    let (most, rest) = batch.split_at(1_400_000);
    large.send(most.as_bytes());
    until("a single one may be larger", || stats(&host).inbox_bytes >= before + most.len() as u64);
    let mut second = request(batch.len());
    second.send(b"[");
    let head = second.head();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nretry-after: "), "{head}");
    assert!(second.rest().contains(r#""code":"inbox_total""#));
    assert!(host.control("/metrics").contains("push_refusals_total{reason=\"inbox_total\"} 1\n"));
    large.send(rest.as_bytes());
    assert!(large.head().starts_with("HTTP/1.1 200 "));
    until("it is done", || stats(&host).inbox_bytes == before);
    assert!(answers(&mut client));
    host.stop();
}
