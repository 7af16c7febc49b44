//! Connections that the host hands over, sends to and closes.

use super::fault::Fault;
use super::granted::{read_grant, with_grant};
use super::guard;
use super::types::*;
use crate::error::Error;
use crate::grant::Handover;
use crate::server::Server;
use crate::sys::socket;
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{IntoRawFd, OwnedFd};

/// The grant behind PUSH_GRANT_ALL: the client may subscribe to every channel, has no name, and the
/// grant never ends.  Any thread.  The grant belongs to the library and never changes.
#[no_mangle]
pub extern "C" fn push_grant_all() -> *const push_grant {
    /// The data behind its pointers never changes.
    struct Constant<T>(T);
    // SAFETY: it and everything it points to is static and never written.
    unsafe impl<T> Sync for Constant<T> {}
    static EVERY_CHANNEL: Constant<[*const c_char; 1]> = Constant([c"*".as_ptr()]);
    static ALL: Constant<push_grant> = Constant(push_grant {
        size: size_of::<push_grant>(),
        user: std::ptr::null(),
        channels: std::ptr::null(),
        channel_count: 0,
        expires_at: 0,
        flags: 0,
        reserved: 0,
        patterns: (&raw const EVERY_CHANNEL.0).cast(),
        pattern_count: 1,
        subscribe: std::ptr::null(),
        subscribe_count: 0,
        publish_channels: std::ptr::null(),
        publish_channel_count: 0,
        publish_patterns: std::ptr::null(),
        publish_pattern_count: 0,
        info: std::ptr::null(),
    });
    &ALL.0
}

/// Hands over a client connection that the host has accepted.
///
/// `fd` is a connected stream socket (TCP or Unix), blocking or not.  `head` is what the host has
/// already read of the request, from its first byte; it may be incomplete (the library reads on) or
/// empty.  `grant` says what the client may do; PUSH_GRANT_ALL lets it subscribe to whatever its
/// request names.  NULL is PUSH_ERR_INVALID, unless the option `auth` was set to `none`, which says
/// that anybody may; it is not enough that this is the default.
///
/// On PUSH_OK the descriptor is the library's: forget it, do not close it.  On any error it is
/// still the host's, and untouched: PUSH_ERR_DESCRIPTOR (closed, a file, UDP, listening, not
/// connected, encrypted by the host), PUSH_ERR_INVALID, PUSH_ERR_TOO_LARGE (more than 1 MB was
/// read), PUSH_ERR_LIMIT, PUSH_ERR_BUSY, PUSH_ERR_UNSUPPORTED.  push_refusal writes what the client
/// is told then.
///
/// The library sets TCP_NODELAY on a TCP socket, and turns SO_LINGER off.  If `poll_timeout` is longer than `heartbeat` plus
/// `ping_timeout`, it also sets SO_KEEPALIVE and its times (TCP_KEEPIDLE, TCP_KEEPINTVL,
/// TCP_KEEPCNT) on the connection of a poll that waits.  It does so whatever the host has set.
///
/// The host's own TLS may protect the client's connection if it is in the kernel (TCP_ULP "tls") with
/// the keys of both directions, of TLS 1.2 or 1.3.  `head` then has all that the host's TLS library
/// has decrypted, and the host sends no close_notify.  PUSH_ERR_DESCRIPTOR: the kernel has the keys
/// of one direction only, or none.  PUSH_ERR_UNSUPPORTED: the library or the hub can't do it.
///
/// A host whose TLS is in its own process must relay the connection: it makes a Unix socket pair,
/// hands over one end, and copies bytes between the other end and the client.  If such a host
/// ends before the client does, it calls shutdown(SHUT_WR) on its end, and copies to the client
/// what still comes until the end of the stream.  So the client is told when to come back, as in a
/// drain.
///
/// If the request itself is bad, the library answers the client over HTTP.  The call may serve the
/// client on this thread while the library's thread sleeps.  It never blocks, but takes some
/// microseconds longer: up to a hundred while other threads publish much.  For a client that missed
/// much, it takes as long as writing three times the option `outbox` to its socket.
///
/// Attached (option `attach`), the connection goes to the hub's process and outlives this process.
/// PUSH_OK says that it is on its way.  If the hub has no room, it answers the client with 503.
/// PUSH_ERR_BUSY: the hub can't be reached, or too many connections wait for it.
/// PUSH_ERR_UNSUPPORTED: the grant has `subscribe` or `info`, or the client's TLS is in the kernel, and
/// the hub is too old for that.  If the hub was away and turns out to be too old, the client gets 503.
///
/// # Safety
/// `head` has `head_len` bytes; `grant` is NULL or can be read, with all it points to.
#[no_mangle]
pub unsafe extern "C" fn push_adopt(
    server: *mut push_server,
    fd: c_int,
    head: *const c_void,
    head_len: usize,
    grant: *const push_grant,
) -> push_status {
    // SAFETY: passed on from the caller.
    unsafe { adopt(server, fd, head, head_len, grant, false, Server::hand_over) }
}

/// Like push_adopt, for a connection that others follow at once.  Attached, the connection may wait
/// for them, so that many share one system call.  Call push_flush after the last one in a turn of
/// the host's loop.  If the hub is in this process, the call is the same as push_adopt.
///
/// The call checks at once whether there is room for the connection.  The statuses and the owner of
/// the descriptor are the same as for push_adopt.
///
/// # Safety
/// As for push_adopt.
#[no_mangle]
pub unsafe extern "C" fn push_adopt_more(
    server: *mut push_server,
    fd: c_int,
    head: *const c_void,
    head_len: usize,
    grant: *const push_grant,
) -> push_status {
    // SAFETY: passed on from the caller.
    unsafe { adopt(server, fd, head, head_len, grant, true, Server::hand_over) }
}

/// Sends the connections that push_adopt_more has left waiting.  It never waits.  If there are
/// none, it costs one lock.
#[no_mangle]
pub extern "C" fn push_flush(server: *mut push_server) -> push_status {
    guard::with_server(server, |server| {
        server.flush();
        Ok(())
    })
}

/// Checks a connection that is handed over, and hands it over with `take`.  `followed`: others follow
/// at once.
///
/// # Safety
/// As for [`push_adopt`].
unsafe fn adopt(
    server: *mut push_server,
    fd: c_int,
    head: *const c_void,
    head_len: usize,
    grant: *const push_grant,
    followed: bool,
    take: impl FnOnce(&Server, OwnedFd, Handover<'_>) -> Result<(), (Error, OwnedFd)>,
) -> push_status {
    guard::with_server(server, |server| {
        // SAFETY: the caller vouches for `head_len` bytes.
        let head = unsafe { guard::bytes("head", head, head_len)? };
        let grant = if grant.is_null() {
            None
        } else {
            // SAFETY: the caller vouches for the grant and all it points to.
            Some(unsafe { read_grant(server, grant)? })
        };
        let checked = socket::check_connected_stream(fd).map_err(|text| Fault::new(PUSH_ERR_DESCRIPTOR, text))?;
        // SAFETY: it is open and a socket.  The caller gives it up, unless this fails; then it is
        // given back.
        let fd = unsafe { socket::take(fd) };
        match guard::caught(server, || take(server, fd, Handover { head, grant, checked, followed })) {
            Ok(Err((error, fd))) => {
                let _ = fd.into_raw_fd();
                Err(Fault::from(error))
            }
            // A panic has dropped the descriptor, so it is closed.  An error would let the host
            // close it again, and by then the number may belong to another descriptor.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    })
}

/// Sends `len` bytes to one connection, outside of all channels.  A WebSocket gets one frame, which
/// is text or (PUSH_SEND_BINARY) binary; with subprotocol push.v1.json it gets
/// `{"type":"message","data":…}`.  SSE and stream connections get a message without a position.  A
/// poll can't get it.
///
/// PUSH_ERR_NOT_FOUND: the connection is gone, as far as this thread can know; it may also end
/// before it gets the bytes.  PUSH_ERR_INVALID: text that is not UTF-8, or unknown flags.
/// PUSH_ERR_BUSY: the queue of its thread is full.  PUSH_ERR_TOO_LARGE: more bytes than a message
/// may have.
///
/// Attached, this call and the calls below return PUSH_OK when the request is on its way to the
/// hub.  Only the hub knows whether the connection exists.
///
/// # Safety
/// `data` has `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_send(
    server: *mut push_server,
    connection: push_connection,
    data: *const c_void,
    len: usize,
    flags: u32,
) -> push_status {
    // SAFETY: the caller vouches for `len` bytes.
    unsafe { with_payload(server, data, len, flags, |server, data, binary| server.send(connection, data, binary)) }
}

/// Runs push_send or push_answer, with the payload and whether it is binary.
///
/// # Safety
/// `data` has `len` bytes.
pub(super) unsafe fn with_payload(
    server: *mut push_server,
    data: *const c_void,
    len: usize,
    flags: u32,
    call: impl FnOnce(&Server, &[u8], bool) -> Result<(), Error>,
) -> push_status {
    guard::with_server(server, |server| {
        if flags & !PUSH_SEND_BINARY != 0 {
            return Err(Fault::new(PUSH_ERR_INVALID, "unknown flags"));
        }
        // SAFETY: passed on from the caller.
        let data = unsafe { guard::bytes("data", data, len)? };
        Ok(call(server, data, flags & PUSH_SEND_BINARY != 0)?)
    })
}

/// Closes one connection.  `code` is 1000, 1001, 1008, 1009, 1011 to 1013, or 3000 to 4999;
/// `reason` is NULL or at most 123 bytes.  A WebSocket gets a close frame with both.  SSE and stream
/// connections get an event push-close.  A waiting poll gets the answer 403 if `code` is 1008 or
/// 4403, and otherwise an answer without messages; then its connection is closed.
///
/// PUSH_ERR_NOT_FOUND: the connection is gone.  PUSH_ERR_INVALID: another code, or a reason that is
/// too long.
///
/// # Safety
/// `reason` is NULL or ends in NUL.
#[no_mangle]
pub unsafe extern "C" fn push_close(
    server: *mut push_server,
    connection: push_connection,
    code: u16,
    reason: *const c_char,
) -> push_status {
    // SAFETY: the caller vouches for the string.
    unsafe { with_reason(server, reason, |server, reason| server.close(connection, code, reason)) }
}

/// Runs a call with the reason that a client is told.
///
/// # Safety
/// `reason` is NULL or ends in NUL.
pub(super) unsafe fn with_reason(
    server: *mut push_server,
    reason: *const c_char,
    call: impl Fn(&Server, &str) -> Result<(), Error>,
) -> push_status {
    guard::with_server_dyn(server, &mut |server| {
        // SAFETY: passed on from the caller.
        let reason = unsafe { guard::text_or_empty("reason", reason)? };
        Ok(call(server, reason)?)
    })
}

/// Closes every connection that was granted to `user`, with `code` and `reason` as for push_close;
/// 4403 is usual.  Each of the library's threads does so in its next turn.  The clients may come
/// back with new credentials, or with a token that is still valid.  A user without connections is
/// no error.  PUSH_ERR_INVALID: `user` is NULL, or a code or reason that push_close refuses.
///
/// If the hub shares a log with others (option `engine`), PUSH_OK says that this hub does it now, and
/// that the others do it when they read it in the log.  PUSH_ERR_BUSY: this hub does it, and the others
/// do not, because too much waits to be appended to the log; call again.
///
/// # Safety
/// `user` ends in NUL; `reason` is NULL or ends in NUL.
#[no_mangle]
pub unsafe extern "C" fn push_disconnect_user(
    server: *mut push_server,
    user: *const c_char,
    code: u16,
    reason: *const c_char,
) -> push_status {
    guard::with_server_dyn(server, &mut |server| {
        // SAFETY: the caller vouches for the strings.
        let (user, reason) = unsafe { (guard::required_text("user", user)?, guard::text_or_empty("reason", reason)?) };
        server.disconnect_user(user, code, reason)?;
        Ok(())
    })
}

/// Takes `channel` (a name, or a prefix ending in "*") from every connection that was granted to
/// `user`.  These connections get nothing of it that is published after the call, and can't
/// subscribe to it again.  Messages that wait already for a slow client are still sent.  A client
/// with subprotocol push.v1.json gets `unsubscribed` with `reason` (NULL, or at most 123 bytes).
/// Any other client that has no channel left is closed with 4403; a waiting poll is answered with
/// 403.  The grants of new connections are not affected.
///
/// `channel` may be a name or a prefix.  If you make a name from a client's text and the text ends
/// in "*", the call takes the name as a prefix.  It then takes away more channels than intended,
/// never fewer.
///
/// A user without connections is no error.  PUSH_ERR_INVALID: `user` or `channel` is not allowed,
/// or the reason is too long.
///
/// If the hub shares a log with others, it is as with push_disconnect_user.  The revocation is an
/// entry in the log.  At the other hubs the user gets the channel's messages up to that entry, and
/// none after it.
///
/// # Safety
/// `user` and `channel` end in NUL; `reason` is NULL or ends in NUL.
#[no_mangle]
pub unsafe extern "C" fn push_revoke_channel(
    server: *mut push_server,
    user: *const c_char,
    channel: *const c_char,
    reason: *const c_char,
) -> push_status {
    guard::with_server_dyn(server, &mut |server| {
        // SAFETY: the caller vouches for the strings.
        let (user, channel, reason) = unsafe {
            (
                guard::required_text("user", user)?,
                guard::required_text("channel", channel)?,
                guard::text_or_empty("reason", reason)?,
            )
        };
        server.revoke_channel(user, channel, reason)?;
        Ok(())
    })
}

/// Gives one connection another grant in place of its own, for example because a session was
/// prolonged, a user has logged in, or rights have changed.  The connection goes on until the new
/// grant ends.  Subscriptions that the new grant does not allow end as with push_revoke_channel.
/// If it has another user now, the calls and messages of the user before that wait for the host get an
/// error, and with the option `user_channel` the connection is closed with 1001.  Those who follow the
/// presence of its channels are told of another user or `info`.  `grant` is copied.
///
/// PUSH_ERR_NOT_FOUND: the connection is gone.  PUSH_ERR_INVALID: a field of `grant` is not allowed.
///
/// # Safety
/// `grant` can be read, with all it points to.
#[no_mangle]
pub unsafe extern "C" fn push_renew(
    server: *mut push_server,
    connection: push_connection,
    grant: *const push_grant,
) -> push_status {
    // SAFETY: the caller vouches for the grant and all it points to.
    unsafe { with_grant(server, grant, |server, grant| server.renew(connection, grant)) }
}

#[cfg(test)]
mod tests {
    use super::super::handle;
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn after_a_panic_the_descriptor_is_not_given_back() {
        let mut builder = crate::config::Builder::default();
        builder.set("listen", "none").unwrap();
        let Ok(server) = Server::start(builder).map_err(Fault::from).and_then(handle::insert) else {
            panic!("no start")
        };
        let (handed_over, mut peer) = UnixStream::pair().unwrap();
        let fd = handed_over.into_raw_fd();
        // SAFETY: no head and no grant, and the descriptor is given up.
        let status =
            unsafe { adopt(server, fd, std::ptr::null(), 0, push_grant_all(), false, |_, _fd, _| panic!("planted")) };
        assert_eq!(status, PUSH_OK);
        peer.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "it is closed");
        assert_eq!(super::super::push_stop(server, 0), PUSH_OK);
    }
}
