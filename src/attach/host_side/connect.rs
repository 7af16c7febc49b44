//! Attaches to a hub: connects, sends a hello and waits for the welcome.

use super::queue::HubThere;
use super::refusing::CHECK_MS;
use super::thread::PASSES_DESCRIPTORS;
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
pub(super) const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 2 });

/// A connection that the hub has welcomed.
pub(super) struct Welcomed {
    pub(super) socket: Arc<OwnedFd>,
    /// It may already hold frames that came right behind the welcome.
    pub(super) inbox: Inbox,
}

/// The reason why the host could not attach.
pub(super) enum Failure {
    /// Nobody answers there now.
    Away(String),
    /// The hub refuses this host.
    Refused(String),
    /// The hub speaks other versions of the protocol.
    Version(String),
}

/// Attaches, and connects the queue to this hub. If the hub is older, the host speaks the older version of the
/// protocol: pushd and its hosts are not all updated at the same moment.
pub(super) fn attach(link: &Link, patience: Duration) -> Result<Welcomed, Failure> {
    let until = Instant::now() + patience;
    let mut refused = None;
    for version in (OLDEST..=VERSION).rev() {
        match greet(link, version, until) {
            // The answer to the newest version is the most helpful one.
            Err(Failure::Version(text)) => drop(refused.get_or_insert(text)),
            greeted => return greeted,
        }
    }
    Err(Failure::Refused(refused.unwrap_or_default()))
}

fn greet(link: &Link, version: u16, until: Instant) -> Result<Welcomed, Failure> {
    let away = |error: std::io::Error| Failure::Away(error.to_string());
    // The socket is nonblocking before it connects. If a hung hub's listener has a full queue, connect(2) would wait
    // for ever.
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(away)?;
    socket.connect(&SockAddr::unix(&link.path).map_err(away)?).map_err(away)?;
    let socket = Arc::new(standard::above(socket.into()));
    // The hub may run as another user. Whoever can bind the path is trusted with the messages.
    let (answered, epoch) = {
        let queue = link.queue();
        (queue.answered(), queue.present_epoch().cloned())
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
    // The hub may have refused us and closed already. Then our hello can't be sent, but the refusal can be read.
    let sent = socket::send(&socket, &frame);
    let said_hello = sent.is_ok_and(|sent| sent == frame.len());
    let said = said_hello.then_some(version);
    let len = welcome(link, &socket, &mut inbox, said, until)?;
    inbox.drop_frame(len);
    Ok(Welcomed { socket, inbox })
}

/// Waits for the hub's first frame, and returns its length. `said` is the version that our hello has named.
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
                (
                    Ok(FromHub::Welcome { epoch, done, max_message, max_send, max_batch, life, user_channel }),
                    Some(version),
                ) => {
                    let epoch =
                        Epoch::from_text(epoch).ok_or_else(|| Failure::Refused("its epoch is not valid".into()))?;
                    link.limits.set(max_message, max_send);
                    link.limits.set_user_channel(user_channel);
                    link.limits.max_batch.store(max_batch.map_or(MAX_BATCH, |max| max as usize), Ordering::Relaxed);
                    // The hub does not know the credit of the attachment before. It is set first, so that no event that
                    // follows is lost.
                    let mut credit = link.take_credit_back();
                    link.give(&mut credit);
                    link.queue().attach(socket.clone(), HubThere { version, epoch, life, done });
                    Ok(framed_len(frame))
                }
                (Ok(FromHub::Refused { because, text }), _) => Err(match because {
                    RefusedBecause::Full => Failure::Away(text.to_owned()),
                    RefusedBecause::Version => Failure::Version(text.to_owned()),
                    RefusedBecause::NotAllowed => Failure::Refused(text.to_owned()),
                }),
                _ => Err(Failure::Refused("the socket's owner is not a libpush hub".into())),
            };
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || link.stop.load(Ordering::Acquire) {
            return Err(Failure::Away("no answer".into()));
        }
        let readable = Ready { readable: true, writable: false };
        let mut wanted = [(socket.as_raw_fd(), readable), (link.wake.as_raw_fd(), readable)];
        let next = link.check_waiting_clients().unwrap_or(CHECK_MS);
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
            return Err(Failure::Refused(PASSES_DESCRIPTORS.into()));
        }
    }
}
