//! The thread `push-attached`.

use super::connect::{self, Failure, Welcomed};
use super::queue::{Content, Reply};
use super::refusing::CHECK_MS;
use super::Link;
use crate::attach::wire::{framed_len, FromHost, FromHub, Malformed, MAX_FRAME};
use crate::error::Error;
use crate::events::{EventKind, NOBODY_ANSWERS};
use crate::hub::{Epoch, Placed};
use crate::log::Level;
use crate::metrics::Stats;
use crate::panics;
use crate::sys::passing::{self, Ready};
use crate::sys::socket;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The shortest and the longest time between attempts to attach. A restarted hub is there within milliseconds. For a
/// hub that is stopped for an hour, one attempt a second is enough.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The time after which descriptors that could not be passed are tried again. The socket's readiness does not tell when
/// that is possible.
const PASS_AGAIN_MS: u64 = 10;
/// How long messages wait at most for the answer to the one before them. Then they are sent without it: the hub may have
/// to wait for its log.
const LINGER_MS: u64 = 5;
/// A hub passes no descriptors. If one did, they would stay open here.
pub(super) const PASSES_DESCRIPTORS: &str = "it sends descriptors, which a hub never does";
/// Reads in a row before the queue has its turn.
const READS: usize = 16;

/// Runs until stopped.
pub(super) fn run(link: &Link, first: Option<Welcomed>) {
    attach_again_and_again(link, first);
    // Otherwise these clients would get no answer, and would not know that they may come back.
    link.refuse_waiting_clients();
}

fn attach_again_and_again(link: &Link, first: Option<Welcomed>) {
    let mut hub = first;
    let mut backoff = BACKOFF_MIN;
    let mut told = hub.is_none();
    loop {
        if let Some(welcomed) = hub.take() {
            link.log.line(Level::Info, format_args!("attached to unix:{}", link.path.display()));
            told = false;
            let (socket, since) = (welcomed.socket.clone(), Instant::now());
            let served = catch_unwind(AssertUnwindSafe(|| serve(link, welcomed)));
            // A forked child of the host may hold a copy of the socket. The shutdown lets the hub see the end all the
            // same.
            socket::shutdown_both(&socket);
            link.queue().detach();
            match served {
                Ok(Ok(())) => return,
                Ok(Err(text)) => link
                    .log
                    .line(Level::Warn, format_args!("the connection to the hub was lost: {text}; attaching again")),
                Err(_) => link.log.line(
                    Level::Error,
                    format_args!("a bug in the library was caught: {}; attaching again", panics::said()),
                ),
            }
            // A hub may welcome us and close at once, for example because it has no descriptors left, or because it
            // does not understand a frame that is sent again each time. Then the hub counts as one that can't be
            // reached.
            match backoff.checked_sub(since.elapsed()) {
                Some(rest) => {
                    pause(link, rest);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                None => backoff = BACKOFF_MIN,
            }
        }
        if stop_is_over(link) {
            return;
        }
        match connect::attach(link, connect::PATIENCE) {
            Ok(welcomed) => hub = Some(welcomed),
            Err(failure) => {
                if let (Failure::Refused(text), false) = (&failure, told) {
                    link.log.line(Level::Error, format_args!("the hub refuses: {text}; trying again"));
                    told = true;
                }
                pause(link, backoff);
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// True if the thread should end although no hub is there: nothing waits for a hub, or the time is over.
fn stop_is_over(link: &Link) -> bool {
    link.stop.load(Ordering::Acquire) && (link.queue().is_done() || time_left(link).is_zero())
}

fn time_left(link: &Link) -> Duration {
    let stop_at = *link.stop_at.lock().unwrap_or_else(PoisonError::into_inner);
    stop_at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
}

/// Waits until the time is over or the server stops, and checks the waiting clients meanwhile.
fn pause(link: &Link, time: Duration) {
    let until = Instant::now() + time.min(time_left(link));
    loop {
        link.check_waiting_clients();
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let mut wanted = [(link.wake.as_raw_fd(), Ready { readable: true, writable: false })];
        let _ = passing::wait(&mut wanted, Some((left.as_millis() as u64 + 1).min(CHECK_MS)));
        if wanted[0].1.readable {
            link.wake.clear();
            if link.stop.load(Ordering::Acquire) {
                return;
            }
            // The thread was woken for another reason, which does not shorten the pause.
            std::thread::sleep(left.min(BACKOFF_MIN));
        }
    }
}

/// Serves one attachment. Returns `Ok` if the server was stopped, else the reason why the hub is gone.
fn serve(link: &Link, welcomed: Welcomed) -> Result<(), String> {
    let Welcomed { socket, mut inbox } = welcomed;
    let mut anything_new = true;
    loop {
        while let Some(frame) = inbox.frame(MAX_FRAME).map_err(malformed)? {
            let len = framed_len(frame);
            take(link, FromHub::read(frame).map_err(malformed)?)?;
            inbox.drop_frame(len);
        }
        link.give_credit();
        link.queue().flush();
        if link.stop.load(Ordering::Acquire) && (link.queue().is_done() || time_left(link).is_zero()) {
            return Ok(());
        }
        anything_new = wait(link, socket.as_raw_fd(), anything_new);
        for _ in 0..READS {
            match inbox.read(&socket) {
                Ok(0) => return Err("the hub closed it".into()),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        if inbox.has_fds() {
            return Err(PASSES_DESCRIPTORS.into());
        }
    }
}

/// Waits until there is something to do. False: nothing has happened. While messages without an answer are in flight, it
/// looks soon whether others have come behind them, unless nothing was new the last time.
fn wait(link: &Link, socket: i32, anything_new: bool) -> bool {
    let clients = link.check_waiting_clients();
    let (blocked, lingers) = {
        let mut queue = link.queue();
        let lingers = anything_new && !queue.nothing_in_flight();
        queue.watch(lingers);
        // A caller that has left a message just now relied on this thread.
        queue.flush();
        (queue.wants_room(), lingers)
    };
    let stopping = link.stop.load(Ordering::Acquire);
    let timeout = match (stopping, blocked) {
        (true, _) => Some((time_left(link).as_millis() as u64).clamp(1, 20)),
        (false, true) => Some(PASS_AGAIN_MS),
        (false, false) => clients.into_iter().chain(lingers.then_some(LINGER_MS)).min(),
    };
    let mut wanted = [
        (socket, Ready { readable: true, writable: blocked }),
        (link.wake.as_raw_fd(), Ready { readable: true, writable: false }),
    ];
    if passing::wait(&mut wanted, timeout).is_err() {
        // The system is out of memory. The sleep prevents a busy loop.
        std::thread::sleep(BACKOFF_MIN);
    }
    if wanted[1].1.readable {
        link.wake.clear();
    }
    if blocked {
        link.queue().unblock();
    }
    wanted.iter().any(|(_, ready)| ready.readable)
}

fn take(link: &Link, frame: FromHub<'_>) -> Result<(), String> {
    let in_order = match frame {
        FromHub::Published { number, seq, subscribers } => {
            link.queue().answer(number, |epoch_index| Ok(Reply::Published(Placed { seq, subscribers, epoch_index })))
        }
        FromHub::Batched { number, seqs } => {
            link.queue().answer(number, |epoch_index| Ok(Reply::Batched { seqs, epoch_index }))
        }
        FromHub::Failed { number, kind, text } => {
            link.log.line(Level::Warn, format_args!("the hub has not done a request: {text}"));
            link.queue().answer(number, |_| Err(Error::new(kind, text.to_owned())))
        }
        FromHub::Stats { number, json } => {
            let stats: Stats = serde_json::from_slice(json).map_err(|error| format!("its stats: {error}"))?;
            link.queue().answer(number, |_| Ok(Reply::Stats(Box::new(stats))))
        }
        FromHub::Users { number, users } => link.queue().answer(number, |_| Ok(Reply::Users(users))),
        FromHub::Event(event) => {
            let mut credit = link.credit();
            credit.outstanding = credit.outstanding.saturating_sub(1);
            drop(credit);
            if link.events.wants(event.kind) {
                link.events.push(event);
            } else if matches!(event.kind, EventKind::Call | EventKind::Publish) {
                let (status, reason) = NOBODY_ANSWERS;
                let deny = FromHost::Deny { request: event.request, status, reason };
                // Without room for it the client waits for `call_timeout`.
                let _ = link.queue().add(&deny, Content::OfThisHub);
            }
            true
        }
        FromHub::Limits { max_message, max_send } => {
            link.limits.set(max_message, max_send);
            true
        }
        FromHub::Epoch { epoch } => {
            link.queue().go_on_in(Epoch::from_text(epoch).ok_or("its epoch is not valid")?);
            true
        }
        FromHub::Welcome { .. } | FromHub::Refused { .. } => false,
    };
    if in_order {
        Ok(())
    } else {
        Err("it answers a request that was not made".into())
    }
}

fn malformed(malformed: Malformed) -> String {
    malformed.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::panic_tests::common::{socket_path, PATIENCE};
    use crate::{Builder, Server};
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_hub_that_passes_descriptors_is_let_go() {
        for with_the_welcome in [true, false] {
            let path = socket_path();
            let listener = UnixListener::bind(&path).unwrap();
            let (attached, wait) = std::sync::mpsc::channel();
            let hub = std::thread::spawn(move || {
                let (mut host, _) = listener.accept().unwrap();
                host.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut hello = [0; 4];
                host.read_exact(&mut hello).unwrap();
                host.read_exact(&mut vec![0; u32::from_le_bytes(hello) as usize]).unwrap();
                let (mut welcome, mut limits) = (Vec::new(), Vec::new());
                FromHub::Welcome {
                    epoch: "e",
                    done: 0,
                    max_message: 1,
                    max_send: 1,
                    max_batch: None,
                    life: None,
                    user_channel: None,
                }
                .write(&mut welcome);
                FromHub::Limits { max_message: 1, max_send: 1 }.write(&mut limits);
                let (one, _other) = UnixStream::pair().unwrap();
                let (passed, socket) = ([one.as_raw_fd()], OwnedFd::from(host));
                passing::send_with(&socket, &welcome, if with_the_welcome { &passed } else { &[] }).unwrap();
                if !with_the_welcome {
                    wait.recv().unwrap();
                    passing::send_with(&socket, &limits, &passed).unwrap();
                }
                // This ends only when the host closes its end.
                UnixStream::from(socket).read(&mut [0]).map_err(|error| error.kind())
            });
            let mut builder = Builder::default();
            builder.set("attach", &format!("unix:{path}")).unwrap();
            builder.set("attach_timeout", "1m").unwrap();
            let started = Server::start(builder);
            let _ = attached.send(());
            assert_eq!(hub.join().unwrap(), Ok(0));
            if with_the_welcome {
                assert!(started.unwrap_err().to_string().contains(PASSES_DESCRIPTORS));
            } else {
                started.unwrap().stop(Duration::ZERO);
            }
            let _ = std::fs::remove_file(path);
        }
    }
}
