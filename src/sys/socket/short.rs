//! For tests and fuzzers: [`super::send`] takes only so many bytes in this thread, and then says that there is no room.

use std::cell::Cell;
use std::io::{self, ErrorKind};

thread_local! {
    static ROOM: Cell<usize> = const { Cell::new(usize::MAX) };
    static CUTS: Cell<usize> = const { Cell::new(0) };
}

/// Sets how many bytes the sockets of this thread take from now on, together. `usize::MAX`: as many as the kernel takes.
pub(crate) fn set_room(bytes: usize) {
    ROOM.set(bytes);
}

/// How many calls took less than they would have, in this thread.
#[cfg(test)]
pub(crate) fn cuts() -> usize {
    CUTS.get()
}

/// The part of `bytes` for which there is room.
pub(super) fn cut(bytes: &[u8]) -> io::Result<&[u8]> {
    let room = ROOM.get();
    if room == usize::MAX || bytes.is_empty() {
        return Ok(bytes);
    }
    if room < bytes.len() {
        CUTS.set(CUTS.get() + 1);
    }
    if room == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    let taken = &bytes[..room.min(bytes.len())];
    ROOM.set(room - taken.len());
    Ok(taken)
}
