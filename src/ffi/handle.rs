//! `push_server *`: a ticket, not an address.
//!
//! Hosts keep handles too long: a worker publishes while another thread stops the server, a signal
//! handler stops it twice.  With an address each of that would be a use after free. The ticket
//! names a slot of a fixed table and the generation of its tenant; it is never dereferenced, so
//! whatever a host passes is looked up and answered with a status.
//!
//! This table is the one thing that all servers of a process share.

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
    /// Odd while a server lives here; every start and every stop moves it on.
    generation: AtomicU64,
    /// Calls that are inside of the server, or are just finding out that it is none.
    inside: AtomicUsize,
    server: AtomicPtr<Server>,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot { generation: AtomicU64::new(0), inside: AtomicUsize::new(0), server: AtomicPtr::new(ptr::null_mut()) }
}; SLOTS];

/// A call that is inside of a server; the server stays while this lives.
pub(super) struct Inside {
    slot: &'static Slot,
    server: *const Server,
}

impl Deref for Inside {
    type Target = Server;

    fn deref(&self) -> &Server {
        // SAFETY: `remove` frees it only after `inside` of the slot has come down to zero, and this
        // holds it up.
        unsafe { &*self.server }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.slot.inside.fetch_sub(1, Ordering::Release);
    }
}

/// Gives a server its ticket.
pub(super) fn insert(server: Server) -> Result<*mut push_server, Fault> {
    fork::remember();
    let server = Box::into_raw(Box::new(server));
    for (index, slot) in TABLE.iter().enumerate() {
        if slot.server.compare_exchange(ptr::null_mut(), server, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue;
        }
        // The slot is ours alone: moving the generation on is what opens it.
        let generation = slot.generation.fetch_add(1, Ordering::SeqCst) + 1;
        return Ok(ptr::without_provenance_mut(ticket(index, generation)));
    }
    // SAFETY: made above, and nobody has seen it.
    let server = *unsafe { Box::from_raw(server) };
    server.stop(std::time::Duration::ZERO);
    Err(Fault::new(PUSH_ERR_LIMIT, format!("{SLOTS} servers run already in this process")))
}

/// Enters a server, if the ticket is good.
pub(super) fn enter(handle: *mut push_server) -> Result<Inside, Fault> {
    let (slot, generation) = find(handle)?;
    slot.inside.fetch_add(1, Ordering::SeqCst);
    // After the count is up: either `remove` sees it, or we see that the generation has moved on.
    if slot.generation.load(Ordering::SeqCst) != generation {
        slot.inside.fetch_sub(1, Ordering::Release);
        return Err(closed());
    }
    Ok(Inside { slot, server: slot.server.load(Ordering::Acquire) })
}

/// Takes a server out, once: later calls find nothing, and those inside have left when this
/// returns.
pub(super) fn remove(handle: *mut push_server) -> Result<Server, Fault> {
    let server = {
        let inside = enter(handle)?;
        let (slot, generation) = find(handle)?;
        slot.generation
            .compare_exchange(generation, generation + 1, Ordering::SeqCst, Ordering::Relaxed)
            .map_err(|_| closed())?;
        // Who waits for an event inside must be woken to leave.
        inside.end_waiting();
        inside.server.cast_mut()
    };
    let (slot, _) = find(handle)?;
    // SeqCst as in `enter`, which raises the count and then looks at the generation: one of the two sees the other.
    while slot.inside.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(std::time::Duration::from_micros(50));
    }
    slot.server.store(ptr::null_mut(), Ordering::Release);
    // SAFETY: made by `insert`; the generation lets nobody in any more, nobody is inside, and only one call moves a
    // generation on.
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
