//! Reads the grants that hosts pass.

use super::fault::Fault;
use super::guard;
use super::types::*;
use crate::error::Error;
use crate::grant::{Grant, Terms, MAX_CHANNELS};
use crate::log::Level;
use crate::server::Server;
use std::ffi::c_char;

/// Reads a grant.  The caller gets only a status, so the log says why a grant is refused.
///
/// # Safety
/// As for [`guard::sized_input`] and [`read_granted`].
pub(super) unsafe fn read_grant(server: &Server, grant: *const push_grant) -> Result<Grant, Fault> {
    // SAFETY: passed on from the caller.
    unsafe { guard::sized_input("grant", grant).and_then(|grant| read_granted(&grant)) }.inspect_err(|fault| {
        server.log().limited(Level::Warn, "grant", format_args!("a push_grant is refused: {}", fault.text));
    })
}

/// Runs a call with a grant of the host.
///
/// # Safety
/// As for [`read_grant`].
pub(super) unsafe fn with_grant(
    server: *mut push_server,
    grant: *const push_grant,
    call: impl Fn(&Server, Grant) -> Result<(), Error>,
) -> push_status {
    guard::with_server_dyn(server, &mut |server| {
        // SAFETY: passed on from the caller.
        let grant = unsafe { read_grant(server, grant)? };
        Ok(call(server, grant)?)
    })
}

/// Reads the strings that a `push_grant` points to.
///
/// # Safety
/// The strings end in NUL; each list has as many as its count says.
unsafe fn read_granted(grant: &push_grant) -> Result<Grant, Fault> {
    let known = PUSH_GRANT_PUBLISH | PUSH_GRANT_KEEP_ALIVE;
    if grant.flags & !known != 0 || grant.reserved != 0 {
        return Err(Fault::new(PUSH_ERR_INVALID, "unknown flags, or reserved is not 0"));
    }
    // SAFETY: the caller vouches for the lists and the strings.
    let (subscribe, channels, patterns, publish_channels, publish_patterns, user, info) = unsafe {
        (
            read_texts("subscribe", grant.subscribe, grant.subscribe_count)?,
            read_texts("channels", grant.channels, grant.channel_count)?,
            read_texts("patterns", grant.patterns, grant.pattern_count)?,
            read_texts("publish_channels", grant.publish_channels, grant.publish_channel_count)?,
            read_texts("publish_patterns", grant.publish_patterns, grant.publish_pattern_count)?,
            guard::optional_text("user", grant.user)?,
            guard::optional_text("info", grant.info)?,
        )
    };
    Ok(Grant::of(&Terms {
        user,
        info,
        subscribe: &subscribe,
        channels: &channels,
        patterns: &patterns,
        expires_at: grant.expires_at,
        publish: grant.flags & PUSH_GRANT_PUBLISH != 0,
        publish_channels: &publish_channels,
        publish_patterns: &publish_patterns,
        keep_alive: grant.flags & PUSH_GRANT_KEEP_ALIVE != 0,
    })?)
}

/// # Safety
/// `texts` has `count` strings that end in NUL.
unsafe fn read_texts(name: &str, texts: *const *const c_char, count: usize) -> Result<Vec<String>, Fault> {
    if count > MAX_CHANNELS {
        return Err(Fault::new(PUSH_ERR_INVALID, "a grant has at most 1000 channels"));
    }
    if count > 0 {
        guard::not_null(name, texts)?;
    }
    // SAFETY: below `count`, which the caller vouches for.
    (0..count).map(|index| Ok(unsafe { guard::required_text(name, *texts.add(index))? }.to_owned())).collect()
}
