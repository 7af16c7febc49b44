//! A host that is attached to a `pushd` with a disk that can't be written. Its messages wait, and nothing else does.

use super::ledger::{clear_faults, environment, set_faults};
use super::pushd::Pushd;
use super::Place;
use crate::common::{attached, socket_path, until, Client, PATIENCE, UPGRADE};
use push::events::EventKind;
use push::grant::Grant;
use push::hub::Publication;
use push::Server;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// The messages that are published while the disk fails.
const COUNT: usize = 100;

/// A client of a user, whom the host hands over.
fn websocket(host: &Server, user: &str) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let head = format!("GET /push?channel=own HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n");
    let grant = Grant::new(Some(user), &["own".into()], &["*".into()], 0, false, false).unwrap();
    let accepted = listener.accept().unwrap().0;
    host.adopt(accepted.into(), head.as_bytes(), Some(grant)).map_err(|(error, _)| error).unwrap();
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

fn only_messages_wait(sync: &str) {
    let place = Place::new();
    std::fs::create_dir(place.log()).unwrap();
    std::fs::write(place.0.join("boot"), "b".repeat(36)).unwrap();
    let environment = environment(&place);
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    let path = format!("unix:{}", socket_path());
    let pushd = Pushd::start_with(&place, &[("engine_sync", sync), ("attach_listen", &path)], &environment);
    let host = attached(&path, &[]);
    host.event_fd().unwrap();
    let [mut ann, mut bob] = ["ann", "bob"].map(|user| websocket(&host, user));
    let connection = loop {
        let event = host.next_event(Some(PATIENCE)).unwrap();
        if event.kind == EventKind::Open && event.user.as_deref() == Some("bob") {
            break event.connection;
        }
    };
    set_faults(&place, &["write", "fdatasync"]);
    // With `interval` the hub finds out when it writes what it has delivered.
    let mut before = 0;
    until("the disk never fails", || {
        host.post(&Publication::new("own", format!("before {before}").as_bytes())).unwrap();
        before += 1;
        // Not only slow.
        let (status, why) = pushd.request("GET /healthz", b"").unwrap();
        status == 503 && why.contains("Input/output error")
    });
    for n in 0..COUNT {
        host.post(&Publication::new("own", n.to_string().as_bytes())).unwrap();
    }
    // The counters come when the hub has read the messages.
    host.stats().unwrap();
    let mut cid = websocket(&host, "cid");
    host.disconnect_user("ann", 4403, "logged out").unwrap();
    assert_eq!(ann.end().0, 4403);
    host.close(connection, 4000, "").unwrap();
    assert_eq!(bob.end().0, 4000);
    until("only one is left", || {
        let users = host.users("own", "", 10).unwrap();
        users.page.iter().map(|user| &*user.name).eq(["cid"])
    });
    let all = (before + COUNT) as u64;
    assert!(host.stats().unwrap().published < all, "the disk still fails");
    clear_faults(&place);
    let mut texts = std::iter::repeat_with(|| cid.text()).skip_while(|text| text.starts_with("before "));
    for n in 0..COUNT {
        assert_eq!(texts.next().unwrap(), n.to_string(), "each comes once, in order");
    }
    until("all are published", || host.stats().unwrap().published == all);
    host.stop(Duration::from_secs(20));
}

#[test]
fn while_the_disk_fails_only_the_messages_of_an_attached_host_wait() {
    only_messages_wait("interval");
}

#[test]
fn the_same_while_every_message_is_synced() {
    only_messages_wait("always");
}
