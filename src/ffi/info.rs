//! Versions, and sentences for status numbers.

use super::types::*;
use std::ffi::c_char;

/// Returns the library's version, as "0.1.0".  Any thread.  The string belongs to the library and
/// stays valid.
#[no_mangle]
pub extern "C" fn push_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Returns the PUSH_ABI_VERSION that the library was built with, for hosts that load it at run
/// time.
#[no_mangle]
pub extern "C" fn push_abi_version() -> u32 {
    PUSH_ABI_VERSION
}

/// Returns a sentence for a status; push_last_error says more.  Any thread, any number.  The string
/// belongs to the library and stays valid.
#[no_mangle]
pub extern "C" fn push_strerror(status: push_status) -> *const c_char {
    let text = match status {
        PUSH_OK => c"success",
        PUSH_ERR_INVALID => c"an argument is not allowed",
        PUSH_ERR_CONFIG => c"unknown option, or its value is not allowed",
        PUSH_ERR_TOO_LARGE => c"the payload is larger than max_message",
        PUSH_ERR_BUSY => c"a queue is full, or the hub can't be reached; nothing was done, try again",
        PUSH_ERR_NOT_FOUND => c"no such connection",
        PUSH_ERR_CLOSED => c"the server was stopped, or the handle is not one",
        PUSH_ERR_TIMEOUT => c"nothing came within the time given",
        PUSH_ERR_DESCRIPTOR => c"not a connected stream socket",
        PUSH_ERR_FORKED => c"called in a process forked after push_start",
        PUSH_ERR_CALLBACK => c"not allowed from a callback",
        PUSH_ERR_SYSTEM => c"the operating system refused",
        PUSH_ERR_INTERNAL => c"a bug in the library was caught; see the log",
        PUSH_ERR_UNSUPPORTED => c"not supported by this build or server",
        PUSH_ERR_LIMIT => c"a configured limit is reached",
        _ => c"unknown status",
    };
    text.as_ptr()
}
