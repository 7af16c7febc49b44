//! The response to a client that the host turns away itself.

use super::fault::Fault;
use super::types::*;
use super::{guard, handle};
use crate::config::Config;
use crate::http::turned_away::{self, Why, Words, MAX_RESPONSE};
use std::ffi::{c_char, c_void};

const _: () = assert!(PUSH_REFUSAL_MAX == MAX_RESPONSE);

/// Writes the HTTP response to a client that the host turns away itself, with the status, header
/// lines, words and times of the library's own refusals.  The host sends it and closes the
/// connection.  Clients that are turned away together are told to come back at different times.
///
/// `why` is the status of the call that failed, such as PUSH_ERR_BUSY of push_adopt, or the host's
/// own reason: an HTTP status from 400 to 599.  `code` (at most 64 bytes) is a word for programs and
/// `message` (at most 1024 bytes) a sentence for people; the client gets both.  NULL: the library's
/// own words.
///
/// `head` is what the host has read of the request, from its first byte.  It may be incomplete or
/// empty.  It decides two things.  The first is the form.  An EventSource never comes back after an
/// error status.  So if the same request may succeed later (408, 425, 429, and 500 and above), an
/// EventSource gets an event stream that tells it when to come back.  The second is whether a page
/// of another origin can read the response.  It can if the option `allowed_origins` of `server`
/// allows the origin, or if `why` is a failed call and `code` and `message` are NULL.
///
/// `server` may be NULL or have been stopped: its options then have their defaults.  The option
/// `retry` is the time for an EventSource.
///
/// `out` gets `*out_len` bytes, without a NUL.  PUSH_REFUSAL_MAX bytes are always enough.
/// PUSH_ERR_TOO_LARGE: `out_size` is too small.  PUSH_ERR_INVALID: `why`, `code` or `message` is not
/// allowed.  Any thread; it never waits.
///
/// # Safety
/// `code` and `message` are NULL or end in NUL; `head` has `head_len` bytes; `out` has `out_size`
/// bytes; `out_len` can be written.
#[no_mangle]
pub unsafe extern "C" fn push_refusal(
    server: *mut push_server,
    why: i32,
    code: *const c_char,
    message: *const c_char,
    head: *const c_void,
    head_len: usize,
    out: *mut c_void,
    out_size: usize,
    out_len: *mut usize,
) -> push_status {
    guard::status(|| {
        guard::not_null("out", out)?;
        guard::not_null("out_len", out_len)?;
        // SAFETY: the caller vouches for the strings, and for `head_len` bytes.
        let (words, head) = unsafe {
            let code = guard::optional_text("code", code)?;
            let message = guard::optional_text("message", message)?;
            (Words { code, message }, guard::bytes("head", head, head_len)?)
        };
        let why = match why {
            ..0 => Why::Failed(Fault::kind(why)),
            status => Why::Status(status),
        };
        let response = match handle::enter(server) {
            Ok(server) => turned_away::response(why, words, head, &server.config())?,
            Err(_) => turned_away::response(why, words, head, &Config::default())?,
        };
        if response.len() > out_size {
            let text = format!("out_size is {out_size}; PUSH_REFUSAL_MAX bytes are always enough");
            return Err(Fault::new(PUSH_ERR_TOO_LARGE, text));
        }
        // SAFETY: the caller vouches for `out_size` bytes, which are enough, and for `out_len`.
        unsafe {
            std::ptr::copy_nonoverlapping(response.as_ptr(), out.cast::<u8>(), response.len());
            out_len.write(response.len());
        }
        Ok(())
    })
}
