//! A host that is attached to a hub that the test plays. This hub stops reading, goes away and comes back.

use crate::attach::inbox::Inbox;
use crate::attach::wire::{framed_len, FromHost, FromHub, RefusedBecause};
use crate::attach::wire::{ANSWERS_CALLS, ENCRYPTED_BY_KERNEL, EXCEPTS, INFORMS, MARKS, MAX_FRAME, NAMES_LIFE};
use crate::attach::wire::{NAMES_MAX_BATCH, SUBSCRIBES, TRACES, USER_CHANNELS, VERSION};
use crate::error::Kind;
use crate::events::{Event, EventKind};
use crate::grant::{Grant, Handover, Terms};
use crate::hub::{ClientId, Mark, Publication, Traceparent};
use crate::shard::panic_tests::common::{socket_path, until, PATIENCE};
use crate::sys::encryption::Version;
use crate::sys::passing::{self, Ready};
use crate::sys::socket::Checked;
use crate::{Builder, Server};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// The socket at which the played hub listens.
struct HubListener {
    path: String,
    listener: UnixListener,
}

impl HubListener {
    fn new() -> Self {
        let path = socket_path();
        HubListener { listener: UnixListener::bind(&path).unwrap(), path }
    }

    /// Starts a host that attaches here, and waits for the hub as long as it may.
    fn host(&self, options: &[(&str, &str)]) -> Server {
        let mut builder = Builder::with(options);
        builder.set("attach", &format!("unix:{}", self.path)).unwrap();
        builder.set("attach_timeout", "1m").unwrap();
        Server::start(builder).unwrap()
    }

    /// A host with these options, and its attachment at a hub that speaks no version above this one.
    fn attached(&self, newest: u16, options: &[(&str, &str)]) -> (Hub, Server) {
        std::thread::scope(|scope| {
            let hub = scope.spawn(|| self.welcome_of(newest, "one"));
            let host = self.host(options);
            (hub.join().unwrap(), host)
        })
    }

    /// A host whose hub has gone. Nobody knows which hub comes next.
    fn left(&self) -> Server {
        let (_, host) = self.attached(VERSION, &[]);
        host
    }

    /// Welcomes a host as a hub does that has never seen it.
    fn welcome(&self, epoch: &str) -> Hub {
        self.welcome_of(VERSION, epoch)
    }

    /// The same as a hub that speaks no version above this one.
    fn welcome_of(&self, newest: u16, epoch: &str) -> Hub {
        let mut hub = loop {
            let (socket, _) = self.listener.accept().unwrap();
            let mut hub = Hub { socket: socket.into(), inbox: Inbox::default() };
            let mut version = 0;
            hub.until(|frame| {
                let FromHost::Hello(hello) = frame else { return false };
                version = hello.version;
                true
            });
            if version <= newest {
                break hub;
            }
            hub.say(&FromHub::Refused { because: RefusedBecause::Version, text: "another version" });
        };
        let life = (newest >= NAMES_LIFE).then_some(1);
        let max_batch = (newest >= NAMES_MAX_BATCH).then_some(8192);
        hub.say(&FromHub::Welcome {
            epoch,
            done: 0,
            max_message: 1 << 20,
            max_send: 1 << 20,
            max_batch,
            life,
            user_channel: None,
        });
        hub
    }
}

impl Drop for HubListener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One attachment, as the hub sees it.
struct Hub {
    socket: OwnedFd,
    inbox: Inbox,
}

impl Hub {
    fn say(&mut self, frame: &FromHub<'_>) {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        assert_eq!(crate::sys::socket::send(&self.socket, &bytes).unwrap(), bytes.len());
    }

    /// Reads frames until the wanted one comes.
    fn until(&mut self, mut wanted: impl FnMut(FromHost<'_>) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = self.inbox.frame(MAX_FRAME).unwrap() {
                let len = framed_len(frame);
                let is_it = wanted(FromHost::read(frame).unwrap());
                self.inbox.drop_frame(len);
                if is_it {
                    return;
                }
            }
            assert!(Instant::now() < end, "the host has not sent the expected frame");
            let mut ready = [(self.socket.as_raw_fd(), Ready { readable: true, writable: false })];
            passing::wait(&mut ready, Some(1000)).unwrap();
            assert_ne!(self.inbox.read(&self.socket).ok(), Some(0), "the host has gone");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hub_that_does_not_know_the_ends_of_streams_is_never_sent_one() {
    let listener = HubListener::new();
    for (version, known) in [(MARKS - 1, false), (MARKS, true)] {
        let (mut hub, host) = listener.attached(version, &[]);
        for mark in [Mark::Begin, Mark::End] {
            let posted = host.post(&Publication::mark("a", mark)).map_err(|error| error.kind());
            assert_eq!(posted, if known { Ok(()) } else { Err(Kind::Unsupported) });
        }
        host.post(&Publication::new("a", b"last")).unwrap();
        let mut marks = 0;
        hub.until(|frame| match frame {
            FromHost::Publish { publication, .. } => {
                marks += usize::from(publication.mark.is_some());
                publication.data == b"last"
            }
            _ => false,
        });
        assert_eq!(marks, if known { 2 } else { 0 });
        host.stop(Duration::ZERO);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn calls_are_answered_at_hubs_that_know_them_and_refused_where_the_host_takes_none() {
    let listener = HubListener::new();
    for (version, known) in [(ANSWERS_CALLS - 1, false), (ANSWERS_CALLS, true)] {
        let (mut hub, host) = listener.attached(version, &[("events", "message")]);
        let answered = host.answer_call(1 << 8, b"x", false).map_err(|error| error.kind());
        assert_eq!(answered, if known { Ok(()) } else { Err(Kind::Unsupported) });
        host.event_fd().unwrap();
        let call = Event { request: 2 << 8, ..Event::new(EventKind::Call) };
        hub.say(&FromHub::Event(call));
        let mut answers = 0;
        hub.until(|frame| {
            answers += usize::from(matches!(frame, FromHost::Answer { request, .. } if request == 1 << 8));
            matches!(frame, FromHost::Deny { request, status: 503, .. } if request == 2 << 8)
        });
        assert_eq!(answers, usize::from(known));
        host.stop(Duration::ZERO);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hub_that_does_not_know_the_channels_of_users_is_never_sent_a_message_to_one() {
    let listener = HubListener::new();
    let to = |data| Publication::new("", data);
    for (version, known) in [(USER_CHANNELS - 1, false), (USER_CHANNELS, true)] {
        let host = listener.left();
        host.post_user("ada", &to(b"early")).unwrap();
        host.post(&Publication::new("a", b"plain")).unwrap();
        let mut hub = listener.welcome_of(version, "one");
        host.post(&Publication::new("a", b"last")).unwrap();
        let mut got = 0;
        hub.until(|frame| match frame {
            FromHost::Publish { publication, .. } => {
                got += usize::from(publication.to_user);
                assert!(!publication.to_user || publication.channel == "user:ada");
                publication.data == b"last"
            }
            _ => false,
        });
        assert_eq!(got > 0, known);
        let posted = host.post_user("ada", &to(b"now")).map_err(|error| error.kind());
        assert_eq!(posted, if known { Ok(()) } else { Err(Kind::Unsupported) });
        host.stop(Duration::ZERO);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hub_that_would_send_a_message_to_all_is_never_sent_one_that_leaves_a_client_out() {
    let listener = HubListener::new();
    let except = Some(ClientId::from_bytes([9; 16]));
    let one = |data| Publication { except, ..Publication::new("a", data) };
    for (version, known) in [(EXCEPTS - 1, false), (EXCEPTS, true)] {
        let host = listener.left();
        host.post(&one(b"early")).unwrap();
        host.post_batch(&[one(b"early"), Publication::new("a", b"early, too")]).unwrap();
        let mut hub = listener.welcome_of(version, "one");
        host.post(&Publication::new("a", b"last")).unwrap();
        let mut got = 0;
        hub.until(|frame| match frame {
            FromHost::Publish { publication, .. } => {
                got += usize::from(publication.except == except);
                publication.data == b"last"
            }
            FromHost::Batch { publications, .. } => {
                assert!(known, "{publications:?}");
                got += publications.iter().filter(|publication| publication.except == except).count();
                false
            }
            _ => false,
        });
        assert_eq!(got, if known { 2 } else { 0 });
        let posted = [host.post(&one(b"now")), host.post_broadcast(&one(b"now")), host.post_batch(&[one(b"now")])];
        for posted in posted {
            assert_eq!(posted.map_err(|error| error.kind()), if known { Ok(()) } else { Err(Kind::Unsupported) });
        }
        host.stop(Duration::ZERO);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hub_that_does_not_know_traces_gets_all_messages_without_them() {
    let listener = HubListener::new();
    let trace = Traceparent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let traced = |data| Publication { trace, ..Publication::new("a", data) };
    for (version, known) in [(TRACES - 1, false), (TRACES, true)] {
        let host = listener.left();
        host.post(&traced(b"early")).unwrap();
        let mut hub = listener.welcome_of(version, "one");
        host.post_batch(&[traced(b"batch"), Publication::new("a", b"plain")]).unwrap();
        host.post(&traced(b"last")).unwrap();
        let mut got = Vec::new();
        hub.until(|frame| {
            let one = |publication: &Publication<'_>| {
                (String::from_utf8_lossy(publication.data).into_owned(), publication.trace == trace)
            };
            match frame {
                FromHost::Publish { publication, .. } => got.push(one(&publication)),
                FromHost::Batch { publications, .. } => got.extend(publications.iter().map(one)),
                _ => {}
            }
            got.len() == 4
        });
        let expected = [("early", known), ("batch", known), ("plain", false), ("last", known)];
        assert_eq!(got, expected.map(|(data, has)| (data.to_owned(), has)), "{version}");
        host.stop(Duration::ZERO);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hub_that_is_too_old_for_a_field_of_a_grant_is_never_sent_it() {
    let names = ["a".to_owned()];
    let subscribes = Terms { subscribe: &names, ..Terms::default() };
    let informs = Terms { user: Some("ada"), info: Some("Ada"), channels: &names, ..Terms::default() };
    [(SUBSCRIBES, subscribes), (INFORMS, informs)].iter().for_each(|(since, terms)| is_never_sent(since - 1, terms));
}

/// A hub that speaks no version above `older` is never sent a grant with these terms.
fn is_never_sent(older: u16, terms: &Terms<'_>) {
    let (listener, names) = (HubListener::new(), ["a".to_owned()]);
    let grant = || Grant::of(terms).unwrap();
    let of_one_channel = || Grant::new(None, &names, &[], 0, false, false).unwrap();
    let (hub, host) = listener.attached(older, &[]);
    let head = b"GET /push HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (mut client, handed_over) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (error, handed_over) = host.adopt(handed_over.into(), head, Some(grant())).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert_eq!(host.allow(1, grant()).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(host.renew(1, grant()).unwrap_err().kind(), Kind::Unsupported);
    // Which hub comes next nobody knows.
    drop(hub);
    until("the host has noticed", || match host.allow(1, grant()) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Unsupported);
            false
        }
    });
    host.adopt(handed_over, head, Some(grant())).unwrap();
    host.allow(2, of_one_channel()).unwrap();
    let (_other_client, other) = UnixStream::pair().unwrap();
    host.adopt(other.into(), head, Some(of_one_channel())).unwrap();
    let mut hub = listener.welcome_of(older, "one");
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let mut seen = Vec::new();
    hub.until(|frame| {
        assert!(frame.since() <= older, "{frame:?}");
        seen.push(format!("{frame:?}"));
        matches!(frame, FromHost::Adopt { .. })
    });
    assert!(seen.iter().any(|frame| frame.starts_with("Allow { request: 2,")), "{seen:?}");
    host.stop(Duration::ZERO);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_whose_tls_is_in_the_kernel_needs_a_hub_that_knows_it() {
    for (newest, expected) in [(ENCRYPTED_BY_KERNEL - 1, Some(Kind::Unsupported)), (ENCRYPTED_BY_KERNEL, None)] {
        let listener = HubListener::new();
        let (hub, host) = std::thread::scope(|scope| {
            let hub = scope.spawn(|| listener.welcome_of(newest, "one"));
            let host = listener.host(&[]);
            (hub.join().unwrap(), host)
        });
        let (_client, ours) = UnixStream::pair().unwrap();
        let checked = Checked { delays: false, tls: Some(Version::Tls12) };
        let grant = Some(Grant::of(&Terms::default()).unwrap());
        let done = host.hand_over(ours.into(), Handover { head: b"", grant, checked, followed: false });
        assert_eq!(done.err().map(|(error, _)| error.kind()), expected, "{newest}");
        drop(hub);
        host.stop(Duration::ZERO);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn credit_for_events_is_given_once_however_often_the_hub_comes_back() {
    let listener = HubListener::new();
    let (hub, host) = listener.attached(VERSION, &[("event_queue", "16"), ("attach_buffer", "2MB")]);
    // The hub does not read: the socket becomes full, then the queue.
    let mut posted = 0;
    until("the queue never becomes full", || match host.post(&Publication::new("a", &[b'x'; 10_000])) {
        Ok(()) => {
            posted += 1;
            false
        }
        Err(error) => error.kind() == Kind::Busy,
    });
    // Sends as much of the queue as the socket takes.
    host.flush();
    // Now the host can't send its credit for events any more.
    assert_eq!(host.next_event(Some(Duration::ZERO)).unwrap_err().kind(), Kind::Timeout);
    drop(hub);
    let (mut given, mut published) = (Vec::new(), 0);
    listener.welcome("two").until(|frame| {
        match frame {
            FromHost::Credit { events } => given.push(events),
            FromHost::Publish { .. } => published += 1,
            _ => {}
        }
        published == posted
    });
    assert_eq!(given, [16], "credit is given once, before the messages that wait");
    host.stop(Duration::ZERO);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_message_behind_one_that_the_hub_does_not_answer_is_sent_without_another_call() {
    let listener = HubListener::new();
    let (mut hub, host) = listener.attached(VERSION, &[]);
    for expected in 1..=40 {
        host.post(&Publication::new("a", b"x")).unwrap();
        hub.until(|frame| matches!(frame, FromHost::Publish { number, .. } if number == expected));
        // The thread of the host may look for such messages just then, or sleep.
        std::thread::sleep(Duration::from_millis(expected % 12));
    }
    host.stop(Duration::ZERO);
}
