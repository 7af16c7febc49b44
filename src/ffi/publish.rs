//! Publishing: one payload, a message, a batch, a broadcast.

use super::fault::Fault;
use super::guard;
use super::types::*;
use crate::error::Error;
use crate::hub::{ClientId, Mark, Placed, Publication, Replacement, Traceparent};
use crate::server::Server;
use std::ffi::{c_char, c_void};

/// Publishes `len` bytes to a channel.  The payload is text if it is UTF-8, else binary.  If `len`
/// is 0, `data` is not used.  The call never waits for a client.
///
/// PUSH_ERR_INVALID: the channel is empty, longer than 255 bytes, not UTF-8, ends in "*", or has
/// control characters.  PUSH_ERR_TOO_LARGE: the payload is larger than the option `max_message`.
/// PUSH_ERR_BUSY: a queue is full, and nothing was done.  PUSH_ERR_SYSTEM: the log (option
/// `engine`) can't be written, and nothing was done.
///
/// Attached (option `attach`), PUSH_OK says that the message is on its way.  Messages arrive in the
/// order of the calls, each once, even if the hub can't be reached for a while.  PUSH_ERR_BUSY: the
/// option `attach_buffer` is full.  With the option engine_sync=always, too, PUSH_OK says that the
/// message is on its way: it is delivered when the log is synced.
///
/// # Safety
/// `channel` ends in NUL; `data` has `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_publish(
    server: *mut push_server,
    channel: *const c_char,
    data: *const c_void,
    len: usize,
) -> push_status {
    guard::with_server(server, |server| {
        // SAFETY: the caller vouches for the string and for `len` bytes of data.
        let (channel, data) = unsafe { (guard::required_text("channel", channel)?, guard::bytes("data", data, len)?) };
        server.post(&Publication::new(channel, data))?;
        Ok(())
    })
}

/// Publishes one message with all its fields.  `out` (may be NULL) gets its position.
///
/// Attached, a call with `out` waits for the hub's answer, for at most the option `attach_timeout`.
/// If the hub has been away for longer than that, the call does not wait.  With engine_sync=always
/// a call with `out` waits for the sync, for at most the option `engine_timeout`.  PUSH_ERR_BUSY:
/// nothing was done.  PUSH_ERR_TIMEOUT: the message may have been published, or may be published
/// later; with a `key` it is safe to call again.  Without `out` the call does not wait, like
/// push_publish.  The same goes for batches and broadcasts.  Other errors as for push_publish;
/// PUSH_ERR_INVALID also for a field of the message that is not allowed.  PUSH_ERR_UNSUPPORTED:
/// attached, `message->except` is set, and the hub is of a version that does not know it: nothing was
/// done.  Such a hub gets none of these messages, also if it comes while they wait for one.  The same
/// goes for batches and broadcasts.
///
/// # Safety
/// `message` and what it points to can be read; `out` is NULL or can be written.
#[no_mangle]
pub unsafe extern "C" fn push_publish_message(
    server: *mut push_server,
    message: *const push_message,
    out: *mut push_position,
) -> push_status {
    // SAFETY: passed on from the caller.
    unsafe { publish_one(server, message, out, true, Server::post, Server::publish) }
}

/// Publishes `count` messages at once: all of them, or none if there is an error.  If `count` is 0,
/// the call does nothing.  Subscribers get the messages one after the other, with no other message
/// between them.  If the hub shares a log with others, messages of other hubs may stand between
/// them.  All messages have the same value in the field `size`.  `out` (may be NULL) gets `count`
/// positions.  At most 8192 messages are allowed, else PUSH_ERR_INVALID.  PUSH_ERR_TOO_LARGE: more
/// messages than the option `mailbox` could ever hold.  Attached and without `out`, the hub's
/// `mailbox` is the limit of a batch.
///
/// # Safety
/// `messages` has `count` messages; `out` is NULL or has room for `count` positions.
#[no_mangle]
pub unsafe extern "C" fn push_publish_batch(
    server: *mut push_server,
    messages: *const push_message,
    count: usize,
    out: *mut push_position,
) -> push_status {
    guard::with_server(server, |server| {
        if count == 0 {
            return Ok(());
        }
        if count > crate::server::MAX_BATCH {
            return Err(Fault::new(PUSH_ERR_INVALID, "a batch has at most 8192 messages"));
        }
        // SAFETY: the caller vouches for `count` messages of the size that the first one names.
        let messages = unsafe { guard::sized_inputs("messages", messages, count)? };
        let publication = |(index, message): (usize, &push_message)| {
            // SAFETY: as above.
            unsafe { publication(message, true) }.map_err(|fault| fault.of_message(index))
        };
        let publications = messages.iter().enumerate().map(publication).collect::<Result<Vec<_>, _>>()?;
        if out.is_null() {
            server.post_batch(&publications)?;
            return Ok(());
        }
        for (index, placed) in server.publish_batch(&publications)?.iter().take(count).enumerate() {
            // SAFETY: the caller vouches for room for `count` positions, and `index` is below.
            unsafe { write_position(server, out.add(index), placed) };
        }
        Ok(())
    })
}

/// Publishes to every connection, whatever its channels.  `message->channel` is ignored and may be
/// NULL.  In the JSON form the message has type "broadcast".  It is kept like a channel's message,
/// so a client that was away gets it when it comes back.  `out` may be NULL.  Errors as for
/// push_publish_message.
///
/// # Safety
/// As for push_publish_message.
#[no_mangle]
pub unsafe extern "C" fn push_broadcast(
    server: *mut push_server,
    message: *const push_message,
    out: *mut push_position,
) -> push_status {
    // SAFETY: passed on from the caller.
    unsafe { publish_one(server, message, out, false, Server::post_broadcast, Server::broadcast) }
}

/// Publishes one message to all connections of a user: to the channel `user:NAME`, which each
/// connection with this user in its grant or token has without asking (option `user_channel`).  It is
/// a channel like any other: it has a history and positions, so a connection that comes back gets
/// what it missed, and a user who is away gets it later, as long as it is kept.  `message->channel`
/// must be NULL.  A `key` counts among those of this channel.  `out` may be NULL.  Any thread.
/// Nothing of `user` and `message` is kept after the call.
///
/// PUSH_ERR_INVALID: the option `user_channel` is off, also in the hub of an attached host; the user
/// is empty, longer than 250 bytes, not UTF-8, ends in "*", or has control characters, so that no
/// channel can have its name; `message->channel` is not NULL; or as for push_publish_message.
/// push_last_error says which of these.  PUSH_ERR_UNSUPPORTED: attached, and the hub is of a version
/// that does not know users' channels.  Attached and without `out`, the hub may find out only later
/// that its option is off: it does not publish then, counts that (push_stats.undone), and its log
/// says so.  Other errors, and the time that the call waits, as for push_publish_message.
///
/// While the option is on, names that begin with `user:` belong to the library: no client can name
/// one, and a grant that does is PUSH_ERR_INVALID.  The host may name one itself, as in a batch,
/// push_users_get or push_revoke_channel.  Where the option is off, that is an ordinary channel.
///
/// # Safety
/// `user` ends in NUL; `message` and what it points to can be read; `out` is NULL or can be written.
#[no_mangle]
pub unsafe extern "C" fn push_publish_user(
    server: *mut push_server,
    user: *const c_char,
    message: *const push_message,
    out: *mut push_position,
) -> push_status {
    guard::with_server(server, |server| {
        // SAFETY: the caller vouches for the string, the message and `out`.
        unsafe {
            let user = guard::required_text("user", user)?;
            let message = guard::sized_input("message", message)?;
            if !message.channel.is_null() {
                return Err(Fault::new(PUSH_ERR_INVALID, "channel: a message to a user has none; leave it NULL"));
            }
            let (post, publish) = (
                |server: &Server, to: &Publication<'_>| server.post_user(user, to),
                |server: &Server, to: &Publication<'_>| server.publish_user(user, to),
            );
            publish_read(server, &message, out, false, post, publish)
        }
    })
}

/// Ends the stream of a channel.  An end mark takes its place behind the messages published before,
/// with a position of its own.  Subscribers get it as `end`, and so do clients that come later, as
/// long as it is kept: as messages of the channel are (options history_count, history_age,
/// history_bytes and history_total).  A connection whose channels have all ended is closed with
/// 1000 when its client has everything, unless the client could subscribe to others on it; an
/// EventSource does not come back then.  To end a channel that does not exist makes one that
/// has only the end.  To end one that has ended changes nothing, and `out` gets the position of its
/// end; with a log that hubs share, and with engine_sync=always, the end moves to the new position.
/// A message that is published to the channel, or push_begin, opens it anew.  `out` may be NULL.
///
/// PUSH_ERR_INVALID: the channel's name is not allowed (see push_publish; a pattern is no name), the
/// channel keeps no messages, or is that of a user (push_publish_user).  PUSH_ERR_UNSUPPORTED:
/// attached, and the hub is of a version that does not know ends.  Other errors, and the time that
/// the call waits, as for push_publish_message.
///
/// # Safety
/// `channel` ends in NUL; `out` is NULL or can be written.
#[no_mangle]
pub unsafe extern "C" fn push_end(
    server: *mut push_server,
    channel: *const c_char,
    out: *mut push_position,
) -> push_status {
    // SAFETY: passed on from the caller.
    unsafe { publish_mark(server, channel, out, Mark::End) }
}

/// Begins the stream of a channel, or begins it anew: its history is cleared, and a begin mark takes
/// its place, with a position of its own.  Subscribers get it as `begin`.  A client that asks for
/// the channel from its start (`since=start`) then gets everything since, and is told of a gap only
/// if a part of that is no longer kept.  Without this call it is told of a gap also where the hub
/// can't know whether the channel had messages before, as after a hub with a shared log was
/// started.  A client that has the end of the stream before gets `begin` and what follows.  A client
/// that has only a part of it is told of a gap first.  `out` may be NULL.  Errors as for push_end.
///
/// # Safety
/// As for push_end.
#[no_mangle]
pub unsafe extern "C" fn push_begin(
    server: *mut push_server,
    channel: *const c_char,
    out: *mut push_position,
) -> push_status {
    // SAFETY: passed on from the caller.
    unsafe { publish_mark(server, channel, out, Mark::Begin) }
}

/// # Safety
/// As for [`push_end`].
unsafe fn publish_mark(
    server: *mut push_server,
    channel: *const c_char,
    out: *mut push_position,
    mark: Mark,
) -> push_status {
    guard::with_server(server, |server| {
        // SAFETY: the caller vouches for the string.
        let publication = Publication::mark(unsafe { guard::required_text("channel", channel)? }, mark);
        if out.is_null() {
            server.post(&publication)?;
            return Ok(());
        }
        let placed = server.publish(&publication)?;
        // SAFETY: the caller vouches for `out`, which is not NULL.
        unsafe { write_position(server, out, &placed) };
        Ok(())
    })
}

/// Publishes a message with `publish` and writes its position, or with `post` if there is no `out`.
///
/// # Safety
/// As for [`push_publish_message`].
unsafe fn publish_one(
    server: *mut push_server,
    message: *const push_message,
    out: *mut push_position,
    has_channel: bool,
    post: impl FnOnce(&Server, &Publication<'_>) -> Result<(), Error>,
    publish: impl FnOnce(&Server, &Publication<'_>) -> Result<Placed, Error>,
) -> push_status {
    guard::with_server(server, |server| {
        // SAFETY: the caller vouches for the message and all it points to, and for `out`.
        unsafe {
            let message = guard::sized_input("message", message)?;
            publish_read(server, &message, out, has_channel, post, publish)
        }
    })
}

/// The same with a message whose size was checked.
///
/// # Safety
/// As for [`push_publish_message`].
unsafe fn publish_read(
    server: &Server,
    message: &push_message,
    out: *mut push_position,
    has_channel: bool,
    post: impl FnOnce(&Server, &Publication<'_>) -> Result<(), Error>,
    publish: impl FnOnce(&Server, &Publication<'_>) -> Result<Placed, Error>,
) -> Result<(), Fault> {
    // SAFETY: the caller vouches for the message and all it points to.
    let publication = unsafe { publication(message, has_channel)? };
    if out.is_null() {
        post(server, &publication)?;
        return Ok(());
    }
    let placed = publish(server, &publication)?;
    // SAFETY: the caller vouches for `out`, which is not NULL.
    unsafe { write_position(server, out, &placed) };
    Ok(())
}

/// Reads the data that a `push_message` points to.
///
/// # Safety
/// The strings end in NUL, the payload has `len` bytes, and all outlive the result.
unsafe fn publication<'a>(message: &push_message, with_channel: bool) -> Result<Publication<'a>, Fault> {
    if message.flags & !PUSH_MESSAGE_BINARY != 0 || message.reserved != 0 {
        return Err(Fault::new(PUSH_ERR_INVALID, "unknown flags, or reserved is not 0"));
    }
    // SAFETY: passed on from the caller.
    unsafe {
        let channel = if with_channel { guard::required_text("channel", message.channel)? } else { "" };
        let data = guard::bytes("data", message.data, message.len)?;
        let mut publication = Publication::new(channel, data);
        publication.event = guard::optional_text("event", message.event)?;
        publication.key = guard::optional_text("key", message.key)?;
        publication.binary = message.flags & PUSH_MESSAGE_BINARY != 0;
        publication.trace = guard::optional_bytes(message.trace).and_then(Traceparent::parse);
        let except = guard::optional_text("except", message.except)?;
        publication.except = except.map(|id| ClientId::named("except", id)).transpose()?;
        Ok(publication)
    }
}

/// Reads the payload of a `push_message` that replaces a client's.
///
/// # Safety
/// As for [`publication`].
pub(super) unsafe fn replacement<'a>(message: &push_message) -> Result<Replacement<'a>, Fault> {
    // SAFETY: passed on from the caller.
    let Publication { data, event, binary, .. } = unsafe { publication(message, false)? };
    Ok(Replacement { data, event, binary })
}

/// Writes a position.
///
/// # Safety
/// `out` can be written.
unsafe fn write_position(server: &Server, out: *mut push_position, placed: &Placed) {
    let mut position = push_position { seq: placed.seq, text: [0; 56] };
    // SAFETY: the text has its 56 bytes, and the caller vouches for `out`.
    unsafe {
        guard::copy_text(position.text.as_mut_ptr(), 56, &server.position_of(placed));
        out.write(position);
    }
}
