//! Connections that the host hands over, answers and closes.

use super::fault::Fault;
use super::guard;
use super::types::*;
use crate::error::Error;
use crate::grant::Grant;
use crate::log::Level;
use crate::server::Server;
use crate::sys::socket;
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{IntoRawFd, OwnedFd};

/// What PUSH_GRANT_ALL stands for: a grant of every channel, to subscribe only, for a client without
/// a name and without an end.  Any thread; it is the library's and stays as it is.
#[no_mangle]
pub extern "C" fn push_grant_all() -> *const push_grant {
    /// What its pointers lead to never changes.
    struct Constant<T>(T);
    // SAFETY: it and all it points to is static and only ever read.
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
/// connected), PUSH_ERR_INVALID, PUSH_ERR_TOO_LARGE (more than 1 MB was read), PUSH_ERR_LIMIT,
/// PUSH_ERR_BUSY.
///
/// The library sets TCP_NODELAY on a TCP socket, and for a poll that waits for longer than
/// `heartbeat` and `ping_timeout` also SO_KEEPALIVE with its times (TCP_KEEPIDLE, TCP_KEEPINTVL,
/// TCP_KEEPCNT), whatever the host has set.
///
/// If the request itself is bad, the client is told so over HTTP.  The call may serve it on this
/// thread, while the library's sleeps.  That never blocks, but takes some microseconds more: up to
/// a hundred while other threads publish much, and for a client that missed much as long as writing
/// three times the option `outbox` to its socket.
///
/// Attached (option `attach`), the connection goes to the hub's process and outlives this one.
/// PUSH_OK says that it is on its way; a hub that has no room answers the client with 503.
/// PUSH_ERR_BUSY: the hub is away, or too many wait.
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
    unsafe { adopt(server, fd, head, head_len, grant, Server::adopt_checked) }
}

/// As push_adopt, for a connection that others follow at once: attached, it may wait for them, so
/// that many share one system call.  After the last of a turn of the host's loop call push_flush.
/// With the hub in this process it is push_adopt.
///
/// Whether there is room for it is known at once: statuses, and whose the descriptor is then, are
/// those of push_adopt.
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
    unsafe { adopt(server, fd, head, head_len, grant, Server::adopt_more_checked) }
}

/// Sends the connections that push_adopt_more has left waiting.  Never waits itself; without any it
/// costs a lock.
#[no_mangle]
pub extern "C" fn push_flush(server: *mut push_server) -> push_status {
    guard::with_server(server, |server| {
        server.flush();
        Ok(())
    })
}

/// Checks what is handed over, and hands it over by `take`.
///
/// # Safety
/// As for [`push_adopt`].
unsafe fn adopt(
    server: *mut push_server,
    fd: c_int,
    head: *const c_void,
    head_len: usize,
    grant: *const push_grant,
    take: impl FnOnce(&Server, OwnedFd, &[u8], Option<Grant>, bool) -> Result<(), (Error, OwnedFd)>,
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
        let delays = socket::check_connected_stream(fd).map_err(|text| Fault::new(PUSH_ERR_DESCRIPTOR, text))?;
        // SAFETY: open and a socket; the caller gives it up unless this fails, and then it is given
        // back.
        let fd = unsafe { socket::take(fd) };
        match guard::caught(server, || take(server, fd, head, grant, delays)) {
            Ok(Err((error, fd))) => {
                let _ = fd.into_raw_fd();
                Err(Fault::from(error))
            }
            // A panic has dropped it: closed it is, and the host, which closes what it has back,
            // would close whatever has its number by then.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    })
}

/// Sends `len` bytes to one WebSocket, apart from all channels: as one frame, text or
/// (PUSH_SEND_BINARY) binary; with subprotocol push.v1.json as `{"type":"message","data":…}`.  SSE
/// and stream connections get it as a message without a position; a poll can't get it.
///
/// PUSH_ERR_NOT_FOUND: the connection is gone, as far as this thread can know; it may also go
/// before the bytes do.  PUSH_ERR_INVALID: text that is not UTF-8, or unknown flags.
/// PUSH_ERR_BUSY: its thread's queue is full.
///
/// Attached, this and the calls below say PUSH_OK when they are on their way; whether there is such
/// a connection only the hub knows.
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
    guard::with_server(server, |server| {
        if flags & !PUSH_SEND_BINARY != 0 {
            return Err(Fault::new(PUSH_ERR_INVALID, "unknown flags"));
        }
        // SAFETY: the caller vouches for `len` bytes.
        let data = unsafe { guard::bytes("data", data, len)? };
        server.send(connection, data, flags & PUSH_SEND_BINARY != 0)?;
        Ok(())
    })
}

/// Says yes to PUSH_EVENT_REQUEST (option auth=host): the client may do what `grant` says, as with
/// push_adopt; NULL is PUSH_ERR_INVALID.  `grant` is copied.
///
/// PUSH_ERR_NOT_FOUND: `request` is not the number of a request.  An answer to one that was
/// answered, or whose client has gone or was refused after the option `auth_timeout`, changes
/// nothing.
///
/// # Safety
/// `grant` can be read, with all it points to.
#[no_mangle]
pub unsafe extern "C" fn push_allow(
    server: *mut push_server,
    request: push_request,
    grant: *const push_grant,
) -> push_status {
    guard::with_server_seldom(server, &mut |server| {
        // Not even where anybody may: there the host is not asked.
        // SAFETY: the caller vouches for the grant and all it points to.
        let grant = unsafe { read_grant(server, grant)? };
        server.allow(request, grant)?;
        Ok(())
    })
}

/// Says no to PUSH_EVENT_REQUEST: the client gets `status` (401, 403, 429 or 503) with `reason`
/// (NULL, or at most 255 bytes) as its message.  Errors as for push_allow.
///
/// # Safety
/// `reason` is NULL or ends in NUL.
#[no_mangle]
pub unsafe extern "C" fn push_deny(
    server: *mut push_server,
    request: push_request,
    status: u16,
    reason: *const c_char,
) -> push_status {
    guard::with_server_seldom(server, &mut |server| {
        // SAFETY: the caller vouches for the string.
        let reason = unsafe { guard::optional_text("reason", reason)? }.unwrap_or("");
        server.deny(request, status, reason)?;
        Ok(())
    })
}

/// Closes one connection.  WebSocket: a close frame with `code` (1000, 1001, 1008, 1009, 1011 to
/// 1013, or 3000 to 4999) and `reason` (NULL, or at most 123 bytes); SSE and stream: an event
/// push-close with both; a waiting poll is answered, with 403 for 1008 and 4403, else without
/// messages, and ended.
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
    guard::with_server_seldom(server, &mut |server| {
        // SAFETY: the caller vouches for the string.
        let reason = unsafe { guard::optional_text("reason", reason)? }.unwrap_or("");
        server.close(connection, code, reason)?;
        Ok(())
    })
}

/// Closes every connection that was granted to `user`, with 4403 or another code as for push_close.
/// Each thread looks for them in its next turn.  Their clients may come back with new credentials,
/// or with a token that is still valid.
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
    guard::with_server_seldom(server, &mut |server| {
        // SAFETY: the caller vouches for the strings.
        let (user, reason) =
            unsafe { (guard::required_text("user", user)?, guard::optional_text("reason", reason)?.unwrap_or("")) };
        server.disconnect_user(user, code, reason)?;
        Ok(())
    })
}

/// Takes `channel` (a name, or a prefix ending in "*") from every connection that was granted to
/// `user`, at once: they get nothing more of it and can't subscribe to it again.  A client of
/// subprotocol push.v1.json is told `unsubscribed` with `reason` (NULL, or at most 123 bytes); any
/// other that has no channel left is closed with 4403, a waiting poll answered with 403.  New
/// connections get what their own grant says.
///
/// Names and prefixes come in one text here.  One that ends in what a client says may be a prefix,
/// and then takes more than was meant, never less.
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
    guard::with_server_seldom(server, &mut |server| {
        // SAFETY: the caller vouches for the strings.
        let (user, channel, reason) = unsafe {
            (
                guard::required_text("user", user)?,
                guard::required_text("channel", channel)?,
                guard::optional_text("reason", reason)?.unwrap_or(""),
            )
        };
        server.revoke_channel(user, channel, reason)?;
        Ok(())
    })
}

/// Gives one connection another grant, in place of the one it has: a session was prolonged, a user
/// has logged in, rights have changed.  It goes on until the new grant ends; subscriptions that
/// this does not allow end as with push_revoke_channel.  `grant` is copied.
///
/// PUSH_ERR_NOT_FOUND: the connection is gone.
///
/// # Safety
/// `grant` can be read, with all it points to.
#[no_mangle]
pub unsafe extern "C" fn push_renew(
    server: *mut push_server,
    connection: push_connection,
    grant: *const push_grant,
) -> push_status {
    guard::with_server_seldom(server, &mut |server| {
        // SAFETY: the caller vouches for the grant and all it points to.
        let grant = unsafe { read_grant(server, grant)? };
        server.renew(connection, grant)?;
        Ok(())
    })
}

/// Reads a grant. A host that gives one that can't be is told why in the log: it gets no more than a status.
///
/// # Safety
/// As for [`guard::sized_input`] and [`read_granted`].
unsafe fn read_grant(server: &Server, grant: *const push_grant) -> Result<Grant, Fault> {
    // SAFETY: passed on from the caller.
    unsafe { guard::sized_input("grant", grant).and_then(|grant| read_granted(&grant)) }.inspect_err(|fault| {
        server.log().limited(Level::Warn, "grant", format_args!("a push_grant is refused: {}", fault.text));
    })
}

/// Reads what a `push_grant` points to.
///
/// # Safety
/// The strings end in NUL; `channels` and `patterns` have as many as their counts say.
unsafe fn read_granted(grant: &push_grant) -> Result<Grant, Fault> {
    let known = PUSH_GRANT_PUBLISH | PUSH_GRANT_KEEP_ALIVE;
    if grant.flags & !known != 0 || grant.reserved != 0 {
        return Err(Fault::new(PUSH_ERR_INVALID, "unknown flags, or reserved is not 0"));
    }
    // SAFETY: the caller vouches for the lists and the string.
    let (channels, patterns, user) = unsafe {
        (
            read_texts("channels", grant.channels, grant.channel_count)?,
            read_texts("patterns", grant.patterns, grant.pattern_count)?,
            guard::optional_text("user", grant.user)?,
        )
    };
    Ok(Grant::new(
        user,
        &channels,
        &patterns,
        grant.expires_at,
        grant.flags & PUSH_GRANT_PUBLISH != 0,
        grant.flags & PUSH_GRANT_KEEP_ALIVE != 0,
    )?)
}

/// # Safety
/// `texts` has `count` strings that end in NUL.
unsafe fn read_texts(name: &str, texts: *const *const c_char, count: usize) -> Result<Vec<String>, Fault> {
    if count > crate::grant::MAX_CHANNELS {
        return Err(Fault::new(PUSH_ERR_INVALID, "a grant has at most 1000 channels"));
    }
    if count > 0 {
        guard::not_null(name, texts)?;
    }
    // SAFETY: below `count`, which the caller vouches for.
    (0..count).map(|index| Ok(unsafe { guard::required_text(name, *texts.add(index))? }.to_owned())).collect()
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
    fn what_a_panic_has_closed_is_not_the_hosts_again() {
        let mut builder = crate::config::Builder::default();
        builder.set("listen", "none").unwrap();
        let Ok(server) = Server::start(builder).map_err(Fault::from).and_then(handle::insert) else {
            panic!("no start")
        };
        let (handed_over, mut peer) = UnixStream::pair().unwrap();
        let fd = handed_over.into_raw_fd();
        // SAFETY: no head and no grant, and the descriptor is given up.
        let status =
            unsafe { adopt(server, fd, std::ptr::null(), 0, push_grant_all(), |_, _fd, _, _, _| panic!("planted")) };
        assert_eq!(status, PUSH_OK);
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "it is closed");
        assert_eq!(super::super::push_stop(server, 0), PUSH_OK);
    }
}
