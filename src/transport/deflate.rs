//! Messages to WebSocket clients, compressed (RFC 7692): each by itself, without the context of those before it.
//!
//! So the frame of a message is the same for all who agreed to compression: it is made once, kept with the message, and
//! no client costs a compressor.

use super::ws_frames::Header;
use crate::hub::Form;
use miniz_oxide::deflate::core::{compress, create_comp_flags_from_zip_params, CompressorOxide};
use miniz_oxide::deflate::core::{TDEFLFlush, TDEFLStatus};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shorter payloads are sent as they are: they shrink by a few bytes, if at all.
pub const SHORT: usize = 128;
/// Longer ones, too: all connections of a thread wait while one message is compressed.
const LONG: usize = 1 << 20;
/// Of ten; `benches/README.md` has what others take and save.
const LEVEL: i32 = 4;
/// What a message's compressed bytes end with, and is left away (RFC 7692, section 7.2.1): an empty block.
const FLUSHED: &[u8] = &[0, 0, 0xff, 0xff];
/// A buffer that has grown larger is given back.
const KEPT: usize = 128 * 1024;

/// Compressors that are used again and again: each is some 300 KB, and to make it takes longer than to compress a
/// message.
#[derive(Default)]
pub struct Deflater {
    idle: Mutex<Vec<Compressor>>,
}

struct Compressor {
    state: Box<CompressorOxide>,
    out: Vec<u8>,
}

impl Deflater {
    /// Makes one more compressor. For a thread with stack to spare, once for each that will compress: to be made it
    /// takes more than a host's thread may have.
    pub fn prepare(&self) {
        let compressor = Compressor::new();
        self.idle().push(compressor);
    }

    /// A payload as a compressed frame; empty where that would not be smaller.
    pub(super) fn frame(&self, binary: bool, payload: &[u8]) -> Form {
        if payload.len() > LONG {
            return Form::plain(Vec::new());
        }
        let frame = self.deflate(payload, |deflated| {
            // Who saves less than a sixteenth has the client inflate for nothing.
            let header = Header::deflated(binary, deflated.len());
            let worth_it = deflated.len() < payload.len() - payload.len() / 16;
            worth_it.then(|| [header.as_bytes(), deflated].concat())
        });
        Form::plain(frame.flatten().unwrap_or_default())
    }

    /// Compresses a message.
    pub(crate) fn deflate<T>(&self, payload: &[u8], and_then: impl FnOnce(&[u8]) -> T) -> Option<T> {
        // There is one for each thread, unless a panic has taken it along.
        let idle = self.idle().pop();
        let mut compressor = idle.unwrap_or_else(Compressor::new);
        let done = compressor.deflate(payload).map(and_then);
        if compressor.out.len() > KEPT {
            compressor.out = Vec::new();
        }
        self.idle().push(compressor);
        done
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Compressor>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Compressor {
    fn new() -> Self {
        let raw = create_comp_flags_from_zip_params(LEVEL, 0, 0);
        Compressor { state: Box::new(CompressorOxide::new(raw)), out: Vec::new() }
    }

    fn deflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        // What does not shrink is stored, with a few bytes around each 31 KB.
        let most = payload.len() + payload.len() / 8 + 64;
        if self.out.len() < most {
            self.out.resize(most, 0);
        }
        // A full flush: what comes next refers to nothing before it.
        let (status, read, written) = compress(&mut self.state, payload, &mut self.out, TDEFLFlush::Full);
        if status != TDEFLStatus::Okay || read < payload.len() || written == self.out.len() {
            // There was more than room for it, so this never is; but the rest would stand before the next message.
            self.state.reset();
            return None;
        }
        self.out[..written].strip_suffix(FLUSHED)
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
