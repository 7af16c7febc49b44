//! Who sends its next request early is served in the middle of a fan-out, and nobody else may feel it.

use super::command::{Adopted, ShardHandle};
use super::{Shard, Shared};
use crate::auth::Authority;
use crate::config::Builder;
use crate::events::Events;
use crate::grant::Grant;
use crate::hub::{Epoch, Hub, Message, Outgoing, Publication};
use crate::log::{Level, Log};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// A shard without a thread, whose turns a test takes itself.
pub(super) fn shard() -> Shard {
    let config = Builder::default().config().clone();
    let handle = Arc::new(ShardHandle::new(8192).unwrap());
    let hub = Hub::new(Epoch::from_random(1), &config.hub_settings(), vec![handle.mailbox.clone()]);
    let events = Events::new(16, config.events, None, Box::new(|| {})).unwrap();
    let authority = Authority::new(&config).unwrap();
    let shared = Arc::new(Shared::new(config, hub, events, authority, Log::new(None, Level::Error), 1));
    Shard::new(0, shared, handle, Vec::new()).unwrap()
}

pub(super) fn adopt(shard: &mut Shard, head: &[u8]) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let grant = Some(Arc::new(Grant::new(None, &["*".into()], 0, false, true).unwrap()));
    shard.adopt(Adopted { fd: ours.into(), head: head.into(), grant, delays: false });
    theirs
}

fn publish(shard: &Shard, channel: &str) {
    let message = Message::new(&Publication::new("", b"x"), false, b"");
    shard.shared.hub.publish(Outgoing { channel, key: None, message }, 0).unwrap();
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
    let frame = [&[0x81, 0x80 | subscribe.len() as u8, 0, 0, 0, 0], &subscribe[..]].concat();
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
