//! A host that speaks an older version of the protocol. The test plays it.

use super::recall_tests::read_frames;
use crate::attach::wire::{self, FromHost, FromHub, Hello, OLDEST, PUBLISHES_ASKED, TELLS_SUBSCRIPTIONS};
use crate::events::EventKind;
use crate::shard::panic_tests::common::{self, Host, PATIENCE};
use crate::sys::passing;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What a client reads that such a host has handed over without a grant.
fn handed_over_without_a_grant(hub: &Host) -> String {
    let path = hub.server.addresses().last().unwrap().strip_prefix("unix:").unwrap();
    let mut host = UnixStream::connect(path).unwrap();
    let mut frames = Vec::new();
    FromHost::Hello(Hello { version: OLDEST, session: [7; 16], answered: 0, epoch: "", name: "old" })
        .write(&mut frames);
    host.write_all(&frames).unwrap();
    frames.clear();
    let head = b"GET /push?channel=a&wait=0 HTTP/1.1\r\nHost: h\r\n\r\n";
    FromHost::Adopt { grant: None, head }.write(&mut frames);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // It stays: a hub that can't answer a host any more need not read what else that has said.
    let host = OwnedFd::from(host);
    assert_eq!(passing::send_with(&host, &frames, &[theirs.as_raw_fd()]).unwrap(), frames.len());
    drop(theirs);
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn for_a_client_without_a_grant_from_an_older_host_the_hubs_option_decides() {
    for (auth, expected) in [("none", "HTTP/1.1 200 "), ("host", "HTTP/1.1 403 ")] {
        let path = common::socket_path();
        let hub = Host::start(&[("attach_listen", &format!("unix:{path}")), ("auth", auth)]);
        let answer = handed_over_without_a_grant(&hub);
        assert!(answer.starts_with(expected), "auth={auth}: {answer}");
        hub.stop();
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn an_older_host_does_not_get_events_of_a_kind_that_it_does_not_know() {
    let (subscribe, unsubscribe, close) = (EventKind::Subscribe, EventKind::Unsubscribe, EventKind::Close);
    for (version, expected) in
        [(TELLS_SUBSCRIPTIONS, &[subscribe, unsubscribe, close][..]), (TELLS_SUBSCRIPTIONS - 1, &[close])]
    {
        let path = common::socket_path();
        let events = ("events", "close,subscribe,unsubscribe,call");
        // A call that nobody answers for so long gets another answer.
        let hub = Host::start(&[("attach_listen", &format!("unix:{path}")), events, ("call_timeout", "10m")]);
        let mut host = UnixStream::connect(&path).unwrap();
        host.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut frames = Vec::new();
        FromHost::Hello(Hello { version, session: [7; 16], answered: 0, epoch: "", name: "old" }).write(&mut frames);
        FromHost::Credit { events: 100 }.write(&mut frames);
        FromHost::Stats { number: 1 }.write(&mut frames);
        host.write_all(&frames).unwrap();
        let (mut read, mut told, mut client) = (Vec::new(), Vec::new(), None);
        while told.last() != Some(&close) {
            let goes_on = read_frames(&mut host, &mut read, |frame| match frame {
                // The hub knows by now that events are wanted.
                FromHub::Stats { .. } => client = Some(hub.websocket("channel=a", false)),
                FromHub::Event(event) => told.push(event.kind),
                _ => {}
            });
            assert!(goes_on, "the hub has ended it: {told:?}");
            drop(client.take());
        }
        assert_eq!(told, expected, "version {version}");
        if version < TELLS_SUBSCRIPTIONS {
            // Nobody who is there can answer a call, and the client need not wait.
            let mut client = hub.websocket("", true);
            client.say(r#"{"type":"call","ref":1,"data":"x"}"#);
            let answer = client.text();
            assert!(answer.contains(r#""code":"refused""#) && answer.contains(r#""status":503,"ref":1"#), "{answer}");
        }
        hub.stop();
    }
}

/// Nobody who is there can check the message, and the client need not wait.
#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_message_that_only_an_older_host_could_check_is_refused_at_once() {
    let path = common::socket_path();
    let asks = [("events", "publish"), ("client_publish", "host"), ("call_timeout", "10m")];
    let hub = Host::start(&[&[("attach_listen", &*format!("unix:{path}"))], &asks[..]].concat());
    let mut host = UnixStream::connect(&path).unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut frames = Vec::new();
    let version = PUBLISHES_ASKED - 1;
    FromHost::Hello(Hello { version, session: [7; 16], answered: 0, epoch: "", name: "old" }).write(&mut frames);
    FromHost::Credit { events: 100 }.write(&mut frames);
    FromHost::Stats { number: 1 }.write(&mut frames);
    host.write_all(&frames).unwrap();
    // The hub knows that events are wanted when it has answered.
    let is_answered = |read: &[u8]| {
        let mut rest = read;
        std::iter::from_fn(|| {
            let frame = wire::first_frame(rest, wire::MAX_FRAME).unwrap()?;
            rest = &rest[wire::framed_len(frame)..];
            Some(matches!(FromHub::read(frame).unwrap(), FromHub::Stats { .. }))
        })
        .any(|is_answer| is_answer)
    };
    let mut rest = Vec::new();
    while !is_answered(&rest) {
        let mut part = [0; 4096];
        let len = host.read(&mut part).unwrap();
        assert!(len > 0, "the hub has ended it");
        rest.extend_from_slice(&part[..len]);
    }
    let mut client = hub.websocket("", true);
    client.say(r#"{"type":"publish","ref":1,"channel":"a","data":"x"}"#);
    let answer = client.text();
    assert!(answer.contains(r#""code":"refused""#) && answer.contains(r#""status":503,"ref":1"#), "{answer}");
    hub.stop();
    let _ = host.read_to_end(&mut rest);
    while let Some(frame) = wire::first_frame(&rest, wire::MAX_FRAME).unwrap() {
        assert!(!matches!(FromHub::read(frame).unwrap(), FromHub::Event(event) if event.kind == EventKind::Publish));
        let len = wire::framed_len(frame);
        rest.drain(..len);
    }
}
