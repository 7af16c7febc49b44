//! Events, pulled by the host.

use super::fault::Fault;
use super::guard;
use super::types::*;
use crate::events::Event;
use std::ffi::{c_int, CString};
use std::mem::{offset_of, MaybeUninit};
use std::time::Duration;

/// Returns a descriptor that is readable while events wait, for poll, select or epoll.  Only watch
/// it: do not read or close it.  The library closes it in push_stop, so take it out of your loop
/// before.  -1: the handle is not a server, or events go to a callback or to attached hosts (option
/// attach_listen).
///
/// The first call of this function or of push_next_event turns events on.  Messages that clients
/// send before that are dropped.  The option `events` says which kinds of events come.  If it
/// changes while clients are connected, some closes may come without their opens.
#[no_mangle]
pub extern "C" fn push_event_fd(server: *mut push_server) -> c_int {
    let mut fd = -1;
    guard::with_server_dyn(server, &mut |server| {
        fd = server.event_fd()?;
        Ok(())
    });
    fd
}

/// Takes the next event.  It waits for at most `timeout_ms` milliseconds: 0 does not wait, and -1
/// waits for ever.  PUSH_ERR_TIMEOUT: no event came.  PUSH_ERR_CALLBACK: a callback made the call.
/// PUSH_ERR_UNSUPPORTED: events go to a callback or to attached hosts (option attach_listen).
///
/// Start from `push_event event = PUSH_EVENT_INIT;` and pass the same struct again and again.  Its
/// pointers stay valid until it is passed again or cleared, whatever other threads do.  Finally
/// call push_event_clear.  `out_size` is sizeof(push_event).  A push_stop on another thread ends
/// the wait with PUSH_ERR_CLOSED.
///
/// While the host takes no events, the library stops reading from the clients that cause them.
/// Nothing is lost.
///
/// # Safety
/// `out` has `out_size` bytes and was initialized, or comes from an earlier call.
#[no_mangle]
pub unsafe extern "C" fn push_next_event(
    server: *mut push_server,
    out: *mut push_event,
    out_size: usize,
    timeout_ms: c_int,
) -> push_status {
    guard::with_server(server, |server| {
        guard::not_null("out", out)?;
        // This is checked before an event is taken, since the event could not be put back.
        guard::check_has_owner(out_size, offset_of!(push_event, owner))?;
        if server.is_callback_thread() {
            return Err(Fault::new(PUSH_ERR_CALLBACK, "push_next_event is not allowed in a callback"));
        }
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let event = Owned::new(server.next_event(timeout)?);
        // SAFETY: the caller vouches for `out_size` initialized bytes at `out`.
        unsafe {
            push_event_clear(out);
            let mut view = event.into_view();
            // push_event_clear empties the fields that the host has room for, and no others.
            view.size = out_size.min(view.size);
            guard::write_sized(out, out_size, &view)
        }
    })
}

/// Frees the data that an event points to, and empties the event.  NULL or an empty event does
/// nothing.  It may be called after push_stop.  An event of push_config_on_event needs no clearing,
/// and a copy of it is as short-lived as the event.
///
/// # Safety
/// `event` was initialized, or filled by push_next_event.
#[no_mangle]
pub unsafe extern "C" fn push_event_clear(event: *mut push_event) {
    if event.is_null() {
        return;
    }
    // SAFETY: the caller vouches for an initialized event; `owner` is NULL or was made by
    // `into_view`, and is set to NULL here, so that it is freed once.
    unsafe {
        let owner = std::mem::replace(&mut (*event).owner, std::ptr::null_mut());
        if !owner.is_null() {
            drop(Box::from_raw(owner.cast::<Owned>()));
            // A host whose header is older has no room for these.  push_next_event has written how much room
            // there is.  Other events tell nothing about it: one that was never filled may have the size 0,
            // and a copy of a callback's event has the library's size.
            if (*event).size >= size_of::<push_event>() {
                (*event).event = std::ptr::null();
                (*event).key = std::ptr::null();
            }
        }
        (*event).user = std::ptr::null();
        (*event).channel = std::ptr::null();
        (*event).data = std::ptr::null();
        (*event).len = 0;
    }
}

/// An event with its strings in C's form.
#[derive(Debug)]
pub(crate) struct Owned {
    event: Event,
    user: Option<CString>,
    channel: Option<CString>,
    event_type: Option<CString>,
    key: Option<CString>,
}

impl Owned {
    pub(crate) fn new(event: Event) -> Box<Self> {
        // Names, users, event types and keys have no control characters, so there is no NUL inside.
        let text = |text: Option<&str>| text.and_then(|text| CString::new(text).ok());
        let (user, channel) = (text(event.user.as_deref()), text(event.channel.as_deref()));
        let publishing = event.publishing.as_deref();
        let event_type = text(publishing.and_then(|rest| rest.event.as_deref()));
        let key = text(publishing.and_then(|rest| rest.key.as_deref()));
        Box::new(Owned { event, user, channel, event_type, key })
    }

    /// The C form, which borrows from `self` and owns nothing.
    pub(crate) fn view(&self) -> push_event {
        // SAFETY: integers and raw pointers, for which zero is a value.
        let mut view: push_event = unsafe { MaybeUninit::zeroed().assume_init() };
        view.size = size_of::<push_event>();
        view.kind = self.event.kind as u32;
        view.flags = if self.event.binary { PUSH_EVENT_BINARY } else { 0 };
        view.connection = self.event.connection;
        view.request = self.event.request;
        let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        (view.user, view.channel) = (pointer(&self.user), pointer(&self.channel));
        (view.event, view.key) = (pointer(&self.event_type), pointer(&self.key));
        view.data = self.event.data.as_ptr().cast();
        view.len = self.event.data.len();
        view.code = self.event.code.into();
        view
    }

    /// The C form, which owns `self` until `push_event_clear`.
    fn into_view(self: Box<Self>) -> push_event {
        let mut view = self.view();
        view.owner = Box::into_raw(self).cast();
        view
    }
}
