//! Events of attached hosts: which host gets them, and what happens if no host takes them.

use super::{adopt, attached, hub, path, websocket};
use crate::common::{until, PATIENCE, UPGRADE};
use push::error::Kind;
use push::events::EventKind;
use push::grant::Grant;
use std::time::Duration;

#[test]
fn events_go_to_the_host_that_handed_over_then_to_one_of_its_name() {
    let path = path();
    let _hub = hub(&path, &[]);
    let one = attached(&path, &[("attach_name", "web")]);
    let two = attached(&path, &[("attach_name", "web")]);
    let other = attached(&path, &[("attach_name", "other")]);
    for server in [&one, &two, &other] {
        assert_eq!(server.next_event(Some(Duration::ZERO)).unwrap_err().kind(), Kind::Timeout);
        // This was answered, so it is attached. A message to a connection would be lost before that.
        server.stats().unwrap();
    }
    let user = Grant::new(Some("ann"), &["a".into()], &[], 0, false, false).unwrap();
    // The request for events comes before connections that are handed over later.
    let mut client = websocket(&one, "channel=a", Some(user));
    let event = one.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((event.kind, event.user.as_deref()), (EventKind::Open, Some("ann")));
    client.say("hello");
    let event = one.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((event.kind, &event.data[..]), (EventKind::Message, &b"hello"[..]));
    // Any attached host may answer, and close.
    other.send(event.connection, b"hi", false).unwrap();
    assert_eq!(client.text(), "hi");
    one.stop(Duration::ZERO);
    until("the hub has seen its end", || {
        client.say("again");
        two.next_event(Some(Duration::from_millis(50))).is_ok_and(|event| &event.data[..] == b"again")
    });
    two.disconnect_user("ann", 4403, "out").unwrap();
    assert_eq!(client.close_code(), 4403);
    until("the end is told", || two.next_event(Some(PATIENCE)).unwrap().kind == EventKind::Close);
    assert_eq!(other.next_event(Some(Duration::ZERO)).unwrap_err().kind(), Kind::Timeout);
}

#[test]
fn a_host_that_takes_no_events_holds_up_its_own_clients_only() {
    let path = path();
    let _hub = hub(&path, &[("event_queue", "16")]);
    let slow = attached(&path, &[("attach_name", "slow"), ("event_queue", "16")]);
    let quick = attached(&path, &[("attach_name", "quick"), ("event_queue", "16")]);
    slow.event_fd().unwrap();
    quick.event_fd().unwrap();
    let mut of_slow = websocket(&slow, "channel=a", None);
    let mut of_quick = websocket(&quick, "channel=a", None);
    let sender = std::thread::spawn(move || {
        for n in 0..20_000 {
            of_slow.say(&n.to_string());
        }
        of_slow
    });
    for n in 0..1000 {
        of_quick.say(&n.to_string());
        loop {
            let event = quick.next_event(Some(PATIENCE)).unwrap();
            if event.kind == EventKind::Message {
                assert_eq!(event.data, n.to_string());
                break;
            }
        }
    }
    // Nothing was lost: all events come when the host asks.
    let mut next = 0;
    while next < 20_000 {
        let event = slow.next_event(Some(PATIENCE)).unwrap();
        if event.kind == EventKind::Message {
            assert_eq!(event.data, next.to_string());
            next += 1;
        }
    }
    drop(sender.join().unwrap());
}

#[test]
fn a_host_that_takes_no_events_can_not_fill_the_hub() {
    let path = path();
    let _hub = hub(&path, &[("event_queue", "16")]);
    let (deaf, other) = (attached(&path, &[("event_queue", "16")]), attached(&path, &[("attach_name", "other")]));
    // The host has asked for events, and takes none: the hub holds them.
    deaf.event_fd().unwrap();
    other.event_fd().unwrap();
    let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
    let mut refused = 0;
    // Each client that comes and goes makes two events.
    until("its clients come and go for ever", || {
        let answer = adopt(&deaf, &head, None).head();
        refused += usize::from(answer.starts_with("HTTP/1.1 503 "));
        refused == 3
    });
    // Clients of other hosts come in.
    drop(websocket(&other, "channel=a", None));
    // When the host takes events again, its own clients come in, too.
    until("it is heard again", || {
        while deaf.next_event(Some(Duration::ZERO)).is_ok() {}
        adopt(&deaf, &head, None).head().starts_with("HTTP/1.1 101 ")
    });
}

#[test]
fn a_host_is_told_of_the_kinds_that_it_wants() {
    let path = path();
    let _hub = hub(&path, &[("event_queue", "16")]);
    let host = attached(&path, &[("events", "message"), ("event_queue", "16")]);
    host.event_fd().unwrap();
    // More clients come and go than the hub may tell of at once, and the host takes no event.
    for n in 0..100 {
        let mut client = websocket(&host, "channel=a", None);
        client.say(&n.to_string());
        let event = host.next_event(Some(PATIENCE)).unwrap();
        assert_eq!((event.kind, &*event.data), (EventKind::Message, n.to_string().as_bytes()));
    }
}
