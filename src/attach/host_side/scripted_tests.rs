//! A host that is attached to a hub played by the test: one that stops reading, goes away and comes back.

use crate::attach::inbox::Inbox;
use crate::attach::wire::{framed_len, FromHost, FromHub, MAX_FRAME};
use crate::error::Kind;
use crate::hub::Publication;
use crate::shard::panic_tests::common::{socket_path, until, PATIENCE};
use crate::sys::passing::{self, Ready};
use crate::{Builder, Server};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Where the hub listens.
struct Door {
    path: String,
    listener: UnixListener,
}

impl Door {
    fn new() -> Self {
        let path = socket_path();
        Door { listener: UnixListener::bind(&path).unwrap(), path }
    }

    /// A host that attaches here.
    fn host(&self, options: &[(&str, &str)]) -> Server {
        let mut builder = Builder::default();
        builder.set("attach", &format!("unix:{}", self.path)).unwrap();
        options.iter().for_each(|(name, value)| builder.set(name, value).unwrap());
        Server::start(builder).unwrap()
    }

    /// Takes a host in as a hub does that it was never attached to.
    fn welcome(&self, epoch: &str) -> Hub {
        let (socket, _) = self.listener.accept().unwrap();
        let mut hub = Hub { socket: socket.into(), inbox: Inbox::default() };
        hub.until(|frame| matches!(frame, FromHost::Hello(_)));
        hub.say(&FromHub::Welcome { epoch, done: 0, max_message: 1 << 20, max_send: 1 << 20, max_batch: None });
        hub
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One attachment, as the hub has it.
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

    /// Reads frames until one is as wanted.
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
            assert!(Instant::now() < end, "the host has not sent what was waited for");
            let mut ready = [(self.socket.as_raw_fd(), Ready { readable: true, writable: false })];
            passing::wait(&mut ready, Some(1000)).unwrap();
            assert_ne!(self.inbox.read(&self.socket).ok(), Some(0), "the host has gone");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn credit_for_events_is_given_once_however_often_the_hub_comes_back() {
    let door = Door::new();
    let (hub, host) = std::thread::scope(|scope| {
        let hub = scope.spawn(|| door.welcome("one"));
        let host = door.host(&[("event_queue", "16"), ("attach_buffer", "2MB")]);
        (hub.join().unwrap(), host)
    });
    // The hub does not read: the socket fills, then the queue.
    let mut posted = 0;
    until("the hub takes for ever", || match host.post(&Publication::new("a", &[b'x'; 10_000])) {
        Ok(()) => {
            posted += 1;
            false
        }
        Err(error) => error.kind() == Kind::Busy,
    });
    // As much of it as there is room for goes into the socket.
    host.flush();
    // The wish for events can't be sent any more.
    assert_eq!(host.next_event(Some(Duration::ZERO)).unwrap_err().kind(), Kind::Timeout);
    drop(hub);
    let (mut given, mut published) = (Vec::new(), 0);
    door.welcome("two").until(|frame| {
        match frame {
            FromHost::Credit { events } => given.push(events),
            FromHost::Publish { .. } => published += 1,
            _ => {}
        }
        published == posted
    });
    assert_eq!(given, [16], "before all that waits, and once");
    host.stop(Duration::ZERO);
}
