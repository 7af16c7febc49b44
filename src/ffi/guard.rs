//! What every export needs: a panic does not leave the library, a thread is not cancelled inside
//! it, NULL is an error, and calls in a forked child are refused.

use super::fault::Fault;
use super::types::*;
use super::{handle, last_error};
use crate::config::Builder;
use crate::log::Level;
use crate::panics;
use crate::server::Server;
use crate::sys::{cancel, fork};
use std::borrow::Cow;
use std::ffi::{c_char, c_void, CStr};
use std::mem::size_of;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// None of our structs will ever be larger.  A larger size is garbage.
const MAX_OUTPUT: usize = 1 << 16;

/// Runs a call that does not return a status.
pub(super) fn value<T>(on_panic: T, call: impl FnOnce() -> T) -> T {
    let _held = cancel::hold();
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(on_panic)
}

/// Runs a call that returns a status.
pub(super) fn status(call: impl FnOnce() -> Result<(), Fault>) -> push_status {
    run(call).map_or_else(failed, |()| PUSH_OK)
}

/// Runs a call that returns a status, and writes a sentence into `err`.
///
/// # Safety
/// `err` is NULL or has `err_len` bytes.
pub(super) unsafe fn status_with_text(
    err: *mut c_char,
    err_len: usize,
    call: impl FnOnce() -> Result<(), Fault>,
) -> push_status {
    match run(call) {
        Ok(()) => PUSH_OK,
        Err(fault) => {
            // SAFETY: passed on from the caller.
            unsafe { copy_sentence(err, err_len, &fault.text) };
            failed(fault)
        }
    }
}

/// Notes why a call has failed.
fn failed(fault: Fault) -> push_status {
    last_error::note(&fault.text);
    fault.status
}

/// Runs a call on a live server.
pub(super) fn with_server(server: *mut push_server, call: impl FnOnce(&Server) -> Result<(), Fault>) -> push_status {
    status(|| {
        let inside = handle::enter(server)?;
        caught(&inside, || call(&inside))?
    })
}

/// Runs a call on a server.  If it panics, the server's log gets the panic's message.
pub(super) fn caught<T>(server: &Server, call: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| {
        let fault = defect();
        server.log().line(Level::Error, format_args!("{}", fault.text));
        fault
    })
}

/// The same for calls that are rare.  They share one copy of the surrounding code, since `call` is
/// a `dyn` reference.
pub(super) fn with_server_dyn(
    server: *mut push_server,
    call: &mut dyn FnMut(&Server) -> Result<(), Fault>,
) -> push_status {
    with_server(server, call)
}

fn run(call: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    if fork::forked() {
        return Err(Fault::new(PUSH_ERR_FORKED, "called in a process forked after push_start"));
    }
    let _held = cancel::hold();
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(defect()))
}

fn defect() -> Fault {
    Fault::new(PUSH_ERR_INTERNAL, format!("a bug in the library was caught: {}", panics::said()))
}

/// Refuses NULL.
pub(super) fn not_null<T>(name: &str, pointer: *const T) -> Result<(), Fault> {
    if pointer.is_null() {
        return Err(Fault::new(PUSH_ERR_INVALID, format!("{name} is NULL")));
    }
    Ok(())
}

/// The builder behind a config.
///
/// # Safety
/// `config` is NULL or comes from `push_config_new`, and no other thread uses it now.
pub(super) unsafe fn config_mut<'a>(config: *mut push_config) -> Result<&'a mut Builder, Fault> {
    not_null("config", config)?;
    // SAFETY: made by `Box::<Builder>::into_raw`, and the caller vouches that it is alive and not
    // shared.
    Ok(unsafe { &mut *config.cast::<Builder>() })
}

/// The builder behind a config.
///
/// # Safety
/// As for [`config_mut`].
pub(super) unsafe fn config_ref<'a>(config: *const push_config) -> Result<&'a Builder, Fault> {
    not_null("config", config)?;
    // SAFETY: as for `config_mut`.
    Ok(unsafe { &*config.cast::<Builder>() })
}

/// A string that must not be NULL.
///
/// # Safety
/// `text` is NULL or ends in NUL and lives as long as the result is used.
pub(super) unsafe fn required_text<'a>(name: &str, text: *const c_char) -> Result<&'a str, Fault> {
    not_null(name, text)?;
    // SAFETY: the caller vouches for the NUL.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| Fault::new(PUSH_ERR_INVALID, format!("{name} is not UTF-8")))
}

/// A string that may be NULL.
///
/// # Safety
/// As for [`required_text`].
pub(super) unsafe fn optional_text<'a>(name: &str, text: *const c_char) -> Result<Option<&'a str>, Fault> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: passed on from the caller.
    unsafe { required_text(name, text) }.map(Some)
}

/// The bytes of a string that may be NULL and need not be UTF-8.
///
/// # Safety
/// As for [`required_text`].
pub(super) unsafe fn optional_bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for the NUL.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A string that may be NULL, which means an empty one.
///
/// # Safety
/// As for [`required_text`].
pub(super) unsafe fn text_or_empty<'a>(name: &str, text: *const c_char) -> Result<&'a str, Fault> {
    // SAFETY: passed on from the caller.
    unsafe { optional_text(name, text) }.map(Option::unwrap_or_default)
}

/// Bytes.  If the length is 0, the pointer is not used.
///
/// # Safety
/// `data` has `len` bytes, which live as long as the result is used.
pub(super) unsafe fn bytes<'a>(name: &str, data: *const c_void, len: usize) -> Result<&'a [u8], Fault> {
    if len == 0 {
        return Ok(&[]);
    }
    not_null(name, data)?;
    if len > isize::MAX as usize {
        return Err(Fault::new(PUSH_ERR_TOO_LARGE, format!("{name}: {len} bytes can't be")));
    }
    // SAFETY: not NULL, and the caller vouches for `len` bytes.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// Copies a sentence into a C buffer, with a NUL at its end.  A longer one is cut between two
/// words, with an ellipsis.
///
/// # Safety
/// As for [`copy_text`].
pub(super) unsafe fn copy_sentence(out: *mut c_char, size: usize, text: &str) {
    let sentence = shortened(text, size.saturating_sub(1));
    // SAFETY: passed on from the caller.
    unsafe { copy_text(out, size, &sentence) };
}

/// A sentence of at most `max` bytes.
pub(super) fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    const ELLIPSIS: &str = "...";
    if text.len() <= max || max <= ELLIPSIS.len() {
        return text.into();
    }
    let mut len = max - ELLIPSIS.len();
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    // A word that is longer than half of the room is cut.
    let between_words = text[..len].rfind(' ').filter(|space| *space > len / 2);
    (text[..between_words.unwrap_or(len)].to_owned() + ELLIPSIS).into()
}

/// Copies a text into a C buffer, with a NUL at its end.  A longer one is cut.
///
/// # Safety
/// `out` is NULL or has `size` bytes.
pub(super) unsafe fn copy_text(out: *mut c_char, size: usize, text: &str) {
    if out.is_null() || size == 0 {
        return;
    }
    let mut len = text.len().min(size - 1);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    // SAFETY: `len` + 1 is at most `size`, which the caller vouches for.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), out, len);
        out.add(len).write(0);
    }
}

/// A struct that begins with its size in bytes.
///
/// # Safety
/// The struct is `repr(C)`, and all its fields are integers and raw pointers, so any bytes are a
/// valid value.
pub(super) unsafe trait SizedInput: Copy {}
// SAFETY: see its fields.
unsafe impl SizedInput for push_message {}
// SAFETY: see its fields.
unsafe impl SizedInput for push_grant {}

/// Reads a struct of a host that may have been compiled against another version of the header.  The
/// fields that an older header lacks become zero.  The fields that a newer header has in addition
/// must be zero.
///
/// # Safety
/// `input` is NULL or points to a struct that begins with its size and has that many bytes.
pub(super) unsafe fn sized_input<T: SizedInput>(name: &str, input: *const T) -> Result<T, Fault> {
    not_null(name, input)?;
    // SAFETY: the caller vouches for a struct, which begins with its size.
    let size = unsafe { input.cast::<usize>().read() };
    check_size(name, size)?;
    // SAFETY: the caller vouches for `size` bytes.
    unsafe { read_sized(name, input.cast(), size) }
}

/// Reads `count` such structs.  All have the size that the first one gives.
///
/// # Safety
/// As for [`sized_input`], for `count` structs in a row.
pub(super) unsafe fn sized_inputs<T: SizedInput>(name: &str, input: *const T, count: usize) -> Result<Vec<T>, Fault> {
    not_null(name, input)?;
    // SAFETY: the caller vouches for one struct at least, which begins with its size.
    let size = unsafe { input.cast::<usize>().read() };
    check_size(name, size)?;
    (0..count)
        .map(|index| {
            // SAFETY: the caller vouches for `count` structs of this size.
            unsafe {
                let at = input.cast::<u8>().add(index * size);
                if at.cast::<usize>().read_unaligned() != size {
                    return Err(Fault::new(PUSH_ERR_INVALID, format!("{name}: all must have the same size")));
                }
                read_sized(name, at, size)
            }
        })
        .collect()
}

/// Checks that a size can be a struct's.
fn check_size(name: &str, size: usize) -> Result<(), Fault> {
    let sane = (size_of::<usize>()..=4096).contains(&size) && size.is_multiple_of(size_of::<usize>());
    if !sane {
        let text = format!("{name}: its size field is {size}; start from the INIT macro");
        return Err(Fault::new(PUSH_ERR_INVALID, text));
    }
    Ok(())
}

/// # Safety
/// `at` has `size` bytes.
unsafe fn read_sized<T: SizedInput>(name: &str, at: *const u8, size: usize) -> Result<T, Fault> {
    let known = size.min(size_of::<T>());
    // SAFETY: any bytes are a value of a `SizedInput`, zero too.  `known` is within both structs,
    // and the unknown part is within `size`.
    unsafe {
        let mut value = std::mem::zeroed::<T>();
        std::ptr::copy_nonoverlapping(at, (&raw mut value).cast::<u8>(), known);
        let unknown = std::slice::from_raw_parts(at.add(known), size - known);
        if unknown.iter().any(|byte| *byte != 0) {
            return Err(Fault::new(
                PUSH_ERR_INVALID,
                format!("{name}: a field that this library does not know is set"),
            ));
        }
        Ok(value)
    }
}

/// Refuses the size of a struct without room for its owner: the owner would be lost.
pub(super) fn check_has_owner(out_size: usize, owner: usize) -> Result<(), Fault> {
    if !(owner + size_of::<*mut ()>()..=MAX_OUTPUT).contains(&out_size) {
        return Err(Fault::new(PUSH_ERR_INVALID, format!("out_size is {out_size}; give sizeof the struct")));
    }
    Ok(())
}

/// Writes a struct into the caller's, whose header may be older or newer: the struct is cut, or
/// filled up with zeros.
///
/// # Safety
/// `out` has `out_size` bytes.
pub(super) unsafe fn write_sized<T: Copy>(out: *mut T, out_size: usize, value: &T) -> Result<(), Fault> {
    if !(size_of::<usize>()..=MAX_OUTPUT).contains(&out_size) {
        return Err(Fault::new(PUSH_ERR_INVALID, format!("out_size is {out_size}; give sizeof the struct")));
    }
    let known = out_size.min(size_of::<T>());
    // SAFETY: `known` is within both; the rest is within `out_size`, which the caller vouches for.
    unsafe {
        std::ptr::copy_nonoverlapping((value as *const T).cast::<u8>(), out.cast::<u8>(), known);
        std::ptr::write_bytes(out.cast::<u8>().add(known), 0, out_size - known);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sentence_is_cut_between_words_with_an_ellipsis() {
        for (text, max, expected) in [
            ("it fits", 7, "it fits"),
            ("one two three four", 14, "one two..."),
            ("one twothreefourfive", 14, "one twothre..."),
            ("\u{1F4A9}\u{1F4A9}", 6, "..."),
            ("word", 3, "word"),
        ] {
            assert_eq!(shortened(text, max), expected, "{text} {max}");
        }
    }
}
