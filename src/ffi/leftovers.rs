//! Servers that were stopped while a callback had not returned, by their tickets.  The host can
//! stop them again to learn when it may free its data or unload the library.

use super::fault::Fault;
use super::types::*;
use crate::callbacks::Leftover;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The limit of such servers.  Beyond it, no server can be started; see [`check_room`].
const MOST: usize = 256;

static LEFT: Mutex<Vec<(usize, Leftover)>> = Mutex::new(Vec::new());

/// Checks that another server may start.
pub(super) fn check_room() -> Result<(), Fault> {
    let mut left = left();
    if left.len() >= MOST {
        // The callbacks of some may have returned, and the host has not asked again.
        left.retain(|(_, leftover)| !leftover.latches().iter().all(|latch| latch.wait(Duration::ZERO)));
    }
    if left.len() >= MOST {
        return Err(Fault::new(PUSH_ERR_LIMIT, format!("callbacks of {MOST} stopped servers have not returned")));
    }
    Ok(())
}

/// Keeps the callback thread of a stopped server.  Returns the error for the host.
pub(super) fn keep(handle: *mut push_server, leftover: Leftover) -> Fault {
    let fault = not_returned(leftover.why());
    left().push((handle.addr(), leftover));
    fault
}

/// Waits for the callback thread of a stopped server.  `None` if there is none.
pub(super) fn wait(handle: *mut push_server, time: Duration) -> Option<Result<(), Fault>> {
    let (latches, why) = {
        let left = left();
        let (_, leftover) = left.iter().find(|(ticket, _)| *ticket == handle.addr())?;
        (leftover.latches(), leftover.why())
    };
    // The wait is not under the lock: other threads may wait for other servers, or for this one.
    let began = Instant::now();
    if !latches.iter().all(|latch| latch.wait(time.saturating_sub(began.elapsed()))) {
        return Some(Err(not_returned(why)));
    }
    let mut left = left();
    let index = left.iter().position(|(ticket, _)| *ticket == handle.addr())?;
    let (_, leftover) = left.swap_remove(index);
    drop(left);
    leftover.join();
    Some(Ok(()))
}

fn not_returned(why: &'static str) -> Fault {
    Fault::new(PUSH_ERR_TIMEOUT, why)
}

fn left() -> MutexGuard<'static, Vec<(usize, Leftover)>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}
