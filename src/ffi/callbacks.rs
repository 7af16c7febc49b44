//! The host's callbacks, each with its user data and the function that frees it.

use super::events::Owned;
use super::types::*;
use crate::events::{Event, EventSink};
use crate::log::{Level, LogSink};
use std::ffi::{c_char, c_void, CString};
use std::sync::Arc;

/// The `user_data` of a callback.  It is freed once, when nothing can call the callback any more.
pub(super) struct UserData {
    data: *mut c_void,
    free: push_free_fn,
}

// SAFETY: the header says that callbacks and the free function run on threads of the library.
// Whoever passes the data guarantees that it allows that.  The library only passes the pointer on.
unsafe impl Send for UserData {}
// SAFETY: as above.  The callbacks of a config run one at a time, even for several servers
// (`Builder::turn`).  The free function runs when nothing holds the data any more.
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

/// A log callback, in the form that the crate calls.
pub(super) fn log(function: unsafe extern "C" fn(*mut c_void, i32, *const c_char), data: UserData) -> Arc<LogSink> {
    Arc::new(move |level: Level, line: &str| {
        let data = &data;
        // A NUL in a client's bytes must not cut the line.
        let line = CString::new(line.replace('\0', "\u{fffd}")).unwrap_or_default();
        // SAFETY: the header asks for a function of this type, and the line outlives the call.
        unsafe { function(data.data, level as i32, line.as_ptr()) };
    })
}

/// An event callback, in the form that the crate calls.
pub(super) fn event(function: unsafe extern "C" fn(*mut c_void, *const push_event), data: UserData) -> Arc<EventSink> {
    Arc::new(move |event: Event| {
        let data = &data;
        let owned = Owned::new(event);
        // SAFETY: the header asks for a function of this type, and the event outlives the call.
        unsafe { function(data.data, &owned.view()) };
    })
}
