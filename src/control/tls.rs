//! TLS for the control API, in the form that hyper wants.

use super::io::{Channel, Socket};
use crate::http::refusal::Refusal;
use crate::metrics::Reason;
use crate::tls::outcome::{self, Failure};
use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

/// How many bytes may wait in the connection to be sent.
const UNSENT: usize = 64 * 1024;
/// How much is read at once.
const CHUNK: usize = 16 * 1024;
/// The first byte of a TLS client (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection that speaks TLS. Its handshake is a part of reading, so it has the time of a request's head.
#[derive(Debug)]
pub(super) struct Secure {
    socket: Socket,
    connection: Box<ServerConnection>,
    /// Bytes that came and for which the connection has no room yet, at most [`CHUNK`].
    waiting: Vec<u8>,
    has_begun: bool,
    /// The client has said goodbye, or is gone. What it sends behind that is ignored (RFC 8446, section 6.1).
    has_ended: bool,
    failure: Option<(Reason, String)>,
}

impl Secure {
    pub(super) fn new(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut connection = Box::new(ServerConnection::new(config).map_err(io::Error::other)?);
        connection.set_buffer_limit(Some(UNSENT));
        Ok(Secure { socket, connection, waiting: Vec::new(), has_begun: false, has_ended: false, failure: None })
    }

    /// Takes bytes that came. Those behind the content that has still to be read wait. After an error the alert waits
    /// to be sent.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let Some(first) = bytes.first().filter(|_| !std::mem::replace(&mut self.has_begun, true)) {
            if *first != TLS_HANDSHAKE {
                return Err(self.refuse_plain(first.is_ascii_alphabetic()));
            }
        }
        while !bytes.is_empty() && self.connection.wants_read() {
            let taken = self.connection.read_tls(&mut bytes)?;
            match self.connection.process_new_packets() {
                Ok(state) => self.has_ended |= state.peer_has_closed() || taken == 0,
                Err(error) => {
                    let mut alert = Vec::new();
                    let _ = self.connection.write_tls(&mut alert);
                    self.failure = Some(match outcome::names_the_name(&mut alert) {
                        true => (Reason::TlsName, format!("TLS: {}", Failure::Name)),
                        false => (Reason::Tls, format!("TLS: {error}")),
                    });
                    let _ = self.socket.write(&alert);
                    return Err(io::Error::other(error));
                }
            }
            if self.has_ended {
                return Ok(());
            }
        }
        self.waiting = bytes.to_vec();
        Ok(())
    }

    /// Tells a client that does not speak TLS, if it speaks HTTP.
    fn refuse_plain(&mut self, is_http: bool) -> io::Error {
        if is_http {
            let text = "this port speaks HTTPS: the address begins with https://";
            let _ = self.socket.write_all(&Refusal::malformed("not_tls", text).response(""));
        }
        let what = if is_http { "plain HTTP" } else { "something else" };
        self.failure = Some((Reason::NotTls, format!("the client speaks {what} at an address for TLS")));
        ErrorKind::InvalidData.into()
    }

    /// Sends what waits, until all of it is sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(self.socket.poll_room(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Channel for Secure {
    fn end(self) -> (Socket, Option<(Reason, String)>) {
        (self.socket, self.failure)
    }
}

impl Read for Secure {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let room = into.remaining().min(CHUNK);
        loop {
            match self.connection.reader().read(&mut chunk[..room]) {
                Ok(len) => {
                    into.put_slice(&chunk[..len]);
                    return Poll::Ready(Ok(()));
                }
                // If it went without a goodbye, hyper sees what was cut off, if anything.
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.has_ended => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            // A part of the handshake may wait to be sent. If there is no room, its readiness wakes us.
            let sent = self.poll_send(cx);
            if let Poll::Ready(Err(error)) = sent {
                return Poll::Ready(Err(error));
            }
            let len = match std::mem::take(&mut self.waiting) {
                waiting if waiting.is_empty() => ready!(self.socket.poll_recv(cx, &mut chunk))?,
                waiting if self.connection.wants_read() => {
                    chunk[..waiting.len()].copy_from_slice(&waiting);
                    waiting.len()
                }
                // All content was read, so the handshake has to be sent first.
                waiting => {
                    self.waiting = waiting;
                    return sent.map(|_| Err(ErrorKind::InvalidData.into()));
                }
            };
            self.has_ended |= len == 0;
            self.take(&chunk[..len])?;
        }
    }
}

impl Write for Secure {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let taken = self.connection.writer().write(bytes)?;
            match self.poll_send(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Ready(Ok(())) if taken == 0 && !bytes.is_empty() => {}
                _ => return Poll::Ready(Ok(taken)),
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failure.is_none() {
            self.connection.send_close_notify();
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
