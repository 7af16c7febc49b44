//! `push_config`: options by name and text, and the host's callbacks.

use super::callbacks::{self, UserData};
use super::fault::Fault;
use super::guard;
use super::types::*;
use crate::config::Builder;
use crate::panics;
use std::ffi::{c_char, c_void};

/// Returns a new set of options, all at their defaults.  NULL only if memory is out.  Free it with
/// push_config_free.
#[no_mangle]
pub extern "C" fn push_config_new() -> *mut push_config {
    panics::keep_quiet();
    guard::value(std::ptr::null_mut(), || Box::into_raw(Box::<Builder>::default()).cast())
}

/// Sets an option by its name, from text: push_config_set(c, "history_age", "5m", err, sizeof err).
///
/// PUSH_ERR_CONFIG: the name is unknown or the value is not allowed.  `err` (may be NULL) gets a
/// sentence that names the option, the value and what is allowed.  It always ends in NUL, and is
/// cut if it is too long.
///
/// # Safety
/// `config` comes from push_config_new; the strings end in NUL; `err` has `err_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_config_set(
    config: *mut push_config,
    name: *const c_char,
    value: *const c_char,
    err: *mut c_char,
    err_len: usize,
) -> push_status {
    let set = |builder: &mut Builder| {
        // SAFETY: the caller vouches for the strings.
        let (name, value) = unsafe { (guard::required_text("name", name)?, guard::required_text("value", value)?) };
        builder.set(name, value).map_err(Fault::from)
    };
    // SAFETY: the caller vouches for `config`, and for `err` with `err_len`.
    unsafe { change(config, err, err_len, set) }
}

/// Sets the options in a TOML file: `name = value` lines, and `[channel."news.*"]` tables for the
/// channels whose names match.  If anything in the file is wrong, nothing is changed.
///
/// PUSH_ERR_SYSTEM: the file can't be read.  PUSH_ERR_CONFIG: the file is not TOML, or an option is
/// wrong.
///
/// # Safety
/// As for push_config_set.
#[no_mangle]
pub unsafe extern "C" fn push_config_load(
    config: *mut push_config,
    toml_path: *const c_char,
    err: *mut c_char,
    err_len: usize,
) -> push_status {
    let load = |builder: &mut Builder| {
        // SAFETY: the caller vouches for the string.
        let path = unsafe { guard::required_text("toml_path", toml_path)? };
        builder.load(std::path::Path::new(path)).map_err(Fault::from)
    };
    // SAFETY: the caller vouches for `config`, and for `err` with `err_len`.
    unsafe { change(config, err, err_len, load) }
}

/// Changes a config, and writes into `err` why that has failed.
///
/// # Safety
/// As for [`guard::config_mut`] and [`guard::status_with_text`].
unsafe fn change(
    config: *mut push_config,
    err: *mut c_char,
    err_len: usize,
    change: impl FnOnce(&mut Builder) -> Result<(), Fault>,
) -> push_status {
    // SAFETY: passed on from the caller.
    unsafe { guard::status_with_text(err, err_len, || change(guard::config_mut(config)?)) }
}

/// Sends the library's log lines to `callback`.  NULL removes it.  Without a callback the library logs
/// nothing, unless the host pulls the lines (option log=pull, push_next_log) or names a descriptor for
/// them (option log_fd).  push_start refuses more than one of the three.
///
/// Every call gets `user_data`.  The library calls `free_user_data` (may be NULL) once, when
/// neither this config nor a server that was started from it needs the data any more.
///
/// # Safety
/// `config` comes from push_config_new; the functions may be called from a thread of the library.
#[no_mangle]
pub unsafe extern "C" fn push_config_on_log(
    config: *mut push_config,
    callback: push_log_fn,
    user_data: *mut c_void,
    free_user_data: push_free_fn,
) {
    let set = |builder: &mut Builder, data| builder.on_log = callback.map(|function| callbacks::log(function, data));
    // SAFETY: the caller vouches for `config`.
    unsafe { set_callback(config, user_data, free_user_data, set) }
}

/// Sends events to `callback` instead of the queue that push_next_event reads.  NULL removes it.
///
/// # Safety
/// As for push_config_on_log.
#[no_mangle]
pub unsafe extern "C" fn push_config_on_event(
    config: *mut push_config,
    callback: push_event_fn,
    user_data: *mut c_void,
    free_user_data: push_free_fn,
) {
    let set = |builder: &mut Builder, data| {
        builder.on_event = callback.map(|function| callbacks::event(function, data));
    };
    // SAFETY: the caller vouches for `config`.
    unsafe { set_callback(config, user_data, free_user_data, set) }
}

/// Gives a config a callback.  Without a config the user's data is freed.
///
/// # Safety
/// `config` comes from push_config_new.
unsafe fn set_callback(
    config: *mut push_config,
    user_data: *mut c_void,
    free_user_data: push_free_fn,
    set: impl FnOnce(&mut Builder, UserData),
) {
    guard::value((), || {
        let data = UserData::new(user_data, free_user_data);
        // SAFETY: the caller vouches for `config`.
        if let Ok(builder) = unsafe { guard::config_mut(config) } {
            set(builder, data);
        }
    });
}

/// Frees a config.  Servers that were started from it go on.  NULL does nothing.
///
/// # Safety
/// `config` comes from push_config_new and is not used again.
#[no_mangle]
pub unsafe extern "C" fn push_config_free(config: *mut push_config) {
    guard::value((), || {
        if !config.is_null() {
            // SAFETY: made by Box::into_raw in push_config_new, and the caller gives it up.
            drop(unsafe { Box::from_raw(config.cast::<Builder>()) });
        }
    });
}
