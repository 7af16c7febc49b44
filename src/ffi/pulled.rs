//! Queues of log lines, by the tickets of their servers.  They are not in the servers: a host that has
//! only one thread can read the lines of push_stop only after it.

use super::fault::Fault;
use super::handle;
use super::types::*;
use crate::log::Pulled;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The stopped servers of which unread lines are kept.
const STOPPED: usize = 16;

static QUEUES: Mutex<Vec<Queue>> = Mutex::new(Vec::new());

struct Queue {
    ticket: usize,
    lines: Arc<Pulled>,
    stopped: bool,
}

/// Adds the queue of a server that has just started.
pub(super) fn add(handle: *mut push_server, lines: Arc<Pulled>) {
    queues().push(Queue { ticket: handle.addr(), lines, stopped: false });
}

/// The queue of a server, which may have been stopped.
pub(super) fn find(handle: *mut push_server) -> Result<Arc<Pulled>, Fault> {
    if let Some(queue) = queues().iter().find(|queue| queue.ticket == handle.addr()) {
        return Ok(queue.lines.clone());
    }
    handle::enter(handle)?;
    Err(Fault::new(PUSH_ERR_UNSUPPORTED, "log lines can't be pulled, since the option log is not pull"))
}

/// Notes that a server was stopped.  Its unread lines are kept, and the descriptor that another thread
/// may poll, unless a call has returned the end.
pub(super) fn stopped(handle: *mut push_server) {
    let mut queues = queues();
    let Some(index) = queues.iter().position(|queue| queue.ticket == handle.addr()) else { return };
    let mut queue = queues.remove(index);
    queue.stopped = true;
    // The last one is the one that was stopped last.
    queues.push(queue);
    let mut kept = queues.iter().enumerate().filter(|(_, queue)| queue.stopped).map(|(index, _)| index);
    if let (Some(oldest), STOPPED..) = (kept.next(), kept.count()) {
        queues.remove(oldest);
    }
}

/// Drops the queue of a stopped server, of which all lines were read.
pub(super) fn forget(handle: *mut push_server) {
    queues().retain(|queue| queue.ticket != handle.addr());
}

fn queues() -> MutexGuard<'static, Vec<Queue>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}
