//! Attaching: connect, hello, welcome.

use super::refusing::LOOK_MS;
use super::thread::PASSES;
use super::Link;
use crate::api::MAX_BATCH;
use crate::attach::inbox::Inbox;
use crate::attach::wire::{framed_len, FromHost, FromHub, Hello, RefusedBecause, MAX_FRAME, OLDEST, VERSION};
use crate::hub::Epoch;
use crate::sys::passing::{self, Ready};
use crate::sys::{socket, standard};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a hub may take to answer a hello.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A connection that the hub has welcomed.
pub(super) struct Welcomed {
    pub(super) socket: Arc<OwnedFd>,
    /// It may hold what came right behind the welcome.
    pub(super) inbox: Inbox,
}

/// Why there is none.
pub(super) enum Failure {
    /// Nobody answers there now.
    Away(String),
    /// The hub does not want us.
    Refused(String),
    /// It speaks another version of the protocol.
    Version(String),
}

/// Attaches, and has the queue go on with this hub. An older one is spoken to as it speaks: pushd and its hosts are not
/// all made new at once.
pub(super) fn attach(link: &Link, patience: Duration) -> Result<Welcomed, Failure> {
    let until = Instant::now() + patience;
    let mut refused = None;
    for version in (OLDEST..=VERSION).rev() {
        match greet(link, version, until) {
            // What it says to the newest is what helps most.
            Err(Failure::Version(text)) => drop(refused.get_or_insert(text)),
            greeted => return greeted,
        }
    }
    Err(Failure::Refused(refused.unwrap_or_default()))
}

fn greet(link: &Link, version: u16, until: Instant) -> Result<Welcomed, Failure> {
    let away = |error: std::io::Error| Failure::Away(error.to_string());
    // Nonblocking before it connects: where the queue of a hung hub's listener is full, connect(2) would else wait for
    // ever.
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(away)?;
    socket.connect(&SockAddr::unix(&link.path).map_err(away)?).map_err(away)?;
    let socket = Arc::new(standard::above(socket.into()));
    // The hub may be another user's; whoever can bind the path is trusted with what we publish.
    let (answered, epoch) = {
        let queue = link.queue();
        (queue.answered(), queue.present_life().cloned())
    };
    let hello = Hello {
        version,
        session: link.session,
        answered,
        epoch: epoch.as_ref().map_or("", Epoch::as_str),
        name: &link.name,
    };
    let mut frame = Vec::new();
    FromHost::Hello(hello).write(&mut frame);
    let mut inbox = Inbox::default();
    // A refusal may be there already, and our hello has nowhere to go then.
    let sent = socket::send(&socket, &frame);
    let said_hello = sent.is_ok_and(|sent| sent == frame.len());
    let said = said_hello.then_some(version);
    let len = welcome(link, &socket, &mut inbox, said, until)?;
    inbox.drop_frame(len);
    Ok(Welcomed { socket, inbox })
}

/// Waits for the hub's first frame, and gives its length. `said`: the version that our hello has named.
fn welcome(
    link: &Link,
    socket: &Arc<OwnedFd>,
    inbox: &mut Inbox,
    said: Option<u16>,
    until: Instant,
) -> Result<usize, Failure> {
    loop {
        if let Some(frame) = inbox.frame(MAX_FRAME).map_err(|malformed| Failure::Refused(malformed.to_string()))? {
            return match (FromHub::read(frame), said) {
                (Ok(FromHub::Welcome { epoch, done, max_message, max_send, max_batch }), Some(version)) => {
                    let epoch = Epoch::from_text(epoch).ok_or_else(|| Failure::Refused("its epoch is none".into()))?;
                    link.set_limits(max_message, max_send);
                    link.max_batch.store(max_batch.map_or(MAX_BATCH, |max| max as usize), Ordering::Relaxed);
                    // The hub knows nothing of what was given before. First, so that what follows is heard of.
                    link.take_credit_back();
                    link.give_credit();
                    link.queue().attach(socket.clone(), version, epoch, done);
                    Ok(framed_len(frame))
                }
                (Ok(FromHub::Refused { because, text }), _) => Err(match because {
                    RefusedBecause::Full => Failure::Away(text.to_owned()),
                    RefusedBecause::Version => Failure::Version(text.to_owned()),
                    RefusedBecause::NotAllowed => Failure::Refused(text.to_owned()),
                }),
                _ => Err(Failure::Refused("what listens there is no hub of libpush".into())),
            };
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || link.stop.load(Ordering::Acquire) {
            return Err(Failure::Away("no answer".into()));
        }
        let readable = Ready { readable: true, writable: false };
        let mut wanted = [(socket.as_raw_fd(), readable), (link.wake.as_raw_fd(), readable)];
        let next = link.look_after_clients().unwrap_or(LOOK_MS);
        let _ = passing::wait(&mut wanted, Some(next.min(left.as_millis() as u64 + 1)));
        if wanted[1].1.readable {
            link.wake.clear();
        }
        match inbox.read(socket) {
            Ok(0) => return Err(Failure::Away("the hub has closed".into())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(Failure::Away(error.to_string())),
        }
        if inbox.has_fds() {
            return Err(Failure::Refused(PASSES.into()));
        }
    }
}
