//! Which users are on a channel.

use super::guard;
use super::types::*;
use crate::users::Users;
use std::ffi::{c_char, CString};
use std::mem::offset_of;
use std::ptr;

/// Returns the users on a channel: the counts, and a page of users by name.  The page begins after
/// the name `after` (NULL: with the first user) and has at most `limit` users (0 to 10000; with 0
/// there are only the counts).
///
/// Start from `push_users page = PUSH_USERS_INIT;`.  Pass the same struct again and again, with
/// `page.next` as `after`, until `page.next` is NULL.  The page's pointers stay valid until it is
/// passed again or cleared, whatever other threads do.  On an error the page does not change.
/// Finally call push_users_clear.  `out_size` is sizeof(push_users).
///
/// A client that is still being sent missed messages is not counted, nor one that is between two
/// polls.  A user who comes or goes between two pages may be missing; one who stays is listed once.
/// For a channel without users the counts are 0, and the call succeeds.
///
/// Each page counts the whole channel, so take large pages of a large channel: 16,000 users take
/// some 2 ms, part of it on the library's threads.  The call waits until each of these threads has
/// looked through its part, some at a time between its other work.  A callback may call this.
///
/// PUSH_ERR_INVALID: the channel's name, `after` or `limit` is not allowed.
///
/// If the hub shares a log with others (option engine), all hubs are asked.  A user of several hubs
/// is one, with all connections.  The call waits for the hubs for at most a quarter of the option
/// engine_timeout, and never for more than two seconds.  If one has not answered by then, `partial`
/// says so, and the page and the counts are of the others.  If the log can't be reached, this hub
/// alone answers, at once. A page may have fewer than `limit` users although there are more: `next`
/// says so. PUSH_ERR_BUSY: too many such questions are under way, or no hub at all has answered in
/// time, this one neither.
///
/// Attached, the call asks the hub, and no other request of the host waits for it.  The hub counts
/// all its clients, whichever host handed them over.  PUSH_ERR_BUSY: the hub can't be reached, or 16
/// such calls of this host are under way there, and the turn of this one did not come in time.
/// PUSH_ERR_TIMEOUT: the hub did not answer within the option `attach_timeout`.
/// PUSH_ERR_UNSUPPORTED: the hub is older than this call.
///
/// # Safety
/// `channel` ends in NUL, `after` too or is NULL; `out` has `out_size` bytes and was initialized, or
/// comes from an earlier call.
#[no_mangle]
pub unsafe extern "C" fn push_users_get(
    server: *mut push_server,
    channel: *const c_char,
    after: *const c_char,
    limit: usize,
    out: *mut push_users,
    out_size: usize,
) -> push_status {
    guard::with_server_dyn(server, &mut |server| {
        guard::not_null("out", out)?;
        guard::check_has_owner(out_size, offset_of!(push_users, owner))?;
        // SAFETY: the caller vouches for the strings.
        let (channel, after) = unsafe {
            (guard::required_text("channel", channel)?, guard::optional_text("after", after)?.unwrap_or_default())
        };
        let users = server.users(channel, after, limit)?;
        let page = Page::new(&users);
        // SAFETY: the caller vouches for `out_size` initialized bytes at `out`. What is freed here
        // may be what `after` points to, which is not used any more.
        unsafe {
            push_users_clear(out);
            guard::write_sized(out, out_size, &page.into_view(&users, out_size))
        }
    })
}

/// Frees the data that a page points to, and empties the page.  NULL or an empty page does nothing.
/// It may be called after push_stop.
///
/// # Safety
/// `users` was initialized, or filled by push_users_get.
#[no_mangle]
pub unsafe extern "C" fn push_users_clear(users: *mut push_users) {
    if users.is_null() {
        return;
    }
    // SAFETY: the caller vouches for an initialized page; `owner` is NULL or was made by
    // `into_view`, and is set to NULL here, so that it is freed once.
    unsafe {
        let owner = std::mem::replace(&mut (*users).owner, ptr::null_mut());
        if !owner.is_null() {
            drop(Box::from_raw(owner.cast::<Page>()));
        }
        (*users).users = ptr::null();
        (*users).len = 0;
        (*users).next = ptr::null();
        // A host with an older header has a shorter struct.
        if (*users).size > offset_of!(push_users, partial) {
            (*users).hubs_missing = ptr::null();
            (*users).partial = ptr::null();
        }
    }
}

/// A page in the C form.
struct Page {
    /// The memory behind the pointers: all names, each with a NUL at its end.
    _names: Vec<u8>,
    rows: Vec<push_user>,
    /// The missing hubs, and the reason why the page is not whole.
    missing: Option<CString>,
    partial: Option<CString>,
}

impl Page {
    fn new(users: &Users) -> Box<Self> {
        let mut names = Vec::with_capacity(users.page.iter().map(|user| user.name.len() + 1).sum());
        for user in &users.page {
            // Users have no control characters, so there is no NUL inside.
            names.extend_from_slice(user.name.as_bytes());
            names.push(0);
        }
        let mut rest = &names[..];
        let rows = users
            .page
            .iter()
            .map(|user| {
                let name = rest.as_ptr().cast();
                rest = &rest[user.name.len() + 1..];
                push_user { name, connections: user.connections }
            })
            .collect();
        let hubs = users.hubs.as_deref();
        // A text with a NUL inside, which there is not, would be left out.
        let missing = hubs.filter(|hubs| !hubs.missing.is_empty());
        let missing = missing.and_then(|hubs| CString::new(hubs.to_string()).ok());
        let partial = hubs.and_then(|hubs| CString::new(hubs.partial()?).ok());
        Box::new(Page { _names: names, rows, missing, partial })
    }

    /// The C form in a struct of `size` bytes, which owns `self` until `push_users_clear`.
    fn into_view(self: Box<Self>, users: &Users, size: usize) -> push_users {
        let last = self.rows.last().filter(|_| users.more);
        push_users {
            size,
            // An empty list gives NULL: Go's runtime takes a dangling pointer for an error.
            users: self.rows.first().map_or(ptr::null(), |_| self.rows.as_ptr()),
            len: self.rows.len(),
            next: last.map_or(ptr::null(), |last| last.name),
            count: users.count,
            connections: users.connections,
            anonymous: users.anonymous,
            hubs: users.hubs.as_ref().map_or(0, |hubs| hubs.asked as u64),
            hubs_answered: users.hubs.as_ref().map_or(0, |hubs| hubs.answered as u64),
            hubs_missing: self.missing.as_ref().map_or(ptr::null(), |text| text.as_ptr()),
            partial: self.partial.as_ref().map_or(ptr::null(), |text| text.as_ptr()),
            owner: Box::into_raw(self).cast(),
        }
    }
}
