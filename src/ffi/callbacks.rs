//! The host's functions, with the data they want and its end.

use super::events::Owned;
use super::types::*;
use crate::events::{Event, EventSink};
use crate::log::{Level, LogSink};
use std::ffi::{c_char, c_void, CString};
use std::sync::Arc;

/// What a callback gets as `user_data`; freed once, when the last that could call has let go.
pub(super) struct UserData {
    data: *mut c_void,
    free: push_free_fn,
}

// SAFETY: the header says that callbacks and the free function come on threads of the library; who
// passes the data vouches that it bears that. We only hand the pointer on.
unsafe impl Send for UserData {}
// SAFETY: as above; the callbacks of a config come one at a time, also those of several servers
// (`Builder::turn`), and the free function when nobody has it any more.
unsafe impl Sync for UserData {}

impl UserData {
    pub(super) fn new(data: *mut c_void, free: push_free_fn) -> Self {
        UserData { data, free }
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the header asks for a function that takes this data, called once.
            unsafe { free(self.data) };
        }
    }
}

/// A log function as the crate calls it.
pub(super) fn log(function: unsafe extern "C" fn(*mut c_void, i32, *const c_char), data: UserData) -> Arc<LogSink> {
    Arc::new(move |level: Level, line: &str| {
        let data = &data;
        // A NUL in a client's bytes must not cut the line's sense short.
        let line = CString::new(line.replace('\0', "\u{fffd}")).unwrap_or_default();
        // SAFETY: the header asks for a function of this kind; the line lives through the call.
        unsafe { function(data.data, level as i32, line.as_ptr()) };
    })
}

/// An event function as the crate calls it.
pub(super) fn event(function: unsafe extern "C" fn(*mut c_void, *const push_event), data: UserData) -> Arc<EventSink> {
    Arc::new(move |event: Event| {
        let data = &data;
        let owned = Owned::new(event);
        // SAFETY: the header asks for a function of this kind; the event lives through the call.
        unsafe { function(data.data, &owned.view()) };
    })
}
