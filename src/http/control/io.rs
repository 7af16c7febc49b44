//! A socket as hyper wants it, whose writes never raise SIGPIPE.

use crate::sys::socket;
use crate::sys::watched::{watch, Open};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// One read takes at most this much.
const CHUNK: usize = 16 * 1024;

/// A TCP or Unix connection.
#[derive(Debug)]
pub(super) struct Socket(AsyncFd<Open>);

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        socket::set_nodelay(&fd);
        watch(Arc::new(fd), Interest::READABLE | Interest::WRITABLE).map(Socket)
    }
}

impl Read for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let room = into.remaining().min(CHUNK);
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            if let Ok(result) = guard.try_io(|fd| socket::recv(fd.get_ref().fd(), &mut chunk[..room])) {
                into.put_slice(&chunk[..result?]);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(result) = guard.try_io(|fd| socket::send(fd.get_ref().fd(), bytes)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket::shutdown_write(self.0.get_ref().fd());
        Poll::Ready(Ok(()))
    }
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
