//! Connections and the ends of their channels, with a hub that keeps an end no longer, or is ahead of the shard.

use super::order_tests::{client, shard_with};
use super::pipelining_tests::publish;
use super::Shard;
use crate::framing::message;
use crate::hub::{ChannelPattern, Mark, Outgoing, Publication};
use std::io::Read;
use std::os::unix::net::UnixStream;

const STREAM: &str = "GET /push?transport=stream&channel=a&channel=b HTTP/1.1\r\nHost: h\r\n\r\n";
const ENDED: &str = r#""ended":true}"#;

fn mark(shard: &Shard, channel: &str, mark: Mark) {
    let message = message(&Publication::mark("", mark));
    shard.context.hub.publish(Outgoing::new(channel, None, message), shard.turn.now).unwrap();
}

/// What has come. Nothing more is on its way: all of it is done in this thread.
fn told(mut socket: &UnixStream) -> String {
    socket.set_nonblocking(true).unwrap();
    let mut told = Vec::new();
    // An error says that there is no more yet.
    let _ = socket.read_to_end(&mut told);
    String::from_utf8(told).unwrap()
}

fn come(shard: &mut Shard, request: &str) -> UnixStream {
    let (adopted, socket) = client(Some("ann"), request.as_bytes());
    shard.adopt(adopted);
    socket
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_connection_ends_with_its_channels_though_the_hub_has_dropped_an_end() {
    let mut shard = shard_with(&[("history_age", "1s")]);
    let socket = come(&mut shard, STREAM);
    mark(&shard, "a", Mark::End);
    shard.deliver();
    while shard.context.hub.expire(shard.turn.now + 10_000) {}
    assert_eq!(shard.context.hub.stats().ended, 0);
    assert!(!told(&socket).contains(ENDED));
    mark(&shard, "b", Mark::End);
    shard.deliver();
    assert!(told(&socket).contains(ENDED));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_connection_ends_when_the_last_open_channel_is_taken_from_it() {
    let mut shard = shard_with(&[]);
    mark(&shard, "a", Mark::End);
    let poll = STREAM.replace("transport=stream", &format!("since={}", shard.context.hub.epoch().position(1)));
    let (stream, poll) = (come(&mut shard, STREAM), come(&mut shard, &poll));
    assert!(!told(&stream).contains(ENDED) && told(&poll).is_empty());
    shard.revoke("ann", &ChannelPattern::written("b").unwrap(), "why");
    assert!(told(&stream).contains(ENDED));
    assert!(told(&poll).contains(ENDED));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn an_end_counts_no_more_once_the_hub_has_something_after_it() {
    let mut shard = shard_with(&[]);
    let first = come(&mut shard, STREAM);
    mark(&shard, "a", Mark::End);
    shard.deliver();
    // It is in the mailbox, and a client that comes now is ahead of it.
    publish(&shard.context.hub, "a", 1);
    mark(&shard, "b", Mark::End);
    let second = come(&mut shard, &STREAM.replace("&channel=b", ""));
    assert!(!told(&second).contains(ENDED));
    shard.deliver();
    assert!(!told(&first).contains(ENDED));
    mark(&shard, "a", Mark::End);
    shard.deliver();
    assert!(told(&first).contains(ENDED) && told(&second).contains(ENDED));
}
