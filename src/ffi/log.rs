//! Log lines, pulled by the host.

use super::fault::Fault;
use super::guard;
use super::pulled;
use super::types::*;
use crate::callbacks;
use crate::error::Kind;
use crate::log::Line;
use std::ffi::{c_int, CString};
use std::mem::offset_of;
use std::time::{Duration, UNIX_EPOCH};

/// Returns a descriptor that is readable while log lines wait for push_next_log, for poll, select or
/// epoll.  Only watch it: do not read or close it.  After push_stop it stays readable, so a thread
/// that watches it takes the last lines and then gets PUSH_ERR_CLOSED.  The library closes the
/// descriptor when push_next_log returns PUSH_ERR_CLOSED: do not watch it any more after that.  If that
/// never happens, the library closes it when it forgets the lines (see push_next_log).  -1: the handle
/// is not a server, its option `log` is not `pull`, or the descriptor is closed.  (The option `log_fd`
/// is something else: a descriptor of the host that the library writes to.)
#[no_mangle]
pub extern "C" fn push_log_line_fd(server: *mut push_server) -> c_int {
    let mut fd = -1;
    guard::status(|| {
        fd = pulled::find(server)?.fd().unwrap_or(-1);
        Ok(())
    });
    fd
}

/// Takes the next log line, if the option `log` is `pull`.  No thread of the library then calls into
/// the host for the log.  The call waits for at most `timeout_ms` milliseconds: 0 does not wait, and
/// -1 waits for ever.  PUSH_ERR_TIMEOUT: no line came.  PUSH_ERR_CALLBACK: a callback made the call.
/// PUSH_ERR_UNSUPPORTED: the option `log` is not `pull`.
///
/// Start from `push_log_line line = PUSH_LOG_LINE_INIT;` and pass the same struct again and again.
/// Its pointer stays valid until it is passed again or cleared, whatever other threads do.  Finally
/// call push_log_line_clear.  `out_size` is sizeof(push_log_line).
///
/// Lines wait from push_start on, at most 4,096.  Further lines are dropped and counted
/// (push_stats.logs_dropped), and the next one that finds room says how many.  If none comes, the last
/// line of the stop says so: "the log ends here (lines dropped before this one: 12)".
///
/// push_stop logs, too.  During push_stop another thread gets these lines, and then PUSH_ERR_CLOSED.
/// Those that nobody has taken can be read after push_stop, with the same handle, until the call
/// returns PUSH_ERR_CLOSED.  The library keeps them for the 16 servers that were stopped last, and
/// with them the descriptor of push_log_line_fd, if the host has asked for it.
///
/// # Safety
/// `out` has `out_size` bytes and was initialized, or comes from an earlier call.
#[no_mangle]
pub unsafe extern "C" fn push_next_log(
    server: *mut push_server,
    out: *mut push_log_line,
    out_size: usize,
    timeout_ms: c_int,
) -> push_status {
    guard::status(|| {
        // The server may stop meanwhile, and the queue stays.
        let lines = pulled::find(server)?;
        guard::not_null("out", out)?;
        // This is checked before a line is taken, since the line could not be put back.
        guard::check_has_owner(out_size, offset_of!(push_log_line, owner))?;
        if callbacks::is_callback_thread() {
            return Err(Fault::new(PUSH_ERR_CALLBACK, "push_next_log is not allowed in a callback"));
        }
        let line = lines.next(u64::try_from(timeout_ms).ok().map(Duration::from_millis)).inspect_err(|error| {
            if error.kind() == Kind::Closed {
                pulled::forget(server);
            }
        })?;
        // SAFETY: the caller vouches for `out_size` initialized bytes at `out`.
        unsafe {
            push_log_line_clear(out);
            guard::write_sized(out, out_size, &into_view(&line))
        }
    })
}

/// Frees the text that a line points to, and empties the line.  NULL or an empty line does nothing.
/// It may be called after push_stop.
///
/// # Safety
/// `line` was initialized, or filled by push_next_log.
#[no_mangle]
pub unsafe extern "C" fn push_log_line_clear(line: *mut push_log_line) {
    if line.is_null() {
        return;
    }
    // SAFETY: the caller vouches for an initialized line; `owner` is NULL or was made by
    // `into_view`, and is set to NULL here, so that it is freed once.
    unsafe {
        let owner = std::mem::replace(&mut (*line).owner, std::ptr::null_mut());
        if !owner.is_null() {
            drop(CString::from_raw(owner.cast()));
        }
        (*line).text = std::ptr::null();
        (*line).len = 0;
    }
}

/// The C form, which owns its text until `push_log_line_clear`.
fn into_view(line: &Line) -> push_log_line {
    // Control characters are escaped in a line, so there is no NUL inside.
    let text = CString::new(&*line.text()).unwrap_or_default();
    let len = text.as_bytes().len();
    let owner = text.into_raw();
    push_log_line {
        size: size_of::<push_log_line>(),
        level: line.level() as i32,
        reserved: 0,
        time_ms: line.time().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64),
        text: owner,
        len,
        owner: owner.cast(),
    }
}
