//! A shard that panics in the middle of its work: its clients come back, others feel nothing, nothing is counted wrong.

#[path = "../../tests/common/mod.rs"]
pub(crate) mod common;

use crate::framing::masked;
use crate::grant::Grant;
use common::{eventually, field, Client, Host, UPGRADE};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// What the fan-out panics at, in this build only.
const BOOM: &str = "panic in the fan-out, at the worst moment";

pub(super) fn maybe_panic(data: &[u8]) {
    assert!(data != BOOM.as_bytes(), "planted");
}

struct Subscriber {
    client: Client,
    position: String,
}

impl Subscriber {
    fn new(host: &Host, query: &str) -> Self {
        let mut client = host.websocket(query, true);
        // Each channel of the URL is confirmed.
        let mut position = String::new();
        for _ in query.matches("channel=") {
            loop {
                let text = client.text();
                position = field(&text, "id");
                if field(&text, "type") == "subscribed" {
                    break;
                }
            }
        }
        Subscriber { client, position }
    }

    /// Waits for something to read; true: it is the end.
    fn ended(&mut self) -> bool {
        !matches!(self.client.stream.peek(&mut [0]), Ok(1))
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn its_clients_come_back_and_others_feel_nothing() {
    const CLIENTS: usize = 40;
    // Little more than there are, so that one who is counted for ever is soon one too many.
    let path = common::socket_path();
    let control = format!("unix:{path}");
    let host = Host::start(&[("threads", "2"), ("max_connections", "50"), ("control", &control)]);
    let query = |n: usize| if n.is_multiple_of(2) { "channel=a" } else { "channel=a&channel=b" };
    let mut clients: Vec<_> = (0..CLIENTS).map(|n| Subscriber::new(&host, query(n))).collect();
    for round in 0..5 {
        let mut victim = Subscriber::new(&host, "channel=boom");
        host.publish("boom", BOOM);
        assert!(!victim.client.rest().contains("planted"), "nobody is told what broke");
        let missed = host.publish("a", &format!("missed {round}"));
        let mut gone = 0;
        for (n, subscriber) in clients.iter_mut().enumerate() {
            // Those of the other shard have got the message; those of this one were cut off before it.
            let text = if subscriber.ended() {
                gone += 1;
                let since = format!("{}&since={}", query(n), subscriber.position);
                subscriber.client = host.websocket(&since, true);
                let text = subscriber.client.text();
                for _ in since.matches("channel=") {
                    assert_eq!(field(&subscriber.client.text(), "type"), "subscribed");
                }
                text
            } else {
                subscriber.client.text()
            };
            assert_eq!((field(&text, "data"), field(&text, "id")), (format!("missed {round}"), missed.clone()));
            subscriber.position = field(&text, "id");
        }
        // Where the same shard breaks again and again all may come to be the other's, and end with it the next time:
        // some percent of all runs. In the first round they are spread by chance alone.
        assert!(gone < CLIENTS || round > 0, "the other shard's clients stay");
        // The end of a connection may be counted later than its client learns of it.
        common::until(&format!("round {round}: not as many as before"), || {
            let stats = host.server.stats().unwrap();
            let subscriptions = (CLIENTS + CLIENTS / 2) as u64;
            (stats.connections, stats.websockets, stats.subscriptions)
                == (CLIENTS as u64, CLIENTS as u64, subscriptions)
        });
    }
    assert!(common::metrics(&path).contains("\npush_panics_total 5\n"), "each is counted");
    drop(clients);
    let gone = |stats: push::metrics::Stats| stats.connections == 0 && stats.subscriptions == 0;
    let until = Instant::now() + common::PATIENCE;
    while !gone(host.server.stats().unwrap()) {
        assert!(Instant::now() < until, "{:?}", host.server.stats());
        std::thread::yield_now();
    }
    host.stop();
}

/// A client's frame, under a mask that changes nothing.
fn frame(text: &str) -> Vec<u8> {
    masked::frame(0x81, text.as_bytes(), [0; 4])
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn on_the_thread_of_a_host_that_hands_a_connection_over_it_is_the_same() {
    let host = Host::start(&[("threads", "2"), ("max_connections", "4"), ("max_per_user", "1")]);
    let publish = format!(r#"{{"type":"publish","channel":"b","data":"{BOOM}"}}"#);
    // To subscribe is to be told first what waits.
    let subscribe = r#"{"type":"subscribe","channel":"c"}"#;
    let head =
        format!("GET /push?channel=b HTTP/1.1\r\nHost: h\r\n{UPGRADE}Sec-WebSocket-Protocol: push.v1.json\r\n\r\n");
    let head = [head.as_bytes(), &frame(&publish), &frame(subscribe)].concat();
    for _ in 0..20 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let fd = listener.accept().unwrap().0.into();
        host.server
            .adopt(fd, &head, Some(Grant::new(Some("ann"), &[], &["*".into()], 0, true, false).unwrap()))
            .unwrap();
        let text = client.rest();
        assert!(text.starts_with("HTTP/1.1 101 ") && !text.contains("planted"), "{text}");
        // Nothing else happens at this shard that would have it look.
        eventually(|| {
            let stats = host.server.stats().unwrap();
            (stats.connections, stats.websockets, stats.subscriptions) == (0, 0, 0)
        });
    }
    host.stop();
}
