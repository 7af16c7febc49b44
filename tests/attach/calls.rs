//! What attached hosts ask of the hub, and what it answers.

use super::{attached, hub, path, publish, websocket};
use crate::common::{until, Host, PATIENCE, UPGRADE};
use push::error::Kind;
use push::events::EventKind;
use push::grant::Grant;
use push::hub::Publication;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn what_one_host_publishes_reaches_the_clients_of_another_in_order() {
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
    // What has come to a client may be counted a moment later.
    until("both say the same", || one.stats().unwrap() == two.stats().unwrap());
    // A host's end is not its clients'.
    two.stop(Duration::from_secs(1));
    publish(&one, "a", "after");
    assert_eq!(client.text(), "after");
    // Nothing waits, so this does not either, whatever it might.
    one.stop(Duration::MAX);
    hub.stop();
    assert_eq!(client.close_code(), 1001);
}

#[test]
fn keys_errors_and_bounds_are_the_hubs() {
    let path = path();
    let hub = hub(&path, &[("max_message", "1KB")]);
    let host = attached(&path, &[]);
    let keyed = Publication { key: Some("k"), ..Publication::new("a", b"x") };
    assert_eq!(host.publish(&keyed).unwrap().seq, host.publish(&keyed).unwrap().seq);
    let large = [0; 1025];
    assert_eq!(host.publish(&Publication::new("a", &large)).unwrap_err().kind(), Kind::TooLarge);
    assert_eq!(host.publish(&Publication::new("", b"x")).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(host.close(1, 999, "").unwrap_err().kind(), Kind::Invalid);
    assert_eq!(host.deny(1, 200, "").unwrap_err().kind(), Kind::Invalid);
    assert_eq!(hub.server.next_event(None).unwrap_err().kind(), Kind::Unsupported);
    assert!(host.addresses().is_empty());
    host.stop(Duration::ZERO);
    hub.stop();
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
    // Answered: so the hub has come past the renewal.
    two.stats().unwrap();
    ann.say("who am I?");
    let event = one.next_event(Some(PATIENCE)).unwrap();
    assert_eq!(event.user.as_deref(), Some("eve"), "and its events stay with the host that handed it over");
    two.revoke_channel("ann", "*", "").unwrap();
    two.revoke_channel("eve", "*", "").unwrap();
    assert_eq!(ann.close_code(), 4403);
    assert_eq!(two.revoke_channel("", "a", "").unwrap_err().kind(), Kind::Invalid);
    one.stop(Duration::ZERO);
    two.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn the_host_is_asked_and_then_answers_for_the_client() {
    let path = path();
    let hub = hub(&path, &[("auth", "host")]);
    let host = attached(&path, &[]);
    host.event_fd().unwrap();
    // Answered: so the hub has heard of the wish, which stands before it.
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
    // Nobody can be asked any more: an answer at once, not after the timeout.
    until("the hub has seen its end", || hub.get("channel=a", "").head().starts_with("HTTP/1.1 503 "));
    hub.stop();
}

#[test]
fn a_batch_that_the_hub_can_not_publish_is_refused_or_told() {
    let path = path();
    let (hub, lines) = Host::logged(&[("mailbox", "16"), ("attach_listen", &path)]);
    let host = attached(&path, &[]);
    let mut client = websocket(&host, "channel=a", None);
    let batch = |count: usize| vec![Publication::new("a", b"x"); count];
    // What is known before the call returns is its result.
    let error = host.post_batch(&batch(100)).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(error.to_string().contains("at most 16 messages (the hub's option mailbox)"), "{error}");
    assert_eq!(host.publish_batch(&batch(100)).unwrap_err().kind(), Kind::TooLarge);
    // Who waits for the answer may have what nobody listens to.
    let unheard = vec![Publication::new("nobody is here", b"x"); 100];
    assert_eq!(host.publish_batch(&unheard).unwrap().len(), 100);
    assert_eq!(host.stats().unwrap().undone, 1, "the one that was answered");
    host.post_batch(&batch(16)).unwrap();
    host.post(&Publication::new("a", b"last")).unwrap();
    for _ in 0..16 {
        assert_eq!(client.text(), "x");
    }
    assert_eq!(client.text(), "last", "and nothing of what was refused");
    // A connection that is not there, or a request.
    host.close(1 << 40, 1000, "").unwrap();
    host.renew(1 << 40, Grant::new(None, &[], &[], 0, false, false).unwrap()).unwrap();
    host.send(1 << 40, b"x", false).unwrap();
    host.deny(0xff, 403, "").unwrap();
    assert_eq!(host.stats().unwrap().undone, 5);
    // An older host knows of no bound, and its call has long returned.
    let mut older = older_host(&path);
    let message = [&[0, 1, 0, b'a', 0, 0][..], &1u32.to_le_bytes(), b"x"].concat();
    let numbers = [&[4][..], &1u64.to_le_bytes(), &17u32.to_le_bytes()].concat();
    let batch = [numbers, message.repeat(17)].concat();
    older.write_all(&[&(batch.len() as u32).to_le_bytes()[..], &batch].concat()).unwrap();
    until("the hub counts it", || host.stats().unwrap().undone == 6);
    until("and says so", || {
        let told =
            |line: &String| line.contains("publishing, for process ") && line.contains("was not done: the batch");
        lines.lock().unwrap().iter().filter(|line| told(line)).count() == 2
    });
    let quiet = lines.lock().unwrap().iter().all(|line| !line.contains("no such connection"));
    assert!(quiet, "what has gone is for who looks closely (log_level=debug)");
    host.stop(Duration::ZERO);
    hub.stop();
}

/// One that speaks the first version of the protocol, and has said hello.
fn older_host(path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(path.strip_prefix("unix:").unwrap()).unwrap();
    let hello = [b"\x01libpush\0\x01\0", &[7; 16][..], &[0; 8], &[0, 0, 1, 0, b'h']].concat();
    stream.write_all(&[&(hello.len() as u32).to_le_bytes()[..], &hello].concat()).unwrap();
    stream
}
