//! `push_server *`: a ticket, not an address.
//!
//! Hosts keep handles for too long: a worker publishes while another thread stops the server, or a
//! signal handler stops it twice.  If the handle were an address, each of these would be a use
//! after free.  The ticket names a slot of a fixed table, and the generation of the server in it.
//! It is never dereferenced.  So whatever a host passes is looked up and gets a status.
//!
//! All servers of a process share this table and two more, which have tickets of stopped servers too:
//! the queues of log lines (`pulled`), and the threads that are left over (`leftovers`).

use super::fault::Fault;
use super::types::*;
use crate::server::Server;
use crate::sys::fork;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// How many servers one process can run at once.
const SLOTS: usize = 256;
const SLOT_BITS: u32 = 8;

struct Slot {
    /// Odd while the slot has a server.  Every start and every stop increments it.
    generation: AtomicU64,
    /// The number of calls that use the server, or that are about to find that it has been stopped.
    inside: AtomicUsize,
    server: AtomicPtr<Server>,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot { generation: AtomicU64::new(0), inside: AtomicUsize::new(0), server: AtomicPtr::new(ptr::null_mut()) }
}; SLOTS];

/// A call that uses a server.  The server is not freed while this value lives.
pub(super) struct Inside {
    slot: &'static Slot,
    server: *const Server,
}

impl Deref for Inside {
    type Target = Server;

    fn deref(&self) -> &Server {
        // SAFETY: `remove` frees the server only after the slot's `inside` has come down to zero,
        // and this value counts in it.
        unsafe { &*self.server }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.slot.inside.fetch_sub(1, Ordering::Release);
    }
}

/// Puts a server into the table, and returns its ticket.
pub(super) fn insert(server: Server) -> Result<*mut push_server, Fault> {
    fork::remember();
    let server = Box::into_raw(Box::new(server));
    for (index, slot) in TABLE.iter().enumerate() {
        if slot.server.compare_exchange(ptr::null_mut(), server, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue;
        }
        // This call alone owns the slot now.  The new generation opens it to others.
        let generation = slot.generation.fetch_add(1, Ordering::SeqCst) + 1;
        return Ok(ptr::without_provenance_mut(ticket(index, generation)));
    }
    // SAFETY: made above, and nothing else has seen it.
    let server = *unsafe { Box::from_raw(server) };
    server.stop(std::time::Duration::ZERO);
    Err(Fault::new(PUSH_ERR_LIMIT, format!("{SLOTS} servers run already in this process")))
}

/// Enters a server, if the ticket is valid.
pub(super) fn enter(handle: *mut push_server) -> Result<Inside, Fault> {
    let (slot, generation) = find(handle)?;
    slot.inside.fetch_add(1, Ordering::SeqCst);
    // The count is raised first.  So either `remove` sees it, or this call sees that the generation
    // has changed.
    if slot.generation.load(Ordering::SeqCst) != generation {
        slot.inside.fetch_sub(1, Ordering::Release);
        return Err(closed());
    }
    Ok(Inside { slot, server: slot.server.load(Ordering::Acquire) })
}

/// Takes a server out of the table, once.  Later calls find no server.  When this returns, no call
/// uses the server any more.
pub(super) fn remove(handle: *mut push_server) -> Result<Server, Fault> {
    let server = {
        let inside = enter(handle)?;
        let (slot, generation) = find(handle)?;
        slot.generation
            .compare_exchange(generation, generation + 1, Ordering::SeqCst, Ordering::Relaxed)
            .map_err(|_| closed())?;
        // A call that waits for an event must be woken, so that it leaves.
        inside.end_waiting();
        inside.server.cast_mut()
    };
    let (slot, _) = find(handle)?;
    // SeqCst as in `enter`, which raises the count and then reads the generation.  So one of the
    // two sees the other.
    while slot.inside.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(std::time::Duration::from_micros(50));
    }
    slot.server.store(ptr::null_mut(), Ordering::Release);
    // SAFETY: made by `insert`.  The new generation lets no call in, no call is inside, and only
    // one call can change a generation.
    Ok(*unsafe { Box::from_raw(server) })
}

fn ticket(index: usize, generation: u64) -> usize {
    (generation as usize) << SLOT_BITS | index
}

fn find(handle: *mut push_server) -> Result<(&'static Slot, u64), Fault> {
    if handle.is_null() {
        return Err(Fault::new(PUSH_ERR_INVALID, "server is NULL"));
    }
    let ticket = handle.addr();
    let generation = (ticket >> SLOT_BITS) as u64;
    if generation.is_multiple_of(2) {
        return Err(closed());
    }
    Ok((&TABLE[ticket % SLOTS], generation))
}

fn closed() -> Fault {
    Fault::new(PUSH_ERR_CLOSED, "the server was stopped, or the handle never was one")
}
