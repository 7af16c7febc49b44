//! The stop ends in time whatever clients do, and promised messages are delivered first.

mod common;

use common::{Client, Host, PATIENCE};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Stops a server, and returns whether that took no longer than `slack` beyond its time.
fn stops_in_time(host: Host, drain: Duration, slack: Duration) -> bool {
    let began = Instant::now();
    host.server.stop(drain);
    began.elapsed() < drain + slack
}

#[test]
fn clients_that_keep_sending_do_not_hold_up_the_stop() {
    let host = Host::start(&[]);
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let mut client = host.get("channel=a", "Accept: text/event-stream\r\n");
            let end = &end;
            scope.spawn(move || {
                use std::io::Write;
                let flood = vec![b'x'; 65_536];
                while !end.load(Ordering::Relaxed) && client.stream.write_all(&flood).is_ok() {}
            });
        }
        // They send for as long as the stop takes.
        let in_time = stops_in_time(host, Duration::from_millis(500), Duration::from_secs(60));
        end.store(true, Ordering::Relaxed);
        assert!(in_time);
    });
}

#[test]
fn half_sent_control_requests_do_not_hold_up_the_stop() {
    // A stop that waits for them takes half a minute, each time. On a busy machine one may take long all the same.
    assert!((0..5).any(|_| stops_beside_half_sent_control_requests()));
}

fn stops_beside_half_sent_control_requests() -> bool {
    let host = Host::start(&[("control", "127.0.0.1:0"), ("control_key", "0123456789abcdef")]);
    let control = host.server.addresses()[1].clone();
    let half: Vec<_> = (0..300)
        .map(|_| {
            use std::io::Write;
            let mut stream = std::net::TcpStream::connect(&control).unwrap();
            let head =
                "POST /v1/publish?channel=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n";
            stream.write_all(format!("{head}Content-Length: 10\r\n\r\nhalf").as_bytes()).unwrap();
            stream
        })
        .collect();
    let in_time = stops_in_time(host, Duration::from_millis(500), Duration::from_secs(10));
    drop(half);
    in_time
}

#[test]
fn messages_before_the_stop_arrive_on_every_transport() {
    let host = Host::start(&[]);
    let mut clients: Vec<Client> = vec![
        host.websocket("channel=a", false),
        host.websocket("channel=a", true),
        host.get("channel=a", "Accept: text/event-stream\r\n"),
        host.get("channel=a&channel=b", "Accept: application/x-ndjson\r\n"),
        host.get("channel=a", ""),
    ];
    while host.server.stats().unwrap().subscriptions < 6 {
        std::thread::yield_now();
    }
    for n in 0..100 {
        host.publish("a", &format!("message {n}."));
    }
    host.server.stop(PATIENCE);
    for (number, client) in clients.iter_mut().enumerate() {
        let rest = client.rest();
        let last = if number == 4 { 0 } else { 99 };
        assert!(rest.contains(&format!("message {last}.")), "client {number}: {rest}");
    }
}

#[test]
fn a_client_that_catches_up_reaches_the_end_before_the_goodbye() {
    let host = Host::start(&[("outbox", "16KB"), ("history_count", "20000"), ("history_bytes", "64MB")]);
    let start = host.server.position(0);
    for n in 0..5000 {
        host.publish("a", &format!("{n} {}", "x".repeat(2000)));
    }
    let mut client = host.websocket(&format!("channel=a&since={start}"), true);
    let reader = std::thread::spawn(move || {
        let mut seen = 0;
        loop {
            let (first, payload) = client.next_frame();
            match first {
                0x88 => return (seen, u16::from_be_bytes([payload[0], payload[1]]), client.rest()),
                _ if payload.starts_with(br#"{"type":"message""#) => seen += 1,
                _ => {}
            }
        }
    });
    host.server.stop(PATIENCE);
    assert_eq!(reader.join().unwrap(), (5000, 1001, String::new()), "all, then goodbye, then nothing");
}

#[test]
fn a_regular_file_is_never_taken_for_an_old_socket() {
    let path = std::env::temp_dir().join(format!("push-data-{}", std::process::id()));
    std::fs::write(&path, "precious").unwrap();
    let mut builder = push::Builder::default();
    builder.set("listen", &format!("unix:{}", path.display())).unwrap();
    assert!(push::Server::start(builder.clone()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    // A socket that a dead process has left is different.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    push::Server::start(builder).unwrap().stop(Duration::ZERO);
    assert!(!path.exists(), "the path goes with the server");
}

/// A stop has its own time, however long the collector may take. One that was never reached does not even get all of it.
#[test]
#[cfg(feature = "trace")]
fn a_collector_that_never_answers_does_not_hold_up_the_stop() {
    use socket2::{Domain, SockAddr, Socket, Type};
    // One has no room, and so drops the packets of all who want to connect. The other takes connections, and is silent.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    full.listen(1).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        held.push(stream);
        assert!(held.len() < 100, "its room has no bound");
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [address, silent.local_addr().unwrap()] {
        let collector = format!("otlp:http://{address}");
        let options = [("trace", &*collector), ("trace_sample", "1"), ("trace_timeout", "10m")];
        for drain in [Duration::ZERO, Duration::from_secs(3600)] {
            let host = Host::start(&options);
            host.publish("a", "x");
            let began = Instant::now();
            host.server.stop(drain);
            // One that does not keep to it waits a minute.
            assert!(began.elapsed() < Duration::from_secs(50), "{address}, {drain:?}: {:?}", began.elapsed());
        }
    }
}
