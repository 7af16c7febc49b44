//! Calls of attached hosts, and the hub's answers.

use super::{adopt, attached, hub, logged_hub, pair, path, publish, websocket};
use crate::common::{until, Client, PATIENCE, UPGRADE};
use push::error::Kind;
use push::events::{Event, EventKind};
use push::grant::{Grant, Terms};
use push::hub::{Mark, Publication};
use push::Server;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn messages_of_one_host_reach_the_clients_of_another_in_order() {
    let path = path();
    let hub = hub(&path, &[]);
    let (one, two) = (attached(&path, &[]), attached(&path, &[]));
    let mut client = websocket(&two, "channel=a", None);
    let first = publish(&one, "a", "first");
    assert!(first.ends_with("-1"), "{first}");
    for n in 0..2000 {
        one.post(&Publication::new("a", n.to_string().as_bytes())).unwrap();
    }
    let batch: Vec<_> = ["x", "y"].iter().map(|data| Publication::new("a", data.as_bytes())).collect();
    let placed = one.publish_batch(&batch).unwrap();
    assert_eq!((placed[0].seq, placed[1].seq), (2002, 2003));
    assert_eq!(two.broadcast(&Publication::new("", b"all")).unwrap().seq, 2004);
    assert_eq!(client.text(), "first");
    for n in 0..2000 {
        assert_eq!(client.text(), n.to_string());
    }
    assert_eq!((client.text(), client.text(), client.text()), ("x".into(), "y".into(), "all".into()));
    let stats = one.stats().unwrap();
    assert_eq!((stats.published, stats.adopted, stats.websockets), (2004, 1, 1));
    // A delivery may be counted a moment after the client has the message.
    until("both say the same", || one.stats().unwrap() == two.stats().unwrap());
    // When a host ends, its clients stay.
    two.stop(Duration::from_secs(1));
    publish(&one, "a", "after");
    assert_eq!(client.text(), "after");
    // No request waits, so this call does not wait either.
    one.stop(Duration::MAX);
    hub.stop();
    assert_eq!(client.close_code(), 1001);
}

#[test]
fn a_host_begins_and_ends_streams_in_the_order_of_its_calls() {
    let path = path();
    let _hub = hub(&path, &[("channel.unkept.history_count", "0")]);
    let (one, two) = (attached(&path, &[]), attached(&path, &[]));
    let mut client = websocket(&two, "channel=a", None);
    one.post(&Publication::mark("a", Mark::Begin)).unwrap();
    for n in 0..50 {
        one.post(&Publication::new("a", n.to_string().as_bytes())).unwrap();
    }
    let end = one.publish(&Publication::mark("a", Mark::End)).unwrap();
    assert_eq!(end.seq, 52);
    assert_eq!(two.publish(&Publication::mark("a", Mark::End)).unwrap().seq, 52, "it has ended already");
    for n in 0..50 {
        assert_eq!(client.text(), n.to_string());
    }
    assert_eq!(client.end(), (1000, "all of its channels have ended".into()));
    assert_eq!(one.stats().unwrap().ended_channels, 1);
    for channel in ["", "news.*", "unkept"] {
        let refused = one.publish(&Publication::mark(channel, Mark::End)).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
    }
    [one, two].into_iter().for_each(|host| host.stop(Duration::from_secs(1)));
}

#[test]
fn the_hubs_keys_errors_and_bounds_apply_to_hosts() {
    let (hub, host) = pair(&[("max_message", "1KB")]);
    let keyed = Publication { key: Some("k"), ..Publication::new("a", b"x") };
    assert_eq!(host.publish(&keyed).unwrap().seq, host.publish(&keyed).unwrap().seq);
    let large = [0; 1025];
    assert_eq!(host.publish(&Publication::new("a", &large)).unwrap_err().kind(), Kind::TooLarge);
    assert_eq!(host.publish(&Publication::new("", b"x")).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(host.close(1, 999, "").unwrap_err().kind(), Kind::Invalid);
    assert_eq!(host.deny(1, 200, "").unwrap_err().kind(), Kind::Invalid);
    assert_eq!(hub.server.next_event(None).unwrap_err().kind(), Kind::Unsupported);
    assert!(host.addresses().is_empty());
}

#[test]
fn any_host_takes_channels_from_a_user_and_renews_a_grant() {
    let path = path();
    let hub = hub(&path, &[]);
    let (one, two) = (attached(&path, &[("attach_name", "web")]), attached(&path, &[("attach_name", "jobs")]));
    one.event_fd().unwrap();
    let grant = |user, channels: &[&str]| {
        let names: Vec<String> = channels.iter().map(ToString::to_string).collect();
        Grant::new(Some(user), &names, &[], 0, false, false).unwrap()
    };
    let mut ann = websocket(&one, "channel=a&channel=b", Some(grant("ann", &["a", "b"])));
    let connection = one.next_event(Some(PATIENCE)).unwrap().connection;
    two.revoke_channel("ann", "a", "").unwrap();
    until("the hub has done it", || hub.server.stats().unwrap().subscriptions == 1);
    two.renew(connection, grant("eve", &["b"])).unwrap();
    // This was answered, so the hub has handled the renewal.
    two.stats().unwrap();
    ann.say("who am I?");
    let event = one.next_event(Some(PATIENCE)).unwrap();
    assert_eq!(event.user.as_deref(), Some("eve"), "and its events stay with the host that handed it over");
    two.revoke_channel("ann", "*", "").unwrap();
    two.revoke_channel("eve", "*", "").unwrap();
    assert_eq!(ann.close_code(), 4403);
    assert_eq!(two.revoke_channel("", "a", "").unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn the_host_is_asked_and_decides_on_the_client() {
    let (hub, host) = pair(&[("auth", "host")]);
    host.event_fd().unwrap();
    // This was answered, so the hub has got the request for events before it.
    host.stats().unwrap();
    let mut client = hub.get("channel=a", UPGRADE);
    let event = host.next_event(Some(PATIENCE)).unwrap();
    assert_eq!((event.kind, event.channel.as_deref()), (EventKind::Request, Some("a")));
    host.allow(event.request, Grant::new(Some("bob"), &[], &["*".into()], 0, false, false).unwrap()).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(host.next_event(Some(PATIENCE)).unwrap().user.as_deref(), Some("bob"));
    let mut client = hub.get("channel=a", "");
    let event = host.next_event(Some(PATIENCE)).unwrap();
    host.deny(event.request, 403, "no").unwrap();
    assert!(client.head().starts_with("HTTP/1.1 403 "));
    host.stop(Duration::ZERO);
    until("the hub has seen its end", || hub.server.stats().unwrap().hosts == 0);
    // There is no host to ask any more, so the answer comes at once, and not after the timeout.
    assert!(hub.get("channel=a", "").head().starts_with("HTTP/1.1 503 "));
}

#[test]
fn what_a_host_subscribes_a_client_to_reaches_the_hub() {
    let (hub, host) = pair(&[("auth", "host")]);
    host.event_fd().unwrap();
    host.stats().unwrap();
    let names = ["a".to_owned(), "b".to_owned()];
    let grant = || Grant::of(&Terms { subscribe: &names, ..Terms::default() }).unwrap();
    let mut adopted = websocket(&host, "channel=c&last=1", Some(grant()));
    let mut asked = hub.get("", UPGRADE);
    let mut events = std::iter::repeat_with(|| host.next_event(Some(PATIENCE)).unwrap());
    let question = events.find(|event| event.kind == EventKind::Request).unwrap();
    host.allow(question.request, grant()).unwrap();
    assert!(asked.head().starts_with("HTTP/1.1 101 "));
    for channel in ["c", "a", "b"] {
        publish(&host, channel, channel);
    }
    for client in [&mut adopted, &mut asked] {
        assert_eq!((client.text(), client.text()), ("a".into(), "b".into()));
    }
}

#[test]
fn a_grants_lists_for_publishing_reach_the_hub() {
    let (hub, host) = pair(&[("auth", "host")]);
    host.event_fd().unwrap();
    host.stats().unwrap();
    let (reads, writes, other) = (["news".to_owned()], ["cmd".to_owned()], ["other".to_owned()]);
    let patterns = ["typing.*".to_owned()];
    let terms = Terms { channels: &reads, publish_channels: &writes, publish_patterns: &patterns, ..Terms::default() };
    let grant = || Grant::of(&terms).unwrap();
    let json = UPGRADE.to_owned() + "Sec-WebSocket-Protocol: push.v1.json\r\n";
    let adopted = || adopt(&host, &format!("GET /push HTTP/1.1\r\nHost: localhost\r\n{json}\r\n"), Some(grant()));
    let asked = || {
        let client = hub.get("", &json);
        host.allow(event_of(&host, EventKind::Request).request, grant()).unwrap();
        client
    };
    let publish = |client: &mut Client, channel: &str| {
        client.say(&format!(r#"{{"type":"publish","channel":"{channel}","data":"x"}}"#));
        client.text()
    };
    for open in [&adopted as &dyn Fn() -> Client, &asked] {
        let client = &mut open();
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        for (channel, answer) in [
            ("cmd", "\"published\""),
            ("typing.1", "\"published\""),
            ("news", "\"code\":\"publish\""),
            ("other", "\"code\":\"publish\""),
        ] {
            let got = publish(client, channel);
            assert!(got.contains(answer), "{channel}: {got}");
        }
        client.say(r#"{"type":"subscribe","channel":"cmd"}"#);
        assert!(client.text().contains("\"code\":\"channel\""), "it may not have it for that");
        let connection = event_of(&host, EventKind::Open).connection;
        host.renew(connection, Grant::of(&Terms { publish_channels: &other, ..terms }).unwrap()).unwrap();
        until("the new grant has come", || publish(client, "other").contains("\"published\""));
        assert!(publish(client, "cmd").contains("\"code\":\"publish\""));
    }
}

/// The next event of a kind.
fn event_of(host: &Server, kind: EventKind) -> Event {
    let mut events = std::iter::repeat_with(|| host.next_event(Some(PATIENCE)).unwrap());
    events.find(|event| event.kind == kind).unwrap()
}

#[test]
fn a_batch_that_the_hub_can_not_publish_is_refused_or_logged() {
    let path = path();
    let (_hub, lines) = logged_hub(&path, &[("mailbox", "16")]);
    let host = attached(&path, &[]);
    let mut client = websocket(&host, "channel=a", None);
    let batch = |count: usize| vec![Publication::new("a", b"x"); count];
    // An error that is known before the call returns is its result.
    let error = host.post_batch(&batch(100)).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(error.to_string().contains("at most 16 messages (the hub's option mailbox)"), "{error}");
    assert_eq!(host.publish_batch(&batch(100)).unwrap_err().kind(), Kind::TooLarge);
    // A caller that waits for the answer gets an error that is otherwise only logged.
    let unheard = vec![Publication::new("nobody is here", b"x"); 100];
    assert_eq!(host.publish_batch(&unheard).unwrap().len(), 100);
    assert_eq!(host.stats().unwrap().undone, 1, "the one that was answered");
    host.post_batch(&batch(16)).unwrap();
    host.post(&Publication::new("a", b"last")).unwrap();
    for _ in 0..16 {
        assert_eq!(client.text(), "x");
    }
    assert_eq!(client.text(), "last", "and nothing of what was refused");
    // A connection or a request that does not exist.
    host.close(1 << 40, 1000, "").unwrap();
    host.renew(1 << 40, Grant::new(None, &[], &[], 0, false, false).unwrap()).unwrap();
    host.send(1 << 40, b"x", false).unwrap();
    host.deny(0xff, 403, "").unwrap();
    assert_eq!(host.stats().unwrap().undone, 5);
    // An older host does not know the bound, and its call has returned long ago.
    let mut older = older_host(&path);
    let message = [&[0, 1, 0, b'a', 0, 0][..], &1u32.to_le_bytes(), b"x"].concat();
    let numbers = [&[4][..], &1u64.to_le_bytes(), &17u32.to_le_bytes()].concat();
    let batch = [numbers, message.repeat(17)].concat();
    older.write_all(&[&(batch.len() as u32).to_le_bytes()[..], &batch].concat()).unwrap();
    until("the hub counts it", || host.stats().unwrap().undone == 6);
    until("and says so", || {
        let told = |line: &String| line.contains("publishing for process ") && line.contains(" failed: the batch");
        lines.lock().unwrap().iter().filter(|line| told(line)).count() == 2
    });
    let quiet = lines.lock().unwrap().iter().all(|line| !line.contains("no such connection"));
    assert!(quiet, "what has gone is for who looks closely (log_level=debug)");
}

/// A host that speaks the first version of the protocol. The hub has begun to welcome it. On a slow machine its hello
/// frame may come too late for the hub. Then it comes again.
fn older_host(path: &str) -> UnixStream {
    let hello = [b"\x01libpush\0\x01\0", &[7; 16][..], &[0; 8], &[0, 0, 1, 0, b'h']].concat();
    let frame = [&(hello.len() as u32).to_le_bytes()[..], &hello].concat();
    let mut welcomed = None;
    until("the hub does not welcome it", || {
        let mut stream = UnixStream::connect(path.strip_prefix("unix:").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if stream.write_all(&frame).is_ok() && stream.read_exact(&mut [0; 4]).is_ok() {
            welcomed = Some(stream);
        }
        welcomed.is_some()
    });
    welcomed.unwrap()
}
