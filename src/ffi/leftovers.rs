//! Servers that were stopped while a callback had not returned, by ticket, so that the host can stop them again and
//! learn when it may free its data or unload the library.

use super::fault::Fault;
use super::types::*;
use crate::callbacks::Leftover;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most that may be left over. More can't be started then; see [`check_room`].
const MOST: usize = 256;

static LEFT: Mutex<Vec<(usize, Leftover)>> = Mutex::new(Vec::new());

/// Whether another server may start.
pub(super) fn check_room() -> Result<(), Fault> {
    let mut left = left();
    if left.len() >= MOST {
        // A host that never asks again about those that have ended.
        left.retain(|(_, leftover)| !leftover.latch().wait(Duration::ZERO));
    }
    if left.len() >= MOST {
        return Err(Fault::new(PUSH_ERR_LIMIT, format!("callbacks of {MOST} stopped servers have not returned")));
    }
    Ok(())
}

/// Keeps what is left over of a server. The answer is for the host.
pub(super) fn keep(handle: *mut push_server, leftover: Leftover) -> Fault {
    left().push((handle.addr(), leftover));
    not_returned()
}

/// Waits for what is left over of a server. `None`: nothing is.
pub(super) fn wait(handle: *mut push_server, time: Duration) -> Option<Result<(), Fault>> {
    let latch = left().iter().find(|(ticket, _)| *ticket == handle.addr())?.1.latch().clone();
    // Not under the lock: others wait for other servers, or for this one.
    if !latch.wait(time) {
        return Some(Err(not_returned()));
    }
    let mut left = left();
    let index = left.iter().position(|(ticket, _)| *ticket == handle.addr())?;
    let (_, leftover) = left.swap_remove(index);
    drop(left);
    leftover.join();
    Some(Ok(()))
}

fn not_returned() -> Fault {
    Fault::new(PUSH_ERR_TIMEOUT, "a callback has not returned")
}

fn left() -> MutexGuard<'static, Vec<(usize, Leftover)>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}
