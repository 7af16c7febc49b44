//! Who sends its next request early is served in the middle of a fan-out, and nobody else may feel it. Users who are
//! disconnected together are looked for together, and none of them may feel that, either.

use super::Shard;
use crate::auth::Authority;
use crate::config::Builder;
use crate::context::Context;
use crate::events::Events;
use crate::framing::close::Close;
use crate::framing::masked;
use crate::grant::Grant;
use crate::hub::{Epoch, Hub, Message, Outgoing, Publication};
use crate::log::{Level, Log};
use crate::shard::turn::command::{Adopted, Command, ShardHandle};
use crate::sys::socket::Checked;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// A shard without a thread, whose turns a test takes itself.
pub(super) fn shard() -> Shard {
    shard_with(&[])
}

/// The same with other options. Its turns have the clock of the machine, and a client need not be as fast as that is.
pub(super) fn shard_with(options: &[(&str, &str)]) -> Shard {
    let patient = [("auth_timeout", "10m"), ("call_timeout", "10m"), ("head_timeout", "10m")];
    let config = Builder::with(&[&patient, options].concat()).config().clone();
    let handle = Arc::new(ShardHandle::new(0, 8192).unwrap());
    let hub = Hub::new(Epoch::from_random(1), &config.hub_settings(), vec![handle.mailbox.clone()]);
    let events = Events::new(16, config.events, None, Box::new(|| {})).unwrap();
    let authority = Authority::new(&config).unwrap();
    let shared = Arc::new(Context::new(config, hub, events, authority, Log::new(None, Level::Error), 1));
    Shard::new(shared, handle, Vec::new()).unwrap()
}

pub(super) fn adopt(shard: &mut Shard, head: &[u8]) -> UnixStream {
    let (adopted, theirs) = client(None, head);
    shard.adopt(adopted);
    theirs
}

/// The client of a connection goes. A child that another test starts has its descriptor for a moment as well, so to
/// close it would not do.
pub(super) fn leave(theirs: &UnixStream) {
    theirs.shutdown(std::net::Shutdown::Both).unwrap();
}

/// A connection to hand over, and its other end.
pub(super) fn client(user: Option<&str>, head: &[u8]) -> (Adopted<'static>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let grant = Some(Arc::new(Grant::new(user, &[], &["*".into()], 0, false, true).unwrap()));
    (Adopted { fd: ours.into(), head: head.to_vec().into(), grant, checked: Checked::default() }, theirs)
}

fn publish(shard: &Shard, channel: &str) {
    let message = Message::new(&Publication::new("", b"x"), false, b"");
    shard.context.hub.publish(Outgoing::new(channel, None, message), 0).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn an_early_request_is_no_reason_to_deliver_out_of_order() {
    let mut shard = shard();
    let mut witness =
        adopt(&mut shard, b"GET /push?channel=b HTTP/1.1\r\nHost: h\r\nAccept: application/x-ndjson\r\n\r\n");
    let upgrade = "GET /push HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: push.v1.json\r\n\r\n";
    // To subscribe is to be told first what waits.
    let subscribe = br#"{"type":"subscribe","channel":"c"}"#;
    let poll = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n";
    let frame = masked::frame(0x81, subscribe, [0; 4]);
    let mut early = adopt(&mut shard, &[poll.as_bytes(), upgrade.as_bytes(), &frame].concat());
    // More than one batch, and broadcasts are a part of their own in it.
    for channel in ["a", ""].into_iter().chain(["b"; 1500]) {
        publish(&shard, channel);
    }
    for _ in 0..3 {
        shard.turn(&[]);
    }
    let mut text = vec![0; 1 << 20];
    let mut len = 0;
    witness.set_nonblocking(true).unwrap();
    while let Ok(read @ 1..) = witness.read(&mut text[len..]) {
        len += read;
        shard.turn(&[]);
    }
    let text = String::from_utf8(text[..len].to_vec()).unwrap();
    let numbers: Vec<u64> = text
        .lines()
        .filter_map(|line| line.split_once(r#""id":""#)?.1.split('"').next()?.rsplit('-').next()?.parse().ok())
        .collect();
    assert_eq!(numbers, (2..=1502).collect::<Vec<u64>>());
    let mut answers = vec![0; 1 << 16];
    let len = early.read(&mut answers).unwrap();
    let answers = String::from_utf8_lossy(&answers[..len]).into_owned();
    assert!(
        answers.contains("101 Switching") && answers.contains(r#"{"type":"subscribed","channel":"c""#),
        "{answers}"
    );
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn users_who_are_disconnected_together_end_each_as_was_said_first() {
    const STREAM: &[u8] = b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut shard = shard();
    let disconnect = |shard: &Shard, user: &str, code| {
        shard.handle.tell(Command::CloseUser { user: user.into(), close: Close::new(code, ""), tally: None });
    };
    let mut clients = Vec::new();
    for user in [Some("ann"), Some("bob"), Some("ann"), Some("eve"), None] {
        let (adopted, theirs) = client(user, STREAM);
        shard.handle.tell(Command::Adopt(adopted));
        clients.push(theirs);
    }
    for (user, code) in [("ann", 4001), ("nobody", 4002), ("bob", 4003), ("ann", 4004)] {
        disconnect(&shard, user, code);
    }
    // Who comes after that is another matter.
    let (adopted, theirs) = client(Some("ann"), STREAM);
    shard.handle.tell(Command::Adopt(adopted));
    clients.push(theirs);
    disconnect(&shard, "eve", 4005);
    shard.turn(&[]);
    let codes = clients.iter_mut().map(|client| {
        let mut text = vec![0; 4096];
        let len = client.read(&mut text).unwrap();
        let text = String::from_utf8(text[..len].to_vec()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        text.split_once(r#""code":"#).map(|(_, code)| code[..4].to_owned())
    });
    let codes: Vec<Option<String>> = codes.collect();
    let expected = [Some("4001"), Some("4003"), Some("4001"), Some("4005"), None, None];
    assert_eq!(codes.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_message_does_not_overtake_a_command_that_the_host_gave_before_it() {
    let mut shard = shard();
    let (adopted, mut ann) = client(Some("ann"), b"GET /push?channel=a&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n");
    shard.handle.tell(Command::Adopt(adopted));
    shard.turn(&[]);
    // The turn has taken its commands, and is about to deliver.
    shard.handle.tell(Command::CloseUser { user: "ann".into(), close: Close::new(4001, ""), tally: None });
    publish(&shard, "a");
    shard.deliver();
    let mut text = String::new();
    ann.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""code":4001"#) && !text.contains(r#""data":"x""#), "{text}");
}
