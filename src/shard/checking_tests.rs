//! Messages of clients that wait for the host, while the rights of their clients change, or while the hub is busy.

use super::order_tests::{adopt, shard_with};
use super::pipelining_tests::{turn, UPGRADE};
use super::Shard;
use crate::error::Kind;
use crate::framing::close::Close;
use crate::framing::masked;
use crate::grant::{Grant, Terms};
use crate::hub::{Break, Epoch, Hub, Loss, Message, Outgoing, Publication, Replacement};
use crate::log::{Level, Log, Pulled, Sink};
use crate::shard::client::checks::Instead;
use crate::shard::client::sweep::Tally;
use crate::shard::connection::conn::{RequestId, Token};
use crate::shard::panic_tests::common::until;
use crate::shard::turn::command::{Adopted, Command};
use crate::sys::socket::Checked;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// A shard that asks the host about messages, but not about those for channels that begin with `open.`.
pub(super) fn shard(options: &[(&str, &str)]) -> Shard {
    let asks = [("events", "publish"), ("client_publish", "host"), ("channel.open.*.client_publish", "true")];
    let shard = shard_with(&[&asks, options].concat());
    shard.context.events.want();
    shard
}

fn grant(user: Option<&str>, publish: &[&str], expires_at: i64) -> Grant {
    let (all, publish) = (["*".to_owned()], publish.iter().map(ToString::to_string).collect::<Vec<_>>());
    Grant::of(&Terms { user, patterns: &all, publish_patterns: &publish, expires_at, ..Terms::default() }).unwrap()
}

/// A client of `push.v1.json` on a shard, and its name there.
pub(super) struct Peer {
    stream: UnixStream,
    of: Token,
}

impl Peer {
    pub(super) fn come(shard: &mut Shard, user: Option<&str>) -> Self {
        let (ours, stream) = UnixStream::pair().unwrap();
        let grant = Some(Arc::new(grant(user, &["*"], 0)));
        shard.adopt(Adopted { fd: ours.into(), head: UPGRADE.as_bytes().into(), grant, checked: Checked::default() });
        let index = shard.conns.iter().map(|(index, _)| index as u32).max().unwrap();
        let mut peer = Peer { stream, of: shard.token(index) };
        assert!(peer.read().starts_with("HTTP/1.1 101 "));
        peer
    }

    pub(super) fn say(&mut self, shard: &mut Shard, text: &str) {
        self.stream.write_all(&masked::frame(0x81, text.as_bytes(), [0; 4])).unwrap();
        turn(shard);
    }

    /// Publishes. Returns the count of the question about it, if there is one.
    pub(super) fn publish(&mut self, shard: &mut Shard, reference: u64, channel: &str, data: &str) -> Option<u64> {
        let text = format!(r#"{{"type":"publish","ref":{reference},"channel":"{channel}","data":"{data}"}}"#);
        let before = shard.questions.checks.of_connection(self.of);
        self.say(shard, &text);
        assert_eq!(shard.questions.checks.of_connection(self.of), before + 1);
        let event = shard.context.events.next(Some(Duration::ZERO)).ok()?;
        Some(RequestId::from_number(event.request).count)
    }

    /// What has come so far.
    pub(super) fn read(&mut self) -> String {
        self.stream.set_nonblocking(true).unwrap();
        let mut bytes = vec![0; 65536];
        let len = self.stream.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }
}

/// Counts that a text comes in another.
fn times(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

/// The client goes, and the shard knows.
fn go(shard: &mut Shard, peer: Peer) -> Token {
    let of = peer.of;
    drop(peer);
    until("it has gone", || {
        turn(shard);
        shard.find(of).is_none()
    });
    of
}

/// The break of a log that has lost what this hub has not read, as the shard gets it.
fn lose_acts(shard: &mut Shard) {
    let hub = Hub::replica(&shard.config.hub_settings(), vec![shard.handle.mailbox.clone()]);
    for (text, loss) in
        [("a", Loss { from: 0, agreed: 0, unread: false }), ("b", Loss { from: 9, agreed: 9, unread: true })]
    {
        let epoch = Epoch::from_text(text).unwrap();
        assert!(hub.break_off(&Break { epoch, chain: Vec::new(), end: 10, loss: Some(loss) }));
    }
    while shard.deliver_with_breaks() {}
}

/// Closes everything as an operator does.
fn sweep(shard: &Shard) {
    let tally = Tally::new(Box::new(|_| {}));
    shard.handle.tell(Command::CloseAll { close: Close::new(4000, ""), tally });
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn rights_that_a_log_may_have_taken_away_do_not_count_for_what_waits() {
    let mut shard = shard(&[]);
    let mut peers = [Some("ann"), Some("bob"), None, None].map(|user| Peer::come(&mut shard, user));
    let counts = peers.each_mut().map(|peer| peer.publish(&mut shard, 1, "c", "x").unwrap());
    let [there, gone, no_user, no_user_gone] = peers;
    go(&mut shard, gone);
    go(&mut shard, no_user_gone);
    lose_acts(&mut shard);
    assert_eq!(shard.questions.checks.questions(), 2, "those without a user can't be meant by an act");
    counts.into_iter().for_each(|count| shard.allow_publish(count, None));
    assert_eq!(shard.context.hub.seq(), 2);
    drop((there, no_user));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn nothing_is_published_of_any_client_when_all_are_closed() {
    let mut shard = shard(&[]);
    let mut peers: Vec<_> = [None, Some("ann"), None, Some("bob"), None, None]
        .into_iter()
        .map(|user| Peer::come(&mut shard, user))
        .collect();
    let counts: Vec<_> = peers.iter_mut().map(|peer| peer.publish(&mut shard, 1, "c", "x").unwrap()).collect();
    go(&mut shard, peers.remove(0));
    go(&mut shard, peers.remove(0));
    sweep(&shard);
    turn(&mut shard);
    assert!(!shard.scans.sweeps.is_empty(), "two of four in a turn");
    // The sweep comes to the last ones first. This one goes by itself before it is its turn.
    let of = peers[0].of;
    let index = shard.find(of).unwrap();
    shard.drop_conn(index);
    until("all are closed", || {
        turn(&mut shard);
        shard.scans.sweeps.is_empty()
    });
    counts.into_iter().for_each(|count| shard.allow_publish(count, None));
    assert_eq!((shard.context.hub.seq(), shard.questions.checks.is_empty()), (0, true));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_the_user_before_has_published_is_not_the_new_users() {
    for has_channel in ["false", "true"] {
        let mut shard = shard(&[("user_channel", has_channel)]);
        let mut peer = Peer::come(&mut shard, Some("ann"));
        let counts = [1, 2].map(|reference| peer.publish(&mut shard, reference, "c", "x").unwrap());
        assert_eq!(peer.publish(&mut shard, 3, "open.c", "x"), None, "it waits for those before");
        peer.read();
        shard.handle.tell(Command::Renew { of: peer.of, grant: Box::new(grant(Some("bob"), &["*"], 0)) });
        counts.into_iter().for_each(|request| shard.handle.tell(Command::AllowPublish { request, instead: None }));
        turn(&mut shard);
        let told = peer.read();
        assert_eq!(times(&told, r#""code":"publish","message":"the connection has another user now""#), 3, "{told}");
        assert!([1, 2, 3].iter().all(|reference| told.contains(&format!(r#""ref":{reference}}}"#))), "{told}");
        assert_eq!((shard.context.hub.seq(), shard.questions.checks.is_empty()), (0, true), "{has_channel}");
        assert_eq!(shard.is_there(peer.of.index), has_channel == "false");
        if has_channel == "false" {
            let count = peer.publish(&mut shard, 4, "c", "x").unwrap();
            shard.allow_publish(count, None);
            assert_eq!(shard.context.hub.seq(), 1);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_answers_to_the_user_before_do_not_reach_the_new_user() {
    let mut shard = shard(&[("events", "call,publish")]);
    let mut peer = Peer::come(&mut shard, Some("ann"));
    for reference in [1, 2] {
        peer.say(&mut shard, &format!(r#"{{"type":"call","ref":{reference},"data":"what is mine?"}}"#));
    }
    let asked = || RequestId::from_number(shard.context.events.next(Some(Duration::ZERO)).unwrap().request).count;
    let counts = [asked(), asked()];
    for user in ["ann", "bob"] {
        shard.handle.tell(Command::Renew { of: peer.of, grant: Box::new(grant(Some(user), &["*"], 0)) });
        turn(&mut shard);
        // Another grant of the same user changes nothing.
        assert_eq!(shard.handle.metrics.calls_waiting.get(), if user == "ann" { 2 } else { 0 });
    }
    counts.into_iter().for_each(|count| shard.answer_call(count, b"secret", false));
    turn(&mut shard);
    let told = peer.read();
    assert_eq!((times(&told, r#""code":"lost""#), times(&told, "secret")), (2, 0), "{told}");
    assert!(shard.is_there(peer.of.index));
}

/// The host does not know yet that the connection ends.
#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_new_grant_counts_for_what_a_connection_that_ends_has_published() {
    for (renewed, published) in [(("ann", "*"), 1), (("ann", "other"), 0), (("bob", "*"), 0)] {
        let mut shard = shard(&[]);
        let mut peer = Peer::come(&mut shard, Some("ann"));
        let count = peer.publish(&mut shard, 1, "c", "x").unwrap();
        shard.close(peer.of.index, Close::going_away(10));
        assert!(!shard.is_there(peer.of.index));
        let (user, publish) = renewed;
        shard.handle.tell(Command::Renew { of: peer.of, grant: Box::new(grant(Some(user), &[publish], 0)) });
        shard.handle.tell(Command::AllowPublish { request: count, instead: None });
        turn(&mut shard);
        assert_eq!(shard.context.hub.seq(), published, "{renewed:?}");
        assert!(shard.questions.checks.is_empty());
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_end_of_a_grant_is_the_end_of_what_waits_and_a_clients_own_close_code_is_not() {
    let mut shard = shard(&[]);
    let mut peer = Peer::come(&mut shard, Some("ann"));
    let count = peer.publish(&mut shard, 1, "c", "x").unwrap();
    shard.conns[peer.of.index as usize].grant = Some(Arc::new(grant(Some("ann"), &["*"], 1)));
    shard.schedule(peer.of.index, 0);
    shard.turn.now += 20_000;
    shard.run_timers();
    assert!(!shard.is_there(peer.of.index) && shard.questions.checks.is_empty());
    // A new grant comes too late.
    shard.renew_left_checks(peer.of, &grant(Some("ann"), &["*"], 0));
    shard.allow_publish(count, None);
    assert_eq!(shard.context.hub.seq(), 0);
    for (published, code) in [1008_u16, 4403].into_iter().enumerate() {
        let mut peer = Peer::come(&mut shard, Some("ann"));
        let count = peer.publish(&mut shard, 1, "c", "x").unwrap();
        peer.stream.write_all(&masked::frame(0x88, &code.to_be_bytes(), [0; 4])).unwrap();
        turn(&mut shard);
        assert!(!shard.is_there(peer.of.index));
        shard.allow_publish(count, None);
        assert_eq!(shard.context.hub.seq(), published as u64 + 1, "{code}");
    }
}

/// Publishes until the shard's mailbox is full. Somebody subscribes to the channel.
fn fill(shard: &Shard, channel: &str) {
    let message = || Message::new(&Publication::new("", b"x"), false, b"");
    let publish = || shard.context.hub.publish(Outgoing::new(channel, None, message()), 0);
    let error = std::iter::from_fn(|| Some(publish())).find_map(Result::err).unwrap();
    assert_eq!(error.kind(), Kind::Busy);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_the_host_has_allowed_waits_until_the_hub_has_room() {
    let mut shard = shard(&[]);
    let _reader = adopt(&mut shard, b"GET /push?channel=c HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n");
    let mut peer = Peer::come(&mut shard, Some("ann"));
    let counts = [1, 2].map(|reference| peer.publish(&mut shard, reference, "c", "x").unwrap());
    assert_eq!(peer.publish(&mut shard, 3, "open.c", "x"), None);
    let mut gone = Peer::come(&mut shard, Some("bob"));
    let of_gone = gone.publish(&mut shard, 1, "c", "x").unwrap();
    let gone = go(&mut shard, gone);
    fill(&shard, "c");
    let before = shard.context.hub.seq();
    counts.into_iter().chain([of_gone]).for_each(|count| shard.allow_publish(count, None));
    shard.publish_again();
    assert_eq!(peer.read(), "");
    let waiting = [peer.of, gone].map(|of| shard.questions.checks.of_connection(of));
    assert_eq!((waiting, shard.context.hub.seq()), ([3, 1], before));
    assert!(shard.wake_in().is_some_and(|ms| ms <= super::client::checking::AGAIN_MS));
    let mut told = String::new();
    until("all are published", || {
        turn(&mut shard);
        told += &peer.read();
        shard.questions.checks.is_empty()
    });
    assert_eq!(shard.context.hub.seq(), before + 4);
    let references = told.match_indices(r#""ref":"#).map(|(at, _)| &told[at + 6..at + 7]);
    assert_eq!((references.collect::<String>(), times(&told, r#""type":"published""#)), ("123".into(), 3), "{told}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hub_that_stays_busy_is_given_up_and_the_log_says_what_is_lost() {
    let mut shard = shard(&[]);
    let pulled = Arc::new(Pulled::new().unwrap());
    let sink = Sink::Pulled(pulled.clone());
    Arc::get_mut(&mut shard.context).unwrap().log = Log::new(Some(sink), Level::Info);
    let readers = ["c", "open.c"].map(|channel| {
        let line = format!("GET /push?channel={channel} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n");
        adopt(&mut shard, line.as_bytes())
    });
    let mut peer = Peer::come(&mut shard, Some("ann"));
    let count = peer.publish(&mut shard, 1, "c", "x").unwrap();
    let mut gone = Peer::come(&mut shard, Some("bob"));
    let of_gone = gone.publish(&mut shard, 1, "elsewhere", "x").unwrap();
    assert_eq!(gone.publish(&mut shard, 2, "open.c", "x"), None);
    go(&mut shard, gone);
    fill(&shard, "c");
    let before = shard.context.hub.seq();
    [count, of_gone].into_iter().for_each(|count| shard.allow_publish(count, None));
    assert_eq!(shard.context.hub.seq(), before + 1, "nobody is on the other channel");
    let lines = || -> Vec<String> {
        let next = || pulled.next(Some(Duration::ZERO)).ok();
        std::iter::from_fn(next).map(|line| format!("{:?} {}", line.level(), line.text())).collect()
    };
    lines();
    shard.turn.now += shard.config.call_timeout_ms;
    shard.publish_again();
    let told = peer.read();
    assert!(told.contains(r#""code":"busy""#) && told.contains(r#""ref":1"#), "{told}");
    assert_eq!((shard.context.hub.seq(), shard.questions.checks.is_empty()), (before + 1, true));
    let lines = lines();
    let of = |part: &str| lines.iter().find(|line| line.contains(part)).cloned().unwrap_or_else(|| panic!("{lines:?}"));
    let allowed = of(r#"a message of a client is not published to "c", though the host has allowed it: busy: "#);
    let behind = of(r#"a message of a client that has gone is not published to "open.c": busy: "#);
    assert!(allowed.starts_with("Warn ") && behind.starts_with("Info "), "{lines:?}");
    drop(readers);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_replacement_is_not_kept_beyond_the_bound_but_published_if_it_need_not_wait() {
    let mut shard = shard(&[]);
    let mut peer = Peer::come(&mut shard, Some("ann"));
    let counts = [1, 2, 3].map(|reference| peer.publish(&mut shard, reference, "c", "xx").unwrap());
    let mut config = (*shard.config).clone();
    config.inbox_total = 100;
    shard.config = Arc::new(config);
    let instead = |data: &str| Some(Instead::of(&Replacement { data: data.as_bytes(), event: None, binary: false }));
    shard.allow_publish(counts[2], instead("yy"));
    shard.allow_publish(counts[1], instead("yyy"));
    let told = peer.read();
    assert!(told.contains(r#""code":"busy""#) && told.contains(r#""ref":2"#), "{told}");
    assert_eq!(shard.context.hub.seq(), 0);
    shard.allow_publish(counts[0], instead("yyyy"));
    let told = peer.read();
    assert_eq!((times(&told, r#""type":"published""#), shard.context.hub.seq()), (2, 2), "{told}");
    assert!(shard.questions.checks.is_empty());
}
