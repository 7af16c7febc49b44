//! A socket in the form that hyper wants. Its writes never raise SIGPIPE.

use crate::metrics::Reason;
use crate::panics;
use crate::sys::socket;
use crate::sys::watched::{watch, Open};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;
use tokio::time::Sleep;

/// The size of one read.
const CHUNK: usize = 16 * 1024;

/// How long a client may take nothing of its answers. hyper limits only what it reads. A client that asks and does not
/// read would keep one of the few places for ever, and needs no key for that.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// After an answer that came before the whole request, the client may send the rest: for so long at most, with pauses
/// of so long, and so many bytes. If a connection is closed with unread bytes, it is reset, and the client may lose the
/// answer. The largest body fits.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 128 << 20;

/// A TCP or Unix connection.
#[derive(Debug)]
pub(super) struct Socket {
    fd: AsyncFd<Open>,
    /// The deadline of a client that takes nothing. `None` while it takes something.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(fd: Arc<OwnedFd>) -> io::Result<Self> {
        socket::set_nodelay(&fd);
        let fd = watch(fd, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket { fd, stuck: None })
    }

    /// Ends a connection: closes our side, then waits for the client to close its side.
    pub(super) async fn linger(self) {
        socket::shutdown_write(self.fd.get_ref().fd());
        let mut chunk = vec![0; CHUNK];
        let mut left = LINGER_BYTES;
        let read_rest = async {
            while left > 0 {
                let read = self.fd.async_io(Interest::READABLE, |fd| socket::recv(fd.fd(), &mut chunk));
                match tokio::time::timeout(LINGER_PAUSE, read).await {
                    Ok(Ok(len)) if len > 0 => left = left.saturating_sub(len),
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, read_rest).await;
    }

    /// Reads bytes. 0: the end.
    #[cfg(feature = "tls")]
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx))?;
            if let Ok(result) = guard.try_io(|fd| socket::recv(fd.get_ref().fd(), into)) {
                return Poll::Ready(result);
            }
        }
    }

    /// Waits for room to write, after a write that found none.
    #[cfg(feature = "tls")]
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.fd.poll_write_ready(cx) {
            Poll::Ready(guard) => {
                drop(guard?);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.poll_stuck(cx).map_ok(|_| ()),
        }
    }

    /// There is no room to write.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        stuck.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A kind of connection.
pub(super) trait Channel {
    /// The socket below it, and why it has failed, if the client did not keep to the rules of its kind.
    fn end(self) -> (Socket, Option<(Reason, String)>);
}

impl Channel for Socket {
    fn end(self) -> (Socket, Option<(Reason, String)>) {
        (self, None)
    }
}

impl Read for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let room = into.remaining().min(CHUNK);
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx))?;
            if let Ok(result) = guard.try_io(|fd| socket::recv(fd.get_ref().fd(), &mut chunk[..room])) {
                into.put_slice(&chunk[..result?]);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Writes without waiting.
#[cfg(feature = "tls")]
impl io::Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.fd.try_io(Interest::WRITABLE, |fd| socket::send(fd.fd(), bytes));
        self.stuck = if sent.is_ok() { None } else { self.stuck.take() };
        sent
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(guard) = self.fd.poll_write_ready(cx) else { return self.poll_stuck(cx) };
            if let Ok(result) = guard?.try_io(|fd| socket::send(fd.get_ref().fd(), bytes)) {
                self.stuck = None;
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket::shutdown_write(self.fd.get_ref().fd());
        Poll::Ready(Ok(()))
    }
}

/// The result of `work`, or what a panic in it has said. The runtime would catch the panic without a word.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(panics::said())),
    })
    .await
}

/// The result of `work`, unless `end` comes first.
pub(super) async fn first<T>(work: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let (mut work, mut end) = (pin!(work), pin!(end));
    std::future::poll_fn(|cx| {
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[tokio::test(start_paused = true)]
    #[cfg_attr(miri, ignore = "sockets")]
    async fn a_client_that_takes_nothing_times_out_and_one_that_takes_something_does_not() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut socket = Socket::new(Arc::new(ours.into())).unwrap();
        let mut written = 0;
        let mut fill = async |socket: &mut Socket| loop {
            let write = std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, &[0; 4096]));
            match tokio::time::timeout(WRITE_TIMEOUT * 2 / 3, write).await {
                Ok(Ok(len)) => written += len,
                other => return (other, written),
            }
        };
        let (waits, written) = fill(&mut socket).await;
        assert!(waits.is_err(), "the time is not over yet");
        std::io::Read::read_exact(&mut theirs, &mut vec![0; written]).unwrap();
        let (waits, more) = fill(&mut socket).await;
        assert!(waits.is_err() && more > written, "taking something restarts the time");
        let (ended, _) = fill(&mut socket).await;
        assert_eq!(ended.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
