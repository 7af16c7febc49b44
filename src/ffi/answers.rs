//! The host's answers: to clients that want to subscribe, and to clients that call.

use super::connections::send_flags;
use super::granted::read_grant;
use super::guard;
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
    guard::with_server_dyn(server, &mut |server| {
        // A grant is required even if `auth` is `none`: the host is not asked then.
        // SAFETY: the caller vouches for the grant and all it points to.
        let grant = unsafe { read_grant(server, grant)? };
        server.allow(request, grant)?;
        Ok(())
    })
}

/// Answers PUSH_EVENT_CALL with `len` bytes, which are text or (PUSH_SEND_BINARY) binary.  The client
/// gets `{"type":"answer","data":…}` with the number of its call.
///
/// PUSH_ERR_NOT_FOUND: `request` is a number that this server gives to no request.  An answer changes
/// nothing if the call was already answered, if its client has gone, or after the option
/// `call_timeout`.  The same goes for an answer of the wrong kind: push_allow to a call, or
/// push_answer to PUSH_EVENT_REQUEST.
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
    guard::with_server(server, |server| {
        let binary = send_flags(flags)?;
        // SAFETY: the caller vouches for `len` bytes.
        let data = unsafe { guard::bytes("data", data, len)? };
        server.answer_call(request, data, binary)?;
        Ok(())
    })
}

/// Answers PUSH_EVENT_REQUEST or PUSH_EVENT_CALL with no: the client gets `status` (401, 403, 429 or 503) with the
/// message `reason` (NULL, or at most 255 bytes).  Errors as for push_allow.
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
    guard::with_server_dyn(server, &mut |server| {
        // SAFETY: the caller vouches for the string.
        let reason = unsafe { guard::text_or_empty("reason", reason)? };
        server.deny(request, status, reason)?;
        Ok(())
    })
}
