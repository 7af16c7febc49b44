//! The host's answers: to clients that want to subscribe, that call, and that publish.

use super::connections::{with_payload, with_reason};
use super::fault::Fault;
use super::granted::with_grant;
use super::guard;
use super::publish::replacement;
use super::types::*;
use std::ffi::{c_char, c_void};

/// Answers PUSH_EVENT_REQUEST (option auth=host) with yes: the client may do what `grant` says, as
/// with push_adopt.  `grant` is copied; NULL is PUSH_ERR_INVALID.
///
/// PUSH_ERR_NOT_FOUND: `request` is not the number of a request.  An answer changes nothing if the
/// request was already answered, if its client has gone, or if the client was refused after the
/// option `auth_timeout`.
///
/// # Safety
/// `grant` can be read, with all it points to.
#[no_mangle]
pub unsafe extern "C" fn push_allow(
    server: *mut push_server,
    request: push_request,
    grant: *const push_grant,
) -> push_status {
    // A grant is required even if `auth` is `none`: the host is not asked then.
    // SAFETY: the caller vouches for the grant and all it points to.
    unsafe { with_grant(server, grant, |server, grant| server.allow(request, grant)) }
}

/// Answers PUSH_EVENT_CALL with `len` bytes, which are text or (PUSH_SEND_BINARY) binary.  The client
/// gets `{"type":"answer","data":…}` with the number of its call.
///
/// PUSH_ERR_NOT_FOUND: `request` is a number that this server gives to no request.  An answer changes
/// nothing if the call was already answered, if its client has gone or has another user now
/// (push_renew), or after the option `call_timeout`.  The same goes for an answer of the wrong kind:
/// push_allow to a call, or push_answer to PUSH_EVENT_REQUEST.
/// PUSH_ERR_INVALID: text that is not UTF-8, or unknown flags.  PUSH_ERR_BUSY: the queue of its
/// thread is full.  PUSH_ERR_TOO_LARGE: more bytes than a message may have.
/// PUSH_ERR_UNSUPPORTED: the hub (option attach) is too old for it.
///
/// # Safety
/// `data` has `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_answer(
    server: *mut push_server,
    request: push_request,
    data: *const c_void,
    len: usize,
    flags: u32,
) -> push_status {
    // SAFETY: the caller vouches for `len` bytes.
    unsafe { with_payload(server, data, len, flags, |server, data, binary| server.answer_call(request, data, binary)) }
}

/// Answers PUSH_EVENT_PUBLISH (option client_publish=host) with yes: the client's message is published.
/// `instead` is NULL: it is published as the client sent it.  Otherwise the payload of `instead` is
/// published in its place, with `event` as its event type; if `event` is NULL, the client's event
/// type stays: it can be replaced, but not removed.  The channel and the key stay the client's, so
/// `instead->channel`, `->key`, `->trace` and `->except` must be NULL.  `instead` is copied.
///
/// What one connection publishes is published in the order in which the client sent it, whatever the
/// order of the answers.  Right before, the library looks again at what the client may do: if its
/// right was taken away since the event, the message is not published.  Nor is it if the host has
/// closed the connection, disconnected the user, or given the connection to another user
/// (push_renew).  If the client has gone by itself, it is published all the same.
///
/// PUSH_OK says that the answer is on its way, and not that the message is published.  A host that
/// must know subscribes to the channel, or publishes by itself and denies the client's message.  The
/// message is not published in the cases above, and in these:
/// - The hub is busy, as with PUSH_ERR_BUSY of push_publish, or can't write its log.  Then it tries
///   again until `call_timeout` after the client's message came.
/// - The payload of `instead` is larger than the client's, has to wait for earlier messages of the
///   connection, and the option `inbox_total` is reached.
/// - The option `max_message` was made smaller since then.
/// - The server stops while the message waits for earlier ones.
///
/// The client gets an error if it is still there and the server does not stop.  Otherwise, and if the
/// hub had no room, there is a line in the log.
///
/// PUSH_ERR_NOT_FOUND: `request` is a number that this server gives to no request.  An answer changes
/// nothing if the message already has its answer, or after the option `call_timeout`.  The same goes
/// for an answer of the wrong kind, such as push_allow or push_answer to this event.
/// PUSH_ERR_INVALID: a field of `instead` that is not allowed.  PUSH_ERR_TOO_LARGE: its payload is
/// larger than the option `max_message`.  PUSH_ERR_BUSY: the queue of its thread is full.
/// PUSH_ERR_UNSUPPORTED: the hub (option attach) is too old for it.
///
/// # Safety
/// `instead` is NULL, or can be read with all it points to.
#[no_mangle]
pub unsafe extern "C" fn push_allow_publish(
    server: *mut push_server,
    request: push_request,
    instead: *const push_message,
) -> push_status {
    guard::with_server(server, |server| {
        if instead.is_null() {
            server.allow_publish(request, None)?;
            return Ok(());
        }
        // SAFETY: the caller vouches for the message and all it points to.
        let message = unsafe { guard::sized_input("instead", instead)? };
        let set =
            [("channel", message.channel), ("key", message.key), ("trace", message.trace), ("except", message.except)];
        if let Some((name, _)) = set.iter().find(|(_, field)| !field.is_null()) {
            let text = format!("{name}: the client's message has its own; leave it NULL");
            return Err(Fault::new(PUSH_ERR_INVALID, text));
        }
        // SAFETY: as above.
        server.allow_publish(request, Some(&unsafe { replacement(&message)? }))?;
        Ok(())
    })
}

/// Answers PUSH_EVENT_REQUEST, PUSH_EVENT_CALL or PUSH_EVENT_PUBLISH with no: the client gets `status`
/// (401, 403, 429 or 503) with the message `reason` (at most 255 bytes; NULL: "not allowed").
///
/// PUSH_ERR_INVALID: another status, or a reason that is too long.  Other errors as for push_allow.
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
    // SAFETY: the caller vouches for the string.
    unsafe { with_reason(server, reason, |server, reason| server.deny(request, status, reason)) }
}
